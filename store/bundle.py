"""All that the store knows of one message, in one file (a zip), for somebody who has no store: facts, octets, proof.

Owns what the file holds and how it is written and read. Whether it is true is looked into in `inspection`. What counts
as fact in it is the events, as they are stored; the page in words and the octets hang on their hashes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import orjson
from msgspec import Struct, json, structs
from sqlalchemy import Connection

from store import pages, seal, seals
from store.errors import Damaged, ProofError
from store.recorded import require_kinds, time_of
from store.schema import microseconds
from store.seal import NoSeal, Seal
from store.seals import Entry

FORMAT = "mailgate bundle 1"
README, EVENTS, PROOF, SUMMARY, OCTETS, SUMS = (
    "README.txt",
    "events.json",
    "proof.json",
    "summary.txt",
    "message.eml",
    "SHA256SUMS",
)
MODE = 0o600  # it holds somebody's mail
JSON_OCTETS_LIMIT = 64 << 20  # of what is read from a stranger's file at once


class NoBundle(ProofError):
    """The file is no bundle; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """An event as it is stored."""

    position: int
    stream: str
    revision: int
    name: str
    version: int
    at: datetime
    data: bytes
    personal: bytes | None
    salt: bytes | None
    digest: bytes | None
    hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A message's events, the seal that covers them, and for each event under it what shows that it is."""

    message: str
    exported_at: datetime
    program: str  # and its version
    facts: tuple[Fact, ...]
    seal: Seal | None
    inclusion: Mapping[int, tuple[bytes, ...]]  # by position


def gather(
    connection: Connection, stream: str, at: datetime, program: str, wanted: Seal | None = None
) -> Bundle:
    """Return what is on record of a message, with proofs for the seal that is wanted, or for the one that says most.

    Raises ProofError where that one is not on record, Damaged where an event is none.
    """
    facts = tuple(_stored(row) for row in pages.query(connection, _FACTS, (stream,)))
    entries = seals.every(connection)
    if wanted is not None and not any(entry.seal == wanted.alone for entry in entries):
        raise ProofError("the seal that was named is not on record in this store")
    last = facts[-1].position if facts else 0
    covering = wanted.alone if wanted is not None else _saying_most(entries, last)
    covered = [fact.position for fact in facts if covering and fact.position <= covering.position]
    inclusion: dict[int, tuple[bytes, ...]] = {}
    if covering is not None and covered:
        prover = seals.prover(connection, entries, covering)
        inclusion = {position: prover.inclusion(position) for position in covered}
    return Bundle(
        message=stream,
        exported_at=at,
        program=program,
        facts=facts,
        seal=covering if inclusion else None,
        inclusion=inclusion,
    )


_FIELDS = tuple(Fact.__annotations__)
_FACTS = f"SELECT {', '.join(_FIELDS)} FROM events WHERE stream = {{0}} ORDER BY revision"  # noqa: S608  # our names


def _saying_most(entries: Sequence[Entry], last: int) -> Seal | None:
    """Return the last seal that is signed and covers the event at a position; the last of all where there is none."""
    every = [entry.seal for entry in entries]
    signed = [one for one in every if one.signature is not None and one.position >= last]
    found = signed or every
    return found[-1] if found else None


def _stored(row: pages.Row) -> Fact:
    held = dict(zip(_FIELDS, row, strict=True))
    require_kinds(held)
    return Fact(**held | {"at": time_of(held["at"])})


def write(bundle: Bundle, file: Path, readme: str, summary: str, octets: bytes | None) -> None:
    """Write a bundle to a file of its owner's alone. Raises OSError, also where the file exists."""
    members = {README: readme.encode(), EVENTS: _events(bundle), SUMMARY: summary.encode()}
    if bundle.seal is not None:
        members[PROOF] = _proof(bundle.seal, bundle.inclusion)
    if octets is not None:
        members[OCTETS] = octets
    members[SUMS] = sums({name: sha256(held).hexdigest() for name, held in members.items()})
    number = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE)
    try:
        with open(number, "wb") as stream, ZipFile(stream, "w", ZIP_DEFLATED) as archive:
            for name, held in members.items():
                archive.writestr(_member(name, bundle.exported_at), held)
    except BaseException:
        file.unlink(missing_ok=True)
        raise


