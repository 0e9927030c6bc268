"""What verdicts make of a message: whom it waits for, and until when."""

from __future__ import annotations

from typing import Any

import pytest

from store.events import (
    Event,
    Held,
    Quarantined,
    RedeliveryRequested,
    Released,
    Scanned,
)
from store.life import Message, fold
from tests.store.build import NOW, POLICY, after, attempted, deferred, delivered, downloaded

LATER = after(minutes=9)
RELEASED = Released(bound_for="home", operator="anna", policy=POLICY)
KEPT = Quarantined(reason="infected", rule="clamd found it", scanner="clamd", policy=POLICY)


def said(verdict: Any = "clean", scanner: str = "clamd", **facts: Any) -> Scanned:
    return Scanned(scanner=scanner, verdict=verdict, duration_ms=1, policy=POLICY, **facts)


def waits(scanner: str = "clamd", **facts: Any) -> Scanned:
    return said("error", scanner, retry_at=LATER, blame="scanner", detail="connection refused", **facts)


def message(*events: Event) -> Message:
    opening = downloaded(recipients=("a@example.com", "b@example.com"), next_hop="home")
    found = fold("m1", [(event, after(seconds=n)) for n, event in enumerate((opening, *events))])
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("events", "lane", "due_at", "state"),
    [
        ((), "home", NOW, "received"),
        ((said(),), "home", NOW, "received"),
        ((waits(),), "scan:clamd", LATER, "deferred"),
        ((waits(), said()), "home", LATER, "deferred"),
        ((waits(), waits("spamd"), said()), "scan:spamd", LATER, "deferred"),
        ((waits(), deferred(0, 1, retry_at=LATER)), "home", LATER, "deferred"),
        ((waits(), attempted(0, 1)), "home", after(seconds=2), "outcome-unknown"),
        ((waits(), KEPT), "", None, "quarantined"),
        ((waits(), KEPT, RELEASED), "now:home", NOW, "received"),
        ((said("error", blame="scanner"),), "home", NOW, "received"),
        ((said("infected", late=True),), "home", NOW, "received"),
    ],
)
def test_whom_it_waits_for(events: tuple[Event, ...], lane: str, due_at: object, state: str) -> None:
    found = message(*events)
    assert found.state == state
    assert found.due_at == due_at
    if due_at is not None:
        assert found.lane == lane


def test_it_tells_what_the_scanner_said_when_it_could_not_be_asked() -> None:
    assert {r.reply for r in message(waits()).recipients} == {"clamd: connection refused"}


def test_a_scanner_that_is_down_keeps_nobody_from_a_fate_nor_lets_go_who_is_held() -> None:
    held = Held(why="operator", rule="by hand", operator="anna", numbers=(1,), policy=POLICY)
    found = message(attempted(0), delivered(0), held, waits())
    assert [r.state for r in found.recipients] == ["delivered", "held"]
    assert found.due_at is None


def test_an_outcome_nobody_knows_stays_in_sight_and_waits() -> None:
    found = message(attempted(0, 1), deferred(0, 1, unknown=True, retry_at=NOW), waits())
    assert {(r.state, r.retry_at) for r in found.recipients} == {("outcome-unknown", LATER)}
    in_flight = message(attempted(0, 1), waits())
    assert all(r.in_flight for r in in_flight.recipients)


def test_how_often_it_broke_adds_up_until_the_scanner_answers() -> None:
    broke = said("error", retry_at=LATER, blame="message")
    (finding,) = message(broke, waits(), broke).findings
    assert (finding.killed, finding.settled, finding.awaited) == (2, False, True)
    (finding,) = message(broke, said()).findings
    assert (finding.verdict, finding.settled, finding.awaited) == ("clean", True, False)


def test_the_last_word_counts_in_the_order_in_which_they_first_spoke() -> None:
    found = message(said("clean", "a"), said("spam", "b", score=7.0), said("infected", "a", signature="V"))
    assert [(f.scanner, f.verdict, f.signature) for f in found.findings] == [
        ("a", "infected", "V"),
        ("b", "spam", None),
    ]


def test_what_was_forgiven_stays_forgiven_for_the_same_verdict_only() -> None:
    virus = said("infected", signature="V")
    released = message(virus, KEPT, RELEASED)
    assert all(f.forgiven for f in released.findings)
    assert all(f.forgiven for f in message(virus, KEPT, RELEASED, virus).findings)
    assert not any(f.forgiven for f in message(virus, KEPT, RELEASED, said("infected")).findings)
    held = Held(why="operator", rule="by hand", operator="anna", policy=POLICY)
    assert not any(f.forgiven for f in message(virus, held, RELEASED).findings)


def test_a_request_to_deliver_again_does_not_go_past_a_scanner() -> None:
    again = RedeliveryRequested(added=1, operator="anna", policy=POLICY, recipients=("c@example.com",))
    found = message(waits(), again)
    assert found.lane == "scan:clamd"
