"""Addresses of the envelope: reverse-path and recipients (RFC 5321 section 4.1.2).

Owns: reading addresses out of text that people and machines wrote, comparing them, matching them against
patterns, and the reverse-path of a fetched message. Never looks anything up, never raises: text without an
address gives none.

An address is a str `local@domain`, the domain in lower case, UTF-8 kept as it is (RFC 6531). `valid` is
also the guard before an SMTP command: no control characters, no white space outside of quotes, no angle
brackets anywhere.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache

from engine.core.headers import TEXT_LIMIT_CHARACTERS, HeaderFacts

# RFC 5321 section 4.5.3.1.3: a path has 256 octets with its angle brackets. The 64 octets for a local part
# are not enforced: rewriting schemes (SRS, BATV, VERP) exceed them, and the next hop is the judge of its
# own addresses.
ADDRESS_LIMIT_OCTETS = 254
# One address with a long name around it; more is no address.
PARSE_LIMIT_CHARACTERS = 4096

# RFC 6531 allows any UTF-8; kept out are spaces, marks of direction, surrogates, private use and
# non-characters.
_UTF8 = (
    "\u00a1-\u167f\u1681-\u1fff\u2010-\u2027\u2030-\u205e\u2070-\u2fff\u3001-\ud7ff\uf900-\ufdcf\ufdf0-\ufefe"
    "\uff00-\uffef\U00010000-\U0001fffd\U00020000-\U0002fffd\U00030000-\U0003fffd"
)
# An address ends where one of these stands. Next to anything else it is a part of something: the half behind
# an octet that could not be read is another person's address.
_BORDER = r" \t\r\n<>()\[\],;:"
_PIECE = re.compile(r'"(?:[^"\\]|\\.)*+"|\\.|\[[^\[\]\s\\]*+\]|[^"\[\\()<>,;:]++|.', re.DOTALL)
_IN_COMMENT = re.compile(r"[^()\\]++|\\.|.", re.DOTALL)
_SOURCE_ROUTE = re.compile(r"\A@[^:<>]*+:")  # anywhere else it would be looked for at each place
_APOSTROPHES = re.compile(r"(?<![^\s<,;])'([^\s']+)'(?![^\s>,;])")
_SURROUNDINGS = str.maketrans('"<>()[]\\', "        ")


@cache
def _patterns(others: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """An address, and a local part without quotes; `others` are the characters allowed beside ASCII's."""
    atext = rf"A-Za-z0-9!#$%&'*+\-/=?^_`{{|}}~.{others}"
    quoted = rf'"(?:[ !#-;=?-\[\]-~{others}]|\\[ -;=?-~])*+"'
    label = rf"[A-Za-z0-9_\-{others}]++"
    spec = (
        rf"(?<![^{_BORDER}])(?P<local>[{atext}]++|{quoted})"
        rf"@(?P<domain>{label}(?:\.{label})*+\.?|\[[A-Za-z0-9:.\-]++\])(?![^{_BORDER}])"
    )
    return re.compile(spec), re.compile(rf"[{atext}]+")


def _spec(text: str) -> re.Pattern[str]:
    # The pattern for all of UTF-8 takes 50 ms to compile, and most runs never meet such an address.
    return _patterns("" if text.isascii() else _UTF8)[0]


def _dot_atom(text: str) -> re.Pattern[str]:
    return _patterns("" if text.isascii() else _UTF8)[1]


def parse(text: str) -> str | None:
    """The first address in `text`: `a@b`, `<a@b>`, `Name <a@b>`, `a@b (Name)`; None if there is none."""
    if len(text) > PARSE_LIMIT_CHARACTERS:
        return None
    spec = _spec(text).fullmatch(text.strip("<> \t"))
    if spec is not None and "'" not in text:
        return _address(spec)
    return next(iter(addresses(text)), None)


def addresses(text: str) -> tuple[str, ...]:
    """All addresses of an address list (RFC 5322 section 3.4), in order, repetitions kept.

    Display names, comments, group names and source routes (RFC 5321 appendix C) fall away. Where quotes,
    comments or brackets do not close, structure means nothing: every address that stands in the text is
    taken then.
    """
    scan = _Scan()
    if "'" in text:
        text = _APOSTROPHES.sub(r"\1", text)  # 'a@b', as some programs quote
    found = tuple(address for element in scan.elements(text) for address in _in_element(element))
    if found or not scan.unclosed:
        return found
    return _in_element(text.translate(_SURROUNDINGS))


def valid(text: str) -> bool:
    """Whether `text` is one address and nothing else, fit for an SMTP command."""
    spec = _spec(text).fullmatch(text)
    return spec is not None and not text.endswith(".") and _octets(text) <= ADDRESS_LIMIT_OCTETS


def domain(address: str) -> str:
    """What stands behind the last `@`, in lower case; "" for the null reverse-path."""
    return address.rpartition("@")[2].lower()


def key(address: str) -> str:
    """The form for comparing: all lower case, for hardly a server tells local parts apart by case."""
    return address.lower()


