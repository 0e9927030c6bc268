"""`mailgate check --connect` asks each scanner for its version, and what it says of EICAR or GTUBE."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.cli.installation import Installation, installed
from tests.peers.clamd_peer import VERSION, ClamdPeer
from tests.peers.rspamd_peer import RspamdPeer
from tests.peers.scanner_peer import EICAR, GTUBE, ScannerPeer
from tests.peers.spamd_peer import SpamdPeer
from tests.peers.thread import PeerThread

PEERS: dict[str, type[ScannerPeer]] = {"clamd": ClamdPeer, "spamd": SpamdPeer, "rspamd": RspamdPeer}
FOUND = {
    "clamd": "EICAR: infected (Eicar-Test-Signature)",
    "spamd": "GTUBE: spam, score 1000 of 5",
    "rspamd": "GTUBE: spam (reject), score 15 of 15",
}
VERSIONS = {"clamd": VERSION, "spamd": "SpamAssassin 4.0.1 (2024-03-25) on peer", "rspamd": "rspamd/3.4"}


@pytest.fixture
def house(tmp_path: Path, sqlite_url: str) -> Iterator[Installation]:
    with installed(tmp_path, sqlite_url) as house:
        yield house


@pytest.fixture
def scanners(house: Installation) -> Iterator[dict[str, Any]]:
    """One of each kind, configured, each in a thread of its own."""
    with ExitStack() as stack:
        threads = {kind: PeerThread(peer()).open() for kind, peer in PEERS.items()}
        for thread in threads.values():
            stack.callback(thread.close)
        house.configure(more="".join(table(kind, thread.port) for kind, thread in threads.items()))
        yield threads


def table(kind: str, port: int, more: str = "") -> str:
    return f'[[scanner]]\nkind = "{kind}"\naddress = "127.0.0.1:{port}"\n{more}\n'


def tried(house: Installation, code: int = 0) -> dict[str, dict[str, Any]]:
    rows = house.rows("check", "--connect", code=code)
    return {row["name"]: row["connect"] for row in rows if row["kind"] == "scanner"}


def test_check_alone_says_what_it_understood(house: Installation) -> None:
    more = 'name = "spam"\nthreshold = 5.0\nquarantine_threshold = 12.5\nmax_size = "1MiB"\ndirection = "inbound"\n'
    house.configure(more=table("spamd", 783, more))
    said = " ".join(house.mailgate("check").split())
    assert "scanner spam: spamd at 127.0.0.1:783, inbound mail, at most 1.0 MB" in said
    assert (
        "what it finds: tag from score 5, quarantine from 12.5; what it can't scan: pass; if it is down: wait"
        in said
    )


def test_every_scanner_answers(house: Installation, scanners: dict[str, PeerThread]) -> None:
    found = tried(house)
    assert {kind: trial["ok"] for kind, trial in found.items()} == dict.fromkeys(PEERS, True)
    assert {kind: trial["version"] for kind, trial in found.items()} == VERSIONS
    assert [found[kind]["pattern"] for kind in PEERS] == ["EICAR", "GTUBE", "GTUBE"]
    said = house.mailgate("check", "--connect")
    assert "valid, everything answered" in said
    for kind in PEERS:
        assert f"{VERSIONS[kind]} answered within" in said
        assert f"{FOUND[kind]}, within" in said


@pytest.mark.parametrize("kind", [*PEERS])
def test_a_scanner_that_is_down_is_one_line(
    house: Installation, scanners: dict[str, PeerThread], kind: str
) -> None:
    scanners[kind].go_away()
    said = house.mailgate("check", "--connect", code=1)
    assert f"failed: scanner {kind}" in said
    where = f"127.0.0.1:{scanners[kind].port}"
    assert f"FAILED: can't connect to {where}: Connection refused" in said
    assert tried(house, code=1)[kind]["error"] == f"can't connect to {where}: Connection refused"
    assert said.count("FAILED:") == 1


@pytest.mark.parametrize("kind", [*PEERS])
def test_a_scanner_that_is_blind_has_failed(house: Installation, kind: str) -> None:
    peer: Any = PEERS[kind]()
    for known in ("signatures", "scores", "judged"):
        getattr(peer, known, {}).clear()
    with PeerThread(peer) as port:
        house.configure(more=table(kind, port))
        (found,) = tried(house, code=1).values()
    assert found["verdict"] == "clean"
    assert "does not know" in found["advice"][0]
    (asked,) = [
        asked for asked in peer.asked if (EICAR if kind == "clamd" else GTUBE) in (asked.octets or b"")
    ]
    assert asked.reply is not None


def test_a_scanner_that_hangs_is_not_waited_for(house: Installation) -> None:
    peer = ClamdPeer()
    peer.unanswered.add("VERSION")
    with PeerThread(peer) as port:
        house.configure(more=table("clamd", port, 'timeout = "1s"'))
        assert tried(house, code=1)["clamd"]["error"] == "no answer within 1 s"


def test_another_service_at_the_address(house: Installation) -> None:
    with PeerThread(RspamdPeer()) as port:
        house.configure(more=table("spamd", port))
        assert "answered rubbish" in tried(house, code=1)["spamd"]["error"]
