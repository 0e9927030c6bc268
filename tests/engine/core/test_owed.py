"""Who is told of what, as RFC 3461 and prudence have it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from engine.core.owed import UNSCANNED, owed, silence, untold
from store.events import (
    Deferred,
    Delivered,
    Discarded,
    Failed,
    MessageEvent,
    RedeliveryRequested,
    RejectedOversize,
    Relayed,
    Reported,
)
from store.life import Message
from tests.engine.core.lives import (
    INFO,
    NOON,
    VERSION,
    after,
    attempted,
    downloaded,
    generated,
    policy,
    submitted,
)
from tests.store.build import scanned

BOB = "bob@customer.example"
EVE = "eve@customer.example"


def failure(*numbers: int, **facts: Any) -> Failed:
    usual: dict[str, Any] = {
        "reason": "rejected",
        "code": 550,
        "reply": "550 5.1.1 no",
        "address": "192.0.2.1:25",
    }
    return Failed(
        **{"numbers": numbers or (0,), "next_hop": "smart", "attempt": 1, "policy": VERSION} | usual | facts
    )


def deferral(*numbers: int, **facts: Any) -> Deferred:
    usual: dict[str, Any] = {"retry_at": NOON + timedelta(days=1), "scope": "message", "code": 451}
    return Deferred(
        **{
            "numbers": numbers or (0,),
            "next_hop": "smart",
            "attempt": 1,
            "policy": VERSION,
            "reply": "451 later",
        }
        | usual
        | facts
    )


def taken(kind: type[Delivered] | type[Relayed], *numbers: int, **facts: Any) -> Delivered | Relayed:
    usual: dict[str, Any] = {"address": "192.0.2.1:25", "tls": "none", "code": 250, "duration_ms": 1}
    return kind(
        **{"numbers": numbers or (0,), "next_hop": "smart", "attempt": 1, "reply": "250 ok"} | usual | facts
    )


def told(message: Message, *events: MessageEvent, hours: float = 0) -> dict[str, list[str]]:
    """The addresses of whom each report speaks."""
    then = NOON + timedelta(hours=hours)
    found = owed(after(attempted(message), *events, at=then), events, policy(), then)
    return {kind: [fate.recipient.address for fate in fates] for kind, fates in found.items()}


def test_a_failure_is_told_with_all_that_failed_alike_or_not() -> None:
    message = submitted(BOB, EVE, INFO)
    assert told(message, failure(0), failure(1, reply="552 5.2.2 full")) == {"failure": [BOB, EVE]}


@pytest.mark.parametrize(
    ("notify", "failing", "waiting", "succeeding"),
    [
        ("", True, True, False),
        ("NEVER", False, False, False),
        ("FAILURE", True, False, False),
        ("DELAY", False, True, False),
        ("SUCCESS", False, False, True),
        ("success,failure", True, False, True),
    ],
)
def test_each_recipient_s_wish_is_respected(
    notify: str, failing: bool, waiting: bool, succeeding: bool
) -> None:
    message = submitted(BOB, notify=(notify,))
    assert ("failure" in told(message, failure())) is failing
    assert ("delay" in told(message, deferral(), hours=4)) is waiting
    assert ("success" in told(message, taken(Relayed))) is succeeding


def test_the_time_for_which_a_person_held_it_back_is_no_delay() -> None:
    message = replace(submitted(BOB), resumed_at=NOON + timedelta(hours=3))
    assert told(message, deferral(), hours=5) == {}
    assert "delay" in told(message, deferral(), hours=7)


def test_of_several_only_those_are_named_who_are_to_be() -> None:
    message = submitted(BOB, EVE, notify=("NEVER", ""))
    assert told(message, failure(0, 1)) == {"failure": [EVE]}


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"reverse_path": ""}, "null reverse-path"),
        ({"reverse_path": "no address"}, "no address"),
    ],
)
def test_nobody_is_told_where_an_answer_would_loop_or_reach_nobody(facts: dict[str, Any], why: str) -> None:
    message = submitted(BOB, notify=("SUCCESS,FAILURE,DELAY",), **facts)
    assert why in (silence(message) or "")
    for event in (failure(), deferral(), taken(Relayed)):
        assert told(message, event, hours=5) == {}


def test_a_machine_or_a_list_is_told_what_failed_and_of_a_delay_where_it_asked_for_that() -> None:
    unsaid, asked = (submitted(BOB, notify=(n,), automatic=True) for n in ("", "DELAY,SUCCESS"))
    assert told(unsaid, failure()) == {"failure": [BOB]}
    assert told(unsaid, deferral(), hours=5) == told(unsaid, taken(Relayed)) == {}
    assert told(asked, deferral(), hours=5) == {"delay": [BOB]}
    assert told(asked, taken(Relayed)) == {"success": [BOB]}


def test_where_a_verdict_redirected_it_to_is_no_matter_of_the_sender_s() -> None:
    away = Discarded(numbers=(0,), rule="spamd says spam", policy=VERSION)
    there = RedeliveryRequested(added=1, rule="spamd says spam", policy=VERSION, recipients=(EVE,))
    message = after(submitted(BOB), away, there)
    assert told(message, failure(1)) == told(message, deferral(1), hours=5) == {}
    assert untold(after(message, failure(1))) == "a verdict redirected it"
    assert untold(after(downloaded(INFO), failure())) == "the client asked for no report"
    by_hand = after(
        submitted(BOB),
        RedeliveryRequested(added=1, replay="r", operator="anna", policy=VERSION, recipients=(EVE,)),
    )
    assert told(by_hand, failure(1)) == {"failure": [EVE]}


def test_inbound_mail_and_notices_of_our_own_are_never_reported_to_their_sender() -> None:
    for message in (downloaded(INFO), generated(), submitted(INFO, direction="inbound", reverse_path=BOB)):
        for event in (failure(), deferral(), taken(Delivered)):
            assert told(message, event, hours=5) == {}


def test_one_of_ours_hears_what_failed_for_others_of_ours_where_a_client_that_may_relay_handed_it_in() -> (
    None
):
    typo, ours = "typo@example.com", {"direction": "inbound", "notify": ("SUCCESS,FAILURE,DELAY",)}
    message = submitted(typo, **ours)
    assert told(message, failure()) == {"failure": [typo]}
    assert told(message, taken(Delivered)) == {"success": [typo]}
    assert told(message, deferral(), hours=5) == {}  # it would wait behind the mail that it tells of
    for forged in (submitted(typo, pushed=True, **ours), submitted(typo, reverse_path=BOB, **ours)):
        assert told(forged, failure()) == told(forged, taken(Delivered)) == {}


def test_what_a_later_report_says_is_not_reported_again() -> None:
    message = after(attempted(submitted(BOB)), taken(Relayed))
    event = failure(reason="bounced-later", report="m2")
    assert owed(after(message, event), (event,), policy(), NOON) == {}


def test_an_operator_s_decision_is_told_and_so_is_an_expiry() -> None:
    assert told(submitted(BOB), failure(reason="operator")) == {"failure": [BOB]}
    assert told(submitted(BOB), failure(reason="expired", code=None, next_hop=None)) == {"failure": [BOB]}


@pytest.mark.parametrize(("reason", "by_hand"), [("operator", True), ("rejected", False)])
def test_whether_a_person_gave_it_up_is_told_apart_from_what_a_server_refused(
    reason: str, by_hand: bool
) -> None:
    event = failure(reason=reason)
    (fate,) = owed(after(submitted(BOB), event), (event,), policy(), NOON)["failure"]
    assert fate.by_hand is by_hand


def test_too_large_for_the_next_hop_is_a_failure_of_all_that_were_left() -> None:
    event = RejectedOversize(
        size_octets=9,
        limit_octets=8,
        limit_from="next-hop",
        next_hop="smart",
        policy=VERSION,
        reply="552 5.3.4 no",
    )
    assert told(submitted(BOB, EVE), taken(Relayed, 0), event) == {"failure": [EVE]}
    (fate,) = owed(after(attempted(submitted(BOB)), event), (event,), policy(), NOON)["failure"]
    assert (fate.reply, fate.too_large) == ("552 5.3.4 no", True)


def test_a_delay_is_told_once_of_all_that_wait() -> None:
    message = submitted(BOB, EVE, notify=("", "NEVER"))
    assert told(message, deferral(0, 1), hours=3.9) == {}
    assert told(message, deferral(0, 1), hours=4) == {"delay": [BOB]}
    warned = after(message, Reported(kind="delay", report="m2"))
    assert told(warned, deferral(0, 1), hours=9) == {}


def test_an_outcome_nobody_knows_is_a_delay_too() -> None:
    assert told(submitted(BOB), deferral(unknown=True), hours=4) == {"delay": [BOB]}


def test_mail_that_waits_for_a_scanner_is_late_too_and_one_verdict_more_makes_none_late() -> None:
    waiting = scanned("error", detail="connection refused", retry_at=NOON + timedelta(days=1))
    late = after(submitted(BOB), waiting)
    then = NOON + timedelta(hours=4)
    assert [fate.reply for fate in owed(late, (waiting,), policy(), then)["delay"]] == [UNSCANNED]
    assert owed(after(late, scanned("clean")), (scanned("clean"),), policy(), then) == {}


def test_success_is_told_by_us_only_where_the_next_hop_will_not() -> None:
    message = submitted(BOB, INFO, notify=("SUCCESS", "SUCCESS"))
    assert told(message, taken(Relayed, 0), taken(Delivered, 1)) == {"success": [BOB, INFO]}
    assert told(message, taken(Relayed, 0, dsn=True), taken(Delivered, 1, dsn=True)) == {}


def test_success_inside_the_house_is_told_to_whoever_is_inside() -> None:
    inside = submitted(INFO, direction="inbound", notify=("SUCCESS",))
    outside = submitted(INFO, direction="inbound", notify=("SUCCESS",), reverse_path=BOB)
    assert told(inside, taken(Delivered)) == {"success": [INFO]}
    assert told(outside, taken(Delivered)) == {}


def test_a_recipient_whose_address_was_erased_is_named_to_nobody() -> None:
    assert told(submitted("", EVE), failure(0, 1)) == {"failure": [EVE]}
