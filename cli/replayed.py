"""What a replay comes to, added up; and one of its messages as JSON."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from cli import render
from cli.message import Json
from engine.core.replaying import Again, Nothing, Request

if TYPE_CHECKING:
    from engine.replay import Replayed
    from store.life import Message

NAMED = 10  # messages whose reason is told one by one; more are counted


class Summary:
    """What a plan adds up to, in constant memory."""

    def __init__(self, request: Request) -> None:
        self.going = 0
        self.repeated = 0  # were part of the same replay before
        self._request = request
        self._hops: Counter[str | None] = Counter()
        self._fetched = 0
        self._doubtful = 0
        self._released: Counter[str] = Counter()  # messages in quarantine, by why
        self._left_out: Counter[str] = Counter()
        self._nothing: Counter[str] = Counter()
        self._named: list[str] = []

    def add(self, one: Replayed) -> None:
        """Add a message."""
        self._left_out.update(why for _, why in one.answer.left_out)
        match one.answer:
            case Again() as again:
                self.going += 1
                self._fetched += again.fetched
                self._doubtful += len(again.doubtful)
                self._hops.update({hop for _, hop in again.to} if not again.fetched else ())
                self._released.update(_in_quarantine(one.message, again))
            case Nothing() as nothing:
                self.repeated += nothing.repeated
                self._nothing[nothing.of_many or nothing.text] += 1
                if len(self._named) < NAMED:
                    self._named.append(f"{one.stream}: {nothing.text}")

    def show(self, count: int) -> None:
        """Print it; `count` is how many messages were meant."""
        whom = f" to {', '.join(self._request.recipients)}" if self._request.recipients else ""
        of = "" if self.going == count else f" of {count:,}"
        what = "message is" if self.going == 1 and not of else "messages are"
        render.line((f"{self.going:,}{of} {what} to be delivered again{whom}:", "bold"))
        for hop, number in sorted(self._hops.items(), key=lambda pair: pair[0] or ""):
            unrouted = "has no route" if number == 1 else "have no route"
            render.line(
                f"  {number:,} through {hop}" if hop else f"  {number:,} {unrouted} and would be held"
            )
        if self._fetched:
            fetched = (
                "was never here and is fetched at the next poll, if its mailbox has it"
                if self._fetched == 1
                else "were never here and are fetched at the next poll, if their mailbox has them"
            )
            render.line(f"  {self._fetched:,} {fetched}")
        if self._released:
            whys = ", ".join(f"{number:,} {why}" for why, number in self._released.most_common())
            render.line((f"  {self._released.total():,} of them out of quarantine: {whys}", "bold"))
        if self._doubtful:
            whom = render.counted(self._doubtful, "recipient")
            render.line(f"  {whom} may have it already: nobody knows, and they may get it twice")
        for why, number in self._left_out.most_common():
            render.line(f"  left out: {render.counted(number, 'recipient')} that {_plural(why, number)}")
        if sum(self._nothing.values()) <= NAMED:
            for text in self._named:
                render.line(f"  nothing to do for {text}")
        else:
            for text, number in self._nothing.most_common():
                render.line(f"  nothing to do for {number:,}: {text}")


def _in_quarantine(message: Message | None, again: Again) -> list[str]:
    """Return why a message is in quarantine that this lets out of it; nothing where it doesn't."""
    if message is None or message.quarantined_why is None:
        return []
    kept = [r.number for r in message.recipients if r.state == "quarantined"]
    let_out = any(again.event.added or number in again.event.numbers for number in kept)
    return [message.quarantined_why] if let_out else []


def _plural(why: str, number: int) -> str:
    if number == 1:
        return why
    return re.sub(r"^(has|is|was)\b", lambda m: {"has": "have", "is": "are", "was": "were"}[m[1]], why)


def print_object(one: Replayed, replay: str | None) -> None:
    """Print one message as JSON. `replay` is the id under which it was done, None where it is only foreseen."""
    again = one.answer if isinstance(one.answer, Again) else None
    nothing = one.answer if isinstance(one.answer, Nothing) else None
    shown: Json = {
        "id": one.stream,
        "replay": replay,
        "done": again is not None and replay is not None,
        "to": [{"address": address, "next_hop": hop} for address, hop in again.to] if again else [],
        "left_out": [{"address": address, "why": why} for address, why in one.answer.left_out],
        "may_have_it": list(again.doubtful) if again else [],
        "fetched": again.fetched if again else False,
        "repeated": nothing.repeated if nothing else False,
        "error": nothing.text if nothing else None,
    }
    render.json_line(shown)
