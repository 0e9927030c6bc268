"""Octets in memory: who may have them, who waits, and that none get lost."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.budget import OctetBudget


async def turns() -> None:
    """Let everybody who can go on go on."""
    for _ in range(5):
        await asyncio.sleep(0)


def waiting(budget: OctetBudget, octets: int) -> asyncio.Task[int]:
    return asyncio.create_task(budget.take(octets))


async def test_what_fits_is_given_at_once_and_given_back() -> None:
    budget = OctetBudget(100)
    share = await budget.take(60)
    assert budget.used_octets == 60
    budget.give_back(share)
    assert budget.used_octets == 0


async def test_what_does_not_fit_waits_for_room() -> None:
    budget = OctetBudget(100)
    first = await budget.take(60)
    second = waiting(budget, 60)
    await turns()
    assert not second.done()
    budget.give_back(first)
    assert await second == 60
    assert budget.used_octets == 60


async def test_more_than_the_whole_budget_is_let_in_alone() -> None:
    budget = OctetBudget(100)
    small = await budget.take(1)
    huge = waiting(budget, 5_000)
    await turns()
    assert not huge.done()
    budget.give_back(small)
    share = await huge
    beside = waiting(budget, 1)
    await turns()
    assert not beside.done()
    budget.give_back(share)
    assert await beside == 1


async def test_a_large_one_is_not_starved_by_small_ones_that_come_later() -> None:
    budget = OctetBudget(100)
    first = await budget.take(50)
    large = waiting(budget, 80)
    await turns()
    small = waiting(budget, 10)
    await turns()
    assert not small.done()
    budget.give_back(first)
    await turns()
    assert large.done()
    assert small.done()


async def test_nothing_weighs_nothing() -> None:
    budget = OctetBudget(100)
    full = await budget.take(100)
    assert await budget.take(0) == 0
    budget.give_back(full)


async def test_who_stops_waiting_takes_nothing_and_lets_the_next_one_in() -> None:
    budget = OctetBudget(100)
    first = await budget.take(50)
    large, small = waiting(budget, 80), waiting(budget, 40)
    await turns()
    large.cancel()
    assert await small == 40
    with pytest.raises(asyncio.CancelledError):
        await large
    budget.give_back(first)
    assert budget.used_octets == 40


async def test_who_stops_waiting_just_when_it_is_its_turn_gives_the_turn_on() -> None:
    budget = OctetBudget(100)
    first = await budget.take(100)
    second, third = waiting(budget, 100), waiting(budget, 100)
    await turns()
    budget.give_back(first)
    second.cancel()
    assert await third == 100
    with pytest.raises(asyncio.CancelledError):
        await second
    assert budget.used_octets == 100


async def test_a_turn_that_comes_just_after_somebody_stopped_waiting_is_given_on() -> None:
    budget = OctetBudget(100)
    first = await budget.take(100)
    second, third = waiting(budget, 100), waiting(budget, 100)
    await turns()
    second.cancel()
    budget.give_back(first)
    assert await third == 100
    with pytest.raises(asyncio.CancelledError):
        await second
    assert budget.used_octets == 100


steps = st.lists(
    st.one_of(
        st.tuples(st.just("take"), st.integers(0, 150)),
        st.tuples(st.just("give back"), st.integers(0, 20)),
        st.tuples(st.just("stop"), st.integers(0, 20)),
        st.tuples(st.just("let go on"), st.just(0)),
    ),
    max_size=30,
)


@settings(max_examples=60)
@given(steps)
def test_whatever_is_asked_the_budget_is_kept_and_comes_back_whole(happened: list[tuple[str, int]]) -> None:
    async def live() -> None:
        budget, tasks = OctetBudget(100), list[asyncio.Task[Any]]()

        def back(task: asyncio.Task[int]) -> None:
            tasks.remove(task)
            budget.give_back(task.result())

        for what, number in happened:
            if what == "take":
                tasks.append(waiting(budget, number))
            elif what == "let go on":
                await turns()
            elif tasks:
                task = tasks[number % len(tasks)]
                if what == "stop":
                    task.cancel()
                elif task.done() and not task.cancelled():
                    back(task)
            assert 0 <= budget.used_octets <= budget.total_octets
        while tasks:
            await turns()
            for task in [one for one in tasks if one.done()]:
                if task.cancelled():
                    tasks.remove(task)
                else:
                    back(task)
        assert budget.used_octets == 0

    asyncio.run(asyncio.wait_for(live(), 30))
