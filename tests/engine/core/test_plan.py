"""What is to be done next with a message, in each state it can be in."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from engine.core.plan import NO_ANSWER, NO_OCTETS, HandOver, Record, Rest, plan
from engine.core.policy import HopPolicy, Policy
from engine.core.routing import RouteRule
from engine.core.verdict import ScannerPolicy
from store.events import (
    ContentsPurged,
    Deferred,
    Discarded,
    Failed,
    Held,
    RedeliveryRequested,
    RejectedOversize,
    Scanned,
)
from store.life import Message
from tests.engine.core.lives import (
    BRANCH,
    INFO,
    LATER,
    NOON,
    SALES,
    VERSION,
    after,
    attempted,
    deferred,
    delivered,
    downloaded,
    failed,
    generated,
    held,
    policy,
)

HOLDING = {"home": HopPolicy(on_unknown="hold"), "branch": HopPolicy(on_unknown="retry")}


def test_a_fresh_message_goes_to_the_next_hop_its_route_names() -> None:
    assert plan(downloaded(INFO, SALES), policy(), NOON) == HandOver(
        next_hop="home",
        numbers=(0, 1),
        recipients=(INFO, SALES),
        attempt=1,
        rule="route 1: recipients *@example.com",
    )


def test_the_current_max_size_of_a_next_hop_is_heeded_by_what_waits_for_it() -> None:
    waiting = deferred(attempted(downloaded("desk@branch.example", INFO, size_octets=5_000)), retry_at=NOON)
    hops = {"home": HopPolicy(max_size_octets=4_999), "branch": HopPolicy(max_size_octets=5_000)}
    step = plan(waiting, policy(hops=hops), NOON)
    assert isinstance(step, Record)
    (event,) = step.events
    assert isinstance(event, RejectedOversize)
    assert (event.numbers, event.next_hop, event.limit_octets, event.limit_from, event.tried) == (
        (1,),
        "home",
        4_999,
        "config",
        False,
    )
    going = plan(after(waiting, event), policy(hops=hops), NOON)
    assert isinstance(going, HandOver)
    assert (going.next_hop, going.numbers) == ("branch", (0,))


def test_without_routes_our_own_domains_go_home() -> None:
    step = plan(downloaded(INFO), policy(routes=()), NOON)
    assert isinstance(step, HandOver)
    assert (step.next_hop, step.rule) == ("home", "own domain example.com")


def test_a_notice_of_our_own_is_handed_over_like_any_message() -> None:
    step = plan(generated(), policy(), NOON)
    assert isinstance(step, HandOver)
    assert step.recipients == ("postmaster@example.com",)


@pytest.mark.parametrize("settle", [delivered, failed])
def test_a_closed_message_rests_for_ever(settle: Any) -> None:
    assert plan(settle(attempted(downloaded(INFO))), policy(), NOON) == Rest(None)


def test_a_deferred_message_rests_until_its_time() -> None:
    message = deferred(attempted(downloaded(INFO)), retry_at=LATER)
    assert plan(message, policy(), LATER - timedelta(microseconds=1)) == Rest(LATER)


def test_a_deferred_message_is_tried_again_at_its_time_and_the_attempt_counts_up() -> None:
    step = plan(deferred(attempted(downloaded(INFO)), retry_at=LATER), policy(), LATER)
    assert isinstance(step, HandOver)
    assert step.attempt == 2


def test_only_recipients_that_are_due_are_handed_over() -> None:
    message = attempted(downloaded(INFO, SALES, "third@example.com"))
    message = deferred(delivered(message, 0), 1, retry_at=NOON)
    message = deferred(message, 2, retry_at=LATER)
    step = plan(message, policy(), NOON)
    assert isinstance(step, HandOver)
    assert step.numbers == (1,)


def test_several_next_hops_are_served_one_after_the_other() -> None:
    message = downloaded(INFO, BRANCH, SALES)
    first = plan(message, policy(), NOON)
    assert isinstance(first, HandOver)
    assert (first.next_hop, first.numbers) == ("home", (0, 2))
    message = delivered(attempted(message, 0, 2), 0, 2)
    second = plan(message, policy(), NOON)
    assert isinstance(second, HandOver)
    assert (second.next_hop, second.numbers, second.attempt) == ("branch", (1,), 2)


def test_of_several_next_hops_the_one_that_lets_it_wait_least_comes_first() -> None:
    message = downloaded(INFO, BRANCH, SALES)
    for waits, first in (({"home": 2.0, "branch": 1.0}, "branch"), ({"home": 1.0, "branch": 1.0}, "home")):
        step = plan(message, policy(), NOON, lambda name, waits=waits: (0, waits[name]))
        assert isinstance(step, HandOver)
        assert (step.next_hop, step.numbers) == (first, {"home": (0, 2), "branch": (1,)}[first])


def test_a_next_hop_that_defers_does_not_hold_up_the_recipients_of_another() -> None:
    message = deferred(attempted(downloaded(INFO, BRANCH), 0), 0, retry_at=LATER)
    step = plan(message, policy(), NOON)
    assert isinstance(step, HandOver)
    assert step.next_hop == "branch"


def test_a_changed_route_applies_to_what_is_queued() -> None:
    message = deferred(attempted(downloaded(INFO)), retry_at=NOON, hop="home")
    moved = policy(routes=(RouteRule(recipients=("*@example.com",), next_hop="branch"),))
    step = plan(message, moved, NOON)
    assert isinstance(step, HandOver)
    assert step.next_hop == "branch"


def test_a_recipient_no_route_fits_is_held_with_the_reason() -> None:
    step = plan(downloaded("who@elsewhere.example"), policy(), NOON)
    rule = "none of 2 routes fits the recipient domain elsewhere.example"
    assert step == Record((Held(why="unroutable", rule=rule, numbers=(0,), policy=VERSION),))


def test_a_route_to_a_next_hop_that_is_not_configured_holds_and_names_it() -> None:
    step = plan(downloaded(INFO), policy(hops={}), NOON)
    assert isinstance(step, Record)
    (event,) = step.events
    assert isinstance(event, Held)
    assert event.rule == "route 1 names next hop home, which is not configured"


def test_what_is_held_waits_for_a_person() -> None:
    assert plan(held(downloaded(INFO)), policy(), NOON + timedelta(days=30)) == Rest(None)


def test_an_unroutable_recipient_does_not_hold_up_the_others() -> None:
    message = downloaded("who@elsewhere.example", INFO)
    step = plan(message, policy(), NOON)
    assert isinstance(step, Record)
    message = after(message, *step.events)
    step = plan(message, policy(), NOON)
    assert isinstance(step, HandOver)
    assert step.numbers == (1,)


def test_a_recipient_held_for_its_unknown_outcome_does_not_hold_up_another_next_hops() -> None:
    message = held(attempted(downloaded(INFO, BRANCH), 0), 0, why="outcome-unknown")
    step = plan(message, policy(hops=HOLDING), NOON)
    assert isinstance(step, HandOver)
    assert step.next_hop == "branch"


def test_a_hold_with_a_time_ends_at_that_time() -> None:
    message = held(downloaded(INFO), why="operator", until=LATER)
    assert plan(message, policy(), NOON) == Rest(LATER)
    assert isinstance(plan(message, policy(), LATER), HandOver)


def test_an_attempt_cut_off_is_put_on_record_as_unknown_and_tried_again() -> None:
    message = attempted(downloaded(INFO, SALES))
    step = plan(message, policy(), LATER)
    assert isinstance(step, Record)
    (event,) = step.events
    assert isinstance(event, Deferred)
    assert (event.unknown, event.numbers, event.retry_at, event.code) == (True, (0, 1), LATER, None)
    assert (event.reply, event.recipients) == (NO_ANSWER, (INFO, SALES))
    message = after(message, event)
    assert message.state == "outcome-unknown"
    assert [r.unknown_attempts for r in message.recipients] == [1, 1]
    again = plan(message, policy(), LATER)
    assert isinstance(again, HandOver)
    assert again.attempt == 2


def test_an_attempt_cut_off_is_held_where_the_policy_says_so_and_stays_held() -> None:
    message = attempted(downloaded(INFO))
    step = plan(message, policy(hops=HOLDING), LATER)
    assert isinstance(step, Record)
    (event,) = step.events
    assert isinstance(event, Held)
    assert (event.why, event.numbers) == ("outcome-unknown", (0,))
    assert event.rule == f"home: {NO_ANSWER}"
    message = after(message, event)
    assert message.state == "outcome-unknown"
    assert plan(message, policy(hops=HOLDING), LATER + timedelta(days=30)) == Rest(None)


def test_attempts_cut_off_at_two_next_hops_are_each_judged_by_their_own_policy() -> None:
    message = attempted(attempted(downloaded(INFO, BRANCH), 0, hop="home"), 1, hop="branch")
    step = plan(message, policy(hops=HOLDING), NOON)
    assert isinstance(step, Record)
    branch, home = step.events
    assert isinstance(branch, Deferred)
    assert isinstance(home, Held)
    assert (branch.next_hop, branch.numbers, home.numbers) == ("branch", (1,), (0,))


def test_an_answer_on_record_is_no_attempt_cut_off() -> None:
    message = deferred(attempted(downloaded(INFO)), retry_at=LATER, unknown=True, code=None)
    assert plan(message, policy(), NOON) == Rest(LATER)
    assert isinstance(plan(message, policy(), LATER), HandOver)


def test_what_is_asked_for_again_after_its_octets_were_dropped_fails_and_says_by_which_rule() -> None:
    purged = ContentsPurged(reason="retention.contents: 30d", policy=VERSION)
    again = RedeliveryRequested(numbers=(0,), operator="anna", policy=VERSION)
    message = after(failed(attempted(downloaded(INFO))), purged, again)
    step = plan(message, policy(), LATER)
    assert isinstance(step, Record)
    (event,) = step.events
    assert isinstance(event, Failed)
    assert event.reply == "the octets were dropped on 2026-03-01 by retention.contents: 30d"


def test_without_octets_the_message_fails_and_says_why() -> None:
    message = replace(downloaded(INFO), content=None)
    step = plan(message, policy(), NOON)
    assert isinstance(step, Record)
    (event,) = step.events
    assert isinstance(event, Failed)
    assert (event.reply, event.numbers) == (NO_OCTETS, (0,))
    assert not after(message, event).open


def test_a_fate_ends_a_hold_with_a_time() -> None:
    message = delivered(held(attempted(downloaded(INFO)), why="operator", until=LATER))
    assert plan(message, policy(), LATER) == Rest(None)
    assert message.due_at is None


# Whatever happened to a message: a step at NOON + 1 h makes progress, or says a time that is yet to come.

addresses = st.sampled_from((INFO, SALES, BRANCH, "who@elsewhere.example"))
numbers = st.integers(0, 3)
times = st.sampled_from((NOON, LATER, NOON + timedelta(hours=2)))
happenings: st.SearchStrategy[list[tuple[Any, int, dict[str, Any]]]] = st.lists(
    st.one_of(
        st.tuples(st.just(attempted), numbers, st.just({})),
        st.tuples(st.just(delivered), numbers, st.just({})),
        st.tuples(st.just(failed), numbers, st.just({})),
        st.tuples(
            st.just(deferred), numbers, st.fixed_dictionaries({"retry_at": times, "unknown": st.booleans()})
        ),
        st.tuples(
            st.just(held),
            numbers,
            st.fixed_dictionaries(
                {
                    "why": st.sampled_from(("unroutable", "outcome-unknown", "operator", "loop")),
                    "until": st.one_of(st.none(), times),
                }
            ),
        ),
    ),
    max_size=8,
)


def lived(recipients: list[str], happened: list[tuple[Any, int, dict[str, Any]]]) -> Message:
    message = downloaded(*recipients)
    for change, number, options in happened:
        if number >= len(recipients):
            continue
        message = change(message, number, **options)
    return message


@given(st.lists(addresses, min_size=1, max_size=4), happenings, st.sampled_from(({}, HOLDING)))
def test_plan_never_rests_until_a_time_that_has_passed(
    recipients: list[str], happened: list[tuple[Any, int, dict[str, Any]]], hops: dict[str, HopPolicy]
) -> None:
    now = NOON + timedelta(hours=1)
    step = plan(lived(recipients, happened), policy(hops=hops or HOLDING), now)
    if isinstance(step, Rest):
        assert step.until is None or step.until > now


@given(st.lists(addresses, min_size=1, max_size=4), happenings)
def test_plan_never_hands_over_a_recipient_that_has_a_fate(
    recipients: list[str], happened: list[tuple[Any, int, dict[str, Any]]]
) -> None:
    message = lived(recipients, happened)
    step = plan(message, policy(), NOON + timedelta(hours=1))
    if isinstance(step, HandOver):
        assert all(message.recipients[n].open for n in step.numbers)
        assert step.recipients == tuple(message.recipients[n].address for n in step.numbers)


@given(st.lists(addresses, min_size=1, max_size=4), happenings)
def test_what_plan_records_is_progress_and_comes_to_an_end(
    recipients: list[str], happened: list[tuple[Any, int, dict[str, Any]]]
) -> None:
    message, now = lived(recipients, happened), NOON + timedelta(hours=1)
    for _ in range(2 * len(recipients) + 1):
        step = plan(message, policy(), now)
        if not isinstance(step, Record):
            return
        before, message = message, after(message, *step.events, at=now)
        assert shown(before) != shown(message)
    pytest.fail("plan records for ever")


def shown(message: Message) -> object:
    """What a decision changes."""
    return [(r.state, r.held, r.held_until, r.retry_at) for r in message.recipients], message.held_until


def due(message: Message, now: datetime) -> bool:
    return message.due_at is not None and message.due_at <= now


@given(st.lists(addresses, min_size=1, max_size=4), happenings)
def test_the_agenda_wakes_a_message_exactly_when_plan_has_something_to_do(
    recipients: list[str], happened: list[tuple[Any, int, dict[str, Any]]]
) -> None:
    message, now = lived(recipients, happened), NOON + timedelta(hours=1)
    assert isinstance(plan(message, policy(), now), Rest) is not due(message, now)


SPAM = Scanned(scanner="spamd", verdict="spam", score=9.0, threshold=5.0, duration_ms=1, policy=VERSION)
RULE = "spamd says spam: score 9 of 5"
SPAM_BOX = "spam-box@example.com"


def acting(action: Any, redirect: str | None = None) -> Policy:
    return policy(scanners=(ScannerPolicy(name="spamd", kind="spamd", on_found=action, redirect=redirect),))


def test_what_was_found_may_be_discarded_for_all_that_are_due() -> None:
    step = plan(after(downloaded(INFO, SALES), SPAM), acting("discard"), NOON)
    assert step == Record((Discarded(numbers=(0, 1), rule=RULE, policy=VERSION, recipients=(INFO, SALES)),))


def test_what_is_redirected_goes_to_one_address_once_and_to_none_of_its_recipients() -> None:
    there = acting("redirect", SPAM_BOX)
    message = after(downloaded(INFO, SALES), SPAM)
    step = plan(message, there, NOON)
    assert isinstance(step, Record)
    message = after(message, *step.events)
    assert [(r.address, r.state) for r in message.recipients] == [
        (INFO, "discarded"),
        (SALES, "discarded"),
        (SPAM_BOX, "received"),
    ]
    step = plan(message, there, NOON)
    assert isinstance(step, HandOver)
    assert (step.numbers, step.recipients, step.next_hop) == ((2,), (SPAM_BOX,), "home")
    message = deferred(attempted(message, 2), 2, retry_at=NOON)
    assert isinstance(plan(message, there, NOON), HandOver)
