"""Messages that a mailbox lists and does not give: named once, as long as it is so, and not at each poll."""

from __future__ import annotations

import pytest

from engine.core.listing import NAMED, Removal
from store.events import RemovedFromSource
from store.mailbox_events import MarkedAsDeleted, PollFailed, PollFinished, Withheld
from tests.engine.rig import Rig, mail
from tests.engine.situations import box, nameless


def named(withheld: tuple[Withheld, ...]) -> list[tuple[str, bool]]:
    return [(one.uidl, one.breaks) for one in withheld]


async def test_a_message_refused_at_each_poll_is_named_once_until_it_comes(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with Rig(database_url) as rig:
        (refused,) = rig.put(mail(1))
        fault = rig.provider.fault("retr", "err", text="[SYS/PERM] unreadable", matching=refused, times=None)
        for _ in range(3):
            assert await rig.poll()
            rig.clock.later(minutes=1)
        (event,) = rig.events(PollFinished)
        assert named(event.withheld) == [(refused, False)]
        assert (event.downloaded, event.refused, event.broken) == (0, 1, False)
        (standing,) = rig.mailbox().withheld
        assert (standing.text, standing.size_octets) == ("[SYS/PERM] unreadable", len(mail(1)))
        assert rig.mailbox().last_new_at is None
        said = [record.message for record in caplog.records if refused in record.message]
        assert said == [
            f"mailbox info: the server refuses a message (UIDL {refused}, {len(mail(1))} octets): "
            "[SYS/PERM] unreadable"
        ]
        fault.times = 0
        await rig.poll()
        await rig.settled()
        assert rig.mailbox().withheld == ()
        assert len(rig.events(PollFinished)) == 2
        assert rig.delivered() == [mail(1)]


async def test_a_refusal_has_its_first_time_also_when_other_mail_comes(database_url: str) -> None:
    async with Rig(database_url) as rig:
        (refused,) = rig.put(mail(1))
        rig.provider.fault("retr", "err", matching=refused, times=None)
        first = rig.clock()
        await rig.poll()
        rig.clock.later(hours=1)
        rig.put(mail(2))
        await rig.poll()
        await rig.settled()
        (standing,) = rig.mailbox().withheld
        assert (standing.uidl, standing.since) == (refused, first)


@pytest.mark.parametrize("retrieve", [True, False])
async def test_a_refused_message_that_somebody_removed_is_named_no_more(
    database_url: str, retrieve: bool
) -> None:
    async with Rig(database_url) as rig:
        (refused,) = rig.put(mail(1))
        rig.provider.fault("retr", "err", matching=refused, times=None)
        await rig.poll()
        rig.provider.mailboxes["info"].messages.clear()
        for _ in range(2):
            await rig.poll(retrieve=retrieve)
        assert rig.mailbox().withheld == ()
        assert len(rig.events(PollFinished)) == 2


async def test_a_message_that_breaks_the_session_each_time_is_named_and_what_came_is_counted(
    database_url: str,
) -> None:
    async with Rig(database_url) as rig:
        bad, *_ = rig.put(*(mail(n) for n in range(4)))
        fault = rig.provider.fault("retr", "drop-mid", matching=bad, times=None)
        assert not await rig.poll()
        (failed,) = rig.events(PollFailed)
        assert f"UIDL {bad}" in failed.text
        assert rig.mailbox().withheld == ()  # the line may have broken at it by chance
        for _ in range(4):
            assert not await rig.poll()
        assert named(rig.mailbox().withheld) == [(bad, True)]
        assert rig.mailbox().downloaded == 3
        (event,) = rig.events(PollFinished)
        assert (event.broken, event.downloaded) == (True, 3)
        (marks,) = rig.events(MarkedAsDeleted)
        assert len(marks.marked) == 3
        assert len(rig.events(PollFailed)) == 1
        fault.times = 0
        assert await rig.poll()
        await rig.settled()
        assert rig.mailbox().withheld == ()
        assert rig.mailbox().downloaded == 4


async def test_two_messages_that_break_the_session_are_both_named_and_not_at_each_poll(
    database_url: str,
) -> None:
    async with Rig(database_url) as rig:
        one, other, _ = rig.put(*(mail(n) for n in range(3)))
        for bad in (one, other):
            rig.provider.fault("retr", "drop-mid", matching=bad, times=None)
        for _ in range(8):
            await rig.poll()
        await rig.settled()
        assert sorted(named(rig.mailbox().withheld)) == [(one, True), (other, True)]
        assert len(rig.events(PollFinished)) == 2
        assert len(rig.delivered()) == 1


async def test_a_message_that_breaks_each_session_keeps_back_none_that_broke_one_by_chance(
    database_url: str,
) -> None:
    async with Rig(database_url) as rig:
        bad, unlucky, _ = rig.put(*(mail(n) for n in range(3)))
        rig.provider.fault("retr", "drop-mid", matching=bad, times=None)
        rig.provider.fault("retr", "drop-mid", matching=unlucky)
        for _ in range(5):
            await rig.poll()
        await rig.settled()
        assert len(rig.delivered()) == 2
        assert named(rig.mailbox().withheld) == [(bad, True)]


async def test_a_line_that_breaks_anywhere_blames_no_message(database_url: str) -> None:
    async with Rig(database_url) as rig:
        uidls = rig.put(*(mail(n) for n in range(4)))
        for uidl in uidls[:3]:
            rig.provider.fault("retr", "drop-mid", matching=uidl)
        for _ in range(5):
            await rig.poll()
        await rig.settled()
        assert all(event.withheld == () for event in rig.events(PollFinished))
        assert len(rig.delivered()) == 4


async def test_what_breaks_sessions_is_tried_last_by_the_next_process_too(database_url: str) -> None:
    async with Rig(database_url) as rig:
        bad = rig.put(mail(1))[0]
        rig.provider.fault("retr", "drop-mid", matching=bad, times=None)
        for _ in range(2):
            await rig.poll()
        await rig.restart()
        late = rig.put(mail(2))[0]
        await rig.poll()
        await rig.settled()
        assert rig.provider.retrievals() == [late]
        assert named(rig.mailbox().withheld) == [(bad, True)]


async def test_without_uidl_a_refused_message_is_told_by_its_size(database_url: str) -> None:
    boxes = {"info": {"removal": Removal(when="downloaded")}}
    async with Rig(database_url, provider=nameless(), mailboxes=boxes) as rig:
        rig.put(mail(1, 5_000), mail(2))
        rig.provider.fault("retr", "err", number=1, times=None)
        for _ in range(3):
            await rig.poll()
        await rig.settled()
        (event,) = rig.events(PollFinished)
        assert [(one.uidl, one.size_octets) for one in event.withheld] == [("", len(mail(1, 5_000)))]


async def test_a_message_without_a_unique_id_is_named_once_and_the_others_come(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with Rig(database_url, mailboxes=box(removal=Removal(when="never"))) as rig:
        rig.put(mail(1), mail(2, 5_000))
        fault = rig.provider.fault("uidl", "omit", number=2, times=None)
        first = rig.clock()
        for _ in range(3):
            assert await rig.poll()
            await rig.settled()
            rig.clock.later(minutes=1)
        assert rig.delivered() == [mail(1)]
        (one,) = rig.mailbox().withheld
        assert (one.uidl, one.size_octets, one.lacks, one.since) == ("", len(mail(2, 5_000)), "uidl", first)
        event, *later = rig.events(PollFinished)
        assert (event.listed, event.downloaded, event.withheld, later) == (2, 1, (one,), [])
        said = [record.message for record in caplog.records if "unique id" in record.message]
        assert said == [
            "mailbox info: the server lists a message without a unique id (5,000 octets): it can't be fetched"
        ]
        fault.times = 0
        await rig.poll()
        await rig.settled()
        assert rig.mailbox().withheld == ()
        assert rig.delivered() == [mail(1), mail(2, 5_000)]


async def test_nothing_is_taken_for_gone_while_the_listing_is_not_whole(database_url: str) -> None:
    async with Rig(database_url, mailboxes=box(removal=Removal(when="never"))) as rig:
        rig.put(mail(1), mail(2))
        await rig.poll()
        await rig.settled()
        rig.provider.fault("uidl", "omit", number=2)
        await rig.poll()
        assert rig.events(RemovedFromSource) == []
        await rig.poll()
        assert len(rig.provider.retrievals()) == 2


async def test_of_very_many_that_are_withheld_some_are_named_and_the_others_counted(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with Rig(database_url) as rig:
        rig.put(*(mail(n) for n in range(NAMED + 5)))
        fault = rig.provider.fault("retr", "err", times=None)
        for _ in range(2):
            await rig.poll()
        mailbox = rig.mailbox()
        assert (len(mailbox.withheld), mailbox.more_withheld) == (NAMED, 5)
        assert len(rig.events(PollFinished)) == 1
        assert [record.message for record in caplog.records][-1] == "mailbox info: and 5 more"
        fault.times = 0
        await rig.poll()
        await rig.settled()
        assert rig.mailbox().withholds == 0
