"""Ugly mail from the wild, by way of a real Dovecot: all of it arrives, once, and unchanged.

MAILGATE_CORPUS names a folder of such messages, one a file. They are not part of the project; without the folder these
tests are skipped. Some messages of our own are always put between them: those that a mailbox or a wire may choke on.
"""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest

from tests.life.house import PASSWORD, RECIPIENT, ROOT, RUN_SECONDS, House, house
from tests.peers.raw import RawClient
from tests.real.dovecot import Dovecot
from tests.real.postfix import Postfix

CORPUS = os.environ.get("MAILGATE_CORPUS", "")
OURS = {
    "lone-cr": b"Subject: lone CR\r\n\r\none\rtwo\r.\rthree\r\n",
    "lone-cr-in-the-header": b"Subject: a\rX-Smuggled: yes\r\n\r\nbody\r\n",
    "no-last-line-ending": b"Subject: no end\r\n\r\nthe last line",
    "no-header": b"\r\nonly a body\r\n",
    "empty": b"",
    "one-line-ending": b"\r\n",
    "dots": b"Subject: dots\r\n\r\n.\r\n..\r\n...\r\n.x\r\n",
    "nul": b"Subject: nul\r\n\r\na\0b\r\n",
    "a-long-line": b"Subject: long\r\n\r\n" + b"x" * 200_000 + b"\r\n",
    "every-octet": b"Subject: octets\r\n\r\n" + bytes(n for n in range(256) if n not in (10, 13)) + b"\r\n",
    "white-space-first": b" white space\r\nSubject: behind it\r\n\r\nbody\r\n",
    "separator-first": b"From a@b.example Sun Mar  1 12:00:00 2026\r\nSubject: behind it\r\n\r\nbody\r\n",
    "no-field-first": b"no field\r\nSubject: behind it\r\n\r\nbody\r\n",
    "first-dot-and-text": b".Subject: a dot in front\r\n\r\nbody\r\n",
}
# Dovecot does not stuff the first line: this one ends before its first octet, and its rest looks like replies.
UNFETCHABLE = b".\r\nSubject: a dot alone in front\r\n\r\nbody\r\n"

needs_corpus = pytest.mark.skipif(not CORPUS, reason="MAILGATE_CORPUS names no folder of messages")


def corpus() -> dict[str, bytes]:
    files = sorted(Path(CORPUS).glob("*.eml"))
    assert files, f"no *.eml in {CORPUS}"
    return OURS | {file.name.replace(":", "_"): file.read_bytes() for file in files}


@needs_corpus
def test_every_message_arrives_once_and_unchanged(
    tmp_path: Path, database_url: str, start_dovecot: Callable[..., Dovecot]
) -> None:
    mails = corpus()
    dovecot = start_dovecot({"info": PASSWORD})
    for name, octets in mails.items():
        dovecot.put("info", name, octets)
    as_dovecot_has_it = retrieved(dovecot.port)
    assert len(as_dovecot_has_it) == len(mails)

    with house(tmp_path, database_url) as opened:
        opened.provider_port = dovecot.port
        opened.make_store()
        done = opened.run("run", "--once")

        assert (done.returncode, done.stderr.count("Traceback")) == (0, 0), done.stderr
        expected = Counter(as_sent(octets) for octets in as_dovecot_has_it.values())
        assert opened.arrived() == expected
        assert opened.notices() == []
        assert {taken.recipients for taken in opened.home.ledger} == {(RECIPIENT,)}
        assert dovecot.messages("info") == {}
        assert opened.problems() == []
        check_shown(opened, as_dovecot_has_it)


@needs_corpus
def test_a_real_home_server_delivers_every_message(
    tmp_path: Path,
    sqlite_url: str,
    start_dovecot: Callable[..., Dovecot],
    start_postfix: Callable[..., Postfix],
) -> None:
    mails = corpus()
    dovecot, postfix = start_dovecot({"info": PASSWORD}), start_postfix()
    for name, octets in mails.items():
        dovecot.put("info", name, octets)
    with house(tmp_path, sqlite_url) as opened:
        opened.provider_port, opened.home_port = dovecot.port, postfix.port
        done = opened.run("run", "--once")
        assert done.returncode == 0, done.stderr
        delivered = postfix.delivered(at_least=len(mails))
        assert len(delivered) == len(mails)
        assert dovecot.messages("info") == {}
        assert opened.problems() == []
        ids = {row["id"]: row["uidl"] for row in opened.json("list", "--limit", "0")}
    by_id = {trace_id(octets): octets for octets in delivered}
    assert by_id.keys() == ids.keys()
    for id, uidl in ids.items():
        fragment = longest_word(mails[uidl])
        assert fragment in by_id[id].replace(b"\n ", b""), uidl


