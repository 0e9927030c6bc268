"""What comes in goes before what goes out for the length of a burst, and no longer."""

from __future__ import annotations

import asyncio

import pytest

from engine import precedence
from engine.precedence import CLIENTS, Precedence


class Watched:
    """A precedence, and how often it was at an end."""

    def __init__(self) -> None:
        self.ends = 0
        self.precedence = Precedence(self._freed)

    def _freed(self) -> None:
        assert self.precedence.free
        self.ends += 1

    async def press_until_free(self) -> None:
        """As many clients as make a burst, again and again."""
        while not self.precedence.free:
            self.precedence.note(CLIENTS)
            await asyncio.sleep(0)


async def test_a_few_clients_hold_up_nothing() -> None:
    watched = Watched()
    watched.precedence.note(CLIENTS - 1)
    assert watched.precedence.free
    await watched.precedence.turn()
    assert watched.ends == 0


async def test_a_burst_goes_first_and_ends_where_nobody_presses() -> None:
    watched = Watched()
    watched.precedence.note(CLIENTS)
    assert not watched.precedence.free
    turns = [asyncio.create_task(watched.precedence.turn()) for _ in range(3)]
    await asyncio.sleep(0)
    assert not any(turn.done() for turn in turns)
    await asyncio.gather(*turns)
    assert watched.ends == 1
    watched.precedence.note(CLIENTS)
    assert not watched.precedence.free  # another one
    await watched.precedence.turn()
    assert watched.ends == 2


async def test_who_never_ends_goes_first_once_and_shares_from_then_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(precedence, "BURST_SECONDS", 0.1)
    watched = Watched()
    watched.precedence.note(CLIENTS)
    await watched.press_until_free()
    assert watched.ends == 1
    for _ in range(20):
        watched.precedence.note(CLIENTS)
        assert watched.precedence.free
        await asyncio.sleep(precedence.QUIET_SECONDS / 4)
    assert watched.ends == 1


async def test_at_the_end_nothing_goes_first_any_more() -> None:
    watched = Watched()
    watched.precedence.note(CLIENTS)
    watched.precedence.end()
    assert watched.precedence.free
    watched.precedence.note(CLIENTS)
    assert watched.precedence.free
    assert watched.ends == 1
