// librdkafka's statistics document. Holds: a time that is no less than nothing and that can be told in seconds; nothing
// is read behind the document's end, and what follows "topics" changes nothing.
#include <string>

#include "fuzz/fuzzing.hpp"
#include "kafka/statistics.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace outbox;
    using namespace outbox::fuzzing;
    const std::string document(reinterpret_cast<const char*>(data), size);  // exactly as large: the sanitizer sees more
    const ProducerStatistics read = producer_statistics(document);
    require(read.throttled >= Duration::zero(), "nobody is held back for less than nothing", document);
    require(!read.any_up || document.find("UP") != std::string::npos, "up is what says so", document);

    const std::string more = document + R"("topics":{"t":{"state":"UP","throttle":{"max":999999}}})";
    const ProducerStatistics again = producer_statistics(more);
    // Unless the added text completes what the document began.
    if (document.ends_with('}'))
        require(again.any_up == read.any_up && again.throttled == read.throttled, "topics say nothing here", document);
    return 0;
}
