#include "kafka/topic_limits.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <memory>
#include <string_view>

#include "core/invariant.hpp"
#include "core/owned.hpp"

namespace outbox {

namespace {

using Options = std::unique_ptr<rd_kafka_AdminOptions_t, FreeWith<rd_kafka_AdminOptions_destroy>>;
using Resource = std::unique_ptr<rd_kafka_ConfigResource_t, FreeWith<rd_kafka_ConfigResource_destroy>>;

constexpr int patience_ms = 5000;
constexpr std::size_t topics_per_request = 100;
constexpr const char* size_name = "max.message.bytes";
constexpr const char* cleanup_name = "cleanup.policy";

void read(const rd_kafka_ConfigResource_t* resource, TopicLimits& limits) {
    if (rd_kafka_ConfigResource_error(resource) != RD_KAFKA_RESP_ERR_NO_ERROR) return;
    std::size_t count = 0;
    const rd_kafka_ConfigEntry_t** const entries = rd_kafka_ConfigResource_configs(resource, &count);
    for (std::size_t i = 0; i < count; ++i) {
        const char* const value = rd_kafka_ConfigEntry_value(entries[i]);
        if (value == nullptr) continue;
        const std::string_view name = rd_kafka_ConfigEntry_name(entries[i]);
        const std::string_view text = value;
        if (name == size_name) {
            const auto* const end = text.data() + text.size();
            limits.known = std::from_chars(text.data(), end, limits.batch_bytes_max).ptr == end;
        }
        if (name == cleanup_name) limits.keys_required = text.find("compact") != std::string_view::npos;
    }
}

}  // namespace

void TopicLimitsQuestions::ask(rd_kafka_t* producer, rd_kafka_queue_t* queue, std::span<const NamedTopic> topics) {
    const Options options(rd_kafka_AdminOptions_new(producer, RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS));
    std::array<char, 256> reason{};
    rd_kafka_AdminOptions_set_request_timeout(options.get(), patience_ms, reason.data(), reason.size());
    while (!topics.empty()) {
        const auto some = topics.first(std::min(topics.size(), topics_per_request));
        topics = topics.subspan(some.size());
        std::vector<Resource> owned;
        std::vector<rd_kafka_ConfigResource_t*> resources;
        for (const NamedTopic& topic : some) {
            resources.push_back(
                owned.emplace_back(rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, topic.name.c_str())).get());
            for (const char* const wanted : {size_name, cleanup_name})
                rd_kafka_ConfigResource_set_config(resources.back(), wanted, "");
        }
        open_.emplace(++last_, std::vector<NamedTopic>(some.begin(), some.end()));
        // NOLINTNEXTLINE(performance-no-int-to-ptr): never followed, only carried to the answer and back
        rd_kafka_AdminOptions_set_opaque(options.get(), reinterpret_cast<void*>(last_));  // a failed one names no topic
        rd_kafka_DescribeConfigs(producer, resources.data(), resources.size(), options.get(), queue);
    }
}

void TopicLimitsQuestions::answered(rd_kafka_event_t* answer, std::vector<TopicLimits>& limits) {
    const auto asked = open_.extract(reinterpret_cast<std::uintptr_t>(rd_kafka_event_opaque(answer)));
    require_invariant(!asked.empty(), "an answer to a question about limits that nobody asked");
    std::size_t count = 0;
    const auto* const result = rd_kafka_event_DescribeConfigs_result(answer);
    const rd_kafka_ConfigResource_t** const resources = rd_kafka_DescribeConfigs_result_resources(result, &count);
    std::unordered_map<std::string_view, const rd_kafka_ConfigResource_t*> by_name;
    for (std::size_t i = 0; i < count; ++i)
        if (resources[i] != nullptr) by_name.emplace(rd_kafka_ConfigResource_name(resources[i]), resources[i]);
    for (const NamedTopic& topic : asked.mapped()) {
        limits.push_back({.topic = topic.index});
        if (const auto found = by_name.find(topic.name); found != by_name.end()) read(found->second, limits.back());
    }
}

}  // namespace outbox
