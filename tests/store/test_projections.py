"""What the read tables say of mailboxes and next hops."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine

from store import mailbox_queries
from store.database import reading
from store.events import Event, MailboxEvent, RejectedOversize, RemovedFromSource
from store.log import Append
from store.mailbox_events import Adopted, Adoption, mailbox_stream
from store.mailbox_life import Known
from store.next_hop_rows import LEAST_LIMIT_OCTETS
from store.read_tables import messages, next_hops
from tests.store.build import (
    NOW,
    POLICY,
    after,
    append,
    attempted,
    deferred,
    delivered,
    mailbox,
    opening,
    oversize,
    relayed,
    removed,
    rows,
    then,
)

ODD_UIDLS = [
    "x" * 5000,
    "with a space",
    "\xff\xfe\x80not utf-8",
    "nul\0nul",
    "",
    "'; DROP TABLE uidls; --",
    "%_*",
]


def on_mailbox(engine: Engine, *events: MailboxEvent) -> None:
    append(engine, Append(mailbox_stream("info"), mailbox(engine), events, NOW))


def present(engine: Engine, name: str = "info") -> list[Known]:
    with reading(engine) as connection:
        return mailbox_queries.present(connection, name)


def gone(engine: Engine, *uidls: bytes) -> list[Known]:
    with reading(engine) as connection:
        return mailbox_queries.gone(connection, "info", uidls)


def adopted(*uidls: Adoption, operator: str = "anna") -> Adopted:
    return Adopted(mailbox="info", uidls=uidls, operator=operator, reason="old")


# -- UIDLs


@pytest.mark.parametrize("uidl", ODD_UIDLS)
def test_any_uidl_is_known_again_octet_by_octet(uidl: str, store: Engine) -> None:
    first = opening(uidl=uidl, listed_octets=77)
    append(store, first, opening("m2", uidl=uidl + "!"), opening("m3", uidl=uidl, mailbox="other"))
    octets = uidl.encode("latin-1")
    assert present(store) == [
        Known(
            uidl=octets,
            size_octets=77,
            stream="m1",
            state="received",
            content=first.after.content,  # type: ignore[union-attr]
            opened_at=NOW,
            gone=False,
        ),
        present(store)[1],
    ]
    assert [one.uidl for one in present(store)] == [octets, octets + b"!"]
    append(store, then(first, removed(uidl)))
    assert [one.uidl for one in present(store)] == [octets + b"!"]
    assert [(one.uidl, one.stream, one.gone) for one in gone(store, octets, b"else")] == [
        (octets, "m1", True)
    ]
    assert len(present(store, "other")) == 1


def test_a_uidl_that_comes_back_is_another_message(store: Engine) -> None:
    first = opening()
    append(store, first, then(first, removed()), opening("m2"))
    assert [one.stream for one in present(store)] == ["m2"]
    assert [one.stream for one in gone(store, b"u1")] == ["m1"]


def test_a_copy_under_another_uidl_stays_when_the_first_leaves(store: Engine) -> None:
    first = opening()
    append(store, first)
    on_mailbox(store, adopted(Adoption(uidl="u2", size_octets=5, message="m1"), operator="mailgate"))
    append(store, then(first, removed("u1")))
    assert [(one.uidl, one.stream, one.state) for one in present(store)] == [(b"u2", "m1", "received")]
    assert [one.uidl for one in gone(store, b"u1", b"u2")] == [b"u1"]


def test_a_message_that_is_listed_with_another_size_is_known_by_that(store: Engine) -> None:
    first = opening(listed_octets=777)
    append(store, first)
    on_mailbox(store, adopted(Adoption(uidl="u1", size_octets=600, message="m1"), operator="mailgate"))
    assert [(one.stream, one.size_octets) for one in present(store)] == [("m1", 600)]
    append(store, then(first, removed("u1")))
    assert present(store) == []


def test_what_was_adopted_is_known_until_it_leaves(store: Engine) -> None:
    on_mailbox(store, adopted(*(Adoption(uidl=uidl, size_octets=n) for n, uidl in enumerate(ODD_UIDLS))))
    assert [one.uidl for one in present(store)] == [uidl.encode("latin-1") for uidl in ODD_UIDLS]
    assert {(one.stream, one.state, one.content) for one in present(store)} == {(None, None, None)}
    for uidl in ODD_UIDLS:
        on_mailbox(store, RemovedFromSource(mailbox="info", uidl=uidl, confirmed_by="listing"))
    assert present(store) == []


def test_an_adopted_uidl_that_leaves_takes_no_message_of_that_name_along(store: Engine) -> None:
    append(store, opening(uidl="u1"))
    on_mailbox(store, adopted(Adoption(uidl="u1", size_octets=5)))
    on_mailbox(store, RemovedFromSource(mailbox="info", uidl="u1", confirmed_by="listing"))
    assert [one.stream for one in present(store)] == ["m1"]


def test_one_too_large_is_known_by_its_uidl(store: Engine) -> None:
    append(store, Append("m1", None, (oversize(),), NOW))
    assert [(one.uidl, one.size_octets, one.state) for one in present(store)] == [
        (b"u1", 50_000_000, "rejected-oversize")
    ]


def test_more_uidls_are_asked_for_than_one_statement_takes(store: Engine) -> None:
    uidls = [f"u{number}" for number in range(mailbox_queries.PARAMETERS + 20)]
    on_mailbox(store, adopted(*(Adoption(uidl=uidl, size_octets=1) for uidl in uidls)))
    on_mailbox(
        store, *(RemovedFromSource(mailbox="info", uidl=uidl, confirmed_by="quit") for uidl in uidls[5:])
    )
    asked = [uidl.encode() for uidl in uidls]
    assert sorted(one.uidl for one in gone(store, *asked)) == sorted(asked[5:])


# -- next hops


def hop(engine: Engine, name: str = "home") -> dict[str, Any]:
    (found,) = [row for row in rows(engine, next_hops) if row["name"] == name]
    return found


def down(**facts: Any) -> Event:
    return deferred(**{"scope": "next-hop", "reply": "no route", "retry_at": after(minutes=5)} | facts)


def happen(engine: Engine, *events: Event, one_batch: bool) -> None:
    """Each to a message of its own, a second apart."""
    appends = []
    for number, event in enumerate(events):
        first = opening(f"m{number}")
        appends += [first, then(first, attempted(), event, at=after(seconds=number))]
    if one_batch:
        append(engine, *appends)
    else:
        for one in appends:
            append(engine, one)


@pytest.mark.parametrize("one_batch", [True, False])
def test_failures_of_a_next_hop_count_once_a_rest_and_end_with_a_success(
    one_batch: bool, store: Engine
) -> None:
    happen(store, down(), down(), down(retry_at=after(minutes=20), reply="still \0"), one_batch=one_batch)
    assert hop(store) == {
        "name": "home",
        "failures": 2,
        "since": NOW,
        "probe_at": after(minutes=20),
        "reply": "still \N{REPLACEMENT CHARACTER}",
        "reply_position": 9,
        "size_limit_octets": None,
    }
    append(store, opening("m9"), then(opening("m9"), delivered(), at=after(hours=1)))
    assert (hop(store)["failures"], hop(store)["since"], hop(store)["probe_at"]) == (0, after(hours=1), None)
    append(store, opening("m10"), then(opening("m10"), relayed(), at=after(hours=2)))
    assert hop(store)["since"] == after(hours=1)


def test_a_report_that_comes_later_is_no_sign_of_life_of_a_next_hop(store: Engine) -> None:
    sent = then(opening("m9"), relayed(next_hop="home"))
    append(store, opening("m9"), sent)
    happen(store, down(), one_batch=True)
    append(store, then(sent, delivered(report="m2", code=None), at=after(hours=1)))
    assert hop(store)["failures"] == 1
    assert rows(store, messages, "state")[0]["state"] == "delivered"


@pytest.mark.parametrize("event", [deferred(), deferred(scope="recipient"), down(tried=False)])
def test_what_blames_no_next_hop_leaves_it_as_it_was(event: Event, store: Engine) -> None:
    happen(store, event, one_batch=True)
    assert rows(store, next_hops) == []


@pytest.mark.parametrize("one_batch", [True, False])
def test_the_lowest_size_that_was_refused_is_remembered(one_batch: bool, store: Engine) -> None:
    refusals = [
        RejectedOversize(
            size_octets=n + 1, limit_octets=n, limit_from="next-hop", next_hop="home", policy=POLICY
        )
        for n in (90_000, 70_000, 80_000, LEAST_LIMIT_OCTETS - 1)
    ]
    happen(store, *refusals, one_batch=one_batch)
    assert (hop(store)["size_limit_octets"], hop(store)["failures"]) == (70_000, 0)


def test_of_a_domain_only_trouble_is_worth_a_row(store: Engine) -> None:
    well, dead = {"next_hop": "mx:well.example"}, {"next_hop": "mx:dead.example"}
    opened, other = opening(), opening("m2", uidl="u2")
    taken, refused = (
        then(opened, attempted(**well), relayed(**well)),
        then(other, attempted(**dead), down(**dead)),
    )
    append(store, opened, taken, other, refused)
    assert [row["name"] for row in rows(store, next_hops)] == ["mx:dead.example"]
    append(store, then(refused, attempted(**dead), relayed(**dead)))
    assert rows(store, next_hops) == []
