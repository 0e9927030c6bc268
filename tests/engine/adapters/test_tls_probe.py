"""A probe tells a server's certificate and greeting, whatever the server does, and sends nothing secret."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import AsyncIterator

import pytest

from engine.adapters.tls_probe import Opening, certificate_of, greeting_of
from tests.peers.certificates import CERTIFICATE, server_context
from tests.peers.faults import FaultyServer
from tests.peers.pop3d import Pop3Peer
from tests.peers.smtpd import HomePeer

FINGERPRINT = "sha256:" + hashlib.sha256(ssl.PEM_cert_to_DER_cert(CERTIFICATE)).hexdigest()


@pytest.fixture
async def started() -> AsyncIterator[list[FaultyServer]]:
    """Servers put here are stopped at the end."""
    servers: list[FaultyServer] = []
    yield servers
    for server in servers:
        await server.stop()


@pytest.mark.parametrize(
    ("opening", "peer"),
    [
        ("implicit", lambda: Pop3Peer(tls="implicit", tls_context=server_context())),
        ("implicit", lambda: HomePeer(tls="implicit", tls_context=server_context())),
        ("pop3", lambda: Pop3Peer(tls="starttls", tls_context=server_context())),
        ("smtp", lambda: HomePeer(tls="starttls", tls_context=server_context())),
    ],
)
async def test_the_certificate_is_seen(opening: Opening, peer: type, started: list[FaultyServer]) -> None:
    started.append(peer())
    port = await started[0].start()
    assert await certificate_of("127.0.0.1", port, opening) == FINGERPRINT


@pytest.mark.parametrize(
    ("opening", "peer"),
    [("implicit", Pop3Peer), ("implicit", HomePeer), ("pop3", Pop3Peer), ("smtp", HomePeer)],
)
async def test_a_server_without_tls_shows_no_certificate(
    opening: Opening, peer: type, started: list[FaultyServer]
) -> None:
    started.append(peer())
    port = await started[0].start()
    assert await certificate_of("127.0.0.1", port, opening) is None


@pytest.mark.parametrize("opening", ["implicit", "pop3", "smtp"])
async def test_a_server_that_hangs_up_shows_no_certificate(
    opening: Opening, started: list[FaultyServer]
) -> None:
    peer = Pop3Peer()
    peer.fault("connect", "drop", times=None)
    started.append(peer)
    port = await peer.start()
    assert await certificate_of("127.0.0.1", port, opening) is None
    assert await greeting_of("127.0.0.1", port) is None


async def test_the_greeting_is_seen(started: list[FaultyServer]) -> None:
    started += [Pop3Peer(), HomePeer()]
    assert await greeting_of("127.0.0.1", await started[0].start()) == "+OK peer ready"
    said = await greeting_of("127.0.0.1", await started[1].start())
    assert said is not None
    assert said.startswith("220 ")


@pytest.mark.parametrize("action", ["garbage", "endless-line"])
async def test_nonsense_is_no_greeting(action: str, started: list[FaultyServer]) -> None:
    peer = Pop3Peer()
    peer.fault("greeting", action, times=None)
    started.append(peer)
    said = await greeting_of("127.0.0.1", await peer.start())
    assert said is None or said.isprintable()


async def test_nobody_there_is_no_answer(started: list[FaultyServer]) -> None:
    peer = Pop3Peer()
    port = await peer.start()
    await peer.stop()
    assert await greeting_of("127.0.0.1", port) is None
    assert await certificate_of("127.0.0.1", port, "implicit") is None
