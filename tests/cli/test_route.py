"""`route` decides as the gateway would, says by which rule, and needs neither store nor server."""

from pathlib import Path

import pytest

from tests.cli.command import Mailgate
from tests.engine.settings.configurations import GATEWAY, HOME, MAILBOX, RECIPIENTS

CATCH_ALL = MAILBOX.replace('"info"', '"all"', 1) + (
    'multidrop = { headers = ["Delivered-To"], domains = ["example.com"] }\n'
)
OTHER = MAILBOX.replace('"info"', '"old"', 1) + (
    'multidrop = { headers = ["X-Envelope-To"], domains = ["example.com"] }\nfallback = "postmaster@example.com"\n'
)
MESSAGE = (
    b"Delivered-To: anna@example.com\r\nDelivered-To: ben@other.example\r\nReceived: from a by b\r\n"
    b"Return-Path: <dan@customer.example>\r\nSubject: x\r\n\r\nDelivered-To: body@example.com\r\n"
)


@pytest.fixture
def configured(mailgate: Mailgate) -> Mailgate:
    text = GATEWAY + CATCH_ALL + OTHER + MAILBOX + RECIPIENTS + HOME
    (mailgate.folder / "mailgate.toml").write_text(text)
    (mailgate.folder / "message").write_bytes(MESSAGE)
    return mailgate


def test_each_catch_all_says_whom_it_would_name(configured: Mailgate) -> None:
    answer = configured("route", "message", "--json")
    assert answer.code == 0
    assert answer.json == [
        {
            "mailbox": "all",
            "reverse_path": "dan@customer.example",
            "held": None,
            "recipients": [
                {
                    "address": "anna@example.com",
                    "routed_by": "header Delivered-To, instance 1",
                    "next_hop": "home",
                    "by": "own domain example.com",
                }
            ],
        },
        {
            "mailbox": "old",
            "reverse_path": "dan@customer.example",
            "held": None,
            "recipients": [
                {
                    "address": "postmaster@example.com",
                    "routed_by": "fallback: no header named an own address (X-Envelope-To absent)",
                    "next_hop": "home",
                    "by": "own domain example.com",
                }
            ],
        },
    ]


def test_a_mailbox_can_be_named(configured: Mailgate) -> None:
    answer = configured("route", "message", "--mailbox", "info")
    assert answer.lines == [
        "Mailbox info, reverse-path dan@customer.example",
        "RECIPIENT         NAMED BY            NEXT HOP  BY",
        "info@example.com  mailbox recipients  home      own domain example.com",
    ]


def test_by_which_rule_is_told_in_full_on_a_narrow_page(configured: Mailgate) -> None:
    file = configured.folder / "mailgate.toml"
    route = '[[route]]\nrecipients = ["postmaster@example.com", "anna@example.com"]\nnext_hop = "home"\n'
    file.write_text(file.read_text() + route)
    answer = configured("route", "message", COLUMNS="60")
    said = " ".join(answer.out.split())
    for named in (
        "anna@example.com: named by header Delivered-To, instance 1",
        "postmaster@example.com: named by fallback: no header named an own address (X-Envelope-To absent)",
        "postmaster@example.com: goes there by route 1: recipients postmaster@example.com",
    ):
        assert named in said
    assert ": named by " not in configured("route", "message").out


def test_without_a_catch_all_every_mailbox_answers(mailgate: Mailgate) -> None:
    second = MAILBOX.replace('"info"', '"sales"', 1) + RECIPIENTS
    (mailgate.folder / "mailgate.toml").write_text(GATEWAY + MAILBOX + RECIPIENTS + second + HOME)
    answer = mailgate("route", "-", "--json", stdin=MESSAGE)
    assert [verdict["mailbox"] for verdict in answer.json] == ["info", "sales"]


def test_what_would_be_held_is_exit_1_with_the_reason(configured: Mailgate) -> None:
    answer = configured("route", "-", "--mailbox", "all", stdin=b"Subject: x\r\n\r\n")
    assert answer.code == 1
    assert answer.lines == [
        "Mailbox all, reverse-path <>",
        "held: no header named an own address (Delivered-To absent)",
    ]


def test_a_recipient_without_a_next_hop_is_held(configured: Mailgate) -> None:
    file = configured.folder / "mailgate.toml"
    route = '[[route]]\nrecipients = ["*@elsewhere.example"]\nnext_hop = "home"\n'
    elsewhere = GATEWAY.replace("example.com", "third.example")
    file.write_text(file.read_text().replace(GATEWAY, elsewhere) + route)
    answer = configured("route", "message", "--mailbox", "all", "--json")
    assert answer.code == 1
    (verdict,) = answer.json
    reason = "none of 1 routes fits the recipient domain example.com"
    assert verdict["held"] == f"anna@example.com has no next hop: {reason}"
    assert verdict["recipients"][0]["next_hop"] is None


def test_where_no_route_fits_our_own_domains_go_home(configured: Mailgate) -> None:
    file = configured.folder / "mailgate.toml"
    route = '[[route]]\nrecipients = ["*@elsewhere.example"]\nnext_hop = "home"\n'
    file.write_text(file.read_text() + route)
    answer = configured("route", "message", "--mailbox", "all", "--json")
    assert answer.code == 0
    assert answer.json[0]["recipients"][0]["next_hop"] == "home"


def test_direct_delivery_names_the_domain(mailgate: Mailgate) -> None:
    route = '[[route]]\nrecipients = ["*"]\nnext_hop = "mx"\n'
    addresses = 'recipients = ["info@example.com", "anna@Customer.example"]\n'
    (mailgate.folder / "mailgate.toml").write_text(GATEWAY + MAILBOX + addresses + HOME + route)
    answer = mailgate("route", "-", "--json", stdin=MESSAGE)
    assert answer.code == 0
    assert [(one["next_hop"], one["by"]) for one in answer.json[0]["recipients"]] == [
        ("home", "own domain example.com"),
        ("mx:customer.example", "route 1: recipients *"),
    ]


def test_a_loop_is_held(configured: Mailgate) -> None:
    trace = b"Received: (mailbox all) by gate.example.com (mailgate) with POP3 id 06eajh8a00000001; now\r\n"
    answer = configured("route", "-", "--mailbox", "all", "--json", stdin=trace * 2 + MESSAGE)
    assert answer.code == 1
    assert answer.json[0]["held"].startswith("a loop: passed through gate.example.com 2 times before")


def test_a_mailbox_that_is_not_there_is_exit_2_and_names_those_that_are(configured: Mailgate) -> None:
    answer = configured("route", "message", "--mailbox", "inf")
    assert answer.code == 2
    assert answer.complaint == (
        "--mailbox: there is no mailbox 'inf': did you mean 'info'? (one of all, old, info)"
    )


def test_a_file_that_cannot_be_read_is_exit_2(configured: Mailgate, tmp_path: Path) -> None:
    assert configured("route", "nope").complaint == "nope can't be read: No such file or directory"
    assert configured("route", str(tmp_path)).code == 2


def test_neither_store_nor_server_is_needed(configured: Mailgate) -> None:
    assert configured("route", "message").code == 0
    assert sorted(file.name for file in configured.folder.iterdir()) == ["mailgate.toml", "message"]
