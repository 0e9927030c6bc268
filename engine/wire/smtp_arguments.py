"""What a client writes behind MAIL and RCPT: a path and parameters (RFC 5321 section 4.1.2, 1870, 3461, 4954, 6152, 6531).

Owns the syntax, and nothing but the syntax: whether an address is any good, and who may send to it, is decided elsewhere.
What RFC 3461 says of reports is kept as it was written, for it is passed on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from engine.wire.smtp import ORCPT_CHARACTERS

ENVID_CHARACTERS: Final = 100  # RFC 3461 section 4.4

_QUOTED: Final = r'"(?:[^"\\]|\\.)*+"'
# A path in angle brackets, as it must be; bare, as many a machine on a network writes it.
_PATH: Final = re.compile(
    rf'[ \t]*+(?:<(?:@[^:<>"\s]*+:)?(?P<mailbox>(?:{_QUOTED}|[^"<>\\\s])*+)>|(?P<bare>(?:{_QUOTED}|[^"<>\\\s])++))'
    r"(?:[ \t]++(?P<parameters>.*))?",
    re.DOTALL,
)
_PARAMETER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*+(?:=[^=\s\x00-\x20\x7f]++)?")
_XTEXT: Final = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})+")
_ORCPT: Final = re.compile(r"(?P<type>[A-Za-z0-9!#$%&'*/?^_`{|}~.-]+);(?P<address>.+)")
_ORCPT_UTF8: Final = re.compile(r"[!-<>-~\u0080-\U0010ffff]+")
_DIGITS: Final = re.compile(r"[0-9]{1,20}")  # RFC 1870 section 3
MOST_OCTETS: Final = 2**63 - 1  # what a store takes
_NOTIFY: Final = frozenset({"SUCCESS", "FAILURE", "DELAY"})

SYNTAX_MAIL: Final = "501 5.5.4 Syntax: MAIL FROM:<address> [parameters]"
SYNTAX_RCPT: Final = "501 5.5.4 Syntax: RCPT TO:<address> [parameters]"


class ArgumentFault(Exception):
    """It can't be read; `reply` is what to answer, with codes, without line ending."""

    def __init__(self, reply: str) -> None:
        super().__init__(reply)
        self.reply = reply


@dataclass(frozen=True, slots=True, kw_only=True)
class MailArgument:
    """What stands behind MAIL FROM. `mailbox` is "" for the null reverse-path, `size_octets` what the client expects."""

    mailbox: str
    size_octets: int | None = None
    smtputf8: bool = False
    ret: Literal["FULL", "HDRS"] | None = None
    envid: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RcptArgument:
    """What stands behind RCPT TO. `notify` is in upper case; it and `orcpt` are "" where nothing was said."""

    mailbox: str
    notify: str = ""
    orcpt: str = ""


def mail_argument(text: str, *, extended: bool) -> MailArgument:
    """Read "FROM:<a@b> SIZE=1000"; after HELO no parameters are known. Raises ArgumentFault."""
    mailbox, written = _parts(text, "FROM:", SYNTAX_MAIL)
    if not written:
        return MailArgument(mailbox=mailbox)
    given = _parameters(written, SYNTAX_MAIL)
    known = MailArgument(
        mailbox=mailbox,
        size_octets=_size(given.pop("SIZE", None)),
        smtputf8=_flag("SMTPUTF8", given),
        ret=_ret(given.pop("RET", None)),
        envid=_envid(given.pop("ENVID", None)),
    )
    if given.pop("BODY", "7BIT").upper() not in ("7BIT", "8BITMIME"):
        raise ArgumentFault("501 5.5.4 BODY is 7BIT or 8BITMIME")
    given.pop(
        "AUTH", None
    )  # who wrote it to somebody before us (RFC 4954 section 5): we take nobody's word for it
    _refuse_unknown(given, extended=extended)
    return known


