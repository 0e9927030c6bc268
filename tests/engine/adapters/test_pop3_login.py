"""Getting in: greetings, logins, refusals; no secret shows where it should not."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import ssl
from pathlib import Path

import pytest

from engine.adapters.pop3_source import MailboxAccess, open_session
from tests.engine.adapters.scripted_pop3 import SECRET, Peer, access, server, trouble_of
from tests.peers import certificates


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for localhost and 127.0.0.1 that signs itself."""
    return certificates.write_certificate(tmp_path)


@pytest.fixture
def server_tls() -> ssl.SSLContext:
    return certificates.server_context()


def pin() -> str:
    return "sha256:" + hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificates.CERTIFICATE)).hexdigest()


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
