"""A message weighed against the rules: which file in it is meant, if one is, and what could not be read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from engine.attachment_reader import parts, uu, zips
from engine.attachment_reader.fields import Part, contents, names, types
from engine.attachment_reader.frames import Answer
from engine.core.attachments import Rules, shown

DEPTH: Final = 4  # of messages in encoded parts, which no parser follows
FOUND: Final = 100  # files that are remembered
LINES: Final = 1_000_000  # twice as many as 35 MB of base64 has
PARTS: Final = 100_000  # lines that may be delimiters
MESSAGES_OCTETS: Final = 160 << 20  # read in all, with the messages in it
LINE_COSTS: Final = 64  # octets: what a line takes to read, however short
CONTENT_COSTS: Final = 1 / 8  # of what is read, for content is only searched
NO_NAME: Final = "a part without a name"

# Content types of what gives itself away by its first octets, whatever it is called.
MAGIC: Final = (
    (
        b"MZ",
        (
            "application/x-msdownload",
            "application/x-dosexec",
            "application/vnd.microsoft.portable-executable",
        ),
    ),
    (b"\x7fELF", ("application/x-executable", "application/x-elf")),
    (b"L\0\0\0\x01\x14\x02\0", ("application/x-ms-shortcut",)),
)
ZIP_TYPES: Final = ("application/zip", "application/x-zip-compressed", "application/x-zip")
MESSAGE_NAMES: Final = (".eml", ".mht", ".mhtml", ".nws")


def read(octets: bytes, rules: Rules, *, archives: bool) -> Answer:
    """Read a message. Never raises for what is in it."""
    reader = _Reader(rules, archives=archives)
    reader.message(octets, DEPTH)
    return Answer(
        rule=next(iter(reader.found.values()), None),
        files=tuple(reader.found),
        unread=reader.unread,
        wrong=tuple(sorted(reader.wrong)),
    )


class _Reader:
    def __init__(self, rules: Rules, *, archives: bool) -> None:
        self.found: dict[str, str] = {}  # the rule by file
        self.unread = ""
        self.wrong: set[str] = set()
        self._rules = rules
        self._archives = archives
        self._allowance = zips.Allowance()
        # Each is come upon in both ways of reading, and again in whatever it lies in.
        self._archives_seen: set[int] = set()
        self._messages: dict[int, int] = {}  # how deep they were read
        self._octets_left = MESSAGES_OCTETS

    def message(self, octets: bytes, depth: int) -> None:
        if not self._once_more(octets, depth):
            return
        seen = self._parsed(octets)
        for part in seen:
            self._part(part, depth)
        if self.wrong or len(seen) != 1 or not parts.is_one_text(seen[0]):
            for part in parts.likely(octets):
                self._part(part, depth)

    def _once_more(self, octets: bytes, depth: int) -> bool:
        """Whether a message is to be read: not what was read before as deep as this, and not without end."""
        key = hash(octets)
        if self._messages.get(key, -1) >= depth:
            return False
        if self._octets_left <= 0:
            self._not_read("the message has too many messages in it")
            return False
        self._messages[key] = depth
        self._octets_left -= len(octets) + LINE_COSTS * octets.count(b"\n")
        return True

    def _parsed(self, octets: bytes) -> list[Part]:
        """The parts that the parser sees: none where it would take too much, which goes on record."""
        if too_much := _too_much(octets):
            self._not_read(f"the message has too many {too_much}")
            return []
        try:
            found, wrong = parts.parsed(octets)
        except MemoryError:
            self._not_read("the message takes too much memory to read")
            return []
        except RecursionError:
            self._not_read("the message is nested too deeply")
            return []
        except (LookupError, ValueError, TypeError, AttributeError) as error:  # the parser's own faults
            self._not_read(f"the message breaks the parser: {type(error).__name__}")
            return []
        self.wrong |= wrong
        return found

    def _part(self, part: Part, depth: int) -> None:
        called = names(part)
        label = shown(called[0]) if called else NO_NAME
        self._names(called)
        kinds = types(part)
        for kind in kinds:
            self._type(kind, label)
        again = depth and _is_message(part, called, kinds)
        for content in contents(part):
            self._octets_left -= int(len(content) * CONTENT_COSTS)
            self._content(content, label, is_zip=_says_zip(called, kinds))
            if again:
                self.message(content, depth - 1)

    def _content(self, content: bytes, label: str, *, is_zip: bool) -> None:
        self._file(content, label, is_zip=is_zip)
        for name, inside in uu.files(content):
            self._names([name])
            self._file(inside, shown(name), is_zip=_says_zip([name], []))

    def _file(self, content: bytes, label: str, *, is_zip: bool) -> None:
        for magic, kinds in MAGIC:
            if content.startswith(magic):
                for kind in kinds:
                    self._type(kind, label)
        if not self._archives:
            return
        if zips.is_zip(content):
            self._archive(content, label)
        elif is_zip and content:
            self._not_read(f"{label} is no zip archive")

    def _archive(self, content: bytes, label: str) -> None:
        key = hash(content)
        if key in self._archives_seen:
            return
        self._archives_seen.add(key)
        listing = zips.listing(content, self._allowance)
        for path in listing.paths:
            self._names([path], f" in {label}")
        if listing.unread:
            self._not_read(f"{label} {listing.unread}")

    def _names(self, called: Iterable[str], where: str = "") -> None:
        for name in called:
            if rule := self._rules.of_name(name):
                self._add(shown(name) + where, f"name {rule}")
                return

    def _type(self, kind: str, label: str) -> None:
        if rule := self._rules.of_type(kind):
            self._add(label, f"type {rule}")

    def _add(self, file: str, rule: str) -> None:
        if len(self.found) < FOUND:
            self.found.setdefault(file, rule)

    def _not_read(self, why: str) -> None:
        self.unread = self.unread or why


def _too_much(octets: bytes) -> str:
    """What there is too much of for the parser, which takes its time for each line and each part; "" for nothing."""
    if octets.count(b"\n") + octets.count(b"\r") - octets.count(b"\r\n") > LINES:
        return "lines"
    return "parts" if octets.count(b"\n--") + octets.count(b"\r--") > PARTS else ""


def _says_zip(called: Iterable[str], kinds: Iterable[str]) -> bool:
    return any(name.lower().endswith(".zip") for name in called) or any(
        kind.partition(";")[0].strip().lower() in ZIP_TYPES for kind in kinds
    )


def _is_message(part: Part, called: Iterable[str], kinds: Iterable[str]) -> bool:
    """Whether it holds a message that the parser doesn't follow: encoded against the rules, or as a file."""
    if any(name.lower().endswith(MESSAGE_NAMES) for name in called):
        return True
    composed = any(kind.lower().startswith(("message/", "multipart/")) for kind in kinds)
    encodings = " ".join(part.values("content-transfer-encoding")).lower()
    return composed and any(word in encodings for word in ("base64", "quoted", "uu"))
