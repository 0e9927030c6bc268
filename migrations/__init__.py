"""The schema's history, and the one way to move a database along it.

Released steps are never edited. There are no downgrades: restore a backup. Alembic is imported only when there is
something to do, for it is slow to import and most starts find the schema current.
"""

from __future__ import annotations

from importlib.resources import as_file, files
from typing import Literal

from sqlalchemy import Connection, Engine, inspect, text

from store.database import writing
from store.errors import StoreError

HEAD = "0001"

Standing = Literal["empty", "current", "behind", "unknown"]


def revision(connection: Connection) -> str | None:
    """Return the schema's revision, None for a database without one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return found


def standing(connection: Connection) -> Standing:
    """Say how a database stands to this program; "unknown" is a revision of a newer program."""
    found = revision(connection)
    if found is None:
        return "empty"
    if found == HEAD:
        return "current"
    return "behind" if found < HEAD else "unknown"


def upgrade(engine: Engine) -> None:
    """Bring a database to HEAD, in one transaction; two at once wait for each other."""
    from alembic.command import upgrade as run
    from alembic.config import Config
    from alembic.util import CommandError

    with as_file(files("migrations")) as folder, writing(engine) as connection:
        config = Config()
        config.set_main_option("script_location", str(folder).replace("%", "%%"))
        config.attributes["connection"] = connection
        try:
            run(config, "head")
        except CommandError as error:  # it is at none of the steps
            raise StoreError(f"the schema is none of mailgate's, and can't be upgraded: {error}") from error
