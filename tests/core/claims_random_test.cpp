// Several relays that claim rows of one table, drawn from a seed: whatever fails, every committed row is published, and
// deleted only once it is; and twice only where a process died, a session was cut or Kafka took longer than a claim.
#include <doctest/doctest.h>

#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "support/claiming_worker.hpp"

using namespace outbox;
using namespace outbox::claiming;
using namespace std::chrono_literals;

namespace {

struct Weather {
    bool crashes = false;  // processes die
    bool cuts = false;     // sessions are lost, rows come back in doubt
    bool stalls = false;   // Kafka takes longer than a claim may last
};

class Fleet {
public:
    Fleet(std::uint64_t seed, Weather weather, int workers) : weather_(weather), random_(seed) {
        for (int i = 0; i < workers; ++i) workers_.push_back(std::make_unique<ClaimingWorker>(i, shared_));
        for (auto& worker : workers_) worker->living = static_cast<std::uint32_t>(workers);
    }

    void run(int steps) {
        for (int i = 0; i < steps && shared_.violations.empty(); ++i) {
            turn();
            shared_.now += std::chrono::microseconds(draw(3000));
            for (auto& worker : workers_) worker->act();
        }
        while (!shared_.writers.empty()) end_writer(true);
        // Shorter than the sweep, which would hide a row that was missed.
        for (const Instant end = shared_.now + 30s; shared_.now < end && !dry();) live();
        // The marks follow: nobody waits for more than 5 s after a failure.
        for (const Instant end = shared_.now + 7s; shared_.now < end;) live();
    }

    bool dry() const {
        return shared_.table.empty() &&
               std::all_of(workers_.begin(), workers_.end(), [](const auto& worker) { return worker->dry(); });
    }
    std::size_t lost() const {
        return static_cast<std::size_t>(
            std::count_if(shared_.committed.begin(), shared_.committed.end(),
                          [&](const EventId& event) { return !shared_.persisted.contains(event); }));
    }
    std::size_t phantoms() const {
        return static_cast<std::size_t>(
            std::count_if(shared_.persisted.begin(), shared_.persisted.end(),
                          [&](const auto& one) { return !shared_.committed.contains(one.first); }));
    }
    int duplicates() const {
        int duplicates = 0;
        for (const auto& [event, times] : shared_.persisted) duplicates += times - 1;
        return duplicates;
    }
    Duration held_longest() const {
        Duration longest{};
        for (const auto& worker : workers_) longest = std::max(longest, worker->held_longest);
        return longest;
    }
    // Where the mark that is furthest behind stands.
    std::int64_t lag() const {
        std::int64_t low = shared_.last_id;
        for (const auto& worker : workers_) low = std::min(low, worker->relay().low_mark().low().value);
        return shared_.last_id - low;
    }
    const Shared& shared() const { return shared_; }

private:
    std::size_t draw(std::size_t below) { return std::uniform_int_distribution<std::size_t>(0, below - 1)(random_); }
    ClaimingWorker& any() { return *workers_[draw(workers_.size())]; }

    // A millisecond in which everything that is on its way arrives.
    void live() {
        shared_.now += 1ms;
        for (auto& worker : workers_) {
            worker->act();
            while (worker->execute() || worker->answer() || worker->deliver(SIZE_MAX) > 0) {
            }
        }
    }

    void turn() {
        const std::size_t dice = draw(1000);
        if (dice < 200)
            write();
        else if (dice < 280)
            end_writer(draw(5) > 0);
        else if (dice < 530)
            any().execute();
        else if (dice < 780)
            any().answer();
        else if (dice < 990)
            any().deliver(1 + draw(8));
        else if (dice < 993 && weather_.crashes)
            any().crash();
        else if (dice < 996 && weather_.cuts)
            draw(2) == 0 ? any().cut() : any().fail();
        else if (weather_.stalls)
            shared_.now += std::chrono::milliseconds(draw(2500));
    }

    void write() {
        if (shared_.writers.size() < 5 && draw(2) == 0) shared_.writers.insert(++last_writer_);
        if (shared_.writers.empty() || shared_.table.size() > 300) return;
        auto writer = std::next(shared_.writers.begin(), static_cast<std::ptrdiff_t>(draw(shared_.writers.size())));
        Row row{RowId{++shared_.last_id}, {}, "topic-" + std::to_string(draw(3)), *writer};
        ++shared_.last_event;
        std::memcpy(row.event_id.data(), &shared_.last_event, sizeof shared_.last_event);
        shared_.table.emplace(row.id.value, row);
    }

    void end_writer(bool commit) {
        if (shared_.writers.empty()) return;
        auto writer = std::next(shared_.writers.begin(), static_cast<std::ptrdiff_t>(draw(shared_.writers.size())));
        for (auto& [id, row] : shared_.table)
            if (row.writer == *writer && commit) {
                shared_.committed.insert(row.event_id);
                row.writer = 0;
            }
        std::erase_if(shared_.table, [&](const auto& one) { return one.second.writer == *writer; });
        shared_.writers.erase(writer);
    }

    Weather weather_;
    Shared shared_;
    std::mt19937_64 random_;
    std::vector<std::unique_ptr<ClaimingWorker>> workers_;
    int last_writer_ = 0;
};

std::uint64_t seeds() {
    const char* const wanted = std::getenv("OUTBOX_TEST_SEEDS");  // NOLINT(concurrency-mt-unsafe): one thread
    return wanted == nullptr ? 10 : std::strtoull(wanted, nullptr, 10);
}

void expect_each_published(std::uint64_t first_seed, Weather weather) {
    for (std::uint64_t seed = first_seed; seed < first_seed + seeds(); ++seed) {
        CAPTURE(seed);
        Fleet fleet(seed, weather, 1 + static_cast<int>(seed % 4));
        fleet.run(4000);
        CHECK((fleet.shared().violations.empty() ? "" : fleet.shared().violations.front()) == "");
        CHECK(fleet.dry());
        CHECK(fleet.lost() == 0);
        CHECK(fleet.phantoms() == 0);
        CHECK(fleet.shared().persisted.size() > 100);
        if (!weather.crashes && !weather.cuts && !weather.stalls) CHECK(fleet.duplicates() == 0);
        if (!weather.stalls) CHECK(fleet.held_longest() < lease_ttl / 2 + 10ms);
        CHECK(fleet.lag() == 0);
    }
}

}  // namespace

TEST_CASE("relays that claim rows publish each one once") {
    expect_each_published(20'000'000, {});
}

TEST_CASE("relays that claim rows lose none, whatever happens to them") {
    expect_each_published(21'000'000, {.crashes = true});
    expect_each_published(22'000'000, {.cuts = true});
    expect_each_published(23'000'000, {.stalls = true});
    expect_each_published(24'000'000, {.crashes = true, .cuts = true, .stalls = true});
}
