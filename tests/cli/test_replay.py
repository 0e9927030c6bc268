"""`replay` as a person gives it: what it comes to, what is said, what is on record, and that nothing is done twice."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest

from cli import times
from store import conserve, mailbox_queries, queries
from store.database import reading
from store.events import Quarantined
from tests.build import POLICY, Builder
from tests.cli.command import Mailgate, configure


class Desk:
    """A store, and the command line with it."""

    def __init__(self, mailgate: Mailgate, builder: Builder) -> None:
        self.mailgate = mailgate
        self.builder = builder

    def states(self, stream: str) -> list[str]:
        return [r.state for r in self.builder.message(stream).recipients]

    def last(self, stream: str) -> tuple[str, dict[str, object], dict[str, object]]:
        (shown,) = self.mailgate("show", stream, "--json").json
        row = shown["events"][-1]
        return row["name"], row["data"], row["personal"]

    def due(self, stream: str) -> object:
        with reading(self.builder.engine) as connection:
            return queries.lease(connection, stream)

    def failed(self, **facts: object) -> str:
        stream = self.builder.downloaded(**facts)  # type: ignore[arg-type]
        self.builder.attempted(stream)
        self.builder.failed(stream)
        return stream

    def delivered(self, **facts: object) -> str:
        stream = self.builder.downloaded(**facts)  # type: ignore[arg-type]
        self.builder.attempted(stream)
        self.builder.delivered(stream)
        return stream


@pytest.fixture
def desk(mailgate: Mailgate, database_url: str) -> Iterator[Desk]:
    builder = Builder(database_url, times.now() - timedelta(hours=2))
    configure(mailgate.folder, database_url)
    mailgate.environment["SUDO_USER"] = "anna"
    yield Desk(mailgate, builder)
    with reading(builder.engine) as connection:
        assert list(conserve.check(connection, conserve.Count(), times.now())) == []
    builder.close()


def test_what_failed_is_due_again_and_on_record_with_who_asked_and_why(desk: Desk) -> None:
    stream = desk.failed()
    assert desk.due(stream) is None
    answer = desk.mailgate("replay", stream, "--id", "r1", "--reason", "their server is back")
    assert answer.lines == [
        "1 message is to be delivered again:",
        "  1 through home",
        "replay r1: 1 to be delivered again",
    ]
    name, data, personal = desk.last(stream)
    assert name == "redelivery-requested"
    assert (data["operator"], data["replay"], data["numbers"]) == ("anna", "r1", [0])
    assert personal == {"recipients": ["info@example.com"], "reason": "their server is back"}
    assert desk.states(stream) == ["deferred"]
    assert desk.due(stream) is not None


def test_the_same_id_again_does_nothing_new(desk: Desk) -> None:
    first, second = desk.failed(), desk.failed()
    assert desk.mailgate("replay", first, "--id", "r1").code == 0
    events = len(desk.mailgate("show", first, "--json").json[0]["events"])
    answer = desk.mailgate("replay", first, second, "--id", "r1")
    assert answer.code == 0
    assert answer.lines[-1] == "replay r1: 1 to be delivered again; 1 was part of it before"
    assert len(desk.mailgate("show", first, "--json").json[0]["events"]) == events
    again = desk.mailgate("replay", first, "--id", "r1", "--json")
    assert (again.code, again.json[0]["repeated"], again.json[0]["done"]) == (0, True, False)
    told = desk.mailgate("replay", first, "--id", "r1")
    assert told.code == 0
    assert f"nothing to do for {first}: it is part of replay r1 already" in told.out


def test_the_same_command_again_is_no_bad_news_once_nothing_fits_any_more(desk: Desk) -> None:
    streams = [desk.failed(subject=f"Order {n}") for n in range(2)]
    command = ("replay", "--state", "failed", "--yes", "--id", "r1")
    assert desk.mailgate(*command).code == 0
    again = desk.mailgate(*command)
    assert (again.code, again.lines) == (
        0,
        ["replay r1: no message fits any more; 2 were part of it before"],
    )
    quiet = desk.mailgate(*command, "--json")
    assert (quiet.code, quiet.out) == (0, "")
    other = desk.mailgate("replay", "--state", "failed", "--yes", "--id", "r2")
    assert (other.code, other.complaint) == (1, "no message fits")
    assert desk.mailgate("replay", "--state", "failed", "--yes").complaint == "no message fits"
    assert [row["id"] for row in desk.mailgate("list", "--replay", "r1", "--json").json] == streams[::-1]


def test_what_a_replay_came_to_is_found_by_its_id(desk: Desk) -> None:
    first, second = desk.failed(subject="Order 1"), desk.failed(subject="Order 2")
    assert desk.mailgate("replay", first, "--id", "r1").code == 0
    assert desk.mailgate("replay", first, second, "--id", "r2", "--force").code == 0
    desk.builder.attempted(first)
    desk.builder.failed(first)
    assert [row["id"] for row in desk.mailgate("list", "--replay", "r1", "--json").json] == [first]
    assert [row["id"] for row in desk.mailgate("list", "--replay", "r2", "--json").json] == [second, first]
    assert [row["id"] for row in desk.mailgate("queue", "--replay", "r2", "--json").json] == [second]
    assert desk.mailgate("list", "--replay", "r").code == 1
    third = desk.mailgate("replay", "--replay", "r2", "--state", "failed", "--yes", "--id", "r3")
    assert third.lines[-1] == "replay r3: 1 to be delivered again"


def test_an_id_that_was_made_up_is_told_before_it_begins_and_when_it_is_stopped(desk: Desk) -> None:
    for number in range(40):
        desk.failed(subject=f"Order {number}")
    command = ("replay", "--subject", "Order", "--yes", "--rate", "10/s")
    with desk.mailgate.start(*command) as process:
        assert process.stdout is not None
        before = lambda: len(desk.mailgate("list", "--event", "redelivery-requested", "--limit", "0").lines)  # noqa: E731
        while before() < 4:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    told = re.search(r"its id is (\S+): --id (\S+) goes on where it was interrupted\n", out.decode())
    assert told is not None
    name = told[1]
    assert process.returncode == 130
    assert err.decode() == (
        f"mailgate: replay {name} was stopped: the same command with --id {name} goes on with the rest\n"
    )
    done = desk.mailgate("replay", "--subject", "Order", "--yes", "--id", name)
    assert done.lines[-1].endswith("part of it before")
    assert len(desk.mailgate("list", "--replay", name, "--limit", "0", "--json").json) == 40


def test_json_tells_the_id_that_was_made_up_and_goes_on_with_it(desk: Desk) -> None:
    stream = desk.failed()
    (foreseen,) = desk.mailgate("replay", stream, "--dry-run", "--json").json
    assert (foreseen["replay"], foreseen["done"], foreseen["error"]) == (None, False, None)
    (done,) = desk.mailgate("replay", stream, "--json").json
    assert done["done"]
    _, data, _ = desk.last(stream)
    assert data["replay"] == done["replay"]


def test_a_recipient_of_its_own_is_named_and_stays_the_same_one(desk: Desk) -> None:
    stream = desk.failed()
    answer = desk.mailgate("replay", stream, "--recipients", "INFO@example.com", "--to", "home")
    assert answer.code == 0
    assert desk.states(stream) == ["deferred"]
    assert desk.last(stream)[1]["numbers"] == [0]


def test_whoever_has_it_is_left_out_unless_by_force(desk: Desk) -> None:
    stream = desk.builder.downloaded(recipients=("a@example.com", "b@example.com"))
    desk.builder.attempted(stream)
    desk.builder.delivered(stream, (0,))
    desk.builder.failed(stream, (1,))
    answer = desk.mailgate("replay", stream, "--dry-run", "--json")
    (shown,) = answer.json
    assert shown["to"] == [{"address": "b@example.com", "next_hop": "home"}]
    assert shown["left_out"] == [
        {"address": "a@example.com", "why": "has it already: --force sends it again"}
    ]
    assert desk.states(stream) == ["delivered", "failed"]
    assert desk.mailgate("replay", stream).code == 0
    assert desk.states(stream) == ["delivered", "deferred"]
    assert desk.mailgate("replay", stream, "--force").code == 0
    assert desk.states(stream) == ["deferred", "deferred"]


def test_what_everybody_has_is_bad_news(desk: Desk) -> None:
    stream = desk.delivered()
    answer = desk.mailgate("replay", stream)
    assert answer.code == 1
    assert "left out: 1 recipient that has it already: --force sends it again" in answer.out
    assert "nobody is left to get it" in answer.out
    assert desk.states(stream) == ["delivered"]


def test_to_somebody_else_through_another_next_hop(desk: Desk) -> None:
    stream = desk.delivered()
    answer = desk.mailgate("replay", stream, "--recipients", "lawyer@example.com", "--to", "home", "--yes")
    assert answer.code == 0
    assert "to lawyer@example.com" in answer.lines[0]
    message = desk.builder.message(stream)
    assert [(r.address, r.state, r.via) for r in message.recipients] == [
        ("info@example.com", "delivered", None),
        ("lawyer@example.com", "received", "home"),
    ]
    assert message.open
    (row,) = desk.mailgate("list", "--to", "lawyer@example.com", "--json").json
    assert row["id"] == stream


def test_by_filters_the_plan_is_shown_and_asked_about(desk: Desk) -> None:
    streams = [desk.failed(subject=f"Order {n}") for n in range(3)]
    desk.delivered(subject="Order 9")
    refused = desk.mailgate("replay", "--subject", "Order")
    assert refused.code == 2
    assert "there is nobody to ask" in refused.complaint
    plan = desk.mailgate("replay", "--subject", "Order", "--dry-run")
    assert plan.code == 0
    assert plan.lines[:2] == ["3 of 4 messages are to be delivered again:", "  3 through home"]
    assert all(desk.states(stream) == ["failed"] for stream in streams)
    done = desk.mailgate("replay", "--subject", "Order", "--state", "failed", "--yes", "--rate", "1000/s")
    assert done.lines[-1].endswith(": 3 to be delivered again")
    assert all(desk.states(stream) == ["deferred"] for stream in streams)


def test_from_quarantine_it_goes_and_the_same_verdict_does_not_keep_it(desk: Desk) -> None:
    stream = desk.builder.downloaded()
    event = Quarantined(reason="spam", rule="spamd says spam", scanner="spamd", policy=POLICY)
    desk.builder.append(stream, event)
    assert desk.states(stream) == ["quarantined"]
    plan = desk.mailgate("replay", stream, "--reason", "it is none")
    assert plan.code == 0
    assert "  1 of them out of quarantine: 1 spam" in plan.lines
    message = desk.builder.message(stream)
    assert (message.state, message.released_by) == ("received", "anna")


def test_what_is_held_is_not_let_go_by_a_replay(desk: Desk) -> None:
    stream = desk.builder.downloaded()
    desk.mailgate("hold", stream)
    answer = desk.mailgate("replay", stream)
    assert answer.code == 1
    assert "left out: 1 recipient that is held: 'mailgate release' lets it go on" in answer.out


def test_another_mail_that_got_its_uidl_is_not_taken_for_what_was_too_large(desk: Desk) -> None:
    large = desk.builder.oversize()
    desk.builder.removed(large)
    desk.builder.oversize(uidl=f"uidl-{large}")
    done = desk.mailgate("replay", large, "--yes")
    assert done.code == 1
    assert "it was never fetched, and its mailbox no longer has it" in done.out


def test_what_was_too_large_is_fetched_again_while_its_mailbox_has_it(desk: Desk) -> None:
    there, gone = desk.builder.oversize(), desk.builder.oversize()
    desk.builder.removed(gone)
    answer = desk.mailgate("replay", there, gone)
    assert "1 was never here and is fetched at the next poll, if its mailbox has it" in answer.out
    assert f"nothing to do for {gone}: it was never fetched, and its mailbox no longer has it" in answer.out
    with reading(desk.builder.engine) as connection:
        assert mailbox_queries.present(connection, "info") == []  # the next listing shows something new
    assert desk.states(there) == ["rejected-oversize"]


def test_of_many_that_were_too_large_what_became_of_them_is_counted(desk: Desk) -> None:
    for _ in range(12):
        large = desk.builder.oversize()
        desk.mailgate("replay", large, "--id", "r1")
        desk.builder.oversize(uidl=f"uidl-{large}")
    again = desk.mailgate("replay", "--mailbox", "info", "--id", "r1", "--dry-run")
    assert sorted(again.lines) == [
        "  nothing to do for 12: it is part of replay r1 already",
        "  nothing to do for 12: it is what came of replay r1",
        "0 of 24 messages are to be delivered again:",
    ]
    other = desk.mailgate("replay", "--mailbox", "info", "--dry-run")
    assert other.lines[-1] == (
        "  nothing to do for 12: it was found too large again, as another message: replay that one"
    )


def test_wrong_usage_is_one_line(desk: Desk) -> None:
    stream = desk.failed()
    for arguments, text in (
        (("--to", "nowhere"), "--to: there is no next hop 'nowhere'; there are home"),
        (
            ("--rate", "fast"),
            "--rate: expected a number a second, minute or hour, such as 10/m, found 'fast'",
        ),
        (("--rate", "0/m"), "--rate: expected"),
        (("--recipients", "nobody"), "--recipients: 'nobody' is no address"),
        (("--id", "a b"), "--id: expected letters"),
        (("--subject", "x"), "name the messages to replay, or give filters, not both"),
    ):
        answer = desk.mailgate("replay", stream, *arguments)
        assert answer.code == 2, arguments
        assert text in answer.complaint
    assert desk.mailgate("replay").complaint == "name the messages to replay, or give filters"
    assert desk.states(stream) == ["failed"]
