"""Killed at any seam around scanning: nothing passes unscanned, nothing is lost, what is kept stays kept."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.life.house import House, mail
from tests.life.scanned import ScannedHouse, scanned_house
from tests.peers.scanner_peer import EICAR
from tests.processes import children

MESSAGES = 24  # their verdicts take several commits
INFECTED = mail(4) + EICAR + b"\r\n"
RUNS_AT_MOST = 12

SEAMS = (
    ("after-commit downloaded", 1),
    ("before-commit scanned", 1),
    ("after-commit scanned", 1),
    ("before-commit scanned", 2),
    ("after-commit scanned", 2),
    ("before-commit quarantined", 1),
    ("after-commit quarantined", 1),
    ("before-dot", 1),
    ("after-commit delivered", 1),
)
# Where a scanner is: (which, at which stage, the how-manieth time).
FAR_SEAMS = (
    ("clamd", "connect", 2),
    ("clamd", "content", 3),
    ("clamd", "answer", 5),  # it knows its verdict, and we don't
    ("clamd", "answered", 5),
    ("spamd", "answered", 4),
)


@pytest.fixture
def full(tmp_path: Path, database_url: str) -> Iterator[ScannedHouse]:
    with scanned_house(tmp_path, database_url) as scans:
        scans.house.next_hop = {"connections": 1}
        for number in range(MESSAGES):
            octets = INFECTED if number == 4 else mail(number)
            scans.house.provider.put("info", octets, uidl=f"uidl-{number}")
        scans.house.make_store()
        yield scans


@pytest.mark.parametrize(("seam", "count"), SEAMS)
def test_killed_at_a_seam_nothing_passes_unscanned(full: ScannedHouse, seam: str, count: int) -> None:
    killed = full.house.run("run", "--once", seam=seam, count=count)
    assert killed.returncode == -signal.SIGKILL, (killed.returncode, killed.stderr)
    assert full.unscanned() == []
    check(full)


@pytest.mark.parametrize(("peer", "stage", "count"), FAR_SEAMS)
def test_killed_while_a_scanner_is_asked_nothing_passes_unscanned(
    full: ScannedHouse, peer: str, stage: str, count: int
) -> None:
    process: list[subprocess.Popen[str]] = []
    started = threading.Event()
    passed = 0

    def kill(_occasion: object) -> None:
        nonlocal passed
        passed += 1
        if passed == count:
            started.wait(30)
            os.kill(process[0].pid, signal.SIGKILL)
            process[0].wait(30)

    (full.clamd if peer == "clamd" else full.spamd).on(stage, kill)
    process.append(full.house.start("run", "--once"))
    started.set()
    process[0].communicate(timeout=60)
    assert process[0].returncode == -signal.SIGKILL
    assert full.unscanned() == []
    check(full)


def test_killed_in_the_middle_of_an_outage_all_still_waits(full: ScannedHouse) -> None:
    full.clamd_thread.go_away()
    killed = full.house.run("run", "--once", seam="after-commit scanned", count=1)
    assert killed.returncode == -signal.SIGKILL
    assert full.house.run("run", "--once").returncode == 1
    assert full.arrived() == {}
    full.clamd_thread.come_back()
    check(full)


def test_where_the_process_that_asks_is_killed_the_gateway_goes_on(full: ScannedHouse) -> None:
    gateway: list[subprocess.Popen[str]] = []
    started = threading.Event()
    killed: list[int] = []

    def kill(_occasion: object) -> None:
        started.wait(30)
        askers = children(gateway[0].pid, b"engine.asker")
        if not killed:
            os.kill(askers[0], signal.SIGKILL)
            killed.append(askers[0])

    full.clamd.on("answer", kill)
    gateway.append(full.house.start("run", "--once"))
    started.set()
    _, errors = gateway[0].communicate(timeout=60)
    assert gateway[0].returncode == 1, errors  # what is kept is open
    assert len(killed) == 1
    assert "the process that asks the scanners is gone (SIGKILL)" in errors
    assert full.unscanned() == []
    check(full)
    assert max(full.arrived().values()) == 1


def check(survivor: ScannedHouse) -> None:
    """Start again until it is done; then all has arrived that may, twice only where the log says so."""
    finish(survivor.house)
    arrived = survivor.arrived()
    assert set(arrived) == {mail(number) for number in range(MESSAGES) if number != 4}
    assert survivor.unscanned() == []
    unknown = survivor.house.unknown()
    for number in range(MESSAGES):
        if arrived[mail(number)] > 1:
            assert f"uidl-{number}".encode() in unknown
    (kept,) = survivor.house.json("list", "--state", "quarantined")
    assert kept["uidl"] == "uidl-4"
    assert survivor.house.problems() == []


def finish(house: House) -> None:
    for _ in range(RUNS_AT_MOST):
        done = house.run("run", "--once")
        assert done.returncode in (0, 1), done.stderr
        left = {row["state"] for row in house.json("list", "--limit", "0")}
        if left == {"delivered", "quarantined"}:
            return
    pytest.fail(f"still open: {house.run('queue').stdout}")
