"""Kept messages scanned again: late verdicts, what is still open, what the postmaster hears."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.life.house import mail
from tests.life.scanned import ScannedHouse, scanned_house

WORM = b".leading dot 1\r\n"  # in mail(1), and in no other of these
NEW = "New.Worm"


@pytest.fixture
def scans(tmp_path: Path, database_url: str) -> Iterator[ScannedHouse]:
    with scanned_house(tmp_path, database_url) as opened:
        opened.house.make_store()
        for number in (0, 1, 2):
            opened.house.provider.put("info", mail(number))
        assert opened.house.run("run", "--once").returncode == 0
        yield opened


def events(scans: ScannedHouse) -> list[dict[str, Any]]:
    return [one["data"] for one in scans.house.json("events", "--event", "scanned", "--limit", "0")]


def row(scans: ScannedHouse, number: int) -> dict[str, Any]:
    (found,) = scans.house.json("list", "--message-id", f"{number}@elsewhere.example")
    return found


def test_what_is_found_late_is_on_record_and_told_and_nothing_is_recalled(scans: ScannedHouse) -> None:
    scans.clamd.signatures[WORM] = NEW
    done = scans.house.run("rescan", "--all")
    assert done.returncode == 1, done.stderr
    found = row(scans, 1)["id"]
    assert f"{found}  delivered  clamd found {NEW}; delivered to info@example.com" in done.stdout
    assert "3 messages scanned, 1 would not be delivered today" in done.stdout
    assert "nothing is recalled" in done.stdout
    late = [one for one in events(scans) if one.get("late")]
    assert [(one["scanner"], one["verdict"], one["signature"]) for one in late] == [
        ("clamd", "infected", NEW)
    ]
    assert row(scans, 1)["state"] == "delivered"
    assert "it came too late to keep the message back" in scans.house.run("show", found).stdout
    assert scans.house.run("run", "--once").returncode == 0
    (notice,) = scans.house.notices()
    assert b"Subject: Found after delivery: 1 message at gate.example.com" in notice
    assert found.encode() in notice
    assert NEW.encode() in notice
    assert b"Nothing is recalled" in notice
    assert scans.house.problems() == []


def test_a_second_run_records_nothing_twice(scans: ScannedHouse) -> None:
    before = len(events(scans))
    assert scans.house.run("rescan", "--all").returncode == 0
    assert len(events(scans)) == before  # the same words, by the same signatures
    scans.clamd.signatures[WORM] = NEW
    assert scans.house.run("rescan", "--all").returncode == 1
    assert len(events(scans)) == before + 1
    assert scans.house.run("rescan", "--all").returncode == 1
    assert len(events(scans)) == before + 1


def test_what_is_still_open_is_kept_back_by_what_is_found(scans: ScannedHouse) -> None:
    scans.house.home.fault("dot", "reply", code=451, text="4.3.0 later", times=None)
    scans.house.retry = {"first": "1s", "cap": "1s"}
    worm = mail(1).replace(b"<1@", b"<11@") + b"again\r\n"
    scans.house.provider.put("info", worm)
    assert scans.house.run("run", "--once").returncode == 1
    scans.clamd.signatures[WORM] = NEW
    assert scans.house.run("rescan", "--state", "deferred").returncode == 1
    scans.house.home.heal()
    for _ in range(10):
        scans.house.run("run", "--once")
        if row(scans, 11)["state"] == "quarantined":
            break
    assert row(scans, 11)["state"] == "quarantined"
    assert worm not in scans.arrived()


def test_what_is_in_quarantine_already_stays_as_it_is(scans: ScannedHouse) -> None:
    scans.clamd.signatures[b"Subject: number 5"] = "Old.Worm"
    scans.house.provider.put("info", mail(5))
    scans.house.run("run", "--once")
    scans.clamd.signatures.clear()
    done = scans.house.run("rescan", row(scans, 5)["id"])
    assert done.returncode == 0, done.stdout
    assert row(scans, 5)["state"] == "quarantined"
    assert [one["verdict"] for one in events(scans) if one.get("late")] == ["clean"]


def test_what_a_person_released_is_listed_apart_and_no_good_news(scans: ScannedHouse) -> None:
    scans.clamd.signatures[b"Subject: number 5"] = "Old.Worm"
    scans.house.provider.put("info", mail(5))
    scans.house.run("run", "--once")
    worm = row(scans, 5)["id"]
    assert scans.house.run("release", worm, "--reason", "a test file").returncode == 0
    assert scans.house.run("run", "--once").returncode == 0
    released = scans.house.json("events", "--event", "released")[0]
    who = released["data"]["operator"]
    told = len(scans.house.notices())
    done = scans.house.run("rescan", worm)
    assert done.returncode == 1, done.stdout
    assert f"{worm}  delivered  released by {who}, still: clamd found Old.Worm; delivered to " in done.stdout
    assert "1 message scanned, 1 with what a person let go on" in done.stdout
    (one,) = scans.house.json("rescan", worm)
    assert (one["rule"], one["released_by"]) == ("clamd found Old.Worm", who)
    assert scans.house.run("rescan", worm, "--scanner", "spamd").returncode == 0  # which finds nothing
    scans.house.run("run", "--once")
    assert len(scans.house.notices()) == told
    scans.clamd.signatures[b"Subject: number 5"] = NEW
    assert f"{worm}  delivered  clamd found {NEW}; delivered to " in scans.house.run("rescan", worm).stdout


def test_only_what_and_by_whom_it_was_asked_for(scans: ScannedHouse) -> None:
    asked = len(scans.clamd.questions("INSTREAM")), len(scans.spamd.questions("SYMBOLS"))
    found = row(scans, 1)["id"]
    assert scans.house.run("rescan", found, "--scanner", "clamd").returncode == 0
    assert len(scans.clamd.questions("INSTREAM")) == asked[0] + 1
    assert len(scans.spamd.questions("SYMBOLS")) == asked[1]
    for arguments in ((), (found, "--all"), ("--all", "--scanner", "clamav")):
        assert scans.house.run("rescan", *arguments).returncode == 2


def test_json_has_what_was_found(scans: ScannedHouse) -> None:
    scans.clamd.signatures[WORM] = NEW
    (one,) = scans.house.json("rescan", "--subject", "number")
    assert one["id"] == row(scans, 1)["id"]
    assert one["has_it"] == ["info@example.com"]
    assert one["rule"] == f"clamd found {NEW}"
    assert {v["scanner"]: v["verdict"] for v in one["verdicts"]} == {"clamd": "infected", "spamd": "clean"}


def test_it_may_be_stopped_and_begun_anew(scans: ScannedHouse) -> None:
    scans.clamd.signatures[WORM] = NEW
    found = row(scans, 1)["id"]
    stalled = scans.clamd.fault("answer", "stall", matching="number 2")
    process = scans.house.start("rescan", found, row(scans, 2)["id"])
    scans.clamd.wait_until(lambda: stalled.stalled)
    scans.clamd.wait_until(
        lambda: sum(WORM in (a.octets or b"") and a.reply is not None for a in scans.clamd.asked) >= 2
    )
    for _ in range(100):
        if any(one.get("late") for one in events(scans)):
            break
    os.kill(process.pid, signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode != 0
    scans.clamd.heal()
    assert scans.house.run("rescan", "--all").returncode == 1
    assert len([one for one in events(scans) if one.get("late")]) == 1
    assert scans.house.problems() == []


def test_without_a_scanner_it_says_so(tmp_path: Path, sqlite_url: str) -> None:
    with scanned_house(tmp_path, sqlite_url) as scans:
        scans.house.more = ""
        scans.house.make_store()
        done = scans.house.run("rescan", "--all")
        assert done.returncode == 3
        assert "there is no [[scanner]]" in done.stderr
