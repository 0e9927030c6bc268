"""EICAR and GTUBE in both directions, by the real clamd, spamd and rspamd: kept, with the evidence on record."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.life.house import House, house, mail
from tests.life.submitting import letter, listens, submit, submitting
from tests.peers.scanner_peer import EICAR, GTUBE
from tests.real.clamd import SIGNATURE, Clamd
from tests.real.process import wait_until
from tests.real.rspamd import Rspamd
from tests.real.spamd import Spamd

SCANNERS = """
[[scanner]]
kind = "clamd"
address = "unix:{clamd}"
[[scanner]]
kind = "spamd"
address = "127.0.0.1:{spamd}"
on_found = "quarantine"
[[scanner]]
kind = "rspamd"
address = "127.0.0.1:{rspamd}"
"""
FROM_OUTSIDE = b"Received: from mx.elsewhere.example (mx.elsewhere.example [192.0.2.7])\r\n\tby in.provider.example; x\r\n"


@pytest.fixture
def scanned(tmp_path: Path, sqlite_url: str, clamd: Clamd, spamd: Spamd, rspamd: Rspamd) -> Iterator[House]:
    with house(tmp_path, sqlite_url) as opened:
        listens(opened)
        opened.more += SCANNERS.format(clamd=clamd.socket_path, spamd=spamd.port, rspamd=rspamd.port)
        yield opened


def evidence(opened: House, state: str) -> dict[str, dict[str, dict[str, Any]]]:
    """What each scanner said of the messages in a state, by subject and scanner."""
    found = {}
    for row in opened.json("list", "--state", state):
        (shown,) = opened.json("show", row["id"])
        said = [event["data"] for event in shown["events"] if event["name"] == "scanned"]
        found[row["subject"]] = {data["scanner"]: data for data in said}
    return found


def test_check_finds_them_all_well(scanned: House) -> None:
    rows = scanned.json("check", "--connect")
    said = {row["name"]: row["connect"]["verdict"] for row in rows if row["kind"] == "scanner"}
    assert said == {"clamd": "infected", "spamd": "spam", "rspamd": "spam"}
    assert scanned.run("check", "--connect").returncode == 0


def test_eicar_and_gtube_are_kept_both_ways(scanned: House, rspamd: Rspamd) -> None:
    for number, content in enumerate((b"", EICAR, GTUBE)):
        scanned.provider.put("info", FROM_OUTSIDE + mail(number) + content + b"\r\n")
    with submitting(scanned) as (gateway, port):
        for number, content in enumerate((b"", EICAR, GTUBE)):
            assert submit(port, letter(number) + content + b"\r\n").startswith("250 ")
        wait_until(lambda: len(scanned.json("list", "--state", "quarantined")) == 4, "four to be kept")
        scanned.home.wait_until(lambda: len(scanned.home.ledger) >= 2)
        assert gateway.stop() == 0

    kept = evidence(scanned, "quarantined")
    passed = evidence(scanned, "delivered") | evidence(scanned, "relayed")
    assert len(scanned.home.ledger) == 2
    assert sorted(kept) == ["letter 1", "letter 2", "number 1", "number 2"]
    for way in ("letter", "number"):
        virus, spam = kept[f"{way} 1"], kept[f"{way} 2"]
        assert (virus["clamd"]["verdict"], virus["clamd"]["signature"]) == ("infected", SIGNATURE)
        assert (spam["spamd"]["score"], spam["spamd"]["symbols"]) == (1000.0, ["GTUBE"])
        assert (spam["rspamd"]["verdict"], spam["rspamd"]["signature"]) == ("spam", "reject")
        clean = passed[f"{way} 0"]
        assert {data["verdict"] for data in clean.values()} == {"clean"}
        assert all(data["engine"] for data in clean.values())
    assert scanned.problems() == []
    told = "192.0.2.7|mx.elsewhere.example||sender0@elsewhere.example|info@example.com"
    wait_until(lambda: told in rspamd.seen(), "rspamd to have it in its log")
