"""The scanners' adapters against peers: what they ask, what they make of answers, and of everything that is none."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.adapters.clamd_scanner import ClamdScanner
from engine.adapters.known_version import KnownVersion
from engine.adapters.rspamd_scanner import RspamdScanner
from engine.adapters.spamd_scanner import SpamdScanner
from engine.ports import Answered, Mail, Scanner, ScannerTrouble
from engine.settings.addresses import TcpAddress, UnixAddress
from tests.peers.clamd_peer import VERSION, ClamdPeer
from tests.peers.rspamd_peer import Judged, RspamdPeer
from tests.peers.scanner_peer import EICAR, GTUBE, ScannerPeer
from tests.peers.spamd_peer import SpamdPeer

MAIL = Mail(
    id="m1",
    octets=b"Subject: one\r\n\r\nbody\r\n",
    reverse_path="a@out.example",
    recipients=("b@home.example", "c@home.example"),
)
LARGE = replace(MAIL, octets=b"Subject: two\r\n\r\n" + b"x" * 3_000_000)
KINDS = {
    "clamd": (ClamdPeer, ClamdScanner, "INSTREAM", "PING"),
    "spamd": (SpamdPeer, SpamdScanner, "SYMBOLS", "PING"),
    "rspamd": (RspamdPeer, RspamdScanner, "/checkv2", "/ping"),
}


def scanner_at(kind: str, port: int, host: str = "127.0.0.1") -> Scanner:
    adapter: Scanner = KINDS[kind][1](kind, TcpAddress(host=host, port=port))
    return adapter


@asynccontextmanager
async def running(kind: str, **options: Any) -> AsyncIterator[tuple[Any, Scanner]]:
    """A peer that knows of itself, and its adapter, which knows the version."""
    peer: ScannerPeer = KINDS[kind][0](**options)
    port = await peer.start()
    scanner = scanner_at(kind, port)
    await scanner.scan(MAIL)
    try:
        yield peer, scanner
    finally:
        await scanner.close()
        await peer.stop()


async def trouble(scanner: Scanner, mail: Mail = MAIL) -> ScannerTrouble:
    with pytest.raises(ScannerTrouble) as caught:
        await scanner.scan(mail)
    assert caught.value.text.isprintable()
    return caught.value


@pytest.fixture(params=[*KINDS])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_clamd_says_what_it_found() -> None:
    async with running("clamd") as (peer, scanner):
        assert await scanner.scan(MAIL) == Answered(verdict="clean", engine=VERSION)
        found = await scanner.scan(replace(MAIL, octets=b"see: " + EICAR))
        assert found == Answered(verdict="infected", signature="Eicar-Test-Signature", engine=VERSION)
        assert peer.questions("INSTREAM")[-1].octets == b"see: " + EICAR


async def test_clamd_by_a_socket_in_the_file_system() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        path = Path(folder) / "clamd.ctl"
        scanner = ClamdScanner("clamd", UnixAddress(socket_path=path))
        assert "can't connect to unix:" in (await trouble(scanner)).text
        peer = ClamdPeer(unix_path=path)
        await peer.start()
        assert (await scanner.scan(replace(LARGE, octets=LARGE.octets + EICAR))).verdict == "infected"
        await scanner.ping()
        await peer.stop()


@pytest.mark.parametrize("rude", [False, True])
async def test_above_its_limit_clamd_cannot_scan(rude: bool) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        path = Path(folder) / "clamd.ctl"
        peer = ClamdPeer(unix_path=path, stream_max_octets=100_000, rude=rude)
        await peer.start()
        scanner = ClamdScanner("clamd", UnixAddress(socket_path=path))
        found = await scanner.scan(LARGE)
        assert (found.verdict, found.detail) == ("unscannable", "INSTREAM size limit exceeded. ERROR")
        assert (await scanner.scan(replace(MAIL, octets=b"x" * 100_000))).verdict == "clean"
        await peer.stop()


@pytest.mark.parametrize(
    ("reply", "blame"),
    [
        ("stream: Time limit reached ERROR", "message"),
        ("INSTREAM: Can't write to temporary file. ERROR", "scanner"),
        ("COMMAND READ TIMED OUT", "message"),
        ("UNKNOWN COMMAND", "message"),
        ("stream: Perhaps", "message"),
        ("", "message"),
    ],
)
async def test_what_clamd_cannot_scan(reply: str, blame: str) -> None:
    async with running("clamd") as (peer, scanner):
        peer.fault("answer", "reply", text=reply)
        assert (await trouble(scanner)).blame == blame


async def test_clamd_heuristics_are_findings() -> None:
    async with running("clamd") as (peer, scanner):
        peer.fault("answer", "reply", text="stream: Heuristics.Encrypted.Zip FOUND")
        found = await scanner.scan(MAIL)
        assert (found.verdict, found.signature) == ("infected", "Heuristics.Encrypted.Zip")


async def test_spamd_gives_score_and_rules() -> None:
    async with running("spamd") as (peer, scanner):
        peer.scores[b"pills"] = (4.9, ("PILLS", "CHEAP"))
        engine = "SpamAssassin 4.0.1 (2024-03-25) on peer"
        clean = await scanner.scan(MAIL)
        assert clean == Answered(verdict="clean", score=0.0, threshold=5.0, engine=engine)
        nearly = await scanner.scan(replace(MAIL, octets=b"pills"))
        assert (nearly.verdict, nearly.score, nearly.symbols) == ("clean", 4.9, ("PILLS", "CHEAP"))
        spam = await scanner.scan(replace(MAIL, octets=GTUBE))
        assert (spam.verdict, spam.score, spam.symbols) == ("spam", 1000.0, ("GTUBE",))


@pytest.mark.parametrize(
    ("reply", "blame"),
    [
        ("SPAMD/1.0 76 Bad header line: (Content-Length mismatch)\r\n", "message"),
        ("SPAMD/1.0 79 Timeout: (30 second timeout while trying to SYMBOLS)\r\n", "message"),
        ("SPAMD/1.0 74 I/O error\r\n", "scanner"),
        ("SPAMD/1.1 0 EX_OK\r\nContent-length: 0\r\n\r\n", "message"),
        ("SPAMD/1.1 0 EX_OK\r\nContent-length: 9\r\nSpam: False ; 0.0 / 5.0\r\n\r\n", "message"),
    ],
)
async def test_what_spamd_cannot_scan(reply: str, blame: str) -> None:
    async with running("spamd") as (peer, scanner):
        peer.fault("answer", "reply", text=reply)
        assert (await trouble(scanner)).blame == blame


async def test_rspamd_hears_who_sent_it_to_whom() -> None:
    async with running("rspamd") as (peer, scanner):
        told = replace(MAIL, client_ip="192.0.2.7", helo="mx.out.example", user="alice")
        await scanner.scan(told)
        asked = peer.asked[-1]
        names = ("from", "ip", "helo", "user", "queue-id")
        assert [asked.header(n) for n in names] == [
            "a@out.example",
            "192.0.2.7",
            "mx.out.example",
            "alice",
            "m1",
        ]
        assert asked.all("rcpt") == ["b@home.example", "c@home.example"]
        assert asked.octets == MAIL.octets
        await scanner.scan(replace(MAIL, reverse_path="", helo="x\r\nSettings: {}", client_ip="unknown"))
        asked = peer.asked[-1]
        assert [asked.header(n) for n in names] == ["<>", None, "xSettings: {}", None, "m1"]
        assert asked.header("settings") is None


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(
    ("action", "verdict", "signature"),
    [
        ("no action", "clean", None),
        ("greylist", "clean", None),
        ("soft reject", "clean", None),
        ("add header", "spam", None),
        ("rewrite subject", "spam", None),
        ("reject", "spam", "reject"),
    ],
)
async def test_rspamd_actions(action: str, verdict: str, signature: str | None, chunked: bool) -> None:
    async with running("rspamd", chunked=chunked) as (peer, scanner):
        peer.judged[b"body"] = Judged(action=action, score=6.5, symbols={"PILLS": 6.0, "CHEAP": 0.5})
        assert await scanner.scan(MAIL) == Answered(
            verdict=verdict,  # type: ignore[arg-type]
            signature=signature,
            score=6.5,
            threshold=15.0,
            symbols=("PILLS", "CHEAP"),
            engine="rspamd/3.4",
            detail=f"action: {action}",
        )


@pytest.mark.parametrize(
    ("status", "body", "blame"),
    [
        (200, "{}", "message"),
        (200, "<html>", "message"),
        (500, '{"error": "broken"}', "message"),
        (403, "", "scanner"),
        (503, "", "scanner"),
    ],
)
async def test_what_rspamd_cannot_scan(status: int, body: str, blame: str) -> None:
    async with running("rspamd") as (peer, scanner):
        peer.status = status
        peer.fault("answer", "reply", text=body)
        assert (await trouble(scanner)).blame == blame


@pytest.mark.parametrize("action", ["drop", "drop-mid", "reset", "reset-mid", "garbage", "flood"])
async def test_an_answer_that_is_none_is_trouble_with_the_message(kind: str, action: str) -> None:
    async with running(kind) as (peer, scanner):
        peer.fault("answer", action)
        assert (await trouble(scanner)).blame == "message"
        assert (await scanner.scan(MAIL)).verdict == "clean"


@pytest.mark.parametrize("action", ["drop", "reset"])
async def test_a_scanner_that_breaks_amid_the_message(kind: str, action: str) -> None:
    async with running(kind) as (peer, scanner):
        peer.fault("content", action, octets=500_000)
        assert (await trouble(scanner, LARGE)).blame == "message"
        assert (await scanner.scan(LARGE)).verdict == "clean"


async def test_an_answer_octet_by_octet(kind: str) -> None:
    async with running(kind) as (peer, scanner):
        peer.fault("answer", "drip")
        assert (await scanner.scan(MAIL)).verdict == "clean"


async def test_a_scanner_that_is_down_is_to_blame_itself(kind: str) -> None:
    async with running(kind) as (peer, scanner):
        await peer.stop()
        found = await trouble(scanner)
        assert found.blame == "scanner"
        assert found.text.startswith("can't connect to 127.0.0.1:")


async def test_a_host_that_has_no_address_is_the_scanners_trouble(kind: str) -> None:
    assert (await trouble(scanner_at(kind, 1, "nowhere.invalid"))).blame == "scanner"


async def test_a_call_that_is_cancelled_closes_its_connection(kind: str) -> None:
    async with running(kind) as (peer, scanner):
        before = peer.sessions
        for stage in ("answer", "content"):
            fault = peer.fault(stage, "stall")
            asking = asyncio.create_task(scanner.scan(LARGE))
            await peer.until(lambda fault=fault: fault.stalled)
            asking.cancel()
            await asyncio.wait((asking,))
            assert asking.cancelled()
            fault.release()  # what it has not read yet keeps it from seeing the end
            await peer.until(lambda: peer.open_sessions == 0)
        assert peer.sessions == before + 2


async def test_a_late_answer_is_nobody_elses(kind: str) -> None:
    async with running(kind) as (peer, scanner):
        late = peer.fault("answer", "stall", matching="STANDARD")
        content = EICAR + GTUBE
        asking = asyncio.create_task(scanner.scan(replace(MAIL, octets=content)))
        await peer.until(lambda: late.stalled)
        others = await asyncio.gather(*(scanner.scan(MAIL) for _ in range(5)))
        assert {found.verdict for found in others} == {"clean"}
        late.release()
        assert (await asking).verdict in ("infected", "spam")


async def test_many_at_once_each_get_their_own_answer(kind: str) -> None:
    async with running(kind) as (_, scanner):
        contents = [b"x" * 100_000 + (EICAR + GTUBE) * (n % 2) for n in range(20)]
        found = await asyncio.gather(*(scanner.scan(replace(MAIL, octets=octets)) for octets in contents))
        assert [answered.verdict == "clean" for answered in found] == [n % 2 == 0 for n in range(20)]


async def test_ping_and_version(kind: str) -> None:
    async with running(kind) as (peer, scanner):
        await scanner.ping()
        assert await scanner.version() in (VERSION, "SpamAssassin 4.0.1 (2024-03-25) on peer", "rspamd/3.4")
        ping = KINDS[kind][3]
        peer.fault(
            "answer", "reply", text="HELLO" if kind != "spamd" else "SPAMD/1.5 0 HELLO\r\n", matching=ping
        )
        with pytest.raises(ScannerTrouble, match="HELLO") as caught:
            await scanner.ping()
        assert caught.value.blame == "scanner"
        for action in ("drop", "garbage", "reset"):
            peer.fault("answer", action, matching=ping)
            with pytest.raises(ScannerTrouble) as caught:
                await scanner.ping()
            assert caught.value.blame == "scanner"


async def test_an_empty_message(kind: str) -> None:
    async with running(kind) as (_, scanner):
        assert (await scanner.scan(replace(MAIL, octets=b""))).verdict == "clean"


async def test_a_version_is_asked_again_when_it_is_old() -> None:
    said = iter("abc")

    async def ask() -> str:
        return next(said)

    assert [await KnownVersion(ask, 0.0).text() for _ in range(1)] == ["a"]
    kept = KnownVersion(ask, 3600.0)
    assert [await kept.text(), await kept.text()] == ["b", "b"]
    old = KnownVersion(ask, 0.0)
    assert await old.text() == "c"
    with pytest.raises(RuntimeError, match="StopIteration"):
        await old.text()
