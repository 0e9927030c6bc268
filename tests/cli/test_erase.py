"""`mailgate audit erase` and `scrub`: who asks is told what goes, and afterwards it is nowhere."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from cli import erasure_plan
from engine import erasure, intake, presence
from engine.core import rescan_report, trouble_report
from engine.core.daily_report import Day, Lane, Oldest, daily
from engine.core.policy import Policy
from engine.core.report import Notice
from store.database import open_store
from store.events import ReportKind
from tests.build import NOON, Builder
from tests.cli.command import Answer
from tests.cli.stock import Stock, stocked

WHY = ("--reason", "request 7 of 4 May", "--yes")


@pytest.fixture
def own(tmp_path: Path, database_url: str) -> Stock:
    """A store of the test's own, on either database."""
    return stocked(tmp_path, database_url)


@pytest.fixture
def light(tmp_path: Path, sqlite_url: str) -> Stock:
    return stocked(tmp_path, sqlite_url)


def erase(stock: Stock, *words: str) -> Answer:
    return stock.mailgate("audit", "erase", *words)


def everything(stock: Stock) -> str:
    """All that may be asked of the store, in one text."""
    asked = [("list", "--json", "--limit", "0"), ("list", "--limit", "0"), ("events",), ("events", "--json")]
    asked += [("queue",), *(("show", id_) for id_ in stock.ids.values())]
    return "\n".join(stock.mailgate(*words).out for words in asked)


def states(stock: Stock) -> dict[str, tuple[str, str, str]]:
    rows = stock.mailgate("list", "--json", "--limit", "0").json
    return {row["id"]: (row["state"], row["opened_at"], row["closed_at"]) for row in rows}


def test_the_plan_tells_what_names_the_person_and_what_is_left(own: Stock) -> None:
    answer = erase(own, "--address", "alice@customer.example", "--dry-run")
    assert (answer.code, answer.err) == (0, "")
    assert answer.lines == [
        "1 message to be erased:",
        "  named there: 1 as sender, 1 in From",
        "  addresses, subjects and replies in 3 events go, of 1 recipient; the octets of 1 message go",
        f"  left as it is: {own.ids['notice']}: {own.ids['mixed']} is left, too",
        f"  left as it is: {own.ids['mixed']}: it is still open (deferred): --even-open discards it first",
    ]
    assert "alice@customer.example" in everything(own)


def test_where_nothing_is_to_be_erased_the_plan_says_just_that(own: Stock) -> None:
    answer = erase(own, own.ids["received"], "--dry-run")
    assert answer.code == 1
    assert answer.lines == [
        "nothing is to be erased",
        f"  left as it is: {own.ids['received']}: it is still open (received): --even-open discards it first",
    ]


def test_a_dry_run_tells_what_would_go_and_that_it_did_not(own: Stock) -> None:
    *each, total = erase(
        own, "--address", "alice@customer.example", "--even-open", "--dry-run", "--json"
    ).json
    assert [one["erased"] for one in each] == [False] * 3
    told = {one["id"]: (one["about"], one["events"], one["octets"], one["discarded"]) for one in each}
    assert told == {
        own.ids["delivered"]: (None, 3, True, False),
        own.ids["mixed"]: (None, 5, True, True),
        own.ids["notice"]: (own.ids["mixed"], 3, True, False),
    }
    assert all(one["error"] is None for one in each)
    assert (total["messages"], total["done"]) == (3, False)


def test_a_person_is_nowhere_afterwards_and_the_rest_is_as_it_was(own: Stock) -> None:
    before, told = states(own), everything(own)
    assert "alice@customer.example" in told
    answer = own.mailgate.process(
        "audit", "erase", "--address", "Alice@customer.example", "--even-open", *WHY
    )
    assert (answer.code, answer.err) == (0, "")
    assert "  among them 1 notice or report about others" in answer.lines
    assert "  1 message still open: discarded first, nobody gets it" in answer.lines
    assert answer.lines[-1].startswith("3 messages erased; the store's files were written anew")
    found = everything(own)
    assert "alice@customer.example" not in found.lower()
    assert "anna@example.com" not in found  # another recipient of one of the messages
    assert "carol@partner.example" in found
    after = states(own)
    assert {name: after[id_] for name, id_ in own.ids.items() if name != "mixed"} == {
        name: before[id_] for name, id_ in own.ids.items() if name != "mixed"
    }
    assert after[own.ids["mixed"]][0] == "failed"  # one recipient's; the open one was discarded
    for words in (("conserve",), ("verify",), ("verify", "--contents")):
        assert own.mailgate("audit", *words).code == 0