def matches(pattern: str, address: str) -> bool:
    """Whether `address` fits `pattern`, case aside. `*` stands for any run of characters.

    A pattern with a local part is held against the whole address; `@example.com` and `example.com` against
    the domain, subdomains not included (`*.example.com` names those). `*` alone fits all. "" and `<>` fit
    the null reverse-path only.
    """
    if pattern in ("", "<>"):
        return address == ""
    if pattern == "*":
        return True
    if "@" not in pattern or pattern.startswith("@"):
        return address != "" and glob(pattern.removeprefix("@"), domain(address))
    return glob(pattern, address)


def glob(pattern: str, text: str) -> bool:
    """Whether `text` as a whole fits `pattern`, where `*` stands for any run of characters; case aside."""
    first, *others = pattern.lower().split("*")
    text = text.lower()
    if not others:
        return text == first
    if not text.startswith(first):
        return False
    at = len(first)
    for part in others[:-1]:
        found = text.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    return text.endswith(others[-1]) and len(text) - len(others[-1]) >= at


def reverse_path(facts: HeaderFacts) -> str:
    """Where trouble with a fetched message is reported: an address, or "" for the null reverse-path.

    The mailbox kept the octets and lost the envelope, so it is read back from the header, the best witness
    first:

    1. Return-Path. The last hop writes the reverse-path there on final delivery (RFC 5321 section 4.4), so
       it decides whenever it stands. Empty stays empty: a report about a report would loop. One that is no
       address (`<MAILER-DAEMON>`) is taken for empty too.
    2. Nothing for what a machine sent: answers to it loop (RFC 3834 section 2).
    3. Resent-Sender, Sender or Resent-From: who handed the message in. For a mailing list that is its
       manager.
    4. From, but not for list traffic: the author is not to blame for the list.
    5. The null reverse-path. Reply-To is never taken: it is where people answer, not where machines report.
    """
    if facts.return_path is not None:
        return _uncut(facts.return_path) or ""
    if facts.auto_submitted:
        return ""
    author = None if facts.list_id else facts.author
    return _uncut(facts.agent) or _uncut(author) or ""


def _uncut(text: str | None) -> str | None:
    """As `parse`, but not of text that a limit may have cut: half an address is another person's."""
    return parse(text) if text and len(text) < TEXT_LIMIT_CHARACTERS else None


@dataclass(slots=True)
class _Scan:
    """One pass over an address list: cuts it into elements, drops comments and display names."""

    unclosed: bool = False
    phrase: list[str] = field(default_factory=list)
    angle: list[str] | None = None

    def elements(self, text: str) -> list[str]:
        found: list[str] = []
        at = 0
        while at < len(text):
            piece = _PIECE.match(text, at)
            assert piece is not None  # the last alternative takes any character
            at = piece.end()
            if piece[0] == "(":
                at = self._after_comment(text, at)
            else:
                found += self._take(piece[0])
        self.unclosed = self.unclosed or self.angle is not None
        return [*found, *self._close()]

    def _take(self, piece: str) -> list[str]:
        """The elements that end with this piece."""
        if piece == '"':
            self.unclosed = True
        if self.angle is not None:
            if piece == ">":
                path, self.angle, self.phrase = "".join(self.angle).strip("< \t\r\n"), None, []
                if len(path) > PARSE_LIMIT_CHARACTERS:
                    return []
                path = _SOURCE_ROUTE.sub("", path, count=1)
                return [path] if _spec(path).fullmatch(path) else []
            self.angle.append(piece)
            return []
        if piece == "<":
            self.angle = []
        elif piece == ":":
            self.phrase = []  # the name of a group
        elif piece in (",", ";"):
            return self._close()
        else:
            self.phrase.append(piece)
        return []

    def _close(self) -> list[str]:
        element, self.phrase = "".join(self.phrase), []
        return [element] if element else []

    def _after_comment(self, text: str, at: int) -> int:
        depth = 1
        while depth and at < len(text):
            piece = _IN_COMMENT.match(text, at)
            assert piece is not None  # the last alternative takes any character
            at = piece.end()
            depth += (piece[0] == "(") - (piece[0] == ")")
        self.unclosed = self.unclosed or depth > 0
        (self.phrase if self.angle is None else self.angle).append(" ")
        return at


def _in_element(element: str) -> tuple[str, ...]:
    element = element.strip(" \t\r\n")
    if element.startswith('"') and element.find('"', 1) == len(element) - 1:
        element = element[1:-1]  # "a@b": quotes around the whole address
    found = (_address(spec) for spec in _spec(element).finditer(element))
    return tuple(address for address in found if address is not None)


def _address(spec: re.Match[str]) -> str | None:
    local, name = spec["local"], spec["domain"].lower().removesuffix(".")
    if local.startswith('"') and _dot_atom(local).fullmatch(local[1:-1]):
        local = local[1:-1]  # quotes that are not needed would make one person two
    address = f"{local}@{name}"
    return address if valid(address) else None


def _octets(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
