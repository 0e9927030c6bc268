"""spamd's protocol SPAMC/1.5, as spamd/PROTOCOL of SpamAssassin has it: one question a connection.

SYMBOLS gives the score, its threshold and the names of the rules that hit, and no copy of the message. Never opens a socket.

aiospamc would fit the task, but not here: it wants an older typer than our own commands need, and brings a logger and a bundle
of certificates along.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from engine.wire.rubbish import Rubbish, shown

PIECE_OCTETS: Final = 64 * 1024
MOST_HEAD_OCTETS: Final = 8192
MOST_BODY_OCTETS: Final = 64 * 1024  # the rules of SpamAssassin all together have names of some 40 KB
MOST_RULES: Final = 100
MOST_RULE_CHARACTERS: Final = 100

_STATUS = re.compile(r"SPAMD/[0-9.]{1,9} ([0-9]{1,3}) ?(.*)")
# CHECK and SYMBOLS say True and False, REPORT says Yes and No.
_SPAM = re.compile(r"(True|Yes|False|No) ; (-?[0-9]+(?:\.[0-9]+)?) / (-?[0-9]+(?:\.[0-9]+)?)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A whole reply. `code` is that of sysexits.h, 0 for all is well; `text` what stands behind it.

    `spam`, `score` and `threshold` come of its Spam header, `body` is what follows.
    """

    code: int
    text: str
    spam: bool | None = None
    score: float | None = None
    threshold: float | None = None
    body: str = ""

    @property
    def rules(self) -> tuple[str, ...]:
        """The rules that hit, as SYMBOLS tells them."""
        names = (shown(name, MOST_RULE_CHARACTERS) for name in self.body.split(","))
        return tuple(name for name in names if name)[:MOST_RULES]


def ping() -> bytes:
    """Ask whether it is there."""
    return b"PING SPAMC/1.5\r\n\r\n"


def question(verb: str, octets: bytes | bytearray | memoryview, user: str | None = None) -> Iterator[bytes]:
    """SYMBOLS or HEADERS with a message, in the pieces to send. `user` is whose preferences count."""
    lines = [f"{verb} SPAMC/1.5", f"Content-length: {len(octets)}"]
    if user and user.isascii() and user.isprintable():
        lines.append(f"User: {user}")
    lead = "\r\n".join((*lines, "", "")).encode("ascii")
    view = memoryview(octets)
    yield lead + view[:PIECE_OCTETS]
    for at in range(PIECE_OCTETS, len(view), PIECE_OCTETS):
        yield bytes(view[at : at + PIECE_OCTETS])


class ReplyReader:
    """Takes what comes in; `reply` is there once it is whole.

    It is whole with as many octets as its Content-length says; without one, with the end of the connection. Complaints and the
    answer to PING have one line and no empty one.
    """

    def __init__(self) -> None:
        self.reply: Reply | None = None
        self._had = bytearray()

    def feed(self, octets: bytes) -> bool:
        """Take octets, b"" for the end of the connection; True once the reply is whole. Raises Rubbish."""
        self._had += octets
        if not self._had:
            return False
        if not b"SPAMD/".startswith(self._had[:6]):
            raise Rubbish(f"no reply of spamd: {shown(self._had)}")
        end = self._had.find(b"\r\n\r\n")
        if end >= 0:
            self._with_head(end, ended=not octets)
        elif len(self._had) > MOST_HEAD_OCTETS:
            raise Rubbish(f"a reply without end: {shown(self._had)}")
        elif not octets and self._had.endswith(b"\r\n") and self._had.count(b"\r\n") == 1:
            self.reply = _reply(self._had[:-2], b"")
        return self.reply is not None

    def _with_head(self, end: int, *, ended: bool) -> None:
        head, body = self._had[:end], self._had[end + 4 :]
        length = re.search(rb"\r\ncontent-length: *([0-9]{1,9}) *(?:\r\n|$)", head, re.IGNORECASE)
        if len(body) > (MOST_BODY_OCTETS if length is None else min(int(length[1]), MOST_BODY_OCTETS)):
            raise Rubbish(f"more than a reply: {shown(body)}")
        if len(body) == int(length[1]) if length else ended:
            self.reply = _reply(head, body)


def _reply(head: bytes | bytearray, body: bytes | bytearray) -> Reply:
    first, *lines = head.decode("utf-8", "replace").split("\r\n")
    status = _STATUS.fullmatch(first)
    if status is None:
        raise Rubbish(f"no reply of spamd: {shown(first)}")
    code, text = int(status[1]), shown(status[2])
    told = next(
        (value for name, _, value in (line.partition(":") for line in lines) if name.lower() == "spam"), None
    )
    if told is None:
        return Reply(code=code, text=text, body=body.decode("utf-8", "replace"))
    spam = _SPAM.fullmatch(told.strip())
    if spam is None:
        raise Rubbish(f"no verdict: {shown(told)}")
    return Reply(
        code=code,
        text=text,
        spam=spam[1].lower() in ("true", "yes"),
        score=float(spam[2]),
        threshold=float(spam[3]),
        body=body.decode("utf-8", "replace"),
    )
