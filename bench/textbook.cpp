// The textbook relay: a batch is locked, published, waited for and deleted in one transaction, and then the next one.
// It keeps no order when there are several, and its transaction is open for as long as Kafka takes.
#include <stdexcept>

#include "peer.hpp"

namespace outbox::bench {

int textbook(const Options& options) {
    PeerSession session(options);
    session.prepare("delete", "DELETE FROM outbox.message WHERE id = ANY($1::int8[])");
    session.prepare(
        "read", peer_columns + ("ORDER BY id LIMIT " + std::to_string(options.batch_rows)) + " FOR UPDATE SKIP LOCKED");
    PeerProducer producer(options);
    const double cpu_before = cpu_seconds();
    for (std::uint64_t done = 0; done < options.rows;) {
        session.run("BEGIN");
        session.send("read");
        const Answer rows = session.answer();
        const int count = PQntuples(rows.get());
        if (count == 0) throw std::runtime_error("there are fewer rows than that");
        for (int row = 0; row < count; ++row) producer.produce(rows.get(), row);
        producer.flush();
        session.send("delete", int8_array_parameter(producer.acknowledged));
        session.answer();
        session.run("COMMIT");
        producer.acknowledged.clear();
        done += static_cast<std::uint64_t>(count);
    }
    print_drain(options, producer.seconds_from_first_to_last(), cpu_seconds() - cpu_before);
    return 0;
}

}  // namespace outbox::bench
