"""A session lists, retrieves, marks and commits, and says so only when it is true."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest

from engine.adapters.pop3_source import Pop3Session, open_session
from engine.ports import Offer, Refused, Retrieved
from tests.engine.adapters.scripted_pop3 import (
    PATIENCE_SECONDS,
    Peer,
    access,
    all_of,
    answer_retrs,
    freely,
    offers_of,
    on_uvloop,
    server,
    trouble_of,
)


async def test_a_session_lists_retrieves_deletes_and_commits() -> None:
    async def conversation(peer: Peer) -> None:
        await peer.log_in(b"UIDL", b"TOP")
        await peer.talk(
            (b"LIST", b"+OK\r\n1 9\r\n2 5\r\n3 5\r\n.\r\n"),
            (b"UIDL", b"+OK\r\n3 c\r\n1 a b \r\n2 a b \r\n.\r\n"),
            (b"TOP 3 0", b"+OK\r\nSubject: x\r\n\r\n.\r\n"),
            (b"RETR 1", b"+OK\r\na\n.\r\nb\r\n..\r\n.\r\n"),
            (b"RETR 2", b"-ERR no such thing\r\n"),
            (b"NOOP", b"+OK\r\n"),
            (b"NOOP", b"-ERR what is that?\r\n"),
            (b"DELE 1", b"+OK\r\n"),
            (b"DELE 3", b"-ERR never heard of it\r\n"),
            (b"QUIT", b"+OK bye\r\n"),
        )

    async with server(conversation) as port:
        session = await open_session(access(port))
        assert session.capabilities == {"UIDL", "TOP"}
        assert session.tls == "none"
        first, second, third = await session.listing()
        assert (first, second, third) == (Offer(1, 9, b"a b "), Offer(2, 5, b"a b "), Offer(3, 5, b"c"))
        assert await session.top(third, freely) == b"Subject: x\r\n\r\n"
        got = await all_of(session, [first, second])
        assert got == [Retrieved(first, bytearray(b"a\n.\r\nb\r\n.\r\n")), Refused(second, "no such thing")]
        assert await session.delete([first, third]) == (Refused(third, "never heard of it"),)
        assert await session.quit() is None


@asynccontextmanager
async def listed(list_reply: bytes, uidl_reply: bytes, *capabilities: bytes) -> AsyncIterator[Pop3Session]:
    async def conversation(peer: Peer) -> None:
        await peer.log_in(*capabilities)
        await peer.expect(b"LIST")
        if b"PIPELINING" in capabilities:
            await peer.expect(b"UIDL")  # before LIST is answered
            await peer.say(list_reply + uidl_reply)
        else:
            await peer.say(list_reply)
            await peer.talk((b"UIDL", uidl_reply))
        await peer.until_closed()

    async with server(conversation) as port:
        session = await open_session(access(port))
        yield session
        await session.abort()


@pytest.mark.parametrize("capability", [b"PIPELINING", b"TOP"])
async def test_broken_lines_cost_only_their_own_messages(capability: bytes) -> None:
    sizes = b"+OK\r\n1 10\r\n2 20\r\n3\r\n4 40\r\n5 50\r\n"
    uidls = b"+OK\r\n5 e\r\n4\r\nrubbish\r\n3 c\r\n1 a\r\n"

    async with listed(sizes + b".\r\n", uidls + b".\r\n", capability) as session:
        assert await session.listing() == (Offer(1, 10, b"a"), Offer(5, 50, b"e"))
        assert session.passed_over == len(session.lacking) == 4


async def test_a_server_without_uidl_offers_messages_without() -> None:
    async with listed(b"+OK\r\n1 10\r\n.\r\n", b"-ERR unknown command\r\n") as session:
        assert await session.listing() == (Offer(1, 10, None),)


@pytest.mark.parametrize(
    ("refusal", "capability", "kind"),
    [
        (b"-ERR [SYS/TEMP] index\r\n", b"TOP", "connect"),
        (b"-ERR [IN-USE] index\r\n", b"TOP", "in-use"),
        (b"-ERR not now\r\n", b"UIDL", "protocol"),
    ],
)
async def test_uidls_that_cannot_be_had_now_are_not_taken_for_none(
    refusal: bytes, capability: bytes, kind: str
) -> None:
    async with listed(b"+OK\r\n1 10\r\n.\r\n", refusal, capability) as session:
        assert (await trouble_of(session.listing())).kind == kind


async def test_a_listing_without_one_good_line_is_trouble() -> None:
    async with listed(b"+OK\r\n1 10\r\n2 20\r\n.\r\n", b"+OK\r\n.\r\n") as session:
        assert "no line of the listing can be read" in (await trouble_of(session.listing())).text


async def test_an_empty_mailbox_lists_nothing() -> None:
    async with listed(b"+OK\r\n.\r\n", b"+OK\r\n.\r\n") as session:
        assert await session.listing() == ()


async def test_a_refused_list_is_trouble() -> None:
    async with listed(b"-ERR [SYS/PERM] disk\r\n", b"+OK\r\n.\r\n") as session:
        trouble = await trouble_of(session.listing())
    assert (trouble.kind, trouble.permanent) == ("connect", True)


async def test_a_long_listing_is_whole() -> None:
    numbers = range(1, 30_001)
    sizes = b"".join(b"%d %d\r\n" % (number, number * 2) for number in numbers)
    uidls = b"".join(b"%d uid-%d\r\n" % (number, number) for number in reversed(numbers))

    async with listed(b"+OK\r\n" + sizes + b".\r\n", b"+OK\r\n" + uidls + b".\r\n", b"PIPELINING") as session:
        offers = await session.listing()
    assert offers == tuple(Offer(number, number * 2, b"uid-%d" % number) for number in numbers)


async def test_a_retrieval_that_is_left_early_closes_the_session() -> None:
    async def conversation(peer: Peer) -> None:
        await peer.log_in(b"PIPELINING")
        await answer_retrs(peer, 1)
        await peer.until_closed()

    async with server(conversation) as port:
        session = await open_session(access(port))
        async with aclosing(session.retrieve(offers_of(5), freely)) as retrieval:
            await anext(retrieval)
        assert "left with replies under way" in (await trouble_of(session.listing())).text
        assert await session.quit() is not None
        await session.abort()


async def test_a_retrieval_that_is_forgotten_is_no_danger() -> None:
    async def conversation(peer: Peer) -> None:
        await peer.log_in()
        await answer_retrs(peer, 1)
        await peer.until_closed()

    async with server(conversation) as port:
        session = await open_session(access(port))
        retrieval = session.retrieve(offers_of(3), freely)
        await anext(retrieval)
        assert (await trouble_of(session.delete(offers_of(1)))).kind == "protocol"
        del retrieval
        gc.collect()
        assert await session.quit() is not None


async def test_a_retrieval_left_behind_its_last_message_leaves_the_session_as_it_was() -> None:
    async def conversation(peer: Peer) -> None:
        await peer.log_in(b"PIPELINING")
        await answer_retrs(peer, 2)
        await peer.talk((b"DELE 1", b"+OK\r\n"), (b"RSET", b"+OK\r\n"), (b"QUIT", b"+OK\r\n"))

    async with server(conversation) as port:
        session = await open_session(access(port))
        async with aclosing(session.retrieve(offers_of(2), freely)) as retrieval:
            await anext(retrieval)
            await anext(retrieval)
        assert await session.delete(offers_of(1)) == ()
        assert await session.reset()
        assert await session.quit() is None


async def test_nothing_to_do_is_done() -> None:
    async def conversation(peer: Peer) -> None:
        await peer.log_in()
        await peer.talk((b"TOP 1 0", b"-ERR\r\n"), (b"NOOP", b"+OK\r\n"), (b"NOOP", b"+OK\r\n"))
        await peer.talk((b"QUIT", b"-ERR some were not removed\r\n"))

    async with server(conversation) as port:
        session = await open_session(access(port))
        assert await all_of(session, []) == []
        assert await session.delete([]) == ()
        assert await session.top(Offer(1, 5, None), freely) is None
        assert await session.quit() is not None


@pytest.mark.parametrize("last", [b"", b"+O", b"rubbish\r\n", b"-ERR\r\n"])
async def test_quit_is_true_only_for_ok(last: bytes) -> None:
    async def conversation(peer: Peer) -> None:
        await peer.log_in()
        await peer.talk((b"QUIT", last))

    async with server(conversation) as port:
        session = await open_session(access(port))
        assert await session.quit() is not None


async def test_quit_has_a_patience_of_its_own() -> None:
    async def conversation(peer: Peer) -> None:
        await peer.log_in()
        await peer.expect(b"QUIT")
        await peer.until_closed()

    async with server(conversation) as port:
        session = await open_session(access(port, quit_seconds=0.1))
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await session.quit() is not None


async def test_abort_says_nothing_and_closes() -> None:
    async def conversation(peer: Peer) -> None:
        await peer.log_in()
        await peer.talk((b"DELE 1", b"+OK\r\n"))
        assert await peer.until_closed() == b""

    async with server(conversation) as port:
        session = await open_session(access(port))
        await session.delete(offers_of(1))
        await session.abort()
        await session.abort()
        assert (await trouble_of(session.delete(offers_of(1)))).kind == "connect"


def test_a_session_is_the_same_on_uvloop() -> None:
    on_uvloop(
        test_a_session_lists_retrieves_deletes_and_commits(),
        test_a_long_listing_is_whole(),
        test_quit_is_true_only_for_ok(b""),
        test_abort_says_nothing_and_closes(),
    )
