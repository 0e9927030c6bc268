"""`events` tells the log in its order, and follows it without missing or repeating anything."""

import json
import signal
from pathlib import Path

import pytest

from cli.context import Failure
from cli.log import Wanted, behind
from store import log
from store.database import open_store, reading
from store.mailbox_events import PollRecovered
from tests.build import Builder, varied
from tests.cli.command import Mailgate, configure
from tests.cli.stock import Stock, stocked


def positions(stock: Stock, *arguments: str) -> list[int]:
    answer = stock.mailgate("events", "--json", *arguments)
    return [event["position"] for event in answer.json]


@pytest.mark.parametrize("url", ["sqlite_url", pytest.param("postgres_url", marks=pytest.mark.real)])
def test_the_whole_log_comes_in_its_order(url: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    stock = stocked(tmp_path, request.getfixturevalue(url))
    told = stock.mailgate("events", "--json", "--limit", "0").json
    engine = open_store(stock.url)
    with reading(engine) as connection:
        recorded = list(log.walk(connection))
    engine.dispose()
    assert [event["position"] for event in told] == [one.position for one in recorded]
    assert [event["hash"] for event in told] == [one.hash.hex() for one in recorded]
    fields = ["stream", "position", "revision", "name", "version", "at", "data", "personal", "hash"]
    assert all(list(event) == fields for event in told)


@pytest.mark.parametrize("follow", [(), ("--follow",)])
def test_a_position_beyond_the_end_of_the_log_is_named(follow: tuple[str, ...], stock: Stock) -> None:
    last = positions(stock, "--limit", "1")[0]
    answer = stock.mailgate("events", "--after", str(last + 1), *follow)
    said = "it is another store, or an older backup was restored"
    assert answer.code == 1
    assert answer.complaint == f"the log ends at position {last}, before {last + 1}: {said}"


def test_who_follows_is_told_that_the_log_became_shorter(stock: Stock) -> None:
    engine = open_store(stock.url)
    with reading(engine) as connection:
        wanted, last = Wanted(connection, None, None, None, None), log.last_position(connection)
    assert behind(engine, wanted, last) == ([], last)
    with pytest.raises(Failure, match="an older backup was restored"):
        behind(engine, wanted, last + 1)
    engine.dispose()


def test_filters_add_up(stock: Stock) -> None:
    every = stock.mailgate("events", "--json", "--limit", "0").json
    mixed = stock.ids["mixed"]

    def those(**facts: str) -> list[int]:
        return [e["position"] for e in every if all(e[name] == value for name, value in facts.items())]

    assert positions(stock, "--event", "attempted") == those(name="attempted")
    assert positions(stock, "--event", "held") == those(name="held")
    assert positions(stock, "--stream", mixed) == those(stream=mixed)
    assert positions(stock, "--stream", mixed, "--event", "deferred") == those(stream=mixed, name="deferred")
    assert positions(stock, "--stream", "mailbox-info") == those(stream="mailbox-info") != []
    since = [e["position"] for e in every if e["at"] >= "2026-03-01T14:30:00"]
    assert positions(stock, "--since", "2026-03-01T14:30:00Z") == since != []
    assert positions(stock, "--limit", "3") == [e["position"] for e in every][-3:]
    assert positions(stock, "--limit", "2", "--event", "attempted") == those(name="attempted")[-2:]


def test_looking_back_for_something_rare_goes_as_far_as_needed(mailgate: Mailgate, sqlite_url: str) -> None:
    builder = Builder(sqlite_url)
    builder.mailbox_event("info", PollRecovered(mailbox="info"))
    streams = [builder.downloaded() for _ in range(12)]
    builder.close()
    configure(mailgate.folder, sqlite_url)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cli.log.FIRST_LOOK_BACK", 2)
        patch.setattr("cli.log.PAGE", 2)
        rare = mailgate("events", "--json", "--limit", "1", "--event", "poll-recovered").json
        newest = mailgate("events", "--json", "--limit", "5").json
        every = mailgate("events", "--json", "--limit", "0").json
    assert [event["stream"] for event in rare] == ["mailbox-info"]
    assert [event["stream"] for event in newest] == streams[-5:]
    assert [event["stream"] for event in every] == ["mailbox-info", *streams]


def test_a_line_tells_when_who_and_what(stock: Stock) -> None:
    lines = stock.mailgate("events", "--limit", "0").lines
    stream = stock.ids["delivered"]
    assert lines[0].startswith(
        f"2026-03-01 12:00:00  {stream}  downloaded from mailbox info, UIDL uidl-{stream}: "
    )
    assert any("  mailbox-info      poll-failed (auth): -ERR [AUTH] invalid login" in line for line in lines)


def test_nothing_found_is_exit_1(stock: Stock) -> None:
    answer = stock.mailgate("events", "--since", "1s")
    assert (answer.code, answer.out, answer.complaint) == (1, "", "no event fits")


def test_following_prints_what_comes_once_and_ends_well_on_ctrl_c(
    mailgate: Mailgate, database_url: str
) -> None:
    builder = Builder(database_url)
    first = builder.downloaded()
    configure(mailgate.folder, database_url)
    with mailgate.start("events", "--follow", "--json") as following:
        assert following.stdout is not None
        assert json.loads(following.stdout.readline())["stream"] == first
        added = varied(builder)
        with builder.engine.connect() as connection:
            last = log.last_position(connection)
        told = [json.loads(following.stdout.readline()) for _ in range(last - 1)]
        assert [event["position"] for event in told] == list(range(2, last + 1))
        assert {event["stream"] for event in told} == {*added.values(), "mailbox-info"}
        following.send_signal(signal.SIGINT)
        rest, err = following.communicate()
    assert (following.returncode, rest, err) == (0, b"", b"")
    builder.close()


def test_following_waits_for_a_store_that_cannot_be_asked(sqlite_url: str) -> None:
    builder = Builder(sqlite_url)
    engine = open_store(sqlite_url)
    with reading(engine) as connection:
        wanted = Wanted(connection, None, None, None, None)
    file = Path(sqlite_url.removeprefix("sqlite:///"))
    builder.downloaded()
    builder.close()
    aside = file.rename(file.with_name("aside.db"))
    assert behind(engine, wanted, 0) == ([], 0)
    assert not file.exists()  # an empty one would stand in the way of the one that comes back
    file.mkdir()  # nothing that can be opened
    assert behind(engine, wanted, 0) == ([], 0)
    file.rmdir()
    aside.rename(file)
    rows, checkpoint = behind(engine, wanted, 0)
    assert [row.name for row in rows] == ["downloaded"]
    assert checkpoint == 1
    assert behind(engine, wanted, checkpoint) == ([], 1)
    engine.dispose()


def test_following_takes_a_full_page_at_a_time(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cli.log.PAGE", 2)
    builder = Builder(sqlite_url)
    for _ in range(5):
        builder.downloaded()
    with reading(builder.engine) as connection:
        wanted = Wanted(connection, None, None, None, None)
    seen, checkpoint = [], 0
    for _ in range(4):
        rows, checkpoint = behind(builder.engine, wanted, checkpoint)
        seen += [row.position for row in rows]
    assert seen == [1, 2, 3, 4, 5]
    builder.close()