def test_a_seal_of_before_holds_afterwards(own: Stock) -> None:
    assert own.mailgate("audit", "seal", "--out", "before.seal").code == 0
    assert erase(own, own.ids["delivered"], *WHY).code == 0
    assert own.mailgate("audit", "verify", "--seal", "before.seal").code == 0


def test_the_life_of_an_erased_message_is_told_without_its_people(own: Stock) -> None:
    erase(own, own.ids["delivered"], "--reason", "request 7", "--yes")
    shown = own.mailgate("show", own.ids["delivered"])
    assert shown.code == 0
    text = " ".join(shown.out.split())
    assert "for 1 recipient whose address was erased" in text
    assert "the personal facts of 3 events and the octets are gone: request 7" in text
    assert own.mailgate("raw", own.ids["delivered"]).code == 1
    explained = own.mailgate("explain", own.ids["delivered"])
    assert explained.code == 0
    replayed = own.mailgate("replay", own.ids["delivered"], "--force", "--yes")
    assert replayed.code == 1
    assert "by erasure" in replayed.out


def test_an_erased_sender_is_not_the_null_one(own: Stock) -> None:
    before = own.mailgate("list", "--json", "--from", "<>").json
    assert {row["id"] for row in before} == {own.ids[name] for name in ("failed", "notice")}
    erased = own.ids["delivered"]
    assert erase(own, erased, *WHY).code == 0
    assert own.mailgate("list", "--json", "--from", "<>").json == before
    (row,) = (row for row in own.mailgate("list", "--json", "--limit", "0").json if row["id"] == erased)
    assert (row["reverse_path"], row["subject"]) == (None, None)
    for words in ((), ("--at", "2026-03-01T13:00:00Z")):  # also as it stood before
        (listed,) = (one for one in own.mailgate("list", *words).lines if erased in one)
        assert listed.count("(erased)") == 2  # and the recipient
        assert "<>" not in listed
        shown = own.mailgate("show", erased, *words)
        assert "  Reverse-path  (erased)" in shown.lines
        assert own.mailgate("show", erased, "--json", *words).json[0]["message"]["reverse_path"] is None
    (changed,) = (one for one in own.mailgate("diff", "2026-03-01T00:00:00Z").lines if erased in one)
    assert "<>" not in changed
    assert "<>" in next(one for one in own.mailgate("list").lines if own.ids["failed"] in one)


def test_a_rebuild_makes_the_same_rows(own: Stock) -> None:
    erase(own, "--address", "alice@customer.example", "--even-open", *WHY)
    before = own.mailgate("list", "--json", "--limit", "0").out
    assert own.mailgate("db", "rebuild").code == 0
    assert own.mailgate("list", "--json", "--limit", "0").out == before


def test_json_tells_each_message_and_sums_up(own: Stock) -> None:
    *each, total = erase(own, "--address", "info@example.com", "--json", *WHY).json
    going = {one["id"] for one in each if one["erased"]}
    assert going == {own.ids[name] for name in ("delivered", "failed", "oversize")}
    left = {one["id"]: one["error"] for one in each if not one["erased"]}
    assert set(left) == {own.ids[name] for name in ("unknown", "deferred", "received")}
    assert each[0] == {
        "id": own.ids["delivered"],
        "named_in": ["recipients"],
        "about": None,
        "erased": True,
        "events": 3,
        "octets": True,
        "discarded": False,
        "recipients": 1,
        "error": None,
    }
    assert total == {
        "messages": 3,
        "events": 7,
        "left": 3,
        "erased_before": 0,
        "events_that_stay": 0,
        "done": True,
        "scrubbed": True,
    }


def test_what_was_erased_before_is_nothing_new(own: Stock) -> None:
    assert erase(own, own.ids["failed"], *WHY).code == 0
    again = erase(own, own.ids["failed"], *WHY)
    assert again.code == 0
    assert f"left as it is: {own.ids['failed']}: nothing personal of it is left" in again.out
    assert sum("erased" in line for line in own.mailgate("events", "--event", "erased").lines) == 1


def test_what_is_left_is_named_before_what_was_erased_before(
    light: Stock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasure_plan, "NAMED", 1)
    those = (light.ids["delivered"], light.ids["received"])
    erase(light, *those, *WHY)
    again = erase(light, *those, "--dry-run")
    assert again.lines[1:] == [
        f"  left as it is: {light.ids['received']}: it is still open (received): --even-open discards it first",
        "  left as they are: 1 more",
    ]


def test_an_open_message_is_left_where_that_is_not_asked_for(own: Stock) -> None:
    answer = erase(own, own.ids["received"], *WHY)
    assert answer.code == 1
    assert "it is still open (received): --even-open discards it first" in answer.out
    assert states(own)[own.ids["received"]][0] == "received"


