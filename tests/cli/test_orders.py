"""`hold`, `release`, `discard` and `fail` as a person gives them: what is meant, what is said, what is on record."""

from __future__ import annotations

import os
import pty
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import pytest

from cli import times
from engine.presence import arrive
from store import conserve, queries
from store.agenda import Claim, claim
from store.database import reading, writing
from store.events import Discarded, Failed, Held, Released, Submitted
from tests.build import POLICY, Builder
from tests.cli.command import PROGRAM, Mailgate, configure
from tests.engine.settings.configurations import WHOLE

VERBS = ("hold", "release", "discard", "fail")


class Desk:
    """A store, and the command line with it."""

    def __init__(self, mailgate: Mailgate, builder: Builder, url: str) -> None:
        self.mailgate = mailgate
        self.builder = builder
        self.url = url

    def last(self, stream: str) -> object:
        """The last event of a message."""
        (shown,) = self.mailgate("show", stream, "--json").json
        row = shown["events"][-1]
        return row["name"], row["data"], row["personal"]

    def states(self, stream: str) -> list[str]:
        return [r.state for r in self.builder.message(stream).recipients]

    def due(self, stream: str) -> object:
        with reading(self.builder.engine) as connection:
            return queries.lease(connection, stream)

    def adds_up(self) -> bool:
        with reading(self.builder.engine) as connection:
            return list(conserve.check(connection, conserve.Count(), times.now())) == []


