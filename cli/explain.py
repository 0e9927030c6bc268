"""`mailgate explain ID`: why a message is where it is, and what the current policy makes of it.

The decision is recomputed, not remembered: what comes next is what a gateway with this configuration would do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, assert_never, cast

from cli import context, decided, render, story, times, words
from cli.advice import commands
from cli.levers import levers
from cli.message import AsJson, Json, MessageId
from cli.outlook import left, legal_hold, outlook
from cli.show import facts, labelled, life
from cli.stale import stale
from cli.waits import standing
from engine.core import direct
from engine.core.owed import of_ours, untold
from engine.core.plan import HandOver, Record, Rest, Scan, Step, goes_to, plan
from engine.core.policy import HopPolicy, Policy
from store import mailbox_queries, queries
from store.database import reading
from store.events import Failed, Reported, Scanned
from store.life import Message
from store.mailbox_events import Undeleted
from store.mailbox_life import Known
from store.message import SCAN_LANE
from store.recipient import Recipient

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

NO_GATEWAY = "none runs on this store: 'mailgate run' starts one"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """All that an explanation rests on."""

    message: Message
    life: Sequence[decided.Step]
    told: Mapping[str, Sequence[str]]  # who got a notice, by its id
    policy: Policy
    lease: Json | None
    hop: Json | None  # the standing of the next hop that it goes to
    gateway_runs: bool | None  # None: it can't be said
    undeleted: Undeleted | None  # by its mailbox
    now: datetime
    later: Known | None  # as what it came, where it was too large to be fetched
    stale: str | None = None  # that a gateway runs by another policy than this

    @property
    def step(self) -> Step:
        """What is done next, when it is due."""
        due = self.message.due_at
        return plan(self.message, self.policy, self.now if due is None else max(due, self.now))

    @property
    def probe_at(self) -> datetime | None:
        """When its next hop is tried again, where that is down and this message has to wait for it."""
        if self.hop is None or not self.hop.get("failures") or self.message.ordered_at is not None:
            return None
        at: datetime | None = self.hop.get("probe_at")
        return at


def explain(message: MessageId, *, json: AsJson = False) -> None:
    """Say why a message is where it is, by which rule and policy, what comes next, and what a person can do."""
    from cli.explained import as_json
    from engine.wiring import policy_of

    settings = context.settings()
    policy = policy_of(settings)
    with context.opened(settings) as engine:
        case = _case(engine, message, policy)
        if case.gateway_runs:
            case = replace(case, stale=stale(settings, engine))
    if json:
        render.json_line(as_json(case, why=tuple(_why(case)), then=_next(case)))
    else:
        _page(case)


def _case(engine: Engine, beginning: str, policy: Policy) -> Case:
    with reading(engine) as connection:
        stream = words.message_id(connection, beginning)
        steps = tuple(decided.steps(life(connection, stream)))
        told = dict(_addressees(connection, steps))
        lease = queries.lease(connection, stream)
        hops = {row["next_hop"]: row for row in queries.hops(connection)}
        message = steps[-1].after
        mailbox = mailbox_queries.mailbox(connection, message.mailbox or "")
        later = mailbox_queries.came_as(connection, message)
    case = Case(
        message=message,
        life=steps,
        told=told,
        policy=policy,
        lease=lease,
        hop=None,
        gateway_runs=context.gateway_runs(engine) if message.open else None,
        undeleted=next((one for one in mailbox.undeleted if one.message == stream), None),
        now=times.now(),
        later=later,
    )
    goes_to = case.step.next_hop if isinstance(case.step, HandOver) else message.place
    if not goes_to or goes_to.startswith(SCAN_LANE):
        return case
    return replace(case, hop=hops.get(goes_to, {"next_hop": goes_to}))


def _addressees(connection: Connection, steps: Sequence[decided.Step]) -> Iterator[tuple[str, list[str]]]:
    """Yield each notice about it, with whom it went to; an address that was erased is none."""
    for step in steps:
        if isinstance(step.entry.event, Reported):
            row = queries.one(connection, step.entry.event.report)
            yield (
                step.entry.event.report,
                [one["address"] for one in row["recipients"] if one["address"]] if row else [],
            )


def _page(case: Case) -> None:
    message = case.message
    render.line((f"Message {message.id}", "bold"), f" (times are {times.zone(case.now)})")
    facts(message)
    render.line()
    labelled("State", (message.state, render.STATE_STYLES[message.state]), f" since {_ago(case)}")
    for number, why in enumerate(_why(case)):
        labelled("" if number else "Why", why)
    labelled("Policy", _policy(case))
    for one in message.recipients:
        labelled("To" if one is message.recipients[0] else "", _recipient(one, case))
    for number, told in enumerate(_told(case)):
        labelled("" if number else "Told", told)
    labelled("Next", _next(case))
    if case.undeleted is not None and not message.removed:
        labelled("Removal", _undeleted(case.undeleted))
    if message.awaited is not None:
        labelled("Scanner", _awaited(case, message.awaited))
    for number, (key, what) in enumerate(levers(message, case.step, case.policy)):
        labelled("" if number else "Setting", f"{key}: {what}")
    if message.open:
        labelled("Lease", _lease(case))
        if case.hop is not None:
            labelled(
                "Next hop", f"{case.hop['next_hop']}: {standing(case.hop, case.now)}{_limit(case, case.hop)}"
            )
        if case.gateway_runs is not None:
            labelled("Gateway", case.stale or "runs on this store" if case.gateway_runs else NO_GATEWAY)
    for number, (command, purpose) in enumerate(commands(case.message, superseded=case.later is not None)):
        labelled(
            "" if number else "You can", f"mailgate {command} {message.id}: {purpose}".replace("  ", " ")
        )


def _ago(case: Case) -> str:
    at = decided.since(case.life)
    return f"{times.stamp(at)} ({times.away(at, case.now)})"


def _why(case: Case) -> Iterator[str]:
    addresses = [one.address for one in case.message.recipients]
    for entry in decided.why(case.life):
        yield f"{times.stamp(entry.at)} {entry.event.NAME}{story.sentence(entry.event, entry.at, addresses)}"


def _told(case: Case) -> Iterator[str]:
    """Who was told of what; of mail that failed, also why nobody was."""
    message, events = case.message, [(step.entry.at, step.entry.event) for step in case.life]
    reports = [(at, event) for at, event in events if isinstance(event, Reported)]
    for at, event in reports:
        who = ", ".join(case.told.get(event.report, ())) or "somebody whose address was erased"
        yield f"{times.stamp(at)} {who} ({event.kind}), by message {event.report}"
    unreported = any(isinstance(event, Failed) and event.report is None for _, event in events)
    if (of_ours(message, case.policy) or message.known_reverse_path == "") and not reports and unreported:
        yield f"nobody: {untold(message)}"


def _policy(case: Case) -> str:
    version, current = decided.policy(case.life), case.policy.version
    if version in (None, current):
        return f"{current}, the current one"
    return f"{version}; the current one is {current}" + (
        ", and decides from now on" if case.message.open else ""
    )


def _recipient(one: Recipient, case: Case) -> str:
    named = f" (named by {one.routed_by})" if one.routed_by else ""
    text = f"{one.address or '(erased)'}{named}: {one.state}"
    if not one.open:
        return text
    routed = goes_to(case.message, one, case.policy)
    if routed.next_hop is None:
        return f"{text}; has no next hop: {routed.by}"
    known = "" if case.policy.hop(routed.next_hop) else ", which is not configured"
    servers = ", the mail servers DNS names for its domain," if direct.is_direct(routed.next_hop) else ""
    return f"{text}; goes to {routed.next_hop}{servers}{known} by {routed.by}"


def _next(case: Case) -> str:
    message, step = case.message, case.step
    if not message.open:
        return outlook(message, case.now, case.later)
    match step:
        case Rest() if message.state == "quarantined":
            return _in_quarantine(case)
        case Rest():
            return outlook(message, case.now)
        case Record():
            return "It will be " + "; ".join(
                event.NAME + story.sentence(event, case.now, [one.address for one in message.recipients])
                for event in step.events
            )
        case Scan():
            when = _when(case, (case.hop or {}).get("next_hop", ""))
            return f"{' and '.join(step.scanners)} will be asked about it, {when}."
        case HandOver():
            attempt = f"Attempt {step.attempt}, to {step.next_hop}, {_when(case, 'that')}, by {step.rule}."
            return f"{attempt} {_given_up(case)}{left(message)}"
        case _:
            assert_never(step)


def _in_quarantine(case: Case) -> str:
    nothing = "Nothing, until a person releases or discards it"
    if case.message.exempt_since is not None:
        return f"{nothing}: {legal_hold(case.message, case.message.exempt_since)}."
    since = case.message.quarantined_at or case.message.opened_at
    end = since + case.policy.retention.quarantined
    then = f"{times.away(end, case.now)} at {times.stamp(end)}" if end > case.now else "now"
    return f"{nothing}; it is discarded {then}, by [retention] quarantined."


def _when(case: Case, hop: str) -> str:
    """When it goes on; `hop` is what the next hop that it waits for is called there."""
    due = case.message.due_at
    if due is not None and due > case.now:
        return f"{times.away(due, case.now)} at {times.stamp(due)}"
    probe = case.probe_at
    if probe is not None and probe > case.now:
        return f"once {hop} is up again (one message tries {times.away(probe, case.now)}, at {times.stamp(probe)})"
    return "now" if case.gateway_runs is not False else "as soon as a gateway runs"


def _given_up(case: Case) -> str:
    at = max(case.now, case.message.due_at or case.now)
    end = case.message.going_since(at) + case.policy.give_up_after
    if end <= at:
        return "It is given up if that is deferred too."
    return f"If that goes on, it is given up {times.away(end, case.now)} at {times.stamp(end)}."


def _awaited(case: Case, scanner: str) -> str:
    """Which scanner can't say anything, why, and for how long it could not."""
    entries = [step.entry for step in case.life]
    said = [e for e in entries if isinstance(e.event, Scanned) and e.event.scanner == scanner]
    first = said[-1]
    for entry in reversed(said):
        if cast(Scanned, entry.event).retry_at is None:
            break
        first = entry
    last = cast(Scanned, said[-1].event)
    known = "" if case.policy.scanner(scanner) else "; it is no longer configured"
    waits = f"waited for since {times.stamp(first.at)} ({times.away(first.at, case.now)})"
    return f"{scanner}: {last.detail or 'no verdict'}; {waits}{known}"


def _undeleted(one: Undeleted) -> str:
    return (
        f"the server refuses to delete it, since {times.stamp(one.since)}: {one.text or 'without a reason'}"
    )


def _lease(case: Case) -> str:
    lease = case.lease
    if lease is None or lease["holder"] is None or lease["lease_until"] is None:
        return "nobody holds it"
    if lease["lease_until"] > case.now:
        return f"held by {lease['holder']} until {times.stamp(lease['lease_until'])}: it is being worked on"
    return f"of {lease['holder']}, run out {times.away(lease['lease_until'], case.now)}: the next gateway takes over"


def _limit(case: Case, hop: Json) -> str:
    """What is known of how much it takes. What it says at EHLO is asked by the gateway, and not on record."""
    name, learnt = hop["next_hop"], hop.get("size_limit_octets")
    configured = (case.policy.hop(name) or HopPolicy()).max_size_octets
    limit, by = (learnt, "as a refusal taught") if configured is None else (configured, "by its max_size")
    return (
        ""
        if limit is None
        else f"; it takes no more than {times.size(limit)}, {by}, or less if its EHLO says so"
    )
