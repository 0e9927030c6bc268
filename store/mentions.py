"""Where in the log a person is named: each event whose facts hold an address, and which facts these are.

Reads the whole log once, in order of positions and in constant memory: an address may stand in a reply, or in what somebody
wrote, of which there is no index. Octets are not looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Connection

from store import pages

PAGE = 500  # events found

# What may stand in a local part or a domain beside an address, so that it is another one.
_BEFORE = r"[^\s<>()\[\],;:\"'@]"
_BEHIND = r"(?:[\w-]|\.\w)"


@dataclass(frozen=True, slots=True)
class Mention:
    """An event that names an address: in these personal facts, and in these others, which are never erased."""

    position: int
    stream: str
    event: str
    personal: tuple[str, ...]
    others: tuple[str, ...]


def mentions(connection: Connection, address: str) -> Iterator[Mention]:
    """Yield the events that name an address, whatever its case, in the order of the log."""
    named = re.compile(rf"(?<!{_BEFORE}){re.escape(address)}(?!{_BEHIND})", re.IGNORECASE)
    like = _like(address)
    sql, after = _FOUND[connection.dialect.name], 0
    while rows := pages.query(connection, sql, (after, like, like, PAGE)):
        for position, stream, event, data, personal in rows:
            found = Mention(position, stream, event, _naming(personal, named), _naming(data, named))
            if found.personal or found.others:
                yield found
        after = rows[-1][0]


def _like(address: str) -> str:
    """Return a pattern of the texts that hold an address as it is stored."""
    stored = orjson.dumps(address).decode()[1:-1]
    return "%" + re.sub(r"([!%_])", r"!\1", stored) + "%"


_FOUND = {
    # SQLite compares the case of ASCII only; so does nearly every server beyond it.
    "sqlite": "SELECT position, stream, name, data, personal FROM events WHERE position > {0} AND"
    " (CAST(personal AS TEXT) LIKE {0} ESCAPE '!' OR CAST(data AS TEXT) LIKE {0} ESCAPE '!')"
    " ORDER BY position LIMIT {0}",
    "postgresql": "SELECT position, stream, name, data, personal FROM events WHERE position > {0} AND"
    " (convert_from(personal, 'UTF8') ILIKE {0} ESCAPE '!' OR convert_from(data, 'UTF8') ILIKE {0} ESCAPE '!')"
    " ORDER BY position LIMIT {0}",
}


def _naming(stored: bytes | None, named: re.Pattern[str]) -> tuple[str, ...]:
    """Return the names of the facts that hold it."""
    if stored is None:
        return ()
    facts: dict[str, Any] = orjson.loads(stored)
    return tuple(name for name, value in facts.items() if any(map(named.search, _texts(value))))


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case list():
            for one in value:
                yield from _texts(one)
        case dict():
            for one in value.values():
                yield from _texts(one)
        case _:
            pass
