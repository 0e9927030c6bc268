"""`list` finds what the filters say, with the fields that programs rely on; `raw` gives the octets and nothing else."""

import csv
from hashlib import sha256
from io import StringIO
from pathlib import Path

import pytest

from store import log
from store.database import open_store, reading
from tests.build import NOON, Builder
from tests.cli.command import Mailgate, configure
from tests.cli.stock import Stock, stocked

FIELDS = [
    "id",
    "direction",
    "state",
    "opened_at",
    "changed_at",
    "closed_at",
    "mailbox",
    "uidl",
    "reverse_path",
    "recipients",
    "message_id",
    "subject",
    "size_octets",
    "content",
    "attempts",
]
RECIPIENT_FIELDS = ["address", "state", "next_hop", "reply", "attempts", "retry_at"]


def found(stock: Stock, *arguments: str) -> set[str]:
    """What the filters find, by the names of the stock."""
    names = {stream: name for name, stream in stock.ids.items()}
    answer = stock.mailgate("list", "--json", *arguments)
    assert answer.code == (0 if answer.out else 1), answer.err
    return {names[row["id"]] for row in answer.json}


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ("--from alice@customer.example", {"delivered", "mixed"}),
        ("--from ALICE@customer.example", {"delivered", "mixed"}),
        ("--from *@customer.example", {"delivered", "mixed", "deferred", "received"}),
        ("--from <>", {"failed", "notice"}),
        ("--to gone@example.com", {"mixed"}),
        ("--to *@example.com --state failed", {"failed"}),
        ("--subject just", {"received"}),
        ("--subject voic", {"delivered", "held", "failed", "deferred", "notice"}),
        ("--subject grusse", {"mixed"}),
        ("--text invoice", {"delivered", "held", "failed", "deferred", "notice"}),
        ("--text voic", set()),
        ("--text inv*", {"delivered", "held", "failed", "deferred", "notice"}),
        ("--text 4711-alice", {"delivered", "held", "deferred"}),
        ("--text GRÜSSE", {"mixed"}),
        ("--text gone@example.com", {"mixed"}),
        ("--text partner --state outcome-unknown", {"unknown"}),
        ("--message-id photos@friend.example", {"oversize"}),
        ("--message-id <photos@friend.example>", {"oversize"}),
        ("--mailbox sales", {"oversize"}),
        ("--state outcome-unknown", {"unknown"}),
        ("--state rejected-oversize", {"oversize"}),
        ("--direction internal", {"notice"}),
        ("--next-hop home --state deferred", {"mixed", "deferred"}),
        ("--event removed-from-source", {"delivered"}),
        ("--event held", {"held", "unknown"}),
        ("--since 2026-03-01T14:30:00Z", {"deferred", "received"}),
        ("--until 2026-03-01T12:30:00Z", {"delivered"}),
        ("--since 2026-03-01T12:30:00Z --until 2026-03-01T13:30:00Z --direction inbound", {"mixed"}),
        ("--from *@nowhere.example", set()),
        ("--reply 5.1.1*", {"mixed", "failed"}),
        ("--reply *CONNECTION*", {"deferred"}),
        ("--reply 5.1.1* --state failed", {"failed"}),
        ("--slower 1s", set()),
        ("--faster 1s", {"delivered", "notice", "oversize", "failed"}),
        ("--faster 1s --slower 0s --mailbox sales", {"oversize"}),
    ],
)
def test_filters_find_what_they_say_and_add_up(arguments: str, names: set[str], stock: Stock) -> None:
    assert found(stock, *arguments.split()) == names


