"""What may be erased, and what happens to it before."""

from __future__ import annotations

from typing import Any

import pytest

from engine.core.erasing import RULE, Answer, Going, Request, Staying, ask
from engine.core.policy import Policy
from store.events import Discarded, Event, Held, Kept, KeptNoLonger
from store.life import Message, fold
from tests.store.build import NOW, POLICY, attempted, delivered, downloaded, failed, quarantined

PEOPLE = ("info@example.com", "sales@example.com")
HELD = Held(why="unroutable", rule="nobody is named", policy=POLICY)


def asked(*events: Event, even_open: bool = False, even_kept: bool = False, **facts: Any) -> Answer:
    message = fold("m1", ((event, NOW) for event in (downloaded(recipients=PEOPLE), *events)))
    assert isinstance(message, Message)
    policy = Policy(version="v", hostname="g", postmaster="p@example.com", domains=())
    request = Request(operator="anna", reason="so", even_open=even_open, even_kept=even_kept)
    return ask(message, request, policy, **{"worked_on": False, "facts": 3, "octets": True} | facts)


@pytest.mark.parametrize("facts", [0, 1])
@pytest.mark.parametrize("octets", [False, True])
def test_what_is_closed_is_erased_while_anything_is_left(facts: int, octets: bool) -> None:
    answer = asked(attempted(0, 1), delivered(0), failed(1), facts=facts, octets=octets)
    if facts or octets:
        assert answer == Going(facts=facts, octets=octets)
    else:
        assert answer == Staying(text="nothing personal of it is left", done=True)


@pytest.mark.parametrize(
    ("events", "numbers"),
    [
        ((), (0, 1)),
        ((attempted(0, 1), delivered(0)), (1,)),
        ((quarantined(numbers=(1,)),), (0, 1)),
        ((HELD,), (0, 1)),
    ],
)
def test_what_is_open_is_discarded_first_where_that_is_asked_for(
    events: tuple[Event, ...], numbers: tuple[int, ...]
) -> None:
    refused = asked(*events)
    assert isinstance(refused, Staying)
    assert not refused.done
    answer = asked(*events, even_open=True)
    assert answer == Going(
        facts=3,
        octets=True,
        first=(Discarded(numbers=numbers, operator="anna", rule=RULE, policy="v"),),
    )


def test_what_is_to_be_kept_is_erased_only_where_a_person_says_so_and_that_is_on_record() -> None:
    kept, closed = Kept(operator="bob", policy=POLICY, reason="case 7"), (attempted(0, 1), delivered(0, 1))
    refused = asked(*closed, kept, even_open=True)
    assert isinstance(refused, Staying)
    assert not refused.done
    assert refused.text.startswith("it is to be kept, since 2026-05-04 by bob (case 7): ")
    ended = KeptNoLonger(operator="anna", policy="v")
    assert asked(*closed, kept, even_kept=True) == Going(facts=3, octets=True, first=(ended,))
    assert asked(*closed, kept, KeptNoLonger(operator="bob", policy=POLICY)) == Going(facts=3, octets=True)
    both = asked(kept, even_open=True, even_kept=True)
    discarded = Discarded(numbers=(0, 1), operator="anna", rule=RULE, policy="v")
    assert both == Going(facts=3, octets=True, first=(ended, discarded))


@pytest.mark.parametrize("even_open", [False, True])
def test_what_is_being_handed_over_is_left_to_who_does_it(even_open: bool) -> None:
    answer = asked(attempted(0), even_open=even_open, worked_on=True)
    assert answer == Staying(text="it is just being handed over: try again when that is over")
    assert isinstance(asked(attempted(0), even_open=True), Going)
