// One visitor out of several lambdas, for std::visit (the idiom of cppreference's std::visit page). Any thread.
#pragma once

namespace outbox {

template <class... Visitors>
struct Overloaded : Visitors... {
    using Visitors::operator()...;
};
template <class... Visitors>
Overloaded(Visitors...) -> Overloaded<Visitors...>;

}  // namespace outbox
