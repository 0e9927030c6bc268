"""`mailgate run`: the gateway itself.

Owns which parts run here, what goes to stderr, and the exit code.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from cli import context, listening, times
from cli.context import EXIT_BAD_NEWS, EXIT_CONFIGURATION, EXIT_DONE, Failure, Misuse, nearest
from engine.log_lines import log_to_stderr

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from sqlalchemy import Engine

    from engine.gateway import Roles
    from engine.settings import Settings

PARTS = ("fetch", "listen", "work")

T = TypeVar("T")

logger = logging.getLogger("mailgate")


def run(
    once: Annotated[
        bool,
        typer.Option(
            "--once", help="Poll each mailbox once, work off what is due now, and end. Doesn't listen."
        ),
    ] = False,
    only: Annotated[
        str | None,
        typer.Option(metavar="PARTS", help="Of fetch, listen, work, only these, separated by commas."),
    ] = None,
) -> int:
    """Fetch, listen and deliver until stopped; SIGTERM drains.

    With --once the exit code is 0 if every mailbox could be polled and nothing is open at the end, else 1. What a mailbox
    lists and does not give is open.
    """
    parts = _parts(only)
    settings = context.settings()
    _check_parts(settings, parts, once=once, named=only is not None)
    log_to_stderr()
    from engine.gateway import Roles
    from engine.settings import warnings

    expiry = listening.expiry(settings, times.now()) if "listen" in parts and not once else None
    for warning in (*warnings(settings), *((expiry,) if expiry else ())):
        logger.warning("%s", warning)
    context.ensure_store(settings)
    roles = Roles(fetch="fetch" in parts, work="work" in parts, listen="listen" in parts)
    with context.opened(settings, checkpoints=True) as engine:
        if roles.fetch and (strange := _strangers(settings, engine)):
            logger.warning("%s", strange)
        return _once(settings, engine, roles) if once else _until_stopped(settings, engine, roles)


def complete(main: Coroutine[Any, Any, T]) -> T:
    """Run the gateway's coroutine to its end. A group of errors becomes the one that says most."""
    from engine.loops import start
    from store.errors import StoreError

    try:
        return start(main)
    except BaseExceptionGroup as group:
        errors = list(_leaves(group))
        raise next((e for e in errors if isinstance(e, StoreError)), errors[0]) from None


def _strangers(settings: Settings, engine: Engine) -> str | None:
    """Say where a mailbox without a record may be one on record by another name: all of it would be fetched again."""
    from store import mailbox_queries
    from store.database import reading

    with reading(engine) as connection:
        rows = mailbox_queries.mailbox_rows(connection)
    names = [mailbox.name for mailbox in settings.mailboxes]
    new = [name for name in names if all(row["name"] != name for row in rows)]
    left = [row["name"] for row in rows if row["present"] and row["name"] not in names]
    if not new or not left:
        return None
    return (
        f"nothing is on record of mailbox {', '.join(new)}, but of {', '.join(left)}, not configured any more: where one"
        " was renamed, all that is in it is fetched again; give it its old name, or stop and run"
        " 'mailgate mailbox adopt NAME' first"
    )


def _parts(only: str | None) -> frozenset[str]:
    if only is None:
        return frozenset(PARTS)
    wanted = [part.strip() for part in only.split(",")]
    for part in wanted:
        if part not in PARTS:
            raise Misuse(
                f"--only: there is no part {part!r}{nearest(part, PARTS)} (of {', '.join(PARTS)}, separated by commas)"
            )
    return frozenset(wanted)


def _check_parts(settings: Settings, parts: frozenset[str], *, once: bool, named: bool) -> None:
    """Refuse parts that would do nothing. Raises Failure, Misuse."""
    if once and parts == {"listen"}:
        raise Misuse("--once doesn't listen: there would be nothing to do")
    if named and "listen" in parts and settings.listen is None:
        raise Failure(f"{settings.path}: --only names listen, and there is no [listen]", EXIT_CONFIGURATION)


def _once(settings: Settings, engine: Engine, roles: Roles) -> int:
    from engine import service

    came_to = complete(service.once(settings, engine, roles))
    if came_to.open:
        is_open = "1 message is open" if came_to.open == 1 else f"{came_to.open} messages are open"
        logger.info("%s: 'mailgate queue' shows what for", is_open)
    if came_to.withheld:
        listed = "1 message is" if came_to.withheld == 1 else f"{came_to.withheld} messages are"
        logger.info("%s listed and not to be had: 'mailgate mailbox list' says why", listed)
    return EXIT_DONE if came_to.polled_well and not came_to.open and not came_to.withheld else EXIT_BAD_NEWS


def _until_stopped(settings: Settings, engine: Engine, roles: Roles) -> int:
    from engine import service
    from engine.adapters.smtp_listener_access import ListenTrouble
    from engine.listening import NotStarted
    from engine.trouble import MetricsTrouble

    try:
        complete(service.serve(settings, engine, roles))
    except (ListenTrouble, MetricsTrouble) as trouble:
        raise Failure(f"{settings.path}: {trouble}", EXIT_CONFIGURATION) from None
    except NotStarted as trouble:  # another start may do: not what a service manager takes for final
        raise Failure(str(trouble)) from None
    return EXIT_DONE


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
