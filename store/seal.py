"""A seal: what stood for the whole log up to a position, at a time; to be kept where nobody can change it.

Pure: the value, its file, and what a signature covers. A file is one JSON object; it may also show that it extends the seal
before it, so that who keeps both needs no store to see that nothing in between was rewritten.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import orjson

from store import merkle
from store.errors import ProofError
from store.merkle import HASH_OCTETS

FORMAT = "mailgate seal 1"


class NoSeal(ProofError):
    """The octets are no seal; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extension:
    """The seal before, and what shows that this one goes on from there."""

    position: int
    root: bytes
    proof: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """The root over the hashes of the events 1 to `position`, as RFC 6962 has it. `public_key` is Ed25519's, raw."""

    position: int
    root: bytes
    at: datetime
    public_key: bytes | None = None
    signature: bytes | None = None
    extends: Extension | None = None

    @property
    def statement(self) -> bytes:
        """What a signature covers: four lines of text."""
        return (
            f"{FORMAT}\nposition {self.position}\nroot {self.root.hex()}\nat {time_text(self.at)}\n".encode()
        )

    @property
    def alone(self) -> Seal:
        """The seal without what shows that it extends another."""
        return replace(self, extends=None)

    def continues(self) -> bool:
        """Whether it shows what it says: that it extends the seal before."""
        before = self.extends
        return before is None or merkle.extends(
            before.position, self.position, before.root, self.root, before.proof
        )

    def as_json(self) -> dict[str, Any]:
        """Return it as its file has it."""
        before = self.extends
        return {
            "format": FORMAT,
            "position": self.position,
            "root": self.root.hex(),
            "at": time_text(self.at),
            "public_key": _hex(self.public_key),
            "signature": _hex(self.signature),
            "extends": None
            if before is None
            else {
                "position": before.position,
                "root": before.root.hex(),
                "proof": [one.hex() for one in before.proof],
            },
        }

    def file(self) -> bytes:
        """Return the octets of its file."""
        return orjson.dumps(self.as_json(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def read(octets: bytes) -> Seal:
    """Return the seal in a file. Raises NoSeal."""
    try:
        found = orjson.loads(octets)
    except ValueError as error:
        raise NoSeal(f"it is no seal: {error}") from error
    return of_json(found)


def of_json(found: Any) -> Seal:
    """Return the seal that JSON means. Raises NoSeal; what it does not know it does not pass over."""
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise NoSeal(f"it is no seal: its format is not {FORMAT!r}")
    try:
        seal = _seal(found)
        as_written = seal.position > 0 and len(seal.root) == HASH_OCTETS and seal.as_json() == found
    except (
        KeyError,
        TypeError,
        ValueError,
        OverflowError,
    ) as error:  # OverflowError: a time before all times
        raise NoSeal(f"it is no seal: {error}") from error
    if not as_written:
        raise NoSeal("it is no seal as mailgate writes it")
    return seal


def _seal(found: dict[str, Any]) -> Seal:
    before = found["extends"]
    return Seal(
        position=int(found["position"]),
        root=bytes.fromhex(found["root"]),
        at=datetime.fromisoformat(found["at"]),
        public_key=_octets(found["public_key"]),
        signature=_octets(found["signature"]),
        extends=None
        if before is None
        else Extension(
            position=int(before["position"]),
            root=bytes.fromhex(before["root"]),
            proof=tuple(bytes.fromhex(one) for one in before["proof"]),
        ),
    )


def time_text(at: datetime) -> str:
    """Return a time as a seal's file has it."""
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _hex(octets: bytes | None) -> str | None:
    return None if octets is None else octets.hex()


def _octets(text: str | None) -> bytes | None:
    return None if text is None else bytes.fromhex(text)
