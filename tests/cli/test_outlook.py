"""What comes next is said of every state, from the events alone."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from cli.outlook import outlook
from store.events import RedeliveryRequested
from store.life import Message
from tests.build import NOON, POLICY, Builder


@pytest.fixture
def builder(sqlite_url: str) -> Iterator[Builder]:
    made = Builder(sqlite_url)
    yield made
    made.close()


def at_noon(builder: Builder, stream: str, **later: float) -> str:
    message: Message = builder.message(stream)
    return outlook(message, NOON + timedelta(**later))


def test_what_just_came_in_is_handed_over(builder: Builder) -> None:
    assert at_noon(builder, builder.downloaded()) == "It is handed over as soon as a gateway runs."


def test_an_attempt_without_an_answer_is_under_way_or_was_cut_off(builder: Builder) -> None:
    stream = builder.downloaded()
    builder.attempted(stream)
    assert at_noon(builder, stream).startswith("An attempt is under way, or was cut off; ")


def test_a_deferral_is_tried_again_at_its_time_and_overdue_after(builder: Builder) -> None:
    stream = builder.downloaded()
    builder.attempted(stream)
    builder.deferred(stream, NOON + timedelta(minutes=5))
    assert at_noon(builder, stream).startswith("It is tried again at home in 5m, at ")
    late = at_noon(builder, stream, minutes=6)
    assert late.startswith("It is tried again at home as soon as a gateway runs: it has been due since ")


def test_what_was_never_tried_is_looked_at_again(builder: Builder) -> None:
    stream = builder.downloaded()
    builder.deferred(stream, NOON + timedelta(minutes=5), tried=False, code=None, scope="next-hop")
    assert at_noon(builder, stream).startswith("It is looked at again at home in 5m, at ")


def test_what_is_held_waits_for_a_person_or_for_its_time(builder: Builder) -> None:
    stream = builder.downloaded()
    builder.held(stream)
    assert at_noon(builder, stream) == "Nothing, until a person decides: it is held."
    until = builder.downloaded()
    builder.held(until, why="operator", rule="audit", until=NOON + timedelta(hours=1))
    said = "It goes on in 1h, at 2026-03-01 13:00:00, or when a person releases it."
    assert at_noon(builder, until) == said


def test_what_is_held_for_some_goes_on_for_the_others(builder: Builder) -> None:
    stream = builder.downloaded(recipients=("ann1@example.com", "ann2@example.com"))
    builder.attempted(stream)
    builder.deferred(stream, NOON + timedelta(minutes=5))
    builder.held(stream, why="operator", rule="operator", operator="anna", numbers=(1,))
    assert at_noon(builder, stream) == (
        "It is tried again at home in 5m, at 2026-03-01 12:05:00."
        " For ann2@example.com it stays until a person decides."
    )


def test_what_is_held_until_a_time_for_some_goes_on_for_them(builder: Builder) -> None:
    stream = builder.downloaded(recipients=("ann1@example.com", "ann2@example.com"))
    until = NOON + timedelta(hours=1)
    builder.held(stream, why="operator", rule="operator", operator="anna", numbers=(0,), until=until)
    builder.held(stream, why="operator", rule="operator", operator="anna", numbers=(1,))
    assert at_noon(builder, stream) == (
        "For ann1@example.com it goes on in 1h, at 2026-03-01 13:00:00, or when a person releases them."
        " For ann2@example.com it stays until a person decides."
    )


@pytest.mark.parametrize("removed", [False, True])
def test_what_is_delivered_may_still_be_in_its_mailbox(builder: Builder, removed: bool) -> None:
    stream = builder.downloaded()
    builder.attempted(stream)
    builder.delivered(stream)
    if removed:
        builder.removed(stream)
    place = (
        ", and mailbox info no longer holds it."
        if removed
        else ". Mailbox info still holds it, as far as is known."
    )
    assert at_noon(builder, stream) == f"Nothing more: it is delivered{place}"


def test_what_failed_is_not_tried_again(builder: Builder) -> None:
    stream = builder.downloaded()
    builder.attempted(stream)
    builder.failed(stream)
    assert at_noon(builder, stream).startswith(
        "Nothing more: it is not tried again for the recipients that failed"
    )


def test_a_notice_came_from_no_mailbox(builder: Builder) -> None:
    stream = builder.notice(builder.downloaded())
    builder.attempted(stream)
    builder.delivered(stream)
    assert at_noon(builder, stream) == "Nothing more: it is delivered."


def test_what_was_too_large_and_is_asked_for_again_says_where_to_look(builder: Builder) -> None:
    stream = builder.oversize()
    assert at_noon(builder, stream).startswith("Nothing more: it is too large. Mailbox info still holds it")
    builder.append(stream, RedeliveryRequested(policy=POLICY, replay="friday", operator="anna"))
    told = at_noon(builder, stream)
    assert told.startswith("It was asked for again (replay friday): what the next poll fetches, or finds too")
