"""Next hops that are there, those that are made on demand, and when the latter are forgotten."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine

import migrations
from engine import lives
from engine.adapters.smtp_next_hop import NextHopAccess, SmtpNextHop
from engine.budget import OctetBudget
from engine.core.policy import HopPolicy, Policy
from engine.hop import Hop
from engine.hops import DOWN, IDLE, DomainHop, Hops
from engine.lives import Life, Lives
from store.agenda import Lease
from store.database import open_store, reading, writing
from store.life import Message
from store.log import Append, Unit, append
from tests.engine.rig import NOON, Clock
from tests.store.build import attempted, deferred, opening, then

POLICY = Policy(version="1", hostname="gate.example.com", postmaster="p@example.com", domains=())
CUSTOMER = "mx:customer.example"


def adapter(name: str) -> SmtpNextHop:
    return SmtpNextHop(NextHopAccess(name=name, host="127.0.0.1"), "gate.example.com")


def hops(clock: Clock, *, directly: bool = True) -> Hops:
    fixed = {"home": Hop(adapter("home"), HopPolicy(), 4, clock)}
    make: Callable[[str], DomainHop] = lambda name: DomainHop(adapter(name), HopPolicy(), 4, clock)  # noqa: E731
    return Hops(fixed, make if directly else None)


def names(of: Hops) -> list[str]:
    return [hop.name for hop in of.present()]


async def test_a_domain_is_made_when_first_asked_for():
    made = hops(Clock())
    assert made.get(CUSTOMER) is None
    assert made[CUSTOMER] is made[CUSTOMER]
    assert made.get(CUSTOMER) is made[CUSTOMER]
    assert names(made) == ["home", CUSTOMER]
    assert made.shares == 2


async def test_what_is_not_configured_is_not_made():
    made = hops(Clock(), directly=False)
    assert made.shares == 1
    for name in (CUSTOMER, "branch", "mx"):
        assert not made.knows(name)
        with pytest.raises(KeyError):
            made[name]


async def test_a_domain_is_forgotten_when_nothing_was_to_do_for_a_while():
    clock = Clock()
    made = hops(clock)
    made.forget(clock())
    busy, waited_for = made["mx:busy.example"], made["mx:waited.example"]
    assert isinstance(busy, DomainHop)
    busy.servers = 1
    waited_for.queue.put_nowait(None)
    made[CUSTOMER]
    clock.at += IDLE
    made.forget(clock())
    assert names(made) == ["home", "mx:busy.example", "mx:waited.example"]


async def test_a_domain_that_is_down_is_remembered_for_longer():
    clock = Clock()
    made = hops(clock)
    made[CUSTOMER].failed(POLICY, "421 down", 0.5)
    probe_at = made[CUSTOMER].probe_at
    assert probe_at is not None
    for at, there in (
        (probe_at, True),
        (probe_at + DOWN, True),
        (probe_at + DOWN + timedelta(minutes=1), False),
    ):
        clock.at = at
        made.forget(clock())
        assert (CUSTOMER in names(made)) is there


async def test_what_the_log_says_of_domains_in_trouble_is_taken_over(sqlite_url: str):
    engine = open_store(sqlite_url)
    migrations.upgrade(engine)
    trouble = {"next_hop": CUSTOMER, "scope": "next-hop", "reply": "421 4.4.1 down", "retry_at": NOON}
    _happened(engine, opening(), attempted(next_hop=CUSTOMER), deferred(**trouble))
    for directly in (True, False):
        made = hops(Clock(), directly=directly)
        with reading(engine) as connection:
            made.remember(connection)
        assert names(made) == ["home", CUSTOMER][: 1 + directly]
        assert [(hop.failures, hop.reply) for hop in made.domains()] == [(1, "421 4.4.1 down")][:directly]
    engine.dispose()


def _happened(engine: Engine, first: Append, *events: Any) -> None:
    with writing(engine) as connection:
        assert append(connection, [Unit((first,)), Unit((then(first, *events),))]) == [None, None]


# -- what domains take of the lives


def life(number: int) -> Life:
    stream = f"m{number}"
    message = Message(id=stream, revision=0, direction="outbound", opened_at=NOON, changed_at=NOON)
    return Life(message, Lease(stream, 1))


def filled(of: Lives, name: str) -> int:
    """Give a domain as much as it may have; returns how much that was."""
    count = 0
    while of.places(name) > 0:
        of.give(life(count), name)
        count += 1
    return count


async def test_however_many_domains_are_slow_there_is_room_for_one_more(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lives, "LIVES_LIMIT", 3_000)
    work = Lives(hops(Clock()), OctetBudget(1_000))
    assert work.share() == 1_000
    took = [filled(work, f"mx:slow{n}.example") for n in range(60)]
    assert took[0] == 125  # an eighth of the share
    assert sum(took[:20]) < 1_000
    assert all(count >= 1 for count in took)
    assert work.places(CUSTOMER) >= 1
    assert work.places("home") == 1_000


async def test_what_a_domain_took_is_free_again_at_the_end():
    work = Lives(hops(Clock()), OctetBudget(1_000))
    before = work.places(CUSTOMER)
    one = life(1)
    work.begin(one)
    work.give(one, CUSTOMER)
    assert work.places(CUSTOMER) == before - 1
    assert work.room(CUSTOMER)
    work.leave(CUSTOMER)
    work.end(one)
    assert work.places(CUSTOMER) == before


async def test_there_is_room_for_a_domain_nobody_has_met_and_for_none_that_is_down():
    made = hops(Clock())
    work = Lives(made, OctetBudget(1_000))
    assert work.room(CUSTOMER)
    assert made.get(CUSTOMER) is None
    made[CUSTOMER].failed(POLICY, "421 down", 0.5)
    assert not work.room(CUSTOMER)
    assert not Lives(hops(Clock(), directly=False), OctetBudget(1_000)).room(CUSTOMER)
