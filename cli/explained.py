"""What `mailgate explain --json` prints: the same answers, apart, for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, assert_never

from cli import decided
from cli.levers import levers
from cli.message import Json
from engine.core.plan import HandOver, Record, Rest, Scan, Step, goes_to
from store.recipient import Recipient

if TYPE_CHECKING:
    from cli.explain import Case


def as_json(case: Case, *, why: Sequence[str], then: str) -> Json:
    """Return it as an object; `why` and `then` are what a person reads, a line each."""
    message = case.message
    return {
        "id": message.id,
        "state": message.state,
        "since": decided.since(case.life),
        "why": list(why),
        "policy": decided.policy(case.life),
        "current_policy": case.policy.version,
        "recipients": [_recipient(one, case) for one in message.recipients],
        "next": _next(case.step, case) | {"text": then} if message.open else None,
        "lease": _lease(case),
        "next_hop": case.hop,
        "gateway_runs": case.gateway_runs,
        "settings": [{"key": key, "what": what} for key, what in levers(message, case.step, case.policy)],
    }


def _recipient(one: Recipient, case: Case) -> Json:
    routed = goes_to(case.message, one, case.policy) if one.open else None
    return {
        "address": one.address,
        "state": one.state,
        "routed_by": one.routed_by,
        "next_hop": routed.next_hop if routed else one.next_hop,
        "rule": routed.by if routed else None,
    }


def _next(step: Step, case: Case) -> Json:
    """What is done next: `at` is not before when; null where a person has to decide first."""
    at = case.message.due_at
    if at is not None and case.probe_at is not None:
        at = max(at, case.probe_at)
    blank: Json = {"action": None, "at": at, "next_hop": None, "rule": None, "attempt": None, "scanners": []}
    match step:
        case HandOver():
            return blank | {
                "action": "hand-over",
                "next_hop": step.next_hop,
                "rule": step.rule,
                "attempt": step.attempt,
            }
        case Scan():
            return blank | {"action": "scan", "scanners": list(step.scanners)}
        case Record():
            return blank | {"action": step.events[0].NAME}
        case Rest():
            return blank
        case _:
            assert_never(step)


def _lease(case: Case) -> Json | None:
    lease = case.lease
    if lease is None or lease["holder"] is None:
        return None
    return {"holder": lease["holder"], "until": lease["lease_until"]}
