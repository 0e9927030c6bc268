"""A message's bundle for an auditor: written here, looked into on any machine.

`check` also takes a seal by itself, and the seals before it: whether each goes on from the one before.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from typing import Any, cast
from zipfile import is_zipfile

from sqlalchemy import Engine

from cli import render, show, times, words
from cli.bundle_readme import readme
from cli.context import EXIT_BAD_NEWS, EXIT_DONE, Failure, Misuse
from cli.proof import of_file
from cli.render import counted
from store import bundle, contents, inspection, log, signing
from store.bundle import Bundle
from store.codec import decode
from store.database import reading
from store.errors import Damaged
from store.events import MessageEvent
from store.inspection import Inspected
from store.life import fold
from store.seal import Seal

ZIP_BEGINS = b"PK\x03\x04"


def exported(engine: Engine, beginning: str, out: Path | None, seal: Path | None) -> int:
    """Write the bundle of a message; returns the exit code. Raises Failure."""
    wanted = None if seal is None else of_file(seal)
    program = f"mailgate {version('mailgate')}"
    with reading(engine) as connection:
        stream = words.message_id(connection, beginning)
        made = bundle.gather(connection, stream, times.now(), program, wanted)
        message = log.message(connection, stream)
        assert message is not None  # its id was just read in the same transaction
        octets = contents.get(connection, message)
    file = out or Path(f"{stream}.zip")
    text = readme(stream, times.stamp(made.exported_at), program)
    try:
        bundle.write(made, file, text, page(made), octets)
    except FileExistsError:
        raise Failure(f"{file} exists already: name another file with --out") from None
    except OSError as error:
        raise Failure(f"{file}: {error.strerror}") from error
    seen = inspection.inspect(file)
    for finding in seen.findings:
        render.line(finding)
    render.line(f"{file}: {counted(len(made.facts), 'event')}{_coverage(made, octets)}")
    return EXIT_BAD_NEWS if seen.findings else EXIT_DONE


def checked(
    file: Path, seals: Sequence[Path], public_key: Path | None, *, as_page: bool, as_json: bool
) -> int:
    """Say whether a bundle or a seal is true; returns the exit code. Raises Failure."""
    if as_page and as_json:
        raise Misuse("--page and --json don't go together")
    key = None if public_key is None else signing.public_key(public_key)
    kept = [of_file(one) for one in seals]
    if not (is_zipfile(file) or _begins_as_zip(file)):
        if as_page:
            raise Misuse("--page is for a bundle")
        return _say(file, *_seal(of_file(file), kept, key), as_json=as_json)
    if len(kept) > 1:
        raise Misuse("a bundle is under one seal: give --seal once")
    seen = inspection.inspect(file, kept[0] if kept else None, key)
    if as_page and seen.bundle is not None and not seen.findings:
        seen = _told(seen, seen.bundle)
    return _say(file, _true(seen), seen.findings, seen.notes, as_json=as_json)


def _begins_as_zip(file: Path) -> bool:
    """Whether it is a bundle of which the end is missing."""
    try:
        with file.open("rb") as stream:
            return stream.read(len(ZIP_BEGINS)) == ZIP_BEGINS
    except OSError:  # said by who reads it
        return False


def page(made: Bundle) -> str:
    """Return the page of `show` about the message, as it stood when it was exported, made from its events."""
    entries = [
        show.Entry(cast(Any, None), decode(f.name, f.version, f.data, f.personal), f.at) for f in made.facts
    ]
    story = [(cast(MessageEvent, entry.event), entry.at) for entry in entries]
    message = fold(made.message, story)
    assert message is not None  # it has events
    with redirect_stdout(StringIO()) as text:
        show.page(message, entries, made.exported_at, past=True)
    return text.getvalue()


def _told(seen: Inspected, made: Bundle) -> Inspected:
    """Print the page; what is found where the events can be no message's life."""
    try:
        lines = page(made).splitlines()
    except Damaged as error:
        return replace(seen, findings=(str(error),))
    for line in lines:
        render.line(line)
    return seen


def _coverage(made: Bundle, octets: bytes | None) -> str:
    mail = "" if octets is None else f", {times.size(len(octets))} of mail"
    if made.seal is None:
        return f"{mail}; no seal covers them: 'mailgate audit seal' makes one"
    return f"{mail}; {len(made.inclusion)} under the seal at position {made.seal.position}"


def _true(seen: Inspected) -> str:
    if seen.bundle is None:
        return ""
    whole = f"message {seen.bundle.message}: {counted(len(seen.bundle.facts), 'event')}, the chain holds"
    under = seen.bundle.seal
    if under is None:
        return whole
    return f"{whole}; {len(seen.bundle.inclusion)} under the seal of {times.stamp(under.at)}, root {under.root.hex()}"


def _seal(seal: Seal, kept: Iterable[Seal], key: bytes | None) -> tuple[str, list[str], list[str]]:
    """Return what a seal says, and what is wrong with it and with what leads to it from those that were kept."""
    wrong = [f"the seal {what}"] if (what := signing.trouble(seal, key)) is not None else []
    chain = sorted([*kept, seal], key=lambda one: one.position)
    if chain[-1].position > seal.position:
        wrong.append(f"one of those that were kept is later, at position {chain[-1].position}")
    for old, new in itertools.pairwise(chain):
        wrong += _step(old, new)
    notes = (
        [] if len(chain) > 1 else ["give the seal before it with --seal, to see that it goes on from there"]
    )
    said = f"seal over {counted(seal.position, 'event')} of {times.stamp(seal.at)}, root {seal.root.hex()}"
    return said, wrong, notes


def _step(old: Seal, new: Seal) -> list[str]:
    before = new.extends
    if old.position == new.position:
        same = old.root == new.root
        return (
            []
            if same
            else [f"two seals over {old.position} events differ: the past was rewritten in between"]
        )
    if before is None or before.position != old.position:
        return [
            f"the seal at {new.position} does not say how it goes on from {old.position}: give those between"
        ]
    if before.root != old.root:
        return [
            f"the seal at {new.position} goes on from another past than the seal that was kept at {old.position}"
        ]
    return [] if new.continues() else [f"the seal at {new.position} does not go on from {old.position}"]


def _say(file: Path, true: str, findings: Sequence[str], notes: Sequence[str], *, as_json: bool) -> int:
    if as_json:
        render.json_line(
            {"file": str(file), "true": not findings, "what": true, "findings": findings, "notes": notes}
        )
    else:
        for finding in findings:
            render.line((f"{file}: ", "bold red"), finding)
        if not findings:
            render.line(f"{file}: {true}")
            for note in notes:
                render.line(f"but: {note}")
    return EXIT_BAD_NEWS if findings else EXIT_DONE
