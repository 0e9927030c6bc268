"""Is a bundle true? Told from the file alone, and from a seal or a key that the reader has from elsewhere.

The chain shows that the events belong together and that none is missing in between; the seal, that they stood in this log at
their places when it was sealed. A seal that nobody kept elsewhere, or that no known key signed, shows only
that the bundle agrees with itself: that is said, too.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile

import orjson

from store import bundle, merkle, signing
from store.bundle import EVENTS, OCTETS, PROOF, README, SUMMARY, SUMS, Bundle, Fact, NoBundle
from store.chain import GENESIS, digest, link
from store.schema import microseconds
from store.seal import Seal, time_text

UP_TO_THE_LAST = (
    f"it tells what happened up to its last event, and not what came after; {SUMMARY} is for reading alone:"
    " --page prints it from the events"
)
MEMBERS = (README, EVENTS, PROOF, SUMMARY, OCTETS, SUMS)
REQUIRED = (README, EVENTS, SUMMARY, SUMS)
CHUNK_OCTETS = 1 << 20
MAIL_OCTETS_LIMIT = 1 << 30


@dataclass(frozen=True, slots=True)
class Inspected:
    """What a bundle holds and what is wrong with it. `notes` are not wrong, and must be known to who relies on it."""

    bundle: Bundle | None
    findings: tuple[str, ...]
    notes: tuple[str, ...] = ()


def inspect(file: Path, kept: Seal | None = None, public_key: bytes | None = None) -> Inspected:
    """Look into a bundle. `kept` is the seal that it must be under, `public_key` that which must have signed its seal.

    Raises OSError, and KeyTrouble where a signature can't be checked here.
    """
    try:
        with ZipFile(file) as archive:
            digests = _digests(archive)
            wrong = [*_members(archive, digests)]
            found = bundle.read(archive)
    except NoBundle as error:
        return Inspected(None, (str(error),))
    except (
        BadZipFile,
        NotImplementedError,
        struct.error,
        ValueError,
    ) as error:  # as zipfile speaks of damage
        return Inspected(None, (f"it is no bundle, or a damaged one: {error}",))
    wrong += _chain(found)
    wrong += _octets(found, digests.get(OCTETS))
    wrong += _sealed(found, kept, public_key)
    notes = (*_notes(found, digests, kept, public_key), UP_TO_THE_LAST)
    return Inspected(found, tuple(wrong), notes)


def _digests(archive: ZipFile) -> dict[str, str]:
    """Return the sha256 of each member, read piece by piece. Raises NoBundle."""
    found: dict[str, str] = {}
    for name in dict.fromkeys(_to_be_read(archive)):  # however often it is there: that is found elsewhere
        summed = sha256()
        try:
            with archive.open(name) as stream:
                while chunk := stream.read(CHUNK_OCTETS):
                    summed.update(chunk)
        except Exception as error:  # of zlib, of zipfile, of whatever a damaged file brings about
            raise NoBundle(f"{name} is damaged: {error}") from error
        found[name] = summed.hexdigest()
    return found


def _to_be_read(archive: ZipFile) -> Iterator[str]:
    """Yield the members that may be read at all: a stranger's file may hold very much in few octets. Raises NoBundle."""
    for info in archive.infolist():
        if info.filename not in MEMBERS:
            continue  # it doesn't belong there, whatever it is
        if info.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
            raise NoBundle(f"{info.filename} is compressed in a way that no bundle is")
        limit = MAIL_OCTETS_LIMIT if info.filename == OCTETS else bundle.JSON_OCTETS_LIMIT
        if info.file_size > limit:
            raise NoBundle(f"{info.filename} is too large: {info.file_size:,} octets")
        yield info.filename


def _members(archive: ZipFile, digests: dict[str, str]) -> Iterator[str]:
    names = archive.namelist()
    for name in REQUIRED:
        if name not in names:
            yield f"{name} is missing"
    for name in sorted(set(names)):
        if name not in MEMBERS or names.count(name) > 1:
            yield f"{name} does not belong there"
    said = bundle.member(archive, SUMS).decode(errors="replace") if SUMS in names else ""
    listed = dict(line.split("  ", 1)[::-1] for line in said.splitlines() if "  " in line)
    for name, summed in digests.items():
        if name != SUMS and listed.pop(name, None) != summed:
            yield f"{name} is not what {SUMS} says"
    for name in listed.keys() - set(names):
        yield f"{name} is in {SUMS}, and not there"


