"""Commands run ahead of their replies as far as the server and our memory allow, and no further."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from engine.adapters.pop3_connection import UNTAKEN_OCTETS_LIMIT
from engine.adapters.pop3_pipeline import WINDOW_COMMANDS, WINDOW_OCTETS
from engine.adapters.pop3_source import open_session
from engine.ports import Offer, Retrieved
from tests.engine.adapters.scripted_pop3 import (
    PATIENCE_SECONDS,
    Peer,
    access,
    all_of,
    answer_retrs,
    freely,
    mail,
    offers_of,
    on_uvloop,
    server,
    trouble_of,
)
from tests.peers import certificates

SMALL = b"+OK\r\nabc\r\n.\r\n"  # as long as `offers_of` lists it
OK = b"+OK\r\n"


@pytest.mark.parametrize("capability", [b"PIPELINING", b"TOP"])
@pytest.mark.parametrize("tls", [False, True])
async def test_many_messages_come_in_order_and_whole(capability: bytes, tls: bool) -> None:
    count = 1500

    async def conversation(peer: Peer) -> None:
        await peer.log_in(capability)
        await answer_retrs(peer, count)
        for number in range(1, count + 1):
            await peer.talk((b"DELE %d" % number, b"-ERR\r\n" if number % 3 == 0 else b"+OK\r\n"))
        await peer.talk((b"QUIT", b"+OK\r\n"))

    offers = offers_of(count)
    async with server(conversation, tls=certificates.server_context() if tls else None) as port:
        session = await open_session(access(port, tls="implicit" if tls else "none", tls_verify=False))
        got = await all_of(session, offers)
        assert got == [Retrieved(offer, bytearray(mail(offer.number))) for offer in offers]
        refused = {one.offer.number for one in await session.delete(offers)}
        assert refused == {offer.number for offer in offers if not offer.number % 3}
        assert await session.quit() is None


async def test_a_window_of_commands_is_sent_ahead_in_one_write_and_no_more() -> None:
    async def conversation(peer: Peer) -> None:
        await peer.log_in(b"PIPELINING")
        wanted = b"".join(b"RETR %d\r\n" % number for number in range(1, WINDOW_COMMANDS + 1))
        assert await peer.reader.readexactly(len(wanted)) == wanted
        await peer.say(SMALL)
        await peer.expect(b"RETR %d" % (WINDOW_COMMANDS + 1))  # not before there was room for it
        await peer.say(SMALL * WINDOW_COMMANDS)
        await peer.expect(b"RETR %d" % (WINDOW_COMMANDS + 2))

    offers = offers_of(WINDOW_COMMANDS + 2)
    async with server(conversation) as port:
        session = await open_session(access(port))
        async with aclosing(session.retrieve(offers, freely)) as retrieval:
            for _ in range(WINDOW_COMMANDS + 1):
                assert isinstance(await anext(retrieval), Retrieved)
            assert (await trouble_of(anext(retrieval))).offer == offers[-1]


async def test_the_window_is_bounded_in_octets_too_and_one_message_may_exceed_it() -> None:
    half = WINDOW_OCTETS // 2
    offers = [Offer(1, 10 * half, b"a"), Offer(2, half, b"b"), Offer(3, half, b"c"), Offer(4, half, b"d")]
    seen: list[bytes] = []

    async def conversation(peer: Peer) -> None:
        await peer.log_in(b"PIPELINING")
        await peer.expect(b"RETR 1")
        await peer.say(b"-ERR\r\n")
        await peer.expect(b"NOOP", b"NOOP", b"RETR 2", b"RETR 3")
        await peer.say(OK * 2 + b"-ERR\r\n")
        await peer.expect(b"NOOP", b"NOOP")
        seen.append(await peer.hear())
        await peer.say(b"-ERR\r\n" + OK * 2 + b"-ERR\r\n")
        await peer.expect(b"NOOP", b"NOOP")
        await peer.say(OK * 2)

    async with server(conversation) as port:
        session = await open_session(access(port))
        assert len(await all_of(session, offers)) == 4
        await session.abort()
    assert seen == [b"RETR 4"]


async def test_without_pipelining_the_next_command_waits_for_the_last_reply() -> None:
    async def conversation(peer: Peer) -> None:
        await peer.log_in()
        for number in (1, 2, 3):
            await peer.expect(b"RETR %d" % number)
            await peer.say(b"+OK\r\n")
            await asyncio.sleep(0)
            assert not peer.reader._buffer  # type: ignore[attr-defined]
            await peer.say(b"x\r\n.\r\n")

    async with server(conversation) as port:
        session = await open_session(access(port))
        assert len(await all_of(session, offers_of(3, 1))) == 3
        await session.abort()


async def test_each_offer_is_admitted_before_it_is_asked_for() -> None:
    opened = asyncio.Semaphore(1)
    admitted: list[int] = []

    async def admit(offer: Offer, octets: int) -> None:
        await opened.acquire()
        admitted.append(offer.number)

    async def conversation(peer: Peer) -> None:
        await peer.log_in(b"PIPELINING")
        await answer_retrs(peer, 20)

    async with server(conversation) as port:
        session = await open_session(access(port))
        async with asyncio.timeout(PATIENCE_SECONDS):
            async for retrieved in session.retrieve(offers_of(20), admit):
                # Only what was taken makes room: whoever waits for more than one at a time waits for ever.
                assert admitted[-1] == retrieved.offer.number
                opened.release()
        await session.abort()
    assert admitted == list(range(1, 21))


async def test_what_admit_raises_goes_through_and_ends_the_session() -> None:
    async def admit(offer: Offer, octets: int) -> None:
        if offer.number == 2:
            raise LookupError("no room")

    async def conversation(peer: Peer) -> None:
        await peer.log_in(b"PIPELINING")
        await peer.until_closed()

    async with server(conversation) as port:
        session = await open_session(access(port))
        with pytest.raises(LookupError):
            async for _ in session.retrieve(offers_of(3), admit):
                pass
        assert await session.quit() is not None


@pytest.mark.parametrize("by_server", [False, True])
async def test_nothing_waits_for_admission_once_the_session_is_broken(by_server: bool) -> None:
    waits = asyncio.Event()
    given_up = asyncio.Event()

    async def admit(offer: Offer, octets: int) -> None:
        if offer.number == 2:
            waits.set()
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                given_up.set()
                raise

    async def conversation(peer: Peer) -> None:
        await peer.log_in(b"PIPELINING")
        await answer_retrs(peer, 1)
        await waits.wait()
        if not by_server:
            await peer.until_closed()

    async with server(conversation) as port:
        session = await open_session(access(port))
        retrieval = session.retrieve(offers_of(3), admit)
        await anext(retrieval)  # and the generator is not closed: its consumer failed
        await waits.wait()
        if not by_server:
            await session.abort()
        await given_up.wait()
        await retrieval.aclose()
        await session.abort()


@pytest.mark.parametrize("tls", [False, True])
async def test_a_slow_consumer_stops_the_reading(tls: bool) -> None:
    octets = 60_000
    one_read = 512 * 1024

    async def conversation(peer: Peer) -> None:
        await peer.log_in(b"PIPELINING")
        await answer_retrs(peer, WINDOW_COMMANDS, octets)

    offers = offers_of(WINDOW_COMMANDS, 1)  # the listing says little, so the window lets them all through
    async with server(conversation, tls=certificates.server_context() if tls else None) as port:
        session = await open_session(access(port, tls="implicit" if tls else "none", tls_verify=False))
        connection = session._connection
        async with asyncio.timeout(PATIENCE_SECONDS), aclosing(session.retrieve(offers, freely)) as retrieval:
            await anext(retrieval)
            while connection.transport.is_reading():
                await asyncio.sleep(0.01)
            assert connection._untaken_octets < UNTAKEN_OCTETS_LIMIT + one_read < WINDOW_COMMANDS * octets
            rest = [retrieved async for retrieved in retrieval]
        await session.abort()
    assert len(rest) == WINDOW_COMMANDS - 1


@pytest.mark.parametrize("tls", [False, True])
def test_the_pipeline_is_the_same_on_uvloop(tls: bool) -> None:
    on_uvloop(
        test_many_messages_come_in_order_and_whole(b"PIPELINING", tls),
        test_many_messages_come_in_order_and_whole(b"TOP", tls),
        test_a_slow_consumer_stops_the_reading(tls),
        test_what_admit_raises_goes_through_and_ends_the_session(),
    )
