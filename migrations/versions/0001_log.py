"""The log, the octets, the seals, the followers, the agenda and the read tables.

Revision: 0001, the first.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

COMMON = "'attempted', 'delivered', 'downloaded', 'relayed', 'removed-from-source', 'scanned'"

POSITION = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    _events()
    _agenda()
    _messages()
    _texts()
    _sources()
    if op.get_bind().dialect.name == "sqlite":
        _guard_sqlite()
    else:
        _guard_postgres()


def _events() -> None:
    op.create_table(
        "events",
        sa.Column("position", POSITION, primary_key=True, autoincrement=False),
        sa.Column("stream", sa.Text, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.Column("personal", sa.LargeBinary),
        sa.Column("salt", sa.LargeBinary),
        sa.Column("digest", sa.LargeBinary),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("stream", "revision", name="events_stream"),
    )
    rare = sa.text(f"name NOT IN ({COMMON})")
    op.create_index(
        "events_rare_name", "events", ["name", "position"], sqlite_where=rare, postgresql_where=rare
    )
    op.create_table(
        "contents",
        sa.Column("position", POSITION, primary_key=True, autoincrement=False),
        sa.Column("octets", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "seals",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("position", POSITION, nullable=False),
        sa.Column("root", sa.LargeBinary, nullable=False),
        sa.Column("blocks", sa.LargeBinary, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("public_key", sa.LargeBinary),
        sa.Column("signature", sa.LargeBinary),
    )
    op.create_table(
        "followers",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("position", POSITION, nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("since", sa.BigInteger),
        sa.Column("said", sa.Text),
        sa.Column("retry_at", sa.BigInteger),
        sa.Column("holder", sa.Text),
        sa.Column("lease_until", sa.BigInteger),
    )


def _agenda() -> None:
    op.create_table(
        "agenda",
        sa.Column("stream", sa.Text, primary_key=True),
        sa.Column("lane", sa.Text, nullable=False),
        sa.Column("wake_at", sa.BigInteger, nullable=False),
        sa.Column("holder", sa.Text),
        sa.Column("lease_until", sa.BigInteger),
        sa.Column("fence", sa.BigInteger, nullable=False),
    )
    op.create_index("agenda_due", "agenda", ["lane", "wake_at"])
    held = sa.text("holder IS NOT NULL")
    op.create_index("agenda_holder", "agenda", ["holder"], sqlite_where=held, postgresql_where=held)


def _messages() -> None:
    op.create_table(
        "messages",
        sa.Column("position", POSITION, primary_key=True, autoincrement=False),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("direction", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("opened_at", sa.BigInteger, nullable=False),
        sa.Column("changed_at", sa.BigInteger, nullable=False),
        sa.Column("closed_at", sa.BigInteger),
        sa.Column("mailbox", sa.Text),
        sa.Column("uidl", sa.Text),
        sa.Column("reverse_path", sa.Text),
        sa.Column("reverse_path_key", sa.Text),
        sa.Column("message_id", sa.Text),
        sa.Column("subject", sa.Text),
        sa.Column("sender", sa.Text),
        sa.Column("size_octets", sa.BigInteger, nullable=False),
        sa.Column("content", sa.Text),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("next_hop", sa.Text),
        sa.Column("due_at", sa.BigInteger),
        sa.Column("quarantined_why", sa.Text),
        sa.Column("quarantined_by", sa.Text),
    )
    op.create_index("messages_reverse_path", "messages", ["reverse_path_key", "position"])
    op.create_index("messages_message_id", "messages", ["message_id", "position"])
    op.create_index("messages_mailbox", "messages", ["mailbox", "position"])
    op.create_index("messages_state", "messages", ["state", "position"])
    op.create_index("messages_direction", "messages", ["direction", "position"])
    slow = sa.text("closed_at - opened_at >= 60000000")
    op.create_index(
        *("messages_slow", "messages", ["position", "closed_at", "opened_at"]),
        sqlite_where=slow,
        postgresql_where=slow,
    )
    op.create_table(
        "recipients",
        sa.Column("message", POSITION, primary_key=True, autoincrement=False),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("address_key", sa.Text, nullable=False),
        sa.Column("routed_by", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("next_hop", sa.Text),
        sa.Column("reply", sa.Text),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("unknown_attempts", sa.Integer, nullable=False),
        sa.Column("retry_at", sa.BigInteger),
    )
    op.create_index("recipients_address", "recipients", ["address_key", "message"])
    op.create_table(
        "happenings",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("message", POSITION, primary_key=True, autoincrement=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "hops",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("message", POSITION, primary_key=True, autoincrement=False),
        sqlite_with_rowid=False,
    )
    op.create_table("exempt", sa.Column("message", POSITION, primary_key=True, autoincrement=False))
    op.create_table(
        "told",
        sa.Column("what", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("stream", sa.Text, nullable=False),
        sa.Column("about", sa.Text, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "hours",
        sa.Column("hour", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("first", POSITION, nullable=False),
        sa.Column("last", POSITION, nullable=False),
    )
    op.create_table(
        "tallies",
        sa.Column("hour", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("what", sa.Text, primary_key=True),
        sa.Column("bucket", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.Column("octets", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )


def _texts() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute(
            "CREATE VIRTUAL TABLE texts USING fts5(words, tokenize='ascii', detail='none', columnsize=0)"
        )
    else:
        op.execute("CREATE TABLE texts (rowid BIGINT PRIMARY KEY, words TSVECTOR NOT NULL)")
        op.execute("CREATE INDEX texts_words ON texts USING gin (words)")
    op.create_table(
        "subjects",
        sa.Column("position", POSITION, primary_key=True, autoincrement=False),
        sa.Column("folded", sa.Text, nullable=False),
    )


def _sources() -> None:
    op.create_table(
        "uidls",
        sa.Column("position", POSITION, primary_key=True, autoincrement=False),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("mailbox", sa.Text, nullable=False),
        sa.Column("uidl", sa.LargeBinary, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("size_octets", sa.BigInteger, nullable=False),
        sa.Column("stream", sa.Text),
        sa.Column("gone", sa.Boolean, nullable=False),
    )
    present = sa.text("gone IS false") if op.get_bind().dialect.name != "sqlite" else sa.text("gone IS 0")
    op.create_index(
        "uidls_present", "uidls", ["mailbox", "position"], sqlite_where=present, postgresql_where=present
    )
    op.create_index("uidls_digest", "uidls", ["mailbox", "digest"])
    op.create_index("uidls_stream", "uidls", ["stream"])
    op.create_table(
        "next_hops",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("since", sa.BigInteger),
        sa.Column("probe_at", sa.BigInteger),
        sa.Column("reply", sa.Text),
        sa.Column("reply_position", sa.BigInteger),
        sa.Column("size_limit_octets", sa.BigInteger),
    )
    op.create_table(
        "mailboxes",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("health", sa.Text, nullable=False),
        sa.Column("since", sa.BigInteger),
        sa.Column("kind", sa.Text),
        sa.Column("permanent", sa.Boolean, nullable=False),
        sa.Column("text", sa.Text),
        sa.Column("last_new_at", sa.BigInteger),
        sa.Column("downloaded", sa.BigInteger, nullable=False),
        sa.Column("withheld", sa.Text, nullable=False),
        sa.Column("more_withheld", sa.Integer, nullable=False),
        sa.Column("marked", sa.Text, nullable=False),
        sa.Column("undeleted", sa.Text, nullable=False),
        sa.Column("more_undeleted", sa.Integer, nullable=False),
    )


# The one lawful update: personal facts and their salt to nothing, all else as it was.
KEPT = ("position", "stream", "revision", "name", "version", "at", "data", "digest", "hash")


def _guard_sqlite() -> None:
    same = " AND ".join(f"NEW.{column} IS OLD.{column}" for column in KEPT)
    op.execute(
        "CREATE TRIGGER events_no_delete BEFORE DELETE ON events BEGIN "
        "SELECT RAISE(ABORT, 'events are never deleted'); END"
    )
    op.execute(
        "CREATE TRIGGER events_no_update BEFORE UPDATE ON events "
        f"WHEN NOT (NEW.personal IS NULL AND NEW.salt IS NULL AND {same}) BEGIN "
        "SELECT RAISE(ABORT, 'events are never changed'); END"
    )
    # INSERT OR REPLACE deletes without asking the trigger for deletes.
    op.execute(
        "CREATE TRIGGER events_no_replace BEFORE INSERT ON events "
        "WHEN EXISTS (SELECT 1 FROM events WHERE position = NEW.position) "
        "OR EXISTS (SELECT 1 FROM events WHERE stream = NEW.stream AND revision = NEW.revision) BEGIN "
        "SELECT RAISE(ABORT, 'events are never changed'); END"
    )
    for verb in ("DELETE", "UPDATE"):
        op.execute(
            f"CREATE TRIGGER seals_no_{verb.lower()} BEFORE {verb} ON seals BEGIN "
            "SELECT RAISE(ABORT, 'seals are never changed or deleted'); END"
        )
    op.execute(
        "CREATE TRIGGER seals_no_replace BEFORE INSERT ON seals "
        "WHEN EXISTS (SELECT 1 FROM seals WHERE number = NEW.number) BEGIN "
        "SELECT RAISE(ABORT, 'seals are never changed or deleted'); END"
    )


def _guard_postgres() -> None:
    same = " AND ".join(f"NEW.{column} IS NOT DISTINCT FROM OLD.{column}" for column in KEPT)
    op.execute(
        "ALTER TABLE contents ALTER octets SET STORAGE EXTERNAL"
    )  # mail hardly compresses, and pglz is slow
    op.execute(
        "CREATE FUNCTION events_refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'events are never changed or deleted'; END $$"
    )
    op.execute(
        "CREATE TRIGGER events_no_delete BEFORE DELETE ON events FOR EACH ROW EXECUTE FUNCTION events_refuse()"
    )
    op.execute("CREATE TRIGGER events_no_truncate BEFORE TRUNCATE ON events EXECUTE FUNCTION events_refuse()")
    op.execute(
        "CREATE TRIGGER events_no_update BEFORE UPDATE ON events FOR EACH ROW "
        f"WHEN (NOT (NEW.personal IS NULL AND NEW.salt IS NULL AND {same})) "
        "EXECUTE FUNCTION events_refuse()"
    )
    op.execute(
        "CREATE FUNCTION seals_refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'seals are never changed or deleted'; END $$"
    )
    op.execute(
        "CREATE TRIGGER seals_no_change BEFORE UPDATE OR DELETE ON seals FOR EACH ROW "
        "EXECUTE FUNCTION seals_refuse()"
    )
    op.execute("CREATE TRIGGER seals_no_truncate BEFORE TRUNCATE ON seals EXECUTE FUNCTION seals_refuse()")
