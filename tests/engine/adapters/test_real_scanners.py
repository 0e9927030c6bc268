"""The adapters against the real clamd, spamd and rspamd."""

from dataclasses import replace

import pytest

from engine.adapters.clamd_scanner import ClamdScanner
from engine.adapters.rspamd_scanner import RspamdScanner
from engine.adapters.spamd_scanner import SpamdScanner
from engine.ports import Mail, Scanner
from engine.settings.addresses import TcpAddress, UnixAddress
from tests.peers.scanner_peer import EICAR, GTUBE
from tests.real.clamd import SIGNATURE, STREAM_MAX_OCTETS, Clamd
from tests.real.process import wait_until
from tests.real.rspamd import Rspamd
from tests.real.spamd import PILLS, Spamd

HEADER = b"From: ann@out.example\r\nTo: info@home.example\r\nSubject: one\r\n\r\n"
MAIL = Mail(
    id="m1",
    octets=HEADER + b"hello\r\n",
    reverse_path="ann@out.example",
    recipients=("info@home.example", "sales@home.example"),
    client_ip="192.0.2.7",
    helo="mx.out.example",
)


def saying(content: bytes) -> Mail:
    return replace(MAIL, octets=HEADER + content + b"\r\n")


def at(server: Clamd | Spamd | Rspamd) -> TcpAddress:
    return TcpAddress(host="127.0.0.1", port=server.port)


async def well(scanner: Scanner, name: str) -> None:
    await scanner.ping()
    assert name in await scanner.version()
    assert (await scanner.scan(MAIL)).verdict == "clean"
    assert (await scanner.scan(replace(MAIL, octets=b""))).verdict == "clean"


@pytest.mark.parametrize("way", ["tcp", "unix"])
async def test_clamd(clamd: Clamd, way: str) -> None:
    address = at(clamd) if way == "tcp" else UnixAddress(socket_path=clamd.socket_path)
    scanner = ClamdScanner("clamd", address)
    await well(scanner, "ClamAV ")
    found = await scanner.scan(saying(EICAR))
    assert (found.verdict, found.signature) == ("infected", SIGNATURE)
    assert found.engine.startswith("ClamAV ")
    behind = await scanner.scan(saying(b"text\r\n" * 100_000 + EICAR))
    assert behind.verdict == "infected"


async def test_clamd_at_its_limit(clamd: Clamd) -> None:
    scanner = ClamdScanner("clamd", UnixAddress(socket_path=clamd.socket_path))
    assert (await scanner.scan(replace(MAIL, octets=b"x" * STREAM_MAX_OCTETS))).verdict == "clean"
    for size in (STREAM_MAX_OCTETS + 1, 20 * STREAM_MAX_OCTETS):
        found = await scanner.scan(replace(MAIL, octets=b"x" * size))
        assert (found.verdict, found.detail) == ("unscannable", "INSTREAM size limit exceeded. ERROR")


async def test_spamd(spamd: Spamd) -> None:
    scanner = SpamdScanner("spamd", at(spamd))
    await well(scanner, "SpamAssassin ")
    spam = await scanner.scan(saying(GTUBE))
    assert (spam.verdict, spam.score, spam.threshold, spam.symbols) == ("spam", 1000.0, 5.0, ("GTUBE",))
    low = await scanner.scan(saying(PILLS))
    assert (low.verdict, low.score, low.symbols) == ("clean", 3.5, ("CHEAP_PILLS",))
    assert low.engine.startswith("SpamAssassin ")


async def test_rspamd(rspamd: Rspamd) -> None:
    scanner = RspamdScanner("rspamd", at(rspamd))
    await well(scanner, "rspamd/")
    spam = await scanner.scan(saying(GTUBE))
    assert (spam.verdict, spam.signature, spam.detail) == ("spam", "reject", "action: reject")
    assert (spam.score, spam.threshold) == (15.0, 15.0)
    for letter, action in ((b"Y", "add header"), (b"Z", "rewrite subject")):
        tagged = await scanner.scan(saying(letter + GTUBE[1:]))
        assert (tagged.verdict, tagged.signature, tagged.detail) == ("spam", None, f"action: {action}")


async def test_rspamd_judges_who_sent_it_to_whom(rspamd: Rspamd) -> None:
    scanner = RspamdScanner("rspamd", at(rspamd))
    told = await scanner.scan(replace(MAIL, user="alice"))
    assert told.symbols == ("SEEN",)
    expected = "192.0.2.7|mx.out.example|alice|ann@out.example|info@home.example+sales@home.example"
    wait_until(lambda: expected in rspamd.log(), "the log to tell what came along")
