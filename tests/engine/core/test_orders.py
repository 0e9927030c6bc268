"""An order concerns the recipients that have no fate, and only those; what is being handed over is left alone."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.decide import decide
from engine.core.orders import EXEMPTING, Decided, Order, Refused, UnderWay, Verb, carry_out
from engine.core.plan import HandOver, Rest, plan
from engine.core.routing import Recipients, RouteRule
from store.events import ContentsPurged, Held, Quarantined
from store.life import Message
from tests.engine.core.lives import (
    BRANCH,
    INFO,
    LATER,
    LATER_PLEASE,
    NOON,
    SALES,
    VERSION,
    after,
    attempted,
    deferred,
    delivered,
    downloaded,
    failed,
    hand_over,
    held,
    outcome,
    policy,
)

verbs = st.sampled_from(get_args(Verb))
STATES = {"hold": "held", "discard": "discarded", "fail": "failed", "release": "received"}


def order(verb: Verb, *recipients: str, **more: Any) -> Order:
    return Order(verb=verb, operator="anna", reason="a test", recipients=recipients, **more)


def carried_out(message: Message, wanted: Order, **more: Any) -> Message:
    answer = carry_out(message, wanted, policy(), **{"worked_on": False} | more)
    assert isinstance(answer, Decided), answer
    return after(message, *answer.events, at=LATER)


def refusal(message: Message, wanted: Order, **more: Any) -> str:
    answer = carry_out(message, wanted, policy(), **{"worked_on": False} | more)
    assert isinstance(answer, Refused)
    return answer.text


def states(message: Message) -> list[str]:
    return [r.state for r in message.recipients]


@pytest.mark.parametrize("verb", ["hold", "discard", "fail"])
def test_those_that_have_a_fate_keep_it(verb: Any) -> None:
    message = delivered(attempted(downloaded(INFO, SALES), 0), 0)
    assert states(carried_out(message, order(verb))) == ["delivered", STATES[verb]]


def test_release_concerns_what_is_held_and_plan_hands_it_over_at_once() -> None:
    message = held(downloaded(INFO, BRANCH), 1)
    released = carried_out(message, order("release"))
    assert states(released) == ["received", "received"]
    step = plan(held(released, 0), policy(), LATER)
    assert isinstance(step, HandOver)
    assert (step.next_hop, step.numbers) == ("branch", (1,))


def test_what_is_let_go_waits_where_the_routes_send_it_now() -> None:
    message = held(deferred(attempted(downloaded(INFO)), retry_at=LATER), 0)
    to_branch = policy(routes=(RouteRule(recipients=("*",), next_hop="branch"),))
    answer = carry_out(message, order("release"), to_branch, worked_on=False)
    assert isinstance(answer, Decided)
    assert after(message, *answer.events).place == "branch"
    both = held(downloaded(INFO, BRANCH), 0, 1)
    assert carried_out(both, order("release")).lane == ""


def test_what_is_held_is_nothing_to_do_until_its_time() -> None:
    message = carried_out(downloaded(INFO), order("hold", until=LATER + timedelta(hours=1)))
    assert isinstance(plan(message, policy(), LATER), Rest)
    assert isinstance(plan(message, policy(), LATER + timedelta(hours=1)), HandOver)


@pytest.mark.parametrize("verb", ["hold", "discard", "fail"])
def test_what_a_gateway_hands_over_is_left_to_it(verb: Any) -> None:
    message = attempted(downloaded(INFO, SALES), 0)
    assert carry_out(message, order(verb), policy(), worked_on=True) == UnderWay("home")
    rest = carried_out(message, order(verb, SALES), worked_on=True)
    assert states(rest) == ["outcome-unknown", STATES[verb]]


def test_a_hold_says_first_that_an_attempt_was_cut_off() -> None:
    answer = carry_out(attempted(downloaded(INFO)), order("hold"), policy(), worked_on=False)
    assert isinstance(answer, Decided)
    assert [event.why for event in answer.events if isinstance(event, Held)] == [
        "outcome-unknown",
        "operator",
    ]
    assert [r.address for r in answer.doubtful] == [INFO]


def test_a_message_for_nobody_goes_to_whom_the_rules_name_now() -> None:
    message = held(downloaded())
    assert "names no recipient (no header)" in refusal(
        message, order("release"), named=Recipients(held="no header")
    )
    named = Recipients(addresses=(INFO, SALES), routed_by=("fallback", "fallback"))
    released = carried_out(message, order("release"), named=named)
    assert released.place == "home"
    assert [(r.address, r.state) for r in released.recipients] == [(INFO, "received"), (SALES, "received")]
    assert carried_out(message, order("discard")).state == "discarded"
    assert carried_out(message, order("fail")).state == "failed"


def test_what_can_t_be_done_says_as_what_it_is() -> None:
    gone = failed(attempted(downloaded(INFO)))
    assert refusal(gone, order("hold")) == "it is failed"
    later = deferred(attempted(downloaded(INFO)), retry_at=LATER)
    assert refusal(later, order("release")) == "it isn't held: it is deferred"
    assert refusal(later, order("hold", "x@example.com", "*@y.example")) == (
        "it has no recipient x@example.com or *@y.example"
    )


def test_what_is_kept_is_so_once_and_what_is_not_need_not_be_let_go() -> None:
    """Open or closed, and also where nobody is named."""
    for message in (downloaded(), downloaded(INFO), delivered(attempted(downloaded(INFO)))):
        kept = carried_out(message, order("keep"))
        assert (kept.exempt_by, kept.state) == ("anna", message.state)
        assert refusal(kept, order("keep")).startswith("it is already, since 2026-03-01 by anna")
        assert carried_out(kept, order("unkeep")).exempt_since is None
        assert refusal(message, order("unkeep")) == "it isn't kept from it"


def test_what_was_held_for_long_has_its_time_from_its_release() -> None:
    days = [NOON + timedelta(days=n) for n in range(12)]
    message = held(downloaded(INFO), 0)
    answer = carry_out(message, order("release"), policy(), worked_on=False)
    assert isinstance(answer, Decided)
    message = attempted(after(message, *answer.events, at=days[6]), at=days[6])

    def deferred_on(day: int) -> str:
        said = outcome(LATER_PLEASE)
        how: dict[str, Any] = {"jitter": 0.5, "hop_retry_at": days[day]}
        (event,) = decide(message, hand_over(message), said, policy(), days[day], **how)
        return event.NAME

    assert [deferred_on(day) for day in (6, 10, 11)] == ["deferred", "deferred", "failed"]


later = partial(deferred, retry_at=LATER)
happenings = st.lists(
    st.tuples(st.sampled_from((attempted, delivered, later, failed, held)), st.integers(0, 2)), max_size=6
)


@given(happenings, verbs, st.sampled_from(((), (INFO,), ("*@example.com",))), st.booleans())
def test_an_order_is_carried_out_on_all_it_means_or_changes_nothing(
    happened: list[tuple[Any, int]], verb: Verb, only: tuple[str, ...], worked_on: bool
) -> None:
    message = downloaded(INFO, SALES, BRANCH)
    for happens, number in happened:
        if message.recipients[number].open:
            message = happens(message, number)
    answer = carry_out(message, order(verb, *only), policy(), worked_on=worked_on)
    if not isinstance(answer, Decided):
        return
    now = after(message, *answer.events, at=NOON + timedelta(hours=1))
    if verb in EXEMPTING:  # from retention: that changes nothing of where it goes
        assert now.recipients == message.recipients
        assert (now.exempt_since is not None) == (verb == "keep")
        return
    named = {r.number for event in answer.events for r in message.recipients if r.number in event.numbers}  # type: ignore[union-attr]
    assert named
    for old, new in zip(message.recipients, now.recipients, strict=True):
        if old.number not in named:
            assert old == new
            continue
        assert old.open
        match verb:
            case "hold":
                assert new.held
                assert new.open
            case "release":
                assert old.held
                assert not new.held
                assert new.open
            case "discard" | "fail":
                assert new.state == STATES[verb]
    if any(r.held for r in now.recipients) is False and now.open:
        assert now.due_at is not None


def quarantined(message: Message, *numbers: int) -> Message:
    return after(message, Quarantined(reason="spam", rule="spamd says spam", numbers=numbers, policy=VERSION))


def test_what_is_in_quarantine_is_not_held_besides_and_others_are() -> None:
    assert refusal(quarantined(downloaded(INFO)), order("hold")) == (
        "it is in quarantine, where it stays until a person decides"
    )
    part = carried_out(quarantined(downloaded(INFO, SALES), 1), order("hold"))
    assert states(part) == ["held", "quarantined"]


def test_an_order_on_the_quarantine_leaves_alone_what_is_held_or_goes_on() -> None:
    three = quarantined(held(downloaded(INFO, SALES, BRANCH), 0, why="operator"), 1)
    for verb, state in (("release", "received"), ("discard", "discarded")):
        assert states(carried_out(three, order(verb, quarantined=True))) == ["held", state, "received"]
    assert refusal(held(downloaded(INFO), why="operator"), order("release", quarantined=True)) == (
        "it isn't in quarantine: it is held"
    )
    assert refusal(downloaded(), order("discard", quarantined=True)).startswith("it isn't in quarantine")


def test_without_octets_nothing_is_let_go() -> None:
    purged = ContentsPurged(reason="retention.contents: 30d", policy=VERSION)
    gone = after(held(downloaded(INFO), why="operator"), purged)
    dropped = "the octets were dropped on 2026-03-01 by retention.contents: 30d"
    assert refusal(gone, order("release")) == dropped
    assert refusal(after(delivered(attempted(downloaded(INFO))), purged), order("release")) == (
        f"it is delivered, and {dropped}"
    )