def test_nobody_is_delivered_an_erased_message(own: Stock) -> None:
    assert erase(own, own.ids["received"], "--even-open", *WHY).code == 0
    assert states(own)[own.ids["received"]][0] == "discarded"
    assert own.ids["received"] not in own.mailgate("queue", "--json").out


# -- notices that quote a message by the way


GATE = Policy(version="1", hostname="gate.example.com", postmaster="pm@example.com", domains=("example.com",))
QUIET = Day(
    since=NOON,
    until=NOON,
    came={},
    went={},
    kept_back={},
    lanes=(),
    held=0,
    doubtful=0,
    by_hand={},
    quarantine=0,
    oldest=None,
    mailboxes=(),
    scanners_down={},
    scanners=0,
    shortage=None,
    store_octets=1,
    free_octets=1,
)


@pytest.fixture
def builder(own: Stock) -> Iterator[Builder]:
    found = Builder(own.url, NOON + timedelta(days=1))
    yield found
    found.close()


def wrote(builder: Builder, kind: ReportKind, written: Notice) -> str:
    """Have the postmaster get a notice of this kind."""
    opened = intake.generated(kind, "", written, builder.at)
    builder.append(opened.stream, *opened.events, octets=opened.octets)
    builder.attempted(opened.stream)
    builder.delivered(opened.stream)
    return opened.stream


def rescanned(builder: Builder, *streams: str) -> str:
    found = [(builder.message(stream), "clamd found Worm") for stream in streams]
    written = rescan_report.rescan(found, len(found), GATE, builder.new_id(), builder.at)
    return wrote(builder, "rescan", written)


def daily_report(builder: Builder, oldest: str | None = None, said: str = "") -> str:
    first = None
    if oldest is not None:
        message = builder.message(oldest)
        those = ", ".join(r.address for r in message.recipients)
        first = Oldest(id=oldest, state=message.state, opened_at=NOON, recipient=those)
    lanes = (Lane(name="home", waiting=1, oldest_at=NOON, down_since=NOON, said=said),) if said else ()
    written = daily(replace(QUIET, oldest=first, lanes=lanes), GATE, builder.new_id(), builder.at)
    return wrote(builder, "daily", written)


def hop_down(builder: Builder, said: str) -> str:
    written = trouble_report.next_hop_down("home", NOON, said, 1, GATE, builder.new_id(), builder.at)
    return wrote(builder, "next-hop-down", written)


def test_what_quotes_an_erased_message_goes_with_it(own: Stock, builder: Builder) -> None:
    erased, other = own.ids["delivered"], own.ids["failed"]
    quoting = {rescanned(builder, other, erased), daily_report(builder, erased)}
    staying = {rescanned(builder, other), daily_report(builder, other), daily_report(builder)}
    *each, _ = erase(own, erased, "--json", *WHY).json
    assert {one["id"]: one["about"] for one in each} == dict.fromkeys(quoting, erased) | {erased: None}
    assert all(one["erased"] for one in each)
    assert [own.mailgate("raw", one).code for one in quoting] == [1, 1]
    assert [own.mailgate("raw", one).code for one in staying] == [0, 0, 0]


def test_what_quotes_the_reply_of_a_next_hop_to_an_erased_message_goes_with_it(
    own: Stock, builder: Builder
) -> None:
    said = "4.2.1 <jane@example.com> " + "has too much mail, " * 20
    stream = builder.downloaded()
    builder.attempted(stream)
    builder.deferred(stream, builder.at, reply=said, scope="next-hop")
    builder.attempted(stream)
    builder.delivered(stream)
    quoting = {hop_down(builder, said), daily_report(builder, said=said)}
    staying = hop_down(builder, "4.2.1 <other@example.com> has too much mail")
    *each, _ = erase(own, stream, "--json", *WHY).json
    assert {one["id"] for one in each if one["erased"]} == {stream, *quoting}
    assert own.mailgate("raw", staying).code == 0


def test_what_names_a_person_in_its_text_alone_is_found(own: Stock, builder: Builder) -> None:
    notice = hop_down(builder, "4.2.1 rcpt=jörg@straße.example is over quota")
    *each, _ = erase(own, "--address", "JÖRG@xn--strae-oqa.example", "--json", *WHY).json
    assert [(one["id"], one["named_in"], one["about"]) for one in each] == [(notice, ["text"], None)]


