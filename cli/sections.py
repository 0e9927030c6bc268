"""The figures of a report, in sections; each with the command that lists the messages it counts.

As of the moment the store was read: the commands say so (`--at`), and list the same whenever they are typed.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, cast

from sqlalchemy import Connection

from cli import context, filters, render, times
from store import depth, figures
from store.figures import Period
from store.queries import Filter
from store.recipient import ACCEPTED, ATTENTION, State

# Fates first, those that are good news before the others; then what is open.
ORDER: tuple[State, ...] = (
    *("delivered", "relayed", "failed", "rejected-oversize", "discarded"),
    *("received", "deferred", "held", "quarantined", "outcome-unknown"),
)
TOOK = tuple(
    timedelta(seconds=seconds) for seconds in (1, 10, 60, 300, 900, 3600, 4 * 3600, 86_400, 5 * 86_400)
)
REPLIES = 12
# What enhanced codes mean, without the class in front (RFC 3463, RFC 7505).
MEANINGS = {
    ".1.1": "no such mailbox",
    ".1.2": "no such domain",
    ".1.8": "the sender's domain is not known",
    ".1.10": "the domain takes no mail",
    ".2.1": "the mailbox is closed",
    ".2.2": "the mailbox is full",
    ".2.3": "too large for the mailbox",
    ".3.1": "the server's disk is full",
    ".3.2": "the server takes no mail now",
    ".3.4": "too large",
    ".4.1": "no answer from the server",
    ".4.7": "took too long",
    ".7.1": "refused by policy",
}
MESSAGES = "messages"  # the column of what is counted whatever its state

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """How many messages, and the command that lists them."""

    count: int
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Figures by their columns; those that are nothing are left out. `facts` is what programs get to know them by."""

    label: str
    facts: Json
    figures: Mapping[str, Figure]


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A table of figures. Rows without any are left out of `told`."""

    name: str
    title: str
    head: str  # of the column of labels
    columns: tuple[str, ...]
    rows: tuple[Row, ...]

    @property
    def told(self) -> list[Row]:
        """The rows that have something to tell."""
        return [row for row in self.rows if row.figures]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The period, and when the store was read."""

    period: Period
    at: datetime

    def figure(self, count: int, wanted: Filter) -> Figure:
        """Return a figure of what fits, of all that came in during the period unless it asks for a part of it."""
        since, until = wanted.since or self.period.since, wanted.until or self.period.until
        bounded = replace(wanted, since=since, until=until if until < self.at else None)
        return Figure(count=count, command=command(bounded, self.at))


def command(wanted: Filter, at: datetime) -> str:
    """Return the command that lists what fitted at a time, for a shell."""
    configuration = context.named_configuration()
    named = () if configuration is None else ("--config", configuration)
    moment = cast(str, times.exact(at))
    return shlex.join(["mailgate", *named, "list", *filters.written(wanted), "--at", moment, "--limit", "0"])


def gathered(connection: Connection, asked: Asked) -> Iterator[Section]:
    """Yield the sections of a report."""
    by_step = figures.by_step(connection, asked.period)
    yield _sum(asked, by_step)
    yield _by_step(asked, by_step)
    yield _by_time_taken(asked, figures.by_time_taken(connection, asked.period, TOOK, tuple(ACCEPTED)))
    yield _by_depth(connection, asked)
    for name, title, count in (
        ("mailbox", "By mailbox", figures.by_mailbox),
        ("next_hop", "By next hop", figures.by_next_hop),
        ("direction", "By direction", figures.by_direction),
    ):
        yield _by_name(asked, name, title, count(connection, asked.period))
    yield _by_reply(connection, asked)


def _sum(asked: Asked, counts: Counter[tuple[int, str]]) -> Section:
    """What came in, and what became of it: a row for each state."""
    states: Counter[str] = Counter()
    for (_, state), count in counts.items():
        states[state] += count
    total = asked.figure(states.total(), Filter())
    rows = [
        Row(label=state, facts={"state": state}, figures={MESSAGES: asked.figure(states[state], _of(state))})
        for state in ORDER
        if states[state]
    ]
    if rows:
        rows.insert(0, Row(label="all", facts={"state": None}, figures={MESSAGES: total}))
    return Section(name="sum", title="What came in", head="State", columns=(MESSAGES,), rows=tuple(rows))


