"""`mailgate report`: every number on the page is what its command lists; the page needs nothing, and nobody writes into it."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from cli import times
from tests.build import NOON, Builder
from tests.cli.command import Answer, Mailgate, configure
from tests.cli.stock import Stock, stocked

SPAN = ("--since", "2026-03-01T11:00:00Z", "--until", "2026-03-01T17:20:00Z")
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'><svg onload=alert(3)> &amp; {{ 7*7 }}"
VOID = ("meta", "br", "img", "link")

Json = dict[str, Any]


class Page(HTMLParser):
    """What a browser makes of the page: its elements, and the numbers with their commands."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: Counter[str] = Counter()
        self.open: list[str] = []
        self.texts: list[tuple[str, str]] = []
        self.numbers: list[tuple[int, str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes.update(name for name, _ in attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes.update(name for name, _ in attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or not data.strip():
            return
        self.texts.append((self.open[-1], data))
        if self.open[-1] == "code":
            (tag, number) = self.texts[-2]
            assert tag == "summary"
            self.numbers.append((int(number.replace(",", "")), data))

    def said(self, tag: str) -> list[str]:
        return [text for where, text in self.texts if where == tag]


def listed(mailgate: Mailgate, command: str) -> int:
    """How many messages the command lists, typed as it stands there."""
    program, *arguments = shlex.split(command)
    assert program == "mailgate"
    return len(mailgate(*arguments, "--json").json)


def written(mailgate: Mailgate, *arguments: str) -> str:
    answer = mailgate("report", "--html", "page.html", *arguments)
    assert (answer.code, answer.out, answer.err) == (0, "", "")
    return (mailgate.folder / "page.html").read_text()


def lines(mailgate: Mailgate, *arguments: str) -> list[Json]:
    answer = mailgate("report", "--json", *arguments)
    assert (answer.code, answer.err) == (0, "")
    return answer.json


def undated(command: str) -> str:
    """The command without its --at, where that is the moment of the report."""
    before, at, after = command.partition(" --at ")
    return before + after.partition(" ")[2] if "." in after.partition(" ")[0] else before + at + after


@pytest.fixture
def own(tmp_path: Path, database_url: str) -> Stock:
    """A store of the test's own, on either database."""
    return stocked(tmp_path, database_url)


def test_every_number_on_the_page_is_what_its_command_lists(own: Stock) -> None:
    page = Page(written(own.mailgate, *SPAN))
    assert len(page.numbers) > 40
    for number, command in set(page.numbers):
        assert listed(own.mailgate, command) == number > 0, command


def test_json_tells_the_same_numbers_as_the_page(stock: Stock, tmp_path: Path) -> None:
    found = lines(stock.mailgate, *SPAN)
    page = Page(stock.mailgate("report", "--html", "-", *SPAN).out)
    told = Counter((one["count"], undated(one["command"])) for one in found)
    assert told == Counter((number, undated(command)) for number, command in page.numbers)
    sections = ["sum", "arrivals", "delays", "open", "mailbox", "next_hop", "direction", "replies"]
    assert list(dict.fromkeys(one["section"] for one in found)) == sections


def test_each_section_tells_what_it_is_about(stock: Stock) -> None:
    by_section: dict[str, list[Json]] = {}
    for one in lines(stock.mailgate, *SPAN):
        by_section.setdefault(one.pop("section"), []).append(
            {key: value for key, value in one.items() if key != "command"}
        )
    assert by_section["sum"][:2] == [
        {"state": None, "count": len(stock.ids)},
        {"state": "delivered", "count": 2},
    ]
    noon = {"from": "2026-03-01T12:00:00Z", "to": "2026-03-01T13:00:00Z"}
    assert by_section["arrivals"][0] == noon | {"state": "delivered", "count": 1}
    assert by_section["delays"] == [{"slower_s": None, "faster_s": 1, "state": "delivered", "count": 2}]
    assert by_section["open"][0] == {"at": "2026-03-01T12:00:00Z", "state": "outcome-unknown", "count": 1}
    assert by_section["open"][-1] == {"at": "2026-03-01T17:20:00Z", "state": "received", "count": 1}
    assert {"mailbox": "sales", "state": "rejected-oversize", "count": 1} in by_section["mailbox"]
    assert {"next_hop": "home", "state": "deferred", "count": 2} in by_section["next_hop"]
    assert {"direction": "internal", "state": "delivered", "count": 1} in by_section["direction"]
    assert {"reply": "5.1.1 no such user here", "state": "failed", "count": 1} in by_section["replies"]


def test_the_page_needs_nothing_but_itself_and_has_a_table_beside_each_picture(stock: Stock) -> None:
    text = stock.mailgate("report", "--html", "-", *SPAN).out
    page = Page(text)
    assert {"script", "link", "img", "iframe", "object", "form", "a", "foreignobject"}.isdisjoint(page.tags)
    assert {"src", "href", "xlink:href", "action"}.isdisjoint(page.attributes)
    assert not [name for name in page.attributes if name.startswith("on")]
    assert "default-src 'none'" in text
    assert "url(" not in text
    assert "@import" not in text
    assert page.tags["svg"] == 6  # of one next hop there is nothing to compare
    assert page.tags["table"] == 7
    assert page.said("h2") == [
        "Messages per hour",
        "From arrival to delivery",
        "Open over time",
        "By mailbox",
        "By next hop",
        "By direction",
        "Why mail failed or waits",
    ]
    assert len(text) < 100_000


def hostile(builder: Builder) -> None:
    stream = builder.downloaded(subject=HOSTILE, mailbox="info", reverse_path="o'<b>@x.example")
    builder.attempted(stream, hop="mx:'$(reboot)'.example")
    builder.deferred(
        stream,
        builder.at + timedelta(minutes=5),
        hop="mx:'$(reboot)'.example",
        reply=HOSTILE,
        scope="message",
    )
    for number in range(3):
        again = builder.downloaded(subject=HOSTILE, mailbox="a'b <i> $(x)")
        reply = f"450 4.{number}.1 </title>" if number else "</text></svg><script>\"\x1b\0 it's"
        builder.attempted(again)
        builder.deferred(again, builder.at + timedelta(minutes=5), reply=reply)


@pytest.fixture
def attacked(mailgate: Mailgate, database_url: str) -> Mailgate:
    builder = Builder(database_url)
    try:
        hostile(builder)
    finally:
        builder.close()
    configure(mailgate.folder, database_url)
    return mailgate


def test_what_strangers_wrote_is_text_on_the_page_and_one_word_in_a_command(attacked: Mailgate) -> None:
    text = written(attacked, *SPAN)
    page = Page(text)
    assert {"script", "img", "b", "i"}.isdisjoint(page.tags)
    assert not [name for name in page.attributes if name.startswith("on")]
    assert page.tags["svg"] == 5
    assert "<script>alert(1)</script><img…" in page.said("th")
    assert "a'b <i> $(x)" in page.said("th")
    assert "\x1b" not in text
    assert "49" not in page.said("th")
    for number, command in set(page.numbers):
        assert listed(attacked, command) == number > 0, command


def test_a_period_without_mail_is_a_page_that_says_so(stock: Stock) -> None:
    page = Page(stock.mailgate("report", "--html", "-", "--since", "2020-01-01", "--until", "2020-01-08").out)
    assert page.numbers == []
    assert page.tags["svg"] == 0
    assert page.said("p")[2] == "No message came in."
    assert lines(stock.mailgate, "--since", "2020-01-01", "--until", "2020-01-08") == []


def test_the_last_week_is_shown_unless_told_otherwise(mailgate: Mailgate, sqlite_url: str) -> None:
    for days in (1, 6, 8):
        builder = Builder(sqlite_url, times.now() - timedelta(days=days))
        builder._number = iter(range(days * 100, days * 100 + 9))  # type: ignore[assignment]
        builder.downloaded()
        builder.close()
    configure(mailgate.folder, sqlite_url)
    found = lines(mailgate)
    assert [one["count"] for one in found if one["section"] == "sum"] == [2, 2]
    assert found[0]["command"].count("--until") == 0  # what comes in later is behind --at
    assert max(one["count"] for one in found if one["section"] == "open") == 3


@pytest.mark.parametrize(
    ("since", "until", "step", "first"),
    [
        ("2026-03-01T11:58:00Z", "2026-03-01T17:00:00Z", 300, "2026-03-01T11:55:00Z"),
        ("2026-03-01T11:30:00Z", "2026-03-01T17:40:00Z", 3600, "2026-03-01T11:00:00Z"),
        ("2026-02-20T09:00:00Z", "2026-03-05T00:00:00Z", 6 * 3600, "2026-02-20T06:00:00Z"),
        ("2025-12-31T09:00:00Z", "2026-03-05T00:00:00Z", 86_400, "2025-12-31T00:00:00Z"),
        ("2024-01-01T09:00:00Z", "2026-03-05T00:00:00Z", 4 * 86_400, "2024-01-01T00:00:00Z"),
    ],
)
def test_the_longer_a_period_the_longer_its_steps(
    stock: Stock, since: str, until: str, step: int, first: str
) -> None:
    found = lines(stock.mailgate, "--since", since, "--until", until)
    assert f"--since {first} " in found[0]["command"]
    arrivals = [one for one in found if one["section"] == "arrivals"]
    spans = {datetime.fromisoformat(one["to"]) - datetime.fromisoformat(one["from"]) for one in arrivals}
    assert timedelta(seconds=step) in spans
    assert sum(one["count"] for one in arrivals) == len(stock.ids)


def test_a_day_is_one_also_where_summer_time_begins(mailgate: Mailgate, sqlite_url: str) -> None:
    builder = Builder(sqlite_url, datetime(2026, 3, 27, 12, tzinfo=UTC))
    configure(mailgate.folder, sqlite_url)
    came = []
    for hours in (0, 24, 24, 24, 24):
        builder.later(hours=hours)
        came.append(builder.downloaded())
    builder.close()
    asked = ("report", "--json", "--since", "2026-03-01", "--until", "2026-05-01")
    told = mailgate(*asked, TZ="Europe/Berlin").json
    days = [row for row in told if row["section"] == "arrivals"]
    assert [row["from"] for row in days] == [
        "2026-03-26T23:00:00Z",
        "2026-03-27T23:00:00Z",
        "2026-03-28T23:00:00Z",
        "2026-03-29T22:00:00Z",
        "2026-03-30T22:00:00Z",
    ]
    listed = [mailgate(*shlex.split(row["command"])[1:], "--json", TZ="Europe/Berlin").json for row in days]
    assert [[row["id"] for row in rows] for rows in listed] == [[stream] for stream in came]
    assert [row["count"] for row in days] == [1] * 5


def test_a_configuration_that_was_named_is_named_in_the_commands(stock: Stock, tmp_path: Path) -> None:
    file = tmp_path / "it's here.toml"
    file.write_bytes((stock.mailgate.folder / "mailgate.toml").read_bytes())
    elsewhere = Mailgate(tmp_path)
    answer = elsewhere("--config", str(file), "report", "--json", *SPAN)
    assert listed(elsewhere, answer.json[0]["command"]) == answer.json[0]["count"] == len(stock.ids)


def test_what_was_erased_still_counts(own: Stock) -> None:
    def counts() -> list[Json]:
        keys = ("section", "state", "count", "from", "at", "mailbox", "next_hop", "direction")
        return [
            {key: one.get(key) for key in keys}
            for one in lines(own.mailgate, *SPAN)
            if one["section"] != "replies"
        ]

    before = counts()
    erased = own.mailgate("audit", "erase", own.ids["failed"], own.ids["delivered"], "--reason", "x", "--yes")
    assert erased.code == 0, erased.err
    assert counts() == before
    replies = [one for one in lines(own.mailgate, *SPAN) if one["section"] == "replies"]
    (gone,) = (one for one in replies if one["reply"] == "" and one["state"] == "failed")
    assert listed(own.mailgate, gone["command"]) == gone["count"] == 1


# -- where it is written


def test_a_file_that_is_there_is_replaced_as_a_whole_and_keeps_its_permissions(
    stock: Stock, tmp_path: Path
) -> None:
    page, link = tmp_path / "page.html", tmp_path / "link.html"
    page.write_text("old")
    page.chmod(0o640)
    link.symlink_to(page)
    held = page.open()
    assert stock.mailgate("report", "--html", str(link), *SPAN).code == 0
    assert held.read() == "old"  # who had it open is not disturbed
    held.close()
    assert link.is_symlink()
    assert page.read_text().startswith("<!doctype html>")
    assert page.stat().st_mode & 0o777 == 0o640
    assert sorted(tmp_path.iterdir()) == [link, page]


def test_where_it_cant_be_written_it_says_so_and_leaves_nothing(stock: Stock, tmp_path: Path) -> None:
    answer = stock.mailgate("report", "--html", str(tmp_path), *SPAN)
    assert (answer.code, answer.complaint) == (2, f"--html: {tmp_path} is no file")
    missing = tmp_path / "none" / "page.html"
    answer = stock.mailgate("report", "--html", str(missing), *SPAN)
    assert (answer.code, answer.complaint) == (1, f"{missing}: No such file or directory")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "say --html FILE for a page, or --json"),
        (("--json", "--html", "x"), "say --html FILE for a page, or --json"),
        (("--json", "--since", "1h", "--until", "2h"), "--since: is not before --until"),
    ],
)
def test_what_means_nothing_is_refused(stock: Stock, arguments: tuple[str, ...], complaint: str) -> None:
    answer = stock.mailgate("report", *arguments)
    assert (answer.code, answer.complaint) == (2, complaint)


# -- what it needs


@pytest.mark.parametrize("missing", ["pygal", "jinja2"])
def test_without_its_packages_it_says_what_to_install(
    stock: Stock, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known: Callable[[str], Any] = find_spec
    monkeypatch.setattr("cli.report.find_spec", lambda name: None if name == missing else known(name))
    answer = stock.mailgate("report", "--html", "-", *SPAN)
    wanted = "a page needs the packages pygal and jinja2: pip install 'mailgate[report]'"
    assert (answer.code, answer.out, answer.complaint) == (1, "", wanted)
    assert stock.mailgate("report", "--json", *SPAN).code == 0


def test_json_does_not_even_load_them(stock: Stock, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pygal", "jinja2"):
        monkeypatch.setitem(sys.modules, name, None)  # importing it fails
    assert lines(stock.mailgate, *SPAN)


def test_as_a_process_without_a_warning(stock: Stock) -> None:
    answer: Answer = stock.mailgate.process("report", "--html", "-", *SPAN, PYTHONWARNINGS="error")
    assert (answer.code, answer.err) == (0, "")
    assert len(Page(answer.out).numbers) == len(lines(stock.mailgate, *SPAN))
    assert NOON.strftime("%Y-%m-%d 12:00") in Page(answer.out).said("th")
