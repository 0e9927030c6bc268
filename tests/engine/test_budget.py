"""Octets in memory: who may have them, who waits, that nobody waits for ever, and that none get lost."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.budget import COPIES, LARGE_OCTETS, OctetBudget, while_read

TOTAL = 800  # half of it is for large shares, and a small share has 100 at most
HALF = TOTAL // 2
PATIENCE_SECONDS = 10  # only ends what hangs


async def turns() -> None:
    """Let everybody who can go on go on."""
    for _ in range(5):
        await asyncio.sleep(0)


def waiting(budget: OctetBudget, octets: int) -> asyncio.Task[int]:
    return asyncio.create_task(budget.take(octets))


def growing(budget: OctetBudget, share: int, octets: int) -> asyncio.Task[int]:
    return asyncio.create_task(budget.grow(share, octets))


async def full(budget: OctetBudget, octets: int = 100) -> list[int]:
    """Fill a budget with small shares."""
    return [await budget.take(octets) for _ in range(budget.total_octets // octets)]


async def test_what_fits_is_given_at_once_and_given_back() -> None:
    budget = OctetBudget(TOTAL)
    share = await budget.take(60)
    assert budget.used_octets == 60
    budget.give_back(share)
    assert budget.used_octets == 0


async def test_what_does_not_fit_waits_for_room() -> None:
    budget = OctetBudget(TOTAL)
    shares = await full(budget)
    another = waiting(budget, 60)
    await turns()
    assert not another.done()
    budget.give_back(shares.pop())
    assert await another == 60
    assert budget.used_octets == TOTAL - 100 + 60


async def test_small_ones_have_the_whole_budget_while_nobody_waits_and_half_of_it_always() -> None:
    budget = OctetBudget(TOTAL)
    shares = await full(budget)
    large, next_one = waiting(budget, 300), waiting(budget, 300)
    small = waiting(budget, 100)
    await turns()
    assert large.done()  # the first of its kind waits for no small one
    assert not next_one.done()
    assert not small.done()
    for _ in range(HALF // 100):
        budget.give_back(shares.pop())
    await turns()
    assert not small.done()
    budget.give_back(shares.pop())
    assert await small == 100
    budget.give_back(await large)
    assert await next_one == 300


async def test_large_ones_share_half_of_the_budget_first_come_first_served() -> None:
    budget = OctetBudget(TOTAL)
    first = await budget.take(300)
    second, third = waiting(budget, 200), waiting(budget, 100 + 1)
    await turns()
    assert not second.done()
    assert not third.done()  # it would fit, but it came later
    small = await budget.take(100)
    budget.give_back(first)
    assert await second == 200
    assert await third == 101
    budget.give_back(small)


async def test_more_than_the_whole_budget_is_let_in_alone_beside_small_ones() -> None:
    budget = OctetBudget(TOTAL)
    large = await budget.take(101)
    huge = waiting(budget, 5_000)
    await turns()
    assert not huge.done()
    budget.give_back(large)
    share = await huge
    beside = waiting(budget, 101)
    small = await budget.take(100)
    await turns()
    assert not beside.done()
    budget.give_back(share)
    assert await beside == 101
    budget.give_back(small)


async def test_a_large_one_is_not_starved_by_small_ones_that_come_later() -> None:
    budget = OctetBudget(TOTAL)
    shares = [await budget.take(200), *[await budget.take(100) for _ in range(6)]]
    large = waiting(budget, 200)
    await turns()
    small = waiting(budget, 10)
    await turns()
    assert not large.done()
    assert not small.done()
    for _ in range(2):
        budget.give_back(shares.pop())
    await turns()
    assert large.done()


async def test_a_share_that_grows_to_what_it_has_needs_no_room() -> None:
    budget = OctetBudget(TOTAL)
    share = await budget.take(300)
    assert await budget.grow(share, 300) == await budget.grow(share, 20) == 300
    assert budget.used_octets == 300


async def test_who_grows_goes_before_who_begins() -> None:
    budget = OctetBudget(TOTAL)
    mine, other = await budget.take(200), await budget.take(200)
    more = await budget.grow(other, 500)
    fresh, grown = waiting(budget, 150), growing(budget, mine, 250)
    await turns()
    assert not fresh.done()
    assert not grown.done()
    budget.give_back(more)
    assert await grown == 250
    assert await fresh == 150


async def test_who_holds_most_is_granted_more_beyond_the_budget_and_the_others_wait_for_its_end() -> None:
    budget = OctetBudget(TOTAL)
    mine, other = await budget.take(200), await budget.take(200)
    mine = await budget.grow(mine, 600)
    grown = growing(budget, other, 250)
    await turns()
    assert not grown.done()
    mine = await budget.grow(mine, 5_000)
    small = [await budget.take(100) for _ in range(HALF // 100)]
    assert budget.overdrawn
    budget.give_back(mine)
    assert await grown == 250
    assert not budget.overdrawn
    assert budget.used_octets == 250 + sum(small)


async def test_who_grows_beside_small_ones_takes_no_more_than_one_goes_beyond() -> None:
    budget = OctetBudget(TOTAL)
    shares = [await budget.take(150), await budget.take(150)]
    small = [await budget.take(100) for _ in range(5)]
    asked: dict[int, asyncio.Task[int]] = {}
    for octets in (250, 350, 450):  # both by turns
        for which in (0, 1):
            if which not in asked or asked[which].done():
                share = await asked[which] if which in asked else shares[which]
                asked[which] = growing(budget, share, octets)
                await turns()
                assert budget.used_octets <= TOTAL + octets
    assert [one.done() for one in asked.values()] == [True, False]
    budget.give_back(await asked[0])
    assert await asked[1] == 350
    assert budget.used_octets == 350 + sum(small)


@pytest.mark.parametrize("steps", [(HALF,), (100,), (75, 100), (60, 2 * HALF)])
async def test_small_shares_that_all_want_to_grow_get_through_one_after_the_other(
    steps: tuple[int, ...],
) -> None:
    budget = OctetBudget(TOTAL)

    async def grow(share: int) -> None:
        for octets in steps:
            share = await budget.grow(share, octets)
            assert budget.used_octets <= TOTAL + octets
            await asyncio.sleep(0)
        budget.give_back(share)

    async with asyncio.timeout(PATIENCE_SECONDS):
        await asyncio.gather(*(grow(share) for share in await full(budget, 50)))
    assert budget.used_octets == 0


async def test_what_is_here_is_charged_without_asking_and_what_is_not_is_given_back() -> None:
    budget = OctetBudget(TOTAL)
    share = budget.settle(await budget.take(100), 2 * TOTAL)
    assert budget.used_octets == share == 2 * TOTAL
    assert budget.overdrawn
    another = waiting(budget, 300)
    await turns()
    assert not another.done()
    share = budget.settle(share, 100)
    assert await another == 300
    assert budget.used_octets == 400
    budget.give_back(share)


async def test_nothing_weighs_nothing() -> None:
    budget = OctetBudget(TOTAL)
    assert await budget.take(0) == 0
    assert budget.used_octets == 0


def test_a_large_message_that_is_read_back_is_held_more_than_once() -> None:
    assert while_read(LARGE_OCTETS) == LARGE_OCTETS
    assert while_read(LARGE_OCTETS + 1) == COPIES * (LARGE_OCTETS + 1)


@pytest.mark.parametrize(("first", "second"), [(300, 300), (100, 300)])
async def test_who_stops_waiting_takes_nothing_and_lets_the_next_one_in(first: int, second: int) -> None:
    budget = OctetBudget(TOTAL)
    held = await budget.take(HALF)
    large, next_one = waiting(budget, first), waiting(budget, second)
    await turns()
    large.cancel()
    budget.give_back(held)
    assert await next_one == second
    assert budget.used_octets - second in (0, first)


async def test_who_stops_waiting_just_when_it_is_its_turn_gives_the_turn_on() -> None:
    budget = OctetBudget(TOTAL)
    first = await budget.take(HALF)
    second, third = waiting(budget, HALF), waiting(budget, HALF)
    await turns()
    budget.give_back(first)
    second.cancel()
    assert await third == HALF
    with pytest.raises(asyncio.CancelledError):
        await second
    assert budget.used_octets == HALF


async def test_a_turn_that_comes_just_after_somebody_stopped_waiting_is_given_on() -> None:
    budget = OctetBudget(TOTAL)
    first = await budget.take(HALF)
    second, third = waiting(budget, HALF), waiting(budget, HALF)
    await turns()
    second.cancel()
    budget.give_back(first)
    assert await third == HALF
    with pytest.raises(asyncio.CancelledError):
        await second
    assert budget.used_octets == HALF


async def test_who_stops_growing_keeps_what_it_had() -> None:
    budget = OctetBudget(TOTAL)
    mine, other = await budget.take(200), await budget.take(200)
    other = await budget.grow(other, 600)
    for just_granted in (False, True):
        grown = growing(budget, mine, 300)
        await turns()
        assert not grown.done()
        if just_granted:
            budget.give_back(other)
        grown.cancel()
        with pytest.raises(asyncio.CancelledError):
            await grown
    assert budget.used_octets == mine


steps = st.lists(
    st.one_of(
        st.tuples(st.just("take"), st.integers(0, 1_000)),
        st.tuples(st.just("grow"), st.integers(0, 20)),
        st.tuples(st.just("give back"), st.integers(0, 20)),
        st.tuples(st.just("stop"), st.integers(0, 20)),
        st.tuples(st.just("let go on"), st.just(0)),
    ),
    max_size=40,
)


@settings(max_examples=150)
@given(steps)
def test_whatever_is_asked_the_budget_is_kept_and_comes_back_whole(happened: list[tuple[str, int]]) -> None:
    async def live() -> None:
        budget, tasks = OctetBudget(TOTAL), list[asyncio.Task[int]]()
        held: dict[asyncio.Task[int], int] = {}  # what a task that is growing has all the while
        largest = 0

        def done(task: asyncio.Task[int]) -> int:
            """What a task that is over has left to give back."""
            tasks.remove(task)
            before = held.pop(task, 0)
            return before if task.cancelled() else task.result()

        for what, number in happened:
            if what == "take":
                largest = max(largest, number)
                tasks.append(waiting(budget, number))
            elif what == "let go on":
                await turns()
            elif tasks:
                task = tasks[number % len(tasks)]
                if what == "stop":
                    task.cancel()
                elif task.done() and what == "give back":
                    budget.give_back(done(task))
                elif task.done() and what == "grow":
                    share = done(task)
                    largest = max(largest, 2 * share)
                    tasks.append(growing(budget, share, 2 * share))
                    held[tasks[-1]] = share
            assert 0 <= budget.used_octets <= TOTAL + largest
        while tasks:
            await turns()
            over = [one for one in tasks if one.done()]
            assert over, "all wait"
            for task in over:
                budget.give_back(done(task))
        assert budget.used_octets == 0

    asyncio.run(asyncio.wait_for(live(), PATIENCE_SECONDS))


@st.composite
def mails(draw: st.DrawFn) -> list[tuple[str, int, int]]:
    """What comes: a kind, its octets, and after how many turns it is done with."""
    kind = st.sampled_from(["retrieved", "read back", "dripping"])
    return draw(st.lists(st.tuples(kind, st.integers(0, 2 * TOTAL), st.integers(0, 5)), max_size=60))


@settings(max_examples=150, deadline=None)
@given(mails(), st.integers(1, 3))
def test_all_mail_gets_through_whatever_comes_together(
    coming: list[tuple[str, int, int]], share_of_first: int
) -> None:
    """Messages that all grow at once, of any size, beside some that are read back and some that never end."""
    first_octets = 30 * share_of_first

    async def live() -> None:
        budget = OctetBudget(TOTAL)
        peaks: list[int] = []
        largest = max((octets for _, octets, _ in coming), default=0) + 100
        ended = asyncio.Event()

        async def retrieve(octets: int, pause: int) -> None:
            share = await budget.take(min(octets, first_octets))
            while share < octets:
                await asyncio.sleep(0)
                share = await budget.grow(share, min(2 * share, octets))
                peaks.append(budget.used_octets)
            await finish(share, pause)

        async def read_back(octets: int, pause: int) -> None:
            await finish(await budget.take(octets), pause)

        async def drip(octets: int, pause: int) -> None:
            """It claims to be monstrous and never comes: it has its first portion for ever."""
            share = await budget.take(first_octets)
            await ended.wait()
            budget.give_back(share)

        async def finish(share: int, pause: int) -> None:
            peaks.append(budget.used_octets)
            for _ in range(pause):
                await asyncio.sleep(0)
            budget.give_back(share)

        drips = [one for one in coming if one[0] == "dripping"][: HALF // first_octets - 1]
        kinds: dict[str, Any] = {"retrieved": retrieve, "read back": read_back}
        dripping = [asyncio.create_task(drip(octets, pause)) for _, octets, pause in drips]
        await asyncio.gather(
            *(kinds[kind](octets, pause) for kind, octets, pause in coming if kind != "dripping")
        )
        ended.set()
        await asyncio.gather(*dripping)
        assert all(peak <= TOTAL + largest for peak in peaks)
        assert budget.used_octets == 0

    asyncio.run(asyncio.wait_for(live(), PATIENCE_SECONDS))
