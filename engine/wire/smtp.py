"""SMTP as the client speaks it (RFC 5321, 1870, 2920, 6152, 6531), octets in, octets out.

Owns the command lines of a mail transaction, and `Dialogue`: one mail transaction that pairs each reply
with its command, strictly first in, first out. A reply taken for that of another command
could report a message as delivered that was refused, so anything that doesn't fit raises `SmtpFault`: an
octet that arrives while no command waits for an answer, a line that is no reply line, a line ending that
isn't CRLF. The connection is then of no further use. The one exception is 421, which a server may send at
any time before it closes (RFC 5321 section 3.8). Never opens a socket, never reads a clock, never sends
content: `Dialogue` says when that may start.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from typing import Literal

from engine.wire.smtp_reply import Reply, ReplyParser, SmtpFault

# RFC 5321 section 4.5.3.1.3 allows 256 octets; longer ones are left to the server, up to what a command
# line may hold.
MOST_ADDRESS_OCTETS = 1000

ORCPT_CHARACTERS = 500  # RFC 3461 section 4.2

# The answer to any command of a session that has to log in, or to begin TLS, first (RFC 4954 section 6, RFC 3207 section 4).
ACCESS_FIRST = 530

Phase = Literal["envelope", "content", "answer", "over"]
Command = Literal["RSET", "MAIL", "RCPT", "DATA", "final dot", "lone dot"]

# Nothing that ends a command or a path early: no control characters; quotes in pairs; angle brackets and
# backslashes only inside quotes, where RFC 5321 section 4.1.2 has them.
_ADDRESS = re.compile(r'(?:[^"<>\\\x00-\x1f\x7f]|"(?:[^"\\\x00-\x1f\x7f]|\\[^\x00-\x1f\x7f])*")+')

_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]")


def address_fault(address: str) -> str | None:
    """Why this can't stand in MAIL FROM or RCPT TO, or None. The server judges what is merely wrong."""
    try:
        octets = len(address.encode("utf-8"))
    except UnicodeEncodeError:
        return "holds what isn't Unicode text"
    if octets > MOST_ADDRESS_OCTETS:
        return f"is longer than {MOST_ADDRESS_OCTETS} octets"
    if not _ADDRESS.fullmatch(address):
        return "is empty or holds a control character, an angle bracket or an unpaired quote"
    return None


def mail_command(
    reverse_path: str,
    *,
    size_octets: int | None = None,
    eight_bit: bool = False,
    utf8: bool = False,
    ret: str | None = None,
    envid: str | None = None,
) -> bytes:
    """MAIL FROM with the parameters that the server offers and the message needs (RFC 1870, 6152, 6531, 3461)."""
    line = f"MAIL FROM:<{reverse_path}>"
    if size_octets is not None:
        line += f" SIZE={size_octets}"
    if eight_bit:
        line += " BODY=8BITMIME"
    if utf8:
        line += " SMTPUTF8"
    line += f" RET={ret}" if ret else ""
    line += f" ENVID={envid}" if envid else ""
    return line.encode("utf-8") + b"\r\n"


def rcpt_command(recipient: str, *, notify: str = "", orcpt: str = "") -> bytes:
    """RCPT TO for one recipient, with what is asked for about reports (RFC 3461 section 4)."""
    line = f"RCPT TO:<{recipient}>"
    line += f" NOTIFY={notify}" if notify else ""
    line += f" ORCPT={orcpt}" if orcpt else ""
    return line.encode("utf-8") + b"\r\n"


def ascii_orcpt(orcpt: str) -> str:
    """Return an ORCPT as a server without SMTPUTF8 may be told it (RFC 6533 section 3); "" for one that gets too long."""
    escaped = _BEYOND_ASCII.sub(lambda found: rf"\x{{{ord(found[0]):X}}}", orcpt)
    return escaped if len(escaped) <= ORCPT_CHARACTERS else ""