@pytest.fixture
def desk(mailgate: Mailgate, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    builder = Builder(database_url, times.now() - timedelta(hours=2))
    configure(mailgate.folder, database_url)
    mailgate.environment["SUDO_USER"] = "anna"
    made = Desk(mailgate, builder, database_url)
    yield made
    assert made.adds_up()
    builder.close()


def test_what_is_held_is_nobodys_work_until_it_is_released(desk: Desk) -> None:
    stream = desk.builder.downloaded()
    answer = desk.mailgate("hold", stream, "--reason", "the lawyer looks first")
    assert (answer.code, answer.out, answer.err) == (0, f"{stream}: held until it is released\n", "")
    assert desk.last(stream) == (
        "held",
        {"why": "operator", "rule": "by hand", "numbers": [0], "operator": "anna", "policy": policy(desk)},
        {"reason": "the lawyer looks first"},
    )
    assert desk.states(stream) == ["held"]
    assert desk.due(stream) is None

    answer = desk.mailgate("release", stream, "--reason", "she is done")
    said = f"{stream}: released; goes to home, by own domain example.com\n"
    assert (answer.code, answer.out, answer.err) == (0, said, "")
    name, data, personal = desk.last(stream)  # type: ignore[misc]
    assert (name, data["operator"]) == ("released", "anna")
    assert personal == {"recipients": ["info@example.com"], "reason": "she is done"}
    assert desk.states(stream) == ["received"]
    assert desk.due(stream) is not None


def policy(desk: Desk) -> str:
    """The version of the configuration that decides."""
    shown = desk.mailgate("check", "--json").json[0]
    assert isinstance(shown["policy"], str)
    return shown["policy"]


def test_held_until_a_time_it_goes_on_by_itself(desk: Desk) -> None:
    stream = desk.builder.downloaded()
    before = times.now()
    assert desk.mailgate("hold", stream, "--until", "2h").code == 0
    until = desk.builder.message(stream).due_at
    assert until is not None
    assert before + timedelta(hours=2) <= until <= times.now() + timedelta(hours=2)
    assert "goes on in 2h" in desk.mailgate("show", stream).out
    answer = desk.mailgate("hold", stream, "--until", "2020-01-01")
    assert (answer.code, answer.complaint) == (2, "--until: 2020-01-01 is in the past")
    answer = desk.mailgate("hold", stream, "--until", "9999-12-31")
    assert (answer.code, answer.complaint) == (2, "--until: 9999-12-31 is more than 100 years ahead")


def test_discarded_and_failed_are_fates(desk: Desk) -> None:
    gone, given_up = desk.builder.downloaded(), desk.builder.downloaded()
    assert desk.mailgate("discard", gone, "--reason", "spam").lines == [f"{gone}: discarded"]
    assert desk.states(gone) == ["discarded"]
    assert "discarded by anna: spam" in " ".join(desk.mailgate("show", gone).out.split())
    answer = desk.mailgate("fail", given_up, "--reason", "wrong address")
    (line,) = answer.lines
    assert line.startswith(f"{given_up}: failed; message ")
    assert "failed by anna: no further try: wrong address" in " ".join(
        desk.mailgate("show", given_up).out.split()
    )
    report = line.removeprefix(f"{given_up}: failed; message ").removesuffix(" tells of it")
    assert desk.builder.message(report).about == given_up
    assert "anna decided that it is not tried again (wrong address)" in desk.mailgate("raw", report).out
    assert desk.builder.message(given_up).reported == ("failure",)


def test_whoever_sent_what_a_person_fails_is_told_so_and_not_why(desk: Desk) -> None:
    stream, octets = desk.builder.new_id(), b"Subject: Offer\r\nMessage-ID: <7@example.com>\r\n\r\nHello\r\n"
    opening = Submitted(
        direction="outbound",
        protocol="ESMTP",
        tls="none",
        size_octets=len(octets),
        content=sha256(octets).hexdigest(),
        bare_newlines=False,
        recipient_count=1,
        policy=POLICY,
        reverse_path="info@example.com",
        recipients=("bob@customer.example",),
    )
    desk.builder.append(stream, opening, octets=octets)
    (line,) = desk.mailgate("fail", stream, "--reason", "he left for the competition").lines
    report = line.removeprefix(f"{stream}: failed; message ").removesuffix(" tells of it")
    assert [r.address for r in desk.builder.message(report).recipients] == ["info@example.com"]
    told = desk.mailgate("raw", report).out
    assert "Final-Recipient: rfc822; bob@customer.example" in told
    assert "an administrator decided" in told
    assert "Message-ID: <7@example.com>" in told
    assert "competition" not in told


def test_only_what_failed_is_reported_and_only_for_whom(desk: Desk) -> None:
    stream = desk.builder.submitted(recipients=("bob@partner.example", "eve@partner.example"))
    (line,) = desk.mailgate("fail", stream, "--recipients", "bob@*").lines
    report = line.rpartition("; message ")[2].removesuffix(" tells of it")
    told = desk.mailgate("raw", report).out
    assert told.count("Final-Recipient: ") == 1
    assert "Final-Recipient: rfc822; bob@partner.example" in told
    assert desk.states(stream) == ["failed", "received"]
    other = desk.builder.submitted()
    assert desk.mailgate("discard", other).lines == [f"{other}: discarded"]
    assert desk.builder.message(other).reported == ()


@pytest.mark.parametrize("verb", ["hold", "discard", "fail"])
def test_what_has_a_fate_keeps_it(desk: Desk, verb: str) -> None:
    stream = desk.builder.downloaded()
    desk.builder.attempted(stream)
    desk.builder.delivered(stream)
    past = {"hold": "held", "discard": "discarded", "fail": "failed"}[verb]
    answer = desk.mailgate(verb, stream)
    assert (answer.code, answer.out) == (1, "")
    assert answer.complaint == f"{stream} can't be {past}: it is delivered"
    assert desk.builder.message(stream).revision == 2


def test_who_releases_what_the_next_hop_no_longer_takes_is_told_so(desk: Desk) -> None:
    stream = desk.builder.downloaded()
    desk.mailgate("hold", stream)
    file = desk.mailgate.folder / "mailgate.toml"
    file.write_text(file.read_text().replace("[next_hop.home]\n", "[next_hop.home]\nmax_size = 20\n"))
    answer = desk.mailgate("release", stream)
    assert (
        f"{stream}: released, and will be rejected-oversize: 552 5.3.4 not sent by mailgate: " in answer.out
    )
    (told,) = [
        line for line in desk.mailgate("explain", stream).out.splitlines() if line.startswith("  Next  ")
    ]
    assert "It will be rejected-oversize: " in told


def test_only_what_is_held_can_be_released(desk: Desk) -> None:
    stream = desk.builder.downloaded()
    answer = desk.mailgate("release", stream)
    assert (answer.code, answer.complaint) == (
        1,
        f"{stream} can't be released: it isn't held: it is received",
    )


def test_what_can_be_done_is_done_and_the_rest_is_named(desk: Desk) -> None:
    closed, first, second = (desk.builder.downloaded() for _ in range(3))
    desk.builder.attempted(closed)
    desk.builder.failed(closed)
    answer = desk.mailgate.process("discard", first, closed, "zzzz", second, first, "--reason", "a test")
    assert answer.code == 1
    assert answer.lines == [f"{first}: discarded", f"{second}: discarded"]
    assert answer.err.splitlines() == [
        "mailgate: no message has an id that begins with 'zzzz'",
        f"mailgate: {closed} can't be discarded: it is failed",
    ]


def test_an_ambiguous_beginning_changes_nothing(desk: Desk) -> None:
    first, second = desk.builder.downloaded(), desk.builder.downloaded()
    shared = first[: next(n for n, pair in enumerate(zip(first, second, strict=True)) if len(set(pair)) > 1)]
    answer = desk.mailgate("discard", first, shared)
    assert answer.code == 2
    assert answer.complaint == f"several ids begin with {shared!r}: {first}, {second}"
    assert desk.states(first) == ["received"]
    assert desk.mailgate("discard", second).code == 0


def test_json_has_an_object_for_each_message(desk: Desk) -> None:
    stream = desk.builder.downloaded()
    desk.builder.attempted(stream)
    desk.builder.held(stream, why="outcome-unknown", rule="home: no answer", numbers=(0,))
    released, unknown = desk.mailgate("release", stream, "zzzz", "--json").json[::-1]
    assert released == {
        "id": stream,
        "done": True,
        "state": "outcome-unknown",
        "events": ["released"],
        "may_have_it": ["info@example.com"],
        "reports": [],
        "error": None,
    }
    assert (unknown["id"], unknown["done"], unknown["state"]) == ("zzzz", False, None)
    assert unknown["error"] == "no message has an id that begins with 'zzzz'"


def test_releasing_what_nobody_knows_says_for_whom_it_may_be_twice(desk: Desk) -> None:
    stream = desk.builder.downloaded(recipients=("anna@example.com", "dora@example.com"))
    desk.builder.attempted(stream)
    desk.builder.delivered(stream, (1,))
    desk.builder.held(stream, why="outcome-unknown", rule="home: no answer", numbers=(0,))
    (line,) = desk.mailgate("release", stream).lines
    assert line.endswith("; home may have it already: anna@example.com may get it twice")
    assert desk.states(stream) == ["outcome-unknown", "delivered"]
    assert desk.builder.message(stream).recipients[0].unknown_attempts == 1
    assert desk.due(stream) is not None


def test_only_some_recipients(desk: Desk) -> None:
    stream = desk.builder.downloaded(recipients=("anna@example.com", "dora@branch.example"))
    (line,) = desk.mailgate("discard", stream, "--recipients", "*@branch.example").lines
    assert line == f"{stream}: discarded for *@branch.example, and is received for others"
    assert desk.states(stream) == ["received", "discarded"]
    answer = desk.mailgate("hold", stream, "--recipients", "dora@branch.example")
    assert answer.complaint == f"{stream} can't be held: dora@branch.example is discarded"
    answer = desk.mailgate("hold", stream, "--recipients", "nobody@example.com")
    assert answer.complaint == f"{stream} can't be held: it has no recipient nobody@example.com"
    desk.mailgate("hold", stream, "--recipients", "anna@example.com")
    assert desk.states(stream) == ["held", "discarded"]


def test_what_names_nobody_is_routed_anew_or_said_to_name_nobody(desk: Desk) -> None:
    stream = desk.builder.downloaded(recipients=(), mailbox="info")
    desk.builder.held(stream)
    elsewhere = desk.builder.downloaded(recipients=(), mailbox="gone")
    desk.builder.held(elsewhere)
    answer = desk.mailgate("release", elsewhere)
    assert answer.code == 1
    assert "it names no recipient" in answer.complaint
    answer = desk.mailgate("hold", elsewhere, "--until", "2h")
    assert answer.complaint.endswith("can't go on by itself later")
    assert desk.mailgate("discard", elsewhere).lines == [f"{elsewhere}: discarded"]
    assert desk.builder.message(elsewhere).state == "discarded"
    assert desk.mailgate("release", elsewhere).complaint == (
        f"{elsewhere} can't be released: it is discarded; 'mailgate replay' delivers it again"
    )
    (line,) = desk.mailgate("release", stream).lines
    assert line.startswith(f"{stream}: released; goes to home")
    (listed,) = desk.mailgate("list", "--to", "info@example.com", "--json").json
    assert (listed["id"], listed["state"]) == (stream, "received")


def test_released_without_a_route_it_will_be_held_again(desk: Desk) -> None:
    stream = desk.builder.downloaded(recipients=("x@unknown.example",))
    desk.builder.held(stream, rule="none of 2 routes fits", numbers=(0,))
    (line,) = desk.mailgate("release", stream).lines
    assert line.startswith(f"{stream}: released, and will be held again: unknown.example is not ")


# -- by filters


def test_filters_show_a_plan_and_need_a_yes_where_nobody_can_be_asked(desk: Desk) -> None:
    done = desk.builder.downloaded(subject="Offer 1")
    desk.builder.attempted(done)
    desk.builder.delivered(done)
    first = desk.builder.downloaded(subject="Offer 2")
    second = desk.builder.downloaded(subject="Offer 3")
    other = desk.builder.downloaded(subject="Invoice")
    answer = desk.mailgate("hold", "--subject", "offer")
    assert (answer.code, answer.complaint) == (2, "there is nobody to ask: add --yes")
    assert desk.states(first) == ["received"]
    lines = desk.mailgate("hold", "--subject", "offer", "--before", "1h", "--yes").lines
    assert lines[0] == "2 messages are to be held:"
    assert [line.split()[0] for line in lines[2:4]] == [first, second]
    assert lines[4:] == [f"{one}: held until it is released" for one in (first, second)]
    assert desk.states(other) == ["received"]
    lines = desk.mailgate("release", "--state", "held", "--yes", "--json").json
    assert [(one["id"], one["done"]) for one in lines] == [(first, True), (second, True)]
    answer = desk.mailgate("release", "--subject", "offer", "--yes")
    assert (answer.code, answer.complaint) == (1, "there is no message that fits and can be released")


@pytest.mark.parametrize(("said", "code", "state"), [("y\n", 0, "discarded"), ("n\n", 1, "received")])
def test_on_a_terminal_a_person_is_asked(desk: Desk, said: str, code: int, state: str) -> None:
    stream = desk.builder.downloaded(mailbox="info")
    ours, its = pty.openpty()
    with os.fdopen(its, "rb") as terminal, os.fdopen(ours, "wb") as person:
        process = subprocess.Popen(
            [*PROGRAM, "discard", "--mailbox", "info"],
            cwd=desk.mailgate.folder,
            env=desk.mailgate.environment,
            stdin=terminal,
            stdout=subprocess.PIPE,
        )
        person.write(said.encode())
        person.flush()
        out, _ = process.communicate(timeout=60)
    assert process.returncode == code
    assert b"1 message is to be discarded:" in out
    assert (b"nothing was changed" in out) == (code == 1)
    assert desk.states(stream) == [state]


@pytest.mark.parametrize("verb", VERBS)
def test_ids_or_filters_not_both_and_not_neither(desk: Desk, verb: str) -> None:
    stream = desk.builder.downloaded()
    assert desk.mailgate(verb, stream, "--mailbox", "info").code == 2
    assert desk.mailgate(verb).code == 2
    assert desk.mailgate(verb, "--mailbox", "info", "--json").code == 2
    assert desk.states(stream) == ["received"]


def test_very_many_go_in_batches(desk: Desk) -> None:
    made = [desk.builder.downloaded() for _ in range(230)]
    answer = desk.mailgate("discard", "--mailbox", "info", "--yes")
    assert answer.code == 0
    assert answer.lines[0] == "230 messages are to be discarded:"
    assert answer.lines[22] == "and 210 more"
    assert answer.lines[23:] == [f"{one}: discarded" for one in made]


# -- what is being handed over


def test_an_attempt_that_was_cut_off_can_be_held_and_stays_in_sight(desk: Desk) -> None:
    stream = desk.builder.downloaded()
    desk.builder.attempted(stream)
    assert desk.mailgate("hold", stream).code == 0
    message = desk.builder.message(stream)
    assert (message.state, message.due_at) == ("outcome-unknown", None)
    assert message.recipients[0].unknown_attempts == 1
    (line,) = desk.mailgate("release", stream).lines
    assert line.endswith("home may have it already: info@example.com may get it twice")


@pytest.mark.parametrize("verb", ["hold", "discard", "fail"])
def test_what_a_living_gateway_hands_over_is_left_to_it(
    desk: Desk, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.orders.WAIT_SECONDS", 0.0)
    stream = desk.builder.downloaded()
    presence = arrive(desk.builder.engine)
    try:
        with writing(desk.builder.engine) as connection:
            until = times.now() + timedelta(minutes=1)
            assert claim(connection, "", Claim(presence.holder, until), times.now(), 5)
        desk.builder.attempted(stream)
        answer = desk.mailgate(verb, stream)
        assert answer.code == 1
        waiting, line = answer.err.splitlines()
        assert waiting == "a message is being handed over: waiting for the answer"
        assert " now: it is being handed over to home, and that can't be called back" in line
        assert desk.builder.message(stream).revision == 1
    finally:
        presence.leave()
    assert desk.mailgate(verb, stream).code == 0  # its gateway is gone: the attempt was cut off


def test_who_has_a_number_and_no_name_is_recorded_by_it(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found: 4711")

    stream = desk.builder.downloaded()
    monkeypatch.setattr("getpass.getuser", nameless)
    assert desk.mailgate("hold", stream, SUDO_USER="").code == 0
    [held] = desk.mailgate("events", "--event", "held", "--json").json
    assert held["data"]["operator"] == f"user {os.getuid()}"


def test_the_operator_is_recorded_with_each(desk: Desk) -> None:
    one, two = desk.builder.downloaded(), desk.builder.downloaded()
    desk.mailgate("hold", one, two, SUDO_USER="berta")
    desk.mailgate("release", one, two)
    desk.mailgate("discard", one)
    desk.mailgate("fail", two)
    rows = desk.mailgate("events", "--json").json
    kinds = {Held.NAME, Released.NAME, Discarded.NAME, Failed.NAME}
    by = [(row["name"], row["data"]["operator"]) for row in rows if row["name"] in kinds]
    assert by == [
        ("held", "berta"),
        ("held", "berta"),
        ("released", "anna"),
        ("released", "anna"),
        ("discarded", "anna"),
        ("failed", "anna"),
    ]


def test_names_and_options_are_completed(mailgate: Mailgate, tmp_path: Path) -> None:
    def completed(words: str, at: int) -> list[str]:
        asked = {"_MAILGATE_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(at)}
        return mailgate.process(**asked).lines

    assert completed("mailgate rel", 1) == ["release"]
    assert completed("mailgate quarantine re", 2) == ["release"]
    assert completed("mailgate hold --un", 2) == ["--until"]
    assert completed("mailgate discard --rec", 2) == ["--recipients"]


def test_where_the_configuration_wants_a_reason_nobody_decides_without_one(desk: Desk) -> None:
    strict = WHOLE.replace("[gateway]", "[gateway]\nrequire_reason = true")
    file = configure(desk.mailgate.folder, desk.url, strict)
    stream = desk.builder.downloaded()
    letter = file.with_name("letter.eml")
    letter.write_bytes(b"Subject: x\r\n\r\nHello\r\n")
    mailbox = ("mailbox", "adopt", "info", "--yes")
    given = ("import", str(letter), "--recipients", "info@example.com")
    asked = [("release", "--state", "held", "--yes"), ("quarantine", "release", stream), ("replay", stream)]
    for command in (*((verb, stream) for verb in VERBS), *asked, given, mailbox):
        answer = desk.mailgate(*command, "--reason", " ")
        assert (answer.code, answer.complaint.partition(":")[0]) == (2, "--reason is missing"), command
    assert len(desk.mailgate("show", stream, "--json").json[0]["events"]) == 1
    assert desk.mailgate("replay", stream, "--dry-run").code in (0, 1)
    assert desk.mailgate("hold", stream, "--reason", "case 7").code == 0
