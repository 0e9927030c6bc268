"""POP3 sessions against little servers that behave, misbehave and fall silent."""

from __future__ import annotations

import asyncio
import base64
import gc
import hashlib
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from engine.adapters.pop3_connection import UNTAKEN_OCTETS_LIMIT
from engine.adapters.pop3_pipeline import WINDOW_COMMANDS, WINDOW_OCTETS
from engine.adapters.pop3_source import MailboxAccess, Pop3Session, open_session
from engine.adapters.tls import TlsTrouble, client_context, fingerprint_of
from engine.ports import Offer, Refused, Retrieved, SourceTrouble
from tests.peers import certificates

PATIENCE_SECONDS = 20.0  # a test that waits longer has failed
SECRET = "s3cret words"


class Peer:
    """The server's end of one connection, in the hands of a test."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def hear(self) -> bytes:
        """The next command line, without CRLF; empty at the end."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            line = await self.reader.readline()
        assert line == b"" or line.endswith(b"\r\n")
        return line.removesuffix(b"\r\n")

    async def expect(self, *commands: bytes) -> None:
        for command in commands:
            assert await self.hear() == command

    async def say(self, octets: bytes) -> None:
        self.writer.write(octets)
        await self.writer.drain()

    async def talk(self, *turns: tuple[bytes, bytes]) -> None:
        for command, reply in turns:
            await self.expect(command)
            await self.say(reply)

    async def log_in(self, *capabilities: bytes) -> None:
        """The part of a session that most tests do not care for."""
        capa = b"".join(line + b"\r\n" for line in (b"+OK", *capabilities, b"."))
        await self.say(b"+OK ready\r\n")
        await self.talk(
            (b"CAPA", capa),
            (b"USER anna", b"+OK\r\n"),
            (b"PASS " + SECRET.encode(), b"+OK\r\n"),
            (b"CAPA", capa),
        )

    async def until_closed(self) -> bytes:
        """Wait until the client has gone; what it still sent."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""


Conversation = Callable[[Peer], Awaitable[None]]


@asynccontextmanager
async def server(*conversations: Conversation, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server on loopback: one conversation for each connection. What a conversation asserts fails the
    test.
    """
    waiting = list(conversations)
    tasks: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await waiting.pop(0)(Peer(reader, writer))
        finally:
            writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.get_running_loop().create_task(serve(reader, writer)))

    listener = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls, limit=1024 * 1024)
    try:
        yield listener.sockets[0].getsockname()[1]
        async with asyncio.timeout(PATIENCE_SECONDS):
            await asyncio.gather(*tasks)
    finally:
        listener.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def access(port: int, secret: str = SECRET, **changes: Any) -> MailboxAccess:
    async def fetch() -> str:
        return secret

    settings: dict[str, Any] = {"host": "127.0.0.1", "tls": "none", "username": "anna", **changes}
    return MailboxAccess(port=port, secret=fetch, **settings)


async def freely(offer: Offer) -> None:
    """Admit everything."""


async def all_of(session: Pop3Session, offers: Sequence[Offer]) -> list[Retrieved | Refused]:
    async with asyncio.timeout(PATIENCE_SECONDS):
        return [happened async for happened in session.retrieve(offers, freely)]


async def trouble_of(waiting: Awaitable[Any]) -> SourceTrouble:
    with pytest.raises(SourceTrouble) as caught:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await waiting
    assert SECRET not in str(caught.value)
    return caught.value


