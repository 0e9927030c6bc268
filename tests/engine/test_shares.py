"""What a poll holds of the budget follows its messages: it grows with them, leaves with them, and none is lost."""

from __future__ import annotations

import asyncio

from engine.budget import RECORD_OCTETS, SMALL_OCTETS, OctetBudget
from engine.core.listing import Offer
from engine.shares import Share, Shares

TOTAL = 4 << 20
FIRST, SECOND = Offer(1, 1 << 20, b"a"), Offer(2, 1 << 20, b"b")


async def test_a_share_grows_with_its_message_and_leaves_with_it() -> None:
    budget = OctetBudget(TOTAL)
    shares = Shares(budget)
    await shares.admit(FIRST, 1_000)
    await shares.admit(SECOND, 2_000)
    assert budget.used_octets == 3_000 + 2 * RECORD_OCTETS
    await shares.admit(FIRST, 1 << 20)
    share = shares.held.pop(1)
    assert share == (1 << 20) + RECORD_OCTETS
    shares.release()
    assert budget.used_octets == share
    budget.give_back(share)


async def test_a_share_is_given_back_once() -> None:
    budget = OctetBudget(TOTAL)
    shares = Shares(budget)
    await shares.admit(FIRST, 1_000)
    shares.give_back(1)
    shares.give_back(1)
    shares.release()
    assert budget.used_octets == 0


async def test_a_message_that_is_larger_than_it_was_said_to_be_is_charged_as_it_is() -> None:
    budget = OctetBudget(TOTAL)
    shares = Shares(budget)
    await shares.admit(FIRST, 1)
    share = shares.settle(shares.held.pop(1), 2 * TOTAL)
    assert budget.used_octets == share == 2 * TOTAL + RECORD_OCTETS
    budget.give_back(share)
    assert budget.used_octets == 0


async def test_a_message_that_leaves_while_it_waits_for_more_leaves_with_what_it_had() -> None:
    budget = OctetBudget(TOTAL)
    shares = Shares(budget)
    await shares.admit(FIRST, 1_000)
    other = await budget.take(TOTAL // 2)
    growing = asyncio.create_task(shares.admit(FIRST, 1 << 20))
    await asyncio.sleep(0)
    assert not growing.done()
    share = shares.held.pop(1)
    budget.give_back(other)
    await growing
    assert budget.used_octets == share == 1_000 + RECORD_OCTETS
    assert shares.held == {}


async def test_a_listing_has_a_share_of_its_own() -> None:
    budget = OctetBudget(TOTAL)
    shares = Shares(budget)
    await shares.admit_listing(0)
    assert budget.used_octets == 0
    await shares.admit_listing(SMALL_OCTETS)
    await shares.admit_listing(1 << 20)
    assert budget.used_octets == 1 << 20
    shares.release()
    assert budget.used_octets == 0


async def test_a_submission_is_charged_for_what_it_is_once_it_is_whole() -> None:
    budget = OctetBudget(100 << 20)
    share = Share(budget)
    await share.reach(3 << 20)
    assert budget.used_octets >= 3 << 20
    await share.reach(4 << 20)  # within what was granted
    await share.settle(4 << 20)
    assert budget.used_octets == (4 << 20) + RECORD_OCTETS
    passed_on = share.pass_on()
    share.release()
    assert budget.used_octets == passed_on
    budget.give_back(passed_on)
    assert budget.used_octets == 0


async def test_a_small_submission_takes_its_share_when_it_is_whole() -> None:
    budget = OctetBudget(100 << 20)
    share = Share(budget)
    await share.settle(4096)
    assert budget.used_octets == 4096 + RECORD_OCTETS
    share.release()
    share.release()
    assert budget.used_octets == 0


async def test_a_submission_that_waits_for_room_and_is_given_up_holds_nothing() -> None:
    budget = OctetBudget(10 << 20)
    other = await budget.grow(await budget.take(2 << 20), 9 << 20)
    share = Share(budget)
    waiting = asyncio.create_task(share.reach(2 << 20))
    await asyncio.sleep(0)
    assert not waiting.done()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    share.release()
    assert budget.used_octets == other
