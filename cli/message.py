"""`mailgate list` and `mailgate raw`, and what a message is as JSON.

The fields of the JSON are a contract: programs rely on their names and meaning. A list of any length is printed in
constant memory.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from itertools import chain, islice
from typing import Annotated, Any

import typer

from cli import context, filters, render, times, words
from cli.context import Failure, Misuse
from cli.render import Column
from store import contents, log, past, queries
from store.database import reading
from store.life import Message

DEFAULT_LIMIT = 50

Json = dict[str, Any]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]
AsCsv = Annotated[bool, typer.Option("--csv", help="Print CSV.")]
At = Annotated[
    str | None, typer.Option("--at", metavar="TIME", help="As it stood then: 2h, 3d, or a time (RFC 3339).")
]
MessageId = Annotated[str, typer.Argument(metavar="ID", help="The message's id, or any unique beginning.")]

LISTED = (
    "id",
    "direction",
    "state",
    "opened_at",
    "changed_at",
    "closed_at",
    "mailbox",
    "uidl",
    "reverse_path",
    "recipients",
    "message_id",
    "subject",
    "size_octets",
    "content",
    "attempts",
)
RECIPIENT = ("address", "state", "next_hop", "reply", "attempts", "retry_at")

COLUMNS = (
    Column(title="ID"),
    Column(title="CAME IN"),
    Column(title="STATE", styles=render.STATE_STYLES),
    Column(title="SIZE", right=True, from_width=100),
    Column(title="FROM", least=12, from_width=74),
    Column(title="TO", least=12, from_width=95),
    Column(title="SUBJECT", least=10),
)


@filters.taken
def list_messages(
    wanted: queries.Filter,
    limit: Annotated[int, typer.Option(metavar="N", help="How many at most; 0 for all.")] = DEFAULT_LIMIT,
    at: At = None,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
) -> None:
    """Find messages, the newest first. Filters add up; with --at they mean what was so then. Exit code 1 where nothing fits."""
    one_format(as_json=as_json, as_csv=as_csv)
    limit, moment = words.limit(limit), times.past_optional(at, "--at", times.now())
    with context.opened(context.settings()) as engine, reading(engine) as connection:
        if moment is not None:
            found = past.every(connection, wanted, moment)
        else:
            found = queries.every(connection, wanted, limit + 1 if limit else None)
        first = next(found, None)
        if first is None:
            raise Failure(_none(wanted, moment))
        rows = chain([first], found)
        _print(islice(rows, limit) if limit else rows, as_json=as_json, as_csv=as_csv)
        if sys.stdout.isatty() and next(rows, None) is not None:
            render.line((f"There are more, older ones; --limit {limit * 4} or 0 shows them.", "dim"))


def one_format(*, as_json: bool, as_csv: bool) -> None:
    """Raises Misuse where two formats are asked for."""
    if as_json and as_csv:
        raise Misuse("--json and --csv don't go together")


def _none(wanted: queries.Filter, moment: datetime | None) -> str:
    then = f" as of {times.stamp(moment)}" if moment else ""
    part = next((a for a in (wanted.sender, wanted.recipient) if a and not set(a) & set("@*<")), None)
    whole = f"; an address is meant whole: '*{part}*' finds a part of it" if part else ""
    return (
        f"no message fits{then}{whole}"
        if wanted != queries.Filter() or moment
        else "there are no messages yet"
    )


def raw(message: MessageId) -> None:
    """Print a message's octets exactly as they arrived."""
    with context.opened(context.settings()) as engine, reading(engine) as connection:
        found = log.message(connection, words.message_id(connection, message))
        assert found is not None  # its id was just read in the same transaction
        octets = contents.get(connection, found)
    if octets is None and found.content is None:
        raise Failure(f"message {found.id} was never fetched: {found.state}")
    if octets is None and found.purged_at is not None:
        dropped = f"were dropped on {times.stamp(found.purged_at)} by {found.purged_by}"
        raise Failure(f"the octets of message {found.id} {dropped}")
    if octets is None:
        raise Failure(f"the octets of message {found.id} are no longer kept")
    sys.stdout.flush()
    sys.stdout.buffer.write(octets)


def as_listed(row: Mapping[str, Any]) -> Json:
    """Return a message's row with the fields that JSON has, in their order."""
    recipients = [{name: one[name] for name in RECIPIENT} for one in row["recipients"]]
    return {name: row[name] for name in LISTED} | {"recipients": recipients}


def as_folded(message: Message) -> Json:
    """Return a message as its events add up, the same as its row in the list."""
    found = {name: _text(getattr(message, name)) for name in LISTED if name != "recipients"}
    found["reverse_path"] = _text(message.known_reverse_path)
    recipients = [{name: _text(getattr(one, name)) for name in RECIPIENT} for one in message.recipients]
    return {name: recipients if name == "recipients" else found[name] for name in LISTED}


def addressees(row: Mapping[str, Any]) -> str:
    """Return the first recipient, and how many more there are."""
    addresses = [one["address"] or "(erased)" for one in row["recipients"]]
    if not addresses:
        return "(nobody)"
    return addresses[0] if len(addresses) == 1 else f"{addresses[0]} +{len(addresses) - 1}"


def _print(rows: Iterable[Json], *, as_json: bool, as_csv: bool) -> None:
    if as_json:
        for row in rows:
            render.json_line(as_listed(row))
    elif as_csv:
        render.comma_separated(LISTED, map(flat, rows))
    else:
        render.table(COLUMNS, _cells(rows))


def flat(row: Mapping[str, Any]) -> list[Any]:
    """Return a message's row as CSV has it: recipients in one field."""
    recipients = ", ".join(one["address"] for one in row["recipients"])
    return [recipients if name == "recipients" else row[name] for name in LISTED]


def _cells(rows: Iterable[Json]) -> Iterator[tuple[str, ...]]:
    current, narrow = times.now(), render.width() is not None
    for row in rows:
        yield (
            row["id"],
            times.brief(row["opened_at"], current) if narrow else times.stamp(row["opened_at"]),
            row["state"],
            times.size(row["size_octets"]),
            sender(row["reverse_path"]),
            addressees(row),
            row["subject"] or "",
        )


def sender(reverse_path: str | None) -> str:
    """Return a reverse-path as a page shows it; None: it was erased."""
    return "(erased)" if reverse_path is None else reverse_path or "<>"


def _text(value: Any) -> Any:
    """A text as the read tables keep it: Postgres has no NUL."""
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}") if isinstance(value, str) else value
