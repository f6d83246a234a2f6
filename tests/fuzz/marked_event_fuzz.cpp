// A record that `verify` reads back from a topic others may write to as well: two bytes for the payload's size, then
// the key, a zero byte, the payload. Holds: what is taken for a mark is, to the byte, what verify writes for it; and
// what it writes is read.
#include "core/marked_event.hpp"
#include "fuzz/fuzzing.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace outbox;
    using namespace outbox::fuzzing;
    constexpr std::string_view run = "run-1";
    Input input(data, size);
    const std::size_t bytes = std::size_t{input.byte()} * 16 + input.byte();
    const std::string_view key = input.until(std::string_view("\0", 1));
    const std::string_view payload = input.rest();
    if (const auto mark = read_mark(run, key, payload, bytes)) {
        require(marked_key(run, mark->key) == key, "a mark's key is the one that is written", key);
        require(marked_payload(run, *mark, bytes) == payload, "and so is its payload", payload);
    }
    MarkedEvent event;
    for (const char letter : key.substr(0, 4)) event.key = event.key << 8U | static_cast<unsigned char>(letter);
    for (const char letter : payload.substr(0, 8))
        event.sequence = event.sequence << 8U | static_cast<unsigned char>(letter);
    event.doomed = payload.size() % 2 == 1;
    const std::string written = marked_payload(run, event, bytes);
    require(written.size() >= bytes, "a payload is as large as asked for", written);
    require(read_mark(run, marked_key(run, event.key), written, bytes) == event, "what is written is read", written);
    return 0;
}
