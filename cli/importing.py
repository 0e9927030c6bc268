"""`mailgate import FILE…`: take in messages that a person has in files, as if a client had handed them in.

All files are looked through before anything is taken in, so that a wrong one changes nothing; then each message is read
when its turn comes, for a folder may be larger than memory. What is here already is not taken in again: the same command
twice makes no duplicates.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import context, render, times
from cli.context import EXIT_DONE, Misuse
from cli.message import AsJson, Json
from cli.person import check_reason, operator
from engine.core import envelope
from store.recipient import ACCEPTED, ATTENTION

if TYPE_CHECKING:
    from engine.importing import Given, Here, Taken

STDIN = "-"
_SEPARATOR = b"From "  # what an mbox begins with (RFC 4155)
_FIELD = re.compile(rb"[!-9;-~]+[ \t]*:")
# Not every writer quotes such a line in a text: it separates where it has a time and a year, or stands between an empty line
# and a field.
_SEPARATES = re.compile(
    rb"^From (?:(?=.*\d:\d\d)(?=.*\b\d{4}\b)|(?:(?<=\n\nFrom )|(?<=\n\r\nFrom ))(?=.*\n[!-9;-~]+[ \t]*:)).*\n",
    re.MULTILINE,
)
_EMPTY_LAST_LINE = re.compile(rb"(?<=\n)\r?\n\Z")

Files = Annotated[
    list[str],
    typer.Argument(
        metavar="FILE", help="A message (RFC 5322), or an mbox of several; - reads one from stdin."
    ),
]
To = Annotated[
    list[str] | None,
    typer.Option(
        "--recipients", metavar="ADDRESS", show_default=False, help="Who gets it. May be given again."
    ),
]
From = Annotated[
    str | None,
    typer.Option(
        "--from", metavar="ADDRESS", help="The reverse-path, <> for the null one; else as its header says."
    ),
]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; goes on record with your name.")]


def import_files(
    files: Files,
    *,
    recipients: To = None,
    reverse_path: From = None,
    reason: Reason = "",
    as_json: AsJson = False,
) -> int:
    """Take in messages from files; the gateway scans and delivers them as any other.

    The header names nobody: --recipients does. What is here already for somebody is not taken in again for them.
    """
    from engine.importing import Given, take_in
    from engine.wiring import policy_of

    to, sender = _recipients(recipients or []), _reverse_path(reverse_path)
    settings, by = context.settings(), operator()
    check_reason(settings, reason)
    policy = policy_of(settings)
    for _ in _messages(files):
        pass
    with context.opened(settings) as engine:
        for name, octets in _messages(files):
            one = Given(
                file=name, octets=octets, recipients=to, reverse_path=sender, operator=by, reason=reason
            )
            _say(one, take_in(engine, one, policy, times.now()), as_json=as_json)
        if not as_json and context.gateway_runs(engine) is False:
            render.line(("no gateway runs: 'mailgate run' goes on with it", "dim"))
    return EXIT_DONE


# -- what is given


def _recipients(addresses: list[str]) -> tuple[str, ...]:
    if not addresses:
        raise Misuse("name who gets it: --recipients ADDRESS")
    return tuple({envelope.key(a): a for a in map(_address, addresses)}.values())


def _address(text: str, option: str = "--recipients") -> str:
    if not envelope.valid(text):
        raise Misuse(f"{option}: {text!r} is no address")
    return text


def _reverse_path(text: str | None) -> str | None:
    if text in (None, "", "<>"):
        return None if text is None else ""
    return _address(text, "--from")


def _messages(files: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """Yield the messages of files, each with a name for the record. Raises Misuse."""
    return chain.from_iterable(map(_of_file, files))


def _of_file(file: str) -> Iterator[tuple[str, bytes]]:
    octets = _read(file)
    if not octets.startswith(_SEPARATOR):
        yield _checked("stdin" if file == STDIN else file, octets)
        return
    if file == STDIN:
        raise Misuse("stdin is an mbox: name the file")
    for number, one in enumerate(_of_mbox(octets), start=1):
        yield _checked(f"{file}, message {number}", one)


def _of_mbox(octets: bytes) -> Iterator[bytes]:
    """Yield the messages of an mbox, without the empty line at the end of each."""
    first = octets.partition(b"\n")[0]
    begins, ends = [len(first) + 1], []
    for separator in _SEPARATES.finditer(octets, len(first)):
        begins.append(separator.end())
        ends.append(separator.start())
    for begin, end in zip(begins, [*ends, len(octets)], strict=True):
        yield _EMPTY_LAST_LINE.sub(b"", octets[begin:end])


def _read(file: str) -> bytes:
    if file == STDIN:
        return _stdin()
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise Misuse(f"{file} can't be read: {error.strerror}") from None


@cache
def _stdin() -> bytes:
    if sys.stdin is None:
        raise Misuse("there is no stdin to read: it was closed")
    return sys.stdin.buffer.read()


def _checked(name: str, octets: bytes) -> tuple[str, bytes]:
    if not _FIELD.match(octets):
        raise Misuse(f"{name} is no message: it does not begin with a header field (RFC 5322)")
    return name, octets


# -- what came of it


def _say(given: Given, taken: Taken, *, as_json: bool) -> None:
    if as_json:
        render.json_line(_object(given, taken))
        return
    if (message := taken.message) is not None:
        whom = ", ".join(r.address for r in message.recipients)
        held = f", and held: {message.held_why}" if message.held_why else ""
        render.line(f"{message.id}: imported from {given.file}, for {whom}{held}")
    for one in taken.here:
        render.line(f"{given.file} is here already for {one.address}, {one.state}: {_advice(one)}")


def _advice(here: Here) -> str:
    if here.state in ATTENTION:
        return f"'mailgate explain {here.stream}' says what comes next"
    force = " --force" if here.state in ACCEPTED else ""
    return f"'mailgate replay {here.stream} --recipients {here.address}{force}' delivers it again"


def _object(given: Given, taken: Taken) -> Json:
    return {
        "file": given.file,
        "id": taken.message.id if taken.message else None,
        "here": [{"address": h.address, "id": h.stream, "state": h.state} for h in taken.here],
    }
