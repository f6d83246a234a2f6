#include "kafka/topic_limits.hpp"

#include <array>
#include <charconv>
#include <cstdint>
#include <memory>
#include <string_view>

#include "core/owned.hpp"

namespace outbox {

namespace {

using Options = std::unique_ptr<rd_kafka_AdminOptions_t, FreeWith<rd_kafka_AdminOptions_destroy>>;
using Resource = std::unique_ptr<rd_kafka_ConfigResource_t, FreeWith<rd_kafka_ConfigResource_destroy>>;

constexpr int patience_ms = 5000;
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

void ask_topic_limits(rd_kafka_t* producer, rd_kafka_queue_t* queue, TopicIndex topic, const std::string& name) {
    const Options options(rd_kafka_AdminOptions_new(producer, RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS));
    std::array<char, 256> reason{};
    rd_kafka_AdminOptions_set_request_timeout(options.get(), patience_ms, reason.data(), reason.size());
    // NOLINTNEXTLINE(performance-no-int-to-ptr): never followed, only carried to the answer and back
    void* const opaque = reinterpret_cast<void*>(static_cast<std::uintptr_t>(topic));
    rd_kafka_AdminOptions_set_opaque(options.get(), opaque);  // a request that fails as a whole names no topic
    const Resource resource(rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, name.c_str()));
    for (const char* const wanted : {size_name, cleanup_name})
        rd_kafka_ConfigResource_set_config(resource.get(), wanted, "");
    std::array<rd_kafka_ConfigResource_t*, 1> resources{resource.get()};
    rd_kafka_DescribeConfigs(producer, resources.data(), resources.size(), options.get(), queue);
}

TopicLimits topic_limits(rd_kafka_event_t* answer) {
    TopicLimits limits;
    limits.topic =
        TopicIndex{static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(rd_kafka_event_opaque(answer)))};
    std::size_t count = 0;
    const auto* const result = rd_kafka_event_DescribeConfigs_result(answer);
    const rd_kafka_ConfigResource_t** const resources = rd_kafka_DescribeConfigs_result_resources(result, &count);
    for (std::size_t i = 0; i < count; ++i) read(resources[i], limits);
    return limits;
}

}  // namespace outbox
