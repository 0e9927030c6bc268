"""A stand-in for the organisation's own mail server: takes mail by SMTP and remembers what it took.

Owns a ledger in memory. Some recipients are refused for good, some are deferred a few times first, and
mail above a size is refused, so that a demonstration shows every fate. The ledger is written before the
reply. It relays nothing, knows no TLS and is for `mailgate demo`.

RFC 5321 (SMTP), RFC 1870 (SIZE), RFC 2920 (PIPELINING), RFC 6152 (8BITMIME), RFC 6531 (SMTPUTF8),
RFC 2034 (enhanced status codes).
"""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from cli.stand_ins import Conversation, LoopbackServer

PATH = re.compile(
    r'(?:FROM|TO):\s*<(?P<path>(?:"(?:[^"\\]|\\.)*"|[^<>"])*)>(?:\s+(?P<parameters>\S.*))?', re.IGNORECASE
)
SIZE = re.compile(r"\bSIZE=(\d{1,20})\b", re.IGNORECASE)
TOO_LARGE = "552 5.3.4 message exceeds the size limit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """One message the stand-in answered with 250: its envelope, its octets un-stuffed, and when."""

    reverse_path: str
    recipients: tuple[str, ...]
    octets: bytes
    at: datetime


class StandInHome(LoopbackServer):
    """`refused` recipients get 550; `deferrals` says how many times a recipient gets 451 first."""

    def __init__(
        self,
        *,
        clock: Callable[[], datetime],
        size_limit_octets: int,
        refused: Collection[str] = (),
        deferrals: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__()
        self.ledger: list[Taken] = []
        self.size_limit_octets = size_limit_octets
        self._clock = clock
        self._refused = frozenset(address.lower() for address in refused)
        self._deferrals = {address.lower(): count for address, count in (deferrals or {}).items()}

    async def converse(self, conversation: Conversation) -> None:
        await _Session(self, conversation).run()

    def _recipient_reply(self, recipient: str) -> str:
        """The scripted answer; each deferral is used up as it is given."""
        address = recipient.lower()
        if address in self._refused:
            return "550 5.1.1 no such recipient here"
        if self._deferrals.get(address, 0) > 0:
            self._deferrals[address] -= 1
            return "451 4.7.1 greylisted, try again later"
        return "250 2.1.5 recipient OK"

    def _take(self, reverse_path: str, recipients: list[str], octets: bytes) -> None:
        entry = Taken(
            reverse_path=reverse_path, recipients=tuple(recipients), octets=octets, at=self._clock()
        )
        self.ledger.append(entry)


class _Session:
    """One SMTP session and its open transaction."""

    def __init__(self, home: StandInHome, conversation: Conversation) -> None:
        self._home = home
        self._conversation = conversation
        self._reverse_path: str | None = None
        self._recipients: list[str] = []
        self._done = False
        self._verbs: dict[str, Callable[[str], str]] = {
            "EHLO": self._ehlo,
            "HELO": self._helo,
            "MAIL": self._mail,
            "RCPT": self._rcpt,
            "RSET": self._rset,
            "NOOP": self._noop,
            "QUIT": self._quit,
        }

    async def run(self) -> None:
        await self._say("220 home.example ESMTP mailgate stand-in")
        while not self._done:
            line = (await self._conversation.read_line()).decode("utf-8", "replace")
            verb, _, argument = line.partition(" ")
            if verb.upper() == "DATA":
                await self._data()
                continue
            answer = self._verbs.get(verb.upper())
            await self._say(answer(argument) if answer else "500 5.5.1 no such command")

    async def _say(self, reply: str) -> None:
        await self._conversation.write(reply.encode() + b"\r\n")

    def _ehlo(self, argument: str) -> str:
        self._forget()
        offers = (f"SIZE {self._home.size_limit_octets}", "8BITMIME", "PIPELINING", "SMTPUTF8")
        lines = ["home.example", *offers, "ENHANCEDSTATUSCODES"]
        return "\r\n".join([*(f"250-{line}" for line in lines[:-1]), f"250 {lines[-1]}"])

    def _helo(self, argument: str) -> str:
        self._forget()
        return "250 home.example"

    def _mail(self, argument: str) -> str:
        found = PATH.fullmatch(argument)
        if found is None:
            return "501 5.5.4 MAIL FROM:<reverse-path> expected"
        if self._reverse_path is not None:
            return "503 5.5.1 a transaction is open"
        size = SIZE.search(found["parameters"] or "")
        if size and int(size[1]) > self._home.size_limit_octets:
            return TOO_LARGE
        self._reverse_path = found["path"]
        return "250 2.1.0 OK"

    def _rcpt(self, argument: str) -> str:
        found = PATH.fullmatch(argument)
        if self._reverse_path is None:
            return "503 5.5.1 MAIL first"
        if found is None:
            return "501 5.5.4 RCPT TO:<forward-path> expected"
        reply = self._home._recipient_reply(found["path"])
        if reply.startswith("250"):
            self._recipients.append(found["path"])
        return reply

    async def _data(self) -> None:
        if self._reverse_path is None or not self._recipients:
            await self._say("554 5.5.1 no valid recipients")
            return
        await self._say("354 go ahead")
        octets = await self._conversation.read_content()
        reply = TOO_LARGE
        if len(octets) <= self._home.size_limit_octets:
            self._home._take(self._reverse_path, self._recipients, octets)
            reply = f"250 2.0.0 taken as {len(self._home.ledger)}"
        self._forget()
        await self._say(reply)

    def _rset(self, argument: str) -> str:
        self._forget()
        return "250 2.0.0 OK"

    def _noop(self, argument: str) -> str:
        return "250 2.0.0 OK"

    def _quit(self, argument: str) -> str:
        self._done = True
        return "221 2.0.0 bye"

    def _forget(self) -> None:
        self._reverse_path = None
        self._recipients = []
