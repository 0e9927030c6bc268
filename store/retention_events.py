"""That a message is exempt from retention and erasure (a legal hold), or no longer; part of the vocabulary in `events`."""

from __future__ import annotations

from typing import ClassVar

from msgspec import Struct

from store.personal import Personal


class Kept(Struct, frozen=True, kw_only=True):
    """A person said that it is to be kept, octets and record, whatever its age, until they say otherwise."""

    NAME: ClassVar[str] = "kept"
    VERSION: ClassVar[int] = 1

    operator: str
    policy: str

    reason: Personal[str] = ""


class KeptNoLonger(Struct, frozen=True, kw_only=True):
    """It is left to retention again, as any other: what has been over for long goes at its next round."""

    NAME: ClassVar[str] = "kept-no-longer"
    VERSION: ClassVar[int] = 1

    operator: str
    policy: str

    reason: Personal[str] = ""
