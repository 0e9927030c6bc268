"""The client side of POP3 as a value: commands in, octets out; octets in, happenings out.

Owns which command may be sent when, and which reply belongs to which command (RFC 1939, RFC 2449, RFC 2595,
RFC 5034). Does no I/O and has no clock: whoever holds it moves the octets and loses patience.

    link = Pop3()
    link.feed(b"+OK ready\r\n")      -> [Greeted(...)]
    link.send(pop3_commands.CAPA)    -> b"CAPA\r\n"

Two rules. Everything that says what may follow what is in `pop3_phases`. Replies are paired strictly in the
order of the commands: an octet that fits no reply ends the conversation as `Broken`, never shifts the
pairing by one.

The second rule needs care where a server forgets to stuff a dot: its message then seems to end early and
the rest of it passes for replies. So a message that LIST said is not empty and that comes without one octet
ends the conversation at once; and a message that is shorter than LIST said is kept back while another reply
is due, until that one begins well.
"""

from __future__ import annotations

import base64
import binascii
from collections import deque
from typing import Final

from engine.wire.lines import CRLF, LF, DotBody, LineBuffer, TooLong
from engine.wire.pop3_commands import SECRET_VERBS, BadCommand, Command, timestamp_of
from engine.wire.pop3_phases import PHASES, Phase
from engine.wire.pop3_replies import (
    Broken,
    Capabilities,
    Challenged,
    Greeted,
    Happening,
    Replied,
    capabilities_of,
    text_of,
)
from engine.wire.sasl import RESPONSE_OCTETS_LIMIT

# RFC 2449 section 4 allows 512 octets; servers that quote a whole policy in an -ERR line go beyond.
STATUS_LINE_OCTETS_LIMIT: Final = 4096


class Misuse(Exception):
    """Our side asked for something the phase does not allow: a defect of the caller."""


class _OutOfStepError(Exception):
    """The server broke the protocol where a status line was due."""


