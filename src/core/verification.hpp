// What writers committed against what a consumer saw: lost, phantom, duplicated, reordered, and how late. Events go in
// as they happen, in any interleaving of the two sides. Memory follows what is under way, not what has passed: an
// event that was committed and seen is forgotten, but for its key's newest place.
// Writers report the events of a key in order, and an event's outcome before they begin the key's next transaction.
// Pure; one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "core/latency_histogram.hpp"
#include "core/marked_event.hpp"
#include "core/time.hpp"

namespace outbox {

// At most this many events of a key are written whose outcome is not reported yet.
inline constexpr std::uint64_t unreported_max = 10;
inline constexpr std::uint32_t marked_keys_max = 1'000'000;

struct Tally {
    std::uint64_t events = 0;
    std::vector<MarkedEvent> first;  // the first few of them
};

struct Verdict {
    std::uint64_t committed = 0;
    std::uint64_t rolled_back = 0;
    std::uint64_t in_doubt = 0;   // the answer to COMMIT was lost: may be seen, need not be
    std::uint64_t delivered = 0;  // first occurrences of events that were committed, or in doubt
    Tally lost;                   // committed and not seen
    Tally phantom;                // seen and not committed
    Tally duplicated;             // seen again, once for every further time
    Tally reordered;              // first seen after a later event of its key
    std::uint64_t altered = 0;    // of the phantoms, those that no writer wrote so: `first` does not have them
    LatencyHistogram latency;     // from COMMIT's answer to the consumer
};

class Verification {
public:
    explicit Verification(std::uint32_t keys);

    void committed(const MarkedEvent& event, Instant at);
    void rolled_back(const MarkedEvent& event);
    void in_doubt(const MarkedEvent& event);

    void seen(const MarkedEvent& event, Instant at);
    void seen_altered();  // a record of this run that is no event of it

    // Committed and not seen so far.
    std::size_t outstanding() const { return awaited_.size(); }
    const Verdict& so_far() const { return verdict_; }

    // Nothing comes any more: what is outstanding is lost.
    Verdict finish();

private:
    struct Key {
        std::uint64_t reported = 0;  // up to here every outcome is known
        std::uint64_t newest = 0;    // the latest one seen
    };
    enum class Exception { in_doubt, in_doubt_and_seen, undone };
    using Place = std::uint64_t;  // key and sequence

    static Place place_of(const MarkedEvent& event);
    static MarkedEvent event_at(Place place);
    bool take_early(const MarkedEvent& event);
    void note_order(const MarkedEvent& event);
    void deliver(const MarkedEvent& event);
    void seen_exception(const MarkedEvent& event, Exception& exception);

    std::vector<Key> keys_;
    std::unordered_map<Place, Instant> awaited_;       // committed, not seen; when
    std::unordered_map<Place, Instant> early_;         // seen before the writer said what became of it; when
    std::unordered_map<Place, Exception> exceptions_;  // what broken connections left behind
    Verdict verdict_;
};

}  // namespace outbox
