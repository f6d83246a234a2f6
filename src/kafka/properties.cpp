#include "kafka/properties.hpp"

#include <librdkafka/rdkafka.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <sstream>
#include <string_view>

#include "core/owned.hpp"

namespace outbox {

namespace {

using std::string_view;
using Conf = std::unique_ptr<rd_kafka_conf_t, FreeWith<rd_kafka_conf_destroy>>;

struct Refusal {
    string_view name;
    string_view reason;
};

constexpr string_view retries_reason =
    "an idempotent producer retries for as long as it takes, or events would be lost";
constexpr string_view queue_reason = "the relay sizes the queue by relay.in_flight_rows and relay.in_flight_bytes";

// Refused whatever the value, and before librdkafka sees it: setting plugin.library.paths loads the library.
constexpr std::array<Refusal, 17> never_settable{{
    {"transactional.id", "the relay acknowledges rows one by one, outside transactions"},
    {"retries", retries_reason},
    {"message.send.max.retries", retries_reason},
    {"enable.gapless.guarantee", "one row that a broker rejects would stop every topic"},
    {"delivery.report.only.error", "a row is deleted on its delivery report"},
    {"dr_cb", "the relay reads delivery reports as events"},
    {"dr_msg_cb", "the relay reads delivery reports as events"},
    {"enabled_events", "the relay chooses the events it reads"},
    {"opaque", "the relay's own"},
    {"default_topic_conf", "set the topic's properties in [kafka] directly"},
    {"interceptors", "foreign code in the relay could change or lose events"},
    {"plugin.library.paths", "foreign code in the relay could change or lose events"},
    {"log_level", "set [log] level"},
    {"log.queue", "the relay reads librdkafka's log lines itself"},
    {"statistics.interval.ms", "the relay's own; see /metrics"},
    {"queue.buffering.max.messages", queue_reason},
    {"queue.buffering.max.kbytes", queue_reason},
}};

// What the value became, by librdkafka's own reading: "f" is false, "all" is -1.
std::string value_of(const rd_kafka_conf_t* conf, const std::string& name) {
    std::array<char, 256> text{};
    std::size_t size = text.size();
    if (rd_kafka_conf_get(conf, name.c_str(), text.data(), &size) != RD_KAFKA_CONF_OK) return {};
    return text.data();
}

bool is_one_of(string_view name, std::initializer_list<string_view> names) {
    return std::find(names.begin(), names.end(), name) != names.end();
}

std::optional<std::string> breaks_guarantee(string_view name, string_view value) {
    if (name == "enable.idempotence" && value != "true") {
        return "only true is allowed: without it a retry could reorder or repeat events";
    }
    if (is_one_of(name, {"acks", "request.required.acks"}) && value != "-1") {
        return "only all is allowed: an event that not every in-sync replica holds can be lost after its row is "
               "deleted";
    }
    if (is_one_of(name, {"max.in.flight", "max.in.flight.requests.per.connection"})) {
        int number = 0;
        std::from_chars(value.data(), value.data() + value.size(), number);
        if (number < 1 || number > 5) return "1 to 5 are allowed: more break the order of an idempotent producer";
    }
    if (is_one_of(name, {"message.timeout.ms", "delivery.timeout.ms"}) && value != "0") {
        return "only 0 is allowed: an outage must not expire what is in flight, the relay has a deadline of its own";
    }
    if (name == "queuing.strategy" && value != "fifo")
        return "only fifo is allowed: events leave in the order they came";
    if (name == "enable.ssl.certificate.verification" && value != "true") {
        return "only true is allowed: the broker's certificate is always verified; name its CA with ssl.ca.location";
    }
    if (name == "ssl.endpoint.identification.algorithm" && value != "https") {
        return "only https is allowed: the broker's name is always verified against its certificate";
    }
    return std::nullopt;
}

struct PropertyLine {
    std::string name;
    char scope;  // P, C or * for both
};

// librdkafka documents itself as a table: | name | C/P | range | default | importance | description.
std::vector<PropertyLine> property_table() {
    char* text = nullptr;
    std::size_t size = 0;
    std::FILE* const out = open_memstream(&text, &size);
    if (out == nullptr) return {};
    rd_kafka_conf_properties_show(out);
    static_cast<void>(std::fclose(out));
    const std::unique_ptr<char, FreeWith<std::free>> owned(text);
    std::istringstream lines(std::string(text, size));
    std::vector<PropertyLine> result;
    for (std::string line; std::getline(lines, line);) {
        std::istringstream cells(line);
        std::string name;
        std::string bar;
        std::string scope;
        if (cells >> name >> bar >> scope && bar == "|" && scope.size() == 1 && name != "Property") {
            result.push_back({name, scope.front()});
        }
    }
    return result;
}

bool is_consumer_only(const std::string& name) {
    const auto table = property_table();
    const auto found =
        std::find_if(table.begin(), table.end(), [&name](const PropertyLine& line) { return line.name == name; });
    return found != table.end() && found->scope == 'C';
}

}  // namespace

std::optional<std::string> check_kafka_property(const std::string& name, const std::string& value) {
    const std::string unknown = "unknown to librdkafka " + kafka_library_version();
    if (name.find('\0') != std::string::npos) return unknown;  // librdkafka would see the name before it
    for (const Refusal& refusal : never_settable) {
        if (refusal.name == name) return "cannot be set: " + std::string(refusal.reason);
    }
    if (name.ends_with("_cb")) return "cannot be set: it is a callback";
    if (is_consumer_only(name)) return "cannot be set: it is a consumer's property, the relay only produces";
    const Conf conf(rd_kafka_conf_new());
    std::array<char, 512> error{};
    switch (rd_kafka_conf_set(conf.get(), name.c_str(), value.c_str(), error.data(), error.size())) {
        case RD_KAFKA_CONF_OK:
            break;
        case RD_KAFKA_CONF_UNKNOWN:
            return unknown;
        case RD_KAFKA_CONF_INVALID:
            return std::string(error.data());
    }
    return breaks_guarantee(name, value_of(conf.get(), name));
}

std::vector<std::string> kafka_property_names() {
    std::vector<std::string> names;
    for (PropertyLine& line : property_table()) {
        if (line.scope != 'C') names.push_back(std::move(line.name));
    }
    return names;
}

std::string kafka_library_version() {
    return rd_kafka_version_str();
}

}  // namespace outbox
