"""Taking turns: who writes again and again lets others write in between.

SQLite's lock is no queue: who asks for it anew at once has it again, and who waits only looks now and then. On Postgres they
have it in the order in which they asked.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine

from store.database import writing


@contextmanager
def writing_in_turn(engine: Engine) -> Iterator[Connection]:
    """As `writing`, for one transaction of many in a row: then others have as long as it took."""
    began = time.monotonic()
    with writing(engine) as connection:
        yield connection
    if engine.dialect.name == "sqlite":
        time.sleep(time.monotonic() - began)
