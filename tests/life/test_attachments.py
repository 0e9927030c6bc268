"""A file that is meant ends in quarantine with the evidence in `show`, while the mail beside it goes on."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engine.attachment_reader.samples import SLOW, attached, zipped
from tests.life.gateway import PATIENCE_SECONDS, running
from tests.life.house import House, house, mail
from tests.real.process import wait_until

RULES = """
[[scanner]]
kind = "attachments"
names = ["*.exe", "*/vbaProject.bin"]
types = ["application/x-msdownload"]
"""
EVIL = attached("invoice.zip", zipped("docs/invoice.pdf.exe"))
FINE = attached("invoice.zip", zipped("docs/invoice.pdf"))


@pytest.fixture
def opened(tmp_path: Path, database_url: str) -> Iterator[House]:
    with house(tmp_path, database_url) as opened:
        opened.make_store()
        opened.more = RULES
        yield opened


def rows(opened: House) -> dict[str, dict[str, Any]]:
    return {row["uidl"]: row for row in opened.json("list")}


def scanned(opened: House, id_: str) -> dict[str, Any]:
    """What the scanner said about a message last, facts and personal facts."""
    (shown,) = opened.json("show", id_)
    event = [event for event in shown["events"] if event["name"] == "scanned"][-1]
    return {**event["data"], **event["personal"]}


def test_a_program_in_an_archive_is_kept_and_the_evidence_is_told(opened: House) -> None:
    opened.provider.put("info", EVIL, uidl="evil")
    opened.provider.put("info", FINE, uidl="fine")
    opened.provider.put("info", mail(1), uidl="text")
    opened.run("run", "--once")
    found = rows(opened)
    assert {uidl: row["state"] for uidl, row in found.items()} == {
        "evil": "quarantined",
        "fine": "delivered",
        "text": "delivered",
    }
    assert set(opened.arrived()) == {FINE, mail(1)}
    said = scanned(opened, found["evil"]["id"])
    assert (said["verdict"], said["signature"]) == ("infected", "name *.exe")
    assert said["detail"] == "docs/invoice.pdf.exe in invoice.zip"
    assert scanned(opened, found["fine"]["id"])["verdict"] == "clean"
    (shown,) = opened.json("show", found["evil"]["id"])
    kept = next(event for event in shown["events"] if event["name"] == "quarantined")
    assert (kept["data"]["reason"], kept["data"]["rule"]) == ("attachment", "attachments found name *.exe")
    assert "invoice" not in json.dumps([event["data"] for event in shown["events"]])  # a personal fact
    text = opened.run("show", found["evil"]["id"]).stdout
    assert "docs/invoice.pdf.exe in invoice.zip" in " ".join(text.split())
    assert opened.problems() == []


@pytest.mark.parametrize(
    ("found", "own"),
    [("quarantine", "quarantined"), ("discard", "discarded"), ("redirect:abuse@example.com", "discarded")],
)
def test_whom_a_person_names_instead_gets_what_was_kept_back(found: str, own: str, opened: House) -> None:
    opened.more += f'on_found = "{found}"\n'
    opened.provider.put("info", EVIL, uidl="evil")
    opened.run("run", "--once")
    id_ = rows(opened)["evil"]["id"]
    plan = opened.run("replay", id_, "--recipients", "lawyer@example.com", "--reason", "evidence").stdout
    assert ("1 of them out of quarantine: 1 attachment" in plan) is (found == "quarantine")
    opened.run("run", "--once")
    fates = {one["address"]: one["state"] for one in rows(opened)["evil"]["recipients"]}
    assert (fates["info@example.com"], fates["lawyer@example.com"]) == (own, "delivered")
    assert len(opened.home.taken_for("lawyer@example.com")) == 1
    assert opened.home.taken_for("info@example.com") == []
    assert opened.problems() == []


def test_a_message_that_takes_for_ever_to_read_waits_and_delays_nobody(opened: House) -> None:
    opened.more += 'timeout = "1s"\n'
    opened.provider.put("info", SLOW, uidl="slow")
    for number in range(3):
        opened.provider.put("info", attached(f"{number}.pdf", b"x"), uidl=str(number))
    with running(opened):
        opened.home.wait_until(lambda: len(opened.home.ledger) == 3)
        wait_until(
            lambda: rows(opened)["slow"]["state"] == "deferred", "the slow one", seconds=PATIENCE_SECONDS
        )
    assert {row["state"] for uidl, row in rows(opened).items() if uidl != "slow"} == {"delivered"}
    said = scanned(opened, rows(opened)["slow"]["id"])
    assert (said["verdict"], said["blame"]) == ("error", "message")
    assert said["detail"] == "no answer within 1 s"
    assert opened.problems() == []
