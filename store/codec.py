"""Event to octets and back.

An event becomes two JSON objects: its facts and its personal facts. They are stored and hashed as these octets. Reading an
old version runs its upcasters first, one pure step per version; an event newer than this program is an error that
names it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from operator import attrgetter
from typing import Any, NamedTuple, get_args

import msgspec
import orjson
from msgspec import structs

from store.errors import Damaged, UnknownEvent
from store.events import Event, personal_facts

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
    facts, private = _layout(type(event))
    return Encoded(facts(event), None if private is None else private(event))


def decode(name: str, version: int, data: bytes, personal: bytes | None) -> Event:
    """Return the event that these octets mean; erased personal facts are at their defaults.

    Raises UnknownEvent for a name or version this program does not know, Damaged for octets that are no such event.
    """
    try:
        reader = _reader(name, version)
        if reader is not None:
            return reader(_joined(data, personal))
        found = orjson.loads(data)
        if personal is not None:
            found |= orjson.loads(personal)
        kind = CLASSES[name]
        for old in range(version, kind.VERSION):
            found = UPCASTERS[name, old](found)
        return msgspec.convert(found, kind)
    except _NOT_AS_WRITTEN as error:
        raise Damaged(f"event {name!r} version {version} can't be read: {error}") from error


def decode_at(position: int, name: str, version: int, data: bytes, personal: bytes | None) -> Event:
    """Return the event at a position of the log, as `decode` does; Damaged says where it is, and what tells more."""
    try:
        return decode(name, version, data, personal)
    except Damaged as error:
        raise Damaged(
            f"position {position}: {error}; 'mailgate audit verify' names all that is damaged"
        ) from error


# JSONDecodeError is a ValueError; the others come of values of another kind than was written, and of a version below the first.
_NOT_AS_WRITTEN = (ValueError, TypeError, AttributeError, KeyError, msgspec.MsgspecError)


def _unknown(name: object, version: object) -> Damaged | UnknownEvent:
    if isinstance(name, str) and isinstance(version, int):
        return UnknownEvent(name, version)
    return Damaged(f"event {name!r} version {version!r} can't be read: it has no name or no version")


@cache
def _reader(name: str, version: int) -> Callable[[bytes], Event] | None:
    """Return what reads an event of this version; None for an old one, which has to be brought up first."""
    kind = CLASSES.get(name)
    if kind is None or version > kind.VERSION:
        raise _unknown(name, version)
    return msgspec.json.Decoder(kind).decode if version == kind.VERSION else None


def _joined(data: bytes, personal: bytes | None) -> bytes:
    """Return two JSON objects as one: read in one go, they take a third of the time."""
    if personal is None or personal == b"{}":
        return data
    if not (data.endswith(b"}") and personal.startswith(b"{")):
        return b""  # they are none, and so is this
    return personal if data == b"{}" else data[:-1] + b"," + personal[1:]


def _plain(value: Any) -> Any:
    """Return what a configured value, such as an Address or a Size, is to everybody else."""
    for kind in (str, int):
        if isinstance(value, kind):
            return kind(value)
    raise NotImplementedError(f"no fact is a {type(value).__name__}")


_ENCODER = msgspec.json.Encoder(enc_hook=_plain)
_Part = Callable[[Event], bytes]
_GIVEN = object()  # as a default: what a fact that has none is never the same as


@cache
def _layout(kind: type[Event]) -> tuple[_Part, _Part | None]:
    """Return what takes the facts out of an event of this kind, and what takes the personal ones, if it has any."""
    private = personal_facts(kind)
    fields = structs.fields(kind)
    taken = _part([f for f in fields if f.name in private]) if private else None
    return _part([f for f in fields if f.name not in private]), taken


def _part(fields: list[structs.FieldInfo]) -> _Part:
    """Return what makes octets of these facts: a Struct that has them alone leaves out its defaults by itself, and fast."""
    defaults = (_GIVEN if f.default is msgspec.NODEFAULT else f.default for f in fields)
    shape = [(f.encode_name, Any, default) for f, default in zip(fields, defaults, strict=True)]
    some = msgspec.defstruct("Part", shape, omit_defaults=True, gc=False)
    take = attrgetter("__class__", *(f.name for f in fields))  # of one name alone it would not be a tuple

    def part(event: Event) -> bytes:
        return _ENCODER.encode(some(*take(event)[1:]))

    return part
