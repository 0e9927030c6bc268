"""Retention at work: what is old loses its octets and keeps its story, and nothing else does."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select

from engine import purging
from engine.core.policy import Retention
from engine.purging import BATCH_MESSAGES, BATCH_OCTETS, Purger
from store import contents, space
from store.events import ContentsPurged, Discarded, Kept, KeptNoLonger, MessageEvent, Quarantined
from store.life import Message
from store.log import Append, Unit
from store.schema import contents as table
from tests.engine.rig import Rig, mail
from tests.engine.situations import refusing

RETENTION = {"retention": Retention(contents=timedelta(days=30), quarantined=timedelta(days=7))}


def purger(rig: Rig) -> Purger:
    return Purger(rig.means())


async def purge(rig: Rig, most: int | None = None) -> int:
    return await purger(rig).purge(most, rest=0)


async def happens(rig: Rig, message: Message, event: MessageEvent) -> None:
    await rig.journal.append(Unit((Append(message.id, message, (event,), rig.clock()),)))


async def quarantine(rig: Rig, message: Message) -> None:
    kept = Quarantined(reason="spam", rule="spamd says spam", scanner="spamd", policy=rig.policy.version)
    await happens(rig, message, kept)


def octets(rig: Rig, message: Message) -> bytes | None:
    found: bytes | None = rig.read_now(lambda c: contents.get(c, message))
    return found


def kept_count(rig: Rig) -> int:
    count: int = rig.read_now(lambda c: c.scalar(select(func.count()).select_from(table)))
    return count


async def test_what_is_closed_for_long_loses_its_octets_and_what_is_open_does_not(database_url: str) -> None:
    async with Rig(database_url, policy=RETENTION) as rig:
        rig.put(mail(1))
        await rig.through()
        rig.home.fault("rcpt", "reply", code=451, text="4.3.0 later", times=None)
        rig.put(mail(2))
        await rig.through()
        rig.clock.later(days=29)
        assert await purge(rig) == 0
        rig.clock.later(days=1)
        assert await purge(rig) == 1
        delivered, waiting = rig.messages()
        assert (delivered.kept, octets(rig, delivered)) == (False, None)
        assert octets(rig, waiting) == mail(2)
        (purged,) = rig.events(ContentsPurged)
        assert purged.reason == "retention.contents: 30d"
        assert await purge(rig) == 0


async def test_what_is_in_quarantine_for_long_is_discarded_and_its_octets_go(database_url: str) -> None:
    async with Rig(database_url, policy=RETENTION, works=False) as rig:
        rig.put(mail(1), mail(2))
        await rig.poll()
        first, second = rig.messages()
        await quarantine(rig, first)
        rig.clock.later(days=3)
        await quarantine(rig, second)
        rig.clock.later(days=4)
        assert await purge(rig) == 1
        first, second = rig.messages()
        assert (first.state, first.kept, octets(rig, first)) == ("discarded", False, None)
        assert (second.state, octets(rig, second)) == ("quarantined", mail(2))
        (discarded,) = rig.events(Discarded)
        assert (discarded.rule, discarded.operator) == ("retention.quarantined: 7d", None)


async def test_many_are_purged_in_small_batches_and_a_round_may_be_bounded(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = BATCH_MESSAGES * 2 + 5
    async with Rig(database_url, policy=RETENTION) as rig:
        rig.put(*(mail(n) for n in range(count)))
        await rig.through()
        rig.clock.later(days=30)
        assert await purge(rig, most=7) == 7
        assert kept_count(rig) == count - 7
        batches: list[int] = []
        append_by = rig.journal.append_by

        async def counted(function: Any) -> Any:
            batches.append(await append_by(function))
            return batches[-1]

        monkeypatch.setattr(rig.journal, "append_by", counted)
        assert await purge(rig) == count - 7
        assert kept_count(rig) == 0
        assert (sum(batches), max(batches)) == (count - 7, BATCH_MESSAGES)


async def test_what_a_person_keeps_stays_and_stops_nobody_else(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many that are kept are older than all that is to go: no look, however short, sees only them."""
    monkeypatch.setattr(purging, "LOOKED_AT", 3)
    async with Rig(database_url, policy=RETENTION) as rig:
        rig.put(*(mail(n) for n in range(12)))
        await rig.through()
        kept = rig.messages()[:9]
        for message in kept:
            await happens(rig, message, Kept(operator="anna", policy="p", reason="case 7"))
        rig.clock.later(days=30)
        looks: list[int] = []
        closed = contents.closed

        def counted(*asked: Any) -> Any:
            looks.append(1)
            return closed(*asked)

        monkeypatch.setattr(contents, "closed", counted)
        assert await purge(rig) == 3
        assert len(looks) <= 2  # one for what goes, one for the end
        assert kept_count(rig) == 9
        assert all(m.kept for m in rig.messages()[:9])
        last = rig.messages()[0]
        await happens(rig, last, KeptNoLonger(operator="anna", policy="p", reason="settled"))
        assert await purge(rig) == 1
        assert octets(rig, last) is None
        assert kept_count(rig) == 8


