"""`mailgate quarantine`: what is kept back and on which evidence; and a person's decision to let it go or to discard it."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice
from typing import Annotated, Any, cast

import typer

from cli import context, filters, orders, render, scan_story, times, words
from cli.context import Failure, Misuse
from cli.message import (
    DEFAULT_LIMIT,
    LISTED,
    AsJson,
    Json,
    MessageId,
    addressees,
    as_folded,
    as_listed,
    sender,
)
from cli.operator import Ids, Only, Reason, Yes
from cli.orders import Wanted
from cli.render import Column
from cli.show import Entry, life, page
from store import queries
from store.database import reading
from store.events import MessageEvent, Scanned
from store.life import Message, fold
from store.queries import Filter
from store.recorded import as_stored

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="What is in quarantine, and why; let it go or discard it.",
)

WHY = ("quarantined_why", "quarantined_by")
COLUMNS = (
    Column(title="ID"),
    Column(title="CAME IN"),
    Column(title="SIZE", right=True, from_width=110),
    Column(title="FROM", least=12, from_width=74),
    Column(title="TO", least=12, from_width=95),
    Column(title="SUBJECT", least=12),
    Column(title="AS", from_width=90),
    Column(title="WHY", least=12),
)
Everything = Annotated[bool, typer.Option("--all", help="Everything that is in quarantine.")]


def _taken(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the filters of `list` but for the state, which goes without saying."""
    filtered = filters.taken(command)
    signature = inspect.signature(filtered)

    def taking(**given: Any) -> Any:
        return filtered(**given, state=None)

    others = [one for name, one in signature.parameters.items() if name != "state"]
    taking.__signature__ = signature.replace(parameters=others)  # type: ignore[attr-defined]
    taking.__annotations__ = {}
    taking.__doc__ = command.__doc__
    return taking


@app.command("list")
@_taken
def list_quarantined(
    wanted: Filter,
    limit: Annotated[int, typer.Option(metavar="N", help="How many at most; 0 for all.")] = DEFAULT_LIMIT,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
) -> None:
    """Show what is in quarantine, and why.

    The newest first. Exit code 1 where nothing fits a filter.
    """
    if as_json and as_csv:
        raise Misuse("--json and --csv don't go together")
    limit = words.limit(limit)
    with context.opened(context.settings()) as engine, reading(engine) as connection:
        meant = replace(wanted, state="quarantined")
        found = queries.every(connection, meant, limit + 1 if limit else None)
        first = next(found, None)
        if first is None and wanted != Filter():
            raise Failure("no message in quarantine fits")
        rows = chain([first] if first else [], found)
        _print(islice(rows, limit) if limit else rows, bool(first), as_json=as_json, as_csv=as_csv)
        if sys.stdout.isatty() and next(rows, None) is not None:
            render.line((f"There are more, older ones; --limit {limit * 4} or 0 shows them.", "dim"))


@app.command()
def show(message: MessageId, as_json: AsJson = False) -> None:
    """Show one message's life, the evidence in front.

    That is what each scanner found, by which engine and which rules.
    """
    with context.opened(context.settings()) as engine, reading(engine) as connection:
        entries = life(connection, words.message_id(connection, message))
    stream = entries[0].row.stream
    folded = fold(stream, ((cast(MessageEvent, entry.event), entry.at) for entry in entries))
    assert folded is not None  # it has events
    if folded.quarantined_why is None:
        raise Failure(f"message {stream} was never in quarantine: it is {folded.state}")
    if not as_json:
        page(folded, entries, times.now(), first=list(_kept_back(folded, entries)))
        return
    render.json_line(
        {
            "message": as_folded(folded) | {name: getattr(folded, name) for name in WHY},
            "evidence": [_as_evidence(entry) for entry in _evidence(entries)],
            "events": [as_stored(entry.row) for entry in entries],
        }
    )


@app.command("release")
@_taken
def release(
    ids: Ids = None,
    *,
    reason: Reason = "",
    recipients: Only = None,
    everything: Everything = False,
    yes: Yes = False,
    as_json: AsJson = False,
    wanted: Filter,
) -> int:
    """Let go on what is in quarantine.

    The same verdict does not keep it again; another one may. Takes ids, the filters of 'list',
    or --all. Exit code 1 if something could not be done.
    """
    return orders.give(
        "release", _meant(ids, wanted, recipients, everything), reason, yes=yes, as_json=as_json
    )


@app.command("discard")
@_taken
def discard(
    ids: Ids = None,
    *,
    reason: Reason = "",
    recipients: Only = None,
    everything: Everything = False,
    yes: Yes = False,
    as_json: AsJson = False,
    wanted: Filter,
) -> int:
    """Decide that it goes nowhere; nobody is told.

    Takes ids, the filters of 'list', or --all. Exit code 1 if something could not be done.
    """
    return orders.give(
        "discard", _meant(ids, wanted, recipients, everything), reason, yes=yes, as_json=as_json
    )


def _meant(ids: list[str] | None, wanted: Filter, recipients: list[str] | None, everything: bool) -> Wanted:
    return Wanted(
        ids=tuple(ids or ()),
        filter=wanted,
        recipients=tuple(recipients or ()),
        quarantined=True,
        everything=everything,
    )


def _print(rows: Iterable[Json], some: bool, *, as_json: bool, as_csv: bool) -> None:
    if as_json:
        for row in rows:
            render.json_line(_as_kept(row))
    elif as_csv:
        render.comma_separated((*LISTED, *WHY), map(_flat, rows))
    elif some:
        render.table(COLUMNS, _cells(rows))
    else:
        render.line("nothing is in quarantine")


def _as_kept(row: Json) -> Json:
    return as_listed(row) | {name: row[name] for name in WHY}


def _flat(row: Json) -> list[Any]:
    recipients = ", ".join(one["address"] for one in row["recipients"])
    return [recipients if name == "recipients" else row[name] for name in (*LISTED, *WHY)]


def _cells(rows: Iterable[Json]) -> Iterator[tuple[str, ...]]:
    current, narrow = times.now(), render.width() is not None
    for row in rows:
        yield (
            row["id"],
            times.brief(row["opened_at"], current) if narrow else times.stamp(row["opened_at"]),
            times.size(row["size_octets"]),
            sender(row["reverse_path"]),
            addressees(row),
            row["subject"] or "",
            row["quarantined_why"] or "",
            row["quarantined_by"] or "",
        )


def _kept_back(message: Message, entries: Sequence[Entry]) -> Iterator[tuple[str, str]]:
    assert message.quarantined_at is not None
    since = times.stamp(message.quarantined_at)
    yield "Kept back", f"as {message.quarantined_why}, {since}: {message.quarantined_by}"
    for number, entry in enumerate(_evidence(entries)):
        event = cast(Scanned, entry.event)
        label = "" if number else "Evidence"
        yield label, f"{times.stamp(entry.at)} {event.scanner}: {scan_story.evidence(event)}"


def _evidence(entries: Sequence[Entry]) -> list[Entry]:
    """The last that each scanner said, in the order in which they spoke."""
    last: dict[str, Entry] = {}
    for entry in entries:
        if isinstance(entry.event, Scanned):
            last[entry.event.scanner] = entry
    return sorted(last.values(), key=lambda entry: int(entry.row.revision))


def _as_evidence(entry: Entry) -> Json:
    event = cast(Scanned, entry.event)
    names = ("scanner", "verdict", "signature", "score", "threshold", "symbols", "engine", "detail", "late")
    return {"at": entry.at} | {name: getattr(event, name) for name in names}
