"""What an erasure would come to, or came to: counted message by message, in constant memory, and told in words."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from cli import render
from cli.render import counted

if TYPE_CHECKING:
    from engine.erasure import Erasing, Found

NAMED = 10  # messages told one by one; more are counted
IN_WORDS = {
    "reverse_path": "as sender",
    "recipients": "as recipient",
    "orcpt": "as recipient",
    "from": "in From",
    "subject": "in the subject",
    "message_id": "in the Message-ID",
    "reply": "in a reply",
    "reason": "in somebody's reason",
    "comment": "in somebody's reason",
    "text": "in the text of a notice",
}
ELSEWHERE = "elsewhere"
WAYS = (*dict.fromkeys(IN_WORDS.values()), ELSEWHERE)


class Plan:
    """The sum over all messages."""

    def __init__(self, found: Found) -> None:
        self.found = found
        self.going = self.staying = self.repeated = 0
        self.facts = self.octets = self.discarded = self.kept = self.reports = self.recipients = 0
        self.named: Counter[str] = Counter()
        self._left: list[str] = []  # the first of those that stay, and of those erased before
        self._before: list[str] = []

    def add(self, one: Erasing) -> None:
        """Take note of one message."""
        from engine.core.erasing import Going

        if not isinstance(one.answer, Going):
            self.repeated += one.answer.done
            self.staying += not one.answer.done
            some = self._before if one.answer.done else self._left
            if len(some) < NAMED:
                some.append(f"{one.target.stream}: {one.answer.text}")
            return
        self.going += 1
        self.facts += one.answer.facts
        self.octets += one.answer.octets
        self.discarded += one.discarded
        self.kept += one.kept
        self.reports += bool(one.target.about)
        self.recipients += len(one.message.recipients) if one.message is not None else 0
        self.named.update({IN_WORDS.get(name, ELSEWHERE) for name in one.target.facts})

    @property
    def left(self) -> list[str]:
        """Some that are left as they are, and why; first those that somebody still has to see to."""
        return [*self._left, *self._before][:NAMED]

    def show(self) -> None:
        """Print it."""
        if self.going:
            self._show_going()
        else:
            render.line(("nothing is to be erased", "bold"))
        for text in self.left:
            render.line(f"  left as it is: {text}")
        if (more := self.staying + self.repeated - len(self.left)) > 0:
            render.line(f"  left as they are: {more:,} more")
        if self.found.kept:
            render.line(f"  {that_stay(self.found)}")

    def _show_going(self) -> None:
        render.line((f"{counted(self.going, 'message')} to be erased:", "bold"))
        if self.named:
            often = sorted(self.named, key=lambda way: (-self.named[way], WAYS.index(way)))
            ways = ", ".join(f"{self.named[way]:,} {way}" for way in often)
            render.line(f"  named there: {ways}")
        if self.reports:
            those = "1 notice or report" if self.reports == 1 else f"{self.reports:,} notices or reports"
            render.line(f"  among them {those} about others")
        every = "all " if self.recipients > 1 else ""
        whose = f", of {every}{counted(self.recipients, 'recipient')}" if self.recipients else ""
        render.line(
            f"  addresses, subjects and replies in {counted(self.facts, 'event')} go{whose};"
            f" the octets of {counted(self.octets, 'message')} go"
        )
        if self.discarded:
            render.line(f"  {counted(self.discarded, 'message')} still open: discarded first, nobody gets it")
        if self.kept:
            render.line(
                f"  {counted(self.kept, 'message')} to be kept for somebody's reason: erased all the same"
            )


def that_stay(found: Found) -> str:
    """Return in words which facts with an address are not personal ones."""
    what = "names of operators, mailboxes and next hops, and what they wrote of mailboxes and erasures"
    return f"{counted(found.kept, 'event')} with the address in facts that stay: {what}"
