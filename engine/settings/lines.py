"""On which line of a TOML text a key stands, as well as that can be told without a parser of our own.

Knows table headers, arrays of tables and `key = value` lines; a key inside an inline table or a list is found
at the line its outermost key stands on. A text that only looks like a header (inside a multi-line string) may
mislead it, which costs an error message its exact line and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

Place = tuple[str | int, ...]
"""Keys from the root, with the index (from 0) behind the name of a list."""

_PART = r"(?:[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*')"
_DOTTED = rf"{_PART}(?:\s*\.\s*{_PART})*"
_HEADER = re.compile(rf"\s*(\[\[?)\s*({_DOTTED})\s*\]\]?\s*(?:#.*)?")
_KEY = re.compile(rf"\s*({_DOTTED})\s*=")


def line_of(source: str, place: Place) -> int | None:
    """The line (from 1) of `place`, else of the nearest thing that holds it, else None."""
    lines: dict[Place, int] = {}
    for number, found in _places(source):
        for depth in range(1, len(found) + 1):
            lines.setdefault(found[:depth], number)
    return next((lines[place[:n]] for n in range(len(place), 0, -1) if place[:n] in lines), None)


def _places(source: str) -> Iterator[tuple[int, Place]]:
    table: Place = ()
    counts: dict[Place, int] = {}
    for number, line in enumerate(source.split("\n"), start=1):
        if header := _HEADER.fullmatch(line.rstrip("\r")):
            table = _opened(header[1] == "[[", _parts(header[2]), counts)
            yield number, table
        elif key := _KEY.match(line):
            yield number, table + _parts(key[1])


def defined(line: str) -> tuple[str, tuple[str, ...]]:
    """What a line defines: "[" and a table, "[[" and one of several, "" and a key; nothing at all is "" and ()."""
    if header := _HEADER.match(line):
        return header[1], _parts(header[2])
    key = _KEY.match(line)
    return "", _parts(key[1]) if key else ()


def _opened(is_array: bool, parts: tuple[str, ...], counts: dict[Place, int]) -> Place:
    """The place of a table header, where `[a.b]` after `[[a]]` belongs to the last of `a`."""
    table: Place = ()
    for part in parts[:-1]:
        table += (part,)
        if table in counts:
            table += (counts[table] - 1,)
    table += (parts[-1],)
    if not is_array:
        return table
    counts[table] = counts.get(table, 0) + 1
    return (*table, counts[table] - 1)


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in re.findall(_PART, dotted))
