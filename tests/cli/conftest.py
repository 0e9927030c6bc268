"""What tests of asking commands share: one store to read from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.command import Mailgate
from tests.cli.stock import Place, Stock, stocked


@pytest.fixture(scope="session")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Stock:
    """A store with a message of each kind. Shared: ask it, never change it."""
    folder = tmp_path_factory.mktemp("stock")
    return stocked(folder, f"sqlite:///{folder / 'mailgate.db'}")


@pytest.fixture
def mailgate(tmp_path: Path) -> Mailgate:
    """The command in an empty folder."""
    return Mailgate(tmp_path)


@pytest.fixture
def place(tmp_path: Path, sqlite_url: str) -> Iterator[Place]:
    made = Place(tmp_path, sqlite_url)
    yield made
    made.builder.close()


@pytest.fixture
def either(tmp_path: Path, database_url: str) -> Iterator[Place]:
    made = Place(tmp_path, database_url)
    yield made
    made.builder.close()
