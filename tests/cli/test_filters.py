"""Filters are written as they are read."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import typer

from cli import filters
from store.queries import Filter

EVERY = Filter(
    sender="*@customer.example",
    recipient="info@example.com",
    subject="--odd $(subject) 'quoted'",
    text="-inv*",
    message_id="<1@x>",
    mailbox="info",
    state="failed",
    direction="inbound",
    next_hop="mx:example.com",
    since=datetime(2026, 3, 1, tzinfo=UTC),
    until=datetime(2026, 3, 1, 12, 0, 0, 7, tzinfo=UTC),
    event="deferred",
    reply="550 5.1.1 *",
    slower=timedelta(minutes=5),
    faster=timedelta(days=1),
    replay="friday",
)


def read(*arguments: str) -> Filter:
    """What a command makes of its arguments."""
    seen: list[Filter] = []

    @filters.taken
    def command(wanted: Filter) -> None:
        seen.append(wanted)

    app = typer.Typer()
    app.command()(command)
    typer.main.get_command(app)(list(arguments), standalone_mode=False)
    return seen[0]


def test_all_filters_together() -> None:
    assert all(getattr(EVERY, field.name) is not None for field in fields(EVERY))
    assert read(*filters.written(EVERY)) == EVERY


@pytest.mark.parametrize("name", [field.name for field in fields(Filter)])
def test_each_by_itself_and_none(name: str) -> None:
    wanted: dict[str, Any] = {name: getattr(EVERY, name)}
    assert read(*filters.written(Filter(**wanted))) == Filter(**wanted)
    assert list(filters.written(Filter())) == []


def test_no_reply_is_asked_for_by_an_empty_one() -> None:
    assert read(*filters.written(Filter(reply=""))) == Filter(reply="")
