"""The quarantine as an administrator uses it: what is in there and why, and letting it go or not."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import timedelta
from hashlib import sha256
from io import StringIO

import pytest

from cli import times
from store import conserve, contents
from store.database import reading, writing
from store.events import ContentsPurged, Discarded, Kept
from tests.build import POLICY, Builder
from tests.cli.command import Mailgate, configure
from tests.engine.settings.configurations import WHOLE

SCANNERS = """\
[[scanner]]
kind = "clamd"
address = "127.0.0.1:9"
[[scanner]]
kind = "spamd"
address = "127.0.0.1:9"
"""
RULES = ("BAYES_99", "URIBL_BLACK", "HTML_MESSAGE", "A1", "A2", "A3", "A4", "A5", "A6")


class Ward:
    """A store with one infected and one spam message in quarantine, and the command line with it."""

    def __init__(self, mailgate: Mailgate, builder: Builder) -> None:
        self.mailgate = mailgate
        self.builder = builder
        self.infected = builder.downloaded(recipients=("info@example.com", "anna@example.com"))
        builder.scanned(self.infected, "infected", signature="Eicar-Signature", engine="ClamAV 1.0.9/27500")
        builder.scanned(self.infected, "clean", scanner="spamd", score=0.25, threshold=5.0)
        builder.quarantined(self.infected)
        builder.later(minutes=1)
        self.spam = builder.downloaded(reverse_path="offer@spam.example", subject="Buy, buy")
        builder.scanned(self.spam, "clean")
        builder.scanned(self.spam, "spam", scanner="spamd", score=15.5, threshold=5.0, symbols=RULES)
        rule = "spamd: score 15.5, quarantined from 10"
        builder.quarantined(self.spam, "spam", scanner="spamd", rule=rule)
        self.other = builder.downloaded(subject="Quite another")

    def states(self, stream: str) -> list[str]:
        return [r.state for r in self.builder.message(stream).recipients]

    def shown(self, *arguments: str) -> str:
        return " ".join(self.mailgate(*arguments).out.split())

    def names(self, stream: str) -> list[str]:
        (shown,) = self.mailgate("show", stream, "--json").json
        return [event["name"] for event in shown["events"]]


@pytest.fixture
def ward(mailgate: Mailgate, database_url: str) -> Iterator[Ward]:
    builder = Builder(database_url, times.now() - timedelta(hours=2))
    configure(mailgate.folder, database_url, WHOLE + SCANNERS)
    mailgate.environment["SUDO_USER"] = "anna"
    yield Ward(mailgate, builder)
    with reading(builder.engine) as connection:
        assert list(conserve.check(connection, conserve.Count(), times.now())) == []
    builder.close()


def test_what_is_in_quarantine_is_listed_with_what_and_why(ward: Ward) -> None:
    header, first, second = ward.mailgate("quarantine", "list").lines
    assert header.split("  ")[0] == "ID"
    assert first.startswith(ward.spam)
    assert first.split("  ")[-1] == "spamd: score 15.5, quarantined from 10"
    assert " ".join(first.split()).endswith(
        "info@example.com Buy, buy spam spamd: score 15.5, quarantined from 10"
    )
    assert second.startswith(ward.infected)
    assert "info@example.com +1" in second
    assert second.endswith("infected  clamd found Eicar-Signature")


def test_programs_get_the_fields_of_list_and_why(ward: Ward) -> None:
    listed = ward.mailgate("list", "--state", "quarantined", "--json").json
    kept = ward.mailgate("quarantine", "list", "--json").json
    assert [set(one) - set(other) for one, other in zip(kept, listed, strict=True)] == [
        {"quarantined_why", "quarantined_by"}
    ] * 2
    assert [one | {"quarantined_why": "", "quarantined_by": ""} for one in kept] == [
        one | {"quarantined_why": "", "quarantined_by": ""} for one in listed
    ]
    assert (kept[0]["quarantined_why"], kept[1]["quarantined_by"]) == ("spam", "clamd found Eicar-Signature")
    rows = list(csv.DictReader(StringIO(ward.mailgate("quarantine", "list", "--csv").out)))
    assert [row["quarantined_why"] for row in rows] == ["spam", "infected"]


def test_it_is_found_by_the_filters_of_list(ward: Ward) -> None:
    (one,) = ward.mailgate("quarantine", "list", "--from", "*@spam.example", "--json").json
    assert one["id"] == ward.spam
    answer = ward.mailgate("quarantine", "list", "--subject", "Quite another")
    assert (answer.code, answer.complaint) == (1, "no message in quarantine fits")
    assert "--state" not in ward.mailgate("quarantine", "list", "--help").out
    assert len(ward.mailgate("quarantine", "list", "--limit", "1", "--json").json) == 1


def test_an_empty_quarantine_is_good_news(ward: Ward) -> None:
    assert ward.mailgate("quarantine", "discard", "--all", "--yes").code == 0
    answer = ward.mailgate("quarantine", "list")
    assert (answer.code, answer.out) == (0, "nothing is in quarantine\n")
    assert ward.mailgate("quarantine", "list", "--json").out == ""


def test_the_evidence_stands_in_front(ward: Ward) -> None:
    said = ward.shown("quarantine", "show", ward.spam)
    front, _, rest = said.partition("From ")
    assert front.startswith(f"Message {ward.spam} Kept back as spam, ")
    assert ": spamd: score 15.5, quarantined from 10 Evidence " in front
    assert " clamd: clean " in front
    assert f" spamd: spam, score 15.5 of 5; rules {', '.join(RULES)}" in front
    assert "What comes next: It stays in quarantine until a person releases or discards it" in rest
    (shown,) = ward.mailgate("quarantine", "show", ward.infected, "--json").json
    assert [(one["scanner"], one["verdict"], one["signature"]) for one in shown["evidence"]] == [
        ("clamd", "infected", "Eicar-Signature"),
        ("spamd", "clean", None),
    ]
    assert shown["evidence"][0]["engine"] == "ClamAV 1.0.9/27500"
    assert shown["message"]["quarantined_by"] == "clamd found Eicar-Signature"
    answer = ward.mailgate("quarantine", "show", ward.other)
    assert (answer.code, answer.complaint) == (
        1,
        f"message {ward.other} was never in quarantine: it is received",
    )


@pytest.mark.parametrize("command", [("quarantine", "release"), ("release",)])
def test_released_it_goes_on_and_the_same_verdict_does_not_keep_it_again(
    command: tuple[str, ...], ward: Ward
) -> None:
    answer = ward.mailgate(*command, ward.infected, "--reason", "a test file")
    said = f"{ward.infected}: released from quarantine; goes to home, by own domain example.com\n"
    assert (answer.code, answer.out, answer.err) == (0, said, "")
    message = ward.builder.message(ward.infected)
    assert (message.state, message.released_by, message.due_at is not None) == ("received", "anna", True)
    assert ward.names(ward.infected)[-1] == "released"
    ward.builder.scanned(ward.infected, "infected", signature="Eicar-Signature")
    assert "goes to home" in ward.shown("explain", ward.infected)
    ward.builder.scanned(ward.infected, "infected", signature="Emotet")
    assert "It will be quarantined" in ward.shown("explain", ward.infected)


def test_released_by_filters_after_a_look_at_what_they_mean(ward: Ward) -> None:
    answer = ward.mailgate("quarantine", "release", "--to", "info@example.com", "--yes")
    assert answer.code == 0
    assert answer.lines[0] == "2 messages are to be released:"
    assert (ward.states(ward.spam), ward.states(ward.infected)) == (["received"], ["received"] * 2)
    answer = ward.mailgate("quarantine", "release", "--all", "--yes")
    assert (answer.code, answer.complaint) == (
        1,
        "there is no message in quarantine that fits and can be released",
    )


def test_for_some_recipients_only(ward: Ward) -> None:
    assert ward.mailgate("quarantine", "release", ward.infected, "--recipients", "anna@example.com").code == 0
    assert ward.states(ward.infected) == ["quarantined", "received"]
    assert ward.builder.message(ward.infected).state == "quarantined"


def test_discarded_it_goes_nowhere_and_why_is_on_record(ward: Ward) -> None:
    answer = ward.mailgate("quarantine", "discard", ward.spam, ward.infected, "--reason", "rubbish")
    assert (answer.code, answer.lines) == (0, [f"{ward.spam}: discarded", f"{ward.infected}: discarded"])
    assert "discarded by anna: rubbish" in ward.shown("show", ward.spam)
    assert ward.states(ward.infected) == ["discarded", "discarded"]


def test_the_quarantines_orders_touch_nothing_else(ward: Ward) -> None:
    for order in ("release", "discard"):
        answer = ward.mailgate("quarantine", order, ward.other)
        past = {"release": "released", "discard": "discarded"}[order]
        complaint = f"{ward.other} can't be {past}: it isn't in quarantine: it is received"
        assert (answer.code, answer.complaint) == (1, complaint)
    held = ward.builder.downloaded()
    assert ward.mailgate("hold", held).code == 0
    assert ward.mailgate("quarantine", "release", "--all", "--yes").code == 0
    assert (ward.states(held), ward.states(ward.other)) == (["held"], ["received"])
    answer = ward.mailgate("quarantine", "discard", "--yes")
    assert answer.complaint == "name the messages to discard, give filters, or --all"
    answer = ward.mailgate("quarantine", "discard", ward.spam, "--all")
    assert answer.complaint == "name the messages to discard, give filters, or --all, not both"


def test_what_is_in_quarantine_cannot_be_held_besides(ward: Ward) -> None:
    answer = ward.mailgate("hold", ward.spam)
    complaint = f"{ward.spam} can't be held: it is in quarantine, where it stays until a person decides"
    assert (answer.code, answer.complaint) == (1, complaint)
    part = ward.builder.downloaded(recipients=("info@example.com", "anna@example.com"))
    ward.builder.quarantined(part, numbers=(1,))
    assert ward.mailgate("hold", part).code == 0
    assert ward.states(part) == ["held", "quarantined"]
    assert ward.mailgate("release", part).code == 0
    assert ward.states(part) == ["received", "received"]


def test_the_queue_names_what_is_in_quarantine(ward: Ward) -> None:
    said = ward.shown("queue")
    assert "3 messages are open" in said
    assert "2 messages are in quarantine, the oldest for 2h: 'mailgate quarantine list' shows them." in said
    assert ward.spam not in said
    row = next(one for one in ward.mailgate("queue", "--json").json if one["id"] == ward.infected)
    assert row["holds"] == [
        {
            "why": "quarantined",
            "rule": "clamd found Eicar-Signature",
            "until": None,
            "operator": None,
            "reason": "infected",
            "recipients": ["info@example.com", "anna@example.com"],
        }
    ]


def test_the_queue_tells_what_is_in_quarantine_for_some_and_goes_on_for_others(ward: Ward) -> None:
    part = ward.builder.downloaded(recipients=("info@example.com", "anna@example.com"))
    ward.builder.quarantined(part, numbers=(1,))
    said = ward.shown("queue")
    assert f"{part} 1h 59m quarantined by hand anna@example.com infected: clamd found Eicar-Signature" in said
    row = next(one for one in ward.mailgate("queue", "--json").json if one["id"] == part)
    assert [(hold["why"], hold["recipients"]) for hold in row["holds"]] == [
        ("quarantined", ["anna@example.com"])
    ]


def test_explain_says_by_which_rule_how_long_and_what_to_do(ward: Ward) -> None:
    said = ward.shown("explain", ward.infected)
    assert "quarantined for all 2 recipients as infected: clamd found Eicar-Signature" in said
    assert "Nothing, until a person releases or discards it; it is discarded in 29d" in said
    assert f"mailgate quarantine show {ward.infected}: what each scanner found" in said
    assert f"mailgate quarantine release {ward.infected}: let it go on" in said
    assert "mailgate hold" not in said


def test_what_a_person_keeps_from_retention_is_not_said_to_be_discarded_by_it(ward: Ward) -> None:
    ward.builder.append(ward.spam, Kept(operator="carl", policy=POLICY, reason="case 7"))
    kept = f"kept from retention by carl since {times.stamp(ward.builder.at)}."
    said = ward.shown("explain", ward.spam)
    assert f"Nothing, until a person releases or discards it: {kept}" in said
    for page in (ward.shown("show", ward.spam), ward.shown("quarantine", "show", ward.spam)):
        assert f"It stays in quarantine until a person releases or discards it: {kept}" in page
        assert "[retention]" not in page


def test_what_waits_for_a_scanner_is_said_with_which_why_since_when_and_until_when(ward: Ward) -> None:
    builder = ward.builder
    first, second = builder.downloaded(), builder.downloaded()
    for stream in (first, second, first):
        again = times.now() + timedelta(hours=1)
        builder.scanned(stream, "error", detail="connection refused", retry_at=again, blame="scanner")
        builder.later(minutes=1)
    (row,) = [one for one in ward.mailgate("queue").lines if one.startswith("scanner clamd")]
    assert row.removeprefix("scanner clamd").split()[0] == "2"
    assert row.endswith("  clamd: connection refused")
    rows = [one for one in ward.mailgate("queue", "--json").json if one["scanner"]]
    assert [(one["id"], one["scanner"]) for one in rows] == [(first, "clamd"), (second, "clamd")]
    said = ward.shown("explain", first)
    assert "scanned by clamd in 40ms: no verdict (connection refused); asked again" in said
    since = times.stamp(builder.at - timedelta(minutes=3))
    assert f"Scanner clamd: connection refused; waited for since {since}" in said
    assert "Next clamd and spamd will be asked about it, in " in said
    assert "Next hop" not in said
    assert "It waits for scanner clamd, and is scanned in " in ward.shown("show", first)
    assert "To info@example.com: deferred: clamd: connection refused" in ward.shown("show", first)


def test_octets_that_retention_dropped_are_said_to_be(ward: Ward) -> None:
    builder = ward.builder
    octets = b"Subject: old\r\n\r\n"
    stream = builder.downloaded(octets=octets)
    builder.quarantined(stream)
    rule = "retention.quarantined: 30d"
    with writing(builder.engine) as connection:
        contents.drop(connection, [stream])
    builder.append(
        stream,
        Discarded(numbers=(0,), rule=rule, policy=POLICY, recipients=("info@example.com",)),
        ContentsPurged(reason=rule, policy=POLICY),
    )
    dropped = f"were dropped on {times.stamp(builder.at)} by {rule}"
    answer = ward.mailgate("raw", stream)
    assert (answer.code, answer.complaint) == (1, f"the octets of message {stream} {dropped}")
    said = ward.shown("show", stream)
    assert f"Octets dropped on {times.stamp(builder.at)} by {rule}" in said
    assert f"discarded: {rule}" in said
    assert f"contents-purged: the octets are no longer kept, by {rule}" in said
    answer = ward.mailgate("quarantine", "release", stream)
    day = f"{builder.at:%Y-%m-%d}"
    complaint = f"{stream} can't be released: it is discarded, and the octets were dropped on {day} by {rule}"
    assert (answer.code, answer.complaint) == (1, complaint)
    assert f"mailgate raw {stream}" not in ward.shown("explain", stream)
    (shown,) = ward.mailgate("show", stream, "--json").json
    assert shown["message"]["content"] == sha256(octets).hexdigest()
