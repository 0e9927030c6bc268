"""Attachment rules: which file names and content types are meant, however they are spelled.

Pure. A name is compared as the programs of the recipient may come to read it: what Windows drops at the end of a name,
what is not to be seen, escapes, widths and case make no difference. To find too much here is better than to find too
little: what is found is kept, and a person may let it go.
"""

from __future__ import annotations

import re
import unicodedata
from binascii import a2b_qp
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import translate
from typing import Final
from urllib.parse import unquote

Octets = bytes | bytearray | memoryview

NAME_CHARACTERS: Final = 1024  # of each end of a name: no file system takes longer ones
PLAIN_OCTETS: Final = 128 * 1024  # larger messages are rarely plain, and not worth the look
DETAIL_CHARACTERS: Final = 200
MARKS: Final = (
    30  # in a row, as in a stream-safe text (UAX 15): to put more into order takes time without end
)

_TRAILING: Final = " \t\r\n\v\f.\"'`<>;,)]}"
_USUAL = re.compile(r"[\w.\-+ /]*[\w\-]", re.ASCII)
_UNSEEN: Final = ("Cc", "Cf", "Cs", "Zl", "Zp")
_COMMENT = re.compile(r"\([^()]*\)")

# A header section without anything odd: every line a field or its continuation, every line end CRLF.
_CLEAN_HEADER = re.compile(rb"(?:[!-9;-~]++:[^\r\n\0]*+\r\n(?:[ \t]++[^\s\0][^\r\n\0]*+\r\n)*+)++\r\n")
_MIME_FIELD = re.compile(rb"content[-_][a-z-]*+")
_TYPE_FIELD = re.compile(rb"\r\ncontent-type:([^\r\n]*+(?:\r\n[ \t][^\r\n]*+)*+)\r\n")
_TEXT_TYPE = re.compile(rb"\s*+(text/(?:plain|html))\s*+(?:;[^(%*]*+)?")
_ENCODING = re.compile(
    rb"\r\ncontent-transfer-encoding:[ \t]*+(?:[78]bit|binary|quoted-printable)[ \t]*+\r\n"
)
_HARMLESS_FIELDS: Final = frozenset(
    (b"content-type", b"content-transfer-encoding", b"content-language", b"content-length", b"content-class")
)
_IN_TEXT = re.compile(rb"(?:\A|[\r\n])=?y?begin[ \t-]")


@dataclass(frozen=True, slots=True)
class Rules:
    """Patterns in which `*` is any text and `?` any character, and all else itself; case makes no difference."""

    names: tuple[str, ...]
    types: tuple[str, ...]
    _names: _Patterns = field(init=False, repr=False, compare=False)
    _types: _Patterns = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_names", _Patterns(self.names))
        object.__setattr__(self, "_types", _Patterns(self.types))

    def of_name(self, name: str) -> str | None:
        """Return the pattern that a file's name fits, if there is one."""
        return self._names.fitting(spellings(name))

    def of_type(self, content_type: str) -> str | None:
        """Return the pattern that a content type fits, if there is one: the value of a Content-Type field will do."""
        return self._types.fitting(types(content_type))


class _Patterns:
    """Several patterns that are tried as one."""

    def __init__(self, patterns: tuple[str, ...]) -> None:
        self._each = tuple((pattern, re.compile(_regular(pattern))) for pattern in patterns)
        self._any = re.compile("|".join(map(_regular, patterns)) or r"(?!)")

    def fitting(self, texts: Iterable[str]) -> str | None:
        for text in texts:
            if self._any.match(text):
                return next(pattern for pattern, one in self._each if one.match(text))
        return None


def _regular(pattern: str) -> str:
    """Return a pattern as a regular expression: fnmatch's, to which a bracket would begin a class of characters."""
    return translate(folded(pattern).replace("[", "[[]"))


def folded(text: str) -> str:
    """Return a text without differences of case and width."""
    return unicodedata.normalize("NFKC", text).casefold()


def spellings(name: str) -> frozenset[str]:
    """Return the names that a name may come to be read as, folded; the whole path and its last part."""
    if len(name) > 2 * NAME_CHARACTERS:
        name = name[:NAME_CHARACTERS] + name[-NAME_CHARACTERS:]
    if _USUAL.fullmatch(name):
        name = name.casefold()
        return frozenset((name, name.rpartition("/")[2]))
    found: set[str] = set()
    for text in {name, unquote(name, errors="replace")}:
        for cut in (text, text.partition("\0")[0]):
            seen = folded(_seen(cut))
            for one in (seen, "".join(seen.split())):
                found |= _as_files(one.replace("\\", "/"))
    return frozenset(found - {""})


def _seen(text: str) -> str:
    """Return what is to be seen of a text, of marks above and below a letter only so many as some language has."""
    seen: list[str] = []
    marks = 0
    for c in text:
        category = unicodedata.category(c)
        if category in _UNSEEN and c != "\t":
            continue
        marks = marks + 1 if category == "Mn" else 0
        if marks <= MARKS:
            seen.append(c)
    return "".join(seen)


def _as_files(path: str) -> set[str]:
    """Return a path and its last part, both as Windows would name the file: no dots or spaces at the end, no stream."""
    path = path.lstrip("\"'`< \t").rstrip(_TRAILING)
    last = path.rpartition("/")[2]
    return {path, last, last.partition(":")[0].rstrip(_TRAILING)}


def types(value: str) -> frozenset[str]:
    """Return the content types that the value of a Content-Type field may come to be read as, folded."""
    found = {value.partition(";")[0], _COMMENT.sub("", value).partition(";")[0]}
    return frozenset("".join(folded(one).split()).strip("\"'<>,\0") for one in found) - {""}


def is_plain(octets: Octets, rules: Rules) -> bool:
    """Whether a message is one text for certain, with no place for a file in it. False says nothing.

    Only what all programs read alike is plain: one Content-Type at most, with neither a name nor an escape; no other
    field of MIME that could name a file; no line that begins a file within the text.
    """
    if len(octets) > PLAIN_OCTETS:
        return False
    low = bytes(octets).lower()
    header = _CLEAN_HEADER.match(low)
    if header is None or _IN_TEXT.search(low):
        return False
    return _is_text(b"\r\n" + header[0], rules) and not (
        b"quoted-printable" in header[0] and _IN_TEXT.search(a2b_qp(low[header.end() :]))
    )


def _is_text(header: bytes, rules: Rules) -> bool:
    fields = _MIME_FIELD.findall(header)
    if not _HARMLESS_FIELDS.issuperset(fields) or len(fields) != len(set(fields)):
        return False
    if b"content-transfer-encoding" in fields and not _ENCODING.search(header):
        return False
    kind = "text/plain"
    if b"content-type" in fields:
        found = _TYPE_FIELD.search(header)
        written = found and _TEXT_TYPE.fullmatch(found[1])
        if not written or b"=?" in written[0] or b"name" in b"".join(written[0].split()):
            return False
        kind = written[1].decode()
    return rules.of_type(kind) is None


def shown(text: str) -> str:
    """Return a name to show: what is not to be seen, or turns the direction of writing, as an escape; bounded."""
    seen = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text[: 2 * DETAIL_CHARACTERS])
    if len(text) > 2 * DETAIL_CHARACTERS or len(seen) > DETAIL_CHARACTERS:
        half = DETAIL_CHARACTERS // 2
        end = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text[-half:])
        return f"{seen[:half]}…{end[-half:]}"
    return seen
