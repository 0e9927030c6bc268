"""The tables of a configuration file as they are written: which keys there are, of what type, with what
default.

Checks each key by itself, and turns what msgspec says into words an administrator can act on. Rules between
keys are not here. Never puts a value of the file in an error but where it can't be a secret.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from engine.settings.lines import Place
from engine.settings.shapes import (
    FREE_SPACE,
    MailboxAuth,
    MailboxTls,
    NextHopTls,
    OnError,
    OnFound,
    OnUnknown,
    Oversize,
    ScannerKind,
)
from engine.settings.values import (
    Address,
    AddressPattern,
    Domain,
    Duration,
    FieldName,
    Fingerprint,
    FreeSpace,
    Host,
    Name,
    Pattern,
    Size,
    shown,
)

Port = Annotated[int, Meta(ge=1, le=65535)]
Count = Annotated[int, Meta(ge=1, le=10_000)]
Recipients = Annotated[int, Meta(ge=100, le=100_000)]  # RFC 5321 section 4.5.3.1.8 asks for 100


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


class Table(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A TOML table whose keys are all known."""


class SecretTable(Table, frozen=True, kw_only=True):
    env: str | None = None
    file: str | None = None
    command: str | None = None


SecretWritten = str | SecretTable


class GatewayTable(Table, frozen=True, kw_only=True):
    hostname: Domain | None = None
    postmaster: Address | None = None
    domains: tuple[Domain, ...] = ()
    connections_per_host: Count = 10


class StoreTable(Table, frozen=True, kw_only=True):
    url: str = "sqlite:///mailgate.db"
    in_flight: Size = Size(256 << 20)


class MultidropTable(Table, frozen=True, kw_only=True):
    headers: tuple[FieldName, ...]
    domains: tuple[Domain, ...] = ()
    strip_prefix: str = ""
    occurrence: Annotated[int, Meta(ge=-1000, le=1000)] | None = None


class MailboxTable(Table, frozen=True, kw_only=True):
    name: Name
    host: Host
    port: Port | None = None
    tls: MailboxTls = "implicit"
    tls_verify: bool = True
    tls_ca: str | None = None
    tls_fingerprint: Fingerprint | None = None
    username: str
    password: SecretWritten
    auth: MailboxAuth = "auto"
    poll_every: Duration = Duration(60)
    recipients: tuple[Address, ...] = ()
    multidrop: MultidropTable | None = None
    fallback: Address | None = None
    remove: str = "delivered"
    oversize: Oversize = "notify"
    max_size: Size | None = None


class NextHopTable(Table, frozen=True, kw_only=True):
    host: Host | None = None
    port: Port | None = None
    tls: NextHopTls = "opportunistic"
    tls_verify: bool | UnsetType = UNSET
    tls_ca: str | None = None
    tls_fingerprint: Fingerprint | None = None
    username: str | None = None
    password: SecretWritten | None = None
    connections: Count = 4
    messages_per_connection: Count = 100
    max_size: Size | None = None
    on_unknown: OnUnknown = "retry"
    nameservers: tuple[str, ...] = ()


class RouteTable(Table, frozen=True, kw_only=True):
    recipients: tuple[AddressPattern, ...] = ()
    senders: tuple[AddressPattern, ...] = ()
    users: tuple[Pattern, ...] = ()
    next_hop: str


class ListenTable(Table, frozen=True, kw_only=True):
    address: str | tuple[str, ...] = "127.0.0.1:2500"
    allow: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
    inbound: tuple[str, ...] = ()
    users: dict[str, Any] = {}
    senders: dict[str, tuple[AddressPattern, ...]] = {}
    tls_cert: str | None = None
    tls_key: str | None = None
    max_size: Size = Size(35 << 20)  # what Exchange calls 35 MB
    max_recipients: Recipients = 1000
    connections: Count = 100
    connections_per_address: Count | None = None
    free_space: FreeSpace = FREE_SPACE


class ScannerTable(Table, frozen=True, kw_only=True):
    kind: ScannerKind
    address: str
    on_found: OnFound | None = None
    on_error: OnError = "defer"
    threshold: float | None = None


class RetryTable(Table, frozen=True, kw_only=True):
    first: Duration = Duration(300)
    cap: Duration = Duration(3600)
    give_up_after: Duration = Duration(5 * 86400)
    warn_after: Duration = Duration(4 * 3600)


class RetentionTable(Table, frozen=True, kw_only=True):
    contents: Duration = Duration(30 * 86400)


class FileTable(Table, frozen=True, kw_only=True):
    gateway: GatewayTable = GatewayTable()
    store: StoreTable = StoreTable()
    mailbox: tuple[MailboxTable, ...] = ()
    next_hop: dict[str, Any] = {}
    route: tuple[RouteTable, ...] = ()
    listen: ListenTable | None = None
    scanner: tuple[ScannerTable, ...] = ()
    retry: RetryTable = RetryTable()
    retention: RetentionTable = RetentionTable()


_WORDS = (
    Address
    | AddressPattern
    | Domain
    | Duration
    | FieldName
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
        expected = choices or " or ".join(_EXPECTED.get(word, word) for word in found[1].split(" | "))
        expected = expected.removesuffix(" or nothing")
        return Fault(place, f"expected {expected}, found {_found(found[2])}{_array_hint(inner, found[2])}")
    return Fault(place, said)


_EXPECTED = {
    "str": "a string",
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
    "null": "nothing",
}


def _found(word: str) -> str:
    return "a boolean" if word == "bool" else _EXPECTED.get(word, "a date or time")


def _array_hint(inner: Place, found: str) -> str:
    is_array = inner in (("mailbox",), ("route",), ("scanner",))
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
