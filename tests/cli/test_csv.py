"""CSV and JSON of everything that has a table: whole, and in constant memory."""

import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest

import migrations
from store.database import writing
from store.rebuild import rebuild
from tests.bench import lives
from tests.bench import stock as filling
from tests.cli.command import Mailgate, configure
from tests.cli.stock import Stock
from tests.cli.test_message import FIELDS

MANY = 50_000


def table(stock: Stock, *command: str) -> list[list[str]]:
    return list(csv.reader(StringIO(stock.mailgate(*command, "--csv").out)))


def test_events_as_csv_tell_what_json_tells(stock: Stock) -> None:
    lines, events = (
        table(stock, "events", "--limit", "0"),
        stock.mailgate("events", "--limit", "0", "--json").json,
    )
    assert lines[0] == [
        "position",
        "stream",
        "revision",
        "name",
        "version",
        "at",
        "told",
        "data",
        "personal",
        "hash",
    ]
    assert len(lines) == len(events) + 1
    for line, event in zip(lines[1:], events, strict=True):
        told = dict(zip(lines[0], line, strict=True))
        assert told["at"] == event["at"]
        assert json.loads(told["data"]) == event["data"]
        assert (json.loads(told["personal"]) if told["personal"] else None) == event["personal"]
        assert (told["stream"], told["hash"]) == (event["stream"], event["hash"])
    assert "from mailbox info, UIDL" in lines[1][6]


def test_the_queue_as_csv_has_a_line_for_each_open_message(stock: Stock) -> None:
    lines = table(stock, "queue")
    assert lines[0] == [*FIELDS, "next_hop", "due_at", "held"]
    assert [line[0] for line in lines[1:]] == [row["id"] for row in stock.mailgate("queue", "--json").json]
    assert [line[-1] for line in lines[1:]] == ["", "unroutable", "outcome-unknown", "", ""]


def test_mailboxes_as_csv(stock: Stock) -> None:
    lines = table(stock, "mailbox", "list")
    (row,) = stock.mailgate("mailbox", "list", "--json").json
    assert lines[1][lines[0].index("health")] == row["health"] == "failing"
    assert set(lines[0]) == set(row)


def test_events_end_before_a_time(stock: Stock) -> None:
    every = stock.mailgate("events", "--limit", "0", "--json").json
    middle = every[9]["at"]
    found = stock.mailgate("events", "--limit", "0", "--json", "--until", middle).json
    assert found == [event for event in every if event["at"] < middle]
    answer = stock.mailgate("events", "--follow", "--until", "1h")
    assert (answer.code, answer.complaint.partition(":")[0]) == (2, "--follow and --until don't go together")


@pytest.mark.parametrize("command", [("events",), ("queue",), ("mailbox", "list")])
def test_one_format_at_a_time(command: tuple[str, ...], stock: Stock) -> None:
    assert stock.mailgate(*command, "--csv", "--json").code == 2


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mailgate]:
    """A store with many messages, each with its first event only."""
    folder = tmp_path_factory.mktemp("large")
    url = f"sqlite:///{folder}/store.db"
    engine = filling.open_for_filling(url)
    migrations.upgrade(engine)
    batches = ([first_step(life) for life in batch] for batch in lives.batches(MANY))
    filling.fill(engine, batches, lambda done: None)
    with writing(engine) as connection:
        rebuild(connection)
    engine.dispose()
    configure(folder, url)
    return Mailgate(folder)


def first_step(life: lives.Life) -> lives.Life:
    del life.steps[1:]
    return life


# Prints how much memory the command took at its peak, in KiB, behind what it prints.
WEIGHED = (
    "import resource, sys; from cli.main import main; code = main();"
    " print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr); sys.exit(code)"
)


@pytest.mark.parametrize("options", [(), ("--at", "2026-02-01"), ("--csv",)])
def test_the_whole_history_is_printed_in_constant_memory(
    options: tuple[str, ...], large: Mailgate, tmp_path: Path
) -> None:
    def weight(limit: str) -> tuple[int, int]:
        file = tmp_path / limit
        form = () if "--csv" in options else ("--json",)
        with file.open("wb") as out:
            done = subprocess.run(
                [sys.executable, "-c", WEIGHED, "list", "--limit", limit, *form, *options],
                cwd=large.folder, env=large.environment, stdout=out, stderr=subprocess.PIPE, check=True,
            )  # fmt: skip
        with file.open("rb") as printed:
            return sum(1 for _ in printed), int(done.stderr)

    few, little = weight("1000")
    many, much = weight("0")
    assert few <= 1001
    assert many > (15_000 if "--at" in options else MANY)
    assert much < little + 16 * 1024
