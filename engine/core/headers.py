"""Header facts, read from octets.

Owns: where the header section ends, which fields it has, and the few facts that events and lists show (RFC
5322). Never parses MIME, never looks behind the header section, never changes an octet, never raises:
whatever arrives has facts, if only none. Text that leaves here is free of control characters and surrogates
and bounded in length, so that it fits into JSON, a terminal and a database column.

Every field is read by its topmost instance, as mail programs show it. All of it is the claim of whoever
wrote the message, except what the last hop put on top of it.
"""

from __future__ import annotations

import re
from binascii import Error as TransferEncodingError
from binascii import a2b_base64, a2b_qp
from dataclasses import dataclass

from engine.core.client_ip import client_ip

Octets = bytes | bytearray | memoryview

# Exchange refuses headers above 256 KiB, and no sane message comes near: what lies behind is not read.
HEADER_LIMIT_OCTETS = 256 * 1024
# Nearly every header section fits, so that one small copy is all that a message of 35 MB costs.
FIRST_LOOK_OCTETS = 8 * 1024
# RFC 5322 section 2.1.1: the longest line; a longer subject is of no use in a list.
TEXT_LIMIT_CHARACTERS = 998
# Quoted-printable spends up to 12 octets on a character (RFC 2047 section 4.2): enough for the text limit.
ENCODED_LIMIT_OCTETS = 16 * 1024

_FIELD = re.compile(rb".++(?:\n[ \t].*+)*+")
_NAME = re.compile(rb"[!-9;-~]+")
_WANTED = re.compile(
    rb"\n(received|message-id|subject|from|date|return-path|resent-sender|sender|resent-from"
    rb"|auto-submitted|list-id|precedence|content-type)[ \t]*+:(.*+(?:\n[ \t].*+)*+)",
    re.IGNORECASE,
)
_RECEIVED = re.compile(rb"\nreceived[ \t]*+:(.*+(?:\n[ \t].*+)*+)", re.IGNORECASE)

# Control characters, line separators, surrogates, and marks that turn the direction of writing.
_UNSHOWABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]+")
_ENCODED_WORD = re.compile(r"=\?([^?\s]{1,60})\?([QqBb])\?([^?]*+)\?=")
# Unknown names are never looked up: Python's codec registry keeps each name it was ever asked for.
_CHARSET = re.compile(
    r"utf-?(?:8|7|16(?:[bl]e)?)|iso-8859-(?:[2-9]|1[013-6])|(?:windows-|cp)125[0-8]|cp(?:437|85[0258]|866|932|949)"
    r"|koi8-[ru]|gb18030|big5(?:-?hkscs)?|shift[_-]jis|iso-2022-(?:jp|kr)(?:-\d)?|euc-(?:jp|kr)|tis-620"
    r"|mac(?:intosh|roman)"
)
# Subsets that senders name while they use the larger set.
_LARGER_CHARSET = {
    "us-ascii": "utf-8",
    "iso-8859-1": "cp1252",
    "latin1": "cp1252",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "ks_c_5601-1987": "cp949",
}

_EMPTY_LINE = re.compile(rb"\n\r?\n")


@dataclass(frozen=True, slots=True)
class Field:
    """One header field (RFC 5322 section 2.2).

    `name` is as written, b"" for a line that is no field. `value` is unfolded and without white space
    around it; for a line that is no field it is the whole line.
    """

    name: bytes
    value: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderFacts:
    """What events record of a header. None means: no such field.

    `sender` is the From field made readable (RFC 2047 decoded); `author` is the same field as written,
    `agent` the topmost of Resent-Sender, Sender, Resent-From as written: from those two an address may be
    taken, never from decoded text. `return_path` is the path without its angle brackets, "" for the null
    reverse-path. `client_ip` is the foreign host that the trusted last hop saw. `received_count` counts
    Received fields. `auto_submitted` is true for what a machine sent (RFC 3834 section 5), `list_id` for
    mailing list traffic (RFC 2919, Precedence: list), `status_report` for what calls itself a delivery status
    notification (RFC 3464).
    """

    message_id: str | None
    subject: str | None
    sender: str | None
    date: str | None
    return_path: str | None
    agent: str | None
    author: str | None
    client_ip: str | None
    received_count: int
    auto_submitted: bool
    list_id: bool
    status_report: bool


def section(octets: Octets) -> bytes:
    """The header section: all lines before the first empty one, at most HEADER_LIMIT_OCTETS.

    b"" where the message begins with an empty line; all there is, where no line is empty.
    """
    head = bytes(octets[:FIRST_LOOK_OCTETS])
    end = _end(head)
    if end < 0 and len(octets) > FIRST_LOOK_OCTETS:
        head = bytes(octets[:HEADER_LIMIT_OCTETS])
        end = _end(head)
    return head if end < 0 else head[:end]


def split(octets: Octets) -> tuple[Field, ...]:
    """The fields of the header section, from the top down. Takes LF as well as CRLF."""
    return tuple(map(_field, _FIELD.findall(section(octets))))


