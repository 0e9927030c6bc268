"""One request after the other to a real receiver on loopback, and what is said where there is no answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from engine.adapters.webhook_sender import WebhookSender, WebhookTrouble
from engine.secrets import Secret
from engine.settings import WebhookSettings
from engine.settings.addresses import http_url
from tests.peers.certificates import server_context, write_certificate
from tests.peers.hook_peer import HookPeer

HEADERS = (("X-Id", "7"),)


@asynccontextmanager
async def sending(peer: HookPeer, scheme: str = "http", **settings: Any) -> AsyncIterator[WebhookSender]:
    port = await peer.start()
    url = http_url(f"{scheme}://127.0.0.1:{port}/hook?token=x")
    sender = WebhookSender(WebhookSettings(name="crm", url=url, secret=Secret("s"), **settings))
    try:
        yield sender
    finally:
        await sender.close()
        await peer.stop()


async def test_requests_go_one_after_the_other_on_one_connection() -> None:
    peer = HookPeer()
    async with sending(peer) as sender:
        for number in range(3):
            answer = await sender.post(HEADERS, b"%d" % number)
            assert (answer.status, answer.text) == (200, "thanks")
    assert [one.octets for one in peer.posted] == [b"0", b"1", b"2"]
    assert [one.session for one in peer.posted] == [1, 1, 1]
    assert {one.target for one in peer.posted} == {"/hook?token=x"}
    assert {one.headers["x-id"] for one in peer.posted} == {"7"}
    assert peer.posted[0].headers["host"].startswith("127.0.0.1:")


async def test_several_at_once_have_connections_of_their_own_and_keep_them() -> None:
    peer = HookPeer()
    async with sending(peer) as sender:
        stalled = peer.fault("answer", "stall", matching="first")
        first = asyncio.create_task(sender.post(HEADERS, b"first"))
        await peer.until(lambda: stalled.stalled)
        await sender.post(HEADERS, b"second")
        stalled.release()
        assert (await first).taken
        await asyncio.gather(*(sender.post(HEADERS, b"more") for _ in range(2)))
    assert peer.sessions == 2


async def test_a_connection_that_was_closed_meanwhile_is_no_trouble() -> None:
    peer = HookPeer(keeps=False)
    async with sending(peer) as sender:
        for number in range(3):
            assert (await sender.post(HEADERS, b"%d" % number)).taken
    assert [one.octets for one in peer.posted] == [b"0", b"1", b"2"]


async def test_the_receiver_may_wish_for_a_time() -> None:
    peer = HookPeer()
    peer.fault("answer", "status", code=429, octets=90, text="slowly\x07, please")
    async with sending(peer) as sender:
        answer = await sender.post(HEADERS, b"1")
    assert (answer.status, answer.taken, answer.retry_after) == (429, False, timedelta(seconds=90))
    assert answer.text == "slowly?, please"


@pytest.mark.parametrize(
    ("stage", "action", "said"),
    [
        ("connect", "reset", "(closed|broke) the connection"),
        ("connect", "drop", "(closed|broke) the connection"),
        ("connect", "stall", "gave no answer within 1 s"),
        ("answer", "reset", "broke the connection: connection reset by peer"),
        ("answer", "drop", "closed the connection without an answer"),
        ("answer", "stall", "gave no answer within 1 s"),
        ("answer", "garbage", "answered rubbish: no HTTP"),
    ],
)
async def test_where_there_is_no_answer_it_is_said_why_and_the_next_goes_well(
    stage: str, action: str, said: str
) -> None:
    peer = HookPeer()
    async with sending(peer, timeout_seconds=1.0) as sender:
        peer.fault(stage, action)
        with pytest.raises(WebhookTrouble, match=rf"^127\.0\.0\.1:\d+ {said}"):
            await sender.post(HEADERS, b"1")
        assert (await sender.post(HEADERS, b"2")).taken


@pytest.mark.parametrize("action", ["flood", "drip", "stall-body"])
async def test_a_status_counts_whatever_comes_behind_it(action: str) -> None:
    peer = HookPeer()
    async with sending(peer) as sender:
        peer.fault("answer", action, pause_seconds=0.05)
        assert (await sender.post(HEADERS, b"1")).taken
        assert (await sender.post(HEADERS, b"2")).taken
    assert [one.session for one in peer.posted] == [1, 2]


async def test_nobody_there() -> None:
    peer = HookPeer()
    async with sending(peer) as sender:
        await peer.stop()
        with pytest.raises(WebhookTrouble, match=r"^can't connect to 127\.0\.0\.1:\d+: connection refused$"):
            await sender.post(HEADERS, b"1")


async def test_a_certificate_must_be_vouched_for(tmp_path: Path) -> None:
    peer = HookPeer(tls=server_context())
    async with sending(peer, "https") as sender:
        with pytest.raises(WebhookTrouble, match="the server's certificate is not trusted"):
            await sender.post(HEADERS, b"1")
    assert peer.posted == []
    async with sending(peer, "https", tls_ca=write_certificate(tmp_path)) as sender:
        assert (await sender.post(HEADERS, b"2")).taken
        assert (await sender.post(HEADERS, b"3")).taken
    assert [one.octets for one in peer.posted] == [b"2", b"3"]
    async with sending(peer, "https", tls_ca=tmp_path / "none.pem") as sender:
        with pytest.raises(WebhookTrouble, match=r"cannot read certificates from .*none\.pem"):
            await sender.post(HEADERS, b"4")
