"""`mailgate stats`: what came, went and was found."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from tests.cli.stock import Stock
from tests.life.house import mail
from tests.life.scanned import ScannedHouse, scanned_house
from tests.peers.scanner_peer import EICAR, GTUBE


@pytest.fixture
def scans(tmp_path: Path, sqlite_url: str) -> Iterator[ScannedHouse]:
    with scanned_house(tmp_path, sqlite_url) as opened:
        opened.house.make_store()
        yield opened


def counted(rows: list[dict[str, Any]]) -> dict[tuple[str, ...], int]:
    keys = ("counted", "mailbox", "next_hop", "scanner", "direction", "event", "verdict", "reason")
    return {tuple(row[key] for key in keys if row.get(key)): row["count"] for row in rows}


def test_a_day_in_numbers(scans: ScannedHouse) -> None:
    for number, found in enumerate((b"", b"", EICAR, GTUBE)):
        scans.house.provider.put("info", mail(number) + found + b"\r\n")
    scans.house.run("run", "--once")
    rows = scans.house.json("stats")
    assert counted(rows) == {
        ("in", "info", "inbound"): 4,
        ("out", "home", "delivered"): 2,
        ("scanned", "clamd", "clean"): 3,
        ("scanned", "clamd", "infected"): 1,
        ("scanned", "spamd", "clean"): 3,
        ("scanned", "spamd", "spam"): 1,
        ("quarantined", "clamd", "infected"): 1,
        ("quarantined", "spamd", "spam"): 1,
    }
    timed = {row["counted"] for row in rows if row["median_ms"] is not None}
    assert timed == {"out", "scanned"}
    assert all(row["median_ms"] <= row["p95_ms"] for row in rows if row["median_ms"] is not None)
    told = scans.house.run("stats").stdout
    for word in ("Came in", "Went out", "Scanned", "Quarantined", "infected", "MEDIAN", "95 %"):
        assert word in told
    assert counted(scans.house.json("stats", "--by-day", "--since", "1d")) != {}


def test_as_csv_it_counts_the_same(stock: Stock) -> None:
    asked = ("stats", "--since", "2026-03-01", "--until", "2026-03-02")
    rows = stock.mailgate(*asked, "--json").json
    titles, *lines = csv.reader(StringIO(stock.mailgate(*asked, "--csv").out))
    assert titles == ["counted", "from", "to", "name", "what", "count", "octets", "median_ms", "p95_ms"]
    assert lines == [["" if value is None else str(value) for value in row.values()] for row in rows]
    assert len(lines) > 5
    assert stock.mailgate(*asked, "--csv", "--json").code == 2


def test_notices_of_the_gateway_are_nobodys_submission(stock: Stock) -> None:
    lines = stock.mailgate("stats", "--since", "2026-03-01", "--until", "2026-03-02").lines
    assert [line.split("  ")[0] for line in lines if " internal " in line] == ["(the gateway)"]


def test_where_nothing_happened_it_says_so(scans: ScannedHouse) -> None:
    assert "nothing happened" in scans.house.run("stats", "--until", "3d").stdout
    assert scans.house.json("stats", "--until", "3d") == []
    assert scans.house.run("stats", "--since", "1h", "--until", "2h").returncode == 2


def test_what_is_rebuilt_counts_the_same(scans: ScannedHouse) -> None:
    scans.house.provider.put("info", mail(1) + EICAR + b"\r\n")
    scans.house.provider.put("info", mail(2))
    scans.house.run("run", "--once")
    before = scans.house.json("stats")
    assert scans.house.run("db", "rebuild").returncode == 0
    assert scans.house.json("stats") == before
