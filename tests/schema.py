"""The schema in a fresh database, as `mailgate db upgrade` makes it, but copied from one that was migrated once, which
takes a tenth of the time. For tests that need a store; those of making one let the program make it.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
from psycopg import sql
from sqlalchemy import URL, make_url

import migrations
from store.database import open_store
from tests.real.postgres import quickest

TEMPLATE = "mailgate_template"


def make(url: str) -> None:
    """Make the store at a URL; a database that has the schema stays as it is."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        if not _has_schema(url):
            _replace(parsed)
    elif parsed.database and not Path(parsed.database).exists():
        _write(Path(parsed.database))
    else:
        _migrate(url)


def _migrate(url: str) -> None:
    engine = open_store(url)
    migrations.upgrade(engine)
    engine.dispose()


def _has_schema(url: str) -> bool:
    engine = open_store(url)
    try:
        with engine.connect() as connection:
            return migrations.standing(connection) != "empty"
    finally:
        engine.dispose()


@cache
def _migrated() -> bytes:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "store.db"
        _migrate(f"sqlite:///{file}")
        return file.read_bytes()


def _write(file: Path) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)  # as the store makes it
    with os.fdopen(descriptor, "wb") as there:
        there.write(_migrated())


def _replace(url: URL) -> None:
    """Put a copy of the template in the place of a database."""
    where = {"host": url.host, "port": url.port, "user": url.username, "dbname": "postgres"}
    name, template = sql.Identifier(url.database or ""), sql.Identifier(TEMPLATE)
    with psycopg.connect(**where, autocommit=True) as connection:
        if not connection.execute("select 1 from pg_database where datname = %s", [TEMPLATE]).fetchone():
            connection.execute(sql.SQL("create database {}").format(template))
            _migrate(url.set(database=TEMPLATE).render_as_string(hide_password=False))
        connection.execute(sql.SQL("drop database {} with (force)").format(name))
        copied = sql.SQL("create database {} template {}").format(name, template)
        connection.execute(copied + quickest(connection))
