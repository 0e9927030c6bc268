"""Stores with the schema, on SQLite and on Postgres: copies of one that was migrated once."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Engine

import migrations
from store.database import open_store

KINDS = ["sqlite", pytest.param("postgres", marks=pytest.mark.real)]

Fresh = Callable[[str], AbstractContextManager[Engine]]


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file with the schema and nothing in it."""
    file = tmp_path_factory.mktemp("migrated") / "store.db"
    _migrate(f"sqlite:///{file}")
    return file


@pytest.fixture(scope="session")
def fresh(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Fresh:
    """Opens an empty store of a kind: `with fresh("postgres") as engine`."""
    numbers = count(1)

    def sqlite() -> Iterator[str]:
        file = tmp_path_factory.mktemp("store") / "store.db"
        shutil.copy(request.getfixturevalue("migrated_file"), file)
        yield f"sqlite:///{file}"

    def postgres() -> Iterator[str]:
        template = request.getfixturevalue("migrated_postgres")
        server, _, origin = template.rpartition("/")
        name = f"store_{next(numbers)}"
        plain = template.replace("+psycopg", "").rpartition("/")[0] + "/postgres"
        with psycopg.connect(plain, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {origin}".encode())
        yield f"{server}/{name}"
        with psycopg.connect(plain, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())

    @contextmanager
    def opened(kind: str) -> Iterator[Engine]:
        for url in {"sqlite": sqlite, "postgres": postgres}[kind]():
            engine = open_store(url)
            try:
                yield engine
            finally:
                engine.dispose()

    return opened


@pytest.fixture(scope="session")
def migrated_postgres(request: pytest.FixtureRequest) -> str:
    """A Postgres database with the schema and nothing in it."""
    url: str = request.getfixturevalue("postgres").create_database()
    _migrate(url)
    return url


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


def _migrate(url: str) -> None:
    engine = open_store(url)
    migrations.upgrade(engine)
    engine.dispose()
