#include "peer.hpp"

#include <array>
#include <stdexcept>
#include <string_view>

#include "kafka/producer_conf.hpp"
#include "kafka/record_headers.hpp"
#include "postgres/wire.hpp"

namespace outbox::bench {

namespace {

std::string uuid_text(const char* bytes) {
    constexpr std::string_view digits = "0123456789abcdef";
    std::string text;
    text.reserve(36);
    for (int i = 0; i < 16; ++i) {
        if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
        const auto byte = static_cast<unsigned char>(bytes[i]);
        text += digits[byte >> 4U];
        text += digits[byte & 15U];
    }
    return text;
}

}  // namespace

PeerSession::PeerSession(const Options& options) : connection_(PQconnectdb(options.dsn.c_str())) {
    if (PQstatus(connection_.get()) != CONNECTION_OK) throw std::runtime_error(PQerrorMessage(connection_.get()));
    // Plans pinned as the relay pins its own.
    run("SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET enable_bitmapscan = off; "
        "SET enable_sort = off; SET jit = off");
}

void PeerSession::prepare(const char* name, const std::string& sql) {
    const Answer prepared(PQprepare(connection_.get(), name, sql.c_str(), 0, nullptr));
    if (PQresultStatus(prepared.get()) != PGRES_COMMAND_OK) throw std::runtime_error(PQerrorMessage(connection_.get()));
}

void PeerSession::run(const char* sql) {
    const Answer done(PQexec(connection_.get(), sql));
    if (PQresultStatus(done.get()) != PGRES_COMMAND_OK) throw std::runtime_error(PQerrorMessage(connection_.get()));
}

void PeerSession::send(const char* name, const std::string& parameter) {
    const std::array values{parameter.data()};
    const std::array lengths{static_cast<int>(parameter.size())};
    const std::array formats{1};  // binary
    const int given = parameter.empty() ? 0 : 1;
    if (PQsendQueryPrepared(connection_.get(), name, given, values.data(), lengths.data(), formats.data(), 1) == 0)
        throw std::runtime_error(PQerrorMessage(connection_.get()));
}

bool PeerSession::busy() {
    return PQconsumeInput(connection_.get()) == 1 && PQisBusy(connection_.get()) == 1;
}

Answer PeerSession::answer() {
    Answer first(PQgetResult(connection_.get()));
    const ExecStatusType status = PQresultStatus(first.get());
    if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
        throw std::runtime_error(PQerrorMessage(connection_.get()));
    while (const Answer rest{PQgetResult(connection_.get())}) continue;
    return first;
}

PeerProducer::PeerProducer(const Options& options) {
    KafkaConf conf =
        producer_conf({{{"bootstrap.servers", options.bootstrap}, {"compression.type", options.compression}}, {}}, {});
    rd_kafka_conf_set_events(conf.get(), 0);
    rd_kafka_conf_set(conf.get(), "log.queue", "false", nullptr, 0);
    rd_kafka_conf_set(conf.get(), "statistics.interval.ms", "0", nullptr, 0);
    rd_kafka_conf_set_dr_msg_cb(conf.get(), on_delivery);
    rd_kafka_conf_set_opaque(conf.get(), this);
    std::array<char, 512> reason{};
    kafka_ = rd_kafka_new(RD_KAFKA_PRODUCER, conf.get(), reason.data(), reason.size());
    if (kafka_ == nullptr) throw std::runtime_error(reason.data());
    static_cast<void>(conf.release());
    topic_ = rd_kafka_topic_new(kafka_, options.topic.c_str(), nullptr);
}

PeerProducer::~PeerProducer() {
    if (topic_ != nullptr) rd_kafka_topic_destroy(topic_);
    rd_kafka_destroy(kafka_);
}

RowId PeerProducer::produce(const PGresult* rows, int row) {
    const auto bytes = [&](int column) { return PQgetvalue(rows, row, column); };
    const auto size = [&](int column) { return static_cast<std::size_t>(PQgetlength(rows, row, column)); };
    const std::int64_t id = wire::int8(bytes(0));
    const std::string event_id = uuid_text(bytes(1));
    const std::string created_at = format_timestamp(wire::int8(bytes(2)));
    rd_kafka_headers_t* const headers = rd_kafka_headers_new(2);
    rd_kafka_header_add(headers, "id", 2, event_id.data(), static_cast<ssize_t>(event_id.size()));
    rd_kafka_header_add(headers, "created_at", 10, created_at.data(), static_cast<ssize_t>(created_at.size()));
    // NOLINTNEXTLINE(performance-no-int-to-ptr): never followed
    void* const opaque = reinterpret_cast<void*>(static_cast<std::uintptr_t>(id));
    const rd_kafka_resp_err_t error = rd_kafka_producev(
        kafka_, RD_KAFKA_VTYPE_RKT, topic_, RD_KAFKA_VTYPE_MSGFLAGS, int{RD_KAFKA_MSG_F_COPY}, RD_KAFKA_VTYPE_KEY,
        static_cast<const void*>(bytes(4)), size(4), RD_KAFKA_VTYPE_VALUE, static_cast<const void*>(bytes(5)), size(5),
        RD_KAFKA_VTYPE_HEADERS, headers, RD_KAFKA_VTYPE_OPAQUE, opaque, RD_KAFKA_VTYPE_END);
    if (error != RD_KAFKA_RESP_ERR_NO_ERROR) throw std::runtime_error(rd_kafka_err2str(error));
    ++outstanding_;
    return RowId{id};
}

void PeerProducer::on_delivery(rd_kafka_t* /*kafka*/, const rd_kafka_message_t* message, void* self) {
    PeerProducer& producer = *static_cast<PeerProducer*>(self);
    --producer.outstanding_;
    if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR) producer.failed_ = true;
    producer.last_ = boot_now();
    if (producer.first_ == Instant{}) producer.first_ = producer.last_;
    producer.acknowledged.push_back(
        RowId{static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(message->_private))});
}

void PeerProducer::flush() {
    rd_kafka_flush(kafka_, 60'000);
    if (failed_ || outstanding_ > 0) throw std::runtime_error("not all rows were acknowledged");
}

double PeerProducer::seconds_from_first_to_last() const {
    return std::chrono::duration<double>(last_ - first_).count();
}

std::string int8_parameter(std::int64_t value) {
    std::string out;
    wire::append_integer(out, value);
    return out;
}

std::string int8_array_parameter(const std::vector<RowId>& ids) {
    std::string out;
    wire::append_array(out, ids);
    return out;
}

}  // namespace outbox::bench
