"""An event in its place in the log: as a row, and back. Pure but for what it is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import NoneType
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Row

from store.chain import digest, link, new_salt
from store.codec import decode_at, encode
from store.errors import Damaged
from store.events import Event
from store.schema import from_microseconds, microseconds


class Recorded(NamedTuple):
    """An event in its place in the log."""

    position: int
    stream: str
    revision: int
    event: Event
    at: datetime
    hash: bytes
    data: bytes
    personal: bytes | None


def event_row(
    stream: str, at: datetime, event: Event, position: int, revision: int, previous: bytes
) -> dict[str, Any]:
    """Return the row of an event; `previous` is the hash of the one before it."""
    data, personal = encode(event)
    salt = mark = None
    if personal is not None:
        salt = new_salt()
        mark = digest(salt, personal)
    when = microseconds(at)
    return {
        "position": position,
        "stream": stream,
        "revision": revision,
        "name": event.NAME,
        "version": event.VERSION,
        "at": when,
        "data": data,
        "personal": personal,
        "salt": salt,
        "digest": mark,
        "hash": link(previous, stream, revision, event.NAME, event.VERSION, when, data, mark),
    }


def as_stored(row: Row[Any]) -> dict[str, Any]:
    """Return a stored event as JSON has it; its facts are the very octets that the hash covers. Raises Damaged."""
    require_kinds(row._asdict())
    return {
        "position": row.position,
        "revision": row.revision,
        "name": row.name,
        "version": row.version,
        "at": time_of(row.at),
        "data": orjson.Fragment(row.data),
        "personal": None if row.personal is None else orjson.Fragment(row.personal),
        "hash": row.hash.hex(),
    }


def listed(row: Row[Any]) -> dict[str, Any]:
    """Return a stored event as JSON has it where the events of several streams are listed."""
    return {"stream": row.stream} | as_stored(row)


def recorded(row: Sequence[Any]) -> Recorded:
    """Return what a row says: position, stream, revision, name, version, at, data, personal, hash.

    Raises UnknownEvent for an event newer than this program, Damaged for what is no event.
    """
    position, stream, revision, name, version, at, data, personal, mark = row
    event = decode_at(position, name, version, data, personal)
    return Recorded(position, stream, revision, event, time_of(at), mark, data, personal)


def time_of(at: int) -> datetime:
    """Return a stored time, in UTC. Raises Damaged for what is none."""
    try:
        return from_microseconds(at)
    except (TypeError, OverflowError) as error:
        raise Damaged(f"an event on record has no time but {at!r}; {VERIFY}") from error


def require_kinds(row: Mapping[str, Any]) -> None:
    """Raise Damaged where a value of a stored event is of another kind than what was written: SQLite takes any."""
    for name, kinds in _KINDS.items():
        if name in row and type(row[name]) not in kinds:
            raise Damaged(f"position {row['position']}: its {name} is not what was written; {VERIFY}")


VERIFY = "'mailgate audit verify' names all that isn't as it was"
_KINDS = {
    **dict.fromkeys(("stream", "name"), (str,)),
    **dict.fromkeys(("position", "revision", "version", "at"), (int,)),
    **dict.fromkeys(("data", "hash"), (bytes,)),
    **dict.fromkeys(("personal", "salt", "digest"), (bytes, NoneType)),
}
