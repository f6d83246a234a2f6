"""The pure parts of scripts/chaos: its schedule, its judge and its table. The rest of it is run by scripts/test --only chaos."""
import itertools
import pathlib
import subprocess
import sys
from dataclasses import replace

import pytest

SCRIPTS = pathlib.Path(__file__).resolve().parents[2] / "scripts"
sys.path.append(str(SCRIPTS))

from chaos_campaign import faults, report  # noqa: E402
from chaos_campaign.judge import Arrival, all_read, judge, longest_wait  # noqa: E402
from chaos_campaign.rounds import Outcome, lateness  # noqa: E402
from chaos_campaign.schedule import ALONE_FIRST, KINDS, Fault, Round, schedule  # noqa: E402


# --- the schedule ---

def first_rounds(seed, count=200, kinds=tuple(KINDS)):
    return list(itertools.islice(schedule(seed, kinds), count))


def test_the_same_seed_gives_the_same_schedule_and_another_seed_another():
    assert first_rounds(7) == first_rounds(7)
    assert first_rounds(7) != first_rounds(8)


def test_the_order_in_which_faults_are_named_changes_nothing():
    assert first_rounds(7, kinds=["delay", "failover"]) == first_rounds(7, kinds=["failover", "delay"])


def test_a_dry_run_prints_the_same_schedule_every_time_and_starts_nothing():
    command = [str(SCRIPTS / "chaos"), "--dry-run", "--seed", "3", "--duration", "5m"]
    outputs = [subprocess.run(command, capture_output=True, text=True, check=True, env={}).stdout for _ in range(2)]
    assert outputs[0] == outputs[1]
    assert outputs[0].startswith("seed 3\nround 1: ")


@pytest.mark.parametrize("seed", range(20))
def test_every_kind_comes_before_any_comes_again(seed):
    drawn = [fault.kind for round_ in first_rounds(seed) for fault in round_.faults]
    assert sorted(drawn[:len(KINDS)]) == sorted(KINDS)


@pytest.mark.parametrize("seed", range(20))
def test_faults_of_one_side_never_overlap_and_times_keep_to_their_kind(seed):
    rounds = first_rounds(seed)
    assert {len(round_.faults) for round_ in rounds} == {1, 2, 3}
    assert {round_.relays for round_ in rounds} == {2, 3, 4}
    for round_ in rounds:
        sides = [KINDS[fault.kind].side for fault in round_.faults]
        assert len(set(sides)) == len(sides)
        for fault in round_.faults:
            shortest, longest = KINDS[fault.kind].lasts
            assert shortest <= fault.lasts <= longest


@pytest.mark.parametrize("seed", range(20))
def test_what_has_a_limit_of_its_own_comes_alone_at_first(seed):
    rounds = first_rounds(seed)
    for kind in ALONE_FIRST:
        first = next(round_ for round_ in rounds if kind in [fault.kind for fault in round_.faults])
        assert len(first.faults) == 1


def test_there_is_a_way_to_do_each_kind():
    assert faults.KNOWN == set(KINDS)


# --- the judge ---

COMMITTED = {"a1": ("a", 1), "a2": ("a", 2), "a3": ("a", 3), "b1": ("b", 1)}


def arrivals(*event_ids):
    return [Arrival(event_id, event_id[0], int(event_id[1:]), 1, (0, offset), 100.0 + offset)
            for offset, event_id in enumerate(event_ids)]


def test_all_events_once_and_in_order_keep_every_promise():
    findings = judge(COMMITTED, arrivals("a1", "b1", "a2", "a3"))
    assert not findings.breaks_a_promise(duplicates_allowed=0)
    assert findings.first_seen.keys() == COMMITTED.keys()


def test_an_event_that_does_not_arrive_is_lost():
    findings = judge(COMMITTED, arrivals("a1", "b1", "a3"))
    assert findings.lost == ["a2"] and findings.breaks_a_promise(duplicates_allowed=9)


def test_an_event_that_nobody_committed_is_a_phantom():
    findings = judge(COMMITTED, arrivals("a1", "a2", "a3", "b1", "b2"))
    assert findings.phantom == ["b2"] and findings.breaks_a_promise(duplicates_allowed=9)


def test_an_event_that_says_something_else_than_what_was_committed_is_a_phantom_and_lost():
    changed = [*arrivals("a1", "a2", "a3"), replace(arrivals("b1")[0], n=5)]
    findings = judge(COMMITTED, changed)
    assert findings.phantom == ["b1"] and findings.lost == ["b1"]


