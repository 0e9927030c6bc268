"""The names in a zip archive, and in the archives that lie directly in it; nothing else is unpacked.

Names are looked for in the whole of the octets, in the directory and before each file: neither a damaged directory nor one
that tells other names than the files have hides any. Never raises.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from struct import Struct, unpack_from
from typing import Final

ENTRIES: Final = 10_000  # of one archive
INSIDE_OCTETS: Final = 8 << 20  # unpacked, of one archive in another
ALL_INSIDE_OCTETS: Final = 32 << 20  # of all archives in one
PATHS: Final = 50_000  # of an archive with those in it, about
# Of all archives in one message. Entries may lie on each other, so that a small archive has as much as a large one.
ALL_ENTRIES: Final = 100_000
ALL_NAME_OCTETS: Final = 8 << 20  # with extra fields; those of 10,000 files are 2 MB
ALL_UNPACKED_OCTETS: Final = 128 << 20
SPENT: Final = "has too much in it to look into"
NAME_OCTETS: Final = 2048  # of each end of a name
PEEK_OCTETS: Final = 64 << 10  # read to see what an entry begins with

LOCAL: Final = b"PK\x03\x04"
CENTRAL: Final = b"PK\x01\x02"
END: Final = b"PK\x05\x06"
END_OCTETS: Final = 22 + 0xFFFF  # with the longest comment

_LOCAL = Struct("<4sHHHHHLLLHH")
_CENTRAL = Struct("<4sHHHHHHLLLHHHHHLL")
_ENCRYPTED, _MASKED = 1 << 0, 1 << 13
_DEFLATED = 8
_CHUNK = 4096
_UNICODE_PATH = 0x7075  # of Info-ZIP
_ZIP64 = 0xFFFF


@dataclass(frozen=True, slots=True)
class Listing:
    """The paths in an archive, those in an archive within it behind its own; `unread` says what could not be read."""

    paths: tuple[str, ...]
    unread: str = ""


@dataclass(slots=True)
class Allowance:
    """What may still be spent on the archives in one message."""

    entries: int = ALL_ENTRIES
    name_octets: int = ALL_NAME_OCTETS
    unpacked_octets: int = ALL_UNPACKED_OCTETS

    @property
    def spent(self) -> bool:
        """Whether nothing more is looked at."""
        return self.entries <= 0 or self.name_octets <= 0 or self.unpacked_octets <= 0


@dataclass(frozen=True, slots=True)
class _Entry:
    names: tuple[str, ...]
    flags: int
    method: int
    data: int  # where it begins; -1 where that is not known


def is_zip(octets: bytes) -> bool:
    """Whether this is, or ends with, a zip archive."""
    return octets.startswith((LOCAL, END)) or octets.rfind(END, -END_OCTETS) >= 0


def listing(octets: bytes, allowance: Allowance | None = None) -> Listing:
    """Return the names in an archive, as far as they can be read and an allowance lasts, which is used up by that."""
    allowance = allowance or Allowance()
    archive = _Archive(octets, allowance)
    paths = set(archive.names)
    unread = archive.trouble
    budget = ALL_INSIDE_OCTETS
    for entry in archive.local:
        if allowance.spent:
            unread = unread or SPENT
            break
        inside = _inside(octets, entry, min(budget, INSIDE_OCTETS), allowance)
        if inside is None:
            continue
        if len(paths) > PATHS or len(inside) >= min(budget, INSIDE_OCTETS):
            unread = unread or "an archive in it is too large to look into"
        if len(paths) > PATHS:
            break
        budget -= len(inside)
        within = _Archive(inside, allowance)
        paths |= set(_within(entry.names, within.names, allowance))
        unread = unread or (within.trouble and f"an archive in it {within.trouble}")
    return Listing(tuple(sorted(paths)), unread)


def _within(outer: tuple[str, ...], names: set[str], allowance: Allowance) -> Iterator[str]:
    for archive in outer:
        for name in names:
            if allowance.spent:
                return
            allowance.name_octets -= len(archive)
            yield f"{archive}/{name}"


class _Archive:
    """One archive, by itself."""

    def __init__(self, octets: bytes, allowance: Allowance) -> None:
        self.local = list(islice(_entries(octets, LOCAL, _local, allowance), ENTRIES + 1))
        self.central = list(islice(_entries(octets, CENTRAL, _central, allowance), ENTRIES + 1))
        self.names = {name for entry in (*self.central, *self.local) for name in entry.names}
        self.trouble = SPENT if allowance.spent else self._trouble(octets)

    def _trouble(self, octets: bytes) -> str:
        end = octets.rfind(END, -END_OCTETS)
        if max(len(self.local), len(self.central)) > ENTRIES:
            return f"has more than {ENTRIES} entries"
        if any(entry.flags & _MASKED for entry in (*self.local, *self.central)):
            return "hides its names"
        if end < 0 or len(octets) < end + 12:
            return "has no directory at its end"
        (total,) = unpack_from("<H", octets, end + 10)
        return "has a damaged directory" if len(self.central) < total != _ZIP64 else ""


def _entries(
    octets: bytes, mark: bytes, read: Callable[[bytes, int, Allowance], _Entry | None], allowance: Allowance
) -> Iterator[_Entry]:
    at = octets.find(mark)
    while at >= 0 and not allowance.spent:
        allowance.entries -= 1
        entry = read(octets, at, allowance)
        if entry is not None:
            yield entry
        at = octets.find(mark, at + len(mark))


def _local(octets: bytes, at: int, allowance: Allowance) -> _Entry | None:
    if len(octets) < at + _LOCAL.size:
        return None
    _, _, flags, method, *_, name_octets, extra_octets = _LOCAL.unpack_from(octets, at)
    name = at + _LOCAL.size
    names = _names(octets, name, name_octets, extra_octets, allowance)
    return _Entry(names, flags, method, name + name_octets + extra_octets)


def _central(octets: bytes, at: int, allowance: Allowance) -> _Entry | None:
    if len(octets) < at + _CENTRAL.size:
        return None
    fields = _CENTRAL.unpack_from(octets, at)
    flags, method, name_octets, extra_octets = fields[3], fields[4], fields[10], fields[11]
    names = _names(octets, at + _CENTRAL.size, name_octets, extra_octets, allowance)
    return _Entry(names, flags, method, -1)


def _names(
    octets: bytes, at: int, name_octets: int, extra_octets: int, allowance: Allowance
) -> tuple[str, ...]:
    extra = at + name_octets
    allowance.name_octets -= name_octets + extra_octets
    names = (octets[at:extra], _unicode_path(octets[extra : extra + extra_octets]))
    return tuple({_name(one) for one in names if one})


def _name(octets: bytes) -> str:
    if len(octets) > 2 * NAME_OCTETS:
        octets = octets[:NAME_OCTETS] + octets[-NAME_OCTETS:]
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return octets.decode("cp437")


def _unicode_path(extra: bytes) -> bytes:
    """The name in UTF-8 that an extra field gives (APPNOTE 4.6.9), b"" for none."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = unpack_from("<HH", extra, at)
        if kind == _UNICODE_PATH:
            return extra[at + 9 : at + 4 + length]  # behind a version and a checksum
        at += 4 + length
    return b""


def _inside(octets: bytes, entry: _Entry, limit: int, allowance: Allowance) -> bytes | None:
    """Unpack an entry that is an archive, up to a limit; None for any other. What is stored as it is needs no unpacking."""
    if entry.method != _DEFLATED or entry.flags & _ENCRYPTED:
        return None
    if _inflated(octets, entry.data, len(LOCAL), PEEK_OCTETS) not in (LOCAL, END):
        return None
    inside = _inflated(octets, entry.data, limit, len(octets))
    allowance.unpacked_octets -= len(inside)
    return inside


def _inflated(octets: bytes, at: int, limit: int, most: int) -> bytes:
    """Unpack up to `limit` octets from at most so many, as far as they are sound."""
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    found = bytearray()
    end = min(len(octets), at + most)
    try:
        while at < end and not unpacker.eof and len(found) < limit:
            found += unpacker.decompress(octets[at : min(at + _CHUNK, end)], limit - len(found))
            at += _CHUNK
    except zlib.error:
        pass
    return bytes(found)
