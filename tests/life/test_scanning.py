"""Scanned mail through the front door: a gateway that runs, both ways, whatever the scanners do."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.life.gateway import Gateway
from tests.life.house import mail
from tests.life.scanned import ScannedHouse, scanned_house
from tests.life.submitting import FOREIGN, letter, submit, submitting
from tests.peers.scanner_peer import EICAR, GTUBE

BEFORE, MEANWHILE, AFTER = 10, 25, 5
WAIT_SECONDS = 60.0


@pytest.fixture
def scans(tmp_path: Path, database_url: str) -> Iterator[ScannedHouse]:
    with scanned_house(tmp_path, database_url) as opened:
        opened.house.make_store()
        yield opened


def arrives(scans: ScannedHouse, *octets: bytes) -> None:
    """Wait until these have arrived."""
    wanted = set(octets)
    scans.house.home.wait_until(lambda: wanted <= set(scans.arrived()), WAIT_SECONDS)


@pytest.mark.parametrize(
    ("found", "reason", "evidence"),
    [
        (EICAR, "infected", "infected: Eicar-Test-Signature"),
        (GTUBE, "spam", "score 1000 of 5 (GTUBE)"),
    ],
)
def test_found_both_ways_it_ends_in_quarantine_with_the_evidence(
    scans: ScannedHouse, found: bytes, reason: str, evidence: str
) -> None:
    bad = found + b"\r\n"
    scans.house.provider.put("info", mail(1) + bad)
    scans.house.provider.put("info", mail(2))
    with submitting(scans.house) as (gateway, port):
        submit(port, letter(1) + bad)
        submit(port, letter(2))
        arrives(scans, mail(2), letter(2))
        scans.clamd.wait_until(lambda: len(scans.clamd.questions("INSTREAM")) == 4)
        kept = until_listed(scans, "quarantined", 2)
        assert gateway.stop() == 0
    assert set(scans.arrived()) == {mail(2), letter(2)}
    assert {row["direction"] for row in kept} == {"inbound", "outbound"}
    for row in kept:
        told = scans.house.run("show", row["id"]).stdout
        assert evidence in told
        assert f"as {reason}: " in told
        assert "ClamAV 1.4.6/27500" in told or reason == "spam"
    assert scans.unscanned() == []
    assert scans.house.problems() == []


def until_listed(scans: ScannedHouse, state: str, count: int) -> list[dict[str, object]]:
    for _ in range(60):
        rows = scans.house.json("list", "--state", state)
        if len(rows) == count:
            return rows
    raise AssertionError(scans.house.run("queue").stdout)


class Load:
    """Mail that comes in both ways, one number after the other."""

    def __init__(self, scans: ScannedHouse, port: int) -> None:
        self.scans = scans
        self.port = port
        self.sent: list[bytes] = []

    def more(self, count: int) -> None:
        clients = [threading.Thread(target=self._submit, args=(n,)) for n in self._numbers(count)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        assert self.scans.house.run("mailbox", "poll", "info").returncode == 0

    def _numbers(self, count: int) -> range:
        first = len(self.sent)
        for number in range(first, first + count):
            self.sent += [letter(number), mail(number)]
            self.scans.house.provider.put("info", mail(number))
        return range(first, first + count)

    def _submit(self, number: int) -> None:
        assert submit(self.port, letter(number), (FOREIGN,)).startswith("250 ")


def check(scans: ScannedHouse, load: Load, gateway: Gateway) -> None:
    """All of it arrived once, nothing of it unscanned, nobody is in quarantine, the store adds up."""
    arrives(scans, *load.sent)
    assert gateway.stop() == 0
    assert set(scans.arrived()) == set(load.sent)
    assert max(scans.arrived().values()) == 1
    assert scans.unscanned() == []
    assert scans.house.json("list", "--state", "quarantined") == []
    assert scans.house.problems() == []


def test_clamd_stopped_under_load_everything_waits_and_nothing_is_lost(scans: ScannedHouse) -> None:
    with submitting(scans.house) as (gateway, port):
        load = Load(scans, port)
        load.more(BEFORE)
        arrives(scans, *load.sent)
        scans.clamd_thread.go_away()
        before = set(load.sent)
        load.more(MEANWHILE)
        gateway.says("scanner clamd is down")
        load.more(1)
        assert set(scans.arrived()) == before  # all else waits
        scans.clamd_thread.come_back()
        gateway.says("scanner clamd is up again")
        load.more(AFTER)
        check(scans, load, gateway)
    events = scans.house.json("events", "--event", "scanned")
    errors = [one for one in events if one["data"].get("verdict") == "error"]
    assert len(errors) < 2 * (MEANWHILE + 1) + 40  # each says once that it waits; then the probes


@pytest.mark.parametrize(
    ("stage", "action"),
    [
        ("connect", "stall"),
        ("answer", "stall"),
        ("content", "reset"),
        ("answer", "garbage"),
        ("answer", "drop-mid"),
    ],
)
def test_a_scanner_that_breaks_under_load_lets_nothing_pass_and_loses_nothing(
    tmp_path: Path, sqlite_url: str, stage: str, action: str
) -> None:
    with (
        scanned_house(tmp_path, sqlite_url, timeout="1s") as scans,
        submitting(scans.house) as (gateway, port),
    ):
        load = Load(scans, port)
        load.more(BEFORE)
        arrives(scans, *load.sent)
        before = set(load.sent)
        scans.clamd.fault(stage, action, times=None)
        load.more(MEANWHILE)
        gateway.says("scanner clamd is down")
        assert set(scans.arrived()) == before
        scans.clamd.heal()
        gateway.says("scanner clamd is up again")
        load.more(AFTER)
        check(scans, load, gateway)


def test_one_message_that_breaks_clamd_is_kept_in_the_end_and_the_others_go_on(
    tmp_path: Path, sqlite_url: str
) -> None:
    with scanned_house(tmp_path, sqlite_url) as scans, submitting(scans.house) as (gateway, port):
        scans.clamd.fault("answer", "reset", times=None, matching="Subject: letter 666")
        submit(port, letter(666))
        load = Load(scans, port)
        load.more(BEFORE)
        arrives(scans, *load.sent)
        (row,) = scans.house.json("list", "--subject", "letter 666")
        assert row["state"] == "deferred"
        assert gateway.stop() == 0
        assert set(scans.arrived()) == set(load.sent)
        told = " ".join(scans.house.run("show", str(row["id"])).stdout.split())  # wherever its lines end
        assert "and it was well before it got this message" in told


def test_what_leaves_its_mailbox_while_it_is_scanned_is_scanned_and_handed_over_once(
    scans: ScannedHouse,
) -> None:
    scans.house.mailbox = {"remove": "downloaded"}
    letters = [mail(n) for n in range(6)]
    for one in letters:
        scans.house.provider.put("info", one)
    done = scans.house.run("run", "--once")
    assert done.returncode == 0
    assert "not at revision" not in done.stderr
    assert set(scans.arrived()) == set(letters)
    assert len(scans.clamd.questions("INSTREAM")) == len(letters)
    assert len(scans.house.home.ledger) == len(letters)
    assert not scans.house.problems()