def test_a_repetition_is_a_duplicate_each_time_and_no_change_of_order():
    findings = judge(COMMITTED, arrivals("a1", "a2", "a1", "b1", "a1", "a3"))
    assert findings.duplicated == ["a1", "a1"] and not findings.reordered
    assert findings.breaks_a_promise(duplicates_allowed=1) and not findings.breaks_a_promise(duplicates_allowed=2)


def test_a_first_occurrence_after_a_later_event_of_its_key_is_reordered():
    findings = judge(COMMITTED, arrivals("a1", "a3", "b1", "a2"))
    assert findings.reordered == ["a2"] and findings.breaks_a_promise(duplicates_allowed=9)


def test_a_repetition_of_an_earlier_round_is_a_duplicate_and_not_a_phantom():
    findings = judge({"a4": ("a", 4)}, arrivals("a1", "a4", "c9"), lambda event_ids: event_ids & {"a1"})
    assert findings.duplicated == ["a1"] and findings.phantom == ["c9"]


def test_the_longest_wait_is_from_the_commit_to_the_broker_and_later_repetitions_do_not_count():
    first_seen = judge(COMMITTED, arrivals("a1", "b1", "a2", "a3", "a1")).first_seen  # at 100, 101, 102, 103
    seen = {event_id: arrival.at for event_id, arrival in first_seen.items()}
    commits = {"a1": 10.0, "b1": 100.5, "a2": 100.8, "a3": 102.9}
    assert longest_wait(commits, seen) == 90.0
    assert longest_wait(commits, seen, since=100.5) == pytest.approx(1.2)
    assert longest_wait(commits, seen, since=100.5, until=102.0) == pytest.approx(0.5)
    assert longest_wait({}, seen) == 0.0


def test_peace_is_when_all_that_was_committed_a_moment_ago_has_been_read():
    commits = {"a1": 10.0, "b1": 10.4, "a2": 10.9}
    assert all_read(commits, {"a1": 10.1, "b1": 10.5}, before=10.5)
    assert not all_read(commits, {"a1": 10.1}, before=10.5)
    assert not all_read(commits, {"a1": 10.1, "b1": 10.5}, before=11.0)
    assert all_read({}, {}, before=11.0)


def outcome(number, *kinds, **figures):
    return Outcome(Round(number, 2, tuple(Fault(kind, 0.0, 1.0, 0, 0) for kind in kinds)), **figures)


@pytest.mark.parametrize(("kind", "limit"), [("relay-kill", 4.0), ("rolling-restart", 1.0)])
def test_a_fault_alone_may_add_so_much_to_what_events_wait_and_no_more(kind, limit):
    assert lateness(outcome(1, kind, stall=limit - 0.01)) is None
    assert f"{limit + 0.5:.2f} s longer" in lateness(outcome(1, kind, stall=limit + 0.5))
    assert lateness(outcome(1, kind, stall=limit + 0.5, usual=0.4, lag=0.2)) is None
    assert lateness(outcome(1, kind, stall=limit + 0.7, usual=0.4, lag=0.2))
    assert lateness(outcome(1, kind, "delay", stall=60.0)) is None
    assert lateness(outcome(1, stall=60.0)) is None


# --- the table ---

OUTCOMES = [outcome(0, events=100, stall=1.25),
            outcome(1, "relay-kill", events=1000, duplicated=3, allowed=1000, stall=2.5, unread=2.6, lasted=5.0),
            outcome(2, "relay-kill", events=500, lost=1, stall=1.5, lasted=6.0),
            outcome(3, "failover", "delay", events=10, reordered=2)]


def test_the_table_adds_up_a_kind_that_came_alone_or_none_and_takes_the_longest_times():
    calm, alone, together = report.rows(OUTCOMES)
    assert (calm["fault"], calm["rounds"], calm["events"], calm["stall"]) == (report.NONE, 1, 100, 1.25)
    assert alone == {"fault": "relay-kill", "rounds": 2, "events": 1500, "lost": 1, "phantom": 0, "reordered": 0,
                     "duplicated": 3, "allowed": 1000, "lasted": 6.0, "stall": 2.5, "unread": 2.6}
    assert (together["fault"], together["rounds"], together["reordered"]) == (report.TOGETHER, 1, 2)
    assert {kind: count for kind, count in report.injected(OUTCOMES).items() if count} == {
        "relay-kill": 2, "failover": 1, "delay": 1}


def test_the_page_gets_its_table_between_the_marks_and_keeps_the_rest(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{report.MARK}\nold\n{report.MARK}\nafter\n")
    report.write_page(page, OUTCOMES, "facts.")
    report.write_page(page, OUTCOMES, "facts.")
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text
    assert text.count("| relay-kill | 2 | 1,500 |") == 1
