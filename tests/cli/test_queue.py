"""`queue` tells what is open and nothing else, by next hop, by age, the oldest first."""

import re
from collections.abc import Iterator
from datetime import timedelta

import pytest

from cli import times
from store.events import RedeliveryRequested
from tests.build import POLICY, Builder
from tests.cli.command import Mailgate, configure
from tests.cli.stock import Stock
from tests.cli.test_message import FIELDS

OPEN = ["mixed", "held", "unknown", "deferred", "received"]


@pytest.fixture
def builder(mailgate: Mailgate, database_url: str) -> Iterator[Builder]:
    made = Builder(database_url, times.now() - timedelta(days=6))
    configure(mailgate.folder, database_url)
    yield made
    made.close()


def test_json_has_an_object_for_each_open_message_the_oldest_first(stock: Stock) -> None:
    rows = stock.mailgate("queue", "--json").json
    assert [row["id"] for row in rows] == [stock.ids[kind] for kind in OPEN]
    assert [list(row) for row in rows] == [[*FIELDS, "next_hop", "scanner", "due_at", "holds"]] * len(OPEN)
    by_id = {row["id"]: row for row in rows}
    assert by_id[stock.ids["mixed"]]["next_hop"] == "home"
    assert by_id[stock.ids["mixed"]]["due_at"] == "2026-03-01T13:05:04.212000Z"
    assert by_id[stock.ids["held"]]["next_hop"] is None
    assert by_id[stock.ids["held"]]["due_at"] is None
    assert by_id[stock.ids["held"]]["holds"] == [
        {
            "why": "unroutable",
            "rule": "no header named an own address",
            "until": None,
            "operator": None,
            "reason": "",
            "recipients": [],
        }
    ]
    assert [hold["recipients"] for hold in by_id[stock.ids["unknown"]]["holds"]] == [["info@example.com"]]
    assert by_id[stock.ids["deferred"]]["holds"] == []


def test_nothing_open_is_said_and_no_trouble(mailgate: Mailgate, builder: Builder) -> None:
    stream = builder.downloaded()
    builder.attempted(stream)
    builder.delivered(stream)
    answer = mailgate("queue")
    assert (answer.code, answer.out, answer.err) == (0, "nothing is open\n", "")
    answer = mailgate("queue", "--json")
    assert (answer.code, answer.out, answer.err) == (0, "", "")


def test_the_page_counts_by_next_hop_and_by_age(mailgate: Mailgate, builder: Builder) -> None:
    old = builder.downloaded()
    builder.held(old)
    builder.later(days=5)
    down = builder.downloaded()
    builder.attempted(down)
    builder.later(minutes=1)
    again = times.now() + timedelta(minutes=30)
    builder.deferred(down, again, code=421, reply="4.4.1 connection refused", scope="next-hop")
    builder.later(hours=22)
    new = builder.downloaded()
    answer = mailgate("queue")
    assert answer.code == 0
    pages = [page.splitlines() for page in answer.out.split("\n\n")]
    assert pages[0] == ["3 messages are open, the oldest for 6d."]
    header, untried, home = pages[1]
    assert header.split("  ")[0] == "NEXT HOP"
    assert untried.split() == ["(not", "tried", "yet)", "1", "1h", "59m", "now"]
    assert home.split()[:3] == ["home", "1", "1d"]
    assert ", failed once, tried again in " in home
    assert home.endswith(": 4.4.1 connection refused")
    assert [line.split() for line in pages[2]] == [
        ["AGE", "OPEN"],
        ["1h", "to", "4h", "1"],
        ["1d", "to", "5d", "1"],
        ["over", "5d", "1"],
    ]
    assert [line.split()[:4] for line in pages[3][1:]] == [[old, "6d", "unroutable", "by"]]
    assert pages[3][1].endswith("no header named an own address")
    assert [line.split()[0] for line in pages[4][1:]] == [down, new]
    assert pages[4][1].endswith("4.4.1 connection refused")


def test_nothing_is_tried_before_its_next_hop_is_probed_unless_a_person_wants_it_now(
    mailgate: Mailgate, builder: Builder
) -> None:
    builder.later(days=5, hours=23)
    down, waits = builder.downloaded(), builder.downloaded()
    for stream, minutes in ((down, 90.5), (waits, 1)):
        builder.attempted(stream)
        at = times.now() + timedelta(minutes=minutes)
        builder.deferred(stream, at, code=421, reply="4.4.1 refused", scope="next-hop", tried=stream == down)

    def next_tries() -> list[str]:
        lines = [
            line for line in mailgate("queue").out.splitlines() if line.startswith(("home", down, waits))
        ]
        return [" ".join(re.findall(r"in 1h 30m|now", line)[:1]) for line in lines]

    assert next_tries() == ["in 1h 30m"] * 3
    again = RedeliveryRequested(numbers=(0,), bound_for="home", operator="anna", policy="p")
    builder.append(waits, again)
    assert next_tries() == ["now", "in 1h 30m", "now"]