def received(octets: Octets) -> tuple[bytes, ...]:
    """The values of the Received fields, unfolded, from the top down: the last hop first."""
    return tuple(map(_unfolded, _RECEIVED.findall(b"\n" + section(octets))))


def facts(octets: Octets) -> HeaderFacts:
    """The facts of one header. For the hot path: one regular expression, decoding only what is encoded."""
    top: dict[bytes, bytes] = {}
    hops: list[bytes] = []
    for name, value in _WANTED.findall(b"\n" + section(octets)):
        key = name.lower()
        if key == b"received":
            hops.append(value)
        else:
            top.setdefault(key, value)
    author, kind = top.get(b"from"), top.get(b"content-type", b"")
    return HeaderFacts(
        message_id=_plain(top.get(b"message-id")),
        subject=_readable(top.get(b"subject")),
        sender=_readable(author),
        date=_plain(top.get(b"date")),
        return_path=_path(top.get(b"return-path")),
        agent=_plain(top.get(b"resent-sender", top.get(b"sender", top.get(b"resent-from")))),
        author=_plain(author),
        client_ip=client_ip(hops),
        received_count=len(hops),
        auto_submitted=_first_word(top.get(b"auto-submitted", b"no")) != b"no",
        list_id=b"list-id" in top or _first_word(top.get(b"precedence", b"")) == b"list",
        status_report=_first_word(kind) == b"multipart/report",
    )


def text(value: bytes) -> str:
    """One line of text from a field value: UTF-8, else Windows-1252; showable and bounded."""
    return _showable(_decoded(_unfolded(value[:ENCODED_LIMIT_OCTETS])))


def _end(head: bytes) -> int:
    """Where the empty line begins; -1 if there is none."""
    if head.startswith((b"\n", b"\r\n")):
        return 0
    empty = _EMPTY_LINE.search(head)
    return -1 if empty is None else empty.start() + 1


def _field(chunk: bytes) -> Field:
    name, colon, value = chunk.partition(b":")
    name = name.rstrip(b" \t")  # obsolete, but seen (RFC 5322 section 4.5)
    if colon and _NAME.fullmatch(name):
        return Field(name, _unfolded(value))
    return Field(b"", _unfolded(chunk))


def _unfolded(value: bytes) -> bytes:
    if b"\n" in value:  # each but the last is a fold
        value = value.replace(b"\r\n", b"").replace(b"\n", b"")
    return value.strip(b" \t\r\n")


def _first_word(value: bytes) -> bytes:
    words = value[:TEXT_LIMIT_CHARACTERS].replace(b";", b" ").replace(b"(", b" ").split(None, 1)
    return words[0].lower() if words else b""


def _plain(value: bytes | None) -> str | None:
    return None if value is None else text(value)


def _readable(value: bytes | None) -> str | None:
    """As `text`, with encoded words decoded (RFC 2047)."""
    if value is None:
        return None
    if b"=?" not in value:
        return text(value)
    return _showable(_without_encoded_words(_decoded(_unfolded(value[:ENCODED_LIMIT_OCTETS]))))


def _path(value: bytes | None) -> str | None:
    """The path of a Return-Path field (RFC 5321 section 4.4). An empty field is taken for the null path."""
    if value is None:
        return None
    path = text(value)
    return path.partition("<")[2].partition(">")[0].strip() if "<" in path else path


def _showable(line: str) -> str:
    if not line.isprintable():
        line = _UNSHOWABLE.sub(" ", line)
    return line.strip()[:TEXT_LIMIT_CHARACTERS].rstrip()


def _decoded(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("cp1252", "replace")


def _without_encoded_words(line: str) -> str:
    """RFC 2047. Neighbours are joined before decoding: senders cut characters in two, against the rule."""
    done: list[str] = []
    charset, gathered, at = "", b"", 0
    for word in _ENCODED_WORD.finditer(line):
        between = line[at : word.start()]
        name = word[1].partition("*")[0].lower()  # RFC 2231 section 5: a language may follow
        if name != charset or not (gathered and (not between or between.isspace())):
            done.append(_in_charset(gathered, charset))
            gathered = b""
            # White space between two encoded words is no part of the text (RFC 2047 section 6.2).
            done.append("" if at and between.isspace() else between)
        charset, at = name, word.end()
        gathered += _transferred(word[2], word[3])
    return "".join(done) + _in_charset(gathered, charset) + line[at:]


def _transferred(encoding: str, encoded: str) -> bytes:
    coded = encoded.encode("utf-8", "replace")
    if encoding in "Qq":
        return a2b_qp(coded, header=True)
    try:
        return a2b_base64(coded + b"===")  # missing padding is the most usual fault
    except TransferEncodingError:
        return coded


def _in_charset(value: bytes, charset: str) -> str:
    codec = _LARGER_CHARSET.get(charset, charset)
    if codec == "utf-8" or (codec not in _LARGER_CHARSET.values() and not _CHARSET.fullmatch(codec)):
        return _decoded(value)
    try:
        return value.decode(codec, "replace")
    except (LookupError, ValueError):
        return _decoded(value)
