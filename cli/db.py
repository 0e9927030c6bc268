"""`mailgate db`: the store's schema, its read tables, and copies of it.

Nothing here touches an event. What would get in a running gateway's way is refused while one runs; a backup would not.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import context, render, times
from cli.context import EXIT_DONE, Failure, StoreFailure
from cli.progress import progress

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from engine.settings import Settings
    from store.copying import Copied

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Schema, read tables, backup.",
)

AsJson = Annotated[bool, typer.Option("--json", help="Print a JSON object.")]


@app.command()
def status(json: AsJson = False) -> int:
    """Say where the store is, and how it does.

    How much it holds, and whether its schema is this program's.
    """
    settings = context.settings()
    from cli import store_status

    with _unchecked(settings) as engine:
        found = store_status.status(settings, engine)
    if json:
        render.json_line(found)
    else:
        store_status.print_status(found)
    if (standing := found["schema_standing"]) != "current":
        raise StoreFailure(f"{found['url']}: {store_status.STANDINGS[standing]}")
    return EXIT_DONE


@app.command()
def upgrade() -> None:
    """Make the store, or bring its schema up to date. Safe to repeat."""
    import migrations
    from cli.store_status import STANDINGS, url

    settings = context.settings()
    with _unchecked(settings, make=True) as engine:
        before = _revision(engine)
        if before is not None and before > migrations.HEAD:
            raise StoreFailure(f"the store's schema {before} is {STANDINGS['unknown']}")
        if before != migrations.HEAD:
            migrations.upgrade(engine)
    where = url(settings)
    if before is None:
        render.line(f"{where}: made, schema {migrations.HEAD}")
    elif before == migrations.HEAD:
        render.line(f"{where}: is up to date, schema {before}")
    else:
        render.line(f"{where}: upgraded, schema {before} to {migrations.HEAD}")


@app.command()
def rebuild() -> None:
    """Make the read tables anew from the log, in one transaction. Not while a gateway runs."""
    from store import rebuild as tables
    from store.database import writing

    with context.opened(context.settings(), checkpoints=True) as engine:
        began = time.monotonic()
        with (
            alone(engine, "it would lose its leases"),
            progress() as show,
            writing(engine) as connection,
        ):
            events = tables.rebuild(connection, lambda done, total: show("read tables", done, total))
        render.line(f"read tables made anew from {render.counted(events, 'event')} in {_since(began)}")


@app.command()
def backup(file: Annotated[Path, typer.Argument(metavar="FILE", show_default=False)]) -> None:
    """Copy the store to FILE, while the gateway runs or not.

    FILE is a SQLite store of its own.
    """
    import migrations
    from store import backup as copies

    with context.opened(context.settings()) as engine:
        began = time.monotonic()
        with _refusals(), progress() as show:
            copied = copies.backup(engine, file, migrations.upgrade, show)
        render.line(f"{file}: {_copied(copied)}, in {_since(began)}")


@app.command()
def restore(file: Annotated[Path, typer.Argument(metavar="FILE", show_default=False)]) -> None:
    """Copy a backup into the configured store.

    That must be empty or not be there yet.
    """
    import migrations
    from cli.store_status import url
    from store import backup as copies

    settings = context.settings()
    if not file.is_file():
        raise Failure(f"{file}: no such file")
    with _unchecked(settings, make=True) as engine:
        if _revision(engine) is None:
            migrations.upgrade(engine)
    with context.opened(settings, checkpoints=True) as engine:
        began = time.monotonic()
        with (
            alone(engine, "it would fetch what the backup knows already"),
            _refusals(),
            progress() as show,
        ):
            copied = copies.restore(file, engine, show)
        render.line(f"{url(settings)}: {_copied(copied)}, in {_since(began)}")
        _say_what_goes_on(engine)


def _say_what_goes_on(engine: Engine) -> None:
    """Say what will be sent from a restored store, and how to keep it back: its original may have gone on."""
    from store import queries
    from store.database import reading

    with reading(engine) as connection:
        count = queries.moving_count(connection)
    if count:
        render.line(
            f"{render.counted(count, 'message')} open: what was handed over after the backup was made is sent again by the"
            " next 'mailgate run'; 'mailgate hold --before 1s' keeps all of it back until you have looked"
        )


@contextmanager
def _unchecked(settings: Settings, *, make: bool = False) -> Iterator[Engine]:
    """Yield the store whatever its schema is; an SQLite file is made only if `make` says so."""
    from sqlalchemy.exc import DatabaseError

    from store.database import first_line, open_store, reachable

    file = context.sqlite_file(settings)
    if file is not None and not make and not file.exists():
        raise StoreFailure(f"there is no store at {file} yet: 'mailgate db upgrade' makes it")
    if file is not None and not file.parent.is_dir():
        raise StoreFailure(f"there is no folder {file.parent} to keep the store in: make it")
    engine = open_store(settings.store.url)
    try:
        with reachable(engine):
            yield engine
    except DatabaseError as error:
        if type(error) is not DatabaseError:  # a subclass is a statement of ours that is wrong
            raise
        raise StoreFailure(f"the store can't be used: {first_line(error)}") from error
    finally:
        engine.dispose()


def _revision(engine: Engine) -> str | None:
    import migrations
    from store.database import reading

    with reading(engine) as connection:
        return migrations.revision(connection)


@contextmanager
def _refusals() -> Iterator[None]:
    """A copy that was refused is bad news, but the store is in order: exit 1, not 4."""
    from store.errors import NeedsUpgrade, StoreError, StoreUnreachable

    try:
        yield
    except (StoreUnreachable, NeedsUpgrade):
        raise
    except StoreError as error:
        raise Failure(str(error)) from error


@contextmanager
def alone(engine: Engine, reason: str) -> Iterator[None]:
    """Refuse while a gateway runs; while this goes on, none starts on an SQLite store."""
    from engine import presence

    if presence.gateway_runs(engine):
        raise StoreFailure(f"a gateway runs on this store, and {reason}: stop it first")
    present = presence.arrive(engine)
    try:
        yield
    finally:
        present.leave()


def _copied(copied: Copied) -> str:

    messages = f"{render.counted(copied.messages, 'message')} with {times.size(copied.octets)} of mail"
    return f"{render.counted(copied.events, 'event')}, {messages}"


def _since(began: float) -> str:
    return times.span(timedelta(seconds=time.monotonic() - began))
