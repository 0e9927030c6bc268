"""Event to octets and back.

An event becomes two JSON objects: its facts and its personal facts. They are stored and hashed as these octets. Reading an
old version runs its upcasters first, one pure step per version; an event newer than this program is an error that
names it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import cache
from typing import Any, NamedTuple, get_args

import msgspec
import orjson

from store.errors import Damaged, UnknownEvent
from store.events import PERSONAL, Event

Json = dict[str, Any]

CLASSES: Mapping[str, type[Event]] = {kind.NAME: kind for kind in get_args(Event)}

# (name, version) -> what makes the next version's object of this one's. A released entry is never edited.
UPCASTERS: Mapping[tuple[str, int], Callable[[Json], Json]] = {}


class Encoded(NamedTuple):
    """An event as it is stored. `personal` is None for an event that has no personal facts."""

    data: bytes
    personal: bytes | None


def encode(event: Event) -> Encoded:
    """Return the octets of an event; facts that are at their default are left out."""
    facts, private = _layout(event.NAME)
    data = orjson.dumps(_object(event, facts), option=orjson.OPT_UTC_Z)
    if not private:
        return Encoded(data, None)
    return Encoded(data, orjson.dumps(_object(event, private), option=orjson.OPT_UTC_Z))


def decode(name: str, version: int, data: bytes, personal: bytes | None) -> Event:
    """Return the event that these octets mean; erased personal facts are at their defaults.

    Raises UnknownEvent for a name or version this program does not know, Damaged for octets that are no such event.
    """
    kind = CLASSES.get(name)
    if kind is None or version > kind.VERSION:
        raise UnknownEvent(name, version)
    try:
        found = orjson.loads(data)
        if personal is not None:
            found |= orjson.loads(personal)
        for old in range(version, kind.VERSION):
            found = UPCASTERS[name, old](found)
        if "from" in found:
            found["from_"] = found.pop("from")
        return msgspec.convert(found, kind)
    except (ValueError, TypeError, msgspec.ValidationError) as error:  # JSONDecodeError is a ValueError
        raise Damaged(f"event {name!r} version {version} can't be read: {error}") from error


@cache
def _layout(name: str) -> tuple[tuple[tuple[str, str, Any], ...], tuple[tuple[str, str, Any], ...]]:
    """Return (attribute, JSON name, default) of the facts and of the personal facts."""
    rows = [(f.name, f.name.rstrip("_"), f.default, PERSONAL in f.metadata) for f in fields(CLASSES[name])]
    return (
        tuple(row[:3] for row in rows if not row[3]),
        tuple(row[:3] for row in rows if row[3]),
    )


def _object(event: Event, layout: tuple[tuple[str, str, Any], ...]) -> Json:
    found = ((name, getattr(event, attribute), default) for attribute, name, default in layout)
    return {name: value for name, value, default in found if value is not default and value != default}
