"""Where a mailbox's mail can go at all, as far as the configuration says."""

from __future__ import annotations

import pytest

from engine.core.policy import HopPolicy
from engine.core.reach import Bound, bound, possible_hops
from engine.core.routing import MailboxRule, RouteRule
from tests.engine.core.lives import policy

HOPS = {"home": HopPolicy(max_size_octets=9_000), "provider": HopPolicy(), "branch": HopPolicy()}
EVERYBODY = MailboxRule(headers=("Delivered-To",), domains=("example.com", "*.branch.example"))
TO_PROVIDER = RouteRule(recipients=("*@customer.example", "bob@other.example"), next_hop="provider")


@pytest.mark.parametrize(
    ("route", "may"),
    [
        (TO_PROVIDER, True),  # a pattern of domains: it can't be told which
        (RouteRule(recipients=("anna@example.com",), next_hop="provider"), True),
        (RouteRule(senders=("*@customer.example",), next_hop="provider"), True),
        (RouteRule(users=("anna",), next_hop="provider"), False),  # nobody logged in for what is fetched
        (RouteRule(next_hop="provider"), True),
    ],
)
def test_a_route_counts_where_it_may_take_what_is_fetched(route: RouteRule, may: bool) -> None:
    found = possible_hops(EVERYBODY, policy(hops=HOPS, routes=(route,)))
    assert found == ({"home", "provider"} if may else {"home"})


@pytest.mark.parametrize(
    ("pattern", "may"),
    [
        ("*@customer.example", False),
        ("anna@customer.example", False),
        ("*.example.com", False),
        ("<>", False),
        ("*", True),
        ("example.com", True),
        ("@EXAMPLE.com", True),
        ("sales*@*.com", True),
    ],
)
def test_a_route_for_other_domains_takes_nothing_of_a_mailbox_for_many(pattern: str, may: bool) -> None:
    rule = MailboxRule(headers=("Delivered-To",), domains=("example.com",))
    routes = (RouteRule(recipients=(pattern,), next_hop="provider"),)
    assert ("provider" in possible_hops(rule, policy(hops=HOPS, routes=routes))) is may


def test_the_limit_of_the_home_server_holds_for_a_mailbox_for_many_beside_a_route_for_others() -> None:
    rule = MailboxRule(headers=("Delivered-To",), domains=("example.com",))
    ours = policy(hops=HOPS, routes=(TO_PROVIDER,))
    assert bound(rule, None, ours) == Bound(9_000, "next_hop.home.max_size")


def test_where_the_fallback_may_go_counts_too() -> None:
    rule = MailboxRule(headers=("Delivered-To",), domains=("example.com",), fallback="bob@other.example")
    assert "provider" in possible_hops(rule, policy(hops=HOPS, routes=(TO_PROVIDER,)))