def rcpt_argument(text: str, *, extended: bool, utf8: bool) -> RcptArgument:
    """Read "TO:<a@b> NOTIFY=NEVER"; `utf8` where MAIL said SMTPUTF8. Raises ArgumentFault."""
    mailbox, written = _parts(text, "TO:", SYNTAX_RCPT)
    if not written:
        return RcptArgument(mailbox=mailbox)
    given = _parameters(written, SYNTAX_RCPT)
    known = RcptArgument(
        mailbox=mailbox,
        notify=_notify(given.pop("NOTIFY", "")),
        orcpt=_orcpt(given.pop("ORCPT", ""), utf8=utf8),
    )
    _refuse_unknown(given, extended=extended)
    return known


def _parts(text: str, keyword: str, syntax: str) -> tuple[str, str]:
    """The mailbox and the parameters as they are written; a source route falls away (RFC 5321 appendix C)."""
    found = _PATH.fullmatch(text, len(keyword)) if text[: len(keyword)].upper() == keyword else None
    if found is None:
        raise ArgumentFault(syntax)
    mailbox, bare, parameters = found.groups()
    return mailbox if bare is None else bare, (parameters or "").strip()


def _parameters(written: str, syntax: str) -> dict[str, str]:
    """Parameters by their names in upper case; "" for one without a value."""
    given: dict[str, str] = {}
    for word in written.split():
        if not _PARAMETER.fullmatch(word):
            raise ArgumentFault(syntax)
        name, _, value = word.partition("=")
        if name.upper() in given:
            raise ArgumentFault(f"501 5.5.4 {name.upper()} is given twice")
        given[name.upper()] = value
    return given


def _refuse_unknown(given: dict[str, str], *, extended: bool) -> None:
    for name in given:
        raise ArgumentFault(f"555 5.5.4 Parameter {name} is not known here")
    if not extended:
        raise ArgumentFault("555 5.5.4 Parameters need EHLO")


def _size(value: str | None) -> int | None:
    if value is None:
        return None
    if not _DIGITS.fullmatch(value):
        raise ArgumentFault("501 5.5.4 SIZE is a number of octets")
    return min(int(value), MOST_OCTETS)


def _flag(name: str, given: dict[str, str]) -> bool:
    value = given.pop(name, None)
    if value:
        raise ArgumentFault(f"501 5.5.4 {name} takes no value")
    return value is not None


def _ret(value: str | None) -> Literal["FULL", "HDRS"] | None:
    match value and value.upper():
        case None:
            return None
        case "FULL":
            return "FULL"
        case "HDRS":
            return "HDRS"
        case _:
            raise ArgumentFault("501 5.5.4 RET is FULL or HDRS")


def _envid(value: str | None) -> str | None:
    if value is not None and (len(value) > ENVID_CHARACTERS or not _XTEXT.fullmatch(value)):
        raise ArgumentFault(f"501 5.5.4 ENVID is xtext of at most {ENVID_CHARACTERS} characters")
    return value


def _notify(value: str) -> str:
    words = value.upper().split(",") if value else []
    if words and words != ["NEVER"] and not _NOTIFY.issuperset(words):
        raise ArgumentFault("501 5.5.4 NOTIFY is NEVER, or of SUCCESS, FAILURE, DELAY")
    return ",".join(dict.fromkeys(words))


def _orcpt(value: str, *, utf8: bool) -> str:
    if not value:
        return ""
    found = _ORCPT.fullmatch(value)
    if found is None or len(value) > ORCPT_CHARACTERS or not _original(found, utf8=utf8):
        raise ArgumentFault("501 5.5.4 ORCPT is a type, a semicolon and an address as xtext")
    return value


def _original(found: re.Match[str], *, utf8: bool) -> bool:
    """Whether the address is written as its type asks for (RFC 3461 section 4.2, RFC 6533 section 3)."""
    address = found["address"]
    if found["type"].lower() == "utf-8":
        return (utf8 or address.isascii()) and _ORCPT_UTF8.fullmatch(address) is not None
    return _XTEXT.fullmatch(address) is not None
