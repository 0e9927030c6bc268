"""What waits for a scanner, in `queue` and `explain`."""

from __future__ import annotations

from pathlib import Path

from tests.life.house import mail
from tests.life.scanned import scanned_house


def test_what_waits_for_a_scanner_is_queued_by_its_name(tmp_path: Path, sqlite_url: str) -> None:
    with scanned_house(tmp_path, sqlite_url) as scans:
        scans.house.make_store()
        scans.clamd_thread.go_away()
        for number in range(3):
            scans.house.provider.put("info", mail(number))
        assert scans.house.run("run", "--once").returncode == 1
        page = scans.house.run("queue").stdout
        assert "scanner clamd" in page
        assert "clamd: can't connect to " in page
        (first, *_) = scans.house.json("list")
        told = scans.house.run("explain", first["id"]).stdout
        assert "clamd will be asked about it" in told
        assert "scan:" not in told + page
        for order in ("hold", "release"):
            assert scans.house.run(order, first["id"], "--reason", "to see").returncode == 0
        assert [one["scanner"] for one in scans.house.json("queue")] == ["clamd"] * 3
        scans.clamd_thread.come_back()