@pytest.mark.parametrize("url", ["sqlite_url", pytest.param("postgres_url", marks=pytest.mark.real)])
def test_json_has_the_fields_that_programs_rely_on(
    url: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    stock = stocked(tmp_path, request.getfixturevalue(url))
    rows = stock.mailgate("list", "--json").json
    assert [list(row) for row in rows] == [FIELDS] * len(stock.ids)
    assert [row["id"] for row in rows] == sorted(stock.ids.values(), reverse=True)
    assert all(list(one) == RECIPIENT_FIELDS for row in rows for one in row["recipients"])
    (delivered,) = (row for row in rows if row["id"] == stock.ids["delivered"])
    assert delivered == {
        "id": stock.ids["delivered"],
        "direction": "inbound",
        "state": "delivered",
        "opened_at": "2026-03-01T12:00:00Z",
        "changed_at": "2026-03-01T12:00:04.212000Z",
        "closed_at": "2026-03-01T12:00:00.212000Z",
        "mailbox": "info",
        "uidl": f"uidl-{stock.ids['delivered']}",
        "reverse_path": "alice@customer.example",
        "recipients": [
            {
                "address": "info@example.com",
                "state": "delivered",
                "next_hop": "home",
                "reply": "2.0.0 Ok: queued as 0001",
                "attempts": 1,
                "retry_at": None,
            }
        ],
        "message_id": "<0001@customer.example>",
        "subject": "Invoice 4711",
        "size_octets": 39,
        "content": sha256(b"Subject: Invoice 4711\r\n\r\nmessage 0001\r\n").hexdigest(),
        "attempts": 1,
    }


def test_the_newest_fifty_come_first_and_zero_is_all(mailgate: Mailgate, sqlite_url: str) -> None:
    builder = Builder(sqlite_url)
    made = [builder.downloaded(subject=f"number {number}") for number in range(60)]
    builder.close()
    configure(mailgate.folder, sqlite_url)
    assert [row["id"] for row in mailgate("list", "--json").json] == made[:9:-1]
    assert [row["id"] for row in mailgate("list", "--json", "--limit", "0").json] == made[::-1]
    assert [row["id"] for row in mailgate("list", "--json", "--limit", "2").json] == made[:57:-1]
    table = mailgate("list", "--limit", "2").lines
    assert len(table) == 3  # a pipe gets the header and the rows, no hint


def test_a_table_has_a_line_for_each_message(stock: Stock) -> None:
    header, *rows = stock.mailgate("list").lines
    assert header.split() == ["ID", "CAME", "IN", "STATE", "SIZE", "FROM", "TO", "SUBJECT"]
    assert len(rows) == len(stock.ids)
    (mixed,) = (row for row in rows if row.startswith(stock.ids["mixed"]))
    assert mixed.endswith("  Grüße – 会議")
    assert "anna@example.com +2" in mixed
    (held,) = (row for row in rows if row.startswith(stock.ids["held"]))
    assert "(nobody)" in held


def test_a_table_fits_the_width_it_is_given(stock: Stock) -> None:
    for width in (80, 120):
        lines = stock.mailgate("list", COLUMNS=str(width)).lines
        assert all(len(line) <= width for line in lines)
        assert all(any(stream in line for line in lines) for stream in stock.ids.values())


def test_csv_has_a_row_for_each_message(stock: Stock) -> None:
    rows = list(csv.DictReader(StringIO(stock.mailgate("list", "--csv").out)))
    assert list(rows[0]) == FIELDS
    by_id = {row["id"]: row for row in rows}
    assert set(by_id) == set(stock.ids.values())
    mixed = by_id[stock.ids["mixed"]]
    assert mixed["recipients"] == "anna@example.com, gone@example.com, dora@example.com"
    assert mixed["closed_at"] == ""
    assert mixed["opened_at"] == "2026-03-01T13:00:04.212000Z"


def test_json_and_csv_exclude_each_other(stock: Stock) -> None:
    answer = stock.mailgate("list", "--json", "--csv")
    assert (answer.code, answer.complaint) == (2, "--json and --csv don't go together")


def test_nothing_found_is_exit_1_and_says_so(stock: Stock, mailgate: Mailgate, sqlite_url: str) -> None:
    for form in ([], ["--json"], ["--csv"]):
        answer = stock.mailgate("list", "--subject", "no such subject", *form)
        assert (answer.code, answer.out, answer.complaint) == (1, "", "no message fits")
    answer = stock.mailgate("list", "--to", "ann")
    assert answer.complaint == "no message fits; an address is meant whole: '*ann*' finds a part of it"
    assert stock.mailgate("list", "--to", "*ann*").code == 0
    Builder(sqlite_url).close()
    configure(mailgate.folder, sqlite_url)
    answer = mailgate("list")
    assert (answer.code, answer.complaint) == (1, "there are no messages yet")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (
            ("--state", "deferd"),
            "--state: there is no state 'deferd': did you mean 'deferred'? (one of received, ",
        ),
        (
            ("--direction", "in"),
            "--direction: there is no direction 'in' (one of inbound, outbound, internal)",
        ),
        (
            ("--event", "atempted"),
            "--event: there is no event 'atempted': did you mean 'attempted'? (one of ",
        ),
        (("--event", "poll-failed"), "--event: there is no event 'poll-failed'"),
        (("--since", "soon"), "--since: 'soon' is not a time: write it as 2h, "),
        (("--until", "soon"), "--until: 'soon' is not a time"),
        (("--limit", "-1"), "--limit: -1 is less than nothing"),
    ],
)
def test_a_word_that_means_nothing_is_exit_2_and_names_those_that_do(
    arguments: tuple[str, ...], complaint: str, stock: Stock
) -> None:
    answer = stock.mailgate("list", *arguments)
    assert answer.code == 2
    assert answer.complaint.startswith(complaint)


