"""How many messages are worked on at once, and what of the memory they take."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection

from engine import lives
from engine.budget import COPIES
from engine.core.routing import MailboxRule, RouteRule
from store import contents
from store.life import Message
from tests.engine.rig import INFO, Rig, mail
from tests.engine.situations import DESK, TWO_HOPS
from tests.peers.smtpd import HomePeer


async def test_a_slow_next_hop_fills_only_its_share_of_what_is_worked_on(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lives, "LIVES_LIMIT", 30)
    homes = {"home": HomePeer(), "branch": HomePeer()}
    boxes = {"info": {}, "desk": {"rule": MailboxRule(recipients=(DESK,))}}
    async with Rig(database_url, mailboxes=boxes, homes=homes, policy=TWO_HOPS, connections=1) as rig:
        slow = rig.home.fault("dot", "late", times=None)
        rig.put(*(mail(n) for n in range(60)))
        await rig.poll("info")
        rig.put(mail(99), user="desk")
        await rig.poll("desk")
        await homes["branch"].until(lambda: homes["branch"].ledger)
        slow.times = 0
        slow.release()
        await rig.settled()
        assert len(rig.home.ledger) == 60


async def test_messages_that_wait_for_several_slow_next_hops_fill_only_their_share(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lives, "LIVES_LIMIT", 40)
    homes = {"home": HomePeer(), "branch": HomePeer(), "third": HomePeer()}
    boxes = {
        "info": {"rule": MailboxRule(recipients=(INFO, DESK))},
        "third": {"rule": MailboxRule(recipients=("desk@third.example",))},
    }
    third = RouteRule(recipients=("*@third.example",), next_hop="third")
    policy = {"routes": (*TWO_HOPS["routes"], third)}
    async with Rig(database_url, mailboxes=boxes, homes=homes, policy=policy, connections=1) as rig:
        slow = [homes[name].fault("dot", "late", times=None) for name in ("home", "branch")]
        rig.put(*(mail(n) for n in range(60)))
        await rig.poll()
        await rig.until(lambda: rig.worker.lives.begun >= 10)
        rig.put(mail(99), user="third")
        await rig.poll("third")
        await homes["third"].until(lambda: homes["third"].ledger)
        for fault in slow:
            fault.times = 0
            fault.release()
        await rig.settled()
        assert [len(home.ledger) for home in homes.values()] == [60, 60, 1]


async def test_there_is_room_while_half_of_the_budget_is_free_and_nothing_is_drained(sqlite_url: str) -> None:
    async with Rig(sqlite_url, budget_octets=1_000) as rig:
        assert rig.worker.lives.room("home")
        rig.worker.lives.leave("home")
        share = await rig.budget.take(500)
        assert rig.worker.lives.room("home")
        rig.worker.lives.leave("home")
        more = await rig.budget.take(1)
        assert not rig.worker.lives.room("home")
        rig.budget.give_back(more)
        assert rig.worker.lives.room("home")
        rig.worker.lives.leave("home")
        rig.budget.give_back(share)
        await rig.worker.drain(0)
        assert not rig.worker.lives.room("home")


async def test_mail_without_room_in_memory_is_read_back_from_the_store(database_url: str) -> None:
    octets = [mail(n, 2_000) for n in range(8)]
    async with Rig(database_url, budget_octets=5_000, delivers_meanwhile=True) as rig:
        rig.put(*octets)
        await rig.poll()
        await rig.settled()
        assert sorted(rig.delivered()) == sorted(octets)


async def test_a_large_message_counts_more_than_once_only_while_it_is_read_back(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    octets = mail(1, 2_000_000)
    used: list[int] = []
    read_back = contents.get

    def get(connection: Connection, message: Message) -> bytes | None:
        used.append(rig.budget.used_octets)
        return read_back(connection, message)

    monkeypatch.setattr(contents, "get", get)
    async with Rig(database_url, works=False) as rig:
        rig.put(octets)
        await rig.poll()
        late = rig.home.fault("dot", "late")
        await rig.restart(works=True)
        await rig.until(lambda: rig.home.ledger)
        used.append(rig.budget.used_octets)
        late.release()
        await rig.settled()
        assert used == [COPIES * len(octets), len(octets)]
        assert rig.delivered() == [octets]
