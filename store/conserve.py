"""Does everything add up? Each message accepted has, for each recipient, exactly one fate, or is open and will be looked at.

Reads the whole store in constant memory and yields what does not add up, one line each; nothing yielded is the proof.
What a mailbox lists right now is compared elsewhere: this is about what is on record.

What messages add up to is in `summed`; what the read tables and the agenda say is compared with that.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from sqlalchemy import Connection

from store import pages
from store.agenda import LEASE_TERM, PUT_OFF
from store.copying import Progress, quiet
from store.mailbox_events import MAILBOX_PREFIX
from store.pages import Row
from store.schema import MICROSECOND, from_microseconds, microseconds
from store.summed import Life, Sum, Summing, Wait

REBUILD = "run: mailgate db rebuild"
LEASE_AT_MOST = 2 * LEASE_TERM // MICROSECOND  # the clock of who holds it may be ahead


@dataclass(slots=True)
class Count:
    """What was looked at."""

    messages: int = 0
    recipients: int = 0
    open: int = 0
    unknown_attempts: int = 0  # possible duplicates, each named in its message's log
    problems: int = 0


def check(connection: Connection, count: Count, now: datetime, progress: Progress = quiet) -> Iterator[str]:
    """Yield every discrepancy in the store, and add up in `count` what was seen.

    Raises UnknownEvent for an event newer than this program.
    """
    ((total,),) = pages.query(connection, "SELECT coalesce(max(position), 0) FROM events")
    summing, last = Summing(), ""
    for done, some in summing.batches(connection):
        until = some[-1].stream if some else None
        for problem in _compare(some, _Tables(connection, last, until), count, microseconds(now)):
            count.problems += 1
            yield problem
        last = until or last
        progress("events", done, total)
    for (position,) in pages.query(connection, _EXEMPT_OF_NOBODY):
        count.problems += 1
        yield f"position {position}: it is exempt from retention in the read tables, and no message; {REBUILD}"


_EXEMPT_OF_NOBODY = (
    "SELECT message FROM exempt WHERE message NOT IN (SELECT position FROM messages) ORDER BY message"
)


class _Tables:
    """What the read tables and the agenda say of messages behind one stream up to another, or to the last."""

    def __init__(self, connection: Connection, after: str, until: str | None) -> None:
        behind = "{0} < {1}" if until is None else "{0} < {1} AND {1} <= {0}"
        given = (after,) if until is None else (after, until)

        def asked(sql: str, column: str) -> list[Row]:
            return pages.query(connection, sql.format(behind.format("{0}", column)), given)

        self.messages = _named(asked(_MESSAGES, "m.id"))
        self.states: defaultdict[object, list[object]] = defaultdict(list)  # of recipients
        for stream, state in asked(_RECIPIENTS, "m.id"):
            self.states[stream].append(state)
        agenda = _named(asked(_AGENDA, "stream"))
        self.agenda = {stream: row for stream, row in agenda.items() if not stream.startswith(MAILBOX_PREFIX)}


def _named(rows: Sequence[Row]) -> dict[str, Row]:
    """Return rows by their first column, which names a stream; SQLite takes any value for a name."""
    found = {row[0]: row for row in rows}
    for name in [name for name in found if not isinstance(name, str)]:
        found[repr(name)] = found.pop(name)
    return found


_MESSAGES = (
    "SELECT m.id, m.state, m.closed_at, e.message, c.position FROM messages m"
    " LEFT JOIN exempt e ON e.message = m.position LEFT JOIN contents c ON c.position = m.position WHERE {}"
)
_AGENDA = "SELECT stream, lane, wake_at, lease_until FROM agenda WHERE {}"
_RECIPIENTS = "SELECT m.id, r.state FROM messages m JOIN recipients r ON r.message = m.position WHERE {} ORDER BY m.id, r.number"


def _compare(some: list[Life], tables: _Tables, count: Count, now: int) -> Iterator[str]:
    for stream, found, wait in some:
        count.messages += 1
        entry, row = tables.agenda.pop(stream, None), tables.messages.pop(stream, None)
        if isinstance(found, str):
            yield f"{stream}: {found}"
            continue
        count.recipients += len(found.states)
        count.unknown_attempts += found.unknown_attempts
        count.open += found.open
        for problem in found.problems:
            yield f"{stream}: {problem}"
        if row is None:
            yield f"{stream}: it is not in the read tables; {REBUILD}"
            continue
        for problem in (*_differences(found, row, tables.states[stream]), *_looked_at(wait, entry, now)):
            yield f"{stream}: {problem}"
    for stream in sorted({*tables.messages, *tables.agenda}):
        yield f"{stream}: it is in the read tables and not in the log; {REBUILD}"


def _differences(found: Sum, row: Row, states: Sequence[object]) -> Iterator[str]:
    _, state, closed_at, exempt, octets = row
    if state != found.state:
        yield f"the read tables say {state}, the log says {found.state}; {REBUILD}"
    elif tuple(states) != found.states:
        said, says = (", ".join(map(str, some)) or "nobody" for some in (states, found.states))
        yield f"its recipients are {said} in the read tables, {says} in the log; {REBUILD}"
    if found.kept and octets is None:
        yield f"{'it is open and' if found.open else 'nothing says why'} its octets are gone"
    if found.purged and octets is not None:
        yield "its octets were dropped, as the log says, and are there"
    if (closed_at is not None) != found.closed:
        yield _otherwise("closed", found.closed)
    if (exempt is not None) != found.exempt:
        yield _otherwise("exempt from retention", found.exempt)


def _otherwise(what: str, so: bool) -> str:
    said, says = ("is not", "is") if so else ("is", "is not")
    return f"it {said} {what} in the read tables, and {says} in the log; {REBUILD}"


def _looked_at(wait: Wait | None, entry: Row | None, now: int) -> Iterator[str]:
    """Yield why an open message will not be looked at when it is due, or a settled one will be."""
    if wait is None or entry is None:
        if wait is not None:
            yield f"it is open and nobody will look at it; {REBUILD}"
        if entry is not None:
            yield f"it is settled and still in the agenda; {REBUILD}"
        return
    _, lane, wake_at, lease_until = entry
    if lane != wait.lane:
        yield f"it is open and in lane {lane!r} of the agenda, where nobody will look for it: its own is {wait.lane!r}; {REBUILD}"
    if not isinstance(wake_at, int) or wake_at > max(wait.due, now + PUT_OFF // MICROSECOND):
        yield f"it is due at {_moment(wait.due)}, and nobody will look at it before {_moment(wake_at)}; {REBUILD}"
    if lease_until is not None and (not isinstance(lease_until, int) or lease_until > now + LEASE_AT_MOST):
        yield f"it is held until {_moment(lease_until)}, longer than any lease lasts; {REBUILD}"


def _moment(at: object) -> str:
    try:
        return f"{from_microseconds(cast(int, at)):%Y-%m-%d %H:%M:%S} UTC"
    except (TypeError, OverflowError):
        return repr(at)
