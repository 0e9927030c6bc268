"""Room is asked for as a reply comes, whatever the server claims; without room nothing is read."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import aclosing

import pytest

from engine.adapters.pop3_connection import STEP_OCTETS_LIMIT
from engine.adapters.pop3_source import open_session
from engine.ports import FIRST_OCTETS, Offer, Retrieved
from tests.engine.adapters.scripted_pop3 import (
    PATIENCE_SECONDS,
    Peer,
    access,
    all_of,
    answer_retrs,
    mail,
    offers_of,
    on_uvloop,
    server,
)
from tests.peers import certificates

ONE_READ_OCTETS = 512 * 1024
LARGE_OCTETS = 3 * STEP_OCTETS_LIMIT
MONSTROUS_OCTETS = 10**12


class Asked:
    """Admits everything, and keeps what was asked for."""

    def __init__(self) -> None:
        self.octets: list[tuple[int, int]] = []

    async def __call__(self, offer: Offer, octets: int) -> None:
        self.octets.append((offer.number, octets))

    async def listing(self, octets: int) -> None:
        self.octets.append((0, octets))


async def retrieved(size_octets: int, listed_octets: int, tls: bool) -> list[int]:
    """Retrieve one message of some size, and say what was asked for."""

    async def conversation(peer: Peer) -> None:
        await peer.log_in(b"PIPELINING")
        await answer_retrs(peer, 1, size_octets)
        await peer.until_closed()

    asked = Asked()
    offer = Offer(1, listed_octets, b"u")
    async with server(conversation, tls=certificates.server_context() if tls else None) as port:
        session = await open_session(access(port, tls="implicit" if tls else "none", tls_verify=False))
        async with asyncio.timeout(PATIENCE_SECONDS):
            got = [one async for one in session.retrieve([offer], asked)]
        await session.abort()
    assert got == [Retrieved(offer, bytearray(mail(1, size_octets)))]
    return [octets for _, octets in asked.octets]


@pytest.mark.parametrize("capability", [b"PIPELINING", b"TOP"])
async def test_small_messages_are_asked_for_once(capability: bytes) -> None:
    count = 300

    async def conversation(peer: Peer) -> None:
        await peer.log_in(capability)
        await answer_retrs(peer, count)

    asked = Asked()
    async with server(conversation) as port:
        session = await open_session(access(port))
        assert len([one async for one in session.retrieve(offers_of(count, 90), asked)]) == count
        await session.abort()
    assert asked.octets == [(number, 90) for number in range(1, count + 1)]


@pytest.mark.parametrize("tls", [False, True])
async def test_a_large_message_is_asked_for_in_steps_up_to_its_listed_size(tls: bool) -> None:
    size_octets = len(mail(1, LARGE_OCTETS))

    asked = await retrieved(LARGE_OCTETS, size_octets, tls)

    assert asked[0] == FIRST_OCTETS
    assert size_octets - ONE_READ_OCTETS <= asked[-1] <= size_octets
    steps = [after - before for before, after in itertools.pairwise(asked)]
    assert all(0 < step <= STEP_OCTETS_LIMIT + ONE_READ_OCTETS for step in steps)


@pytest.mark.parametrize("tls", [False, True])
async def test_a_monstrous_claim_is_granted_twice_what_came_and_no_more(tls: bool) -> None:
    asked = await retrieved(2_000_000, MONSTROUS_OCTETS, tls)

    assert asked[0] == FIRST_OCTETS
    assert asked[-1] <= 2 * 2_000_000
    assert len(asked) <= 5


async def test_more_than_was_listed_is_asked_for_little_by_little() -> None:
    size_octets = len(mail(1, 3_000_000))

    asked = await retrieved(3_000_000, 2_000_000, tls=False)

    assert 2_000_000 in asked
    assert size_octets - ONE_READ_OCTETS < asked[-1] < size_octets * 9 // 8


@pytest.mark.parametrize("tls", [False, True])
async def test_without_room_nothing_is_read_and_the_server_is_not_blamed(tls: bool) -> None:
    roomy = asyncio.Event()
    waits = asyncio.Event()

    async def admit(offer: Offer, octets: int) -> None:
        if octets > FIRST_OCTETS:
            waits.set()
            await roomy.wait()

    async def conversation(peer: Peer) -> None:
        await peer.log_in(b"PIPELINING")
        await answer_retrs(peer, 2, LARGE_OCTETS)

    offers = offers_of(2, LARGE_OCTETS)
    patience = {"idle_seconds": 0.1, "grace_seconds": 0.1, "least_octets_per_second": 10**9}
    async with server(conversation, tls=certificates.server_context() if tls else None) as port:
        made = access(port, tls="implicit" if tls else "none", tls_verify=False, **patience)
        session = await open_session(made)
        connection = session._connection
        taking = asyncio.create_task(all_of_them(session.retrieve(offers, admit)))
        await waits.wait()
        held_octets = connection.link.unfinished_octets
        for _ in range(20):
            await asyncio.sleep(0.02)
            assert not connection.transport.is_reading()
            assert connection.link.unfinished_octets == held_octets < FIRST_OCTETS + ONE_READ_OCTETS
        connection._patience = access(port)  # from here on as much as a loaded machine needs
        connection.idle_seconds = PATIENCE_SECONDS
        roomy.set()
        got = await taking
        await session.abort()
    assert got == [Retrieved(offer, bytearray(mail(offer.number, LARGE_OCTETS))) for offer in offers]


async def all_of_them(retrieval: object) -> list[object]:
    async with asyncio.timeout(PATIENCE_SECONDS):
        return [one async for one in retrieval]  # type: ignore[attr-defined]


async def test_what_admit_raises_for_a_message_that_grows_goes_through_and_ends_the_session() -> None:
    async def admit(offer: Offer, octets: int) -> None:
        if octets > FIRST_OCTETS:
            raise LookupError("no room")

    async def conversation(peer: Peer) -> None:
        await peer.log_in(b"PIPELINING")
        await peer.expect(b"RETR 1")
        peer.writer.write(b"+OK\r\n" + mail(1, LARGE_OCTETS))
        await peer.until_closed()

    async with server(conversation) as port:
        session = await open_session(access(port))
        with pytest.raises(LookupError):
            await all_of_them(session.retrieve(offers_of(1, LARGE_OCTETS), admit))
        assert await session.quit() is not None


async def test_a_message_that_waits_for_room_waits_no_longer_than_its_session() -> None:
    waits = asyncio.Event()
    given_up = asyncio.Event()

    async def admit(offer: Offer, octets: int) -> None:
        if octets > FIRST_OCTETS:
            waits.set()
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                given_up.set()
                raise

    async def conversation(peer: Peer) -> None:
        await peer.log_in(b"PIPELINING")
        await peer.talk((b"RETR 1", b"+OK\r\nx\r\n.\r\n"))
        await peer.expect(b"RETR 2")
        peer.writer.write(b"+OK\r\n" + mail(2, LARGE_OCTETS))
        await peer.until_closed()

    async with server(conversation) as port:
        session = await open_session(access(port))
        retrieval = session.retrieve([Offer(1, 3, b"a"), Offer(2, LARGE_OCTETS, b"b")], admit)
        await anext(retrieval)  # and the generator is not closed: its consumer failed
        await waits.wait()
        await session.abort()
        await given_up.wait()
        await retrieval.aclose()


async def test_reading_goes_on_when_there_is_room_and_what_came_is_taken() -> None:
    count, octets, large_octets = 150, 60_000, 3_000_000
    whole = [b"+OK\r\n" + mail(number, octets) + b".\r\n" for number in range(1, count + 1)]
    last = b"+OK\r\n" + mail(count + 1, large_octets) + b".\r\n"
    begun_octets = 2 * FIRST_OCTETS
    roomy = asyncio.Event()

    async def admit(offer: Offer, octets: int) -> None:
        if octets > FIRST_OCTETS:
            await roomy.wait()

    async def conversation(peer: Peer) -> None:
        await peer.log_in(b"PIPELINING")
        await peer.expect(*(b"RETR %d" % number for number in range(1, count + 2)))
        asked.set()
        await roomy.wait()
        await peer.say(last[begun_octets:])

    asked = asyncio.Event()
    offers = [*offers_of(count, 1), Offer(count + 1, large_octets, b"large")]
    async with server(conversation) as port:
        session = await open_session(access(port))
        connection = session._connection
        async with asyncio.timeout(PATIENCE_SECONDS), aclosing(session.retrieve(offers, admit)) as retrieval:
            first = asyncio.create_task(anext(retrieval))
            await asked.wait()
            connection.data_received(b"".join(whole) + last[:begun_octets])  # too much untaken, and too large
            await first
            for _ in range(1, count):
                assert not connection.transport.is_reading()
                await anext(retrieval)
            assert not connection.transport.is_reading()
            roomy.set()
            assert await anext(retrieval) == Retrieved(offers[-1], bytearray(mail(count + 1, large_octets)))
        await session.abort()


@pytest.mark.parametrize("capability", [b"PIPELINING", b"TOP"])
async def test_a_long_listing_asks_for_room_for_both_its_replies(capability: bytes) -> None:
    numbers = range(1, 60_001)
    sizes = b"".join(b"%d %d\r\n" % (number, number) for number in numbers)
    uidls = b"".join(b"%d %030d\r\n" % (number, number) for number in numbers)

    async def conversation(peer: Peer) -> None:
        await peer.log_in(capability)
        await peer.talk((b"LIST", b"+OK\r\n" + sizes + b".\r\n"), (b"UIDL", b"+OK\r\n" + uidls + b".\r\n"))
        await peer.until_closed()

    asked = Asked()
    async with server(conversation) as port:
        session = await open_session(access(port))
        assert len(await session.listing(asked.listing)) == len(numbers)
        await session.abort()
    octets = [octets for _, octets in asked.octets]
    assert octets == sorted(octets)
    assert len(sizes) + len(uidls) - 2 * ONE_READ_OCTETS <= octets[-1] <= 2 * (len(sizes) + len(uidls))


async def test_the_header_of_a_large_message_is_asked_for_too() -> None:
    header = b"X-Long: " + b"x" * 60 + b"\r\n"

    async def conversation(peer: Peer) -> None:
        await peer.log_in(b"TOP")
        await peer.talk((b"TOP 1 0", b"+OK\r\n" + header * 12_000 + b".\r\n"))
        await peer.until_closed()

    asked = Asked()
    async with server(conversation) as port:
        session = await open_session(access(port))
        assert await session.top(Offer(1, LARGE_OCTETS, b"u"), asked) == header * 12_000
        await session.abort()
    assert asked.octets[0] == (1, FIRST_OCTETS)
    assert FIRST_OCTETS < asked.octets[-1][1] <= 2 * len(header) * 12_000


async def test_a_listing_without_a_budget_is_read_all_the_same() -> None:
    lines = b"".join(b"%d 5\r\n" % number for number in range(1, 60_001))

    async def conversation(peer: Peer) -> None:
        await peer.log_in()
        await peer.talk((b"LIST", b"+OK\r\n" + lines + b".\r\n"), (b"UIDL", b"-ERR\r\n"))
        await peer.until_closed()

    async with server(conversation) as port:
        session = await open_session(access(port))
        assert len(await session.listing()) == 60_000
        assert len(await all_of(session, [])) == 0
        await session.abort()


def test_growing_is_the_same_on_uvloop() -> None:
    on_uvloop(
        test_a_large_message_is_asked_for_in_steps_up_to_its_listed_size(tls=False),
        test_a_large_message_is_asked_for_in_steps_up_to_its_listed_size(tls=True),
        test_without_room_nothing_is_read_and_the_server_is_not_blamed(tls=False),
        test_without_room_nothing_is_read_and_the_server_is_not_blamed(tls=True),
        test_a_message_that_waits_for_room_waits_no_longer_than_its_session(),
    )
