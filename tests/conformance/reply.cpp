#include "conformance/reply.hpp"

#include <sstream>

namespace outbox::conformance {

std::string Reply::text() const {
    std::ostringstream out;
    out << what << " lanes " << std::hex << lanes.bits() << std::dec << " living " << living << " rank " << rank;
    for (const RowHead& row : heads)
        out << "\n  row " << row.id.value << " event " << unsigned{row.event_id[14]} << '.'
            << unsigned{row.event_id[15]} << " topic " << static_cast<std::uint32_t>(row.topic) << " hash "
            << row.key_hash << " bytes " << row.bytes << " lane " << unsigned{row.lane}
            << (row.payload_withheld ? " withheld" : "");
    if (lowest != no_row) out << " lowest " << lowest.value;
    out << " high " << high.value << " holding";
    for (const std::size_t writer : holding) out << ' ' << writer;
    out << " deleted " << deleted << " revision " << control.revision << (control.paused ? " paused" : "") << " rate "
        << control.max_rows_per_second.value_or(0) << " digest " << control.blocked.keys << '/' << control.blocked.sum;
    for (const std::string& topic : paused_topics) out << " paused " << topic;
    for (const KeyBlock& key : keys)
        out << "\n  key " << key.key_hash << " row " << key.row.value << " lane " << unsigned{key.lane};
    for (const Attempt& attempt : attempts)
        out << "\n  attempt " << attempt.from.value << ".." << attempt.upto.value << " process " << attempt.process;
    return out.str();
}

}  // namespace outbox::conformance
