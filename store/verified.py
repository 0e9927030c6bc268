"""What verifying comes to: what was looked at, and what is wrong."""

from __future__ import annotations

from dataclasses import dataclass

from store.seal import Seal


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong, and at which event or with which seal, where it is about one."""

    what: str
    position: int | None = None
    stream: str | None = None
    revision: int | None = None
    seal: str | None = None  # its name, with which the text begins

    @classmethod
    def at(cls, what: str, position: int, stream: object, revision: object) -> Finding:
        """Return a finding about an event, whatever stands there in place of a name and a number."""
        return cls(
            what,
            position,
            stream if isinstance(stream, str) else repr(stream),
            revision if isinstance(revision, int) else None,
        )

    def __str__(self) -> str:
        if self.stream is None:
            return self.what if self.position is None else f"position {self.position}: {self.what}"
        revision = "without a revision" if self.revision is None else f"revision {self.revision}"
        return f"position {self.position} ({self.stream}, {revision}): {self.what}"


@dataclass(slots=True)
class Count:
    """What was looked at."""

    events: int = 0
    streams: int = 0
    erased: int = 0  # events whose personal facts were erased
    contents: int = 0
    seals: int = 0
    sealed_until: int = 0  # the last position under a seal that holds
    unsigned: int = 0  # seals on record that the key which was named did not sign
    findings: int = 0


@dataclass(frozen=True, slots=True)
class Sealed:
    """A seal to be compared with the log, and what to call it."""

    name: str
    seal: Seal
    kept_elsewhere: bool = False
