"""A store with a message of each kind, and the command line to ask it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.build import Builder, varied
from tests.cli.command import Mailgate, configure


@dataclass(frozen=True, slots=True)
class Stock:
    """The ids of the messages by what they are, and the command to ask about them. For reading only."""

    mailgate: Mailgate
    ids: dict[str, str]
    url: str


def stocked(folder: Path, url: str) -> Stock:
    """Fill a fresh database and configure the command for it."""
    builder = Builder(url)
    try:
        ids = varied(builder)
    finally:
        builder.close()
    configure(folder, url)
    return Stock(Mailgate(folder), ids, url)
