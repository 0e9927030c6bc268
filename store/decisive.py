"""The decisive facts of events: those on which it depends which state a message and its recipients have.

Millions of messages have a life in the same few ways: the same events with the same decisive facts, however much their sizes,
replies and times differ. Who wants to know only how lives end reads these facts alone, many times faster than events.

A fact counts as decisive unless it is named here: to forget one costs time, never truth. Personal facts never are.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from datetime import datetime
from functools import cache
from typing import Any, get_args

import msgspec
from msgspec import structs

from store.codec import CLASSES, decode
from store.errors import Damaged
from store.events import personal_facts

# Facts without a say in any state; most differ from message to message.
SILENT = frozenset(
    {
        "about",
        "address",
        "bare_newlines",
        "bound_for",
        "code",
        "concerns",
        "confirmed_by",
        "content",
        "duration_ms",
        "engine",
        "limit_from",
        "limit_octets",
        "listed_octets",
        "mailbox",
        "next_hop",
        "policy",
        "pushed",
        "replay",
        "revisions",
        "rule",
        "score",
        "signature",
        "size_octets",
        "symbols",
        "threshold",
        "tls",
        "tried",
        "uidl",
    }
)
# Of these it counts only whether there is one; so it is with times.
PRESENT = frozenset({"report"})

Read = Callable[[bytes], Hashable]


def read(name: str, version: int, data: bytes) -> Hashable:
    """Return the decisive facts of an event: equal ones mean the same to every state.

    Raises UnknownEvent for an event newer than this program, Damaged where these facts can't be read.
    """
    kind = CLASSES.get(name)
    if kind is None or version != kind.VERSION:
        return decode(name, version, data, None)  # all that it says
    try:
        return _reader(name)(data)
    except (msgspec.MsgspecError, TypeError) as error:  # TypeError: SQLite takes any value for octets
        raise Damaged(f"event {name!r} version {version} can't be read: {error}") from error


@cache
def _reader(name: str) -> Read:
    kind = CLASSES[name]
    fields = [f for f in structs.fields(kind) if f.name not in SILENT | personal_facts(kind)]
    short = msgspec.defstruct(
        f"Decisive{kind.__name__}", [_field(f) for f in fields], frozen=True, kw_only=True
    )
    take = msgspec.json.Decoder(short).decode
    noted = tuple(f.name for f in fields if _is_noted(f))
    if not noted:
        return take

    def present(data: bytes) -> Hashable:
        found = take(data)
        there = {name: True for name in noted if getattr(found, name) is not None}
        return structs.replace(found, **there) if there else found

    return present


def _field(field: structs.FieldInfo) -> Any:
    """Return the field of a short Struct; its name there is the one in the octets."""
    type_ = Any if _is_noted(field) else field.type
    if field.default is not msgspec.NODEFAULT:
        return field.encode_name, type_, field.default
    if field.default_factory is not msgspec.NODEFAULT:
        return field.encode_name, type_, msgspec.field(default_factory=field.default_factory)
    return field.encode_name, type_


def _is_noted(field: structs.FieldInfo) -> bool:
    return field.name in PRESENT or field.type is datetime or datetime in get_args(field.type)