def test_what_strangers_wrote_reaches_no_terminal_as_commands(mailgate: Mailgate, sqlite_url: str) -> None:
    builder = Builder(sqlite_url)
    stream = builder.downloaded(subject="\x1b]0;owned\x07 \x1b[2J", reverse_path="\x1b[31m@customer.example")
    builder.attempted(stream)
    builder.deferred(stream, NOON, reply="try\x1b[8mlater\r\nnow")
    builder.close()
    configure(mailgate.folder, sqlite_url)
    for command in (["list"], ["show", stream], ["explain", stream], ["events"], ["queue"]):
        answer = mailgate(*command)
        assert answer.code == 0, answer.err
        assert set(answer.out) - {"\n"} == {c for c in answer.out if c.isprintable()}


@pytest.mark.parametrize("octets", [b"\x00\xff\r\n.\r\nlone\rcr\nlf \x1b[2J", b"x" * 3_000_000])
@pytest.mark.parametrize("url", ["sqlite_url", pytest.param("postgres_url", marks=pytest.mark.real)])
def test_raw_gives_the_octets_exactly(
    url: str, octets: bytes, mailgate: Mailgate, request: pytest.FixtureRequest
) -> None:
    database_url = request.getfixturevalue(url)
    builder = Builder(database_url)
    stream = builder.downloaded(octets=octets)
    builder.close()
    configure(mailgate.folder, database_url)
    answer = mailgate("raw", stream)
    assert answer.code == 0
    assert answer.octets == octets
    assert answer.err == ""


def test_raw_says_why_there_are_none(stock: Stock) -> None:
    answer = stock.mailgate("raw", stock.ids["oversize"])
    assert (answer.code, answer.octets) == (1, b"")
    assert answer.complaint == f"message {stock.ids['oversize']} was never fetched: rejected-oversize"


def test_any_unique_beginning_of_an_id_will_do(stock: Stock) -> None:
    stream = stock.ids["delivered"]
    others = set(stock.ids.values()) - {stream}
    shortest = next(stream[:n] for n in range(1, 17) if not any(o.startswith(stream[:n]) for o in others))
    assert stock.mailgate("raw", shortest.upper()).octets == stock.mailgate("raw", stream).octets != b""


def test_an_ambiguous_beginning_names_the_candidates(stock: Stock) -> None:
    answer = stock.mailgate("show", "0")
    assert answer.code == 2
    first = sorted(stock.ids.values())[:5]
    assert answer.complaint == f"several ids begin with '0': {', '.join(first)}, …"


@pytest.mark.parametrize("command", ["show", "explain", "raw"])
def test_an_unknown_id_is_exit_1(command: str, stock: Stock) -> None:
    answer = stock.mailgate(command, "zzzz")
    assert (answer.code, answer.complaint) == (1, "no message has an id that begins with 'zzzz'")


@pytest.mark.parametrize("beginning", ["%", "_", "0'--", "é", "photos@friend.example"])
def test_what_can_be_no_id_is_no_id(beginning: str, stock: Stock) -> None:
    answer = stock.mailgate("show", beginning)
    assert answer.code == 1
    assert answer.complaint.startswith(f"no message has an id that begins with {beginning!r}")
    assert ("--message-id" in answer.complaint) == ("@" in beginning)