def test_what_quotes_a_message_that_is_left_is_left_unless_it_quotes_an_erased_one(
    own: Stock, builder: Builder
) -> None:
    left, erased = own.ids["unknown"], own.ids["delivered"]
    one, both = daily_report(builder, left), rescanned(builder, left, erased)
    *each, _ = erase(own, left, erased, "--json", *WHY).json
    assert {done["id"]: done["erased"] for done in each} == {
        one: False,
        both: True,
        left: False,
        erased: True,
    }


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ((), "name the messages to erase, or a person by --address"),
        (("0", "--address", "x@y.example"), "name the messages to erase, or a person by --address, not both"),
        (("--address", "nobody", "--dry-run"), "--address: 'nobody' is no address"),
        (
            ("--address", "*@customer.example", "--dry-run"),
            "--address: '*@customer.example' is a pattern, and one person is meant: 'mailgate list --from' and"
            " '--to' take patterns; give the ids that they print",
        ),
        (("0", "--yes"), "--reason is missing: it stays on record, with your name"),
        (("0", "--reason", "so"), "there is nobody to ask: add --yes, or --dry-run to see what would go"),
        (
            ("--address", "x@y.example", "--reason", "X@y.example asked", "--yes"),
            "--reason: it stays on record, so it must not name the person who is erased",
        ),
    ],
)
def test_what_is_not_asked_in_earnest_is_refused(
    light: Stock, words: tuple[str, ...], complaint: str
) -> None:
    answer = erase(light, *words)
    assert (answer.code, answer.complaint) == (2, complaint)


def test_an_address_that_is_nowhere_is_said_to_be(light: Stock) -> None:
    answer = erase(light, "--address", "zoe@nowhere.example", *WHY)
    assert (answer.code, answer.complaint) == (1, "no message names zoe@nowhere.example")


def test_facts_that_stay_are_counted(light: Stock) -> None:
    operator = "jane@corp.example"
    assert light.mailgate("hold", light.ids["received"], SUDO_USER=operator).code == 0
    answer = erase(light, "--address", operator, "--dry-run")
    assert answer.code == 1
    assert answer.complaint.startswith(
        f"no message names {operator}; 1 event with the address in facts that stay"
    )


def test_who_asked_for_an_erasure_stands_in_its_record_and_that_names_no_message(light: Stock) -> None:
    who = "zoe@nowhere.example"
    assert erase(light, light.ids["failed"], "--reason", f"{who} asked for it", "--yes").code == 0
    answer = erase(light, "--address", who, "--dry-run")
    assert answer.complaint.startswith(f"no message names {who}; 1 event with the address in facts that stay")


def test_others_write_between_the_batches_of_an_erasure(
    light: Stock, monkeypatch: pytest.MonkeyPatch
) -> None:
    rests: list[float] = []
    file = Path(light.url.removeprefix("sqlite:///"))

    def sleep(seconds: float) -> None:
        rests.append(seconds)
        with closing(sqlite3.connect(file, timeout=0)) as other:
            other.execute("BEGIN IMMEDIATE")  # nobody holds the lock

    monkeypatch.setattr(erasure, "BATCH", 2)
    monkeypatch.setattr(time, "sleep", sleep)
    those = [light.ids[name] for name in ("delivered", "mixed", "oversize", "unknown")]
    assert erase(light, *those, "--even-open", "--no-scrub", *WHY).code == 0
    assert len(rests) >= 2
    assert all(rests)


def test_while_a_gateway_runs_the_files_wait(light: Stock) -> None:
    engine = open_store(light.url)
    present = presence.arrive(engine)
    try:
        answer = erase(light, light.ids["failed"], *WHY)
        refused = light.mailgate("audit", "scrub")
    finally:
        present.leave()
        engine.dispose()
    assert answer.code == 1
    assert answer.lines[-1].startswith(
        "1 message erased; what was deleted is still in the store's files, out of sight: a gateway runs on this store,"
    )
    assert "'mailgate audit scrub' writes them anew" in answer.lines[-1]
    assert refused.code == 4
    scrubbed = light.mailgate("audit", "scrub", "--json")
    assert (scrubbed.code, scrubbed.json) == (0, [{"scrubbed": True}])


def test_nothing_is_left_in_the_files(light: Stock) -> None:
    file = light.mailgate.folder / "mailgate.db" if not light.url.endswith(".db") else Path(light.url[10:])
    files = [one for one in file.parent.iterdir() if one.name.startswith(file.name)]
    assert any(b"message 0001" in one.read_bytes() for one in files)
    light.mailgate.process("audit", "erase", "--address", "alice@customer.example", "--even-open", *WHY)
    for one in file.parent.iterdir():
        if one.is_file() and one.name.startswith(file.name):
            octets = one.read_bytes()
            assert b"alice@customer.example" not in octets
            assert b"message 0001" not in octets
    assert sqlite3.connect(file).execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_no_scrub_leaves_that_for_later(light: Stock) -> None:
    answer = erase(light, light.ids["failed"], "--no-scrub", *WHY)
    assert answer.code == 0
    assert "'mailgate audit scrub' writes them anew" in answer.out
