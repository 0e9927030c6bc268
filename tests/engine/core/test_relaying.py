"""Who may relay, and to whom."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest

from engine.core import relaying
from engine.core.relaying import Client, Kind, Refused, Rules, address_of

RULES = Rules(
    allow=(ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")),
    inbound=(ip_network("192.0.2.0/24"),),
    domains=("example.com", "example.org"),
    postmaster="postmaster@example.com",
)
HOME, USER = Client(address_of("10.1.2.3")), Client(address_of("203.0.113.9"), "anna")
PROVIDER, STRANGER = Client(address_of("192.0.2.25")), Client(address_of("203.0.113.9"))


def told(mailbox: str, client: Client, rules: Rules = RULES) -> str | Refused:
    return relaying.recipient(mailbox, client, relaying.kind(client, rules), rules)


def refusal(verdict: str | Refused) -> Refused:
    assert isinstance(verdict, Refused)
    return verdict


@pytest.mark.parametrize(
    ("client", "kind"),
    [
        (HOME, "relay"),
        (Client(address_of("2001:db8::1")), "relay"),
        (Client(address_of("::ffff:10.0.0.1")), "relay"),  # an IPv4 client of a socket for both
        (USER, "relay"),
        (PROVIDER, "inbound"),
        (STRANGER, "stranger"),
        (Client(address_of("::1")), "stranger"),
    ],
)
def test_a_client_is_known_by_its_network_or_its_login(client: Client, kind: Kind) -> None:
    assert relaying.kind(client, RULES) == kind


def test_who_may_relay_sends_to_anybody() -> None:
    for client in (HOME, USER):
        assert told("bob@Customer.EXAMPLE", client) == "bob@customer.example"
        assert told("info@example.com", client) == "info@example.com"
        assert told("a%b@customer.example", client) == "a%b@customer.example"


def test_a_provider_that_pushes_sends_to_our_own_domains_only() -> None:
    assert told("info@Example.COM", PROVIDER) == "info@example.com"
    assert refusal(told("bob@customer.example", PROVIDER)).code == 550
    assert refusal(told("info@sub.example.com", PROVIDER)).enhanced == "5.7.1"


@pytest.mark.parametrize(
    "mailbox",
    [
        "bob%customer.example@example.com",
        "customer.example!bob@example.com",
        '"bob@customer.example"@example.com',
        '"customer.example!bob"@example.com',
    ],
)
def test_a_way_to_somewhere_else_in_the_local_part_is_refused(mailbox: str) -> None:
    found = refusal(told(mailbox, PROVIDER))
    assert (found.code, found.enhanced) == (550, "5.7.1")
    assert "somewhere else" in found.text


def test_a_stranger_sends_nothing_and_hears_why() -> None:
    for mailbox in ("bob@customer.example", "info@example.com", "postmaster"):
        assert "not in a listed network" in refusal(told(mailbox, STRANGER)).text
    assert "did not log in" in refusal(told("a@b.example", STRANGER, replace(RULES, has_users=True))).text


def test_postmaster_needs_no_domain_and_others_do() -> None:
    assert told("PostMaster", PROVIDER) == told("postmaster", HOME) == "postmaster@example.com"
    for mailbox in (
        "info",
        "",
        "info@",
        "@example.com",
        "a b@example.com",
        "a@b@example.com",
        "x" * 255 + "@a",
    ):
        assert refusal(told(mailbox, HOME)).enhanced == "5.1.3"


def test_senders_may_be_bound_to_addresses() -> None:
    rules = replace(
        RULES,
        senders={
            "anna": ("anna@example.com",),
            ip_network("10.0.0.0/8"): ("*@example.com",),
            ip_network("10.1.0.0/16"): ("*@example.org",),
        },
    )
    assert relaying.sender("Anna@Example.com", USER, rules) == "Anna@example.com"
    assert (
        "anna may not send as <bob@example.com>"
        in refusal(relaying.sender("bob@example.com", USER, rules)).text
    )
    assert (
        relaying.sender("info@example.org", HOME, rules) == "info@example.org"
    )  # the smaller network counts
    assert refusal(relaying.sender("info@example.com", HOME, rules)).enhanced == "5.7.1"
    other = Client(address_of("10.200.0.1"))
    assert relaying.sender("info@example.com", other, rules) == "info@example.com"
    bob = Client(HOME.address, "bob")  # who logs in is judged by name
    assert relaying.sender("any@where.example", bob, rules) == "any@where.example"


def test_the_null_reverse_path_is_everybody_s_and_rubbish_nobody_s() -> None:
    rules = replace(RULES, senders={"anna": ("anna@example.com",)})
    assert relaying.sender("", USER, rules) == ""
    found = refusal(relaying.sender("no address", HOME, rules))
    assert found.reply.startswith("553 5.1.7 <no address>")
