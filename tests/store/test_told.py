"""What the postmaster was told last, of each thing by itself."""

from __future__ import annotations

from typing import Any, get_args

from sqlalchemy import Engine

from store import told
from store.database import reading
from store.events import ReportKind
from store.log import Append
from store.told import NEWS, Told, What
from tests.store.build import after, append, generated


def notice(stream: str, kind: str, concerns: str | None = None, **span: Any) -> Append:
    event = generated(kind=kind, about="m1", concerns=concerns)
    return Append(stream, None, (event,), after(**span), b"Subject: Notice\r\n\r\n")


def test_the_last_notice_of_each_thing_counts(store: Engine) -> None:
    append(store, notice("n1", "scanner-down", "clamd"), notice("n2", "scanner-down", "spamd"))
    append(store, notice("n3", "next-hop-down", "clamd"), notice("n4", "failure"))
    with reading(store) as connection:
        assert {name: one.trouble for name, one in told.of(connection, "scanner").items()} == {
            "clamd": True,
            "spamd": True,
        }
    append(
        store, notice("n5", "scanner-down", "spamd", hours=1), notice("n6", "scanner-up", "spamd", hours=2)
    )
    with reading(store) as connection:
        assert told.last(connection, "scanner", "spamd") == Told(
            kind="scanner-up", stream="n6", about="m1", at=after(hours=2)
        )
        clamd, home = told.last(connection, "scanner", "clamd"), told.last(connection, "next-hop", "clamd")
        assert clamd is not None
        assert home is not None
        assert (clamd.stream, home.stream) == ("n1", "n3")
        assert told.last(connection, "daily") is None
    append(store, notice("n7", "daily", hours=3))
    with reading(store) as connection:
        daily = told.last(connection, "daily")
        assert daily is not None
        assert (daily.at, daily.trouble) == (after(hours=3), False)


def test_every_kind_of_news_is_a_kind_of_notice() -> None:
    assert set(NEWS) <= set(get_args(ReportKind))
    assert {what for what, _ in NEWS.values()} == set(get_args(What))
