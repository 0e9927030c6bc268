"""Every filter finds what a look at each message would find; pages neither skip nor repeat; indexes are used."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import fields
from datetime import timedelta
from fnmatch import fnmatchcase
from random import Random
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.event import listen

from store import log, mailbox_queries, queries, selection
from store.database import reading, writing
from store.leads import Bounds, Span
from store.life import Message
from store.log import Append
from store.queries import Filter
from store.read_tables import next_hops
from store.recipient import ATTENTION
from store.schema import COMMON_EVENTS
from tests.store.build import (
    NOW,
    after,
    append,
    attempted,
    deferred,
    generated,
    opening,
    quarantined,
    rows,
    submitted,
    then,
)
from tests.store.conftest import KINDS, Fresh
from tests.store.history import History, write

Json = dict[str, Any]


class Archive:
    """A store with a history, and the same history as plain messages, newest first."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        write(engine, History(Random(41)), 360)
        with reading(engine) as connection:
            recorded = dict(log.streams(connection))
            found = [
                log.message(connection, stream) for stream in recorded if not stream.startswith("mailbox-")
            ]
        self.messages = [message for message in found if message is not None]
        self.positions = {stream: events[0].position for stream, events in recorded.items()}
        self.happened = {stream: {one.event.NAME for one in events} for stream, events in recorded.items()}
        self.events = {stream: [one.event for one in events] for stream, events in recorded.items()}
        self.messages.sort(key=lambda message: -self.positions[message.id])

    def naive(self, wanted: Filter) -> list[str]:
        return [message.id for message in self.messages if self._fits(message, wanted)]

    def found(self, wanted: Filter) -> list[str]:
        with reading(self.engine) as connection:
            return [one["id"] for one in queries.every(connection, wanted)]

    def _fits(self, message: Message, wanted: Filter) -> bool:
        named = ("next_hop", "bound_for")  # where it was tried, or was to go
        hops = {getattr(event, name, None) for event in self.events[message.id] for name in named} - {None}
        tests: list[Callable[[Any], bool]] = [
            lambda sender: like(message.reverse_path, sender),
            lambda recipient: any(like(r.address, recipient) for r in message.recipients),
            lambda fragment: message.subject is not None and plain(fragment) in plain(message.subject),
            lambda text: all(
                any(fnmatchcase(word, asked) for word in spoken(message))
                for asked in re.findall(r"[a-z0-9*]+|[日本語]", plain(text))
            ),
            lambda name: (
                message.message_id is not None and message.message_id.strip("<>") == name.strip("<>")
            ),
            lambda mailbox: message.mailbox == mailbox,
            lambda state: message.state == state,
            lambda direction: message.direction == direction,
            lambda next_hop: (
                next_hop in hops or (next_hop == "mx" and any(hop.startswith("mx:") for hop in hops))
            ),
            lambda since: message.opened_at >= since,
            lambda until: message.opened_at < until,
            lambda event: event in self.happened[message.id],
            lambda reply: any(
                fnmatchcase(stored(r.reply or "").lower(), reply.lower()) for r in message.recipients
            ),
            lambda slower: message.closed_at is not None and message.closed_at - message.opened_at >= slower,
            lambda faster: message.closed_at is not None and message.closed_at - message.opened_at < faster,
            lambda kept: message.exempt_since is not None or not kept,
            lambda replay: replay in message.replays,
        ]
        pairs = zip(fields(wanted), tests, strict=True)
        return all(test(value) for field, test in pairs if (value := getattr(wanted, field.name)) is not None)


def stored(value: str) -> str:
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}")


def plain(value: str) -> str:
    """Small letters without their accents, as a person who looks for them types them."""
    return value.lower().replace("ü", "u").replace("ß", "ss").replace("\0", " ").replace("\U0001f4e8", " ")


def split(text: str) -> list[str]:
    return re.findall(r"[a-z0-9*]+|[日本語]", plain(text))


def spoken(message: Message) -> set[str]:
    said = [message.subject, message.sender, message.reverse_path, *(r.address for r in message.recipients)]
    return set(split(" ".join(text.replace("*", " ") for text in said if text)))


def like(address: str, pattern: str) -> bool:
    return fnmatchcase(address.lower(), pattern.strip("<>").lower().replace("[", "[[]"))


