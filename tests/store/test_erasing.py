"""What is personal is gone from every table and from the files; what happened is there as it was, and proves itself."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest
from sqlalchemy import Engine, event, select

from store import conserve, contents, erasing, log, verify
from store.database import open_store, reading, sqlite_file, writing
from store.events import Discarded, Erased
from store.life import Message
from store.mentions import mentions
from store.read_tables import messages, next_hops, recipients, subjects, uidls
from store.rebuild import rebuild
from store.schema import events
from store.scrubbing import scrub
from tests.real.postgres import Postgres
from tests.store.build import (
    NOW,
    POLICY,
    after,
    append,
    attempted,
    deferred,
    delivered,
    failed,
    message,
    opening,
    rows,
    submitted,
    then,
)
from tests.store.history import History, write
from tests.store.test_rebuild import derived

JANE = "jane.doe+x@person.example"
BODY = b"the words that Jane wrote"
OCTETS = b"From: Jane <" + JANE.encode() + b">\r\nSubject: about Jane\r\n\r\n" + BODY * 400


def jane(stream: str = "m1") -> log.Append:
    return opening(
        stream,
        octets=OCTETS,
        reverse_path=JANE,
        subject="about Jane",
        from_=f"Jane <{JANE}>",
        message_id=f"<1.{JANE}>",
        recipients=("info@example.com", "sales@example.com"),
    )


def erase(engine: Engine, stream: str = "m1", first: tuple[Discarded, ...] = ()) -> Message:
    with writing(engine) as connection:
        erasing.overwrite(connection)
        return erasing.erase(
            connection, stream, operator="anna", reason="request 7", at=after(days=1), first=first
        )


def verified(engine: Engine) -> verify.Count:
    count = verify.Count()
    with reading(engine) as connection:
        found = list(verify.log(connection, log.last_position(connection), count))
        found += verify.contents(connection, count)
        assert list(conserve.check(connection, conserve.Count(), NOW)) == []
    assert found == []
    return count


def closed(engine: Engine) -> None:
    """One message of Jane's that both recipients have, and one of somebody else."""
    first = jane()
    tried = then(first, attempted(0, 1, recipients=("info@example.com", "sales@example.com")))
    answer = then(tried, delivered(0, 1, reply=f"2.0.0 Ok, <{JANE}>", recipients=("info@example.com",)))
    append(engine, first, tried, answer, opening("m2", uidl="u2"))


def test_everything_personal_goes_and_what_happened_stays(store: Engine) -> None:
    closed(store)
    before = rows(store, events, "position", "stream", "revision", "name", "at", "data", "digest", "hash")
    other = rows(store, recipients)[-1]
    erased = erase(store)
    assert rows(store, events, *before[0])[: len(before)] == before
    kept = [(r["personal"], r["salt"]) for r in rows(store, events) if r["stream"] == "m1"]
    assert kept[:-1] == [(None, None)] * 3
    with reading(store) as connection:
        *_, last = log.read(connection, "m1")
        assert last.event == Erased(revisions=(0, 1, 2), octets=True, operator="anna", reason="request 7")
        assert contents.get(connection, erased) is None
        assert list(mentions(connection, JANE)) == []
    assert (erased.state, erased.closed_at, erased.erased_at) == ("delivered", NOW, after(days=1))
    row = rows(store, messages)[0]
    assert (row["state"], row["opened_at"], row["size_octets"], row["mailbox"]) == (
        "delivered",
        NOW,
        len(OCTETS),
        "info",
    )
    personal = ("reverse_path", "reverse_path_key", "message_id", "subject", "sender")
    assert [row[name] for name in personal] == [None] * 5
    its = rows(store, recipients)
    assert [(r["address"], r["address_key"], r["routed_by"], r["reply"]) for r in its[:2]] == [
        ("", "", "", None)
    ] * 2
    assert its[-1] == other
    assert verified(store).erased == 3


def test_its_mailbox_is_not_read_again_for_it(store: Engine) -> None:
    closed(store)
    before = rows(store, uidls)
    erase(store)
    assert rows(store, uidls) == before


def test_an_open_message_is_discarded_first(store: Engine) -> None:
    append(store, jane())
    discarded = Discarded(numbers=(0, 1), operator="anna", rule="erased", policy=POLICY)
    assert erase(store, first=(discarded,)).state == "discarded"
    assert verified(store).erased == 1
    with reading(store) as connection:
        assert erasing.left(connection, "m1") == ()  # what the erasure itself wrote says nothing personal
    live = derived(store)
    with writing(store) as connection:
        rebuild(connection)
    assert derived(store) == live


