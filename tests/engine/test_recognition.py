"""A message on record is known again by its octets, whatever its UIDL says; what is new never passes for known."""

from __future__ import annotations

from collections import Counter

import pytest

from engine.core.listing import Removal
from store import mailbox_queries
from store.mailbox_events import Adopted
from tests.engine.rig import Rig, mail
from tests.engine.situations import box, nameless

FEW = 3  # too few to look like a reset


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


async def test_a_size_that_was_listed_wrongly_once_costs_one_retrieval_more(database_url: str) -> None:
    async with Rig(database_url, mailboxes=box(removal=Removal(when="never"))) as rig:
        rig.put(*(mail(n) for n in range(FEW)))
        rig.provider.fault("list", "lie-size", octets=777, times=1)
        for _ in range(4):
            await rig.poll()
        assert len(rig.provider.retrievals()) == 2 * FEW
        present = rig.read_now(lambda c: mailbox_queries.present(c, "info"))
        assert [one.size_octets for one in present] == [len(mail(n)) for n in range(FEW)]
        await rig.settled()
        assert len(rig.home.ledger) == FEW


async def test_a_copy_that_comes_later_under_the_uidl_of_a_message_with_two_sizes_is_another_message(
    database_url: str,
) -> None:
    async with Rig(database_url, mailboxes=box(removal=Removal(when="never"))) as rig:
        rig.put(mail(1), uidl="same")
        rig.provider.fault("list", "lie-size", octets=777, times=1)
        await rig.poll()
        await rig.poll()
        rig.put(mail(1), uidl="same")
        await rig.poll()
        await rig.settled()
        assert rig.delivered() == [mail(1)] * 2


def renamed(rig: Rig, *octets: bytes) -> list[str]:
    """The server gives its messages other UIDLs."""
    rig.provider.mailboxes["info"].messages.clear()
    return [uidl for n, one in enumerate(octets) for uidl in rig.put(one, uidl=f"moved-{n}")]


@pytest.mark.parametrize("how", ["drop", "drop-mid", "err"])
async def test_a_message_under_another_uidl_is_recognised_though_the_first_session_after_that_did_not_give_it(
    database_url: str, how: str
) -> None:
    octets = [mail(n, 500 + n) for n in range(FEW)]
    async with Rig(database_url, mailboxes=box(removal=Removal(when="never"))) as rig:
        rig.put(*octets)
        await rig.poll()
        await rig.settled()
        uidls = renamed(rig, *octets)
        rig.provider.fault("retr", how, number=2)
        for _ in range(3):
            await rig.poll()
        await rig.settled()
        assert len(rig.home.ledger) == FEW
        present = rig.read_now(lambda c: mailbox_queries.present(c, "info"))
        assert sorted(one.uidl.decode() for one in present) == sorted(uidls)


@pytest.mark.parametrize("how", ["drop-mid", "err"])
async def test_a_message_that_is_never_to_be_had_keeps_none_of_another_size_on_record(
    database_url: str, how: str
) -> None:
    octets = [mail(n, 500 + n) for n in range(FEW)]
    async with Rig(database_url, mailboxes=box(removal=Removal(when="never"))) as rig:
        rig.put(*octets)
        await rig.poll()
        await rig.settled()
        rig.provider.mailboxes["info"].messages.clear()
        (bad,) = rig.put(octets[0], uidl="bad")
        fault = rig.provider.fault("retr", how, matching=bad, times=None)
        for _ in range(4):
            await rig.poll()
        (left,) = rig.read_now(lambda c: mailbox_queries.present(c, "info"))
        assert left.size_octets == len(octets[0])
        fault.times = 0
        await rig.poll()
        await rig.settled()
        assert len(rig.home.ledger) == FEW


async def test_a_session_that_only_removes_takes_nothing_for_gone_that_may_be_listed_under_another_uidl(
    database_url: str,
) -> None:
    octets = [mail(n, 500 + n) for n in range(FEW)]
    async with Rig(database_url, mailboxes=box(removal=Removal(when="never"))) as rig:
        rig.put(*octets)
        await rig.poll()
        await rig.settled()
        renamed(rig, *octets)
        await rig.poll(retrieve=False)
        await rig.poll()
        await rig.settled()
        assert len(rig.home.ledger) == FEW


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