# Each filter alone, with what is there, what is there in other letters, and what is not there.
SINGLE: list[tuple[str, Any]] = [
    ("sender", "anna@customer.example"),
    ("sender", "BOB@customer.EXAMPLE"),
    ("sender", "<JÜRGEN@straße.example>"),
    ("sender", "<>"),
    ("sender", "nobody@customer.example"),
    ("sender", "*@customer.example"),
    ("sender", "x_y%z@odd.example"),
    ("sender", "x_*"),
    ("sender", "*%*"),
    ("sender", "*"),
    ("recipient", "info@example.com"),
    ("recipient", "SALES@example.com"),
    ("recipient", "<o'hara@example.com>"),
    ("recipient", "*@example.com"),
    ("recipient", "*fo@*"),
    ("recipient", "nobody@example.com"),
    ("subject", "invoice"),
    ("subject", "über"),
    ("subject", "ÜBER"),
    ("subject", "100%"),
    ("subject", "off_now"),
    ("subject", "off-now"),
    ("subject", "/"),
    ("subject", "日本"),
    ("subject", ""),
    ("subject", "uber"),
    ("subject", "本語"),
    ("text", "invoice"),
    ("text", "INVOICE 4711"),
    ("text", "4711 invoice anna"),
    ("text", "voice"),
    ("text", "invo*"),
    ("text", "in* 47*"),
    ("text", "uber"),
    ("text", "Über"),
    ("text", "sales@example.com"),
    ("text", "<jürgen@straße.example>"),
    ("text", "strasse"),
    ("text", "o'hara"),
    ("text", "100%"),
    ("text", "日"),
    ("text", "nul in"),
    ("text", "nothing like this"),
    ("message_id", "3@customer.example"),
    ("message_id", "<3@customer.example>"),
    ("message_id", "none@customer.example"),
    *(("mailbox", name) for name in ("info", "büro", "none")),
    *(
        ("state", state)
        for state in (*ATTENTION, "delivered", "relayed", "failed", "rejected-oversize", "discarded")
    ),
    *(("direction", direction) for direction in ("inbound", "outbound", "internal")),
    *(("next_hop", hop) for hop in ("home", "provider", "none", "mx", "mx:customer.example", "mx:")),
    *((name, after(minutes=span)) for name in ("since", "until") for span in (-1, 0, 200, 400, 9999)),
    *(("event", name) for name in (*COMMON_EVENTS, "held", "deferred", "reported", "generated", "erased")),
    *(("reply", said) for said in ("*", "", "550*", "* OK*", "*%*", "nothing like this")),
    *((name, timedelta(minutes=span)) for name in ("slower", "faster") for span in (0, 0.1, 1, 5, 60, 99999)),
    ("kept", True),
    *(("replay", name) for name in ("replay 62", "replay 6", "none")),
]


@pytest.fixture(scope="module", params=KINDS)
def archive(request: pytest.FixtureRequest, fresh: Fresh) -> Iterator[Archive]:
    with fresh(request.param) as engine:
        yield Archive(engine)


def test_without_a_filter_every_message_comes_newest_first(archive: Archive) -> None:
    assert archive.found(Filter()) == [message.id for message in archive.messages]
    assert len(archive.messages) > 80


@pytest.mark.parametrize(("name", "value"), SINGLE)
def test_a_filter_finds_what_a_look_at_each_message_finds(name: str, value: Any, archive: Archive) -> None:
    wanted = Filter(**{name: value})
    assert archive.found(wanted) == archive.naive(wanted)


@pytest.mark.parametrize(("few", "soon"), [(0, 1_000), (3, 1_000), (1_000, 1_000), (3, 1)])
def test_words_are_found_whether_few_or_many_have_them(
    few: int, soon: int, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "FEW", few)
    monkeypatch.setattr(selection, "SOON", soon)
    for said in ("invoice", "in* 47*", "example", "sales"):
        for wanted in (
            Filter(text=said),
            Filter(text=said, mailbox="info"),
            Filter(text=said, sender="*@odd.*"),
        ):
            assert archive.found(wanted) == archive.naive(wanted)


