"""`mailgate events`: the log, a line for each event; `--follow` goes on as it grows.

Following asks for what is behind the last position seen, and nothing else: positions are given out in the order of commits, so
nothing is missed. A store that is busy or restarting is waited for.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from itertools import chain
from typing import Annotated, Any

import typer
from sqlalchemy import Connection, Engine, Row

from cli import context, render, story, times, words
from cli.context import Failure, Misuse
from cli.message import AsCsv, AsJson, one_format
from cli.show import entry_of
from store import log, queries
from store.database import reading, unreachable
from store.mailbox_events import MAILBOX_PREFIX
from store.recorded import listed

DEFAULT_LIMIT = 50
FOLLOW_LIMIT = 10  # to begin with
FOLLOW_EVERY_SECONDS = 0.5
PAGE = 500
FIRST_LOOK_BACK = 1_000  # positions; each further look goes eight times as far
FURTHER = 8
CSV = ("position", "stream", "revision", "name", "version", "at", "told", "data", "personal", "hash")

Show = Callable[[Iterable[Row[Any]]], None]


def events(
    follow: Annotated[bool, typer.Option("--follow", help="Go on as the log grows, until Ctrl-C.")] = False,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="From then on: 2h, 3d, or a time (RFC 3339).")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Before then.")] = None,
    event: Annotated[str | None, typer.Option(metavar="NAME", help="Only events of this name.")] = None,
    after: Annotated[
        int | None,
        typer.Option(metavar="POSITION", help="Only what is behind this position: where a program left off."),
    ] = None,
    stream: Annotated[
        str | None, typer.Option(metavar="STREAM", help="Only of this message, or of mailbox-NAME.")
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="The newest so many; 0 for all. [default: 50, with --follow 10; all with --since or --stream]",
        ),
    ] = None,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
) -> int:
    """Print the log, the oldest event first. Exit code 1 where nothing fits."""
    one_format(as_json=as_json, as_csv=as_csv)
    if follow and until is not None:
        raise Misuse("--follow and --until don't go together: what is to come is later")
    begin = words.position(after)
    name, current = words.event(event), times.now()
    moment, end = times.span_optional(since, until, "--until", current)
    show = _csv if as_csv else _json if as_json else _lines
    if limit is None:
        limit = 0 if moment or stream or after is not None else FOLLOW_LIMIT if follow else DEFAULT_LIMIT
    limit = words.limit(limit)
    with context.opened(context.settings()) as engine:
        with reading(engine) as connection:
            wanted = Wanted(connection, moment, end, name, stream)
            checkpoint = log.last_position(connection)
            _check_end(checkpoint, begin)
            rows = iter(wanted.newest(connection, limit, checkpoint, first=begin))
            first = next(rows, None)
            if as_csv:
                render.comma_separated(CSV, ())
            if first is not None:
                show(chain([first], rows))
        if follow:
            return _follow(engine, wanted, checkpoint, show)
    if first is None:
        raise Failure("no event fits")
    return context.EXIT_DONE


class Wanted:
    """What was asked for of the log."""

    def __init__(
        self,
        connection: Connection,
        since: datetime | None,
        until: datetime | None,
        name: str | None,
        stream: str | None,
    ) -> None:
        self._since = since
        self._until = until
        self._name = name
        is_mailbox = stream is None or stream.startswith(MAILBOX_PREFIX)
        self._stream = stream if is_mailbox else words.message_id(connection, stream or "")

    def page(self, connection: Connection, after: int) -> list[Row[Any]]:
        """Return the next PAGE events behind a position, oldest first; fewer are all there are."""
        return queries.log_rows(
            connection,
            after=after,
            since=self._since,
            until=self._until,
            name=self._name,
            stream=self._stream,
            limit=PAGE,
        )

    def every(self, connection: Connection, after: int) -> Iterator[Row[Any]]:
        """Yield what is behind a position, oldest first, in constant memory."""
        while True:
            rows = self.page(connection, after)
            yield from rows
            if len(rows) < PAGE:
                return
            after = rows[-1].position

    def newest(self, connection: Connection, limit: int, last: int, first: int = 0) -> Iterable[Row[Any]]:
        """Return the newest so many behind position `first` up to `last`, oldest first; 0 for all.

        Looks back only as far as needed.
        """
        if not limit:
            return self.every(connection, first)
        back = FIRST_LOOK_BACK
        while True:
            found = deque(self.every(connection, max(last - back, first)), maxlen=limit)
            if len(found) == limit or last - back <= first:
                return found
            back *= FURTHER


def _follow(engine: Engine, wanted: Wanted, checkpoint: int, show: Show) -> int:
    """Print what comes, until interrupted."""
    try:
        while True:
            rows, checkpoint = behind(engine, wanted, checkpoint)
            show(rows)
            sys.stdout.flush()
            if len(rows) < PAGE:
                time.sleep(FOLLOW_EVERY_SECONDS)
    except KeyboardInterrupt:
        return context.EXIT_DONE


def behind(engine: Engine, wanted: Wanted, checkpoint: int) -> tuple[list[Row[Any]], int]:
    """Return what is behind the checkpoint, and the next one; nothing new while the store can't be asked.

    Raises Failure where the log ends before the checkpoint.
    """
    try:
        with reading(engine) as connection:
            last = log.last_position(connection)
            rows = wanted.page(connection, checkpoint)
    except Exception as error:
        if unreachable(engine, error):
            return [], checkpoint
        raise
    _check_end(last, checkpoint)
    return rows, rows[-1].position if len(rows) == PAGE else last


def _check_end(last: int, seen: int) -> None:
    """Raises Failure where a position that was seen is not there: what comes is given positions that others had."""
    if last < seen:
        raise Failure(
            f"the log ends at position {last}, before {seen}: it is another store, or an older backup was restored"
        )


def _json(rows: Iterable[Row[Any]]) -> None:
    for row in rows:
        render.json_line(listed(row))


def _csv(rows: Iterable[Row[Any]]) -> None:
    render.comma_separated(None, map(_flat, rows))


def _flat(row: Row[Any]) -> list[Any]:
    entry = entry_of(row)
    told = story.sentence(entry.event, entry.at).removeprefix(":").strip()
    personal = None if row.personal is None else render.escaped(bytes(row.personal).decode())
    return [
        *(row.position, row.stream, row.revision, row.name, row.version, entry.at, told),
        *(render.escaped(bytes(row.data).decode()), personal, bytes(row.hash).hex()),
    ]


def _lines(rows: Iterable[Row[Any]]) -> None:
    for row in rows:
        entry = entry_of(row)
        told = story.sentence(entry.event, entry.at)
        render.line(f"{times.stamp(entry.at)}  {row.stream:<16}  ", (entry.event.NAME, "bold"), told)
