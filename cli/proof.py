"""Verifying and sealing, for a person: what is looked at, and how the answer reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from cli import render, times
from cli.context import EXIT_BAD_NEWS, EXIT_DONE, Failure
from cli.progress import progress
from cli.render import counted
from store import guards, log, seals, signing, verify
from store.database import reading, writing
from store.seal import NoSeal, Seal
from store.seal import read as read_seal
from store.sealed import signatures
from store.verified import Count, Finding, Sealed

SHOWN = 20  # findings on the screen; --json prints all
TRIES = 3  # to seal while others do


def verified(
    engine: Engine, files: Iterable[Path], public_key: Path | None, *, contents: bool, as_json: bool
) -> int:
    """Verify the store and say what is wrong; returns the exit code."""
    key = None if public_key is None else signing.public_key(public_key)
    others = [Sealed(str(file), of_file(file), kept_elsewhere=True) for file in files]
    count = Count()
    found = _findings(engine, count, others, key, contents=contents, bars=not as_json)
    given = {one.name for one in others}
    bad = tell(found, as_json=as_json, first=lambda finding: finding.seal in given)
    if as_json:
        render.json_line(asdict(count))
    elif not bad:
        _praise(count, contents=contents)
    return EXIT_BAD_NEWS if bad else EXIT_DONE


def sealed(engine: Engine, out: Path | None, key: Path | None, *, as_json: bool) -> int:
    """Seal the log as it is now, put it on record, print it and write it to a file; returns the exit code."""
    if out is not None and out.exists():
        raise Failure(f"{out} exists already: name another file")
    made = _made(engine, key)
    if out is not None:
        _write(out, made.file())
    if as_json:
        render.json_line(made.as_json())
        return EXIT_DONE
    render.line((f"{made.root.hex()}", "bold"))
    signed = f", signed with {signing.fingerprint(made.public_key)}" if made.public_key else ""
    render.line(f"stands for {counted(made.position, 'event')}, sealed {times.stamp(made.at)}{signed}")
    where = f"{out}: keep it" if out is not None else "keep that line, or with --out FILE a file,"
    render.line(f"{where} where nobody can change it who can change the store")
    return EXIT_DONE


def of_file(file: Path) -> Seal:
    """Return the seal in a file. Raises Failure."""
    try:
        return read_seal(file.read_bytes())
    except NoSeal as error:
        raise Failure(f"{file}: {error}") from error
    except OSError as error:
        raise Failure(f"{file}: {error.strerror}") from error


def tell(
    findings: Iterable[Any], *, as_json: bool, first: Callable[[Any], bool] = lambda finding: False
) -> int:
    """Print what was found, on the screen not more than a person reads; returns how much it is.

    For a person at the end, when no bar is in the way, and in front what must be `first`: that is never left out. For programs as
    it comes, in constant memory.
    """
    found, foremost, others = 0, list[str](), list[str]()
    for finding in findings:
        found += 1
        if as_json:
            render.json_line(asdict(finding))
        elif first(finding):
            foremost.append(str(finding))
        elif len(others) < SHOWN:
            others.append(str(finding))
    shown = [*foremost, *others]
    for line in shown:
        render.line(line)
    if not as_json and found > len(shown):
        render.line(f"… and {found - len(shown):,} more: --json prints all")
    return found


def _findings(
    engine: Engine, count: Count, others: list[Sealed], key: bytes | None, *, contents: bool, bars: bool
) -> Iterator[Finding]:
    with progress(wanted=bars) as show, reading(engine) as connection:
        every, damaged = seals.readable(connection)
        # Behind one that can't be read nobody knows which blocks became whole: the roots of those are compared alone.
        entries = [entry for entry in every if entry.number < min(damaged, default=entry.number + 1)]
        on_record = [Sealed(f"seal {entry.number}", entry.seal) for entry in every]
        last = log.last_position(connection)
        yield from guards.check(connection, count)
        for number, error in damaged.items():
            count.findings += 1
            yield Finding(str(error), seal=f"seal {number}")
        by_root = [*others, *on_record[len(entries) :]]
        yield from verify.log(connection, last, count, entries=entries, others=by_root, progress=show)
        yield from signatures(others, on_record, count, key)
        if contents:
            yield from verify.contents(connection, count, show)


def _praise(count: Count, *, contents: bool) -> None:
    erased = f", {count.erased:,} of them without their personal facts" if count.erased else ""
    render.line(
        f"{counted(count.events, 'event')} in {counted(count.streams, 'stream')}{erased}:"
        " every chain holds, no position is missing"
    )
    if contents:
        render.line(f"the octets of {counted(count.contents, 'message')} are those that arrived")
    if not count.seals:
        render.line(
            "no seal covers them: a tail that was cut off would not show; 'mailgate audit seal' makes one"
        )
        return
    behind = count.events - count.sealed_until
    rest = f"; {counted(behind, 'event')} came since" if behind else ""
    hold = "holds" if count.seals == 1 else "hold"
    render.line(f"{counted(count.seals, 'seal')} {hold}, the last up to position {count.sealed_until}{rest}")
    if count.unsigned:
        render.line(f"but: that key did not sign {counted(count.unsigned, 'seal')} on record")


def _made(engine: Engine, key: Path | None) -> Seal:
    for _ in range(TRIES):
        with progress() as show, reading(engine) as connection:
            made = seals.make(
                connection, times.now(), lambda seal: seal if key is None else signing.sign(seal, key), show
            )
        if made is None:
            raise Failure("there is nothing to seal yet: the log is empty")
        with writing(engine) as connection:
            if seals.put(connection, made):
                return made.seal
    raise Failure("others are sealing at the same time: try again")


def _write(file: Path, octets: bytes) -> None:
    try:
        with file.open("xb") as stream:
            stream.write(octets)
    except OSError as error:
        raise Failure(f"{file}: {error.strerror}; the seal is on record all the same") from error
