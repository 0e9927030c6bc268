"""Do the triggers that refuse to change the log do what they were made to do? They are compared with how they were made.

By name alone would not do: who may write to the database can put one that refuses nothing in the place of each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sqlalchemy import Connection

from store import pages
from store.verified import Count, Finding

_KEPT = ("position", "stream", "revision", "name", "version", "at", "data", "digest", "hash")
_SAME = " AND ".join(f"NEW.{column} IS OLD.{column}" for column in _KEPT)
_SAME_ON_POSTGRES = " AND ".join(f"NOT new.{column} IS DISTINCT FROM old.{column}" for column in _KEPT)
_SEALS_REFUSE = "BEGIN SELECT RAISE(ABORT, 'seals are never changed or deleted'); END"

# As the migrations leave them (a test compares); on SQLite in the words in which they were made.
_SQLITE = {
    "events_no_delete": "BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, 'events are never deleted'); END",
    "events_no_update": "BEFORE UPDATE ON events"
    f" WHEN NOT (NEW.personal IS NULL AND NEW.salt IS NULL AND {_SAME})"
    " BEGIN SELECT RAISE(ABORT, 'events are never changed'); END",
    "events_no_replace": "BEFORE INSERT ON events WHEN EXISTS (SELECT 1 FROM events WHERE position = NEW.position)"
    " OR EXISTS (SELECT 1 FROM events WHERE stream = NEW.stream AND revision = NEW.revision)"
    " BEGIN SELECT RAISE(ABORT, 'events are never changed'); END",
    "seals_no_delete": f"BEFORE DELETE ON seals {_SEALS_REFUSE}",
    "seals_no_update": f"BEFORE UPDATE ON seals {_SEALS_REFUSE}",
    "seals_no_replace": "BEFORE INSERT ON seals WHEN EXISTS (SELECT 1 FROM seals WHERE number = NEW.number) "  # noqa: S608  # our names
    + _SEALS_REFUSE,
}
# On Postgres in the words in which the server tells of them, and the body of the function that each calls.
_POSTGRES = {
    "events_no_delete": "BEFORE DELETE ON events FOR EACH ROW",
    "events_no_truncate": "BEFORE TRUNCATE ON events FOR EACH STATEMENT",
    "events_no_update": "BEFORE UPDATE ON events FOR EACH ROW"
    f" WHEN (NOT (new.personal IS NULL AND new.salt IS NULL AND {_SAME_ON_POSTGRES}))",
    "seals_no_change": "BEFORE DELETE OR UPDATE ON seals FOR EACH ROW",
    "seals_no_truncate": "BEFORE TRUNCATE ON seals FOR EACH STATEMENT",
}


def _on_postgres(name: str, made: str) -> str:
    table = name.partition("_")[0]
    body = f" BEGIN RAISE EXCEPTION '{table} are never changed or deleted'; END "
    return f"CREATE TRIGGER {name} {made} EXECUTE FUNCTION {table}_refuse() plpgsql{body}"


GUARDS: Mapping[str, Mapping[str, str]] = {
    "sqlite": {name: f"CREATE TRIGGER {name} {made}" for name, made in _SQLITE.items()},
    "postgresql": {name: _on_postgres(name, made) for name, made in _POSTGRES.items()},
}
_TRIGGERS = {
    "sqlite": "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name IN ('events', 'seals')",
    # Quotes stand around what is a keyword to this server; none of these names needs them.
    "postgresql": "SELECT t.tgname::text, replace(pg_get_triggerdef(t.oid, true), '\"', '')"
    " || ' ' || l.lanname || p.prosrc FROM pg_trigger t"
    " JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_language l ON l.oid = p.prolang"
    " WHERE t.tgenabled IN ('O', 'A') AND t.tgrelid IN ('events'::regclass, 'seals'::regclass)",
}


def check(connection: Connection, count: Count) -> Iterator[Finding]:
    """Yield which triggers are not there any more, or are others: somebody has taken them away."""
    kind = connection.dialect.name
    there: dict[str, str] = dict(pages.query(connection, _TRIGGERS[kind]))
    for name, made in GUARDS[kind].items():
        if there.get(name) != made:
            what = (
                "refuses something else than it was made to" if name in there else "is gone, or is disabled"
            )
            count.findings += 1
            yield Finding(f"the database may change the log: its trigger {name} {what}")
