"""No secret leaves before TLS stands as configured: verified, own authorities, or a pinned certificate."""

from __future__ import annotations

import hashlib
import ssl
from pathlib import Path

import pytest

from engine.adapters.pop3_source import open_session
from engine.adapters.tls import TlsTrouble, client_context, fingerprint_of
from tests.engine.adapters.scripted_pop3 import (
    SECRET,
    Peer,
    access,
    on_uvloop,
    server,
    trouble_of,
)
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
        assert await session.quit() is None


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


@pytest.mark.parametrize("pinned", [False, True])
def test_tls_is_the_same_on_uvloop(server_tls: ssl.SSLContext, certificate: Path, pinned: bool) -> None:
    on_uvloop(
        test_stls_comes_before_the_login_and_everything_is_learnt_anew(server_tls, certificate, pinned),
        test_octets_in_the_clear_behind_stls_end_the_session(b"+OK\r\n"),
        test_an_untrusted_certificate_behind_stls_gets_no_secret(server_tls),
        test_a_certificate_that_is_not_trusted_gets_no_secret(server_tls, {}, "not trusted"),
    )
