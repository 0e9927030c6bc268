"""The names, types and content of one part, in every way that a mail program may read them (RFC 2045, 2047, 2183, 2231).

What contradicts itself is read each way. Never raises, whatever the octets.
"""

from __future__ import annotations

import re
from binascii import Error, a2b_base64, a2b_qp
from codecs import lookup
from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter
from typing import Final
from urllib.parse import unquote_to_bytes

from engine.attachment_reader import uu

PUNYCODE_OCTETS: Final = 4096  # more is no name, and takes time by the square of it

_FIELD = re.compile(
    rb"(?:\A|[\r\n])[ \t]*+(content-[a-z-]++)[ \t]*+:([^\r\n]*+(?:\r?\n?[ \t][^\r\n]*+)*+)", re.I
)
_PARAMETER = re.compile(
    r"""(file)?name\s*+(\*\s*+\d{1,4}\s*+\*?|\*)?+\s*+=\s*+("(?:[^"\\]|\\.)*+"?|[^;"]*+)([^;]*+)""",
    re.I | re.S,
)
_WORD = re.compile(r"=\?([^?]*+)\?([bq])\?(.*?)(?:\?=|\Z)", re.I | re.S)
_BETWEEN_WORDS = re.compile(r"\?=\s++=\?")
_ESCAPE = re.compile(r"\\(.)", re.S)
_COMMENT = re.compile(r"\([^()]*\)")
_NOT_BASE64: Final = bytes(
    set(range(256)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=")
)


@dataclass(frozen=True, slots=True)
class Part:
    """The MIME fields of a part, names in lower case, values as they came but for folds; and its content, not decoded."""

    fields: tuple[tuple[str, str], ...]
    content: bytes

    def values(self, name: str) -> list[str]:
        """Return the values of all fields of this name."""
        return [value for key, value in self.fields if key == name]


def fields_in(header: bytes) -> tuple[tuple[str, str], ...]:
    """Return whatever is like a MIME field in a header section."""
    return tuple((name.decode().lower(), value_of(value)) for name, value in _FIELD.findall(header))


def value_of(octets: bytes) -> str:
    """Return a field's value as text without folds: UTF-8, else one character an octet."""
    return _text(octets.replace(b"\r", b"").replace(b"\n", b"")).strip()


def types(part: Part) -> list[str]:
    """Return the values that say what a part is."""
    values = part.values("content-type")
    return values + [decoded for value in values if (decoded := _without_words(value)) != value]


def names(part: Part) -> list[str]:
    """Return every name that the fields of a part may be read to give it, the likeliest first."""
    found: dict[str, None] = {}
    for key, written in part.fields:
        for value in dict.fromkeys((written, _without_words(written))):
            for name in _names_in(key, value):
                found[_without_words(name)] = None
                found[name] = None
    return [name for name in found if name]


def _names_in(key: str, value: str) -> Iterator[str]:
    for text in dict.fromkeys((value, _COMMENT.sub("", value))):
        yield from _parameters(text)
    if key in ("content-description", "content-location"):
        yield value
        yield value.partition("?")[0]


def _parameters(text: str) -> Iterator[str]:
    """Yield the values of all parameters whose name ends in "name", those that are cut in pieces put together."""
    pieces: dict[str, list[tuple[int, str]]] = {"": [], "file": []}
    last = None
    for last in _PARAMETER.finditer(text):
        key, mark, written, rest = last.groups(default="")
        one = _unquoted(written)
        if number := mark.strip("* \t"):
            pieces[key.lower()].append((int(number), one))
        yield from _readings(one, written, rest, extended="*" in mark)
    if last is not None:
        yield text[last.start(3) :]  # with semicolons, where quotes are missing
    for several in pieces.values():
        for joined in _joined(several) if several else ():
            yield from _charset_variants(joined)


def _joined(pieces: list[tuple[int, str]]) -> set[str]:
    """RFC 2231 section 3: in the order as written, by number, and where a number comes twice by the first and the last."""
    by_number = sorted(pieces, key=itemgetter(0))
    ways = (pieces, by_number, list(dict(by_number).items()), list(dict(reversed(by_number)).items())[::-1])
    return {"".join(one for _, one in way) for way in ways}


def _readings(one: str, written: str, rest: str, *, extended: bool) -> Iterator[str]:
    yield one
    yield one.rstrip("\\")
    yield written  # with its backslashes, which may be those of a path
    if rest.strip():  # a quote too early, or none where one is due
        yield (written + rest).replace('"', "")
    if not written.startswith('"'):
        yield from written.split(None, 1)[:1]
    if extended:
        yield from _charset_variants(one)


def _charset_variants(value: str) -> Iterator[str]:
    """RFC 2231 section 4: charset'language'text, percent-encoded."""
    yield value
    charset, _, rest = value.partition("'")
    text = rest.partition("'")[2] if "'" in rest else value
    octets = unquote_to_bytes(text.encode("utf-8", "replace"))
    yield _text(octets)
    yield _in_charset(octets, charset)


def _unquoted(written: str) -> str:
    if not written.startswith('"'):
        return written.strip()
    return _ESCAPE.sub(r"\1", written.removeprefix('"').removesuffix('"'))


def _without_words(text: str) -> str:
    """RFC 2047, also where it has no place; white space between neighbours is dropped."""
    if "=?" not in text:
        return text
    return _WORD.sub(_word, _BETWEEN_WORDS.sub("?==?", text))


def _word(found: re.Match[str]) -> str:
    charset, encoding, coded = found.groups()
    octets = coded.encode("utf-8", "replace")
    octets = a2b_qp(octets, header=True) if encoding in "qQ" else base64(octets)
    return _in_charset(octets, charset.partition("*")[0])


def _in_charset(octets: bytes, charset: str) -> str:
    try:
        charset = charset.strip() or "utf-8"
        if len(octets) > PUNYCODE_OCTETS and lookup(charset).name == "punycode":
            return _text(octets)
        return octets.decode(charset, "replace")
    except (LookupError, ValueError):  # a charset that isn't one
        return _text(octets)


def _text(octets: bytes) -> str:
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return octets.decode("latin-1")


# -- content


def contents(part: Part) -> list[bytes]:
    """Return the content of a part, decoded; in each of the ways, where its fields name several."""
    encodings = part.values("content-transfer-encoding")
    asked = " ".join(encodings).lower()
    found: list[bytes] = []
    if "base64" in asked:
        found.append(base64(part.content))
    if "quoted" in asked:
        found.append(a2b_qp(part.content))
    if "uu" in asked:
        found += [content for _, content in uu.files(part.content)]
    if not found or len(encodings) > 1:
        found.append(part.content)
    return found


def base64(coded: bytes) -> bytes:
    """Decode base64 (RFC 2045 section 6.8): rubbish is passed over, also behind padding, and none need be there."""
    coded = coded.translate(None, _NOT_BASE64)
    whole = b"=" not in coded.rstrip(b"=")
    pieces = [coded.rstrip(b"=")] if whole else [piece for piece in coded.split(b"=") if piece]
    return b"".join(map(_piece, pieces))


def _piece(coded: bytes) -> bytes:
    if len(coded) % 4 == 1:  # six bits make no octet
        coded = coded[:-1]
    try:
        return a2b_base64(coded + b"=" * (-len(coded) % 4))
    except Error:
        return b""
