"""Giving an order on messages: which are meant, what would come of it, and what came of it.

Ids are all looked up before anything is done, so that an ambiguous one changes nothing. Filters mean what can be done at
all, are shown and asked about; what was shown is done, as it stands then.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

import typer

from cli import context, render, times, words
from cli.context import EXIT_BAD_NEWS, EXIT_DONE, Failure, Misuse
from cli.message import sender
from cli.ordered import PAST, Said, doubt
from cli.person import can_be_asked, check_reason, operator
from cli.render import Column
from engine.core.orders import EXEMPTING, Decided, Order, Refused, Verb
from engine.core.policy import Policy
from engine.orders import BATCH, Orders
from store import queries
from store.database import reading
from store.queries import Filter
from store.recipient import ATTENTION

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from engine.settings import Settings

PLANNED = 20  # messages that a plan names; more are counted
ASKED: dict[Verb, str] = {"unkeep": "leave to retention"}
COLUMNS = (
    Column(title="ID"),
    Column(title="STATE", styles=render.STATE_STYLES),
    Column(title="FROM", least=12),
    Column(title="TO", least=12, from_width=77),
    Column(title="SUBJECT", least=9),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which messages are meant: these ids, or those that fit; and which of their recipients, all where none is named.

    `quarantined`: only what is in quarantine; `everything` there, where nothing else is said.
    """

    ids: tuple[str, ...]
    filter: Filter
    recipients: tuple[str, ...]
    quarantined: bool = False
    everything: bool = False


def give(
    verb: Verb, wanted: Wanted, reason: str, *, until: datetime | None = None, yes: bool, as_json: bool
) -> int:
    """Carry out an order; returns the exit code. Raises Failure."""
    by_ids, by_filter = bool(wanted.ids), wanted.everything or wanted.filter != Filter()
    if by_ids == by_filter:
        ways = ", give filters, or --all" if wanted.quarantined else ", or give filters"
        raise Misuse(f"name the messages to {ASKED.get(verb, verb)}{ways}" + (", not both" if by_ids else ""))
    if by_filter and not yes and (as_json or not can_be_asked()):
        raise Misuse("there is nobody to ask: add --yes")
    settings = context.settings()
    check_reason(settings, reason)
    order = Order(
        verb=verb,
        operator=operator(),
        reason=reason,
        until=until,
        recipients=wanted.recipients,
        quarantined=wanted.quarantined,
    )
    with context.opened(settings) as engine:
        policy, orders = _orders(settings, engine, order)
        said = Said(order, policy, as_json=as_json)
        if by_ids:
            streams = list(_named(engine, wanted.ids, said))
        else:
            meant = replace(wanted.filter, state="quarantined") if wanted.quarantined else wanted.filter
            streams = _fitting(engine, orders, verb, meant)
            if not streams:
                where = " in quarantine" if wanted.quarantined else ""
                raise Failure(f"there is no message{where} that fits and can be {PAST[verb]}")
            if not as_json:
                _show(engine, orders, order, streams)
            if not yes and not typer.confirm("Go on?"):
                render.line("nothing was changed")
                return EXIT_BAD_NEWS
        for done in orders.carry_out(streams, partial(_waiting, quiet=as_json)):
            said.say(done)
    return EXIT_BAD_NEWS if said.failures else EXIT_DONE


def _orders(settings: Settings, engine: Engine, order: Order) -> tuple[Policy, Orders]:
    from engine.wiring import mailbox_rule, policy_of

    policy = policy_of(settings)
    return policy, Orders(
        engine,
        order,
        policy=policy,
        rules={mailbox.name: mailbox_rule(mailbox) for mailbox in settings.mailboxes},
        gateway_runs=lambda: context.gateway_runs(engine) is not False,
        now=times.now,
    )


def _waiting(count: int, *, quiet: bool) -> None:
    if not quiet:
        what = "a message is" if count == 1 else f"{count} messages are"
        print(f"{what} being handed over: waiting for the answer", file=sys.stderr)  # noqa: T201


# -- which


def _named(engine: Engine, beginnings: Iterable[str], said: Said) -> Iterator[str]:
    """Yield the ids meant, each once. Raises Misuse for an ambiguous one before the first is yielded."""
    found: dict[str, None] = {}
    unknown: list[tuple[str, str]] = []
    with reading(engine) as connection:
        for beginning in beginnings:
            try:
                found[words.message_id(connection, beginning)] = None
            except Misuse:
                raise
            except Failure as failure:
                unknown.append((beginning, str(failure)))
    for beginning, text in unknown:
        said.unknown(beginning, text)
    yield from found


def _fitting(engine: Engine, orders: Orders, verb: Verb, wanted: Filter) -> list[str]:
    """Return the messages that fit and that the order can be carried out on, oldest first."""
    states = ATTENTION if wanted.state is None and verb not in EXEMPTING else (wanted.state,)
    with reading(engine) as connection:
        rows = (row for s in states for row in queries.every(connection, replace(wanted, state=s)))
        found = sorted((row["position"], row["id"]) for row in rows)
        ids = [stream for _, stream in found]
        done = (
            one
            for at in range(0, len(ids), BATCH)
            for one in orders.foreseen(connection, ids[at : at + BATCH])
        )
        return [one.stream for one in done if not isinstance(one.answer, Refused)]


# -- what would come of it


def _show(engine: Engine, orders: Orders, order: Order, streams: Sequence[str]) -> None:
    count = "1 message is" if len(streams) == 1 else f"{len(streams):,} messages are"
    until = f" until {times.stamp(order.until)}" if order.until else ""
    only = f" for {', '.join(order.recipients)}" if order.recipients else ""
    render.line((f"{count} to be {PAST[order.verb]}{only}{until}:", "bold"))
    with reading(engine) as connection:
        render.table(COLUMNS, _cells(connection, orders, streams[:PLANNED]))
        if len(streams) > PLANNED:
            render.line((f"and {len(streams) - PLANNED:,} more", "dim"))
        doubts = (
            (done.stream, text)
            for done in orders.foreseen(connection, streams)
            if isinstance(done.answer, Decided) and (text := doubt(order, done.answer))
        )
        for stream, text in islice(doubts, PLANNED):
            render.line(f"{stream}: {text}")


def _cells(connection: Connection, orders: Orders, streams: Sequence[str]) -> Iterator[tuple[str, ...]]:
    for done in orders.foreseen(connection, streams):
        if done.message is not None:
            to = [r.address or "(erased)" for r in done.message.recipients]
            more = f" +{len(to) - 1}" if len(to) > 1 else ""
            yield (
                done.stream,
                done.message.state,
                sender(done.message.known_reverse_path),
                f"{to[0]}{more}" if to else "(nobody)",
                done.message.subject or "",
            )