def test_the_question_behind_one_for_a_rare_word_is_planned_as_ever(archive: Archive) -> None:
    with reading(archive.engine) as connection:
        assert queries.page(connection, Filter(text="nonesuch")) == []
        if archive.engine.dialect.name == "postgresql":
            assert connection.scalar(text("SHOW enable_mergejoin")) == "on"
            assert connection.scalar(text("SHOW enable_hashjoin")) == "on"


def test_filters_combine(archive: Archive) -> None:
    random, hits = Random(42), 0
    for _ in range(150):
        chosen = dict(random.sample(SINGLE, random.choice((2, 2, 3, 4))))
        wanted = Filter(**chosen)
        expected = archive.naive(wanted)
        assert archive.found(wanted) == expected, wanted
        hits += bool(expected)
    assert hits > 15


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("wanted", [Filter(), Filter(recipient="info@example.com"), Filter(event="held")])
def test_pages_visit_each_message_once(wanted: Filter, size: int, archive: Archive) -> None:
    found: list[str] = []
    before: int | None = None
    with reading(archive.engine) as connection:
        while page := queries.page(connection, wanted, before=before, limit=size):
            assert len(page) <= size
            found += [one["id"] for one in page]
            before = page[-1]["position"]
    assert found == archive.naive(wanted)
    assert len(found) > 7


@pytest.mark.parametrize("limit", [0, 1, 9, 10, 11, 1000])
def test_a_limit_holds_over_all_pages(limit: int, archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "PAGE", 1)  # pages of ten
    with reading(archive.engine) as connection:
        found = [one["id"] for one in queries.every(connection, Filter(), limit)]
    assert found == [message.id for message in archive.messages][:limit]


def test_messages_are_read_page_by_page(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "PAGE", 1)
    asked: list[int] = []
    page = queries.page

    def counted(*given: Any, **options: Any) -> list[Json]:
        asked.append(options["limit"])
        return page(*given, **options)

    monkeypatch.setattr(queries, "page", counted)
    with reading(archive.engine) as connection:
        next(queries.every(connection, Filter()))
    assert asked == [10]


def test_a_row_is_what_the_log_adds_up_to(archive: Archive) -> None:
    with reading(archive.engine) as connection:
        found = {one["id"]: one for one in queries.every(connection, Filter())}
    for message in archive.messages:
        row = found[message.id]
        assert row["position"] == archive.positions[message.id]
        for name in ("direction", "state", "opened_at", "changed_at", "closed_at", "mailbox", "size_octets"):
            assert row[name] == getattr(message, name)
        for name in ("content", "attempts", "due_at", "reverse_path"):
            assert row[name] == getattr(message, name)
        for name in ("message_id", "subject", "uidl"):
            value = getattr(message, name)
            assert row[name] == (None if value is None else stored(value))
        assert [one["address"] for one in row["recipients"]] == [r.address for r in message.recipients]
        for one, recipient in zip(row["recipients"], message.recipients, strict=True):
            for name in ("state", "next_hop", "attempts", "retry_at"):
                assert one[name] == getattr(recipient, name)
            assert one["routed_by"] == stored(recipient.routed_by)
            assert one["reply"] == (None if recipient.reply is None else stored(recipient.reply))


def test_one_message_is_found_by_its_whole_id_and_ids_by_their_beginning(archive: Archive) -> None:
    everything = sorted(message.id for message in archive.messages)
    with reading(archive.engine) as connection:
        for prefix in (
            "",
            *{name[:1] for name in everything},
            *{name[:2] for name in everything},
            everything[0],
            "zz",
        ):
            expected = [name for name in everything if name.startswith(prefix)]
            assert queries.ids(connection, prefix, 1000) == expected
            assert queries.ids(connection, prefix) == expected[:2]
        found = queries.one(connection, everything[0])
        assert found is not None
        assert found["id"] == everything[0]
        assert queries.one(connection, everything[0][:-1]) is None


def test_the_queue_is_what_is_open_oldest_first(archive: Archive) -> None:
    waiting = [message.id for message in reversed(archive.messages) if message.open]
    with reading(archive.engine) as connection:
        for limit in (3, 1000):
            assert [one["id"] for one in queries.queue(connection, limit=limit)] == waiting
        assert queries.open_count(connection) == len(waiting) > 3


