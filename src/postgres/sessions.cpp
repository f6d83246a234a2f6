#include "postgres/sessions.hpp"

#include <algorithm>
#include <utility>

namespace outbox {

Sessions::Sessions(const PostgresSettings& settings, const WorkerIdentity& identity, Duration lease_ttl,
                   int schema_version, bool deletes_apart, Instant now)
    : lease_ttl_(lease_ttl),
      identity_(identity),
      schema_version_(schema_version),
      apart_(deletes_apart),
      main_(connection_attempts(settings, "outbox-relay"), identity, lease_ttl, schema_version, now) {}

std::array<Sessions::Source, 2> Sessions::sources() const {
    std::array<Source, 2> sources{{{main_.descriptor(), main_.wanted()}, {}}};
    if (deletes_) sources[1] = {deletes_->descriptor(), deletes_->wanted()};
    return sources;
}

void Sessions::pump(Instant now) {
    main_.pump(now);
    if (deletes_) deletes_->pump(now);
}

Instant Sessions::deadline() const {
    return deletes_ ? std::min(main_.deadline(), deletes_->deadline()) : main_.deadline();
}

Instant Sessions::waiting_since() const {
    return deletes_ ? std::min(main_.waiting_since(), deletes_->waiting_since()) : main_.waiting_since();
}

void Sessions::send(const ReadRows& action, const Topics& topics, Instant now) {
    main_.send(action, topics, now);
    gate_.read_sent(action.after);
}

void Sessions::send(const DeleteRows& action, Instant now) {
    if (!deletes_) return main_.send(action, now);
    deletes_->send(action, now);
    gate_.delete_sent(*std::max_element(action.ids.begin(), action.ids.end()));
}

std::optional<Answer> Sessions::next_answer(Topics& topics, Instant now) {
    if (opened_) return opened_both(topics, now) ? std::exchange(opened_, std::nullopt) : std::nullopt;
    if (auto answer = next_of_deletes(topics, now)) return answer;
    return next_of_main(topics, now);
}

bool Sessions::opened_both(Topics& topics, Instant now) {
    if (!deletes_->next_answer(topics, now)) return false;
    if (deletes_->server_started() != main_.server_started())
        throw PostgresError("two connections to the same host reached different servers");
    return true;
}

std::optional<Answer> Sessions::next_of_deletes(Topics& topics, Instant now) {
    if (!deletes_) return std::nullopt;
    while (auto answer = deletes_->next_answer(topics, now)) {
        deleted_.push_back(*std::move(answer));
        gate_.delete_answered();
    }
    if (!gate_.let_through()) return std::nullopt;
    std::optional<Answer> answer(std::move(deleted_.front()));
    deleted_.pop_front();
    return answer;
}

std::optional<Answer> Sessions::next_of_main(Topics& topics, Instant now) {
    auto answer = main_.next_answer(topics, now);
    if (!answer) return answer;
    if (std::holds_alternative<RowsRead>(answer->event)) gate_.read_answered();
    if (!apart_ || !std::holds_alternative<SessionOpened>(answer->event)) return answer;
    opened_ = std::move(answer);
    deletes_ = std::make_unique<Session>(std::vector<ConnectionParameters>{main_.host()}, identity_, lease_ttl_,
                                         schema_version_, now);
    return std::nullopt;
}

}  // namespace outbox