class Dialogue:
    """One mail transaction. `start`, then `receive` what arrives and send what it returns.

    Phases: "envelope" until DATA is answered; "content" after 354: send it, then call `dot_sent`; "answer"
    until the reply to the final dot; "over". `recipient_replies` are in the order of the RCPT commands, as
    far as they came. With `pipelining` all commands are sent at once (RFC 2920). With `reset` RSET goes
    first.
    """

    __slots__ = (
        "_awaited",
        "_data",
        "_mail",
        "_parser",
        "_pipelining",
        "_rcpts",
        "_reset",
        "_surplus",
        "data_reply",
        "farewell",
        "final_reply",
        "interruption",
        "mail_reply",
        "phase",
        "recipient_replies",
    )

    def __init__(
        self, *, mail: bytes, recipients: Sequence[bytes], pipelining: bool, reset: bool = False
    ) -> None:
        self._mail = mail
        self._rcpts = recipients
        self._pipelining = pipelining
        self._reset = reset
        self._awaited: deque[Command] = deque()
        self._parser = ReplyParser()
        self.phase: Phase = "envelope"
        self.mail_reply: Reply | None = None
        self.recipient_replies: list[Reply] = []
        self.data_reply: Reply | None = None
        self.final_reply: Reply | None = None
        # 421, whatever it answered: the server is closing.
        self.farewell: Reply | None = None
        # A reply, not 421, that came between 354 and the final dot: the server gave up on the content.
        self.interruption: Reply | None = None
        self._surplus = False  # it said more than it was asked: what it says next would be paired wrongly

    @property
    def awaited(self) -> Command | None:
        """The command whose reply comes next."""
        return self._awaited[0] if self._awaited else None

    @property
    def over(self) -> bool:
        """True once nothing more will be said."""
        return self.phase == "over"

    @property
    def accepted(self) -> bool:
        """True where MAIL and at least one recipient were accepted."""
        return (
            self.mail_reply is not None
            and self.mail_reply.positive
            and any(reply.positive for reply in self.recipient_replies)
        )

    @property
    def reusable(self) -> bool:
        """True where the connection may carry another transaction."""
        gone = self.farewell is not None or self.interruption is not None or self._surplus
        return self.phase == "over" and not gone

    @property
    def left_open(self) -> bool:
        """True where the server may still hold an envelope: RSET first, next time."""
        return self.mail_reply is not None and self.mail_reply.positive and self.final_reply is None

    def start(self) -> bytes:
        """The first octets to send."""
        reset = self._send("RSET", b"RSET\r\n") if self._reset else b""
        if reset and not self._pipelining:
            return reset
        lines = [reset, self._send("MAIL", self._mail)]
        if self._pipelining:
            lines += [self._send("RCPT", line) for line in self._rcpts]
            lines.append(self._send("DATA", b"DATA\r\n"))
        return b"".join(lines)

    def receive(self, octets: bytes) -> bytes:
        """Pair what arrived with the commands; returns what to send next, maybe nothing. Raises SmtpFault."""
        try:
            answers = [self._pair(reply) for reply in self._parser.feed(octets)]
            calm = self._parser.between_replies or self._surplus
            if not calm and not self._awaited and self.farewell is None:
                raise SmtpFault("octets arrived while no command was outstanding")
        except SmtpFault:
            self.final_reply = None
            raise
        return b"".join(answers)

    def dot_sent(self) -> None:
        """The final dot was handed to the connection: from now on only its reply counts."""
        assert self.phase == "content"
        self.phase = "answer"
        self._awaited.append("final dot")

    def _send(self, command: Command, line: bytes) -> bytes:
        self._awaited.append(command)
        return line

    def _pair(self, reply: Reply) -> bytes:
        if self.farewell is not None:
            return b""
        command = self._awaited.popleft() if self._awaited else None
        if command is None and self._said_twice(reply):
            self._surplus = True
            return b""
        if command is None and self.phase == "content" and reply.code != 421:
            self.interruption = reply
            self.phase = "over"
            return b""
        if command is None and reply.code != 421:
            raise SmtpFault(f"a reply without a command: {reply.code} {reply.text}")
        if command is not None:
            self._record(command, reply)
        if reply.code == 421:
            self.farewell = reply
            self.phase = "over"
            self._awaited.clear()
            return b""
        assert command is not None
        return self._next(command, reply)

    def _said_twice(self, reply: Reply) -> bool:
        """Whether a server says yes to the content once more: whichever was the answer, it has taken the message."""
        return self.final_reply is not None and self.final_reply.positive and reply.positive

    def _record(self, command: Command, reply: Reply) -> None:
        """Keep the reply where it belongs, if it can be one to this command at all."""
        fits = reply.code == 354 if command == "DATA" else reply.positive
        if not (fits or reply.negative) or (command == "RSET" and not fits and reply.code != 421):
            raise SmtpFault(f"an impossible reply to {command}: {reply.code} {reply.text}")
        match command:
            case "MAIL":
                self.mail_reply = reply
            case "RCPT":
                self.recipient_replies.append(reply)
            case "DATA":
                self.data_reply = reply
            case "final dot":
                self.final_reply = reply
            case "RSET" | "lone dot":
                pass

    def _next(self, command: Command, reply: Reply) -> bytes:
        """What a reply, now on record, leads to."""
        if command in ("final dot", "lone dot"):
            self.phase = "over"
        elif command == "DATA":
            return self._after_data(reply)
        elif not self._pipelining:
            return self._one_by_one(command, reply)
        return b""

    def _one_by_one(self, command: Command, reply: Reply) -> bytes:
        if command == "RSET":
            return self._send("MAIL", self._mail)
        if command == "MAIL" and reply.negative:
            self.phase = "over"
        elif len(self.recipient_replies) < len(self._rcpts):
            return self._send("RCPT", self._rcpts[len(self.recipient_replies)])
        elif self.accepted:
            return self._send("DATA", b"DATA\r\n")
        else:
            self.phase = "over"
        return b""

    def _after_data(self, reply: Reply) -> bytes:
        if reply.negative:
            self.phase = "over"
        elif self.accepted:
            self.phase = "content"
        else:
            # 354 though nobody was accepted: an empty message ends it and nothing is delivered (RFC 2920
            # section 3.1).
            return self._send("lone dot", b".\r\n")
        return b""
