"""Servers that fall silent, drip, talk nonsense or go away are given up, and the message is named."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from engine.adapters.pop3_source import open_session
from engine.ports import Offer, SourceTrouble
from tests.engine.adapters.scripted_pop3 import (
    Peer,
    access,
    all_of,
    freely,
    offers_of,
    on_uvloop,
    server,
    trouble_of,
)


async def retrieved_until_trouble(
    replies: Sequence[bytes], offers: Sequence[Offer], capability: bytes = b"PIPELINING", **changes: Any
) -> tuple[list[int], SourceTrouble]:
    """Which messages were handed out before the session broke, and how it broke."""

    async def conversation(peer: Peer) -> None:
        await peer.log_in(capability)
        for offer, reply in zip(offers, replies, strict=False):
            await peer.expect(b"RETR %d" % offer.number)
            await peer.say(reply)
        if changes:
            await peer.until_closed()

    got: list[int] = []
    async with server(conversation) as port:
        session = await open_session(access(port, **changes))

        async def take() -> None:
            async for happened in session.retrieve(offers, freely):
                got.append(happened.offer.number)

        trouble = await trouble_of(take())
        assert (await trouble_of(session.listing())).kind == trouble.kind
        assert await session.quit() is not None
    return got, trouble


GOOD = b"+OK\r\nx\r\n.\r\n"


@pytest.mark.parametrize("capability", [b"PIPELINING", b"TOP"])
@pytest.mark.parametrize(
    ("last", "kind"),
    [
        (b"", "connect"),
        (b"+O", "connect"),
        (b"+OK\r\nhalf a mess", "connect"),
        (b"+OK\r\nno final dot\r\n", "connect"),
        (b"+OK\r\n.x\n.\r\n", "connect"),
        (b"rubbish\r\n", "protocol"),
        (b"+OK" + b"x" * 5000 + b"\r\n", "protocol"),
        (b"+OK\r\n.\r\nwas the first line\r\n.\r\n", "protocol"),
        (b"+OK\r\n" + b"x" * 100_000, "protocol"),
    ],
)
async def test_what_breaks_a_retrieval_names_its_offer(capability: bytes, last: bytes, kind: str) -> None:
    offers = offers_of(4, 3)

    got, trouble = await retrieved_until_trouble([GOOD, GOOD, last], offers, capability)

    assert got == [1, 2]
    assert (trouble.kind, trouble.offer) == (kind, offers[2])
    assert "message 3" in trouble.text


async def test_a_silent_server_is_given_up() -> None:
    offers = offers_of(2, 3)

    got, trouble = await retrieved_until_trouble([GOOD, b"+OK\r\nx"], offers, idle_seconds=0.1)

    assert got == [1]
    assert (trouble.kind, trouble.offer) == ("connect", offers[1])
    assert "silent for 0.1 s" in trouble.text


async def test_a_silent_greeting_is_given_up() -> None:
    async def conversation(peer: Peer) -> None:
        await peer.until_closed()

    async with server(conversation) as port:
        trouble = await trouble_of(open_session(access(port, idle_seconds=0.1)))
    assert trouble.kind == "connect"


@pytest.mark.parametrize("begun", [b"+OK\r\n", b"+O"])
async def test_a_message_that_only_drips_is_given_up(begun: bytes) -> None:
    offer = Offer(1, 1000, b"u")

    async def conversation(peer: Peer) -> None:
        await peer.log_in()
        await peer.expect(b"RETR 1")
        await peer.say(begun)
        closed = asyncio.create_task(peer.until_closed())
        while not closed.done():
            peer.writer.write(b"x")
            await asyncio.wait([closed], timeout=0.01)

    async with server(conversation) as port:
        patience: dict[str, Any] = {
            "idle_seconds": 10.0,
            "grace_seconds": 0.1,
            "least_octets_per_second": 5000,
        }
        session = await open_session(access(port, **patience))
        trouble = await trouble_of(anext(session.retrieve([offer], freely)))
    assert (trouble.kind, trouble.offer) == ("connect", offer)
    assert "less than 5000 octets a second" in trouble.text


async def test_a_server_that_says_good_bye_by_itself_breaks_the_session() -> None:
    said = asyncio.Event()

    async def conversation(peer: Peer) -> None:
        await peer.log_in()
        await peer.say(b"-ERR Disconnected for inactivity\r\n")
        said.set()
        await peer.until_closed()

    async with server(conversation) as port:
        session = await open_session(access(port))
        await said.wait()
        trouble = await trouble_of(session.listing())
        assert await session.quit() is not None
    assert trouble.offer is None


async def test_a_cancelled_retrieval_closes_the_connection() -> None:
    async def conversation(peer: Peer) -> None:
        await peer.log_in()
        await peer.expect(b"RETR 1")
        asked.set()
        assert await peer.until_closed() == b""

    asked = asyncio.Event()
    async with server(conversation) as port:
        session = await open_session(access(port))
        taking = asyncio.create_task(all_of(session, offers_of(2)))
        await asked.wait()
        taking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await taking


def test_trouble_is_the_same_on_uvloop() -> None:
    on_uvloop(
        test_a_silent_server_is_given_up(),
        test_a_cancelled_retrieval_closes_the_connection(),
        test_what_breaks_a_retrieval_names_its_offer(b"PIPELINING", b"rubbish\r\n", "protocol"),
        test_what_breaks_a_retrieval_names_its_offer(b"PIPELINING", b"", "connect"),
    )