class Pop3:
    """One conversation, from the greeting on."""

    __slots__ = (
        "_body",
        "_lines",
        "_outstanding",
        "_released",
        "_status",
        "_unproven",
        "capabilities",
        "phase",
    )

    def __init__(self) -> None:
        self.phase = Phase.GREETING
        self.capabilities: Capabilities = {}
        self._lines = LineBuffer()
        self._outstanding: deque[Command] = deque()
        self._status = b""  # of the multi-line reply that is being collected
        self._body: DotBody | None = None
        self._unproven: Replied | None = None  # shorter than listed, kept back until the next reply begins
        self._released: Replied | None = (
            None  # shorter than listed, handed out as the last reply that was due
        )

    @property
    def outstanding(self) -> int:
        """How many commands still wait for the end of their reply."""
        return len(self._outstanding)

    @property
    def collected(self) -> Command | None:
        """The command whose multi-line reply is being collected."""
        return self._outstanding[0] if self._body is not None else None

    @property
    def awaited(self) -> bool:
        """Whether it is the server's turn."""
        return bool(self._outstanding) or self.phase is Phase.GREETING

    @property
    def pipelining(self) -> bool:
        """Whether a command may be sent before the reply to the last one (RFC 2449 section 6.6)."""
        return "PIPELINING" in self.capabilities

    @property
    def unfinished_octets(self) -> int:
        """How much has come of the reply that is not complete yet; 0 between replies."""
        if self._body is None:
            return len(self._lines)
        return len(self._status) + len(self._body.octets) + len(self._lines)

    def send(self, command: Command) -> bytes:
        """The octets of a command; its reply is now due. Raises Misuse."""
        allowed = PHASES[self.phase]
        if command.verb not in allowed:
            raise Misuse(f"{command.verb} has no place in the {self.phase.value} phase")
        if self._outstanding:
            last = self._outstanding[-1].verb
            if not self.pipelining or allowed[last] is not self.phase:
                raise Misuse(f"{command.verb} has to wait for the reply to {last}")
        self._outstanding.append(command)
        return command.line()

    def respond(self, response: bytes | None) -> bytes:
        """The octets of a SASL response; None cancels the exchange (RFC 5034 section 4). Raises Misuse."""
        if not self._outstanding or self._outstanding[0].verb != "AUTH":
            raise Misuse("no AUTH is under way")
        line = b"*" if response is None else base64.b64encode(response)
        if len(line) > RESPONSE_OCTETS_LIMIT:
            raise BadCommand(f"AUTH: the response is longer than {RESPONSE_OCTETS_LIMIT} octets")
        return line + CRLF

    def tls_started(self) -> None:
        """The handshake is done: what was learnt in the clear is forgotten (RFC 2595 section 4). Raises
        Misuse.
        """
        if self.phase is not Phase.TLS:
            raise Misuse("no +OK to STLS was seen")
        self.phase = Phase.AUTHORIZATION
        self.capabilities = {}

    def feed(self, octets: bytes) -> list[Happening]:
        """Take octets as they came and say what happened. After `Broken` and after +OK to QUIT nothing more
        does.
        """
        if self.phase is Phase.CLOSED:
            return []
        self._lines.feed(octets)
        happenings: list[Happening] = []
        try:
            while self._step(happenings):
                pass
        except _OutOfStepError as trouble:
            self._blame_what_was_due(happenings, str(trouble))
        except TooLong as trouble:
            what = "the status line is" if self._body is None else "the server sent"
            self._blame_what_was_due(happenings, f"{what} {trouble}")
        return happenings

    def end(self, text: str) -> list[Happening]:
        """The connection is lost or given up; `text` says why. A message kept back is not handed out."""
        if self.phase is Phase.CLOSED:
            return []
        return [self._break(self._outstanding[0] if self._outstanding else None, text, lost=True)]

    def _step(self, happenings: list[Happening]) -> bool:
        """Understand one more line or body; False where more octets are needed."""
        if self._body is not None:
            return self._take_body(self._body, happenings)
        if not self._lines or self.phase is Phase.CLOSED:
            return False
        if self.phase is Phase.GREETING:
            return self._take_greeting(happenings)
        if not self._outstanding:
            raise _OutOfStepError("the server sent octets nobody asked for" + self._quoted())
        return self._take_status(happenings)

    def _take_greeting(self, happenings: list[Happening]) -> bool:
        line = self._lines.line(STATUS_LINE_OCTETS_LIMIT)
        if line is None:
            return False
        ok = line.startswith(b"+OK")
        if not ok and not line.startswith(b"-ERR"):
            raise _OutOfStepError(f"this is no POP3 greeting: {text_of(line)!r}")
        happenings.append(Greeted(ok, line, timestamp_of(line)))
        self.phase = Phase.AUTHORIZATION if ok else Phase.CLOSED
        return True

    def _take_status(self, happenings: list[Happening]) -> bool:
        line = self._lines.line(STATUS_LINE_OCTETS_LIMIT)
        if line is None:
            return False
        command = self._outstanding[0]
        ok = line.startswith(b"+OK")
        if ok or line.startswith(b"-ERR"):
            self._hand_out_unproven(happenings)
            line_end = CRLF if line.endswith(CRLF) else LF
            if ok and command.multi_line:
                self._status = line
                self._body = DotBody(self._lines, line_end=line_end, limit_octets=command.limit_octets)
            else:
                self._finish(Replied(command, ok, line, None, line_end), happenings)
        elif command.verb == "AUTH" and line[:1] == b"+" and line[1:2] in (b" ", b"\r", b"\n"):
            happenings.append(Challenged(command, _decoded(line[1:])))
        else:
            raise _OutOfStepError(f"neither +OK nor -ERR to {command.verb}" + self._quoted(line))
        return True

    def _take_body(self, body: DotBody, happenings: list[Happening]) -> bool:
        if not body.take(self._lines):
            return False
        command = self._outstanding[0]
        if not body.octets and command.listed_octets:
            text = "the message ended before its first octet: the server does not stuff its first dot"
            happenings.append(self._break(command, text, lost=False))
            return False
        self._body = None
        if command.verb == "CAPA":
            self.capabilities = capabilities_of(body.octets)
        self._finish(Replied(command, True, self._status, body.octets, body.line_end), happenings)
        return True

    def _finish(self, reply: Replied, happenings: list[Happening]) -> None:
        """The reply at the head is complete: hand it out, or keep it back if it is short."""
        command = reply.command
        if reply.ok and command.verb == "STLS" and self._lines:
            raise _OutOfStepError("octets in the clear behind +OK to STLS: somebody may be on the line")
        self._outstanding.popleft()
        if reply.ok or command.verb == "QUIT":
            self.phase = PHASES[self.phase][command.verb]
        short = reply.ok and command.verb == "RETR" and len(reply.body or b"") < command.listed_octets
        if short and self._outstanding:
            self._unproven = reply
            return
        self._released = reply if short else None
        happenings.append(reply)

    def _hand_out_unproven(self, happenings: list[Happening]) -> None:
        self._released = None
        if self._unproven is not None:
            happenings.append(self._unproven)
            self._unproven = None

    def _blame_what_was_due(self, happenings: list[Happening], text: str) -> None:
        """End the conversation; where a short message came just before, that message is the one to blame."""
        blamed = self._outstanding[0] if self._outstanding else None
        suspect = self._unproven or self._released
        if self._body is None and suspect is not None:
            blamed = suspect.command
            if happenings and happenings[-1] is suspect:
                happenings.pop()
        happenings.append(self._break(blamed, text, lost=False))

    def _break(self, command: Command | None, text: str, *, lost: bool) -> Broken:
        self.phase = Phase.CLOSED
        self._lines.clear()
        self._outstanding.clear()
        self._body = self._unproven = self._released = None
        return Broken(command, text, lost)

    def _quoted(self, line: bytes | None = None) -> str:
        """What came instead, but never while a secret is on its way: a server may echo it."""
        if self._outstanding and self._outstanding[0].verb in SECRET_VERBS:
            return ""
        came = self._lines.octets[self._lines.start :][:STATUS_LINE_OCTETS_LIMIT] if line is None else line
        return f": {text_of(came)!r}"


def _decoded(challenge: bytes) -> bytes:
    """A challenge without base64; one that is no base64 is taken as it is, for it is only shown."""
    try:
        return base64.b64decode(challenge.strip(), validate=True)
    except binascii.Error:
        return challenge.strip()