def offers_of(count: int, size_octets: int = 5) -> list[Offer]:
    return [Offer(number, size_octets, b"u%d" % number) for number in range(1, count + 1)]


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for localhost and 127.0.0.1 that signs itself."""
    return certificates.write_certificate(tmp_path)


@pytest.fixture
def server_tls() -> ssl.SSLContext:
    return certificates.server_context()


def pin() -> str:
    return "sha256:" + hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificates.CERTIFICATE)).hexdigest()


# Logging in.


async def test_a_session_lists_retrieves_deletes_and_commits() -> None:
    async def conversation(peer: Peer) -> None:
        await peer.log_in(b"UIDL", b"TOP")
        await peer.talk(
            (b"LIST", b"+OK\r\n1 9\r\n2 5\r\n3 5\r\n.\r\n"),
            (b"UIDL", b"+OK\r\n3 c\r\n1 a b \r\n2 a b \r\n.\r\n"),
            (b"TOP 3 0", b"+OK\r\nSubject: x\r\n\r\n.\r\n"),
            (b"RETR 1", b"+OK\r\na\n.\r\nb\r\n..\r\n.\r\n"),
            (b"RETR 2", b"-ERR no such thing\r\n"),
            (b"DELE 1", b"+OK\r\n"),
            (b"DELE 3", b"-ERR never heard of it\r\n"),
            (b"NOOP", b"+OK\r\n"),
            (b"QUIT", b"+OK bye\r\n"),
        )

    async with server(conversation) as port:
        session = await open_session(access(port))
        assert session.capabilities == {"UIDL", "TOP"}
        assert session.tls == "none"
        first, second, third = await session.listing()
        assert (first, second, third) == (Offer(1, 9, b"a b "), Offer(2, 5, b"a b "), Offer(3, 5, b"c"))
        assert await session.top(third) == b"Subject: x\r\n\r\n"
        got = await all_of(session, [first, second])
        assert got == [Retrieved(first, bytearray(b"a\n.\r\nb\r\n.\r\n")), Refused(second, "no such thing")]
        assert await session.delete([first, third]) == (first,)
        await session.noop()
        assert await session.quit()


async def test_capabilities_are_those_after_the_login() -> None:
    async def conversation(peer: Peer) -> None:
        await peer.say(b"+OK\r\n")
        await peer.talk((b"CAPA", b"-ERR what?\r\n"), (b"USER anna", b"+OK\r\n"))
        await peer.talk((b"PASS s3cret words", b"+OK\r\n"), (b"CAPA", b"+OK\r\nLOGIN-DELAY 60\r\n.\r\n"))

    async with server(conversation) as port:
        session = await open_session(access(port))
        assert session.capabilities == {"LOGIN-DELAY 60"}
        await session.abort()


async def test_apop_is_used_when_it_is_asked_for() -> None:
    digest = hashlib.md5(b"<1.2@here>" + SECRET.encode()).hexdigest().encode()

    async def conversation(peer: Peer) -> None:
        await peer.say(b"+OK <1.2@here>\r\n")
        await peer.talk((b"CAPA", b"-ERR\r\n"), (b"APOP anna " + digest, b"+OK\r\n"), (b"CAPA", b"-ERR\r\n"))

    async with server(conversation) as port:
        session = await open_session(access(port, auth="apop"))
        await session.abort()


async def test_apop_without_a_timestamp_sends_nothing() -> None:
    async def conversation(peer: Peer) -> None:
        await peer.say(b"+OK ready\r\n")
        await peer.talk((b"CAPA", b"-ERR\r\n"))
        assert await peer.until_closed() == b""

    async with server(conversation) as port:
        trouble = await trouble_of(open_session(access(port, auth="apop")))
    assert (trouble.kind, trouble.permanent) == ("auth", True)


async def test_auto_takes_plain_only_behind_tls(server_tls: ssl.SSLContext, certificate: Path) -> None:
    plain = base64.b64encode(b"\0anna\0" + SECRET.encode())

    async def in_the_clear(peer: Peer) -> None:
        await peer.log_in(b"SASL PLAIN")

    async def behind_tls(peer: Peer) -> None:
        await peer.say(b"+OK <1.2@here>\r\n")
        await peer.talk((b"CAPA", b"+OK\r\nSASL LOGIN PLAIN\r\n.\r\n"), (b"AUTH PLAIN " + plain, b"+OK\r\n"))
        await peer.talk((b"CAPA", b"-ERR\r\n"))

    async with server(in_the_clear) as port:
        await (await open_session(access(port))).abort()
    async with server(behind_tls, tls=server_tls) as port:
        session = await open_session(access(port, tls="implicit", tls_ca=str(certificate)))
        assert session.tls.startswith("TLSv1.3 ")
        assert session.tls.endswith(" verified")
        await session.abort()


async def test_a_long_password_waits_for_the_servers_plus() -> None:
    secret = "x" * 300
    answer = base64.b64encode(b"\0anna\0" + secret.encode())

    async def conversation(peer: Peer) -> None:
        await peer.say(b"+OK\r\n")
        await peer.talk((b"CAPA", b"-ERR\r\n"), (b"AUTH PLAIN", b"+\r\n"))
        await peer.talk((answer, b"+OK\r\n"), (b"CAPA", b"-ERR\r\n"))

    async with server(conversation) as port:
        await (await open_session(access(port, secret, auth="plain"))).abort()


async def test_a_token_that_is_refused_shows_why_and_not_itself() -> None:
    token = "ya29." + "t" * 1500
    answer = base64.b64encode(f"user=anna\1auth=Bearer {token}\1\1".encode())
    why = base64.b64encode(json.dumps({"status": "401", "echo": token}).encode())

    async def conversation(peer: Peer) -> None:
        await peer.say(b"+OK\r\n")
        await peer.talk((b"CAPA", b"-ERR\r\n"), (b"AUTH XOAUTH2", b"+ \r\n"), (answer, b"+ " + why + b"\r\n"))
        await peer.talk((b"", b"-ERR [AUTH] token expired: " + answer + b"\r\n"))

    async with server(conversation) as port:
        trouble = await trouble_of(open_session(access(port, token, auth="xoauth2")))
    assert (trouble.kind, trouble.permanent) == ("auth", True)
    assert '"status": "401"' in trouble.text
    assert "ttttt" not in trouble.text
    assert answer.decode()[:20] not in trouble.text


async def test_a_token_that_is_taken_logs_in() -> None:
    async def conversation(peer: Peer) -> None:
        await peer.say(b"+OK\r\n")
        await peer.talk((b"CAPA", b"-ERR\r\n"))
        await peer.talk((b"AUTH XOAUTH2 " + base64.b64encode(b"user=anna\1auth=Bearer tok\1\1"), b"+OK\r\n"))
        await peer.talk((b"CAPA", b"-ERR\r\n"))

    async with server(conversation) as port:
        await (await open_session(access(port, "tok", auth="xoauth2"))).abort()


async def test_a_challenge_to_plain_is_cancelled() -> None:
    async def conversation(peer: Peer) -> None:
        await peer.say(b"+OK\r\n")
        await peer.talk((b"CAPA", b"-ERR\r\n"))
        await peer.hear()
        await peer.say(b"+ bW9yZQ==\r\n")
        await peer.talk((b"*", b"-ERR cancelled\r\n"))

    async with server(conversation) as port:
        trouble = await trouble_of(open_session(access(port, auth="plain")))
    assert trouble.kind == "auth"


LOGIN_REFUSALS = [
    (b"-ERR [IN-USE] locked", False, "in-use", False),
    (b"-ERR [LOGIN-DELAY] slowly", False, "login-delay", False),
    (b"-ERR [SYS/TEMP] database", False, "connect", False),
    (b"-ERR [SYS/PERM] disk", False, "connect", True),
    (b"-ERR [AUTH] wrong", True, "auth", True),
    (b"-ERR wrong", False, "auth", False),
    (b"-ERR something", True, "connect", False),
    (b"-ERR", False, "auth", False),
    (b"-ERR unable to lock maildrop", True, "in-use", False),
    (b"-ERR mailbox is locked by another session", False, "in-use", False),
    (b"-ERR your account is locked", False, "auth", False),
    (b"-ERR too many login attempts", False, "login-delay", False),
    (b"-ERR temporarily unavailable", False, "connect", False),
    (b"-ERR no user " + SECRET.encode(), False, "auth", False),
]


@pytest.mark.parametrize(("line", "announces", "kind", "permanent"), LOGIN_REFUSALS)
async def test_a_refused_login_says_whose_matter_it_is(
    line: bytes, announces: bool, kind: str, permanent: bool
) -> None:
    capa = b"+OK\r\n" + b"RESP-CODES\r\nAUTH-RESP-CODE\r\n" * announces + b".\r\n"

    async def conversation(peer: Peer) -> None:
        await peer.say(b"+OK\r\n")
        await peer.talk((b"CAPA", capa), (b"USER anna", b"+OK\r\n"), (b"PASS s3cret words", line + b"\r\n"))
        await peer.until_closed()

    async with server(conversation) as port:
        trouble = await trouble_of(open_session(access(port)))
    assert (trouble.kind, trouble.permanent) == (kind, permanent)


@pytest.mark.parametrize(
    ("greeting", "kind"),
    [
        (b"-ERR [IN-USE] come back\r\n", "in-use"),
        (b"-ERR too busy\r\n", "connect"),
        (b"220 smtp\r\n", "protocol"),
        (b"x" * 5000, "protocol"),
        (b"+OK no line ending", "connect"),
        (b"", "connect"),
    ],
)
async def test_a_bad_greeting_is_named(greeting: bytes, kind: str) -> None:
    async def conversation(peer: Peer) -> None:
        await peer.say(greeting)

    async with server(conversation) as port:
        trouble = await trouble_of(open_session(access(port)))
    assert trouble.kind == kind


@pytest.mark.parametrize("username", ["anna\r\nDELE 1", "anna\n", "an\0na", ""])
@pytest.mark.parametrize("auth", ["user", "plain", "xoauth2", "apop"])
async def test_a_user_name_cannot_carry_commands(username: str, auth: str) -> None:
    async def conversation(peer: Peer) -> None:
        await peer.say(b"+OK <1.2@here>\r\n")
        await peer.talk((b"CAPA", b"-ERR\r\n"))
        assert await peer.until_closed() == b""

    async with server(conversation) as port:
        trouble = await trouble_of(open_session(access(port, username=username, auth=auth)))
    assert (trouble.kind, trouble.permanent) == ("auth", True)


async def test_what_fetching_the_secret_raises_goes_through_and_leaves_nothing_open() -> None:
    async def failing() -> str:
        raise LookupError("no such key")

    async def conversation(peer: Peer) -> None:
        await peer.say(b"+OK\r\n")
        await peer.talk((b"CAPA", b"-ERR\r\n"))
        assert await peer.until_closed() == b""

    async with server(conversation) as port:
        with pytest.raises(LookupError):
            await open_session(
                MailboxAccess(host="127.0.0.1", port=port, tls="none", username="a", secret=failing)
            )


def test_the_secret_stays_out_of_the_repr() -> None:
    assert "secret" not in repr(access(110))


async def test_nobody_listening_is_named() -> None:
    listener = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    listener.close()
    await listener.wait_closed()

    trouble = await trouble_of(open_session(access(port)))

    assert trouble.kind == "connect"
    assert f"127.0.0.1 port {port}" in trouble.text


# TLS.


async def upgrade(peer: Peer, context: ssl.SSLContext) -> None:
    await peer.say(b"+OK begin\r\n")
    await peer.writer.start_tls(context)


@pytest.mark.parametrize("pinned", [False, True])
async def test_stls_comes_before_the_login_and_everything_is_learnt_anew(
    server_tls: ssl.SSLContext, certificate: Path, pinned: bool
) -> None:
    trust = {"tls_fingerprint": pin()} if pinned else {"tls_ca": str(certificate)}

    async def conversation(peer: Peer) -> None:
        await peer.say(b"+OK ready\r\n")
        await peer.talk((b"CAPA", b"+OK\r\nSTLS\r\nSASL PLAIN\r\nPIPELINING\r\n.\r\n"))
        await peer.expect(b"STLS")
        await upgrade(peer, server_tls)
        await peer.talk((b"CAPA", b"+OK\r\nX-BEHIND-TLS\r\n.\r\n"), (b"USER anna", b"+OK\r\n"))
        await peer.talk((b"PASS s3cret words", b"+OK\r\n"), (b"CAPA", b"-ERR\r\n"), (b"QUIT", b"+OK\r\n"))

    async with server(conversation) as port:
        session = await open_session(access(port, tls="starttls", **trust))
        assert session.capabilities == {"X-BEHIND-TLS"}
        assert session.tls.endswith(" verified")
        assert await session.quit()


@pytest.mark.parametrize("behind", [b"+OK\r\n.\r\n", b"\0"])
async def test_octets_in_the_clear_behind_stls_end_the_session(behind: bytes) -> None:
    async def conversation(peer: Peer) -> None:
        await peer.say(b"+OK\r\n")
        await peer.talk((b"CAPA", b"+OK\r\nSTLS\r\n.\r\n"), (b"STLS", b"+OK begin\r\n" + behind))
        assert await peer.until_closed() == b""

    async with server(conversation) as port:
        trouble = await trouble_of(open_session(access(port, tls="starttls")))
    assert trouble.kind == "protocol"
    assert "in the clear" in trouble.text


@pytest.mark.parametrize(
    "turns",
    [
        [(b"CAPA", b"+OK\r\nTOP\r\n.\r\n")],
        [(b"CAPA", b"+OK\r\nSTLS\r\n.\r\n"), (b"STLS", b"-ERR no\r\n")],
        [(b"CAPA", b"-ERR\r\n"), (b"STLS", b"-ERR what?\r\n")],
    ],
)
async def test_nothing_secret_is_sent_where_tls_is_asked_for_and_not_had(
    turns: list[tuple[bytes, bytes]],
) -> None:
    async def conversation(peer: Peer) -> None:
        await peer.say(b"+OK\r\n")
        await peer.talk(*turns)
        assert await peer.until_closed() == b""

    async with server(conversation) as port:
        trouble = await trouble_of(open_session(access(port, tls="starttls")))
    assert trouble.kind == "tls"


async def refuse_to_talk(peer: Peer) -> None:
    assert await peer.until_closed() == b""


@pytest.mark.parametrize(
    ("trust", "words"),
    [
        ({}, "not trusted"),
        ({"tls_fingerprint": "sha256:" + "0" * 64}, "not the pinned one"),
        ({"tls_fingerprint": "sha1:00"}, "is written sha256:"),
        ({"tls_ca": "/does/not/exist.pem"}, "cannot read certificates from /does/not/exist.pem"),
    ],
)
async def test_a_certificate_that_is_not_trusted_gets_no_secret(
    server_tls: ssl.SSLContext, trust: dict[str, str], words: str
) -> None:
    async with server(refuse_to_talk, tls=server_tls) as port:
        trouble = await trouble_of(open_session(access(port, tls="implicit", **trust)))
    assert (trouble.kind, trouble.permanent) == ("tls", True)
    assert words in trouble.text


async def test_a_certificate_for_another_name_is_not_trusted(
    server_tls: ssl.SSLContext, certificate: Path
) -> None:
    async with server(refuse_to_talk, tls=server_tls) as port:
        mailbox = access(port, tls="implicit", tls_ca=str(certificate), host="127.1")  # the same address
        trouble = await trouble_of(open_session(mailbox))
    assert trouble.kind == "tls"


async def test_an_untrusted_certificate_behind_stls_gets_no_secret(server_tls: ssl.SSLContext) -> None:
    async def conversation(peer: Peer) -> None:
        await peer.say(b"+OK\r\n")
        await peer.talk((b"CAPA", b"+OK\r\nSTLS\r\n.\r\n"))
        await peer.expect(b"STLS")
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await upgrade(peer, server_tls)

    async with server(conversation) as port:
        trouble = await trouble_of(open_session(access(port, tls="starttls")))
    assert (trouble.kind, trouble.permanent) == ("tls", True)


async def test_verification_can_be_switched_off_and_then_it_is_said(server_tls: ssl.SSLContext) -> None:
    async def conversation(peer: Peer) -> None:
        await peer.log_in()

    async with server(conversation, tls=server_tls) as port:
        session = await open_session(access(port, tls="implicit", tls_verify=False))
        assert session.tls.endswith(" unverified")
        await session.abort()


async def test_implicit_tls_on_a_port_without_it_is_named() -> None:
    async def conversation(peer: Peer) -> None:
        await peer.say(b"+OK ready\r\n")
        assert SECRET.encode() not in await peer.until_closed()

    async with server(conversation) as port:
        trouble = await trouble_of(open_session(access(port, tls="implicit")))
    assert trouble.kind == "tls"
    assert "for TLS from the first octet" in trouble.text


async def test_a_handshake_that_never_comes_is_given_up() -> None:
    async def conversation(peer: Peer) -> None:
        await peer.until_closed()

    async with server(conversation) as port:
        trouble = await trouble_of(open_session(access(port, tls="implicit", connect_seconds=0.1)))
    assert trouble.kind == "connect"


def test_a_fingerprint_may_have_colons_and_any_case() -> None:
    digest = hashlib.sha256(b"x").digest()

    for text in (digest.hex(), "sha256:" + digest.hex(), "SHA256:" + digest.hex(":").upper()):
        assert fingerprint_of(text) == digest
    with pytest.raises(ValueError, match="64 hex digits"):
        fingerprint_of("sha256:abc")


def test_old_tls_versions_are_never_spoken() -> None:
    for verify in (True, False):
        context = client_context(verify=verify, ca_file=None, fingerprint=None)
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2
        assert context.check_hostname is verify


def test_a_file_without_certificates_is_named(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")

    with pytest.raises(TlsTrouble, match=r"ca\.pem"):
        client_context(verify=True, ca_file=str(tmp_path / "ca.pem"), fingerprint=None)


# Listings.


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
        assert session.passed_over == 4


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


# Retrieving.


def mail(number: int, octets: int = 100) -> bytes:
    line = b"%06d %s\r\n" % (number, b"x" * 70)
    return line * max(1, octets // len(line))


async def answer_retrs(peer: Peer, count: int, octets: int = 100) -> None:
    for number in range(1, count + 1):
        await peer.expect(b"RETR %d" % number)
        await peer.say(b"+OK\r\n" + mail(number, octets) + b".\r\n")


@pytest.mark.parametrize("capability", [b"PIPELINING", b"TOP"])
@pytest.mark.parametrize("tls", [False, True])
async def test_many_messages_come_in_order_and_whole(
    capability: bytes, tls: bool, server_tls: ssl.SSLContext
) -> None:
    count = 1500

    async def conversation(peer: Peer) -> None:
        await peer.log_in(capability)
        await answer_retrs(peer, count)
        for number in range(1, count + 1):
            await peer.talk((b"DELE %d" % number, b"-ERR\r\n" if number % 3 == 0 else b"+OK\r\n"))
        await peer.talk((b"QUIT", b"+OK\r\n"))

    offers = offers_of(count)
    async with server(conversation, tls=server_tls if tls else None) as port:
        session = await open_session(access(port, tls="implicit" if tls else "none", tls_verify=False))
        got = await all_of(session, offers)
        assert got == [Retrieved(offer, bytearray(mail(offer.number))) for offer in offers]
        assert await session.delete(offers) == tuple(offer for offer in offers if offer.number % 3)
        assert await session.quit()


async def test_a_window_of_commands_is_sent_ahead_in_one_write_and_no_more() -> None:
    async def conversation(peer: Peer) -> None:
        await peer.log_in(b"PIPELINING")
        wanted = b"".join(b"RETR %d\r\n" % number for number in range(1, WINDOW_COMMANDS + 1))
        assert await peer.reader.readexactly(len(wanted)) == wanted
        await peer.say(b"-ERR\r\n")
        await peer.expect(b"RETR %d" % (WINDOW_COMMANDS + 1))  # not before there was room for it
        await peer.say(b"-ERR\r\n" * WINDOW_COMMANDS)
        await peer.expect(b"RETR %d" % (WINDOW_COMMANDS + 2))

    offers = offers_of(WINDOW_COMMANDS + 2)
    async with server(conversation) as port:
        session = await open_session(access(port))
        async with aclosing(session.retrieve(offers, freely)) as retrieval:
            for _ in range(WINDOW_COMMANDS + 1):
                assert isinstance(await anext(retrieval), Refused)
            assert (await trouble_of(anext(retrieval))).offer == offers[-1]


async def test_the_window_is_bounded_in_octets_too_and_one_message_may_exceed_it() -> None:
    half = WINDOW_OCTETS // 2
    offers = [Offer(1, 10 * half, b"a"), Offer(2, half, b"b"), Offer(3, half, b"c"), Offer(4, half, b"d")]
    seen: list[bytes] = []

    async def conversation(peer: Peer) -> None:
        await peer.log_in(b"PIPELINING")
        await peer.expect(b"RETR 1")
        await peer.say(b"-ERR\r\n")
        await peer.expect(b"RETR 2", b"RETR 3")
        await peer.say(b"-ERR\r\n")
        seen.append(await peer.hear())
        await peer.say(b"-ERR\r\n-ERR\r\n")

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

    async def admit(offer: Offer) -> None:
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
    async def admit(offer: Offer) -> None:
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
        assert not await session.quit()


async def test_a_slow_consumer_stops_the_reading() -> None:
    octets = 60_000
    one_read = 512 * 1024

    async def conversation(peer: Peer) -> None:
        await peer.log_in(b"PIPELINING")
        await answer_retrs(peer, WINDOW_COMMANDS, octets)

    offers = offers_of(WINDOW_COMMANDS, 1)  # the listing says little, so the window lets them all through
    async with server(conversation) as port:
        session = await open_session(access(port))
        connection = session._connection
        async with asyncio.timeout(PATIENCE_SECONDS), aclosing(session.retrieve(offers, freely)) as retrieval:
            await anext(retrieval)
            while connection.transport.is_reading():
                await asyncio.sleep(0.01)
            assert connection._untaken_octets < UNTAKEN_OCTETS_LIMIT + one_read < WINDOW_COMMANDS * octets
            rest = [retrieved async for retrieved in retrieval]
        await session.abort()
    assert len(rest) == WINDOW_COMMANDS - 1


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
        assert not await session.quit()
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
        assert not await session.quit()


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
        assert await session.delete(offers_of(1)) == tuple(offers_of(1))
        assert await session.reset()
        assert await session.quit()


async def test_nothing_to_do_is_done() -> None:
    async def conversation(peer: Peer) -> None:
        await peer.log_in()
        await peer.talk((b"TOP 1 0", b"-ERR\r\n"), (b"QUIT", b"-ERR some were not removed\r\n"))

    async with server(conversation) as port:
        session = await open_session(access(port))
        assert await all_of(session, []) == []
        assert await session.delete([]) == ()
        assert await session.top(Offer(1, 5, None)) is None
        assert not await session.quit()


# What breaks in the middle.


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
        assert not await session.quit()
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

    got, trouble = await retrieved_until_trouble(
        [GOOD, b"-ERR [SYS/TEMP] not now\r\n", last], offers, capability
    )

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
        patience = {"idle_seconds": 10.0, "grace_seconds": 0.1, "least_octets_per_second": 5000}
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
        assert not await session.quit()
    assert trouble.offer is None


@pytest.mark.parametrize("last", [b"", b"+O", b"rubbish\r\n", b"-ERR\r\n"])
async def test_quit_is_true_only_for_ok(last: bytes) -> None:
    async def conversation(peer: Peer) -> None:
        await peer.log_in()
        await peer.talk((b"QUIT", last))

    async with server(conversation) as port:
        session = await open_session(access(port))
        assert not await session.quit()


async def test_quit_has_a_patience_of_its_own() -> None:
    async def conversation(peer: Peer) -> None:
        await peer.log_in()
        await peer.expect(b"QUIT")
        await peer.until_closed()

    async with server(conversation) as port:
        session = await open_session(access(port, quit_seconds=0.1))
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert not await session.quit()


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


@pytest.mark.parametrize(
    "name",
    [
        "a_session_lists_retrieves_deletes_and_commits",
        "a_slow_consumer_stops_the_reading",
        "a_silent_server_is_given_up",
        "a_cancelled_retrieval_closes_the_connection",
        "what_admit_raises_goes_through_and_ends_the_session",
    ],
)
def test_it_is_the_same_on_uvloop(name: str) -> None:
    uvloop = pytest.importorskip("uvloop")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(globals()["test_" + name]())


@pytest.mark.parametrize("pinned", [False, True])
def test_tls_is_the_same_on_uvloop(server_tls: ssl.SSLContext, certificate: Path, pinned: bool) -> None:
    uvloop = pytest.importorskip("uvloop")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(
            test_stls_comes_before_the_login_and_everything_is_learnt_anew(server_tls, certificate, pinned)
        )
        runner.run(test_octets_in_the_clear_behind_stls_end_the_session(b"+OK\r\n"))
        runner.run(test_many_messages_come_in_order_and_whole(b"PIPELINING", True, server_tls))
        runner.run(test_an_untrusted_certificate_behind_stls_gets_no_secret(server_tls))
        runner.run(test_a_certificate_that_is_not_trusted_gets_no_secret(server_tls, {}, "not trusted"))
