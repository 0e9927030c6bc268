"""SMTP as the client speaks it (RFC 5321, 1870, 2920, 6152, 6531), octets in, octets out.

Owns the reply parser, the command lines of a mail transaction, and `Dialogue`: one mail transaction that
pairs each reply with its command, strictly first in, first out. A reply taken for that of another command
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
from dataclasses import dataclass
from typing import Literal

# RFC 5321 section 4.5.3.1.5 allows 512 octets; servers that quote a whole URL or policy text exceed it.
MOST_LINE_OCTETS = 2048
# An EHLO reply has some 20 lines, a verbose refusal about ten.
MOST_REPLY_LINES = 128
MOST_REPLY_OCTETS = 65_536
# What is kept of a reply's text. Events carry it, and no reason is longer.
MOST_TEXT_CHARACTERS = 2000
# RFC 5321 section 4.5.3.1.3 allows 256 octets; longer ones are left to the server, up to what a command
# line may hold.
MOST_ADDRESS_OCTETS = 1000

Phase = Literal["envelope", "content", "answer", "over"]
Command = Literal["RSET", "MAIL", "RCPT", "DATA", "final dot", "lone dot"]

_ENHANCED = re.compile(r"([245])\.[0-9]{1,3}\.[0-9]{1,3}(?=\s|$)")
# Nothing that ends a command or a path early: no control characters; quotes in pairs; angle brackets and
# backslashes only inside quotes, where RFC 5321 section 4.1.2 has them.
_ADDRESS = re.compile(r'(?:[^"<>\\\x00-\x1f\x7f]|"(?:[^"\\\x00-\x1f\x7f]|\\[^\x00-\x1f\x7f])*")+')


class SmtpFault(Exception):
    """The far side broke the protocol; nothing that it says on this connection can be trusted any more."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole reply: `text` is one line, the lines of a long one joined by " / ", control characters shown
    as "?".
    """

    code: int
    text: str

    @property
    def positive(self) -> bool:
        return 200 <= self.code < 300

    @property
    def negative(self) -> bool:
        return self.code >= 400

    @property
    def enhanced(self) -> str | None:
        """The enhanced status code (RFC 3463, RFC 2034), if the text starts with one whose class fits the
        code.
        """
        found = _ENHANCED.match(self.text)
        return found.group() if found and int(found.group(1)) == self.code // 100 else None


def visible(text: str) -> str:
    """`text` in one line: tabs and line ends as spaces, what can't be printed as "?", bounded in length."""
    text = text[: MOST_TEXT_CHARACTERS + 1]
    if not text.isprintable():
        text = "".join(c if c.isprintable() else " " if c in "\t\r\n" else "?" for c in text)
    return text if len(text) <= MOST_TEXT_CHARACTERS else text[: MOST_TEXT_CHARACTERS - 1] + "…"


class ReplyParser:
    """Octets in, whole replies out. Bounded in line, reply and text length; raises `SmtpFault`."""

    __slots__ = ("_code", "_lines", "_octets", "_rest")

    def __init__(self) -> None:
        self._rest = b""
        self._code = b""
        self._lines: list[bytes] = []
        self._octets = 0

    @property
    def between_replies(self) -> bool:
        """True while no part of a reply has arrived."""
        return not self._rest and not self._lines

    def feed(self, octets: bytes) -> list[Reply]:
        """The replies that these octets complete."""
        *lines, self._rest = (self._rest + octets).split(b"\r\n")
        # A reply may quote what we sent. If a lone LF ended a line, a quoted one could forge a reply.
        if len(self._rest) > MOST_LINE_OCTETS or b"\n" in self._rest:
            raise SmtpFault(f"reply line is too long or doesn't end with CRLF: {_sample(self._rest)}")
        return [reply for line in lines if (reply := self._take(line)) is not None]

    def _take(self, line: bytes) -> Reply | None:
        code, mark = line[:3], line[3:4]
        if not (len(code) == 3 and code.isdigit() and code[:1] in b"2345" and mark in (b"", b" ", b"-")) or (
            len(line) > MOST_LINE_OCTETS or b"\n" in line
        ):
            raise SmtpFault(f"not a reply line: {_sample(line)}")
        if self._lines and code != self._code:
            raise SmtpFault(f"reply starts with {self._code.decode()} and goes on with: {_sample(line)}")
        self._code = code
        self._lines.append(line[4:])
        self._octets += len(line)
        if len(self._lines) > MOST_REPLY_LINES or self._octets > MOST_REPLY_OCTETS:
            raise SmtpFault(f"reply is longer than {MOST_REPLY_LINES} lines or {MOST_REPLY_OCTETS} octets")
        if mark == b"-":
            return None
        lines, self._lines, self._octets = self._lines, [], 0
        return Reply(int(code), _joined(lines))


def _sample(line: bytes) -> str:
    return visible(line[:80].decode("utf-8", "replace"))


def _joined(lines: list[bytes]) -> str:
    """The lines in one; an enhanced code that each line repeats is kept once."""
    texts = [line.decode("utf-8", "replace").strip() for line in lines]
    found = _ENHANCED.match(texts[0])
    if found and len(texts) > 1:
        texts[1:] = [text.removeprefix(found.group()).strip() for text in texts[1:]]
    return visible(" / ".join(text for text in texts if text))


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
    reverse_path: str, *, size_octets: int | None = None, eight_bit: bool = False, utf8: bool = False
) -> bytes:
    """MAIL FROM with the parameters that the server offers and the message needs (RFC 1870, 6152, 6531)."""
    line = f"MAIL FROM:<{reverse_path}>"
    if size_octets is not None:
        line += f" SIZE={size_octets}"
    if eight_bit:
        line += " BODY=8BITMIME"
    if utf8:
        line += " SMTPUTF8"
    return line.encode("utf-8") + b"\r\n"


def rcpt_command(recipient: str) -> bytes:
    """RCPT TO for one recipient."""
    return b"RCPT TO:<" + recipient.encode("utf-8") + b">\r\n"


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
        return self.phase == "over" and self.farewell is None and self.interruption is None

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
            if not self._parser.between_replies and not self._awaited and self.farewell is None:
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
