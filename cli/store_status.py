"""How the store stands: what `mailgate db status` says, and how a store is named without its password."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, func, select

import migrations
from cli import context, render, times
from cli.render import counted
from engine.presence import gateway_runs
from engine.settings import Settings
from store import followers, log, queries
from store.database import reading
from store.read_tables import messages
from store.schema import events, from_microseconds
from store.space import size_octets, space
from store.url import shown

LABEL_WIDTH = 10
STANDINGS = {
    "current": "up to date",
    "empty": "there is no store in it yet: 'mailgate db upgrade' makes it",
    "behind": "of an older mailgate: 'mailgate db upgrade' brings it up to date",
    "unknown": "of a newer mailgate than this one: upgrade mailgate",
}


def status(settings: Settings, engine: Engine) -> dict[str, Any]:
    """Return what `--json` prints; None for what a store without its schema can't say."""
    with reading(engine) as connection:
        standing = migrations.standing(connection)
        found = {
            "url": url(settings),
            "database": _version(connection),
            "schema": migrations.revision(connection),
            "schema_standing": standing,
            "size_octets": size_octets(connection),
            "free_octets": room.free_octets if (room := space(connection)) else None,
            **dict.fromkeys(("events", "messages", "open", "newest_at", "newest_event", "webhooks")),
        }
        if standing == "current":
            found |= _content(connection) | {"webhooks": _webhooks(settings, connection)}
    return found | {"gateway_runs": gateway_runs(engine)}


def _content(connection: Connection) -> dict[str, Any]:
    newest = connection.execute(select(events).order_by(events.c.position.desc()).limit(1)).first()
    return {
        "events": log.last_position(connection),
        "messages": connection.scalar(select(func.count()).select_from(messages)),
        "open": queries.open_count(connection),
        "newest_at": from_microseconds(newest.at) if newest else None,
        "newest_event": newest.name if newest else None,
    }


def _webhooks(settings: Settings, connection: Connection) -> list[dict[str, Any]]:
    """Return how far each has been told, in the order of the configuration; then those that are no longer in there."""
    known = {one.name: asdict(one) for one in followers.every(connection)}
    configured = [hook.name for hook in settings.webhooks]
    fresh = dict.fromkeys(("position", "lag", "since", "said", "retry_at")) | {"failures": 0}
    order = [*configured, *(name for name in known if name not in configured)]
    return [{"name": n, "configured": n in configured} | (known.get(n) or fresh) for n in order]


def _version(connection: Connection) -> str:
    if connection.dialect.name == "sqlite":
        return f"SQLite {connection.exec_driver_sql('SELECT sqlite_version()').scalar()}"
    return f"PostgreSQL {connection.exec_driver_sql('SHOW server_version').scalar()}"


def print_status(found: dict[str, Any]) -> None:
    """Print it for people."""

    def said(label: str, *parts: render.Part) -> None:
        render.line((label.ljust(LABEL_WIDTH), "bold"), *parts)

    standing = found["schema_standing"]
    style = "green" if standing == "current" else "bold red"
    said("store", found["url"])
    said(
        "database",
        f"{found['database']}, {times.size(found['size_octets'])} on disk{_free(found['free_octets'])}",
    )
    said("schema", f"{found['schema']}, " if found["schema"] else "", (STANDINGS[standing], style))
    said("gateway", ("runs", "green") if found["gateway_runs"] else "does not run")
    if found["events"] is None:
        return
    said("log", counted(found["events"], "event") + _newest(found["newest_at"], found["newest_event"]))
    said("messages", f"{found['messages']:,}, {found['open']:,} open")
    for number, hook in enumerate(found["webhooks"]):
        said("" if number else "webhooks", f"{hook['name']}: ", *_told(hook))


def _told(hook: dict[str, Any]) -> Iterator[render.Part]:
    if hook["position"] is None:
        yield "begins with the next start of the gateway"
        return
    yield f"{counted(hook['lag'], 'event')} behind" if hook["lag"] else ("told of everything", "green")
    if not hook["configured"]:
        yield ", and not in the configuration any more"
    if hook["failures"]:
        now = times.now()
        tries = counted(hook["failures"], "failure").replace("failures", "failures in a row")
        yield (f"; {tries} since {times.stamp(hook['since'])}: {hook['said']}", "bold red")
        yield f"; next try {times.away(hook['retry_at'], now)}" if hook["retry_at"] else ""


def _free(octets: int | None) -> str:
    return f", {times.size(octets)} of it free for new mail" if octets else ""


def _newest(at: datetime | None, name: str | None) -> str:
    if at is None:
        return ""
    return f", the newest is {name}, {times.stamp(at)} ({times.away(at, times.now())})"


def url(settings: Settings) -> str:
    """Return the store's URL without its passwords."""
    file = context.sqlite_file(settings)
    return str(file) if file else shown(settings.store.url)