def test_next_hops_are_told_with_their_standing(archive: Archive) -> None:
    with reading(archive.engine) as connection:
        found = {one.pop("next_hop"): one for one in queries.hops(connection)}
    assert list(found) == sorted(found)
    told = (column.name for column in next_hops.c if column.name != "reply_position")
    assert found == {row.pop("name"): row for row in rows(archive.engine, next_hops, *told)}


def test_mailboxes_are_told_with_how_much_they_hold(archive: Archive) -> None:
    with reading(archive.engine) as connection:
        found = mailbox_queries.mailbox_rows(connection)
        names = [one["name"] for one in found]
        assert sorted(names) == sorted(["büro", "info", "sales"])
        assert len(names) == 3
        for one in found:
            assert one["present"] == len(mailbox_queries.present(connection, one["name"])) > 0
            assert one["revision"] == log.mailbox(connection, one["name"]).revision


def test_the_place_in_the_agenda_is_told(store: Engine) -> None:
    first = opening()
    append(store, first, then(first, attempted(), deferred()))
    with reading(store) as connection:
        found = queries.lease(connection, "m1")
        assert found is not None
        assert (found["lane"], found["wake_at"], found["holder"]) == ("home", after(minutes=5), None)
        assert queries.lease(connection, "m2") is None


def test_the_log_is_asked_by_place_time_name_and_stream(archive: Archive) -> None:
    with reading(archive.engine) as connection:
        whole = list(log.walk(connection))
        stream = archive.messages[0].id
        asked: list[tuple[Json, Callable[[Any], bool]]] = [
            ({}, lambda one: True),
            ({"after": 20}, lambda one: one.position > 20),
            ({"since": after(minutes=100)}, lambda one: one.at >= after(minutes=100)),
            ({"name": "delivered"}, lambda one: one.event.NAME == "delivered"),
            ({"name": "deferred"}, lambda one: one.event.NAME == "deferred"),
            ({"name": "erased"}, lambda one: False),
            ({"stream": stream}, lambda one: one.stream == stream),
            ({"stream": "mailbox-info"}, lambda one: one.stream == "mailbox-info"),
            ({"stream": stream, "name": "adopted"}, lambda one: False),
            ({"after": 50, "since": NOW, "name": "held"}, lambda one: one.position > 50 and one.event.NAME == "held"),
        ]  # fmt: skip
        for given, fits in asked:
            found = queries.log_rows(connection, **given, limit=10_000)
            assert [row.position for row in found] == [one.position for one in whole if fits(one)]
        assert [row.position for row in queries.log_rows(connection, after=5, limit=3)] == [6, 7, 8]


INDEXED: list[tuple[Filter, str]] = [
    (Filter(sender="anna@customer.example"), "messages_reverse_path"),
    (Filter(recipient="info@example.com"), "recipients_address"),
    (Filter(message_id="3@customer.example"), "messages_message_id"),
    (Filter(mailbox="info"), "messages_mailbox"),
    (Filter(state="held"), "messages_state"),
    (Filter(next_hop="home"), "hops"),
    (Filter(next_hop="mx"), "hops"),
    (Filter(direction="inbound"), "messages_direction"),
    (Filter(event="downloaded"), "messages_direction"),
    (Filter(event="held"), "happenings"),
    (Filter(event="delivered"), "happenings"),
    (Filter(slower=timedelta(minutes=5)), "messages_slow"),
    (Filter(kept=True), "exempt"),
]


@pytest.mark.parametrize(("wanted", "index"), INDEXED)
def test_each_filter_is_served_by_its_index(wanted: Filter, index: str, archive: Archive) -> None:
    plan = explained(archive.engine, newest(wanted))
    # A table that is its own index goes by its key.
    by_name = "USING PRIMARY KEY (name=?)"
    names = {"happenings": by_name, "hops": by_name} if archive.engine.dialect.name == "sqlite" else {}
    assert names.get(index, index) in plan
    assert "Seq Scan" not in plan


@pytest.mark.parametrize("wanted", [Filter(), *(wanted for wanted, _ in INDEXED), Filter(subject="x")])
def test_no_page_is_sorted_to_be_cut(wanted: Filter, archive: Archive) -> None:
    """Sorting reads all there is of it: the index' order is the page's. Two spellings of a message id are few."""
    if archive.engine.dialect.name == "postgresql" or wanted.message_id:
        return
    for span in (None, Span(5, 900)):
        assert "TEMP B-TREE" not in explained(archive.engine, newest(wanted, span, 1000))


