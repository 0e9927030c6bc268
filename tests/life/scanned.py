"""A house whose mail is scanned both ways: by a clamd and a spamd of the test's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.engine.rig import without_trace
from tests.life.house import NOTICE, House, house
from tests.life.submitting import listens
from tests.peers.clamd_peer import ClamdPeer
from tests.peers.pop3d import Pop3Peer
from tests.peers.scanner_peer import ScannerPeer
from tests.peers.smtpd import HomePeer
from tests.peers.spamd_peer import SpamdPeer
from tests.peers.thread import PeerThread


@dataclass
class ScannedHouse:
    """The house, its scanners, and the threads they live in."""

    house: House
    clamd: ClamdPeer
    spamd: SpamdPeer
    clamd_thread: PeerThread
    spamd_thread: PeerThread

    def arrived(self) -> Counter[bytes]:
        """What the home server took, without what was put in front and without notices; how often each."""
        return Counter(
            without_trace(one.octets) for one in self.house.home.ledger if NOTICE not in one.octets
        )

    def unscanned(self) -> list[bytes]:
        """What the home server took although a scanner has not said that it is harmless."""
        return [
            octets
            for octets in self.arrived()
            if not (said(self.clamd, octets, b"stream: OK") and said(self.spamd, octets, b"Spam: False"))
        ]


def said(scanner: ScannerPeer, octets: bytes, answer: bytes) -> bool:
    """Whether a scanner gave this answer to this message; spamd may have been told more in front of it."""
    return any(
        asked.octets is not None and asked.octets.endswith(octets) and asked.reply and answer in asked.reply
        for asked in scanner.asked
    )


@contextmanager
def scanned_house(
    folder: Path,
    store_url: str,
    *,
    timeout: str = "30s",
    provider: Pop3Peer | None = None,
    home: HomePeer | None = None,
) -> Iterator[ScannedHouse]:
    """Open a house with an empty mailbox, that listens and scans. What is found goes into quarantine."""
    clamd, spamd = ClamdPeer(), SpamdPeer()
    threads = PeerThread(clamd), PeerThread(spamd)
    with (
        house(folder, store_url, provider, home) as opened,
        threads[0] as clamd_port,
        threads[1] as spamd_port,
    ):
        listens(opened)
        for kind, port in (("clamd", clamd_port), ("spamd", spamd_port)):
            opened.more += (
                f'[[scanner]]\nkind = "{kind}"\naddress = "127.0.0.1:{port}"\n'
                f'on_found = "quarantine"\ntimeout = "{timeout}"\n'
            )
        yield ScannedHouse(opened, clamd, spamd, *threads)
