"""What is written in a configuration file, read as one of the `tables`.

Turns what msgspec says into words an administrator can act on. Never puts a value of the file in an error but where
it can't be a secret.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import msgspec

from engine.settings.lines import Place
from engine.settings.tables import SecretWritten, Table
from engine.settings.values import (
    Address,
    AddressPattern,
    Domain,
    Duration,
    FieldName,
    FilePath,
    Fingerprint,
    FreeSpace,
    Host,
    Name,
    Pattern,
    Size,
    shown,
)

_T = TypeVar("_T")


class Fault(Exception):
    """What is wrong, and at which key. The file and the line are added by who knows them."""

    def __init__(self, place: Place, text: str) -> None:
        super().__init__(text)
        self.place = place


def meant(place: Place, parse: Callable[[], _T]) -> _T:
    """What `parse` makes of a value, its ValueError put at `place`."""
    try:
        return parse()
    except ValueError as trouble:
        raise Fault(place, str(trouble)) from None


_CLOCK = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")


def time_of_day(place: Place, written: str) -> int:
    """`written` as seconds after midnight. Raises Fault."""
    found = _CLOCK.fullmatch(written)
    if found is None:
        raise Fault(place, f'expected a time of day in UTC such as "06:30", found {shown(written)}')
    return int(found[1]) * 3600 + int(found[2]) * 60


def patterns(place: Place, written: tuple[str, ...]) -> tuple[str, ...]:
    """`written`, none of them empty. Raises Fault."""
    for number, pattern in enumerate(written):
        if not pattern.strip():
            raise Fault((*place, number), "is empty and would fit nothing: write a pattern, or leave it out")
    return written


_WORDS = (
    Address
    | AddressPattern
    | Domain
    | Duration
    | FieldName
    | FilePath
    | Fingerprint
    | FreeSpace
    | Host
    | Name
    | Pattern
    | Size
)


def read(written: object, kind: type[_T], place: Place = ()) -> _T:
    """`written` as a table of this kind. Raises Fault, with `place` in front."""
    table: _T = _converted(written, kind, place)
    return table


def read_secret(written: object, place: Place) -> SecretWritten:
    """`written` as a secret is written. Raises Fault."""
    secret: SecretWritten = _converted(written, SecretWritten, place)
    return secret


def _converted(written: object, kind: Any, place: Place) -> Any:
    try:
        return msgspec.convert(written, kind, dec_hook=_word)
    except msgspec.ValidationError as trouble:
        text, _, path = str(trouble).rpartition(" - at `$")
        inner = _place(path) if text else ()
        raise _fault(text or str(trouble), kind, inner, place) from None


def _word(kind: type, written: object) -> Any:
    if issubclass(kind, _WORDS):
        return kind.parse(written)
    raise NotImplementedError(kind)


def _place(path: str) -> Place:
    parts = re.findall(r"\.(\w+)|\[(\d+)\]", path)
    return tuple(key if key else int(index) for key, index in parts)


def _fault(said: str, kind: object, inner: Place, outer: Place) -> Fault:
    place = outer + inner
    if found := re.fullmatch(r"Object contains unknown field `(.*)`", said, re.DOTALL):
        return Fault((*place, found[1]), f"unknown key; {_nearest(found[1], _keys(_kind_at(kind, inner)))}")
    if found := re.fullmatch(r"Object missing required field `(.*)`", said):
        return Fault((*place, found[1]), "is missing")
    choices = _choices(_kind_at(kind, inner))
    if found := re.fullmatch(r"Invalid enum value '(.*)'", said, re.DOTALL):
        return Fault(place, f"expected {choices}, found {shown(found[1])}")
    if found := re.fullmatch(r"Expected `int` (>=|<=) (\d+)", said):
        return Fault(place, f"expected {'at least' if found[1] == '>=' else 'at most'} {found[2]}")
    if found := re.fullmatch(r"Expected `(.*)`, got `(.*)`", said):
        words = (
            _A_TIME if word == "datetime" else _EXPECTED.get(word, word) for word in found[1].split(" | ")
        )
        expected = choices or " or ".join(words)
        expected = expected.removesuffix(" or nothing")
        return Fault(place, f"expected {expected}, found {_found(found[2])}{_array_hint(inner, found[2])}")
    return Fault(place, f"expected {_A_TIME}" if said.startswith("Invalid RFC3339") else said)


_EXPECTED = {
    "str": "a string",
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
    "null": "nothing",
}
_A_TIME = "a date and time, as in 2026-11-30T08:00:00Z"


def _found(word: str) -> str:
    return "a boolean" if word == "bool" else _EXPECTED.get(word, "a date or time")


def _array_hint(inner: Place, found: str) -> str:
    is_array = inner in (("mailbox",), ("route",), ("hold",), ("scanner",), ("webhook",))
    return f"; write [[{inner[0]}]]" if is_array and found == "object" else ""


def _nearest(key: str, keys: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(key, keys, n=1)
    return f"did you mean '{near[0]}'?" if near else f"the keys here are {', '.join(keys)}"


def nearest(name: str, names: tuple[str, ...]) -> str:
    """A hint for a name that isn't among `names`."""
    return (
        _nearest(name, names).replace("the keys here are", "the names here are")
        if names
        else "there are none"
    )


def _kind_at(kind: object, inner: Place) -> object:
    """The type of what stands at `inner` in a `kind`."""
    for step in inner:
        if isinstance(step, int):
            kind = next((arg for part in _members(kind) for arg in get_args(part)[:1]), None)
        else:
            kind = next((_field(part, step) for part in _members(kind) if _is_table(part)), None)
    return kind


def _members(kind: object) -> tuple[object, ...]:
    is_plain = isinstance(kind, type) or get_origin(kind) in (tuple, dict, Annotated, Literal)
    return (kind,) if is_plain else get_args(kind)


def _is_table(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Table)


def _field(table: Any, name: str) -> object:
    return next((field.type for field in msgspec.structs.fields(table) if field.name == name), None)


def _keys(kind: object) -> tuple[str, ...]:
    tables = [part for part in _members(kind) if _is_table(part)]
    return tuple(name for table in tables for name in table.__struct_fields__)  # type: ignore[attr-defined]


def _choices(kind: object) -> str | None:
    words = [word for part in _members(kind) if get_origin(part) is Literal for word in get_args(part)]
    return f"one of {', '.join(words)}" if words else None