@pytest.mark.parametrize("columns", ["80", "60"])
def test_why_a_next_hop_is_down_is_told_in_full_on_a_narrow_page(
    columns: str, mailgate: Mailgate, builder: Builder
) -> None:
    builder.later(days=6)
    why = "5.7.1 your IP 192.0.2.1 is blocked, see https://x.example"
    made = []
    for _ in range(3):
        made.append(builder.submitted())
        builder.attempted(made[-1], hop="provider")
        again = times.now() + timedelta(minutes=30)
        builder.deferred(made[-1], again, hop="provider", code=554, reply=why, scope="next-hop")
    held = builder.downloaded()
    builder.held(held, rule="no header named an own address (Delivered-To, X-Envelope-To absent)")
    page = mailgate("queue", COLUMNS=columns).out
    said = " ".join(page.split())
    standing = rf" provider: down for \S+, failed 3 times in a row, tried again in \S+( \d+s)?: {why} "
    assert len(re.findall(standing, said)) == 1
    assert f" {made[0]} and 2 more: {why}" in said
    assert f" {held}: no header named an own address (Delivered-To, X-Envelope-To absent)" in said
    assert all(len(line) <= int(columns) for line in page.splitlines())
    wide = mailgate("queue", COLUMNS="400").out
    assert wide.count(why) == 1 + len(made)
    assert "provider: down" not in wide


def test_each_next_hop_counts_what_waits_for_it_in_every_direction(
    mailgate: Mailgate, builder: Builder
) -> None:
    soon, late = (times.now() + timedelta(hours=hours) for hours in (30.5, 78.5))
    both = builder.submitted(recipients=("a@partner.example", "b@other.example", "c@other.example"))
    builder.attempted(both, (0,), hop="provider")
    builder.deferred(both, late, numbers=(0,), hop="provider")
    builder.attempted(both, (1,), hop="backup")
    builder.deferred(both, soon, numbers=(1,), hop="backup")
    builder.later(days=1)
    builder.held(both, why="operator", rule="by hand", numbers=(2,), operator="anna", reason="who is c?")
    inbound = builder.downloaded()
    builder.attempted(inbound)
    builder.failed(inbound)
    notice = builder.notice(inbound)
    builder.attempted(notice)
    builder.deferred(notice, soon)
    pages = [page.splitlines() for page in mailgate("queue").out.split("\n\n")]
    assert [line.split()[:5] for line in pages[1][1:]] == [
        ["backup", "1", "6d", "in", "1d"],
        ["home", "1", "5d", "in", "1d"],
        ["provider", "1", "6d", "in", "3d"],
    ]
    (held,) = pages[3][1:]
    assert held.startswith(f"{both}   6d  operator  by hand  c@other.example")
    assert held.endswith("  anna: who is c?")
    assert [line.split()[:3] for line in pages[4][1:]] == [
        [both, "6d", "outbound"],
        [notice, "5d", "internal"],
    ]
    assert [one["id"] for one in mailgate("list", "--direction", "outbound", "--json").json] == [both]


def test_only_what_is_held_is_left(mailgate: Mailgate, builder: Builder) -> None:
    stream = builder.downloaded()
    builder.held(
        stream, why="operator", rule="by hand", operator="anna", until=times.now() + timedelta(hours=27.5)
    )
    pages = [page.splitlines() for page in mailgate("queue").out.split("\n\n")]
    assert [page[0].split()[0] for page in pages] == ["1", "AGE", "HELD"]
    assert "  in 1d 3h  " in pages[2][1]
    assert pages[2][1].endswith("  anna")


def test_the_oldest_are_named_and_the_rest_counted(mailgate: Mailgate, builder: Builder) -> None:
    made = [builder.downloaded() for _ in range(5)]
    lines = mailgate("queue", "--limit", "2").lines
    assert [line.split()[0] for line in lines[-3:-1]] == made[:2]
    assert lines[-1] == "There are 3 more; --limit 0 shows them."
    lines = mailgate("queue", "--limit", "0").lines
    assert [line.split()[0] for line in lines[-5:]] == made
    assert [row["id"] for row in mailgate("queue", "--json", "--limit", "2").json] == made
    assert mailgate("queue", "--limit", "-2").code == 2


def test_one_message_is_one(mailgate: Mailgate, builder: Builder) -> None:
    builder.downloaded()
    assert mailgate("queue").lines[0] == "1 message is open, the oldest for 6d."


def test_of_many_domains_those_with_most_mail_are_named(mailgate: Mailgate, builder: Builder) -> None:
    for number in range(23):
        for _ in range(2 if number == 22 else 1):
            stream = builder.downloaded()
            hop = f"mx:d{number:02}.example"
            builder.attempted(stream, hop=hop)
            builder.deferred(stream, builder.at + timedelta(minutes=5), hop=hop)
    lines = mailgate("queue").lines
    named = [line.split()[:2] for line in lines if line.startswith("mx:")]
    assert len(named) == 20
    assert ["mx:d22.example", "2"] in named
    assert "3 more domains by MX have 3 open; --json has every message." in lines


def test_who_waits_where_is_told_of_each_recipient_that_a_person_sent_on(
    mailgate: Mailgate, builder: Builder
) -> None:
    both = ("info@example.com", "sales@example.com")
    stream = builder.downloaded(recipients=both)
    builder.attempted(stream)
    builder.deferred(stream, times.now() + timedelta(minutes=5))
    again = RedeliveryRequested(numbers=(1,), next_hop="branch", bound_for="branch", policy=POLICY)
    builder.append(stream, again)
    waits = mailgate("queue").out.split("\n\n")[1].splitlines()[1:]
    assert [line.split()[:2] for line in waits] == [["branch", "1"], ["home", "1"]]
    past = mailgate("queue", "--at", times.now().isoformat()).out.split("\n\n")[1].splitlines()[1:]
    assert [line.split()[:2] for line in past] == [["branch", "1"], ["home", "1"]]