def test_what_a_next_hop_said_is_forgotten_where_it_stands_for_the_next_hop(store: Engine) -> None:
    first, second = jane(), opening("m2", uidl="u2")
    resting = {"scope": "next-hop", "reply": f"4.7.1 <{JANE}> is too busy"}
    append(store, first, then(first, deferred(0, 1, **resting)), second)
    append(store, then(second, deferred(next_hop="branch", scope="next-hop", reply="4.3.0 no")))
    erase(store, first=(Discarded(numbers=(0, 1), operator="anna", policy=POLICY),))
    hops = {row["name"]: row for row in rows(store, next_hops)}
    assert (hops["home"]["failures"], hops["home"]["reply"]) == (1, None)
    assert hops["branch"]["reply"] == "4.3.0 no"


@pytest.mark.parametrize("seed", range(3))
def test_rebuilt_tables_are_the_live_ones_after_any_erasure(seed: int, store: Engine) -> None:
    random = Random(seed)
    history = History(random)
    write(store, history, 300)
    some = random.sample([one for one in history.alive.values() if not one.open], 12)
    states = {row["id"]: (row["state"], row["closed_at"]) for row in rows(store, messages)}
    hours = derived(store)["hours"]
    for one in some:
        assert erase(store, one.id).erased_at == after(days=1)
    assert {row["id"]: (row["state"], row["closed_at"]) for row in rows(store, messages)} == states
    live = derived(store)
    assert live["hours"][: len(hours)] == hours
    verified(store)
    with writing(store) as connection:
        rebuild(connection)
    assert derived(store) == live


def test_an_erasure_that_breaks_off_changes_nothing(store: Engine) -> None:
    closed(store)
    before = (rows(store, events), derived(store))

    def broken() -> None:
        with writing(store) as connection:
            erasing.erase(connection, "m1", operator="anna", reason="", at=NOW)
            raise InterruptedError

    with pytest.raises(InterruptedError):
        broken()
    assert (rows(store, events), derived(store)) == before
    with reading(store) as connection:
        assert contents.get(connection, message(connection)) == OCTETS


def test_a_later_report_is_erased_by_itself_and_earlier_reasons_stay(store: Engine) -> None:
    closed(store)
    erased = erase(store)
    late = log.Append("m1", erased, (delivered(0, report="m9", reply=f"<{JANE}> has it"),), after(days=2))
    append(store, late)
    erase(store)
    with reading(store) as connection:
        *_, first, report, second = log.read(connection, "m1")
    assert isinstance(first.event, Erased)
    assert (first.event.reason, report.personal) == ("request 7", None)
    assert second.event == Erased(revisions=(4,), octets=False, operator="anna", reason="request 7")


# -- who is named where


@pytest.mark.parametrize(
    "text",
    [
        JANE,
        f"<{JANE}>",
        JANE.upper(),
        f"a reply: {JANE}.",
        f"to {JANE}, and others",
        f'"{JANE}" said',
        f"(mailto:{JANE})"[1:-1].replace("mailto:", "mailto: "),
    ],
)
def test_an_address_is_found_in_whatever_stands_around_it(text: str, store: Engine) -> None:
    append(store, opening(subject=text))
    with reading(store) as connection:
        (found,) = mentions(connection, JANE)
    assert (found.position, found.stream, found.event, found.personal, found.others) == (
        1,
        "m1",
        "downloaded",
        ("subject",),
        (),
    )


@pytest.mark.parametrize(
    "text",
    [
        f"mary-{JANE}",
        f"mary.{JANE}",
        f"{JANE}.org",
        f"{JANE}-house.example",
        JANE.replace("+", "?"),
        JANE.replace(".", "x", 1),
    ],
)
def test_another_address_is_not_taken_for_it(text: str, store: Engine) -> None:
    append(store, opening(subject=text))
    with reading(store) as connection:
        assert list(mentions(connection, JANE)) == []


@pytest.mark.parametrize("address", ['"a \\" b"@odd.example', "x_y%z!@odd.example", "jürgen@straße.example"])
def test_odd_addresses_are_found_as_they_are_stored(address: str, store: Engine) -> None:
    append(store, opening(recipients=(address, "info@example.com")), opening("m2", uidl="u2"))
    with reading(store) as connection:
        (found,) = mentions(connection, address)
    assert found.personal == ("recipients",)


@pytest.mark.parametrize(
    ("asked", "stored"),
    [
        ("jörg@example.com", "JÖRG@example.com"),
        ("JÖRG@example.com", "jörg@Example.com"),
        ("jane@straße.example", "jane@xn--strae-oqa.example"),
        ("jane@xn--strae-oqa.example", "Jane@STRAßE.example"),
        ("jane@xn--strae-oqa.example", "jane@XN--STRAE-OQA.example"),
        ("jos\u00e9@b\u00fccher.example", "jose\u0301@bu\u0308cher.example"),
        ("jose\u0301@bu\u0308cher.example", "jos\u00e9@b\u00fccher.example"),
        ("jose\u0301@xn--bcher-kva.example", "jos\u00e9@bu\u0308cher.example"),
    ],
)
def test_an_address_is_found_in_any_case_and_form_of_its_domain(
    asked: str, stored: str, store: Engine
) -> None:
    append(store, opening(recipients=(stored,)), opening("m2", uidl="u2", recipients=("x" + stored,)))
    with reading(store) as connection:
        assert [one.stream for one in mentions(connection, asked)] == ["m1"]


