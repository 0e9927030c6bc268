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
from typing import TYPE_CHECKING, assert_never

import typer

from cli import context, render, times, words
from cli.context import EXIT_BAD_NEWS, EXIT_DONE, Failure, Misuse
from cli.message import Json
from cli.person import operator
from cli.render import Column
from engine.core.orders import EXEMPTING, Decided, Order, Refused, UnderWay, Verb
from engine.core.plan import HandOver, Record, Scan, plan
from engine.core.policy import Policy
from engine.orders import BATCH, Done, Orders
from store import queries
from store.database import reading
from store.life import Message
from store.queries import Filter
from store.recipient import ATTENTION

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from engine.settings import Settings

PLANNED = 20  # messages that a plan names; more are counted
PAST: dict[Verb, str] = {
    "hold": "held",
    "release": "released",
    "discard": "discarded",
    "fail": "failed",
    "keep": "kept from retention",
    "unkeep": "left to retention",
}
ASKED: dict[Verb, str] = {"unkeep": "leave to retention"}
COLUMNS = (
    Column(title="ID"),
    Column(title="STATE", styles=render.STATE_STYLES),
    Column(title="FROM", least=12),
    Column(title="TO", least=12),
    Column(title="SUBJECT", least=12),
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
    if by_filter and not yes and (as_json or not sys.stdin.isatty()):
        raise Misuse("there is nobody to ask: add --yes")
    settings = context.settings()
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
        said = _Said(order, policy, as_json=as_json)
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


def _named(engine: Engine, beginnings: Iterable[str], said: _Said) -> Iterator[str]:
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
            (done.stream, doubt)
            for done in orders.foreseen(connection, streams)
            if isinstance(done.answer, Decided) and (doubt := _doubt(order, done.answer))
        )
        for stream, doubt in islice(doubts, PLANNED):
            render.line(f"{stream}: {doubt}")


def _cells(connection: Connection, orders: Orders, streams: Sequence[str]) -> Iterator[tuple[str, ...]]:
    for done in orders.foreseen(connection, streams):
        if done.message is not None:
            to = [r.address or "(erased)" for r in done.message.recipients]
            more = f" +{len(to) - 1}" if len(to) > 1 else ""
            yield (
                done.stream,
                done.message.state,
                done.message.reverse_path or "<>",
                f"{to[0]}{more}" if to else "(nobody)",
                done.message.subject or "",
            )


def _doubt(order: Order, decided: Decided) -> str:
    """Say who may have it already, where nobody knows."""
    if not decided.doubtful or order.verb == "hold":
        return ""
    hops = " or ".join(sorted({r.next_hop or "the next hop" for r in decided.doubtful}))
    who = ", ".join(r.address or f"recipient {r.number + 1}" for r in decided.doubtful)
    if order.verb == "release":
        return f"{hops} may have it already: {who} may get it twice"
    return f"{hops} may have it already: {who} may have got it"


# -- what came of it


class _Said:
    """Says of each message what came of it: a line, or an object; what could not be done goes to stderr."""

    def __init__(self, order: Order, policy: Policy, *, as_json: bool) -> None:
        self._order = order
        self._policy = policy
        self._as_json = as_json
        self.failures = 0

    def unknown(self, beginning: str, text: str) -> None:
        """Say that there is no such message."""
        self._failed(beginning, None, text)

    def say(self, done: Done) -> None:
        """Say what came of it for one message."""
        match done.answer:
            case Decided():
                self._done(done, done.answer)
            case Refused():
                text = f"{done.stream} can't be {PAST[self._order.verb]}: {done.answer.text}"
                self._failed(done.stream, done.message, text)
            case UnderWay():
                text = (
                    f"{done.stream} can't be {PAST[self._order.verb]} now: it is being handed over to"
                    f" {done.answer.next_hop}, and that can't be called back; try again when the answer is there"
                )
                self._failed(done.stream, done.message, text)
            case _:
                assert_never(done.answer)

    def _done(self, done: Done, decided: Decided) -> None:
        assert done.message is not None
        if self._as_json:
            render.json_line(self._object(done.stream, done.message, decided, done.reports, None))
            return
        parts = [f"{done.stream}: {self._what(done.message)}"]
        parts += [doubt for doubt in [_doubt(self._order, decided)] if doubt]
        parts += [f"message {report} tells of it" for report in done.reports]
        render.line("; ".join(parts))

    def _what(self, message: Message) -> str:
        order = self._order
        only = f" for {', '.join(order.recipients)}" if order.recipients else ""
        if order.verb == "hold":
            until = f"until {times.stamp(order.until)}" if order.until else "until it is released"
            return f"held{only} {until}"
        if order.verb in EXEMPTING:
            return _exempt_now(message, order.verb)
        if order.verb != "release":
            left = f", and is {message.state} for others" if message.open else ""
            return f"{PAST[order.verb]}{only}{left}"
        let_go = message.released_at is not None and message.released_at == message.changed_at
        released = f"released{' from quarantine' if let_go else ''}{only}"
        match plan(message, self._policy, times.now()):
            case HandOver() as step:
                return f"{released}; goes to {step.next_hop}, by {step.rule}"
            case Scan() as step:
                return f"{released}; {' and '.join(step.scanners)} will be asked about it first"
            case Record() as step:
                held = getattr(step.events[0], "rule", step.events[0].NAME)
                return f"{released}, and will be {step.events[0].NAME} again: {held}"
            case _:
                return released

    def _failed(self, stream: str, message: Message | None, text: str) -> None:
        self.failures += 1
        if self._as_json:
            render.json_line(self._object(stream, message, None, (), text))
        else:
            sys.stdout.flush()
            print(f"mailgate: {render.clean(text)}", file=sys.stderr)  # noqa: T201

    def _object(
        self,
        stream: str,
        message: Message | None,
        decided: Decided | None,
        reports: tuple[str, ...],
        error: str | None,
    ) -> Json:
        return {
            "id": stream,
            "done": decided is not None,
            "state": message.state if message is not None else None,
            "events": [event.NAME for event in decided.events] if decided else [],
            "may_have_it": [r.address for r in decided.doubtful] if decided else [],
            "reports": list(reports),
            "error": error,
        }


def _exempt_now(message: Message, verb: Verb) -> str:
    """Say what it means, also where there is little left to keep."""
    if verb == "unkeep":
        return "left to retention and erasure again"
    gone = "" if message.kept else "; its octets are not here, its record is"
    return f"kept from retention and erasure{gone}"
