"""Fixtures for every test: databases and real servers, each started when first asked for.

A server that is not installed here skips the tests that ask for it, with the reason. With
MAILGATE_REQUIRE_REAL=1 it fails them instead: there nothing may be skipped. Tests that ask for a real server
get the marker `real`, so that `pytest -m "not real"` runs the others alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import pytest

from tests.real.clamd import Clamd
from tests.real.dovecot import Dovecot
from tests.real.postfix import Postfix
from tests.real.postgres import Postgres
from tests.real.process import Missing, find_program
from tests.real.rspamd import Rspamd
from tests.real.server import Server
from tests.real.spamd import Spamd
from tests.scratch import DISK, scratch

ServerT = TypeVar("ServerT", bound=Server)

REAL_FIXTURES = {
    "postgres",
    "postgres_url",
    "start_postgres",
    "dovecot",
    "start_dovecot",
    "postfix",
    "start_postfix",
    "smtp_source",
    "clamd",
    "spamd",
    "rspamd",
}


def pytest_configure() -> None:
    if scratch() != DISK:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(scratch()))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if REAL_FIXTURES.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.real)


def start_real(stack: ExitStack, server: Callable[..., ServerT], *given: Any, **options: Any) -> ServerT:
    """Start a server that ends with `stack`; skip or fail the test where it is not installed."""
    try:
        started = server(*given, **options)
        stack.enter_context(started)
    except Missing as missing:
        without(str(missing))
    return started


def without(reason: str) -> NoReturn:
    """Skip or fail the test, for something is not installed."""
    if os.environ.get("MAILGATE_REQUIRE_REAL") == "1":
        pytest.fail(f"MAILGATE_REQUIRE_REAL=1, but {reason}", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One PostgreSQL server for all tests. Make databases in it; don't kill it."""
    with ExitStack() as stack:
        yield start_real(stack, Postgres, within=scratch())


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """A fresh empty PostgreSQL database."""
    url = postgres.create_database()
    yield url
    postgres.drop_database(url)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The URL of an SQLite database that does not exist yet."""
    return f"sqlite:///{tmp_path / 'mailgate.db'}"


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.real)])
def database_url(request: pytest.FixtureRequest) -> str:
    """A fresh empty database; the test runs once with each kind."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def start_postgres() -> Iterator[Callable[..., Postgres]]:
    """Starts a PostgreSQL of the test's own, to be killed at will: `start_postgres(fsync=True)`."""
    with ExitStack() as stack:
        yield partial(start_real, stack, Postgres)


@pytest.fixture
def start_dovecot() -> Iterator[Callable[..., Dovecot]]:
    """Starts a Dovecot: `start_dovecot({"info": "secret"}, lock_session=True)`."""
    with ExitStack() as stack:
        yield partial(start_real, stack, Dovecot)


@pytest.fixture
def dovecot(start_dovecot: Callable[..., Dovecot]) -> Dovecot:
    """A Dovecot with one empty mailbox: user info, password secret."""
    return start_dovecot({"info": "secret"})


@pytest.fixture
def start_postfix() -> Iterator[Callable[..., Postfix]]:
    """Starts a Postfix: `start_postfix(message_size_limit=100_000)`."""
    with ExitStack() as stack:
        yield partial(start_real, stack, Postfix)


@pytest.fixture
def postfix(start_postfix: Callable[..., Postfix]) -> Postfix:
    """A Postfix that takes everything."""
    return start_postfix()


@pytest.fixture
def smtp_source() -> str:
    """Postfix's client for loads: the path of the program."""
    try:
        return find_program("smtp-source", package="postfix")
    except Missing as missing:
        without(str(missing))


@pytest.fixture
def clamd() -> Iterator[Clamd]:
    """A clamd that knows EICAR."""
    with ExitStack() as stack:
        yield start_real(stack, Clamd)


@pytest.fixture
def spamd() -> Iterator[Spamd]:
    """A spamd that knows GTUBE."""
    with ExitStack() as stack:
        yield start_real(stack, Spamd)


@pytest.fixture
def rspamd() -> Iterator[Rspamd]:
    """An rspamd that knows GTUBE."""
    with ExitStack() as stack:
        yield start_real(stack, Rspamd)
