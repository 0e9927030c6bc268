"""Who is told of held spam: each recipient of ours, once, however often a gateway starts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.policy import SMTP
from typing import Any

import pytest

from engine import digest
from engine.core.routing import MailboxRule
from engine.digest import Digest, last_due
from store.events import Quarantined, Released, Reported
from store.life import Message
from store.log import Append, Unit
from tests.engine.rig import INFO, NOON, Rig, mail
from tests.engine.situations import SALES

OUTSIDE = "somebody@else.example"
THREE = {"info": {"rule": MailboxRule(recipients=(INFO, SALES, OUTSIDE))}}
AT = timedelta(hours=6, minutes=30)
NEXT = NOON.replace(hour=6, minute=30) + timedelta(days=1)


async def hold(rig: Rig, message: Message, **facts: Any) -> None:
    usual = {"reason": "spam", "rule": "spamd says spam: score 9", "policy": rig.policy.version}
    kept = Quarantined(**usual | facts)
    await rig.journal.append(Unit((Append(message.id, message, (kept,), rig.clock()),)))


def made(rig: Rig) -> Digest:
    return Digest(rig.means(), at_seconds=int(AT.total_seconds()), told=rig.worker.wake)


def texts(rig: Rig, recipient: str) -> list[str]:
    taken = rig.home.taken_for(recipient)
    found = [message_from_bytes(one.octets, policy=SMTP) for one in taken if not one.reverse_path]
    return [str(one.get_content()) for one in found]


def ids(rig: Rig) -> list[str]:
    return [message.id for message in rig.messages() if message.direction == "inbound"]


async def held(rig: Rig, count: int, **facts: Any) -> list[str]:
    """So much spam for everybody, none of it delivered."""
    known = len(ids(rig))
    rig.put(*(mail(known + n) for n in range(count)))
    await rig.poll()
    for message in rig.messages():
        if message.id in ids(rig)[known:]:
            await hold(rig, message, **facts)
    return ids(rig)[known:]


async def test_each_recipient_of_ours_is_told_once_of_what_is_held(database_url: str) -> None:
    async with Rig(database_url, mailboxes=THREE, works=False) as rig:
        first, second = await held(rig, 2)
        daily = made(rig)
        assert await daily.send() == 0  # what came after today's time is for tomorrow
        rig.clock.at = NEXT
        assert await daily.send() == 4
        assert await daily.send() == 0
        assert await made(rig).send() == 0  # after a restart
        (third,) = await held(rig, 1)
        rig.clock.later(hours=23, minutes=59)
        assert await made(rig).send() == 0
        rig.clock.later(days=3)  # nobody was there at its time
        assert await made(rig).send() == 2
        await rig.restart(works=True)
        await rig.settled()
        for recipient in (INFO, SALES):
            before, after = sorted(texts(rig, recipient), key=lambda text: third in text)
            assert before.index(first) < before.index(second)
            assert third not in before
            assert third in after
            assert first not in after
        assert texts(rig, OUTSIDE) == []


async def test_only_spam_that_is_still_held_is_listed(database_url: str) -> None:
    async with Rig(database_url, works=False) as rig:
        released, kept = await held(rig, 2)
        await held(rig, 1, reason="infected")
        (refused,) = await held(rig, 1, reason="refused-as-spam")
        message = next(m for m in rig.messages() if m.id == released)
        let_go = Released(operator="anna", policy=rig.policy.version)
        await rig.journal.append(Unit((Append(released, message, (let_go,), rig.clock()),)))
        rig.clock.at = NEXT
        assert await made(rig).send() == 2
        listed = {m.id for m in rig.messages() if "digest" in m.reported}
        assert listed == {kept, refused}


async def test_who_was_told_and_gets_it_held_again_is_told_again(database_url: str) -> None:
    async with Rig(database_url, works=False) as rig:
        await held(rig, 1)
        rig.clock.at = NEXT
        assert await made(rig).send() == 1
        let_go = Released(operator="anna", policy=rig.policy.version)
        message = rig.message()
        await rig.journal.append(Unit((Append(message.id, message, (let_go,), rig.clock()),)))
        await hold(rig, rig.message())
        rig.clock.later(days=1)
        assert await made(rig).send() == 1


async def test_many_are_listed_in_several_digests_each_with_its_record(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digest, "LISTED", 3)
    monkeypatch.setattr(digest, "READ", 2)
    async with Rig(database_url, works=False) as rig:
        await held(rig, 7)
        rig.clock.at = NEXT
        assert await made(rig).send() == 7
        reports = [event.report for event in rig.events(Reported)]
        assert sorted(reports.count(one) for one in set(reports)) == [1, 3, 3]


async def test_two_gateways_tell_it_once(database_url: str) -> None:
    async with Rig(database_url, works=False) as rig:
        await held(rig, 2)
        rig.clock.at = NEXT
        one, other = made(rig), made(rig)
        held_now = await rig.read(lambda c: other._held(c, due=NEXT))
        assert await one.send() == 2
        assert await other._tell(INFO, held_now[INFO], NEXT) == 0
        assert len(rig.events(Reported)) == 2


@pytest.mark.parametrize(
    ("now", "due"),
    [
        (datetime(2026, 3, 1, 6, 30, tzinfo=UTC), datetime(2026, 3, 1, 6, 30, tzinfo=UTC)),
        (datetime(2026, 3, 1, 6, 29, 59, tzinfo=UTC), datetime(2026, 2, 28, 6, 30, tzinfo=UTC)),
        (datetime(2026, 3, 1, 23, 59, tzinfo=UTC), datetime(2026, 3, 1, 6, 30, tzinfo=UTC)),
    ],
)
def test_a_digest_is_due_once_a_day(now: datetime, due: datetime) -> None:
    assert last_due(now, AT) == due