@pytest.mark.parametrize(
    ("asked", "stored"),
    [
        ("jane+x@example.com", "rfc822;jane+2Bx@example.com"),
        ('"jane d"@example.com', 'rfc822;"jane+20d"@example.com'),
        ("jörg@example.com", r"utf-8;j\x{F6}rg@example.com"),
    ],
)
def test_an_original_recipient_is_found_through_its_xtext(asked: str, stored: str, store: Engine) -> None:
    event = submitted(recipients=("team@example.com",), orcpt=(stored,))
    append(store, log.Append("m1", None, (event,), NOW, b"Subject: x\r\n\r\n"))
    with reading(store) as connection:
        assert [one.personal for one in mentions(connection, asked)] == [("orcpt",)]


@pytest.mark.parametrize("text", [f"rcpt={JANE} rejected", f"user|{JANE}|", f"{{{JANE}}}", f"to/{JANE}"])
def test_in_a_reply_an_address_is_found_behind_what_could_be_part_of_one(text: str, store: Engine) -> None:
    first = opening()
    append(store, first, then(first, failed(reply=text)))
    with reading(store) as connection:
        assert [one.personal for one in mentions(connection, JANE)] == [("reply",)]


def test_an_address_in_another_one_of_an_envelope_is_that_ones(store: Engine) -> None:
    append(store, opening(reverse_path=f"bounce={JANE}", recipients=(f"a|{JANE}",)))
    with reading(store) as connection:
        assert list(mentions(connection, JANE)) == []


@pytest.mark.parametrize(
    ("rule", "names"),
    [
        (f"route 1: recipients {JANE}, senders *@x.example", True),
        (f"route 1: recipients *{JANE}", False),
        (f"route 1: recipients {JANE}*", False),
        (f"route 1: recipients {JANE}.*", False),
    ],
)
def test_a_rule_names_whom_its_pattern_is_and_nobody_whom_it_only_fits(
    rule: str, names: bool, store: Engine
) -> None:
    first = opening()
    append(store, first, then(first, attempted(rule=rule)))
    with reading(store) as connection:
        assert [one.personal for one in mentions(connection, JANE)] == [("rule",)] * names


def test_facts_that_stay_are_told_apart(store: Engine) -> None:
    append(store, opening(mailbox=JANE, subject=JANE))
    with reading(store) as connection:
        (found,) = mentions(connection, JANE)
    assert (found.personal, found.others) == (("subject",), ("mailbox",))


def test_all_of_many_are_found_in_order(store: Engine) -> None:
    append(store, *(opening(f"m{n}", uidl=f"u{n}", subject=JANE) for n in range(1_100)))
    with reading(store) as connection:
        assert [one.position for one in mentions(connection, JANE)] == list(range(1, 1_101))


# -- in the files


def stands_in(files: list[Path]) -> set[str]:
    """Which of Jane's words stand in these files."""
    words = {JANE.encode(), b"about Jane", BODY}
    return {word.decode() for file in files for word in words if word in file.read_bytes()}


