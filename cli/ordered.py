"""What came of an order on messages: a line or an object for each."""

from __future__ import annotations

import sys
from typing import assert_never

from cli import render, times
from cli.message import Json
from engine.core.orders import EXEMPTING, Decided, Order, Refused, UnderWay, Verb
from engine.core.plan import HandOver, Record, Scan, plan
from engine.core.policy import Policy
from engine.orders import Done
from store.events import RejectedOversize
from store.life import Message

PAST: dict[Verb, str] = {
    "hold": "held",
    "release": "released",
    "discard": "discarded",
    "fail": "failed",
    "keep": "kept from retention",
    "unkeep": "left to retention",
}


def doubt(order: Order, decided: Decided) -> str:
    """Say who may have it already, where nobody knows."""
    if not decided.doubtful or order.verb == "hold":
        return ""
    hops = " or ".join(sorted({r.next_hop or "the next hop" for r in decided.doubtful}))
    who = ", ".join(r.address or f"recipient {r.number + 1}" for r in decided.doubtful)
    if order.verb == "release":
        return f"{hops} may have it already: {who} may get it twice"
    return f"{hops} may have it already: {who} may have got it"


class Said:
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
        parts += [text for text in [doubt(self._order, decided)] if text]
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
            case Record(events=(RejectedOversize() as large, *_)):
                return f"{released}, and will be {large.NAME}: {large.reply}"
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
