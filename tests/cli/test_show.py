"""`show` tells a life whole: as JSON the same as `list` and the log say, as a page with every fact of a ticket."""

import orjson
import pytest

from store import log
from store.chain import GENESIS
from store.database import open_store, reading
from store.events import Held
from tests.build import POLICY, TLS, Builder
from tests.cli.command import Mailgate, configure
from tests.cli.stock import Place, Stock
from tests.store.build import downloaded, unguarded

KINDS = ["delivered", "mixed", "notice", "held", "oversize", "unknown", "failed", "deferred", "received"]


@pytest.fixture(scope="session")
def listed(stock: Stock) -> dict[str, object]:
    return {row["id"]: row for row in stock.mailgate("list", "--json", "--limit", "0").json}


@pytest.mark.parametrize("kind", KINDS)
def test_the_fold_is_what_the_list_says(kind: str, stock: Stock, listed: dict[str, object]) -> None:
    stream = stock.ids[kind]
    (told,) = stock.mailgate("show", stream, "--json").json
    assert list(told) == ["message", "events"]
    assert told["message"] == listed[stream]
    assert list(told["message"]) == list(listed[stream])  # type: ignore[call-overload]


def test_every_message_of_the_stock_is_looked_at(stock: Stock) -> None:
    assert set(KINDS) == set(stock.ids)


def test_a_nul_is_the_same_in_the_fold_and_in_the_list(mailgate: Mailgate, sqlite_url: str) -> None:
    builder = Builder(sqlite_url)
    stream = builder.downloaded(subject="a\0b", recipients=("x\0@example.com",))
    builder.close()
    configure(mailgate.folder, sqlite_url)
    (told,) = mailgate("show", stream, "--json").json
    (row,) = mailgate("list", "--json").json
    assert told["message"] == row


def test_an_event_that_can_not_be_read_is_named_by_its_position(mailgate: Mailgate, sqlite_url: str) -> None:
    builder = Builder(sqlite_url)
    builder.downloaded()
    stream = builder.downloaded()
    unguarded(builder.engine, f"UPDATE events SET data = x'7b' WHERE stream = '{stream}'")
    builder.close()
    configure(mailgate.folder, sqlite_url)
    answer = mailgate("show", stream)
    assert answer.code == 1
    assert answer.complaint.startswith("position 2: event 'downloaded' version 1 can't be read: ")
    assert answer.complaint.endswith("'mailgate audit verify' names all that is damaged")


def test_events_are_told_as_they_are_stored(stock: Stock) -> None:
    stream = stock.ids["mixed"]
    answer = stock.mailgate("show", stream, "--json")
    (told,) = answer.json
    engine = open_store(stock.url)
    with reading(engine) as connection:
        recorded = log.read(connection, stream)
    engine.dispose()
    fields = ["position", "revision", "name", "version", "at", "data", "personal", "hash"]
    assert [list(event) for event in told["events"]] == [fields] * len(recorded)
    for event, stored in zip(told["events"], recorded, strict=True):
        assert event["position"] == stored.position
        assert event["revision"] == stored.revision
        assert event["name"] == stored.event.NAME
        assert event["hash"] == stored.hash.hex()
        assert stored.data in answer.octets  # the very octets that the hash covers
        assert event["data"] == orjson.loads(stored.data)
        assert event["personal"] == (orjson.loads(stored.personal) if stored.personal else None)
    assert told["events"][0]["hash"] != GENESIS.hex()


def test_a_page_tells_who_what_when_and_every_reply(stock: Stock) -> None:
    page = stock.mailgate("show", stock.ids["mixed"], COLUMNS="200").out
    for fact in (
        f"Message {stock.ids['mixed']}",
        "Alice Example <alice@customer.example>",
        "Grüße – 会議",
        "anna@example.com: delivered at home",
        "gone@example.com: failed at home: 5.1.1 no such user here",
        "dora@example.com: deferred at home: 4.3.0 try again later",
        "times are UTC",
        "2026-03-01",
        "13:00:04.212",
        f"downloaded from mailbox info, UIDL uidl-{stock.ids['mixed']}",
        f"[policy {POLICY}]",
        "attempted to hand over to home for all 3 recipients: attempt 1, by route 1: recipients *@example.com",
        f"delivered to home at 192.0.2.25:25 for anna@example.com, in 212ms over {TLS}: 250 2.0.0 Ok: queued as 0002",
        "failed for gone@example.com: rejected by home: 550 5.1.1 no such user here",
        "deferred for dora@example.com until 13:05:04 (5m later) by home: 451 4.3.0 try again later",
        f"reported by a notice (failure), message {stock.ids['notice']}",
    ):
        assert fact in page, fact
    assert page.count(POLICY) == 1  # said where it changes
    assert page.splitlines()[-1].startswith(
        "What comes next: It is tried again at home as soon as a gateway runs"
    )


