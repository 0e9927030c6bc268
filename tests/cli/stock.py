"""A store with a message of each kind, and the command line to ask it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from cli import times
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


class Place:
    """A store with a message of each kind, as old as an hour or so, and the command to ask about it."""

    def __init__(self, folder: Path, url: str) -> None:
        self.builder = Builder(url, times.now() - timedelta(hours=4, minutes=2))
        self.ids = varied(self.builder)
        self.builder.at = times.now() - timedelta(seconds=2)
        self.file = configure(folder, url)
        self.mailgate = Mailgate(folder)
        self.store = folder / "mailgate.db"
