"""What was deleted leaves the file, where it is asked for."""

from __future__ import annotations

from sqlalchemy import Engine

from store import contents
from store.database import reading, writing
from store.space import Space, give_back, space
from tests.store.build import append, opening

LARGE = 3 << 20


def now(engine: Engine) -> Space | None:
    with reading(engine) as connection:
        return space(connection)


def test_a_file_gets_smaller_by_as_much_as_is_asked_for(sqlite_store: Engine) -> None:
    append(sqlite_store, opening("m1", octets=b"x" * LARGE), opening("m2", octets=b"y" * 100))
    before = now(sqlite_store)
    with writing(sqlite_store) as connection:
        contents.drop(connection, ["m1"])
    free = now(sqlite_store)
    assert before is not None
    assert free is not None
    assert free.file_octets == before.file_octets
    assert free.free_octets - before.free_octets >= LARGE
    with writing(sqlite_store) as connection:
        give_back(connection, 1 << 20)
    some = now(sqlite_store)
    assert some is not None
    assert free.file_octets - some.file_octets == 1 << 20
    with writing(sqlite_store) as connection:
        give_back(connection, LARGE)
    left = now(sqlite_store)
    assert left is not None
    assert left.file_octets <= before.file_octets - LARGE
    assert left.free_octets == 0


def test_postgres_sees_to_its_own_room(postgres_store: Engine) -> None:
    assert now(postgres_store) is None
    with writing(postgres_store) as connection:
        give_back(connection, 1 << 20)
