"""A message's way from the mailbox to the home server, step by step, whatever answers and breaks."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from engine import precedence
from engine.core.routing import MailboxRule, RouteRule
from engine.lives import Life
from engine.precedence import CLIENTS
from store import agenda
from store.events import Attempted, Deferred, Failed, Held
from tests.engine.rig import INFO, POSTMASTER, Rig, mail
from tests.engine.situations import DESK, SALES, TWO, TWO_HOPS, states
from tests.peers.smtpd import HomePeer


async def test_what_is_deferred_is_tried_again_at_its_time_and_not_before(database_url: str) -> None:
    async with Rig(database_url) as rig:
        rig.home.fault("dot", "reply", code=451, text="4.3.0 later")
        rig.put(mail(1))
        await rig.poll()
        await rig.settled()
        (event,) = rig.events(Deferred)
        assert states(rig) == ["deferred"]
        rig.clock.at = event.retry_at - timedelta(microseconds=1)
        await rig.settled()
        assert len(rig.events(Attempted)) == 1
        rig.clock.at = event.retry_at
        await rig.settled()
        assert states(rig) == ["delivered"]
        assert len(rig.home.ledger) == 1


async def test_what_came_and_went_while_it_looked_is_not_taken_for_the_end(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Rig(sqlite_url) as rig:
        rig.home.fault("rcpt", "reply", matching=INFO, code=550, text="5.1.1 no such user", times=None)
        looked = rig.worker._due.claimed

        async def slowly() -> list[Life]:
            monkeypatch.undo()
            found = await looked()
            rig.put(mail(1))
            await rig.poll()
            await rig.until(lambda: rig.events(Failed) and not rig.worker.lives.busy)
            return found

        monkeypatch.setattr(rig.worker._due, "claimed", slowly)
        await rig.settled()
        assert len(rig.home.taken_for(POSTMASTER)) == 1  # of what failed meanwhile


@pytest.mark.parametrize("stops", [False, True])
async def test_what_was_fetched_while_clients_went_first_is_delivered_when_they_are_through(
    sqlite_url: str, stops: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precedence, "QUIET_SECONDS", 60.0)
    octets = [mail(n) for n in range(3)]
    async with Rig(sqlite_url) as rig:
        rig.worker.precedence.note(CLIENTS)
        rig.put(*octets)
        await rig.poll()
        assert rig.home.ledger == []
        if stops:
            await rig.restart()
        rig.worker.precedence.end()
        await rig.settled()
        assert sorted(rig.delivered()) == octets


async def test_a_recipient_with_a_positive_reply_is_not_sent_to_again(database_url: str) -> None:
    async with Rig(database_url, mailboxes=TWO) as rig:
        rig.home.fault("rcpt", "reply", matching=SALES, code=450, text="4.2.1 busy")
        rig.put(mail(1))
        await rig.poll()
        await rig.settled()
        rig.clock.later(minutes=6)
        await rig.settled()
        assert [taken.recipients for taken in rig.home.ledger] == [(INFO,), (SALES,)]


async def test_recipients_beyond_the_servers_limit_follow_at_once(database_url: str) -> None:
    people = tuple(f"user{n}@example.com" for n in range(5))
    boxes = {"info": {"rule": MailboxRule(recipients=people)}}
    async with Rig(database_url, mailboxes=boxes, homes={"home": HomePeer(max_recipients=2)}) as rig:
        rig.put(mail(1))
        await rig.poll()
        await rig.settled()
        assert [taken.recipients for taken in rig.home.ledger] == [people[:2], people[2:4], people[4:]]
        assert states(rig) == ["delivered"]


async def test_several_next_hops_for_one_message_each_get_their_recipients(database_url: str) -> None:
    boxes = {"info": {"rule": MailboxRule(recipients=(INFO, DESK, SALES))}}
    homes = {"home": HomePeer(), "branch": HomePeer()}
    async with Rig(database_url, mailboxes=boxes, homes=homes, policy=TWO_HOPS) as rig:
        rig.put(mail(1))
        await rig.poll()
        await rig.settled()
        assert [taken.recipients for taken in rig.home.ledger] == [(INFO, SALES)]
        assert [taken.recipients for taken in homes["branch"].ledger] == [(DESK,)]
        assert states(rig) == ["delivered"]


async def test_an_unroutable_message_is_held_and_goes_once_there_is_a_route(database_url: str) -> None:
    async with Rig(database_url, policy={"routes": (), "domains": ("other.example",)}) as rig:
        rig.put(mail(1))
        await rig.poll()
        await rig.settled()
        assert states(rig) == ["held"]
        (event,) = rig.events(Held)
        assert (event.why, event.rule) == (
            "unroutable",
            "example.com is not an own domain and there are no routes",
        )
        assert rig.home.ledger == []


async def test_a_changed_route_applies_to_what_is_queued(database_url: str) -> None:
    homes = {"home": HomePeer(), "branch": HomePeer()}
    async with Rig(database_url, homes=homes) as rig:
        rig.home.fault("mail", "reply", code=451, times=None)
        rig.put(mail(1))
        await rig.poll()
        await rig.settled()
        rig.clock.later(minutes=6)
        await rig.restart(policy_changes={"routes": (RouteRule(next_hop="branch"),)})
        await rig.settled()
        assert len(homes["branch"].ledger) == 1
        assert states(rig) == ["delivered"]


async def test_after_five_days_a_message_fails_and_the_postmaster_is_told(database_url: str) -> None:
    async with Rig(database_url) as rig:
        rig.home.fault("rcpt", "reply", matching=INFO, code=450, text="4.2.1 busy", times=None)
        rig.put(mail(1))
        await rig.poll()
        await rig.settled()
        rig.clock.later(days=5)
        await rig.settled()
        (event,) = rig.events(Failed)
        assert event.reason == "expired"
        assert len(rig.home.taken_for(POSTMASTER)) == 1


async def test_an_unknown_outcome_is_held_where_the_policy_says_so(database_url: str) -> None:
    async with Rig(database_url, on_unknown="hold") as rig:
        rig.home.fault("dot", "commit-drop")
        rig.put(mail(1))
        await rig.poll()
        await rig.settled()
        rig.clock.later(days=30)
        await rig.settled()
        assert len(rig.home.ledger) == 1
        assert states(rig) == ["outcome-unknown"]
        (event,) = rig.events(Held)
        assert event.why == "outcome-unknown"


async def test_an_empty_message_is_delivered_like_any_other(database_url: str) -> None:
    async with Rig(database_url) as rig:
        rig.put(b"", mail(1))
        await rig.poll()
        await rig.settled()
        assert states(rig) == ["delivered", "delivered"]


async def test_draining_ends_what_is_under_way_and_gives_back_the_rest(database_url: str) -> None:
    async with Rig(database_url, connections=1) as rig:
        late = rig.home.fault("dot", "late")
        rig.put(*(mail(n) for n in range(10)))
        await rig.poll()
        await rig.home.until(lambda: rig.home.ledger)
        draining = asyncio.create_task(rig.worker.drain(30))
        await asyncio.sleep(0)
        late.release()
        await draining
        assert rig.home.ledger != []
        assert "delivered" in states(rig)
        assert rig.read_now(agenda.holders) == []
        assert "outcome-unknown" not in states(rig)
        await rig.restart()
        await rig.settled()
        assert states(rig) == ["delivered"] * 10
        assert len(rig.home.ledger) == 10


@pytest.mark.parametrize(
    "place", ["engine.worker.plan", "engine.attempts.decide", "engine.attempts.Attempted"]
)
async def test_a_fault_of_ours_in_one_message_keeps_no_other_back_and_it_goes_on_later(
    database_url: str, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def broken(*_: object, **__: object) -> None:
        monkeypatch.undo()
        raise RuntimeError("a fault of ours")

    async with Rig(database_url) as rig:
        monkeypatch.setattr(place, broken)
        rig.put(mail(1), mail(2))
        await rig.poll()
        await rig.settled()
        assert rig.read_now(agenda.holders) == []
        assert "delivered" in states(rig)
        rig.clock.later(hours=1)
        await rig.settled()
        rig.clock.later(hours=1)  # of one it is not known whether it was handed over: that is said first
        await rig.settled()
        assert states(rig) == ["delivered", "delivered"]
