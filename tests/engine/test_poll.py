"""One poll of a mailbox: what is retrieved, what is never retrieved again, and who gets it."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from functools import partial

import pytest

from engine.core.listing import RESET_VANISHED, Removal
from engine.core.routing import MailboxRule
from engine.opening import digest
from store import contents, log
from store.events import Attempted, Downloaded, Held, RemovedFromSource
from store.mailbox_events import PollFailed, PollFinished, PollRecovered, UidlResetSuspected
from tests.engine.rig import INFO, PATIENCE_SECONDS, POSTMASTER, Rig, mail
from tests.engine.situations import MULTIDROP, SALES, adopt, box, nameless

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
        await rig.settled()


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


async def test_a_poll_that_is_cancelled_ends_when_all_that_it_has_retrieved_is_on_record_with_its_octets(
    database_url: str,
) -> None:
    octets = [mail(n, 3 << 20) for n in range(6)]  # a commit each
    written = threading.Event()
    async with Rig(database_url, works=False) as rig:
        rig.put(*octets)
        first = rig.provider.fault("retr", "stall")
        polled = asyncio.create_task(rig.poll())
        await rig.until(lambda: first.stalled)
        blocked = rig.journal.call(lambda _: written.wait(PATIENCE_SECONDS))
        first.release()
        await rig.until(lambda: rig.journal.submitted == len(octets))
        polled.cancel()
        await asyncio.wait([polled], timeout=0.1)
        written.set()
        with pytest.raises(asyncio.CancelledError):
            await polled
        assert await blocked
        assert len(rig.events(Downloaded)) == len(octets)
        found = [rig.read_now(partial(contents.get, message=message)) for message in rig.messages()]
        assert sorted(found) == sorted(octets)


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


# -- who gets it


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
    async with Rig(database_url, budget_octets=10_000, delivers_meanwhile=True) as rig:
        rig.put(*octets)
        await rig.poll()
        await rig.settled()
        assert Counter(rig.delivered()) == Counter(octets)


async def test_large_messages_of_several_mailboxes_that_fill_the_budget_all_get_through(
    database_url: str,
) -> None:
    octets = {name: [mail(n, 1_500_000, header=f"X-Box: {name}\r\n") for n in range(2)] for name in "abcde"}
    async with Rig(
        database_url,
        mailboxes={name: {"rule": MailboxRule(recipients=(INFO,))} for name in octets},
        budget_octets=2_500_000,
        connections_per_host=5,
        delivers_meanwhile=True,
    ) as rig:
        for name, ones in octets.items():
            rig.put(*ones, user=name)
        assert all(await asyncio.gather(*(rig.poll(name) for name in octets)))
        await rig.settled()
        assert Counter(rig.delivered()) == Counter(one for ones in octets.values() for one in ones)


@pytest.mark.parametrize("listed_octets", [1, 40_000])
async def test_messages_larger_than_listed_wait_for_the_store_when_there_is_no_room_for_them(
    database_url: str, listed_octets: int
) -> None:
    size_octets, total_octets = 60_000, 1 << 20
    octets = [mail(n, size_octets) for n in range(60)]
    written = threading.Event()
    async with Rig(database_url, budget_octets=total_octets, works=False) as rig:
        rig.put(*octets)
        rig.provider.fault("list", "lie-size", octets=listed_octets)
        first = rig.provider.fault("retr", "stall")
        polled = asyncio.create_task(rig.poll())
        await rig.until(lambda: first.stalled)
        blocked = rig.journal.call(lambda _: written.wait(PATIENCE_SECONDS))
        first.release()
        await rig.until(lambda: rig.budget.overdrawn)
        await asyncio.sleep(0.1)  # nothing more is to come
        assert rig.budget.used_octets < total_octets + 2 * size_octets
        written.set()
        assert await blocked
        assert await polled
        assert len(rig.events(Downloaded)) == len(octets)


async def test_the_budget_is_given_back_when_a_session_breaks(database_url: str) -> None:
    async with Rig(database_url, budget_octets=3_000, delivers_meanwhile=True) as rig:
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
        assert rig.message().content == await digest(mail(1))
        assert len(rig.events(Attempted)) == 1
