#include "core/failure.hpp"

namespace outbox {

std::string_view name_of(FailureKind kind) {
    switch (kind) {
        case FailureKind::back_pressure:
            return "back_pressure";
        case FailureKind::row:
            return "row";
        case FailureKind::topic:
            return "topic";
        case FailureKind::cluster:
            return "cluster";
        case FailureKind::in_doubt:
            return "in_doubt";
        case FailureKind::fatal:
            return "fatal";
    }
    return "unknown";
}

}  // namespace outbox
