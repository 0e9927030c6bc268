"""Messages that a person has in files: taken in, delivered, and taken in once."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.life.house import ROOT, House, house

LETTER = b"From: Anna <anna@c.example>\nSubject: found again\nMessage-ID: <1@c.example>\n\nhello\n.\n"
MBOX = b"From a Mon Jan  1 00:00:00 2026\nSubject: one\n\n1\n\nFrom b Mon Jan  1 00:00:00 2026\nSubject: two\n\n2\n"
INFO = ("--recipients", "info@example.com")


@pytest.fixture
def there(tmp_path: Path, database_url: str) -> Iterator[House]:
    with house(tmp_path, database_url) as opened:
        opened.write()
        (tmp_path / "a.eml").write_bytes(LETTER)
        (tmp_path / "two.mbox").write_bytes(MBOX)
        opened.make_store()
        yield opened
        assert opened.problems() == []


def imported(there: House, *arguments: str) -> list[dict[str, object]]:
    done = there.run("import", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_it_is_delivered_with_our_trace_and_whole_lines(there: House) -> None:
    [one] = imported(there, "a.eml", *INFO, "--reason", "lost in the move")
    assert there.run("run", "--once").returncode == 0
    [taken] = there.home.ledger
    trace, _, rest = taken.octets.partition(b"From: ")
    assert trace.startswith(b"Received: by gate.example.com (mailgate) with local id ")
    assert b"From: " + rest == LETTER.replace(b"\n", b"\r\n")
    assert (taken.reverse_path, taken.recipients) == ("anna@c.example", ("info@example.com",))
    [row] = there.json("list", "--event", "imported")
    assert (row["id"], row["state"], row["direction"], row["mailbox"]) == (
        one["id"],
        "delivered",
        "inbound",
        None,
    )
    first = there.json("show", str(one["id"]))[0]["events"][0]
    assert (first["name"], first["personal"]["file"]) == ("imported", "a.eml")
    assert first["personal"]["reason"] == "lost in the move"
    shown = there.run("show", str(one["id"])).stdout
    assert "imported from a.eml" in shown


def test_the_same_again_is_taken_in_for_whom_it_is_not_here(there: House) -> None:
    [one] = imported(there, "a.eml", *INFO)
    assert there.run("run", "--once").returncode == 0
    done = there.run("import", "a.eml", "--recipients", "INFO@example.com")
    assert done.returncode == 0
    line = done.stdout.splitlines()[0]
    assert line.startswith("a.eml is here already for INFO@example.com, delivered: 'mailgate replay ")
    # What it advises does what it says.
    command = line.partition("'mailgate ")[2].partition("'")[0]
    assert there.run(*command.split(), "--yes").returncode == 0
    [again] = imported(there, "a.eml", *INFO, "--recipients", "bob@example.com")
    assert again["here"] == [{"address": "info@example.com", "id": one["id"], "state": "deferred"}]
    assert there.run("run", "--once").returncode == 0
    assert sorted(taken.recipients for taken in there.home.ledger) == [
        ("bob@example.com",),
        ("info@example.com",),
        ("info@example.com",),
    ]


def test_what_a_mailbox_gave_is_not_imported_beside_it(there: House) -> None:
    there.provider.put("info", LETTER.replace(b"\n", b"\r\n"))
    assert there.run("run", "--once").returncode == 0
    (there.folder / "a.eml").write_bytes(LETTER.replace(b"\n", b"\r\n"))
    [one] = imported(there, "a.eml", *INFO)
    assert one["id"] is None
    assert len(there.home.ledger) == 1


def test_an_mbox_is_a_message_each_and_stdin_is_one(there: House) -> None:
    assert [one["file"] for one in imported(there, "two.mbox", *INFO)] == [
        "two.mbox, message 1",
        "two.mbox, message 2",
    ]
    command = [sys.executable, "-m", "cli.main", "--config", str(there.config), "import", "-", *INFO]
    done = subprocess.run(
        [*command, "--from", "<>"], cwd=there.folder, env={"PYTHONPATH": str(ROOT)}, input=LETTER, check=True
    )
    assert done.returncode == 0
    assert there.run("run", "--once").returncode == 0
    assert [taken.reverse_path for taken in there.home.ledger] == ["", "", ""]
    assert [b"Subject: " in taken.octets for taken in there.home.ledger] == [True, True, True]


def test_a_text_that_has_the_line_of_an_mbox_in_it_is_not_cut_there(there: House) -> None:
    text = (
        b"Subject: %s\n\nDear Bob,\n\nFrom what I hear it works.\nFrom now on\nNote: at 10:30\n\n>From then\n"
    )
    dated, bare = b"From a Mon Jan  1 00:00:00 2026\n", b"From b@c.example\n"
    box = b"\n".join([dated + text % b"one", bare + text % b"two", dated + text % b"three"]) + b"\n"
    for name, ends in (("unix.mbox", b"\n"), ("dos.mbox", b"\r\n")):
        (there.folder / name).write_bytes(box.replace(b"\n", ends))
        ids = [str(one["id"]) for one in imported(there, name, *INFO)]
        kept = [there.run("raw", id).stdout.encode() for id in ids]
        assert kept == [text % subject for subject in (b"one", b"two", b"three")]
    assert there.run("run", "--once").returncode == 0
    sent = sorted(taken.octets.partition(b"Subject: ")[2] for taken in there.home.ledger)
    whole = [
        (text % name).replace(b"\n", b"\r\n").removeprefix(b"Subject: ")
        for name in (b"one", b"three", b"two")
    ]
    assert sent == sorted(whole * 2)


def test_the_sender_of_outgoing_mail_is_told_that_it_failed(there: House) -> None:
    there.more = '[[route]]\nrecipients = ["*"]\nnext_hop = "home"\n'
    there.home.fault("rcpt", "reply", matching="x@far.example", code=550, text="5.1.1 nobody here")
    imported(there, "a.eml", "--recipients", "x@far.example", "--from", "anna@example.com")
    there.run("run", "--once")
    there.run("run", "--once")
    [told] = there.home.ledger
    assert told.recipients == ("anna@example.com",)
    assert b"5.1.1 nobody here" in told.octets


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("a.eml",), "name who gets it: --recipients ADDRESS"),
        (("a.eml", "--recipients", "info"), "--recipients: 'info' is no address"),
        (("a.eml", *INFO, "--from", "me"), "--from: 'me' is no address"),
        (("gone.eml", *INFO), "gone.eml can't be read: No such file or directory"),
        (("two.mbox", "mailgate.toml", *INFO), "mailgate.toml is no message"),
    ],
)
def test_what_can_not_be_taken_in_changes_nothing(
    there: House, arguments: tuple[str, ...], says: str
) -> None:
    done = there.run("import", *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(f"mailgate: {says}")
    assert done.stderr.count("\n") == 1
    assert there.json("list") == []
