"""Stores with the schema, on SQLite and on Postgres: copies of one that was migrated once."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
from sqlalchemy import Engine

from store.database import open_store
from tests import schema
from tests.real.postgres import Postgres

KINDS = ["sqlite", pytest.param("postgres", marks=pytest.mark.real)]

Fresh = Callable[[str], AbstractContextManager[Engine]]


@pytest.fixture(scope="session")
def fresh(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Fresh:
    """Opens an empty store of a kind: `with fresh("postgres") as engine`."""

    def sqlite() -> Iterator[str]:
        folder = tmp_path_factory.mktemp("store")
        yield f"sqlite:///{folder / 'store.db'}"
        shutil.rmtree(folder, ignore_errors=True)

    def postgres() -> Iterator[str]:
        server: Postgres = request.getfixturevalue("postgres")
        url = server.create_database()
        yield url
        server.drop_database(url)

    @contextmanager
    def opened(kind: str) -> Iterator[Engine]:
        for url in {"sqlite": sqlite, "postgres": postgres}[kind]():
            schema.make(url)
            engine = open_store(url)
            try:
                yield engine
            finally:
                engine.dispose()

    return opened


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, fresh: Fresh) -> Iterator[Engine]:
    """An empty store; the test runs once with each kind of database."""
    with fresh(request.param) as engine:
        yield engine


@pytest.fixture
def sqlite_store(fresh: Fresh) -> Iterator[Engine]:
    with fresh("sqlite") as engine:
        yield engine


@pytest.fixture
def postgres_store(postgres: object, fresh: Fresh) -> Iterator[Engine]:
    with fresh("postgres") as engine:
        yield engine
