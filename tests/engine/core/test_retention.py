"""What its age does to a message."""

from __future__ import annotations

from datetime import timedelta

import pytest
from msgspec.structs import replace

from engine.core.policy import Retention
from engine.core.retention import outdated, written
from store.events import (
    ContentsPurged,
    Delivered,
    Discarded,
    Failed,
    Kept,
    KeptNoLonger,
    MessageEvent,
    Quarantined,
    Released,
)
from store.life import Message, evolve
from tests.engine.core.lives import INFO, NOON, SALES, VERSION, downloaded, policy

POLICY = policy(retention=Retention(contents=timedelta(days=30), quarantined=timedelta(days=7)))
WEEK = NOON + timedelta(days=7)
MONTH = NOON + timedelta(days=30)
TICK = timedelta(microseconds=1)


def after(message: Message, *events: MessageEvent) -> Message:
    for event in events:
        message = evolve(message, message.id, event, NOON)
    return message


def quarantined(*numbers: int) -> Quarantined:
    return Quarantined(reason="infected", rule="clamd found Eicar", numbers=numbers, policy=VERSION)


def delivered(*numbers: int) -> Delivered:
    return Delivered(
        numbers=numbers, next_hop="home", attempt=1, address="", tls="none", code=250, duration_ms=1
    )


def failed(*numbers: int) -> Failed:
    return Failed(numbers=numbers, reason="rejected", next_hop="home", attempt=1, code=550, policy=VERSION)


@pytest.mark.parametrize("fate", [delivered(0), failed(0), Discarded(numbers=(0,), policy=VERSION)])
def test_the_octets_of_what_is_closed_are_dropped_when_their_time_is_over(fate: MessageEvent) -> None:
    closed = after(downloaded(INFO), fate)
    assert outdated(closed, POLICY, MONTH - TICK) == ()
    purged = ContentsPurged(reason="retention.contents: 30d", policy=VERSION)
    assert outdated(closed, POLICY, MONTH) == (purged,)
    assert outdated(after(closed, purged), POLICY, MONTH) == ()
    never_here = replace(closed, content=None)
    assert outdated(never_here, POLICY, MONTH) == ()


def test_what_is_open_and_not_in_quarantine_is_left_alone_whatever_its_age() -> None:
    assert outdated(downloaded(INFO), POLICY, MONTH) == ()
    released = after(downloaded(INFO), quarantined(), Released(operator="anna", policy=VERSION))
    assert outdated(released, POLICY, MONTH) == ()


def test_who_is_in_quarantine_for_too_long_is_discarded_and_the_octets_go_with_it() -> None:
    kept = after(downloaded(INFO, SALES), quarantined())
    assert outdated(kept, POLICY, WEEK - TICK) == ()
    discarded, purged = outdated(kept, POLICY, WEEK)
    rule = "retention.quarantined: 7d"
    assert discarded == Discarded(numbers=(0, 1), rule=rule, policy=VERSION, recipients=(INFO, SALES))
    assert purged == ContentsPurged(reason=rule, policy=VERSION)
    gone = after(kept, discarded, purged)
    assert (gone.state, gone.open, gone.kept) == ("discarded", False, False)


def test_what_somebody_has_or_is_to_get_is_kept_like_any_other_message() -> None:
    part = after(downloaded(INFO, SALES), quarantined(1))
    (discarded,) = outdated(part, POLICY, WEEK)
    assert isinstance(discarded, Discarded)
    assert discarded.numbers == (1,)
    had = after(part, delivered(0))
    assert outdated(had, POLICY, WEEK) == (discarded,)
    assert outdated(after(had, discarded), POLICY, MONTH - TICK) == ()
    assert outdated(after(had, discarded), POLICY, MONTH) != ()


def test_who_was_in_quarantine_twice_stays_from_the_last_time_on() -> None:
    twice = evolve(after(downloaded(INFO), quarantined()), "message-1", quarantined(), WEEK)
    assert outdated(twice, POLICY, WEEK + timedelta(days=6)) == ()
    assert outdated(twice, POLICY, WEEK + timedelta(days=7)) != ()


@pytest.mark.parametrize("event", [delivered(0), quarantined(0)])
def test_what_a_person_keeps_stays_whatever_its_age(event: MessageEvent) -> None:
    kept = after(downloaded(INFO), event, Kept(operator="anna", policy=VERSION, reason="case 7"))
    assert outdated(kept, POLICY, MONTH) == ()
    ended = after(kept, KeptNoLonger(operator="anna", policy=VERSION))
    assert outdated(ended, POLICY, MONTH) == outdated(after(downloaded(INFO), event), POLICY, MONTH) != ()


@pytest.mark.parametrize(
    ("span", "text"),
    [
        (timedelta(days=30), "30d"),
        (timedelta(hours=36), "36h"),
        (timedelta(minutes=90), "90m"),
        (timedelta(seconds=61), "61s"),
        (timedelta(0), "0s"),
    ],
)
def test_durations_are_written_as_in_a_configuration(span: timedelta, text: str) -> None:
    assert written(span) == text
