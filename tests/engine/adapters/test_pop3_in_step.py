"""What comes behind a refusal is handed out once the session has shown that no answer is left over."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import pytest

from engine.adapters.pop3_source import open_session
from engine.ports import Offer, Refused, Retrieved, SourceTrouble
from tests.engine.adapters.scripted_pop3 import (
    PATIENCE_SECONDS,
    Peer,
    access,
    all_of,
    freely,
    offers_of,
    server,
    trouble_of,
)

REFUSED = b"-ERR [SYS/TEMP] not now\r\n"
OK = b"+OK\r\n"


def message(number: int) -> bytes:
    return b"+OK\r\nReceived: %d\r\n.\r\n" % number


def content(number: int) -> bytearray:
    return bytearray(b"Received: %d\r\n" % number)


async def answer(peer: Peer, refused: Sequence[int], *, given_all_the_same: bool = False) -> list[bytes]:
    """Answer whatever comes until QUIT or the end; returns the commands."""
    heard: list[bytes] = []
    while line := await peer.hear():
        heard.append(line)
        verb, _, number = line.partition(b" ")
        with suppress(ConnectionError):
            if verb == b"RETR" and int(number) in refused:
                await peer.say(REFUSED)
                if given_all_the_same:
                    await peer.say(message(int(number)))
            else:
                await peer.say(message(int(number)) if verb == b"RETR" else OK)
        if verb == b"QUIT":
            break
    return heard


@pytest.mark.parametrize("capability", [b"PIPELINING", b"TOP"])
@pytest.mark.parametrize("refused", [(1,), (2, 3), (5,), (1, 2, 3, 4, 5), (1, 3, 5)])
async def test_in_step_all_is_handed_out(capability: bytes, refused: tuple[int, ...]) -> None:
    heard: list[bytes] = []

    async def conversation(peer: Peer) -> None:
        await peer.log_in(capability)
        heard.extend(await answer(peer, refused))

    offers = offers_of(5, 3)
    async with server(conversation) as port:
        session = await open_session(access(port))
        got = await all_of(session, offers)
        assert await session.quit() is None
    assert sorted(got, key=lambda one: one.offer.number) == [
        Refused(offer, "[SYS/TEMP] not now")
        if offer.number in refused
        else Retrieved(offer, content(offer.number))
        for offer in offers
    ]
    assert heard.count(b"NOOP") in (2, 4, 6, 8, 10)
    if capability == b"TOP":  # one of them is under way when the refusal comes
        assert heard.index(b"NOOP") <= heard.index(b"RETR %d" % refused[0]) + 2


@pytest.mark.parametrize("capability", [b"PIPELINING", b"TOP"])
@pytest.mark.parametrize("number", [1, 2, 5])
async def test_a_message_that_was_refused_and_came_all_the_same_breaks_the_session_before_another_is_handed_out(
    capability: bytes, number: int
) -> None:
    async def conversation(peer: Peer) -> None:
        await peer.log_in(capability)
        await answer(peer, [number], given_all_the_same=True)

    offers = offers_of(5, 3)
    got: list[Retrieved | Refused] = []
    async with server(conversation) as port:
        session = await open_session(access(port))

        async def take() -> None:
            async for one in session.retrieve(offers, freely):
                got.append(one)

        trouble = await trouble_of(take())
        await session.abort()
    assert trouble.kind == "protocol"
    assert got == [
        *(Retrieved(offer, content(offer.number)) for offer in offers[: number - 1]),
        Refused(offers[number - 1], "[SYS/TEMP] not now"),
    ]


async def test_the_proof_waits_for_no_room() -> None:
    """What is kept back may fill the memory that is left: then nothing else is admitted until it is handed out."""
    room = asyncio.Semaphore(3)

    async def admit(_offer: Offer, _octets: int) -> None:
        await room.acquire()

    async def conversation(peer: Peer) -> None:
        await peer.log_in(b"PIPELINING")
        await answer(peer, [1])

    async with server(conversation) as port:
        session = await open_session(access(port))
        got = []
        async with asyncio.timeout(PATIENCE_SECONDS):
            async for one in session.retrieve(offers_of(9, 3), admit):
                got.append(one.offer.number)
                if isinstance(one, Retrieved):
                    room.release()
        assert got == list(range(1, 10))
        assert await session.quit() is None


@pytest.mark.parametrize("capability", [b"PIPELINING", b"UIDL"])
async def test_a_header_that_was_refused_and_came_all_the_same_is_not_the_next_one_s(
    capability: bytes,
) -> None:
    async def conversation(peer: Peer) -> None:
        await peer.log_in(capability)
        await peer.talk((b"TOP 1 0", REFUSED + message(1)))
        await peer.until_closed()

    async with server(conversation) as port:
        session = await open_session(access(port))
        with pytest.raises(SourceTrouble, match="protocol"):
            await session.top(Offer(1, 5, None), freely)
        await session.abort()
