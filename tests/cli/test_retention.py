"""`mailgate audit retention`: what a person keeps stays, octets and record, and it is said who keeps it and why."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.command import Answer
from tests.cli.installation import Installation, installed
from tests.cli.stock import Stock, stocked

CASE = ("--reason", "case 7")


@pytest.fixture
def own(tmp_path: Path, database_url: str) -> Stock:
    """A store of the test's own, on either database."""
    return stocked(tmp_path, database_url)


@pytest.fixture
def light(tmp_path: Path, sqlite_url: str) -> Stock:
    return stocked(tmp_path, sqlite_url)


@pytest.fixture
def house(tmp_path: Path, sqlite_url: str) -> Iterator[Installation]:
    with installed(tmp_path, sqlite_url) as house:
        yield house


def retention(stock: Stock, *words: str) -> Answer:
    return stock.mailgate("audit", "retention", *words, SUDO_USER="anna")


def kept(stock: Stock, *words: str) -> set[str]:
    names = {stream: name for name, stream in stock.ids.items()}
    return {names[row["id"]] for row in stock.mailgate("list", "--kept", "--json", *words).json}


def test_what_is_kept_is_listed_and_shown_with_who_and_why_until_it_ends(own: Stock) -> None:
    delivered, deferred = own.ids["delivered"], own.ids["deferred"]
    answer = retention(own, delivered, deferred, "--keep", *CASE)
    assert (answer.code, answer.err) == (0, "")
    assert answer.lines == [f"{one}: kept from retention and erasure" for one in (delivered, deferred)]
    assert kept(own) == {"delivered", "deferred"}
    assert kept(own, "--state", "deferred") == {"deferred"}
    shown = " ".join(own.mailgate("show", delivered).out.split())
    assert "Kept from retention and erasure since " in shown
    assert "by anna: case 7" in shown
    assert "kept from retention and erasure by anna: case 7" in shown
    again = retention(own, delivered, "--keep", "--reason", "case 8")
    assert again.code == 1
    assert again.complaint.startswith(f"{delivered} can't be kept from retention: it is already, since ")
    assert again.complaint.endswith("by anna: case 7")
    ended = retention(own, delivered, "--no-keep", "--reason", "settled")
    assert (ended.code, ended.lines) == (0, [f"{delivered}: left to retention and erasure again"])
    assert kept(own) == {"deferred"}
    assert "left to retention again by anna: settled" in " ".join(own.mailgate("show", delivered).out.split())
    assert retention(own, delivered, "--no-keep", *CASE).code == 1
    for words in (("conserve",), ("verify",)):
        assert own.mailgate("audit", *words).code == 0


def test_by_filters_open_and_closed_alike_after_a_look_at_what_they_mean(own: Stock) -> None:
    answer = retention(own, "--keep", "--from", "*@customer.example", "--yes", *CASE)
    assert answer.code == 0
    assert answer.lines[0] == "4 messages are to be kept from retention:"
    everyone = {"delivered", "mixed", "deferred", "received"}
    assert kept(own) == everyone
    assert retention(own, "--keep", "--from", "*@customer.example", "--yes", *CASE).code == 1
    ended = retention(own, "--no-keep", "--kept", "--state", "delivered", "--yes", *CASE)
    assert ended.code == 0
    assert kept(own) == everyone - {"delivered"}


def test_as_of_a_time_it_is_told_what_was_kept_then(own: Stock) -> None:
    retention(own, own.ids["delivered"], "--keep", *CASE)
    (then,) = own.mailgate("events", "--event", "kept", "--json").json
    retention(own, own.ids["delivered"], "--no-keep", *CASE)
    assert own.mailgate("list", "--kept").code == 1
    assert kept(own, "--at", then["at"]) == {"delivered"}


def test_json_tells_each_message(light: Stock) -> None:
    (one,) = retention(light, light.ids["failed"], "--keep", "--json", *CASE).json
    assert (one["id"], one["done"], one["events"], one["error"]) == (
        *(light.ids["failed"], True),
        *(["kept"], None),
    )


def test_where_the_octets_never_were_the_record_is_kept(light: Stock) -> None:
    (line,) = retention(light, light.ids["oversize"], "--keep", *CASE).lines
    assert line.endswith("kept from retention and erasure; its octets are not here, its record is")


def test_an_erasure_leaves_what_is_kept_unless_a_person_says_otherwise(own: Stock) -> None:
    stream, asked = own.ids["delivered"], ("audit", "erase", own.ids["delivered"], "--reason", "request 7")
    retention(own, stream, "--keep", *CASE)
    refused = own.mailgate(*asked, "--yes")
    assert refused.code == 1
    assert f"left as it is: {stream}: it is to be kept, since " in refused.out
    assert "--even-kept erases it all the same" in refused.out
    assert "alice@customer.example" in own.mailgate("show", stream).out
    plan = own.mailgate(*asked, "--even-kept", "--dry-run")
    assert "  1 message to be kept for somebody's reason: erased all the same" in plan.lines
    done = own.mailgate(*asked, "--even-kept", "--yes")
    assert done.code == 0
    shown = own.mailgate("show", stream).out
    assert "alice@customer.example" not in shown
    assert "case 7" not in shown
    assert "kept-no-longer" in shown
    assert own.mailgate("list", "--kept").code == 1
    assert own.mailgate("audit", "verify").code == 0
    nothing = retention(own, stream, "--keep", *CASE)
    assert nothing.complaint.endswith("it was erased: there is nothing left to keep")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ((), "say --keep or --no-keep; 'mailgate list --kept' lists what is kept"),
        (("--keep", "0"), "--reason is missing: it goes on record, with your name"),
        (("--keep", *CASE), "name the messages to keep, or give filters"),
        (("--no-keep", *CASE), "name the messages to leave to retention, or give filters"),
        (("--keep", "--state", "failed", *CASE), "there is nobody to ask: add --yes"),
    ],
)
def test_what_is_not_asked_in_earnest_is_refused(
    light: Stock, words: tuple[str, ...], complaint: str
) -> None:
    answer = retention(light, *words)
    assert (answer.code, answer.complaint) == (2, complaint)


def test_retention_passes_what_is_kept_and_the_file_gives_back_what_is_not(house: Installation) -> None:
    """As an administrator sees it: beside a gateway that ran, with sizes that are those of the file."""
    large = b"Subject: large\r\n\r\n" + (b"x" * 70 + b"\r\n") * 20_000
    house.put(2)
    for number in range(6):
        house.mailbox.put("info", large + b"%d\r\n" % number)
    house.mailgate("run", "--once")
    file = house.folder / "mailgate.db"
    file = file if file.exists() else Path(house.store_url.removeprefix("sqlite:///"))
    (before,) = house.rows("db", "status")
    assert before["size_octets"] == file.stat().st_size
    assert before["size_octets"] > 6 * len(large)
    first, *others = [row["id"] for row in house.rows("list", "--subject", "large")]
    house.mailgate("audit", "retention", first, "--keep", *CASE)
    house.configure(more='[retention]\ncontents = "1s"\n')
    house.mailgate("run", "--once")
    (after,) = house.rows("db", "status")
    assert after["size_octets"] == file.stat().st_size
    assert after["size_octets"] < 3 * len(large)
    assert after["free_octets"] < after["size_octets"] // 10 + (1 << 20)
    assert large.decode().replace("\r\n", "\n") in house.mailgate("raw", first)
    for other in others:
        assert "were dropped on " in house.mailgate("raw", other, code=1)
