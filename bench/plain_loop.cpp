// The yardstick: what a careful programmer writes in an afternoon when nothing may go wrong. One thread; one session
// reads, another deletes what was acknowledged while the next rows are read and produced.
#include "core/settings.hpp"
#include "peer.hpp"

namespace outbox::bench {

int plain_loop(const Options& options) {
    const RelaySettings settings;
    const std::string limit = std::to_string(options.batch_rows);
    PeerSession reader(options);
    reader.prepare("read", peer_columns + ("WHERE id > $1::int8 ORDER BY id LIMIT " + limit));
    PeerSession deleter(options);
    deleter.prepare("delete", "DELETE FROM outbox.message WHERE id = ANY($1::int8[])");
    PeerProducer producer(options);
    const double cpu_before = cpu_seconds();
    RowId last{0};
    std::uint64_t read = 0;
    std::uint64_t deleted = 0;
    std::uint64_t deleting = 0;
    while (deleted < options.rows) {
        if (read < options.rows && producer.outstanding() + options.batch_rows <= settings.in_flight_rows) {
            reader.send("read", int8_parameter(last.value));
            const Answer rows = reader.answer();
            const int count = PQntuples(rows.get());
            for (int row = 0; row < count; ++row) last = producer.produce(rows.get(), row);
            read += static_cast<std::uint64_t>(count);
            producer.poll(0);
        } else {
            producer.poll(deleting > 0 ? 1 : 10);
        }
        if (deleting > 0 && !deleter.busy()) {
            deleter.answer();
            deleted += deleting;
            deleting = 0;
        }
        const bool worthwhile = producer.acknowledged.size() >= options.batch_rows ||
                                (read >= options.rows && !producer.acknowledged.empty());
        if (deleting == 0 && worthwhile) {
            deleter.send("delete", int8_array_parameter(producer.acknowledged));
            deleting = producer.acknowledged.size();
            producer.acknowledged.clear();
        }
    }
    print_drain(options, producer.seconds_from_first_to_last(), cpu_seconds() - cpu_before);
    return 0;
}

}  // namespace outbox::bench