def _chain(found: Bundle) -> Iterator[str]:
    if not found.facts:
        yield "there are no events"
    previous, position = GENESIS, 0
    for revision, fact in enumerate(found.facts):
        what = f"event {revision} ({fact.name})"
        if fact.stream != found.message or fact.revision != revision or fact.position <= position:
            yield f"{what} is not the next of message {found.message}"
        if not _follows(previous, fact):
            yield f"{what}: its hash is not that of its facts and of the event before it"
        if fact.personal is not None and (
            fact.salt is None or digest(fact.salt, fact.personal) != fact.digest
        ):
            yield f"{what}: its personal facts are not those that its digest stands for"
        if fact.personal is None and fact.salt is not None:
            yield f"{what}: its personal facts are gone and their salt is not"
        previous, position = fact.hash, fact.position


def _follows(previous: bytes, fact: Fact) -> bool:
    try:
        hashed = link(
            previous,
            fact.stream,
            fact.revision,
            fact.name,
            fact.version,
            microseconds(fact.at),
            fact.data,
            fact.digest,
        )
    except (TypeError, OverflowError):  # of orjson, for what can't have been there
        return False
    return hashed == fact.hash


def _octets(found: Bundle, summed: str | None) -> Iterator[str]:
    if summed is None or not found.facts:
        return
    try:
        wanted = orjson.loads(found.facts[0].data).get("content")
    except (ValueError, AttributeError):
        wanted = None
    if wanted != summed:
        yield f"{OCTETS}: the octets are not those that arrived"


def _sealed(found: Bundle, kept: Seal | None, public_key: bytes | None) -> Iterator[str]:
    if found.seal is None:
        if kept is not None or public_key is not None:
            yield "no seal covers it"
        return
    if kept is not None and (kept.position, kept.root) != (found.seal.position, found.seal.root):
        yield (
            f"it is under a seal at position {found.seal.position}, not under the one that was kept, at"
            f" {kept.position}: have it exported with that (--seal)"
        )
    elif kept is not None and kept.at != found.seal.at:
        yield (
            f"its seal says that it was made at {time_text(found.seal.at)}, and the one that was kept at"
            f" {time_text(kept.at)}: have it exported with that (--seal)"
        )
    if (what := signing.trouble(found.seal, public_key)) is not None:
        yield f"its seal {what}"
    places = {fact.position for fact in found.facts}
    for position in found.inclusion:
        if position not in places:
            yield f"there is a proof for position {position}, and no event"
    for fact in found.facts:
        path = found.inclusion.get(fact.position)
        if path is None:
            if fact.position <= found.seal.position:
                yield f"event {fact.revision} ({fact.name}): nothing shows that it is under the seal"
        elif found.seal.root != merkle.climb(
            merkle.leaf(fact.hash), fact.position - 1, found.seal.position, path
        ):
            yield f"event {fact.revision} ({fact.name}) is not under the seal at position {fact.position}"


def _notes(
    found: Bundle, digests: dict[str, str], kept: Seal | None, public_key: bytes | None
) -> Iterator[str]:
    erased = sum(fact.personal is None and fact.digest is not None for fact in found.facts)
    if erased:
        yield f"the personal facts of {erased} events are not in it: erased, or left out"
    if OCTETS not in digests:
        yield "the message's octets are not in it"
    if found.seal is None:
        yield "no seal covers it: the events agree with each other, and nothing shows where they come from"
        return
    late = sum(fact.position > found.seal.position for fact in found.facts)
    if late:
        yield f"{late} of {len(found.facts)} events came after the seal: nothing shows where they come from"
    if kept is None and public_key is None:
        by = f" It is signed: {signing.fingerprint(found.seal.public_key)}." if found.seal.public_key else ""
        yield f"compare its seal with one that was kept elsewhere (--seal), or name the key (--public-key).{by}"
