"""What the [[scanner]] tables and [quarantine] come to: frozen settings, or the Fault that names the key to change.

Owns which keys go with which kind of scanner, and what each kind has by default. Reads no file.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Final, cast

from engine.core.verdict import WHATEVER_IS_SPAM, Action, ScannerKind
from engine.settings.addresses import socket_address
from engine.settings.lines import Place
from engine.settings.reading import Fault, meant, patterns, time_of_day
from engine.settings.shapes import Quarantine, ScannerSettings
from engine.settings.tables import QuarantineTable, ScannerTable
from engine.settings.values import Address, shown

TIMEOUT_AT_LEAST_SECONDS: Final = 1
SCL: Final = range(-1, 10)  # of Exchange: -1 is trusted, 9 is spam for sure
SPAM_LEVEL: Final = 5  # goes to the junk folder of Outlook, and is refused by no default of Exchange's
REDIRECT: Final = "redirect:"
# What is asked at most, as the scanners come: clamd's StreamMaxLength, what spamc sends, rspamd's max_message.
MAX_SIZE: Final[dict[ScannerKind, int]] = {
    "clamd": 25 << 20,
    "spamd": 500 << 10,
    "rspamd": 50 << 20,
    "attachments": 35 << 20,
}


def scanners(tables: Sequence[ScannerTable], folder: Path) -> tuple[ScannerSettings, ...]:
    """The scanners, in the order in which they are heard. Raises Fault."""
    found: list[ScannerSettings] = []
    for number, table in enumerate(tables):
        one = _scanner(("scanner", number), table, folder)
        if any(other.name == one.name for other in found):
            text = f"is {shown(one.name)} like that of another scanner: each needs a name of its own"
            raise Fault(("scanner", number, "name"), text)
        found.append(one)
    return tuple(found)


def quarantine(table: QuarantineTable) -> Quarantine:
    """Who is told of what is kept. Raises Fault."""
    return Quarantine(
        notify_recipients=table.notify_recipients,
        digest_at=None if table.digest is None else time_of_day(("quarantine", "digest"), table.digest),
    )


def _scanner(place: Place, table: ScannerTable, folder: Path) -> ScannerSettings:
    _check_kind(place, table)
    action, redirect = _on_found(place, table)
    if table.timeout < TIMEOUT_AT_LEAST_SECONDS:
        raise Fault((*place, "timeout"), f'is too short: at least "{TIMEOUT_AT_LEAST_SECONDS}s"')
    address = table.address
    return ScannerSettings(
        name=table.name or table.kind,
        kind=table.kind,
        address=None
        if address is None
        else meant((*place, "address"), lambda: socket_address(address, folder)),
        on_found=action,
        redirect=redirect,
        on_error=table.on_error,
        on_unscannable=table.on_unscannable,
        threshold=_score(place, "threshold", table.threshold),
        quarantine_threshold=_score(place, "quarantine_threshold", table.quarantine_threshold),
        max_size=MAX_SIZE[table.kind] if table.max_size is None else table.max_size,
        timeout_seconds=float(table.timeout),
        connections=table.connections,
        direction=table.direction,
        scl=_scl(place, table, action),
        subject_prefix=_subject_prefix(place, table),
        names=tuple(pattern.lower() for pattern in patterns((*place, "names"), table.names)),
        types=tuple(pattern.lower() for pattern in patterns((*place, "types"), table.types)),
        archives=table.archives,
    )


def _check_kind(place: Place, table: ScannerTable) -> None:
    """Refuse keys that have no meaning for this kind. Raises Fault."""
    if table.kind in ("clamd", "attachments"):
        for key in ("threshold", "quarantine_threshold", "scl"):
            if getattr(table, key) is not None:
                raise Fault((*place, key), f"has no meaning for {table.kind}, which gives no score")
        if table.subject_prefix:
            text = f"has no meaning for {table.kind}, which does not look for spam"
            raise Fault((*place, "subject_prefix"), text)
    if table.kind == "attachments":
        if table.address is not None:
            raise Fault((*place, "address"), "has no meaning for attachments: the gateway itself looks")
        if not (table.names or table.types):
            raise Fault((*place, "names"), "is missing: which attachments are meant?")
        return
    if table.address is None:
        raise Fault((*place, "address"), "is missing")
    for key in ("names", "types"):
        if getattr(table, key):
            raise Fault(
                (*place, key), f"has no meaning for {table.kind}: write a scanner of kind attachments"
            )


def _on_found(place: Place, table: ScannerTable) -> tuple[Action, str | None]:
    written = table.on_found
    if written is None:
        return ("quarantine" if table.kind in ("clamd", "attachments") else "tag"), None
    if written in ("quarantine", "discard", "tag", "pass"):
        return cast(Action, written), None
    if written.startswith(REDIRECT):
        address = meant((*place, "on_found"), lambda: Address.parse(written.removeprefix(REDIRECT)))
        return "redirect", address
    text = f"expected one of quarantine, discard, tag, redirect:ADDRESS, pass, found {shown(written)}"
    raise Fault((*place, "on_found"), text)


def _score(place: Place, key: str, value: float | None) -> float | None:
    if value is not None and not isfinite(value):
        raise Fault((*place, key), "expected a number that is finite")
    return value


def _scl(place: Place, table: ScannerTable, action: Action) -> tuple[tuple[float, int], ...]:
    """The levels, from the lowest score up; one number alone is for whatever is spam, as is ours where spam goes on."""
    written = table.scl
    if written is None:
        tells = table.kind in ("spamd", "rspamd") and action in ("tag", "redirect")
        return ((WHATEVER_IS_SPAM, SPAM_LEVEL),) if tells else ()
    if isinstance(written, int):
        found = [(WHATEVER_IS_SPAM, written)]
    else:
        found = [(_step(place, score), level) for score, level in written.items()]
    if any(level not in SCL for _, level in found):
        raise Fault((*place, "scl"), f"expected a level from {SCL[0]} to {SCL[-1]}")
    return tuple(sorted(found))


def _step(place: Place, written: str) -> float:
    try:
        score = float(written)
    except ValueError:
        score = float("nan")
    if not isfinite(score):
        raise Fault(
            (*place, "scl"), f'expected scores as keys, as in {{ "5.0" = 5 }}, found {shown(written)}'
        )
    return score


def _subject_prefix(place: Place, table: ScannerTable) -> str:
    if not (table.subject_prefix.isascii() and table.subject_prefix.isprintable()):
        raise Fault((*place, "subject_prefix"), "expected printable ASCII")
    return table.subject_prefix