def test_asking_changes_nothing(stock: Stock) -> None:
    engine = open_store(stock.url)
    with reading(engine) as connection:
        before = list(log.walk(connection))
    for command in (["list"], ["show", stock.ids["mixed"]], ["explain", stock.ids["deferred"]], ["queue"]):
        assert stock.mailgate(*command).code == 0
    with reading(engine) as connection:
        assert list(log.walk(connection)) == before
    engine.dispose()
    files = {file.name for file in stock.mailgate.folder.iterdir()}
    assert files <= {"mailgate.toml", "mailgate.db", "mailgate.db-wal", "mailgate.db-shm"}


def test_words_without_a_letter_are_no_question(stock: Stock) -> None:
    answer = stock.mailgate("list", "--text", "?!")
    assert answer.code == 2
    assert answer.complaint.startswith("--text: there is no word in '?!'")


@pytest.mark.parametrize("url", ["sqlite_url", pytest.param("postgres_url", marks=pytest.mark.real)])
def test_a_sign_in_a_subject_is_found_and_no_space_instead(
    url: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    store = request.getfixturevalue(url)
    builder = Builder(store)
    configure(tmp_path, store)
    party, price = (
        builder.downloaded(subject=text) for text in ("you won \N{PARTY POPPER}", "now 9 \N{EURO SIGN}")
    )
    builder.close()
    mailgate = Mailgate(tmp_path)
    for sign, wanted in (("\N{PARTY POPPER}", party), ("9 \N{EURO SIGN}", price)):
        assert [row["id"] for row in mailgate("list", "--json", "--subject", sign).json] == [wanted]
    assert len(mailgate("list", "--json", "--subject", " ").json) == 2
    assert mailgate("list", "--json", "--subject", "\N{SNOWMAN}").code == 1


@pytest.mark.parametrize("fragment", ["", "\N{ZERO WIDTH SPACE}", "\N{COMBINING ACUTE ACCENT}"])
def test_a_fragment_of_which_nothing_is_to_be_seen_is_no_question(stock: Stock, fragment: str) -> None:
    answer = stock.mailgate("discard", "--subject", fragment, "--yes")
    assert answer.code == 2
    assert answer.complaint.startswith("--subject: there is nothing in ")


@pytest.mark.parametrize("url", ["sqlite_url", pytest.param("postgres_url", marks=pytest.mark.real)])
def test_a_list_as_of_a_time_is_what_was_printed_then(
    url: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    store = request.getfixturevalue(url)
    builder = Builder(store)
    configure(tmp_path, store)
    mailgate, seen = Mailgate(tmp_path), {}

    def look() -> None:
        asked = (
            ("list", "--limit", "0", "--json"),
            ("queue", "--json"),
            ("list", "--csv", "--state", "deferred"),
        )
        seen[builder.at] = [(command, mailgate(*command)) for command in asked]
        builder.later(minutes=10)

    stream = builder.downloaded()
    look()
    builder.attempted(stream)
    builder.deferred(stream, builder.at)
    builder.downloaded(subject="Second")
    look()
    builder.attempted(stream, hop="mx:example.com")
    builder.delivered(stream, hop="mx:example.com")
    look()
    builder.removed(stream)
    look()
    builder.close()
    for at, answers in seen.items():
        for command, then in answers:
            now = mailgate(*command, "--at", at.isoformat())
            assert (now.code, now.out) == (then.code, then.out)
    assert len({answer.out for answers in seen.values() for _, answer in answers}) > 6


def test_of_a_time_before_all_there_is_nothing(stock: Stock) -> None:
    answer = stock.mailgate("list", "--at", "2026-01-01T00:00:00Z")
    assert (answer.code, answer.complaint) == (1, "no message fits as of 2026-01-01 00:00:00")


def test_a_message_is_found_by_each_next_hop_of_its_recipients(mailgate: Mailgate, database_url: str) -> None:
    builder = Builder(database_url)
    configure(mailgate.folder, database_url)
    stream = builder.downloaded(recipients=("anna@example.com", "bob@other.example"))
    builder.attempted(stream, (0,), "home")
    builder.delivered(stream, (0,), "home")
    builder.attempted(stream, (1,), "mx:other.example")
    builder.close()
    for hop in ("home", "mx:other.example", "mx"):
        assert [row["id"] for row in mailgate("list", "--json", "--next-hop", hop).json] == [stream]
    assert mailgate("list", "--next-hop", "provider").code == 1
