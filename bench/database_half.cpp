#include <poll.h>

#include <algorithm>
#include <iostream>
#include <variant>
#include <vector>

#include "app/boot_clock.hpp"
#include "app/wakeups.hpp"
#include "core/relay.hpp"
#include "postgres/migrations.hpp"
#include "postgres/sessions.hpp"
#include "probe.hpp"

namespace outbox::bench {

namespace {

// A worker without Kafka: every row is acknowledged in the turn it is published.
class Drain {
public:
    explicit Drain(const Options& options)
        : relay_({}, {}),
          session_(settings(options), {{}, "bench", 1, "0"}, std::chrono::seconds(3), schema_version(), true,
                   boot_now()) {
        relay_.on(ProducerOpened{}, boot_now());
    }

    std::uint64_t deleted() const { return deleted_; }

    void turn() {
        const Instant now = boot_now();
        session_.pump(now);
        while (auto answer = session_.next_answer(relay_.topics(), now)) {
            if (std::holds_alternative<RowsDeleted>(answer->event)) deleted_ += answer->rows;
            std::visit([&](const auto& event) { give(event, now); }, answer->event);
            act(now);
        }
        act(now);
        const auto sources = session_.sources();
        wakeups_.sleep({sources[0].descriptor, sources[0].wanted}, {},
                       std::max(relay_.wake_at(now) - now, Duration::zero()),
                       {sources[1].descriptor, sources[1].wanted});
    }

private:
    static int schema_version() {
        int version = 0;
        for (const Migration& migration : embedded_migrations())
            if (migration.module == "outbox") version = migration.version;
        return version;
    }
    static PostgresSettings settings(const Options& options) { return {options.dsn, std::nullopt}; }

    template <class Event>
    void give(const Event& event, Instant now) {
        if constexpr (!std::is_same_v<Event, FleetLeft> && !std::is_same_v<Event, NoteTaken> &&
                      !std::is_same_v<Event, ClaimEnded>)
            relay_.on(event, now);
    }

    void act(Instant now) {
        while (const auto action = relay_.next(now)) std::visit([&](const auto& one) { carry_out(one, now); }, *action);
    }

    template <class Action>
    void carry_out(const Action& action, Instant now) {
        if constexpr (std::is_same_v<Action, Publish>) {
            slots_.clear();
            for (const Admission& row : action.rows) slots_.push_back(row.slot);
            relay_.on(Delivered{slots_}, now);
        } else if constexpr (std::is_same_v<Action, ReadRows>) {
            session_.send(action, relay_.topics(), now);
        } else {
            session_.send(action, now);
        }
    }

    Relay relay_;
    Sessions session_;
    Wakeups wakeups_;
    std::vector<Slot> slots_;
    std::uint64_t deleted_ = 0;
};

}  // namespace

int database_half(const Options& options) {
    Drain drain(options);
    const double cpu_before = cpu_seconds();
    // From the first rows to the last, unless they came all at once.
    Instant begin = boot_now();
    std::uint64_t before = 0;
    while (drain.deleted() < options.rows) {
        drain.turn();
        if (before > 0 || drain.deleted() == 0 || drain.deleted() >= options.rows) continue;
        before = drain.deleted();
        begin = boot_now();
    }
    const double seconds = std::chrono::duration<double>(boot_now() - begin).count();
    std::cout << R"({"rows_per_second": )" << static_cast<double>(options.rows - before) / seconds
              << R"(, "cpu_seconds": )" << cpu_seconds() - cpu_before << "}\n";
    return 0;
}

}  // namespace outbox::bench
