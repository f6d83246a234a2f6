#include "core/low_mark.hpp"

#include <doctest/doctest.h>

#include <map>
#include <optional>
#include <random>
#include <set>

using namespace outbox;
using namespace std::chrono_literals;

namespace {

constexpr Instant start{std::chrono::seconds(10)};
constexpr Holder live(std::uint64_t id) {
    return {id, false};
}
constexpr Holder prepared(std::uint64_t id) {
    return {id, true};
}

void probe(LowMark& mark, std::int64_t high, std::vector<Holder> holders = {}) {
    mark.probe_answered(RowId{high}, holders, start);
}

// The mark after a read that returned everything there is.
RowId read_all(LowMark& mark) {
    mark.rows_read(mark.low(), false);
    return mark.low();
}

}  // namespace

TEST_CASE("without a writer the mark moves up with the next read, not before") {
    LowMark mark;
    probe(mark, 9);
    CHECK(mark.low() == RowId{0});
    CHECK(read_all(mark) == RowId{9});
}

TEST_CASE("the mark waits for every holder of its probe, and for no other") {
    LowMark mark;
    probe(mark, 9, {live(1), live(2)});
    CHECK(read_all(mark) == RowId{0});
    probe(mark, 20, {live(2), live(3)});
    CHECK(read_all(mark) == RowId{0});
    probe(mark, 30, {live(3), live(4)});
    CHECK(read_all(mark) == RowId{9});
    probe(mark, 40, {live(4), live(5)});  // 30 was taken together with holders 3 and 4
    CHECK(read_all(mark) == RowId{9});
    probe(mark, 50, {live(5)});
    CHECK(read_all(mark) == RowId{30});
}

TEST_CASE("a high that was drawn after the holders were seen is not trusted") {
    LowMark mark;
    probe(mark, 9, {live(1)});
    probe(mark, 100, {});
    CHECK(read_all(mark) == RowId{100});  // nobody holds: 100 itself is settled
    probe(mark, 120, {live(2)});
    probe(mark, 150, {live(3)});
    CHECK(read_all(mark) == RowId{120});
}

TEST_CASE("a holder that turns into a prepared transaction is still waited for") {
    LowMark mark;
    probe(mark, 9, {live(1)});
    probe(mark, 9, {prepared(77)});
    CHECK(read_all(mark) == RowId{0});
    probe(mark, 9, {prepared(77), live(5)});
    CHECK(read_all(mark) == RowId{0});
    probe(mark, 9, {live(5)});
    CHECK(read_all(mark) == RowId{9});
}

TEST_CASE("a prepared transaction that was there before cannot be the holder that vanished") {
    LowMark mark;
    probe(mark, 5, {});
    read_all(mark);
    probe(mark, 9, {live(1), prepared(70)});
    probe(mark, 9, {prepared(70)});
    CHECK(read_all(mark) == RowId{5});  // 70 is itself a holder of that probe
    probe(mark, 9, {prepared(71)});     // 71 is none: no live holder vanished since
    CHECK(read_all(mark) == RowId{9});
}

TEST_CASE("a stream of prepared transactions does not starve the mark") {
    LowMark mark;
    probe(mark, 9, {live(1)});
    RowId before = mark.low();
    int moves = 0;
    for (std::uint64_t round = 1; round < 100; ++round) {
        probe(mark, 9 + static_cast<std::int64_t>(round),
              {live(1 + round), prepared(1000 + round), prepared(1001 + round)});
        if (read_all(mark) > before) ++moves;
        before = mark.low();
    }
    CHECK(moves > 20);
}

TEST_CASE("a read that was cut short carries the mark to its last row only, and never back") {
    LowMark mark;
    probe(mark, 100);
    mark.rows_read(RowId{40}, true);
    CHECK(mark.low() == RowId{40});
    mark.rows_read(RowId{30}, true);
    CHECK(mark.low() == RowId{40});
    mark.rows_read(RowId{150}, true);
    CHECK(mark.low() == RowId{100});
    CHECK(mark.head() == RowId{150});
    CHECK(mark.lags());
}

TEST_CASE("after a reset nothing is known") {
    LowMark mark;
    probe(mark, 100, {live(1)});
    probe(mark, 100, {live(2)});
    mark.rows_read(RowId{150}, false);
    REQUIRE(mark.low() == RowId{100});
    mark.probe_sent();
    mark.reset();
    CHECK(mark.low() == RowId{0});
    CHECK(mark.head() == RowId{0});
    CHECK(mark.probe_due(start));
    mark.rows_read(RowId{3}, false);
    CHECK(mark.low() == RowId{0});
}

