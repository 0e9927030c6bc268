"""The commands of POP3 as values: a bad one cannot be made.

Owns their grammar and limits (RFC 1939, RFC 2449 section 4, RFC 2595 section 4, RFC 5034 section 4). No
command can carry CR, LF or NUL, so nothing in a user name or a password starts a command of its own.
Arguments stay out of every repr. Knows nothing of phases and replies: that is `engine.wire.pop3`.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import Final

COMMAND_OCTETS_LIMIT: Final = 255  # RFC 2449 section 4, CRLF included
PASSWORD_OCTETS_LIMIT: Final = (
    64 * 1024
)  # PASS may be longer: a token used as a password is, and servers take it
CAPA_OCTETS_LIMIT: Final = 64 * 1024  # servers list some 20 lines of at most 512 octets
LIST_OCTETS_LIMIT: Final = 32 * 1024 * 1024  # a million lines with a number and a size, and room to spare
UIDL_OCTETS_LIMIT: Final = 96 * 1024 * 1024  # a million with a number and a UIDL of 70 characters and more
TOP_OCTETS_LIMIT: Final = 1024 * 1024  # a header section; mail servers refuse those above some 256 KiB

SECRET_VERBS: Final = frozenset({"PASS", "APOP", "AUTH"})

_FORBIDDEN: Final = re.compile(rb"[\r\n\0]")
_TIMESTAMP: Final = re.compile(rb"<[!-;=?-~]+@[!-;=?-~]+>")  # an RFC 822 msg-id, as RFC 1939 section 7 asks


class BadCommand(ValueError):
    """What was asked cannot be said in POP3. The text names the command and never its arguments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command line and what its reply may be.

    `limit_octets` bounds a multi-line reply. `listed_octets` is what LIST said of the message. `about` is
    the caller's own: it comes back with the reply.
    """

    verb: str
    arguments: bytes = field(default=b"", repr=False)
    multi_line: bool = False
    limit_octets: int = 0
    listed_octets: int = 0
    about: object = None

    def __post_init__(self) -> None:
        if _FORBIDDEN.search(self.arguments):
            raise BadCommand(f"{self.verb}: CR, LF and NUL cannot be sent in a command")
        limit_octets = PASSWORD_OCTETS_LIMIT if self.verb == "PASS" else COMMAND_OCTETS_LIMIT
        if len(self.arguments) + len(self.verb) + len(" \r\n") > limit_octets:
            raise BadCommand(f"{self.verb}: the command is longer than {limit_octets} octets")

    def line(self) -> bytes:
        """The octets to send."""
        verb = self.verb.encode("ascii")
        return verb + b" " + self.arguments + b"\r\n" if self.arguments else verb + b"\r\n"


CAPA: Final = Command(verb="CAPA", multi_line=True, limit_octets=CAPA_OCTETS_LIMIT)
STLS: Final = Command(verb="STLS")
LIST: Final = Command(verb="LIST", multi_line=True, limit_octets=LIST_OCTETS_LIMIT)
UIDL: Final = Command(verb="UIDL", multi_line=True, limit_octets=UIDL_OCTETS_LIMIT)
NOOP: Final = Command(verb="NOOP")
RSET: Final = Command(verb="RSET")
QUIT: Final = Command(verb="QUIT")


def user(username: str) -> Command:
    """USER: the name may hold spaces, which servers take as part of it."""
    return Command(verb="USER", arguments=_words("USER", username))


def password(secret: str) -> Command:
    """PASS: the password may hold spaces (RFC 1939 section 7)."""
    return Command(verb="PASS", arguments=_words("PASS", secret))


def apop(username: str, secret: str, timestamp: bytes) -> Command:
    """APOP: the password as a digest with the greeting's timestamp (RFC 1939 section 7)."""
    if " " in username:
        raise BadCommand("APOP: a user name with a space cannot be sent, use another kind of login")
    digest = hashlib.md5(timestamp + _words("APOP", secret), usedforsecurity=False).hexdigest()
    return Command(verb="APOP", arguments=_words("APOP", username) + b" " + digest.encode("ascii"))


def timestamp_of(greeting: bytes) -> bytes | None:
    """The APOP timestamp in a greeting, or None. It must look like a message id: anything else may be
    chosen text that makes the digest give the password away.
    """
    found = _TIMESTAMP.search(greeting)
    return found.group() if found else None


def retr(number: int, *, listed_octets: int, limit_octets: int, about: object = None) -> Command:
    """RETR: fetch message `number`; a reply of more than `limit_octets` is cut off."""
    return Command(
        verb="RETR",
        arguments=b"%d" % number,
        multi_line=True,
        limit_octets=limit_octets,
        listed_octets=listed_octets,
        about=about,
    )


def top(number: int, *, listed_octets: int, lines: int = 0, about: object = None) -> Command:
    """TOP: the header section of message `number` and the first `lines` lines of its body."""
    return Command(
        verb="TOP",
        arguments=b"%d %d" % (number, lines),
        multi_line=True,
        limit_octets=TOP_OCTETS_LIMIT,
        listed_octets=listed_octets,
        about=about,
    )


def dele(number: int, *, about: object = None) -> Command:
    """DELE: mark message `number` for removal at QUIT."""
    return Command(verb="DELE", arguments=b"%d" % number, about=about)


def _words(verb: str, text: str) -> bytes:
    """Text as octets: UTF-8, as RFC 6856 section 2.2 has it."""
    try:
        octets = text.encode("utf-8")
    except UnicodeEncodeError:
        raise BadCommand(f"{verb}: the text is no valid Unicode") from None
    if not octets:
        raise BadCommand(f"{verb}: an empty argument cannot be sent")
    return octets