def test_a_page_tells_when_it_was_written_and_where_it_came_from(mailgate: Mailgate, sqlite_url: str) -> None:
    builder, octets = Builder(sqlite_url), b"Subject: x\r\n\r\n"
    stream = builder.new_id()
    facts = {"date": "Sun, 1 Mar 2026 09:30:00 +0100", "client_ip": "203.0.113.9"}
    builder.append(stream, downloaded(octets, **facts), octets=octets)
    builder.close()
    configure(mailgate.folder, sqlite_url)
    page = mailgate("show", stream, COLUMNS="200").out
    assert "  Date          Sun, 1 Mar 2026 09:30:00 +0100\n" in page
    assert "for info@example.com (by mailbox recipients); it came to the provider from 203.0.113.9" in page


def test_events_stand_in_one_column_however_long_it_took(mailgate: Mailgate, sqlite_url: str) -> None:
    builder = Builder(sqlite_url)
    stream = builder.downloaded()
    for span in ({"minutes": 17, "seconds": 10}, {"hours": 23, "minutes": 59}, {"days": 10, "hours": 23}):
        builder.later(**span)
        builder.append(stream, Held(why="operator", rule="", policy=POLICY, operator="anna"))
    builder.close()
    configure(mailgate.folder, sqlite_url)
    lines = [one for one in mailgate("show", stream, COLUMNS="200").lines if one[:4].strip() and "  +" in one]
    assert [one.index("held") for one in lines] == [26, 26, 26]


def test_the_time_since_the_previous_event_is_told(stock: Stock) -> None:
    page = stock.mailgate("show", stock.ids["delivered"]).out
    assert "12:00:00.212    +212ms  delivered to home" in page
    assert "12:00:04.212     +4.0s  removed-from-source" in page
    assert page.splitlines()[-1] == (
        "What comes next: Nothing more: it is delivered, and mailbox info no longer holds it."
    )


@pytest.mark.parametrize(
    ("kind", "outlook"),
    [
        ("held", "Nothing, until a person decides: it is held."),
        (
            "unknown",
            "Nothing, until a person decides: it is outcome-unknown; home may have it already, and get it twice if it is"
            " released.",
        ),
        ("oversize", "Nothing more: it is too large. Mailbox sales still holds it, as far as is known."),
        ("received", "It is handed over as soon as a gateway runs."),
    ],
)
def test_the_last_words_say_what_comes_next(kind: str, outlook: str, stock: Stock) -> None:
    page = stock.mailgate("show", stock.ids[kind])
    assert " ".join(page.out.split()).endswith(f" What comes next: {outlook}")


def test_at_looks_no_further_than_that_time(stock: Stock) -> None:
    stream = stock.ids["delivered"]
    (told,) = stock.mailgate("show", stream, "--at", "2026-03-01T12:00:00.1Z", "--json").json
    assert [event["name"] for event in told["events"]] == ["downloaded", "attempted"]
    assert told["message"]["state"] == "outcome-unknown"
    assert told["message"]["closed_at"] is None
    page = stock.mailgate("show", stream, "--at", "2026-03-01T12:00:01Z").out
    assert f"Message {stream}, as it stood at 2026-03-01 12:00:01" in page
    assert "removed-from-source" not in page
    assert "What would come next: Nothing more: it is delivered. Mailbox info still holds it" in page


def test_before_it_came_in_there_is_nothing_to_tell(stock: Stock) -> None:
    answer = stock.mailgate("show", stock.ids["delivered"], "--at", "2026-03-01T11:00:00Z")
    assert answer.code == 1
    assert answer.complaint.endswith("was not here yet at that time: it came in at 2026-03-01T12:00:00Z")


def test_when_it_came_in_is_said_so_that_it_can_be_asked_for(place: Place) -> None:
    stream = place.ids["delivered"]
    came_in = place.mailgate("show", stream, "--json").json[0]["message"]["opened_at"]
    answer = place.mailgate("show", stream, "--at", came_in.partition(".")[0] + "Z")
    assert answer.complaint.endswith(f"it came in at {came_in}")
    assert place.mailgate("show", stream, "--at", answer.complaint.split()[-1]).code == 0
