"""Which facts of an event are personal ones: they are stored apart and may be erased."""

from __future__ import annotations

from functools import cache
from typing import Annotated, TypeVar

from msgspec import Meta, Struct, structs

T = TypeVar("T")
_PERSONAL = Meta(extra={"personal": True})
Personal = Annotated[T, _PERSONAL]


@cache
def personal_facts(kind: type[Struct]) -> frozenset[str]:
    """Return the names of the fields of an event that are personal facts."""
    return frozenset(f.name for f in structs.fields(kind) if _PERSONAL in getattr(f.type, "__metadata__", ()))