def careless(engine: Engine) -> None:
    """Have it leave what is deleted where it stands, as SQLite does unless it was built otherwise."""

    @event.listens_for(engine, "connect")
    def leave(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA secure_delete=OFF")


def test_nothing_of_it_is_left_in_the_files_of_sqlite(sqlite_store: Engine) -> None:
    careless(sqlite_store)
    for number in range(40):  # pages split, and cells move: old copies of rows stay in the gaps
        append(sqlite_store, opening(f"a{number:02}", uidl=f"a{number}", subject=f"filler {number}" * 20))
    closed(sqlite_store)
    file = sqlite_file(sqlite_store)
    assert file is not None
    assert len(stands_in([file])) == 3
    erase(sqlite_store)
    gateway = open_store(str(sqlite_store.url), checkpoints=True)
    assert scrub(gateway)
    assert stands_in(list(file.parent.iterdir())) == set()
    gateway.dispose()
    assert stands_in(list(file.parent.iterdir())) == set()
    verified(sqlite_store)


def test_what_is_erased_is_overwritten_at_once_where_it_stands(sqlite_store: Engine) -> None:
    careless(sqlite_store)
    closed(sqlite_store)
    erase(sqlite_store)
    file = sqlite_file(sqlite_store)
    assert file is not None
    assert stands_in(list(file.parent.iterdir())) == set()  # the last connection has taken the log in


def test_octets_that_retention_dropped_before_leave_the_files_too(sqlite_store: Engine) -> None:
    careless(sqlite_store)
    closed(sqlite_store)
    with writing(sqlite_store) as connection:
        contents.drop(connection, ["m1"])
    file = sqlite_file(sqlite_store)
    assert file is not None
    assert BODY.decode() in stands_in(list(file.parent.iterdir()))
    erase(sqlite_store)
    gateway = open_store(str(sqlite_store.url), checkpoints=True)
    assert scrub(gateway)
    gateway.dispose()
    assert stands_in(list(file.parent.iterdir())) == set()


def test_words_in_an_index_leave_the_files_too(sqlite_store: Engine) -> None:
    careless(sqlite_store)
    with writing(sqlite_store) as connection:
        connection.exec_driver_sql("CREATE VIRTUAL TABLE found USING fts5(words, detail='none')")
        for number in range(200):
            words = f"filler{number} {BODY.decode()}" if number == 100 else f"filler{number}"
            connection.exec_driver_sql("INSERT INTO found (rowid, words) VALUES (?, ?)", (number, words))
    with writing(sqlite_store) as connection:
        connection.exec_driver_sql("DELETE FROM found WHERE rowid = 100")
    file = sqlite_file(sqlite_store)
    assert file is not None
    assert b"wrote" in file.read_bytes()
    gateway = open_store(str(sqlite_store.url), checkpoints=True)
    assert scrub(gateway)
    gateway.dispose()
    assert b"wrote" not in file.read_bytes()


def test_who_still_reads_what_was_there_is_told_of(sqlite_store: Engine) -> None:
    closed(sqlite_store)
    gateway = open_store(str(sqlite_store.url), checkpoints=True)

    @event.listens_for(gateway, "connect")
    def impatient(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA busy_timeout=50")

    with reading(sqlite_store) as connection:
        assert connection.scalar(select(events.c.position).limit(1)) == 1
        erase(sqlite_store)
        assert not scrub(gateway)
    assert scrub(gateway)
    gateway.dispose()


@pytest.mark.real
def test_nothing_of_it_is_left_in_the_tables_of_postgres(
    postgres: Postgres, request: pytest.FixtureRequest
) -> None:
    fresh = request.getfixturevalue("fresh")
    with fresh("postgres") as store:
        closed(store)
        with store.connect() as connection:
            oid = connection.exec_driver_sql(
                "SELECT oid FROM pg_database WHERE datname = current_database()"
            ).scalar()
        folder = postgres.folder / "data/base" / str(oid)

        def written() -> set[str]:
            with store.connect() as connection:
                connection.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql("CHECKPOINT")
            return stands_in([file for file in folder.iterdir() if file.is_file()])

        assert len(written()) == 3
        erase(store)
        assert written()
        assert scrub(store)
        assert written() == set()
        verified(store)


def analyzed(store: Engine) -> str:
    """What Postgres' planner knows by heart."""
    with store.connect() as connection:
        found = connection.exec_driver_sql(
            "SELECT tablename, attname, most_common_vals, histogram_bounds, most_common_elems FROM pg_stats"
            " WHERE schemaname = 'public'"
        )
        return "\n".join(str(row) for row in found)


@pytest.mark.real
@pytest.mark.parametrize("others", [0, 3])
def test_nothing_of_it_is_left_in_the_statistics_of_postgres(
    others: int, postgres: Postgres, request: pytest.FixtureRequest
) -> None:
    fresh = request.getfixturevalue("fresh")
    with fresh("postgres") as store:
        for number in range(5):
            append(store, opening(f"m{number}", uidl=f"u{number}", recipients=(JANE,), subject="about jane"))
        for number in range(others):
            append(store, opening(f"o{number}", uidl=f"o{number}", subject="about nobody"))
        alone = store.execution_options(isolation_level="AUTOCOMMIT")
        with alone.connect() as connection:
            connection.exec_driver_sql("ANALYZE")
            oid = connection.exec_driver_sql(
                "SELECT oid FROM pg_database WHERE datname = current_database()"
            ).scalar()
        assert JANE in analyzed(store)
        assert "about jane" in analyzed(store)
        for number in range(5):
            discarded = Discarded(numbers=(0,), operator="anna", rule="erased", policy=POLICY)
            erase(store, f"m{number}", first=(discarded,))
        assert scrub(store)
        assert "jane" not in analyzed(store)
        assert ("about nobody" in analyzed(store)) == bool(others)
        assert len(rows(store, subjects)) == others
        with alone.connect() as connection:
            connection.exec_driver_sql("CHECKPOINT")
        folder = postgres.folder / "data/base" / str(oid)
        assert not [one for one in folder.iterdir() if one.is_file() and JANE.encode() in one.read_bytes()]
