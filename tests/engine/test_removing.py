"""What is removed from a mailbox, when, and when a removal counts."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Literal

import pytest

from engine.core.listing import NAMED, RESET_VANISHED, Removal
from store.errors import StoreError
from store.events import Downloaded, RemovedFromSource
from store.mailbox_events import MarkedAsDeleted, PollFailed, PollFinished, UidlResetSuspected
from tests.engine.rig import INFO, Rig, mail
from tests.engine.situations import adopt, box, nameless, refusing
from tests.peers.pop3d import Pop3Peer


async def test_nothing_is_removed_before_the_home_server_has_it(database_url: str) -> None:
    async with Rig(database_url) as rig:
        rig.home.fault("dot", "reply", code=451, times=None)
        rig.put(mail(1))
        await rig.through()
        assert rig.provider.said("DELE") == []
        rig.home.heal()
        rig.clock.later(minutes=6)
        await rig.settled()
        await rig.poll()
        assert rig.provider.uidls("info") == []


async def test_what_failed_stays_in_the_mailbox(database_url: str) -> None:
    async with Rig(database_url) as rig:
        rig.home.fault("rcpt", "reply", matching=INFO, code=550, times=None)
        rig.put(mail(1))
        await rig.through()
        assert rig.provider.said("DELE") == []


async def test_remove_downloaded_removes_in_the_same_session(database_url: str) -> None:
    async with Rig(database_url, mailboxes=box(removal=Removal(when="downloaded")), works=False) as rig:
        rig.put(mail(1), mail(2))
        await rig.poll()
        assert rig.provider.uidls("info") == []
        assert len(rig.provider.sessions) == 1


async def test_remove_never_removes_nothing_and_retrieves_nothing_twice(database_url: str) -> None:
    async with Rig(database_url, mailboxes=box(removal=Removal(when="never"))) as rig:
        rig.put(mail(1), mail(2))
        await rig.through()
        await rig.poll()
        assert rig.provider.said("DELE") == []
        assert len(rig.provider.said("RETR")) == 2


async def test_remove_after_two_weeks_waits_two_weeks(database_url: str) -> None:
    removal = Removal(when="after", after=timedelta(days=14))
    async with Rig(database_url, mailboxes=box(removal=removal)) as rig:
        rig.put(mail(1))
        await rig.through()
        rig.clock.later(days=13, hours=23)
        await rig.poll()
        assert rig.provider.said("DELE") == []
        rig.clock.later(hours=1)
        await rig.poll()
        assert rig.provider.uidls("info") == []


async def test_a_removal_that_the_server_refuses_is_not_taken_for_done(database_url: str) -> None:
    async with Rig(database_url) as rig:
        first, second = rig.put(mail(1), mail(2))
        rig.provider.fault("dele", "err", number=1)
        await rig.through()
        assert rig.provider.uidls("info") == [first]
        assert [message.removed for message in rig.messages()] == [False, True]
        await rig.poll()
        assert rig.provider.uidls("info") == []
        assert second not in rig.provider.uidls("info")


async def test_what_the_server_refuses_to_delete_is_named_once_and_until_it_is_deleted(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with Rig(database_url) as rig:
        first = rig.put(mail(1), mail(2))[0]
        fault = rig.provider.fault("dele", "err", text="[SYS/PERM] read-only", number=1, times=None)
        await rig.poll()
        await rig.settled()
        since = rig.clock()
        for _ in range(3):
            assert await rig.poll()
            rig.clock.later(minutes=1)
        assert rig.provider.uidls("info") == [first]
        (one,) = rig.mailbox().undeleted
        kept = next(message for message in rig.messages() if message.uidl == first)
        assert (one.message, one.uidl, one.text, one.since) == (kept.id, first, "[SYS/PERM] read-only", since)
        said = [record.message for record in caplog.records if "delete" in record.message]
        assert said == [
            f"mailbox info: the server refuses to delete a message (UIDL {first}, {len(mail(1))} octets): "
            "[SYS/PERM] read-only"
        ]
        assert [len(event.marked) for event in rig.events(MarkedAsDeleted)] == [1]
        fault.times = 0
        await rig.poll()
        assert rig.provider.uidls("info") == []
        assert rig.mailbox().undeleted == ()
        assert len(rig.events(PollFinished)) == 1


async def test_of_very_many_that_are_not_deleted_some_are_named(database_url: str) -> None:
    async with Rig(database_url) as rig:
        rig.put(*(mail(n) for n in range(NAMED + 3)))
        rig.provider.fault("dele", "err", times=None)
        await rig.through()
        mailbox = rig.mailbox()
        assert (len(mailbox.undeleted), mailbox.more_undeleted) == (NAMED, 3)
        await rig.poll()
        assert len(rig.events(MarkedAsDeleted)) == 1


async def test_a_quit_that_the_server_refuses_is_told_in_its_words(database_url: str) -> None:
    async with Rig(database_url) as rig:
        rig.put(mail(1))
        await rig.poll()
        await rig.settled()
        rig.provider.fault("quit", "err", text="some deleted messages not removed")
        assert not await rig.poll()
        (failed,) = rig.events(PollFailed)
        assert failed.kind == "protocol"
        assert failed.text == (
            "the server refused QUIT: some deleted messages not removed: "
            "nothing is taken as deleted until the next listing tells"
        )
        assert not rig.message().removed
        await rig.poll()
        assert rig.message().removed


async def test_a_poll_that_only_removes_found_nothing(database_url: str) -> None:
    async with Rig(database_url) as rig:
        rig.put(mail(1), mail(2))
        await rig.through()
        assert rig.provider.uidls("info") == []
        (event,) = rig.events(PollFinished)
        assert event.downloaded == 2
        (marks,) = rig.events(MarkedAsDeleted)
        assert set(marks.marked) == {message.id for message in rig.messages()}


async def test_to_remove_only_retrieves_nothing(database_url: str) -> None:
    async with Rig(database_url) as rig:
        rig.put(mail(1))
        await rig.poll()
        await rig.settled()
        (later,) = rig.put(mail(2))
        await rig.poll(retrieve=False)
        assert rig.provider.uidls("info") == [later]
        assert len(rig.provider.said("RETR")) == 1


async def test_a_quit_undone_removes_later_what_its_octets_prove_and_delivers_nothing_again(
    database_url: str,
) -> None:
    async with Rig(database_url) as rig:
        rig.home.fault("rcpt", "reply", matching=INFO, code=550, times=1)  # one stays: it is in no doubt
        (kept,) = rig.put(mail(3))
        await rig.through()
        rig.put(mail(1), mail(2))
        await rig.poll()
        await rig.settled()
        rig.provider.fault("quit", "drop-undone")
        assert not await rig.poll()
        assert not any(message.removed for message in rig.messages())
        assert await rig.poll()
        assert rig.provider.uidls("info") == [kept]
        assert len(rig.provider.retrievals()) == 1 + 2 + 2
        assert len(rig.delivered()) == 2
        assert sum(message.removed for message in rig.messages()) == 2


async def test_what_stays_in_doubt_is_retrieved_once_more_and_not_at_each_poll(database_url: str) -> None:
    async with Rig(database_url) as rig:
        rig.put(mail(1))
        await rig.poll()
        await rig.settled()
        rig.provider.fault("quit", "drop-undone")
        assert not await rig.poll()
        await rig.restart(boxes=box(removal=Removal(when="never")))
        for _ in range(3):
            assert await rig.poll()
        assert len(rig.provider.retrievals()) == 2
        assert rig.mailbox().marked == ()
        assert len(rig.home.ledger) == 1


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("when", ["delivered", "downloaded"])
async def test_another_message_of_the_same_uidl_and_size_is_not_deleted_unread_after_a_quit_without_an_answer(
    database_url: str, restarts: bool, when: Literal["delivered", "downloaded"]
) -> None:
    first, second = mail(1, 600), mail(2, 600)
    async with Rig(database_url, mailboxes=box(removal=Removal(when=when))) as rig:
        rig.put(first, uidl="1")
        rig.provider.fault("quit", "drop-committed", times=None)
        await rig.through()
        assert rig.provider.uidls("info") == []
        rig.provider.heal()
        if restarts:
            await rig.restart()
        rig.put(second, uidl="1")
        rig.provider.fault("retr", "err")
        assert await rig.poll()
        assert rig.provider.uidls("info") == ["1"]
        await rig.through()
        assert Counter(rig.delivered()) == Counter([first, second])
        assert rig.provider.uidls("info") == []
        await rig.poll()
        assert all(message.removed for message in rig.messages())


async def test_a_store_that_fails_after_quit_leaves_its_deletions_in_doubt(database_url: str) -> None:
    first, second = mail(1, 600), mail(2, 600)
    async with Rig(database_url) as rig:
        rig.put(first, uidl="1")
        await rig.poll()
        await rig.settled()
        with refusing(rig, "removed-from-source"), pytest.raises(StoreError):
            await rig.poll()
        assert rig.provider.uidls("info") == []
        rig.put(second, uidl="1")
        await rig.through()
        assert Counter(rig.delivered()) == Counter([first, second])


async def test_as_many_new_messages_of_the_same_sizes_after_a_quit_without_an_answer_are_no_reset(
    database_url: str,
) -> None:
    octets = [mail(n, 600) for n in range(2 * RESET_VANISHED)]
    async with Rig(database_url) as rig:
        rig.put(*octets[:RESET_VANISHED])
        await rig.poll()
        await rig.settled()
        rig.provider.fault("quit", "drop-committed")
        assert not await rig.poll()
        rig.put(*octets[RESET_VANISHED:])
        await rig.through()
        assert rig.events(UidlResetSuspected) == []
        assert Counter(rig.delivered()) == Counter(octets)
        assert rig.provider.uidls("info") == []


async def test_a_quit_committed_without_an_answer_is_learnt_from_the_next_listing(database_url: str) -> None:
    async with Rig(database_url) as rig:
        rig.put(mail(1))
        await rig.poll()
        await rig.settled()
        rig.provider.fault("quit", "drop-committed")
        assert not await rig.poll()
        assert not rig.message().removed
        await rig.poll()
        assert rig.message().removed
        assert [event.confirmed_by for event in rig.events(RemovedFromSource)] == ["listing"]
        assert len(rig.home.ledger) == 1


async def test_a_message_that_always_breaks_the_session_does_not_keep_the_others_from_being_removed(
    database_url: str,
) -> None:
    async with Rig(database_url) as rig:
        bad, *_ = rig.put(*(mail(n) for n in range(5)))
        rig.provider.fault("retr", "drop-mid", matching=bad, times=None)
        for _ in range(4):
            await rig.poll()
            await rig.settled()
        assert rig.provider.uidls("info") == [bad]


async def test_a_message_already_marked_by_somebody_else_is_not_a_reason_to_stop(database_url: str) -> None:
    async with Rig(database_url, provider=Pop3Peer(without={"PIPELINING"})) as rig:
        rig.put(*(mail(n) for n in range(4)))
        rig.provider.fault("retr", "err", number=1, text="message has vanished", times=None)
        assert await rig.poll()
        assert len(rig.events(Downloaded)) == 3
        await rig.settled()


async def test_without_uidl_a_message_not_retrieved_is_never_removed(database_url: str) -> None:
    boxes = box(removal=Removal(when="downloaded"))
    async with Rig(database_url, provider=nameless(), mailboxes=boxes) as rig:
        rig.put(mail(1), mail(2))
        rig.provider.fault("quit", "drop-committed")
        await rig.poll()
        late = rig.put(mail(3), mail(4))
        await rig.poll(retrieve=False)
        assert rig.provider.uidls("info") == late


async def test_without_uidl_a_refused_message_stays_and_the_others_leave(database_url: str) -> None:
    boxes = box(removal=Removal(when="downloaded"))
    async with Rig(database_url, provider=nameless(), mailboxes=boxes) as rig:
        _, refused, _ = rig.put(mail(1), mail(2), mail(3))
        rig.provider.fault("retr", "err", number=2)
        await rig.poll()
        assert rig.provider.uidls("info") == [refused]
        await rig.poll()
        await rig.settled()
        assert Counter(rig.delivered()) == Counter([mail(1), mail(2), mail(3)])


async def test_what_was_adopted_is_never_removed(database_url: str) -> None:
    async with Rig(database_url, mailboxes=box(removal=Removal(when="downloaded", oversize=True))) as rig:
        (kept,) = rig.put(mail(1))
        await adopt(rig)
        rig.put(mail(2))
        await rig.through()
        assert rig.provider.uidls("info") == [kept]
        assert len(rig.home.ledger) == 1


async def test_what_was_adopted_is_still_adopted_after_an_empty_listing(database_url: str) -> None:
    async with Rig(database_url) as rig:
        rig.put(mail(1), mail(2))
        await adopt(rig)
        listed = rig.provider.mailboxes["info"].messages
        kept = list(listed)
        listed.clear()
        await rig.through()
        listed[:] = kept
        await rig.through()
        assert rig.provider.said("RETR") == rig.provider.said("DELE") == []
        listed.pop(0)
        await rig.poll()
        assert [event.uidl for event in rig.events(RemovedFromSource)] == [kept[0].uidl]


@pytest.mark.parametrize("sizes", [(600,) * 5, (600, 700, 800, 900, 1_000)])
@pytest.mark.parametrize("when", ["delivered", "downloaded"])
async def test_where_each_answer_came_for_the_message_before_none_is_deleted_unread(
    database_url: str, sizes: tuple[int, ...], when: Literal["delivered", "downloaded"]
) -> None:
    octets = [mail(n, size) for n, size in enumerate(sizes)]
    async with Rig(database_url, mailboxes=box(removal=Removal(when=when))) as rig:
        rig.put(*octets)
        rig.provider.fault("retr", "err-first", number=2)
        assert not await rig.poll()
        assert len(rig.messages()) == 1  # nothing that came behind: a crash here would lose nothing
        await rig.settled()
        assert await rig.poll(retrieve=False)
        assert len(rig.provider.uidls("info")) == 4  # all but the first one, which came in its turn
        await rig.through()
        assert Counter(rig.delivered()) == Counter(octets)
        assert rig.provider.uidls("info") == []
        await rig.poll()
        assert all(message.removed for message in rig.messages())


async def test_a_refused_message_alone_puts_none_in_doubt(database_url: str) -> None:
    async with Rig(database_url) as rig:
        _, refused, _ = rig.put(mail(1), mail(2), mail(3))
        rig.provider.fault("retr", "err", number=2, times=None)
        await rig.through()
        assert rig.provider.uidls("info") == [refused]
        assert rig.provider.retrievals().count(refused) == 0
        assert len(rig.provider.retrievals()) == 2


@pytest.mark.parametrize("sizes", [(600,) * 5, (600, 700, 800, 900, 1_000)])
async def test_answers_out_of_turn_in_a_session_that_is_lost_delete_nothing_unread(
    database_url: str, sizes: tuple[int, ...]
) -> None:
    octets = [mail(n, size) for n, size in enumerate(sizes)]
    async with Rig(database_url) as rig:
        rig.put(*octets)
        rig.provider.fault("retr", "err-first", number=2)
        rig.provider.fault("retr", "drop", number=5)
        assert not await rig.poll()
        await rig.through()
        await rig.through()
        assert Counter(rig.delivered()) == Counter(octets)
        assert rig.provider.uidls("info") == []


async def test_what_was_refused_is_asked_for_last_and_puts_nothing_in_doubt_in_a_session_that_is_lost(
    database_url: str,
) -> None:
    async with Rig(database_url) as rig:
        refused, _ = rig.put(mail(1), mail(2))
        rig.provider.fault("retr", "err", number=1, times=None)
        assert await rig.poll()
        new, lost = rig.put(mail(3), mail(4))
        rig.provider.fault("retr", "drop", matching=lost)
        assert not await rig.poll()
        assert rig.provider.retrievals().count(new) == 1
        await rig.through()
        assert rig.provider.retrievals().count(new) == 1
        assert rig.provider.uidls("info") == [refused]
