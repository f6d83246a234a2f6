#include "kafka/record_headers.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <nlohmann/json.hpp>

namespace outbox {

namespace {

using Pairs = std::vector<std::pair<std::string, std::string>>;

// Accepts one flat object of strings, and refuses everything else by returning false.
class FlatObject final : public nlohmann::json::json_sax_t {
public:
    explicit FlatObject(Pairs& pairs) : pairs_(pairs) {}

    bool null() override { return false; }
    bool boolean(bool) override { return false; }
    bool number_integer(number_integer_t) override { return false; }
    bool number_unsigned(number_unsigned_t) override { return false; }
    bool number_float(number_float_t, const string_t&) override { return false; }
    bool binary(binary_t&) override { return false; }
    bool start_array(std::size_t) override { return false; }
    bool end_array() override { return false; }
    bool start_object(std::size_t) override { return ++depth_ == 1; }
    bool end_object() override { return true; }
    bool key(string_t& name) override {
        pairs_.emplace_back(std::move(name), std::string{});
        return true;
    }
    bool string(string_t& value) override {
        if (depth_ != 1) return false;
        pairs_.back().second = std::move(value);
        return true;
    }
    bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception&) override { return false; }

private:
    Pairs& pairs_;
    int depth_ = 0;
};

void add(rd_kafka_headers_t* headers, std::string_view name, std::string_view value) {
    rd_kafka_header_add(headers, name.data(), static_cast<ssize_t>(name.size()), value.data(),
                        static_cast<ssize_t>(value.size()));
}

using UuidText = std::array<char, 36>;

UuidText uuid_text(const EventId& id) {
    constexpr std::string_view digits = "0123456789abcdef";
    UuidText text{};
    std::size_t at = 0;
    for (std::size_t i = 0; i < id.size(); ++i) {
        if (i == 4 || i == 6 || i == 8 || i == 10) text[at++] = '-';
        text[at++] = digits[id[i] >> 4U];
        text[at++] = digits[id[i] & 0xFU];
    }
    return text;
}

void put_digits(char* to, unsigned digits, unsigned value) {
    for (unsigned i = digits; i > 0; --i, value /= 10) to[i - 1] = static_cast<char>('0' + value % 10);
}

}  // namespace

std::string_view TimestampFormat::operator()(std::int64_t postgres_us) {
    using namespace std::chrono;
    constexpr sys_days epoch = year{2000} / January / 1;
    // 'infinity' and the far ends of timestamptz do not fit the text: they become its own ends.
    constexpr microseconds first = sys_days(year{1} / January / 1) - epoch;
    constexpr microseconds last = sys_days(year{10000} / January / 1) - epoch - microseconds(1);
    const auto at = epoch + std::clamp(microseconds(postgres_us), first, last);
    const auto second = floor<seconds>(at);
    if (second != second_) {
        second_ = second;
        const auto day = floor<days>(second);
        const year_month_day date(day);
        const hh_mm_ss time(second - day);
        text_ = {'0', '0', '0', '0', '-', '0', '0', '-', '0', '0', 'T', '0', '0', ':',
                 '0', '0', ':', '0', '0', '.', '0', '0', '0', '0', '0', '0', 'Z'};
        put_digits(text_.data(), 4, static_cast<unsigned>(static_cast<int>(date.year())));
        put_digits(&text_[5], 2, static_cast<unsigned>(date.month()));
        put_digits(&text_[8], 2, static_cast<unsigned>(date.day()));
        put_digits(&text_[11], 2, static_cast<unsigned>(time.hours().count()));
        put_digits(&text_[14], 2, static_cast<unsigned>(time.minutes().count()));
        put_digits(&text_[17], 2, static_cast<unsigned>(time.seconds().count()));
    }
    put_digits(&text_[20], 6, static_cast<unsigned>((at - second).count()));
    return {text_.data(), text_.size()};
}

std::string format_timestamp(std::int64_t postgres_us) {
    return std::string(TimestampFormat()(postgres_us));
}

bool RecordHeaders::parse(std::string_view json) {
    if (json == parsed_json_) return true;
    parsed_.clear();
    parsed_json_ = "{}";
    FlatObject object(parsed_);
    if (!nlohmann::json::sax_parse(json, &object)) {
        parsed_.clear();
        return false;
    }
    parsed_json_ = json;
    return true;
}

KafkaHeaders RecordHeaders::of(const RowContent& row) {
    if (!parse(row.headers)) return nullptr;
    KafkaHeaders headers(rd_kafka_headers_new(parsed_.size() + 2));
    for (const auto& [name, value] : parsed_) add(headers.get(), name, value);
    const UuidText id = uuid_text(row.event_id);
    add(headers.get(), "id", {id.data(), id.size()});
    add(headers.get(), "created_at", timestamp_(row.created_at_us));
    return headers;
}

}  // namespace outbox
