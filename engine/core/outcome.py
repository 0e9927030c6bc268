"""A mail transaction to be, and what came of it (RFC 5321 section 3.3).

Values only: adapters perform, `decide` reads the answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Octets = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class Reply:
    """What the far side said about one recipient, or about all of them; or why it said nothing.

    `code` is the SMTP reply code (RFC 5321 section 4.2), None where there was no reply: no connection, or one lost before
    the final dot; the text is ours then, and begins with an enhanced code. `enhanced` is the RFC 3463 code, where the text
    carries one. `scope` is who is to blame: the whole next hop (do not try others there now; whatever the code, it is no
    answer about a message), this message, or this recipient.
    """

    code: int | None
    text: str
    enhanced: str | None = None
    scope: Literal["next-hop", "message", "recipient"] = "recipient"
    limit_octets: int | None = (
        None  # what it announced to take at most, where it was not asked because of that
    )

    @property
    def said(self) -> str:
        """Code and text, as they go on record."""
        return self.text if self.code is None else f"{self.code} {self.text}"

    @property
    def permanent(self) -> bool:
        """Whether it is a no for good (RFC 5321 section 4.2.1) to a message or a recipient."""
        return self.code is not None and self.code >= 500 and self.scope != "next-hop"


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """The final dot was sent and nothing came back: nobody knows. `text` says what broke."""

    text: str


@dataclass(frozen=True, slots=True)
class LeftOut:
    """The transaction went on, or ended, without this recipient: to be sent in another, now.

    So with 452 4.5.3 (RFC 5321 section 4.5.3.1.10), and where the next hop hung up amid the envelope. Somebody else is always
    answered for himself in the same outcome: each transaction has fewer recipients than the one before.
    """

    reply: Reply


Answer = Reply | NoAnswer | LeftOut


@dataclass(frozen=True, slots=True)
class ReportWish:
    """What the client asked for about reports (RFC 3461), to be passed on to a next hop that offers DSN.

    `notify` and `orcpt` have a value for each recipient of the transaction, "" for nothing said, or are empty.
    """

    ret: Literal["FULL", "HDRS"] | None = None
    envid: str | None = None  # as xtext
    notify: tuple[str, ...] = ()
    orcpt: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Transaction:
    """One mail transaction to be.

    `content` is relayed as it is, behind `prefix` (header lines; at times the name of a field whose value the first line of
    the content is, or the beginning of the message, where fields in it were renamed); a lone CR or LF becomes CRLF on the
    way out. `recipients` are tried in this order. `clean` says that there is no lone CR or LF: nobody has to look again.
    `smtputf8` says that whoever submitted it asked for
    SMTPUTF8 (RFC 6531).
    """

    reverse_path: str  # without angle brackets; "" for the null reverse-path
    recipients: tuple[str, ...]
    prefix: bytes
    content: Octets
    clean: bool = False
    wish: ReportWish | None = None
    smtputf8: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a transaction: one answer for each recipient, in the order of `Transaction.recipients`."""

    answers: tuple[Answer, ...]
    address: str  # "192.0.2.1:25"; "" where no connection was made
    tls: str  # "TLSv1.3 TLS_AES_256_GCM_SHA384 verified", "… unverified" or "none"
    duration_ms: int
    dsn: bool = (
        False  # what the client wants reported was passed on: the next hop reports it itself (RFC 3461)
    )
