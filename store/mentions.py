"""Where in the log a person is named: each event whose facts hold an address, and which facts these are.

Reads the whole log once, in order of positions and in constant memory: an address may stand in a reply, or in what somebody
wrote, of which there is no index. Octets are not looked at.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from unicodedata import normalize

import orjson
from sqlalchemy import Connection

from store import pages

PAGE = 500  # events found

# What may stand beside an address, in its local part or domain, so that it is another one.
_BEFORE = r"[^\s<>()\[\],;:\"'@]"
_BEHIND = r"(?:[\w-]|\.\w)"
# In prose `rcpt=jane@example.com|` names Jane. In an address it doesn't: a list's `bounce+jane=example.com@` is the list's.
_BEFORE_IN_PROSE = r"[\w.+%&#$^~-]"
PROSE = frozenset({"subject", "reply", "reason", "comment", "detail", "text"})
# A rule quotes patterns, and one with a star names nobody.
_BEHIND_IN_RULE = r"(?:[\w*-]|\.[\w*])"
RULES = frozenset({"rule", "routed_by"})
# RFC 3461 section 4: xtext; RFC 6533 section 3: what is beyond ASCII in it.
_XTEXT = re.compile(r"\+([0-9A-Fa-f]{2})|\\x\{([0-9A-Fa-f]{2,6})\}")
_A_LABEL = re.compile(r"(?<![\w-])xn--([a-z0-9-]+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Mention:
    """An event that names an address: in these personal facts, and in these others, which are never erased."""

    position: int
    stream: str
    event: str
    personal: tuple[str, ...]
    others: tuple[str, ...]


class Named:
    """Finds an address in texts: whatever its case, an accent apart or not, its domain in Unicode or as A-labels."""

    def __init__(self, address: str) -> None:
        self.address = _unicode(address)
        bare = re.escape(self.address)
        self._strict = re.compile(rf"(?<!{_BEFORE}){bare}(?!{_BEHIND})", re.IGNORECASE)
        self._in_prose = re.compile(rf"(?<!{_BEFORE_IN_PROSE}){bare}(?!{_BEHIND})", re.IGNORECASE)
        self._in_rule = re.compile(rf"(?<!{_BEFORE}){bare}(?!{_BEHIND_IN_RULE})", re.IGNORECASE)

    def in_prose(self, text: str) -> bool:
        """Whether what somebody wrote names it."""
        return self._in_prose.search(_unicode(text)) is not None

    def in_fact(self, name: str, text: str) -> bool:
        """Whether a fact of this name does."""
        if name in PROSE:
            return self.in_prose(text)
        if name == "orcpt":
            text = _XTEXT.sub(_character, text)
        named = self._in_rule if name in RULES else self._strict
        return named.search(_unicode(text)) is not None


def mentions(connection: Connection, address: str) -> Iterator[Mention]:
    """Yield the events that name an address, in the order of the log, however it is written there (`Named`)."""
    named = Named(address)
    like = _like(named.address)
    sql, after = _FOUND[connection.dialect.name], 0
    while rows := pages.query(connection, sql, (after, like, like, PAGE)):
        for position, stream, event, data, personal in rows:
            found = Mention(position, stream, event, _naming(personal, named), _naming(data, named))
            if found.personal or found.others:
                yield found
        after = rows[-1][0]


def _like(address: str) -> str:
    """Return a pattern of the texts that may hold an address as it is stored, and of few others.

    Databases compare the case of ASCII only, or not alike, so any text stands for what is beyond that; and for what xtext and
    A-labels write otherwise.
    """
    local, _, domain = address.rpartition("@")
    labels = (label if label.isascii() else "*" for label in domain.split("."))
    bare = re.sub(r"[^\x00-\x7f]+|[+= ]", "*", local) + "@" + ".".join(labels)
    stored = orjson.dumps(bare).decode()[1:-1]
    return "%" + re.sub(r"([!%_])", r"!\1", stored).replace("*", "%") + "%"


def _unicode(text: str) -> str:
    """Return a text with the A-labels of domains in it as they are read (RFC 5890), and accents with their letters."""
    return normalize("NFC", _A_LABEL.sub(_label, text) if "xn--" in text.lower() else text)


def _label(found: re.Match[str]) -> str:
    try:
        return found[1].lower().encode().decode("punycode")
    except UnicodeError:
        return found[0]


def _character(found: re.Match[str]) -> str:
    code = int(found[1] or found[2], 16)
    return chr(code) if code <= sys.maxunicode else found[0]


_FOUND = {
    "sqlite": "SELECT position, stream, name, data, personal FROM events WHERE position > {0} AND"
    " (CAST(personal AS TEXT) LIKE {0} ESCAPE '!' OR CAST(data AS TEXT) LIKE {0} ESCAPE '!')"
    " ORDER BY position LIMIT {0}",
    "postgresql": "SELECT position, stream, name, data, personal FROM events WHERE position > {0} AND"
    " (convert_from(personal, 'UTF8') ILIKE {0} ESCAPE '!' OR convert_from(data, 'UTF8') ILIKE {0} ESCAPE '!')"
    " ORDER BY position LIMIT {0}",
}


def _naming(stored: bytes | None, named: Named) -> tuple[str, ...]:
    """Return the names of the facts that hold it."""
    if stored is None:
        return ()
    facts: dict[str, Any] = orjson.loads(stored)
    return tuple(
        name for name, value in facts.items() if any(named.in_fact(name, text) for text in _texts(value))
    )


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case list():
            for one in value:
                yield from _texts(one)
        case dict():
            for one in value.values():
                yield from _texts(one)
        case _:
            pass
