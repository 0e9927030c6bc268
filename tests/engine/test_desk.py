"""What the process that listens asks for and hands over: memory is counted once, and what came whole is kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from msgspec import DecodeError, structs

from engine.acceptance import Acceptance
from engine.adapters.listener_words import (
    FromListener,
    Granted,
    Handed,
    Kept,
    Ready,
    Refused,
    ToListener,
    Unable,
    Waiver,
    Wish,
    encoded,
)
from engine.desk import Desk
from engine.opening import Opening, opening_of
from engine.ports import NotKept, Octets, Submission
from engine.wire.frames import FrameFault
from store.events import Submitted
from tests.engine.rig import PATIENCE_SECONDS, Rig, without_trace

MB = 1_000_000
LETTER = b"Subject: hello\r\n\r\nhello\r\n"


@dataclass
class Across:
    """The process that listens, as far as the desk can tell."""

    rig: Rig
    answers: list[ToListener] = field(default_factory=list)

    def __post_init__(self) -> None:
        acceptance = Acceptance(journal=self.rig.journal, worker=self.rig.worker)
        self.desk = Desk(acceptance, self.rig.budget, self.answers.append)

    def say(self, word: FromListener, body: Octets = b"") -> None:
        self.desk.hear(encoded(word), body)

    async def opening(self, octets: bytes) -> Opening:
        submission = Submission(
            peer="127.0.0.1",
            helo="home.example",
            protocol="ESMTP",
            tls="none",
            user=None,
            reverse_path="anna@example.com",
            recipients=("bob@customer.example",),
        )
        return await opening_of(submission, octets, self.rig.policy, self.rig.clock())

    async def answered(self, count: int) -> list[ToListener]:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(self.answers) < count:
                await asyncio.sleep(0.001)
        return self.answers


@asynccontextmanager
async def across(url: str) -> AsyncIterator[Across]:
    async with Rig(url, budget_octets=8 * MB) as rig:
        found = Across(rig)
        yield found
        found.desk.lost()
        await found.desk.cleared()
        await rig.settled()
        assert rig.budget.used_octets == 0


async def test_what_is_handed_over_is_kept_said_so_and_worked_on(database_url: str) -> None:
    async with across(database_url) as listener:
        opening = await listener.opening(LETTER)
        listener.say(Handed(7, opening), LETTER)
        assert await listener.answered(1) == [Kept(7)]
        await listener.rig.settled()
        assert [message.id for message in listener.rig.messages()] == [opening.stream]
        assert [without_trace(taken.octets) for taken in listener.rig.home.ledger] == [LETTER]


async def test_what_came_whole_is_kept_though_nobody_is_there_to_hear(database_url: str) -> None:
    async with across(database_url) as listener:
        listener.say(Handed(1, await listener.opening(LETTER)), LETTER)
        listener.desk.lost()
        await listener.desk.cleared()
        assert len(listener.rig.events(Submitted)) == 1


async def test_memory_is_granted_where_there_is_room_and_goes_with_the_message(sqlite_url: str) -> None:
    async with across(sqlite_url) as listener:
        listener.say(Wish(1, 2 * MB))
        assert await listener.answered(1) == [Granted(1, 4 * MB)]
        listener.say(Wish(2, 2 * MB))
        await asyncio.sleep(0.01)
        assert len(listener.answers) == 1  # the half that large mail may have is taken
        listener.say(Waiver(1))
        assert await listener.answered(2) == [Granted(1, 4 * MB), Granted(2, 4 * MB)]
        large = b"x" * (2 * MB)
        listener.say(Handed(2, await listener.opening(large)), large)
        assert await listener.answered(3) == [*listener.answers[:2], Kept(2)]


async def test_who_gives_up_waiting_waits_no_more(sqlite_url: str) -> None:
    async with across(sqlite_url) as listener:
        listener.say(Wish(1, 2 * MB))
        await listener.answered(1)
        listener.say(Wish(2, 2 * MB))
        await asyncio.sleep(0)
        listener.say(Waiver(2))
        listener.say(Waiver(1))
        listener.say(Waiver(3))  # of which nobody knows
        listener.say(Wish(4, 2 * MB))
        assert await listener.answered(2) == [Granted(1, 4 * MB), Granted(4, 4 * MB)]


async def test_who_gives_up_before_its_wish_was_looked_at_leaves_nothing_behind(sqlite_url: str) -> None:
    async with across(sqlite_url) as listener:
        listener.say(Wish(1, 2 * MB))
        await listener.answered(1)
        listener.say(Wish(1, 5 * MB))
        listener.say(Waiver(1))  # in the same moment
        listener.say(Wish(2, 2 * MB))
        assert await listener.answered(2) == [Granted(1, 4 * MB), Granted(2, 4 * MB)]


async def test_who_waits_for_memory_says_nothing_else(sqlite_url: str) -> None:
    async with across(sqlite_url) as listener:
        opening = await listener.opening(LETTER)
        listener.say(Wish(1, 2 * MB))
        with pytest.raises(FrameFault):
            listener.say(Wish(1, 3 * MB))
        with pytest.raises(FrameFault):
            listener.say(Handed(1, opening), LETTER)


class Full:
    """Keeps nothing."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def keep(self, _opening: Opening, _octets: Octets, _share: object) -> None:
        raise self._error


@pytest.mark.parametrize(
    ("error", "refused"),
    [
        (NotKept("disk full", full=True), Refused(1, "disk full", full=True)),
        (NotKept("gone", full=False), Refused(1, "gone", full=False)),
        (ValueError("odd"), Refused(1, "an error in mailgate itself: odd", full=False)),
    ],
)
async def test_what_is_not_kept_is_said_with_the_reason(
    sqlite_url: str, error: Exception, refused: Refused
) -> None:
    async with across(sqlite_url) as listener:
        listener.desk._acceptance = Full(error)  # type: ignore[assignment]
        listener.say(Handed(1, await listener.opening(LETTER)), LETTER)
        assert await listener.answered(1) == [refused]


async def test_the_start_is_told_once(sqlite_url: str) -> None:
    async with across(sqlite_url) as listener:
        listener.say(Ready())
        listener.say(Unable("too late"))
        assert await listener.desk.ready == Ready()
        never = Across(listener.rig)
        never.desk.lost()
        assert await never.desk.ready is None
        unable = Across(listener.rig)
        unable.say(Unable("no certificate"))
        assert await unable.desk.ready == Unable("no certificate")


async def test_what_the_network_made_of_it_is_taken_for_nothing_else(sqlite_url: str) -> None:
    async with across(sqlite_url) as listener:
        opening = await listener.opening(LETTER)
        with pytest.raises(FrameFault):
            listener.say(Handed(1, opening), LETTER + b"more")
        other = structs.replace(opening, stream="mailbox-info")
        naive = structs.replace(opening, at=opening.at.replace(tzinfo=None))
        for wrong in (other, naive):
            with pytest.raises(DecodeError):
                listener.say(Handed(1, wrong), LETTER)
        with pytest.raises(DecodeError):
            listener.desk.hear(encoded(Kept(1)), b"")
        assert listener.rig.messages() == []
