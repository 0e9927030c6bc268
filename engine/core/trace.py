"""The trace: our own Received field, and what Received fields tell of loops (RFC 5321 sections 4.4, 6.3).

Owns: writing our own Received field so that it can be recognised later, counting hops, seeing our own
traces. Never touches other people's fields, never writes a login name, a secret, or more than one recipient
(that would show blind copies). Whatever text comes in, one well-formed ASCII field goes out.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache

from engine.core import envelope, headers
from engine.core.headers import Octets

# RFC 5321 section 6.3 wants at least 100: a lower limit holds good mail that came a long way. Loops through
# this gateway are seen by our own trace at the third passage; the count only stops those that strip it. A
# home server with a lower limit (Exchange: 30) says so itself, and its reply is on record.
HOPS_LIMIT = 100
# Mail that came in, and that the home server forwards to the outside through us, passes here twice and
# carries one trace the second time. Two traces mean a third passage: nobody does that on purpose.
OWN_TRACES_LIMIT = 2
# RFC 5322 section 2.1.1.
LINE_LENGTH_CHARACTERS = 78
# A domain name has 255 octets at most (RFC 1035); the other words get as much, so that no line comes near
# 998.
WORD_LIMIT_CHARACTERS = 255

FIRST_LINE = b"X-Mailgate-First-Line:"

_MARK = b"(mailgate)"
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_NOT_DOMAIN = re.compile(r"[^A-Za-z0-9.:_\[\]-]")
_NOT_ATOM = re.compile(r"[^A-Za-z0-9._-]")
_NOT_COMMENT = re.compile(r"[^!-'*-\[\]-~]+")
_SEPARATOR = re.compile(rb">*From [^\r\n]*\r?\n[!-9;-~]+[ \t]*:")  # and a field behind it
_OWN = re.compile(rb"\bby\s+(\S+)\s+\(mailgate\)\s+with\s+\S+\s+id\s+([A-Za-z0-9._-]+)", re.IGNORECASE)


def received(
    *,
    hostname: str,
    source: str,
    protocol: str,
    id: str,
    recipient: str | None,
    now: datetime,
    peer_ip: str | None = None,
) -> bytes:
    """Our Received field, folded, with CRLF at its end.

    With protocol "POP3", `source` is free text ("mailbox info at pop.example") and becomes a comment: no
    from clause, as no client sent this, and scanners that judge clients pass the field over. With an SMTP
    protocol ("ESMTPS", RFC 3848), `source` is the name the client gave itself and `peer_ip` its address;
    without either there is no from clause.
    `id` is the message's id, `recipient` is None when there are several. `now` is an aware time.
    """
    words = ["Received:"]
    if protocol.upper().startswith("POP"):
        words += f"({words_of(source)})".split(" ")
    elif source or peer_ip:
        words += ["from", _domain(source)] + ([f"({_literal(peer_ip)})"] if peer_ip else [])
    words += [f"by {_domain(hostname)}", _MARK.decode(), f"with {_atom(protocol)}", f"id {_atom(id)}"]
    if recipient is not None and recipient.isascii() and envelope.valid(recipient):
        words.append(f"for <{recipient}>")
    words[-1] += ";"
    return _folded([*words, date(now)])


def bridge(octets: Octets) -> bytes:
    """What to put between our field and a message whose first line would spoil the header; mostly nothing.

    A line that begins with white space would become a part of our field. A separator line of the mbox format would end
    the header for many a server, and the fields behind it would be shown as text. Either becomes the value of a field
    that says so: not an octet of it changes, and it stays the first line of the message. Whatever else is no field
    is text, and taken for text.
    """
    first = octets[0] if len(octets) else 0
    if first in b" \t":
        return FIRST_LINE
    if first in b"F>" and _SEPARATOR.match(octets):
        return FIRST_LINE + b" "
    return b""


def hops(octets: Octets) -> int:
    """How many Received fields the header has."""
    return len(headers.received(octets))


def own_ids(octets: Octets, hostname: str) -> tuple[str, ...]:
    """The message ids in our own traces, from the top down: those with our mark and this hostname."""
    return _own_ids(headers.received(octets), hostname)


def loops(octets: Octets, hostname: str, *, limit_hops: int = HOPS_LIMIT) -> str | None:
    """Why this message is taken to go in circles, or None. To be asked before our own field is added."""
    values = headers.received(octets)
    if len(values) > limit_hops:
        return f"{len(values)} Received fields, more than {limit_hops}"
    own = _own_ids(values, hostname)
    if len(own) >= OWN_TRACES_LIMIT:
        return f"passed through {_domain(hostname)} {len(own)} times before, as {', '.join(own[:3])}"
    return None


def _own_ids(values: tuple[bytes, ...], hostname: str) -> tuple[str, ...]:
    ours = _domain(hostname).lower().encode()
    found = (_OWN.search(value) for value in values if _MARK in value)
    return tuple(own[2].decode() for own in found if own is not None and own[1].lower() == ours)


def _folded(words: list[str]) -> bytes:
    lines = [words[0]]
    for word in words[1:]:
        if len(lines[-1]) + 1 + len(word) > LINE_LENGTH_CHARACTERS:
            lines.append(f"\t{word}")
        else:
            lines[-1] += f" {word}"
    return "\r\n".join([*lines, ""]).encode("ascii")


def date(now: datetime) -> str:
    """RFC 5322 section 3.3, in UTC; English whatever the locale."""
    return _second(now.astimezone(UTC).replace(microsecond=0))


@lru_cache(maxsize=16)
def _second(at: datetime) -> str:
    day, month = _DAYS[at.weekday()], _MONTHS[at.month - 1]
    return f"{day}, {at.day} {month} {at.year:04} {at:%H:%M:%S} +0000"


@lru_cache(maxsize=256)
def _domain(text: str) -> str:
    return _NOT_DOMAIN.sub("?", text[:WORD_LIMIT_CHARACTERS]) or "unknown"


def _atom(text: str) -> str:
    return _NOT_ATOM.sub("-", text[:WORD_LIMIT_CHARACTERS]) or "unknown"


@lru_cache(maxsize=256)
def words_of(text: str) -> str:
    """Whatever text comes in, some words of ASCII, fit for a comment or for any field."""
    return " ".join(_NOT_COMMENT.sub(" ", text[:WORD_LIMIT_CHARACTERS]).split()) or "unknown"


def _literal(address: str) -> str:
    """An address literal (RFC 5321 section 4.1.3)."""
    bare = _domain(address.strip("[]"))
    return f"[IPv6:{bare}]" if ":" in bare else f"[{bare}]"