TEST_CASE("probes pause while nothing changes, and are rare when everything is settled") {
    LowMark mark;
    CHECK(mark.probe_due(start));
    mark.probe_sent();
    CHECK_FALSE(mark.probe_due(start));
    CHECK(mark.probe_at() == never);
    mark.rows_read(RowId{9}, false);
    probe(mark, 9, {live(1)});
    CHECK(mark.probe_at() == start + 10ms);
    probe(mark, 9, {live(1)});
    CHECK(mark.probe_at() == start + 20ms);
    for (int i = 0; i < 9; ++i) probe(mark, 9, {live(1)});
    CHECK(mark.probe_at() == start + 100ms);
    probe(mark, 9, {});
    CHECK(mark.probe_at() == start + 250ms);
    for (int i = 0; i < 9; ++i) probe(mark, 9, {});
    CHECK(mark.probe_at() == start + 2s);
    probe(mark, 10, {});
    CHECK(mark.probe_at() == start + 250ms);
    mark.rows_read(RowId{11}, false);
    CHECK(mark.probe_at() == start + 10ms);
}

namespace {

// Writers that draw an id, commit late, roll back or prepare, against a reader that keeps to the protocol: one session,
// so a probe is two statements in order (with writers in between) and a read is one snapshot.
class Writers {
public:
    explicit Writers(std::uint64_t seed) : random_(seed) {}

    void turn() {
        const std::size_t dice = draw(100);
        if (dice < 15 && open_.size() < 6)
            open_.emplace(next_writer_++, Writer{});
        else if (dice < 50)
            insert();
        else if (dice < 70)
            end(draw(4) != 0);
        else if (dice < 75 && !open_.empty())
            any()->second.prepared = true;
        else if (dice < 88)
            probe_step();
        else
            read();
    }

    void finish() {
        while (!open_.empty()) end(true);
        for (int i = 0; i < 400; ++i) i % 2 == 0 ? read() : probe_step();
    }

    bool order_held = true;
    std::set<std::int64_t> committed;
    std::set<std::int64_t> seen;
    LowMark mark;

private:
    struct Writer {
        bool prepared = false;
        std::set<std::int64_t> rows;
        std::set<std::size_t> keys;
    };

    std::size_t draw(std::size_t below) { return std::uniform_int_distribution<std::size_t>(0, below - 1)(random_); }
    std::map<std::uint64_t, Writer>::iterator any() {
        return std::next(open_.begin(), static_cast<std::ptrdiff_t>(draw(open_.size())));
    }

    void insert() {
        if (open_.empty()) return;
        Writer& writer = any()->second;
        const std::size_t key = draw(8);
        for (const auto& [id, other] : open_)
            if (&other != &writer && other.keys.contains(key)) return;
        if (writer.prepared) return;
        writer.keys.insert(key);
        writer.rows.insert(++last_id_);
        key_of_[last_id_] = key;
    }

    void end(bool commits) {
        if (open_.empty()) return;
        const auto writer = any();
        if (commits) committed.insert(writer->second.rows.begin(), writer->second.rows.end());
        open_.erase(writer);
    }

    void probe_step() {
        if (!high_) {
            high_ = RowId{last_id_};
            return;
        }
        std::vector<Holder> holders;
        for (const auto& [id, writer] : open_)
            holders.push_back({writer.prepared ? id + 1'000'000 : id, writer.prepared});
        mark.probe_answered(*high_, holders, start);
        high_.reset();
    }

    void read() {
        if (high_) return;  // the session is in the middle of a probe
        const std::size_t limit = 1 + draw(6);
        RowId last = mark.low();
        std::size_t rows = 0;
        for (auto at = committed.upper_bound(mark.low().value); at != committed.end() && rows < limit; ++at) {
            last = RowId{*at};
            if (!seen.insert(*at).second) continue;
            ++rows;
            std::int64_t& last_of_key = last_of_key_[key_of_[*at]];
            order_held = order_held && *at > last_of_key;
            last_of_key = *at;
        }
        mark.rows_read(last, rows >= limit);
    }

    std::mt19937_64 random_;
    std::map<std::uint64_t, Writer> open_;
    std::map<std::int64_t, std::size_t> key_of_;
    std::map<std::size_t, std::int64_t> last_of_key_;
    std::optional<RowId> high_;
    std::uint64_t next_writer_ = 1;
    std::int64_t last_id_ = 0;
};

}  // namespace

TEST_CASE("the mark never passes a row that commits late") {
    for (std::uint64_t seed = 1; seed <= 50; ++seed) {
        CAPTURE(seed);
        Writers writers(seed);
        for (int step = 0; step < 4000; ++step) writers.turn();
        writers.finish();
        CHECK(writers.committed.size() > 300);
        CHECK(writers.seen == writers.committed);
        CHECK(writers.order_held);
        CHECK(writers.mark.low().value >= *writers.committed.rbegin());
    }
}