def sums(digests: Mapping[str, str]) -> bytes:
    """Return what `sha256sum -c` reads."""
    return "".join(f"{digest}  {name}\n" for name, digest in digests.items()).encode()


# Read by their types, for a stranger's file may hold anything, and of some things very many in few octets.
class _EventInFile(Struct):
    position: int
    stream: str
    revision: int
    name: str
    version: int
    at: str
    data: str
    personal: str | None
    salt: str | None
    digest: str | None
    hash: str


class _EventsFile(Struct):
    format: str
    message: str
    exported_at: str
    program: str
    events: list[_EventInFile]


class _Inclusion(Struct):
    position: int
    path: list[str]


class _ProofFile(Struct):
    seal: dict[str, Any]
    inclusion: list[_Inclusion]


def read(archive: ZipFile) -> Bundle:
    """Return the bundle in an archive whose members can be read. Raises NoBundle."""
    try:
        found = json.decode(member(archive, EVENTS), type=_EventsFile)
        proof = json.decode(member(archive, PROOF), type=_ProofFile) if PROOF in archive.namelist() else None
        if found.format != FORMAT:
            raise NoBundle(f"its format is not {FORMAT!r}")
        return Bundle(
            message=found.message,
            exported_at=_time(found.exported_at),
            program=found.program,
            facts=tuple(_fact(structs.asdict(one)) for one in found.events),
            seal=seal.of_json(proof.seal) if proof else None,
            inclusion={one.position: _path(one.path) for one in proof.inclusion} if proof else {},
        )
    except NoSeal as error:
        raise NoBundle(f"{PROOF}: {error}") from error
    except (
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        OverflowError,
        RecursionError,  # of brackets in brackets in brackets
        Damaged,
    ) as error:
        raise NoBundle(f"it can't be read: {error!r}") from error


def member(archive: ZipFile, name: str) -> bytes:
    """Return a member that is not the message. Raises NoBundle."""
    try:
        size = archive.getinfo(name).file_size
    except KeyError as error:
        raise NoBundle(f"{name} is missing") from error
    if size > JSON_OCTETS_LIMIT:
        raise NoBundle(f"{name} is too large: {size:,} octets")
    return archive.read(name)


def _events(bundle: Bundle) -> bytes:
    return _dumped(
        {
            "format": FORMAT,
            "message": bundle.message,
            "exported_at": bundle.exported_at,
            "program": bundle.program,
            "events": [_as_json(fact) for fact in bundle.facts],
        }
    )


def _proof(covering: Seal, inclusion: Mapping[int, Sequence[bytes]]) -> bytes:
    paths = [{"position": at, "path": [one.hex() for one in path]} for at, path in inclusion.items()]
    return _dumped({"seal": covering.as_json(), "inclusion": paths})


def _as_json(fact: Fact) -> dict[str, Any]:
    """Return an event; facts as the very text that is hashed, octets in hex."""
    held = {name: getattr(fact, name) for name in _FIELDS}
    for name in ("data", "personal"):
        held[name] = None if held[name] is None else held[name].decode()
    for name in ("salt", "digest", "hash"):
        held[name] = None if held[name] is None else held[name].hex()
    return held


def _fact(found: dict[str, Any]) -> Fact:
    held = {name: found[name] for name in _FIELDS}
    for name in ("data", "personal"):
        held[name] = None if held[name] is None else held[name].encode()
    for name in ("salt", "digest", "hash"):
        held[name] = None if held[name] is None else bytes.fromhex(held[name])
    at = _time(found["at"])
    require_kinds(held | {"at": microseconds(at)})
    return Fact(**held | {"at": at})


def _time(text: str) -> datetime:
    """Return a time in UTC. Raises ValueError or OverflowError for one that is none."""
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(f"{text} has no zone")
    return at.astimezone(UTC)


def _path(found: list[str]) -> tuple[bytes, ...]:
    return tuple(bytes.fromhex(one) for one in found)


def _dumped(value: dict[str, Any]) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE)


def _member(name: str, at: datetime) -> ZipInfo:
    info = ZipInfo(name, (at.year, at.month, at.day, at.hour, at.minute, at.second))
    info.compress_type, info.external_attr = ZIP_DEFLATED, MODE << 16
    return info