async def test_what_is_kept_in_quarantine_stays_there(database_url: str) -> None:
    async with Rig(database_url, policy=RETENTION, works=False) as rig:
        rig.put(mail(1), mail(2))
        await rig.poll()
        for message in rig.messages():
            await quarantine(rig, message)
        first, _ = rig.messages()
        await happens(rig, first, Kept(operator="anna", policy="p"))
        rig.clock.later(days=400)
        assert await purge(rig) == 1
        first, second = rig.messages()
        assert (first.state, octets(rig, first)) == ("quarantined", mail(1))
        assert (second.state, second.kept) == ("discarded", False)


async def test_who_says_keep_in_the_last_moment_is_heard(database_url: str) -> None:
    """It was found to be outdated, and is kept by the time its batch is written."""
    async with Rig(database_url, policy=RETENTION) as rig:
        rig.put(mail(1))
        await rig.through()
        rig.clock.later(days=30)
        message = rig.message()
        append_by = rig.journal.append_by

        async def kept_before(function: Any) -> Any:
            if rig.message().exempt_since is None:
                await happens(rig, message, Kept(operator="anna", policy="p"))
            return await append_by(function)

        rig.journal.append_by = kept_before  # type: ignore[method-assign]
        assert await purge(rig) == 0
        assert octets(rig, message) == mail(1)


async def test_large_ones_go_alone(database_url: str) -> None:
    async with Rig(database_url, policy=RETENTION) as rig:
        rig.put(mail(1, BATCH_OCTETS), mail(2, BATCH_OCTETS * 2), mail(3))
        await rig.through()
        rig.clock.later(days=30)
        assert await purge(rig) == 3
        assert kept_count(rig) == 0


async def test_the_file_gives_back_what_is_not_needed_soon(database_url: str) -> None:
    async with Rig(database_url, policy=RETENTION) as rig:
        rig.put(*(mail(n, BATCH_OCTETS) for n in range(8)))
        await rig.through()
        before = rig.read_now(space.space)
        rig.clock.later(days=30)
        assert await purge(rig) == 8
        after = rig.read_now(space.space)
        if before is None:  # Postgres
            assert after is None
        else:
            assert before.file_octets - after.file_octets > 5 * BATCH_OCTETS
            assert after.free_octets < BATCH_OCTETS + after.file_octets // 10


async def test_a_batch_that_the_store_refuses_drops_nothing(database_url: str) -> None:
    async with Rig(database_url, policy=RETENTION) as rig:
        rig.put(mail(1))
        await rig.through()
        rig.clock.later(days=30)
        with refusing(rig, "contents-purged"), pytest.raises(Exception, match="refus"):
            await purge(rig)
        assert octets(rig, rig.message()) == mail(1)
        assert await purge(rig) == 1