@pytest.mark.parametrize("name", ["white-space-first", "separator-first"])
def test_a_real_home_server_finds_the_header_behind_a_first_line_that_is_no_field(
    name: str, tmp_path: Path, sqlite_url: str, start_postfix: Callable[..., Postfix]
) -> None:
    postfix = start_postfix()
    with house(tmp_path, sqlite_url) as opened:
        opened.provider.put("info", OURS[name])
        opened.home_port = postfix.port
        done = opened.run("run", "--once")
        assert done.returncode == 0, done.stderr
    (delivered,) = postfix.delivered(at_least=1)
    read = message_from_bytes(delivered)
    assert read["Subject"] == "behind it"
    assert read["X-Mailgate-First-Line"].strip().encode() == OURS[name].partition(b"\r\n")[0].strip()
    assert all(re.search(r"\+0000( \(UTC\))?$", value) for value in read.get_all("Received"))
    assert read.get_payload() == "body\n"


def test_a_message_that_cannot_be_told_apart_from_replies_holds_up_no_other(
    tmp_path: Path, sqlite_url: str, start_dovecot: Callable[..., Dovecot]
) -> None:
    dovecot = start_dovecot({"info": PASSWORD})
    for number in range(9):
        dovecot.put(
            "info", f"m{number}", UNFETCHABLE if number == 4 else b"Subject: %d\r\n\r\nx\r\n" % number
        )
    with house(tmp_path, sqlite_url) as opened:
        opened.provider_port = dovecot.port
        for _ in range(3):
            done = opened.run("run", "--once")
            assert "Traceback" not in done.stderr
        assert opened.arrived() == Counter(b"Subject: %d\r\n\r\nx\r\n" % n for n in range(9) if n != 4)
        assert list(dovecot.messages("info")) == ["m4"]
        (mailbox,) = opened.json("mailbox", "list")
        assert mailbox["health"] == "failing"
        assert "does not stuff its first dot" in mailbox["text"]
        assert opened.problems() == []


def check_shown(opened: House, mails: dict[str, bytes]) -> None:
    """`show` tells of each what happened; what had lone line endings is marked."""
    listed = opened.json("list", "--limit", "0")
    assert {row["uidl"] for row in listed} == mails.keys()
    assert {row["state"] for row in listed} == {"delivered"}
    some = listed if opened.store_url.startswith("sqlite") else listed[::9]  # the pages are the same on both
    pages = many(opened, [["show", row["id"]] for row in some])
    for row, page in zip(some, pages, strict=True):
        assert (page["code"], page["err"]) == (0, ""), row["uidl"]
        for happened in ("downloaded", "attempted", "delivered", "removed-from-source", RECIPIENT):
            assert happened in page["out"], (row["uidl"], page["out"])
    openings = [e["data"] for e in opened.json("events", "--event", "downloaded", "--limit", "0")]
    marked = {
        row["uidl"]
        for row, opening in zip(reversed(listed), openings, strict=True)
        if opening.get("bare_newlines")
    }
    assert marked == {uidl for uidl, octets in mails.items() if has_lone_line_endings(octets)}


def many(opened: House, commands: list[list[str]]) -> list[dict[str, Any]]:
    """Run many commands in one process: each takes a second to start."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.life.many", "--config", str(opened.config)],
        input="".join(json.dumps(command) + "\n" for command in commands),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=opened.folder,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def retrieved(port: int) -> dict[str, bytes]:
    """Every message as the server gives it, by UIDL, read without any code of ours."""
    with RawClient(port) as client:
        client.line()
        assert client.ask(b"USER info").startswith(b"+OK")
        assert client.ask(b"PASS " + PASSWORD.encode()).startswith(b"+OK")
        names = dict(line.split() for line in body(client, b"UIDL").splitlines())
        octets = {name.decode(): body(client, b"RETR " + number) for number, name in names.items()}
        client.ask(b"QUIT")
    return octets


def body(client: RawClient, command: bytes) -> bytes:
    assert client.ask(command).startswith(b"+OK")
    lines: list[bytes] = []
    while (line := client.line()) != b".\r\n":
        lines.append(line[1:] if line.startswith(b"..") else line)
    return b"".join(lines)


def as_sent(octets: bytes) -> bytes:
    """What must come out: a line ending at the end, and CRLF for what stood alone."""
    mended = re.sub(rb"\r\n|\r|\n", b"\r\n", octets)
    return mended if mended.endswith(b"\r\n") or not mended else mended + b"\r\n"


def has_lone_line_endings(octets: bytes) -> bool:
    rest = octets.replace(b"\r\n", b"")
    return b"\r" in rest or b"\n" in rest


def trace_id(octets: bytes) -> str:
    found = re.search(rb"\bid ([0-9A-Za-z-]+)", octets[octets.index(b"Received: (mailbox") :])
    assert found is not None
    return found[1].decode()


def longest_word(octets: bytes) -> bytes:
    """A part of a message by which it is known again, whatever a server does to its lines."""
    _, _, text = octets.replace(b"\r\n", b"\n").partition(b"\n\n")
    words: list[bytes] = re.findall(rb"[0-9A-Za-z]{1,60}", text) or [b""]
    return max(words, key=len)