def _by_step(asked: Asked, counts: Counter[tuple[int, str]]) -> Section:
    def within(n: int) -> Json:
        return {"since": edges[n], "until": edges[n + 1]}

    edges = asked.period.edges()
    rows = [
        _row(asked, moment(begin), {"from": begin, "to": end}, counts, n, lambda n: Filter(**within(n)))
        for n, (begin, end) in enumerate(pairwise(edges))
    ]
    title = f"Messages per {_named(asked.period.step)}"
    return _section("arrivals", title, "Came in from", rows)


def _by_time_taken(asked: Asked, counts: Counter[tuple[int, str]]) -> Section:
    """From its arrival here to the last answer."""

    def within(n: int) -> Filter:
        return Filter(slower=spans[n], faster=spans[n + 1])

    spans = [None, *TOOK, None]
    rows = []
    for n, (least, most) in enumerate(pairwise(spans)):
        facts = {"slower_s": _seconds(least), "faster_s": _seconds(most)}
        rows.append(_row(asked, _between(least, most), facts, counts, n, within))
    return _section("delays", "From arrival to delivery", "Took", rows)


def _by_depth(connection: Connection, asked: Asked) -> Section:
    instants = [at for at in asked.period.edges() if at < asked.at] + [min(asked.at, asked.period.until)]
    instants = sorted(set(instants))
    found = depth.between(connection, instants)
    rows = []
    for n, at in enumerate(instants):
        open_then: dict[str, Figure] = {
            state: Figure(count=found[state][n], command=command(Filter(state=state), at))
            for state in ATTENTION
            if found[state][n]
        }
        rows.append(Row(label=moment(at), facts={"at": at}, figures=open_then))
    return _section("open", "Open over time", "Open at", rows)


def _by_name(asked: Asked, name: str, title: str, counts: Counter[tuple[str, str]]) -> Section:
    totals: Counter[str] = Counter()
    for (one, _), count in counts.items():
        totals[one] += count
    rows = [
        _row(asked, render.clean(one), {name: one}, counts, one, lambda one: Filter(**{name: one}))
        for one in sorted(totals, key=lambda one: (-totals[one], one))
    ]
    return _section(name, title, name.replace("_", " ").capitalize(), rows)


def _by_reply(connection: Connection, asked: Asked) -> Section:
    rows = []
    for wanted in figures.replies(connection, asked.period, REPLIES):
        assert wanted.state is not None
        if count := figures.count(connection, wanted, asked.period):
            its: dict[str, Figure] = {wanted.state: asked.figure(count, wanted)}
            rows.append(Row(label=_said(wanted.reply or ""), facts={"reply": wanted.reply}, figures=its))
    return _section("replies", "Why mail failed or waits", "Last reply", rows)


def _row(
    asked: Asked, label: str, facts: Json, counts: Counter[Any], key: Any, wanted: Callable[[Any], Filter]
) -> Row:
    """A row with a figure for each state."""
    found: dict[str, Figure] = {
        state: asked.figure(counts[key, state], replace(wanted(key), state=state))
        for state in ORDER
        if counts[key, state]
    }
    return Row(label=label, facts=facts, figures=found)


def _section(name: str, title: str, head: str, rows: Sequence[Row]) -> Section:
    there = {state for row in rows for state in row.figures}
    columns = tuple(state for state in ORDER if state in there)
    return Section(name=name, title=title, head=head, columns=columns, rows=tuple(rows))


def _said(pattern: str) -> str:
    """What a pattern for replies stands for, with what its code means where that is known."""
    said = render.clean(pattern.removesuffix("*")).strip()
    known = next((words for code, words in MEANINGS.items() if said[5:] == code), None)
    if known is not None:
        return f"{said} ({known})"
    return f"{said}…" if pattern.endswith("*") else said or "(no reply on record)"


def _of(state: State) -> Filter:
    return Filter(state=state)


def moment(at: datetime) -> str:
    """Return a time for a table: "2026-07-30 09:15"."""
    return f"{at.astimezone():%Y-%m-%d %H:%M}"


def _named(step: timedelta) -> str:
    names = {timedelta(minutes=5): "5 minutes", timedelta(hours=1): "hour", timedelta(hours=6): "6 hours"}
    return names.get(step) or ("day" if step.days == 1 else f"{step.days} days")


def _between(least: timedelta | None, most: timedelta | None) -> str:
    if least is None:
        return f"under {times.written(most)}"
    return (
        f"over {times.written(least)}" if most is None else f"{times.written(least)} to {times.written(most)}"
    )


def _seconds(span: timedelta | None) -> int | None:
    return None if span is None else int(span.total_seconds())
