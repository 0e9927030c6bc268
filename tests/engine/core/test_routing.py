"""Who gets it and why; which next hop and why."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core import direct, envelope
from engine.core.routing import (
    RECIPIENTS_LIMIT,
    MailboxRule,
    Recipients,
    Routed,
    RouteRule,
    next_hop,
    recipients,
)

CATCH_ALL = MailboxRule(headers=("X-Envelope-To", "Delivered-To"), domains=("example.com",))
WITH_FALLBACK = MailboxRule(headers=("X-Envelope-To",), domains=("example.com",), fallback="post@example.com")
RECEIVED = b"Received: from a.example by mx.provider.example; date\r\n"


def one(address: str, by: str) -> Recipients:
    return Recipients(addresses=(address,), routed_by=(by,))


def test_a_mailbox_with_recipients_reads_no_header() -> None:
    rule = MailboxRule(
        recipients=("a@example.com", "B@example.com", "A@example.com"), headers=("X-Envelope-To",)
    )
    found = recipients(b"X-Envelope-To: c@example.com\r\n\r\n", rule)
    assert found.addresses == ("a@example.com", "B@example.com")
    assert found.routed_by == ("mailbox recipients", "mailbox recipients")
    assert found.held is None


def test_the_header_names_the_recipient() -> None:
    octets = RECEIVED + b"x-envelope-to: <Jane@Example.com>\r\nTo: other@example.com\r\n\r\n"
    assert recipients(octets, CATCH_ALL) == one("Jane@example.com", "header X-Envelope-To, instance 1")


def test_the_first_header_name_that_names_an_own_address_decides_alone() -> None:
    octets = b"Delivered-To: b@example.com\r\nX-Envelope-To: a@example.com\r\n" + RECEIVED
    assert recipients(octets, CATCH_ALL).addresses == ("a@example.com",)
    octets = b"Delivered-To: b@example.com\r\nX-Envelope-To: a@elsewhere.example\r\n" + RECEIVED
    assert recipients(octets, CATCH_ALL) == one("b@example.com", "header Delivered-To, instance 1")


def test_a_forged_instance_further_down_is_never_merged() -> None:
    octets = b"Delivered-To: a@example.com\r\n" + RECEIVED + b"Delivered-To: boss@example.com\r\n\r\n"
    assert recipients(octets, CATCH_ALL).addresses == ("a@example.com",)


def test_a_forged_instance_is_not_taken_where_the_true_one_names_strangers() -> None:
    octets = b"Delivered-To: a@elsewhere.example\r\n" + RECEIVED + b"Delivered-To: boss@example.com\r\n\r\n"
    found = recipients(octets, CATCH_ALL)
    assert found.addresses == ()
    assert found.held is not None
    assert "elsewhere.example" in found.held


def test_below_the_topmost_received_field_only_one_instance_counts() -> None:
    octets = RECEIVED + b"Delivered-To: a@example.com\r\nDelivered-To: boss@example.com\r\n\r\n"
    assert recipients(octets, CATCH_ALL).addresses == ("a@example.com",)


def test_without_any_received_field_only_one_instance_counts() -> None:
    octets = b"Delivered-To: a@example.com\r\nDelivered-To: boss@example.com\r\n\r\n"
    assert recipients(octets, CATCH_ALL).addresses == ("a@example.com",)


def test_one_copy_for_several_recipients_has_one_field_for_each_above_received() -> None:
    octets = (
        b"Return-Path: <x@y>\r\nX-Original-To: a@example.com\r\nDelivered-To: a@example.com\r\n"
        b"X-Original-To: b@example.com\r\nDelivered-To: b@example.com\r\nDelivered-To: A@example.com\r\n"
        + RECEIVED
        + b"Delivered-To: boss@example.com\r\n\r\n"
    )
    found = recipients(octets, CATCH_ALL)
    assert found.addresses == ("a@example.com", "b@example.com")
    assert found.routed_by == ("header Delivered-To, instance 1", "header Delivered-To, instance 2")


@pytest.mark.parametrize(
    ("occurrence", "address"),
    [(1, "a@example.com"), (2, "b@example.com"), (3, "c@example.com"), (-1, "c@example.com")],
)
def test_the_occurrence_picks_one_instance_exactly(occurrence: int, address: str) -> None:
    octets = (
        b"Delivered-To: a@example.com\r\nDelivered-To: b@example.com\r\n"
        + RECEIVED
        + b"Delivered-To: c@example.com\r\n\r\n"
    )
    rule = MailboxRule(headers=("Delivered-To",), domains=("example.com",), occurrence=occurrence)
    assert recipients(octets, rule).addresses == (address,)


@pytest.mark.parametrize("occurrence", [2, -2, 99])
def test_an_instance_that_is_not_there_names_nobody(occurrence: int) -> None:
    rule = MailboxRule(headers=("Delivered-To",), domains=("example.com",), occurrence=occurrence)
    found = recipients(b"Delivered-To: a@example.com\r\n\r\n", rule)
    assert found.addresses == ()
    assert f"Delivered-To has 1 instances, not instance {occurrence}" in (found.held or "")


def test_occurrence_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="count instances from 1"):
        MailboxRule(occurrence=0)


@pytest.mark.parametrize(
    "value",
    [
        b"a@example.com, B <b@example.com>",
        b"<a@example.com>,\r\n <b@example.com>, <c@elsewhere.example>",
        b'"odd, quoting <a@example.com>, b@example.com',
        b'"Doe, Jane" <a@example.com>; b@example.com (x, y@example.com)',
        b"a@example.com, b@example.com, A@EXAMPLE.COM",
    ],
)
def test_one_instance_may_list_several_recipients(value: bytes) -> None:
    assert recipients(b"Delivered-To: " + value + b"\r\n\r\n", CATCH_ALL).addresses == (
        "a@example.com",
        "b@example.com",
    )


@pytest.mark.parametrize(
    ("written", "address"),
    [
        (b"mbox-example-com-jane@example.com", "jane@example.com"),
        (b"MBOX-Example-com-jane@example.com", "jane@example.com"),
        (b"jane@example.com", "jane@example.com"),
        (b"mbox-example-com-@example.com", "mbox-example-com-@example.com"),
    ],
)
def test_the_prefix_of_a_virtual_domain_is_stripped(written: bytes, address: str) -> None:
    rule = MailboxRule(headers=("Delivered-To",), domains=("example.com",), strip_prefix="mbox-example-com-")
    assert recipients(b"Delivered-To: " + written + b"\r\n\r\n", rule).addresses == (address,)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (b"", "no header named an own address (X-Envelope-To absent; Delivered-To absent)"),
        (
            b"X-Envelope-To: nobody\r\nDelivered-To: a@z.example, b@y.example, c@y.example\r\n",
            "no header named an own address"
            " (X-Envelope-To without an address;"
            " Delivered-To names only foreign domains: y.example, z.example)",
        ),
    ],
)
def test_nobody_named_is_held_with_the_reason(header: bytes, reason: str) -> None:
    assert recipients(header + b"To: a@example.com\r\n\r\n", CATCH_ALL) == Recipients(held=reason)


def test_nobody_named_goes_to_the_fallback() -> None:
    reason = "fallback: no header named an own address (X-Envelope-To absent)"
    assert recipients(b"To: a@example.com\r\n\r\n", WITH_FALLBACK) == one("post@example.com", reason)


def test_a_rule_without_recipients_and_headers_holds() -> None:
    assert recipients(b"", MailboxRule()).held == "the mailbox has neither recipients nor multi-drop headers"


def test_without_own_domains_nobody_is_ours() -> None:
    assert recipients(b"Delivered-To: a@b\r\n\r\n", MailboxRule(headers=("Delivered-To",))).addresses == ()


def test_a_header_that_names_a_crowd_is_held_whole() -> None:
    crowd = b",\r\n ".join(b"u%d@example.com" % number for number in range(RECIPIENTS_LIMIT + 1))
    found = recipients(b"Delivered-To: " + crowd + b"\r\n\r\n", CATCH_ALL)
    assert found == Recipients(held=f"header Delivered-To names more than {RECIPIENTS_LIMIT} addresses")


HEADER_PIECES = st.lists(
    st.one_of(
        st.sampled_from(
            [b"Delivered-To: a@example.com", b"X-Envelope-To: b@other.example, c@example.com", b"\r\n"]
        ),
        st.sampled_from(
            [
                b"Received: x",
                b"\n",
                b" ",
                b"delivered-to:",
                b'"',
                b"(",
                b"<",
                b"\r\n\r\n",
                b"\xff@example.com",
            ]
        ),
        st.binary(max_size=20),
    ),
    max_size=20,
).map(b"".join)


@given(HEADER_PIECES, st.sampled_from([None, 1, 2, -1]), st.sampled_from([None, "post@example.com"]))
def test_whatever_comes_has_own_recipients_or_is_held(
    octets: bytes, occurrence: int | None, fallback: str | None
) -> None:
    rule = MailboxRule(
        headers=("X-Envelope-To", "Delivered-To"),
        domains=("example.com",),
        occurrence=occurrence,
        fallback=fallback,
    )
    found = recipients(octets, rule)
    assert len(found.addresses) == len(found.routed_by)
    assert (found.held is None) == bool(found.addresses)
    assert bool(found.addresses) or fallback is None
    assert all(envelope.matches("example.com", address) for address in found.addresses)
    assert len({envelope.key(address) for address in found.addresses}) == len(found.addresses)


@given(HEADER_PIECES)
def test_what_the_sender_writes_changes_nothing_once_the_last_hop_named_one(forged: bytes) -> None:
    octets = b"Delivered-To: a@example.com\r\n" + RECEIVED + forged
    rule = MailboxRule(headers=("Delivered-To",), domains=("example.com",))
    assert recipients(octets, rule) == one("a@example.com", "header Delivered-To, instance 1")


INBOUND = RouteRule(recipients=("*@example.com", "other.example"), next_hop="home")
MX = RouteRule(recipients=("*",), next_hop="mx")
BY_SENDER = RouteRule(senders=("*@provider.example", "<>"), next_hop="provider")
BY_USER = RouteRule(users=("ali*",), recipients=("*@partner.example",), next_hop="partner")
REST = RouteRule(next_hop="smart")


@pytest.mark.parametrize(
    ("sender", "recipient", "user", "routed"),
    [
        ("x@y", "a@example.com", None, Routed(next_hop="home", by="route 1: recipients *@example.com")),
        ("x@y", "a@other.example", None, Routed(next_hop="home", by="route 1: recipients other.example")),
        (
            "a@provider.example",
            "b@c",
            None,
            Routed(next_hop="provider", by="route 2: senders *@provider.example"),
        ),
        ("", "b@c", None, Routed(next_hop="provider", by="route 2: senders <>")),
        (
            "x@y",
            "b@partner.example",
            "Alice",
            Routed(next_hop="partner", by="route 3: recipients *@partner.example, users ali*"),
        ),
        ("x@y", "b@partner.example", "bob", Routed(next_hop="smart", by="route 4: takes all")),
        ("x@y", "b@partner.example", None, Routed(next_hop="smart", by="route 4: takes all")),
        ("x@y", "b@elsewhere.example", "alice", Routed(next_hop="smart", by="route 4: takes all")),
    ],
)
def test_the_first_route_that_fits_wins(
    sender: str, recipient: str, user: str | None, routed: Routed
) -> None:
    assert next_hop(sender, recipient, user, (INBOUND, BY_SENDER, BY_USER, REST), ("example.com",)) == routed


def test_without_routes_own_domains_go_home() -> None:
    routed = next_hop("x@y", "a@Example.COM", None, (), ("other.example", "example.com"))
    assert routed == Routed(next_hop="home", by="own domain example.com")


def test_without_routes_a_stranger_has_no_next_hop() -> None:
    routed = next_hop("x@y", "a@b.example", None, (), ("example.com",))
    assert routed == Routed(next_hop=None, by="b.example is not an own domain and there are no routes")


def test_where_no_route_fits_own_domains_go_home() -> None:
    routed = next_hop("x@y", "a@b.example", None, (INBOUND, BY_SENDER), ("b.example",))
    assert routed == Routed(next_hop="home", by="own domain b.example")


def test_where_no_route_fits_a_stranger_has_no_next_hop() -> None:
    routed = next_hop("x@y", "a@b.example", None, (INBOUND, BY_SENDER), ("example.com",))
    assert routed == Routed(next_hop=None, by="none of 2 routes fits the recipient domain b.example")


@pytest.mark.parametrize(
    ("recipient", "name"),
    [
        ("a@Customer.EXAMPLE", "mx:customer.example"),
        ("a@stra\u00dfe.example", "mx:xn--strae-oqa.example"),
        ("a@M\u00fcller.example", "mx:xn--mller-kva.example"),
        ("a@xn--mller-kva.example", "mx:xn--mller-kva.example"),
        ("a@[192.0.2.1]", "mx:[192.0.2.1]"),
    ],
)
def test_direct_delivery_has_a_next_hop_for_each_domain(recipient: str, name: str) -> None:
    routed = next_hop("x@y", recipient, None, (INBOUND, MX), ("example.com",))
    assert routed == Routed(next_hop=name, by="route 2: recipients *")


def test_mail_for_our_own_domains_is_never_delivered_directly() -> None:
    assert next_hop("x@y", "a@example.com", None, (MX,), ("example.com",)) == Routed(
        next_hop="home", by="own domain example.com"
    )
    later = RouteRule(senders=("x@y",), next_hop="branch")
    assert next_hop("x@y", "a@example.com", None, (MX, later), ("example.com",)).next_hop == "branch"


@given(st.text())
def test_any_domain_has_a_name_and_a_fault_or_is_one_for_dns(text: str) -> None:
    domain = direct.domain_of(direct.hop_of(f"a@{text}"))
    assert direct.is_direct(direct.hop_of(f"a@{text}"))
    if direct.fault_of(domain) is None:
        assert domain.isascii()
        assert domain == domain.lower()
        assert len(domain) <= 253


@pytest.mark.parametrize(
    "domain", ["", "a..b", "-a.example", "a" * 64 + ".example", "a." * 127 + "ab", "a b.example"]
)
def test_what_dns_can_not_name_is_a_fault(domain: str) -> None:
    assert direct.fault_of(domain) == "that is no domain name"


def test_an_address_literal_is_a_fault() -> None:
    assert direct.fault_of("[IPv6:::1]") == "address literals are not delivered to: name a domain"


@given(st.text(), st.text(), st.one_of(st.none(), st.text()), st.lists(st.text(), max_size=3))
def test_any_text_is_routed_or_not(
    sender: str, recipient: str, user: str | None, patterns: list[str]
) -> None:
    some = tuple(patterns)
    routes = (RouteRule(recipients=some, senders=some, users=some, next_hop="x"),)
    routed = next_hop(sender, recipient, user, routes, some)
    assert routed.by
    assert routed.next_hop in ("x", "home", None)
    assert some or routed.next_hop == "x"


def test_every_message_of_the_corpus_has_recipients_or_is_held() -> None:
    folder = os.environ.get("MAILGATE_CORPUS")
    if not folder:
        pytest.skip("MAILGATE_CORPUS names no folder of .eml files")
    files = sorted(Path(folder).rglob("*.eml"))
    assert files, f"no .eml files in {folder}"
    rule = MailboxRule(
        headers=("X-Envelope-To", "Envelope-To", "X-Original-To", "Delivered-To"), domains=("*",)
    )
    named = 0
    for file in files:
        found = recipients(file.read_bytes(), rule)
        assert (found.held is None) == bool(found.addresses), file
        assert all(envelope.valid(address) for address in found.addresses), file
        named += bool(found.addresses)
    assert named > 0