def test_rare_events_are_found_by_their_index(archive: Archive) -> None:
    """As the database gets the question: what is a parameter there is one here."""
    asked: list[tuple[str, Any]] = []
    with writing(archive.engine) as connection:
        listen(connection, "before_cursor_execute", lambda *given: asked.append((given[2], given[3])))
        queries.log_rows(connection, name="held")
        if connection.dialect.name == "postgresql":
            connection.execute(text("SET LOCAL enable_seqscan = off"))
        how = "EXPLAIN QUERY PLAN " if connection.dialect.name == "sqlite" else "EXPLAIN "
        plan = connection.exec_driver_sql(how + asked[0][0], asked[0][1]).all()
    assert "events_rare_name" in str(plan)


def test_outgoing_messages_are_found_by_their_message_id(store: Engine) -> None:
    def sent(stream: str, message_id: str, direction: Any = "outbound") -> Append:
        opened = submitted(message_id=message_id, direction=direction)
        return Append(stream, None, (opened,), NOW, b"Subject: x\r\n\r\n")

    append(
        store, sent("m1", "<1@x>"), sent("m2", "<2@x>"), sent("m3", "<1@x>"), sent("m4", "<1@x>", "inbound")
    )
    append(store, opening("m5", message_id="<1@x>"))
    append(store, Append("m6", None, (generated(message_id="<4@x>"),), NOW, b"Subject: Notice\r\n\r\n"))
    with reading(store) as connection:
        assert queries.outbound_ids(connection, "<1@x>") == ["m3", "m1"]
        assert queries.outbound_ids(connection, "<1@x>", 1) == ["m3"]
        assert queries.outbound_ids(connection, "<2@x>") == ["m2"]
        assert queries.outbound_ids(connection, "<4@x>") == ["m6"]
        assert queries.outbound_ids(connection, "<3@x>\0") == []


def test_what_is_in_quarantine_is_found_oldest_first_page_by_page_without_sorting(store: Engine) -> None:
    for n in range(5):
        opened = opening(f"m{n}")
        append(store, opened)
        if n != 2:
            append(store, then(opened, quarantined(reason="spam" if n else "infected")))
    with reading(store) as connection:
        every = queries.quarantined(connection, after(minutes=1), 0, 9)
        assert [(name, why) for _, name, _, why in every] == [
            ("m0", "infected"),
            ("m1", "spam"),
            ("m3", "spam"),
            ("m4", "spam"),
        ]
        assert queries.quarantined(connection, after(minutes=1), every[1][0], 1) == [every[2]]
        assert queries.quarantined(connection, after(hours=-2), 0, 9) == []
    asked: list[tuple[str, Any]] = []
    with writing(store) as connection:
        listen(connection, "before_cursor_execute", lambda *given: asked.append((given[2], given[3])))
        queries.quarantined(connection, after(minutes=1), 0, 9)
        if connection.dialect.name == "postgresql":
            connection.execute(text("SET LOCAL enable_seqscan = off"))
        how = "EXPLAIN QUERY PLAN " if connection.dialect.name == "sqlite" else "EXPLAIN "
        plan = str(connection.exec_driver_sql(how + asked[1][0], asked[1][1]).all())
    assert "messages_state" in plan
    assert "TEMP B-TREE" not in plan


def newest(wanted: Filter, span: Span | None = None, before: int | None = None) -> Any:
    """What a page asks where one filter is given."""
    return selection.chosen(wanted, list(selection.leads_of(wanted)), Bounds(span, before)).limit(50)


def explained(engine: Engine, query: Any) -> str:
    how = "EXPLAIN QUERY PLAN " if engine.dialect.name == "sqlite" else "EXPLAIN "
    with writing(engine) as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SET LOCAL enable_seqscan = off"))
        bound = query.compile(dialect=engine.dialect, compile_kwargs={"literal_binds": True})
        return "\n".join(
            str(row[-1]) for row in connection.exec_driver_sql(how + str(bound).replace("%", "%%"))
        )
