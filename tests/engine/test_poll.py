"""One poll of a mailbox: what is retrieved, what is never retrieved again, what is removed and when."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from engine import intake
from engine.core.listing import RESET_VANISHED, Removal
from engine.core.routing import MailboxRule
from store import log
from store.events import (
    Adopted,
    Adoption,
    Attempted,
    Downloaded,
    Held,
    PollFailed,
    PollFinished,
    PollRecovered,
    RejectedOversize,
    RemovedFromSource,
    Reported,
    UidlResetSuspected,
    mailbox_stream,
)
from store.log import Append, Unit
from tests.engine.rig import INFO, POSTMASTER, Rig, mail
from tests.peers.pop3d import Pop3Peer
from tests.peers.smtpd import HomePeer

SALES = "sales@example.com"
FEW = 3


def box(**changes: Any) -> dict[str, dict[str, Any]]:
    return {"info": changes}


def nameless() -> Pop3Peer:
    """A server without UIDL."""
    return Pop3Peer(without={"UIDL"})


async def adopt(rig: Rig, name: str = "info") -> None:
    """As the command does: everything listed is taken as seen."""
    listed = [(one.uidl, len(one.octets)) for one in rig.provider.mailboxes[name].messages]
    event = Adopted(
        mailbox=name,
        uidls=tuple(Adoption(uidl=uidl, size_octets=size) for uidl, size in listed),
        operator="anna",
        reason="moved to another server",
    )
    before = rig.mailbox(name)
    await rig.journal.append(Unit((Append(mailbox_stream(name), before, (event,), rig.clock()),)))


# -- exactly once, octet by octet


async def test_every_message_arrives_once_and_untouched_and_leaves_after_its_delivery(
    database_url: str,
) -> None:
    octets = [mail(n, 200 * n) for n in range(30)]
    async with Rig(database_url) as rig:
        uidls = rig.put(*octets)
        await rig.poll()
        assert rig.provider.deletions() == []
        await rig.settled()
        assert Counter(rig.delivered()) == Counter(octets)
        await rig.poll()
        assert rig.provider.deletions() == uidls
        assert rig.provider.uidls("info") == []
        assert [event.confirmed_by for event in rig.events(RemovedFromSource)] == ["quit"] * 30
        assert sorted(rig.provider.retrievals()) == sorted(uidls)


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


async def test_a_poll_without_news_leaves_no_event_and_writes_nothing(database_url: str) -> None:
    async with Rig(database_url, mailboxes=box(removal=Removal(when="never"))) as rig:
        rig.put(mail(1))
        await rig.through()
        position = rig.read_now(log.last_position)
        for _ in range(3):
            await rig.poll()
        assert rig.read_now(log.last_position) == position


async def test_a_poll_with_news_tells_what_it_found(database_url: str) -> None:
    async with Rig(database_url) as rig:
        rig.put(mail(1), mail(2, 1_000))
        await rig.poll()
        (event,) = rig.events(PollFinished)
        assert (event.listed, event.downloaded, event.oversize, event.refused) == (2, 2, 0, 0)
        assert event.downloaded_octets == len(mail(1)) + len(mail(2, 1_000))
        assert rig.mailbox().downloaded == 2


# -- when it is removed


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


async def test_to_remove_only_retrieves_nothing(database_url: str) -> None:
    async with Rig(database_url) as rig:
        rig.put(mail(1))
        await rig.poll()
        await rig.settled()
        (later,) = rig.put(mail(2))
        await rig.poll(retrieve=False)
        assert rig.provider.uidls("info") == [later]
        assert len(rig.provider.said("RETR")) == 1


# -- what is durable is never retrieved again


async def test_a_session_that_breaks_in_the_middle_is_gone_on_with(database_url: str) -> None:
    octets = [mail(n) for n in range(8)]
    async with Rig(database_url) as rig:
        rig.put(*octets)
        rig.provider.fault("retr", "drop", number=5)
        assert not await rig.poll()
        await rig.poll()
        assert len(rig.provider.retrievals()) == len(set(rig.provider.retrievals())) == 8
        await rig.settled()
        assert Counter(rig.delivered()) == Counter(octets)


async def test_a_quit_undone_removes_later_and_retrieves_nothing_again(database_url: str) -> None:
    async with Rig(database_url) as rig:
        rig.put(mail(1), mail(2))
        await rig.poll()
        await rig.settled()
        rig.provider.fault("quit", "drop-undone")
        assert not await rig.poll()
        assert [message.removed for message in rig.messages()] == [False, False]
        assert await rig.poll()
        assert rig.provider.uidls("info") == []
        assert len(rig.provider.retrievals()) == 2
        assert len(rig.home.ledger) == 2


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


async def test_after_a_restart_nothing_is_retrieved_or_delivered_again(database_url: str) -> None:
    async with Rig(database_url, mailboxes=box(removal=Removal(when="never"))) as rig:
        rig.put(*(mail(n) for n in range(5)))
        await rig.poll()
        await rig.restart(drain=False)
        await rig.poll()
        await rig.settled()
        assert len(rig.provider.said("RETR")) == 5
        unknown = sum(r.unknown_attempts for m in rig.messages() for r in m.recipients)
        assert len(rig.home.ledger) <= 5 + unknown


# -- one bad message


async def test_a_message_the_server_refuses_leaves_the_others_alone_and_comes_later(
    database_url: str,
) -> None:
    async with Rig(database_url) as rig:
        _, refused, _ = rig.put(mail(1), mail(2), mail(3))
        rig.provider.fault("retr", "err", number=2)
        assert await rig.poll()
        await rig.settled()
        assert sorted(rig.delivered()) == sorted([mail(1), mail(3)])
        assert rig.events(PollFinished)[0].refused == 1
        await rig.poll()
        await rig.settled()
        assert rig.provider.retrievals().count(refused) == 1
        assert sorted(rig.delivered()) == sorted([mail(1), mail(2), mail(3)])


async def test_a_message_that_breaks_the_session_comes_last_next_time(database_url: str) -> None:
    async with Rig(database_url) as rig:
        bad, *others = rig.put(*(mail(n) for n in range(5)))
        rig.provider.fault("retr", "drop-mid", matching=bad, times=2)
        assert not await rig.poll()
        assert not await rig.poll()
        assert sorted(rig.provider.retrievals()) == sorted(others)
        await rig.poll()
        await rig.settled()
        assert len(rig.home.ledger) == 5
        assert rig.provider.retrievals()[-1] == bad


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


# -- UIDLs that don't tell messages apart


async def test_two_messages_under_one_uidl_are_both_delivered_once_and_both_removed(
    database_url: str,
) -> None:
    async with Rig(database_url) as rig:
        rig.put(mail(1), uidl="same")
        rig.put(mail(2, 700), uidl="same")
        await rig.poll()
        await rig.settled()
        await rig.poll()
        assert sorted(rig.delivered()) == sorted([mail(1), mail(2, 700)])
        assert len(rig.provider.retrievals()) == 2
        assert rig.provider.uidls("info") == []


async def test_a_second_message_that_comes_later_under_a_known_uidl_is_delivered_once(
    database_url: str,
) -> None:
    async with Rig(database_url, mailboxes=box(removal=Removal(when="never"))) as rig:
        rig.put(mail(1), uidl="same")
        await rig.poll()
        rig.put(mail(2), uidl="same")
        await rig.poll()
        await rig.poll()
        await rig.settled()
        assert sorted(rig.delivered()) == sorted([mail(1), mail(2)])


async def test_a_uidl_used_again_after_its_deletion_is_a_new_message(database_url: str) -> None:
    async with Rig(database_url) as rig:
        rig.put(mail(1), uidl="1")
        await rig.through()
        rig.put(mail(2), uidl="1")
        await rig.through()
        assert sorted(rig.delivered()) == sorted([mail(1), mail(2)])
        assert rig.provider.uidls("info") == []


async def test_a_uidl_used_again_between_two_polls_is_a_new_message(database_url: str) -> None:
    async with Rig(database_url) as rig:
        rig.put(mail(1), uidl="1")
        await rig.poll()
        await rig.settled()
        rig.provider.mailboxes["info"].messages.clear()
        rig.put(mail(2, 900), uidl="1")
        await rig.through()
        await rig.poll()
        assert sorted(rig.delivered()) == sorted([mail(1), mail(2, 900)])
        assert rig.provider.uidls("info") == []
        assert [message.removed for message in rig.messages()] == [True, True]


async def test_a_uidl_used_again_after_a_quit_without_an_answer_loses_nothing(database_url: str) -> None:
    async with Rig(database_url) as rig:
        rig.put(mail(1), uidl="1")
        await rig.poll()
        await rig.settled()
        rig.provider.fault("quit", "drop-committed")
        await rig.poll()
        rig.put(mail(2, 900), uidl="1")
        await rig.through()
        assert sorted(rig.delivered()) == sorted([mail(1), mail(2, 900)])


async def test_numbers_for_uidls_lose_nothing_when_messages_move_up(database_url: str) -> None:
    async with Rig(database_url, mailboxes=box(removal=Removal(when="never"))) as rig:
        octets = [mail(n, 500 + 100 * n) for n in range(4)]
        messages = rig.provider.mailboxes["info"].messages
        for number, one in enumerate(octets[:3], 1):
            rig.put(one, uidl=str(number))
        await rig.poll()
        messages.clear()
        for number, one in enumerate(octets[1:], 1):
            rig.put(one, uidl=str(number))
        await rig.poll()
        await rig.poll()
        await rig.settled()
        assert Counter(rig.delivered()) == Counter(octets)


async def test_a_size_that_listings_disagree_on_neither_repeats_a_delivery_nor_keeps_it_from_removal(
    database_url: str,
) -> None:
    async with Rig(database_url) as rig:
        rig.put(mail(1))
        rig.provider.fault("list", "lie-size", octets=7)
        await rig.poll()
        await rig.settled()
        await rig.poll()
        assert len(rig.home.ledger) == 1
        assert rig.provider.uidls("info") == []


async def test_a_message_that_reappears_under_another_uidl_is_recognised_by_its_octets(
    database_url: str,
) -> None:
    async with Rig(database_url, mailboxes=box(removal=Removal(when="never"))) as rig:
        rig.put(*(mail(n) for n in range(FEW)))
        await rig.poll()
        await rig.settled()
        rig.provider.mailboxes["info"].messages.clear()
        for n in range(FEW):
            rig.put(mail(n), uidl=f"moved-{n}")
        for _ in range(3):
            await rig.poll()
        await rig.settled()
        assert len(rig.home.ledger) == FEW
        assert len(rig.provider.said("RETR")) == 2 * FEW
        assert [event.operator for event in rig.events(Adopted)] == ["mailgate"] * FEW


async def test_a_message_that_reappears_after_its_removal_is_recognised_and_removed_again(
    database_url: str,
) -> None:
    async with Rig(database_url) as rig:
        rig.put(mail(1), uidl="back")
        await rig.through()
        rig.put(mail(1), uidl="back")
        await rig.poll()
        await rig.poll()
        await rig.settled()
        assert len(rig.home.ledger) == 1
        assert rig.provider.uidls("info") == []


# -- UIDLs all changed


async def test_when_all_uidls_changed_nothing_is_fetched_and_it_is_said_once(database_url: str) -> None:
    async with Rig(database_url, mailboxes=box(removal=Removal(when="never"))) as rig:
        rig.put(*(mail(n, 500 + n) for n in range(RESET_VANISHED)))
        await rig.poll()
        await rig.settled()
        rig.provider.fault("uidl", "uidl-changes", times=None)
        rig.put(mail(99))
        for _ in range(3):
            assert not await rig.poll()
        assert len(rig.provider.said("RETR")) == RESET_VANISHED
        (event,) = rig.events(UidlResetSuspected)
        assert (event.listed, event.vanished, event.alike) == (
            RESET_VANISHED + 1,
            RESET_VANISHED,
            RESET_VANISHED,
        )
        assert rig.mailbox().health == "suspended"
        assert rig.events(RemovedFromSource) == []


async def test_a_person_who_adopts_the_listing_ends_the_suspension(database_url: str) -> None:
    async with Rig(database_url, mailboxes=box(removal=Removal(when="never"))) as rig:
        rig.put(*(mail(n, 500 + n) for n in range(6)))
        await rig.poll()
        await rig.settled()
        messages = rig.provider.mailboxes["info"].messages
        moved = [one.octets for one in messages]
        messages.clear()
        for number, one in enumerate(moved):
            rig.put(one, uidl=f"moved-{number}")
        assert not await rig.poll()
        await adopt(rig)
        rig.put(mail(99))
        assert await rig.poll()
        await rig.settled()
        assert rig.mailbox().health == "ok"
        assert len(rig.home.ledger) == 7
        assert len(rig.provider.said("RETR")) == 7


async def test_uidls_that_come_back_as_they_were_end_the_suspension(database_url: str) -> None:
    async with Rig(database_url, mailboxes=box(removal=Removal(when="never"))) as rig:
        rig.put(*(mail(n, 500 + n) for n in range(6)))
        await rig.poll()
        rig.provider.fault("uidl", "uidl-changes", times=1)
        assert not await rig.poll()
        assert await rig.poll()
        assert rig.mailbox().health == "ok"
        assert len(rig.events(PollRecovered)) == 1


async def test_what_was_adopted_is_never_removed(database_url: str) -> None:
    async with Rig(database_url, mailboxes=box(removal=Removal(when="downloaded", oversize=True))) as rig:
        (kept,) = rig.put(mail(1))
        await adopt(rig)
        rig.put(mail(2))
        await rig.through()
        assert rig.provider.uidls("info") == [kept]
        assert len(rig.home.ledger) == 1


async def test_a_mailbox_that_somebody_emptied_is_no_reset(database_url: str) -> None:
    async with Rig(database_url, mailboxes=box(removal=Removal(when="never"))) as rig:
        rig.put(*(mail(n, 500 + n) for n in range(8)))
        await rig.poll()
        rig.provider.mailboxes["info"].messages.clear()
        rig.put(mail(99, 5_000))
        assert await rig.poll()
        assert rig.events(UidlResetSuspected) == []
        assert len(rig.events(RemovedFromSource)) == 8
        await rig.settled()


# -- a server without UIDL


async def test_a_server_without_uidl_is_refused_with_the_remedy(database_url: str) -> None:
    async with Rig(database_url, provider=nameless()) as rig:
        rig.put(mail(1))
        assert not await rig.poll()
        (event,) = rig.events(PollFailed)
        assert (event.kind, event.permanent) == ("protocol", True)
        assert 'remove = "downloaded"' in event.text
        assert rig.provider.said("RETR") == []


async def test_a_server_without_uidl_works_where_messages_leave_at_once(database_url: str) -> None:
    boxes = box(removal=Removal(when="downloaded"))
    async with Rig(database_url, provider=nameless(), mailboxes=boxes) as rig:
        for start in (0, 3):
            rig.put(*(mail(n) for n in range(start, start + 3)))
            await rig.poll()
            assert rig.provider.uidls("info") == []
        await rig.settled()
        assert len(rig.home.ledger) == 6
        assert all(message.removed for message in rig.messages())


@pytest.mark.parametrize("action", ["drop-undone", "drop-committed"])
async def test_a_session_that_breaks_at_the_end_makes_no_duplicates_without_uidl(
    database_url: str, action: str
) -> None:
    boxes = box(removal=Removal(when="downloaded"))
    async with Rig(database_url, provider=nameless(), mailboxes=boxes) as rig:
        rig.put(*(mail(n) for n in range(3)))
        rig.provider.fault("quit", action)
        assert not await rig.poll()
        rig.put(mail(3))
        await rig.poll()
        await rig.settled()
        assert Counter(rig.delivered()) == Counter(mail(n) for n in range(4))
        assert rig.provider.uidls("info") == []


async def test_a_session_that_breaks_in_the_middle_makes_no_duplicates_without_uidl(
    database_url: str,
) -> None:
    boxes = box(removal=Removal(when="downloaded"))
    async with Rig(database_url, provider=nameless(), mailboxes=boxes) as rig:
        rig.put(*(mail(n) for n in range(4)), mail(0))
        rig.provider.fault("retr", "drop", number=3)
        assert not await rig.poll()
        await rig.poll()
        await rig.settled()
        assert Counter(rig.delivered()) == Counter([*(mail(n) for n in range(4)), mail(0)])
        assert rig.provider.uidls("info") == []


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


async def test_without_uidl_what_is_too_large_stays_and_is_told_of_once(database_url: str) -> None:
    boxes = box(removal=Removal(when="downloaded"), max_size_octets=2_000)
    async with Rig(database_url, provider=nameless(), mailboxes=boxes) as rig:
        large, _ = rig.put(mail(1, 5_000), mail(2))
        for _ in range(3):
            await rig.poll()
        await rig.settled()
        assert rig.provider.uidls("info") == [large]
        assert len(rig.events(RejectedOversize)) == 1
        assert len(rig.home.ledger) == 2


# -- too large


async def test_what_is_too_large_is_not_retrieved_and_each_recipient_is_told_once(database_url: str) -> None:
    boxes = box(rule=MailboxRule(recipients=(INFO, SALES)), max_size_octets=2_000)
    async with Rig(database_url, mailboxes=boxes) as rig:
        (uidl, _) = rig.put(mail(1, 5_000), mail(2))
        for _ in range(3):
            await rig.poll()
            await rig.settled()
        assert uidl not in rig.provider.retrievals()
        assert len(rig.provider.said("TOP")) == 1
        (event,) = rig.events(RejectedOversize)
        assert (event.size_octets, event.limit_octets, event.limit_from) == (
            len(mail(1, 5_000)),
            2_000,
            "config",
        )
        assert (event.subject, event.recipients) == ("number 1", (INFO, SALES))
        assert event.reverse_path == "sender1@elsewhere.example"
        notices = [taken for taken in rig.home.ledger if taken.reverse_path == ""]
        assert sorted(taken.recipients for taken in notices) == [(INFO,), (SALES,)]
        assert all(b"too large" in taken.octets for taken in notices)
        assert rig.provider.uidls("info") == [uidl]
        assert [event.kind for event in rig.events(Reported)] == ["oversize", "oversize"]


async def test_oversize_keep_says_nothing_and_removes_nothing(database_url: str) -> None:
    boxes = box(notify_oversize=False, max_size_octets=2_000)
    async with Rig(database_url, mailboxes=boxes) as rig:
        (uidl,) = rig.put(mail(1, 5_000))
        await rig.through()
        assert rig.home.ledger == []
        assert rig.provider.uidls("info") == [uidl]
        assert len(rig.events(RejectedOversize)) == 1


async def test_oversize_remove_deletes_it_once_its_recipient_is_told(database_url: str) -> None:
    boxes = box(removal=Removal(when="delivered", oversize=True), max_size_octets=2_000)
    async with Rig(database_url, mailboxes=boxes) as rig:
        rig.put(mail(1, 5_000))
        await rig.through()
        assert rig.provider.uidls("info") == []
        assert len(rig.home.taken_for(INFO)) == 1
        assert rig.provider.said("RETR") == []


async def test_the_limit_is_what_the_next_hop_says_where_that_is_lower(database_url: str) -> None:
    boxes = box(max_size_octets=50_000)
    async with Rig(database_url, homes={"home": HomePeer(size_octets=3_000)}, mailboxes=boxes) as rig:
        rig.put(mail(1, 5_000))
        await rig.poll()
        await rig.settled()
        (event,) = rig.events(RejectedOversize)
        assert (event.limit_octets, event.limit_from, event.next_hop) == (3_000, "next-hop", "home")


async def test_the_next_hops_configured_limit_lowers_what_it_says(database_url: str) -> None:
    async with Rig(database_url, max_size_octets=2_500) as rig:
        rig.put(mail(1, 5_000))
        await rig.poll()
        await rig.settled()
        (event,) = rig.events(RejectedOversize)
        assert (event.limit_octets, event.limit_from) == (2_500, "config")


@pytest.mark.parametrize("size_octets", [None, 0, "bare"])
async def test_a_next_hop_that_names_no_limit_gets_everything(database_url: str, size_octets: Any) -> None:
    async with Rig(database_url, homes={"home": HomePeer(size_octets=size_octets)}) as rig:
        rig.put(mail(1, 200_000))
        await rig.poll()
        await rig.settled()
        assert rig.delivered() == [mail(1, 200_000)]


async def test_a_message_of_exactly_the_limit_is_retrieved(database_url: str) -> None:
    async with Rig(database_url, mailboxes=box(max_size_octets=3_000)) as rig:
        rig.put(mail(1, 3_000), mail(2, 3_001))
        await rig.poll()
        await rig.settled()
        assert [len(octets) for octets in rig.delivered() if len(octets) == 3_000] == [3_000]
        assert len(rig.provider.said("RETR")) == 1


async def test_without_top_what_is_too_large_is_told_of_all_the_same(database_url: str) -> None:
    provider = Pop3Peer(without={"TOP"})
    async with Rig(database_url, provider=provider, mailboxes=box(max_size_octets=2_000)) as rig:
        rig.put(mail(1, 5_000))
        await rig.poll()
        await rig.settled()
        assert len(rig.home.taken_for(INFO)) == 1


# -- who gets it

MULTIDROP = MailboxRule(headers=("Delivered-To",), domains=("example.com",))


async def test_a_multi_drop_mailbox_delivers_to_whom_the_envelope_header_names(database_url: str) -> None:
    async with Rig(database_url, mailboxes=box(rule=MULTIDROP)) as rig:
        rig.put(mail(1, header=f"Delivered-To: {INFO}\r\n"), mail(2, header=f"Delivered-To: {SALES}\r\n"))
        await rig.poll()
        await rig.settled()
        assert [taken.reverse_path for taken in rig.home.taken_for(INFO)] == ["sender1@elsewhere.example"]
        assert [taken.reverse_path for taken in rig.home.taken_for(SALES)] == ["sender2@elsewhere.example"]


async def test_mail_that_names_nobody_of_ours_is_held_and_never_dropped(database_url: str) -> None:
    async with Rig(database_url, mailboxes=box(rule=MULTIDROP)) as rig:
        (uidl,) = rig.put(mail(1, header="Delivered-To: who@elsewhere.example\r\n"))
        await rig.through()
        (event,) = rig.events(Held)
        assert event.why == "unroutable"
        assert "Delivered-To names only foreign domains: elsewhere.example" in event.rule
        assert rig.message().state == "held"
        assert rig.home.ledger == []
        assert rig.provider.uidls("info") == [uidl]


async def test_mail_that_names_nobody_goes_to_the_fallback_where_there_is_one(database_url: str) -> None:
    rule = MailboxRule(headers=("Delivered-To",), domains=("example.com",), fallback=POSTMASTER)
    async with Rig(database_url, mailboxes=box(rule=rule)) as rig:
        rig.put(mail(1))
        await rig.poll()
        await rig.settled()
        assert rig.delivered(POSTMASTER) == [mail(1)]


async def test_the_postmaster_is_told_of_what_is_too_large_and_names_nobody(database_url: str) -> None:
    provider = Pop3Peer(without={"TOP"})
    boxes = box(rule=MULTIDROP, max_size_octets=2_000)
    async with Rig(database_url, provider=provider, mailboxes=boxes) as rig:
        rig.put(mail(1, 5_000, header=f"Delivered-To: {INFO}\r\n"))
        await rig.poll()
        await rig.settled()
        assert len(rig.home.taken_for(POSTMASTER)) == 1


async def test_mail_that_goes_in_circles_is_held(database_url: str) -> None:
    ours = "Received: (mailbox info) by gate.example.com (mailgate) with POP3 id {};\r\n\tSun, 1 Mar 2026\r\n"
    async with Rig(database_url) as rig:
        rig.put(mail(1, header=ours.format("one") + ours.format("two")), mail(2, header=ours.format("one")))
        await rig.poll()
        await rig.settled()
        assert [message.state for message in rig.messages()] == ["held", "delivered"]
        (event,) = rig.events(Held)
        assert event.why == "loop"


# -- memory


async def test_a_message_larger_than_the_whole_budget_goes_through_alone(database_url: str) -> None:
    octets = [mail(1), mail(2, 50_000), mail(3)]
    async with Rig(database_url, budget_octets=10_000) as rig:
        rig.put(*octets)
        await rig.poll()
        await rig.settled()
        assert Counter(rig.delivered()) == Counter(octets)


async def test_the_budget_is_given_back_when_a_session_breaks(database_url: str) -> None:
    async with Rig(database_url, budget_octets=3_000) as rig:
        rig.put(*(mail(n, 1_000) for n in range(12)))
        for _ in range(3):
            rig.provider.fault("retr", "drop-mid", after=2)
            await rig.poll()
            await rig.settled()
            assert rig.budget.used_octets == 0
        await rig.poll()
        await rig.settled()
        assert len(rig.home.ledger) == 12


async def test_a_message_is_on_record_before_it_is_attempted_and_before_it_is_removed(
    database_url: str,
) -> None:
    async with Rig(database_url) as rig:
        rig.put(mail(1))
        await rig.through()
        names = [one.event.NAME for one in rig.log() if one.stream == rig.message().id]
        assert names == ["downloaded", "attempted", "delivered", "removed-from-source"]
        assert rig.message().content == await intake.digest(mail(1))
        assert len(rig.events(Attempted)) == 1
