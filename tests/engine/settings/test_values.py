"""Durations, sizes, addresses and the like are read as written, or refused with how to write them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.settings.addresses import http_url, network, socket_address, tcp_address
from engine.settings.values import (
    Address,
    AddressPattern,
    Domain,
    Duration,
    FieldName,
    Fingerprint,
    Host,
    Name,
    Pattern,
    Size,
)


@given(st.integers(0, 3650), st.sampled_from("smhd"))
def test_a_duration_is_its_number_times_its_unit(number: int, unit: str) -> None:
    assert Duration.parse(f"{number}{unit}") == number * {"s": 1, "m": 60, "h": 3600, "d": 86400}[unit]


@pytest.mark.parametrize(
    "written", ["", "5", "m", "-5m", "5 m", "5M", "1h30m", "1.5h", "٣s", "5m\n", True, None]
)
def test_what_is_no_duration_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match="expected a duration such as"):
        Duration.parse(written)


@pytest.mark.parametrize(
    ("written", "octets"),
    [
        ("10MB", 10**7),
        ("10 MB", 10**7),
        ("10MiB", 10 << 20),
        ("1gib", 1 << 30),
        ("7b", 7),
        ("3KB", 3000),
        (5, 5),
    ],
)
def test_a_size_is_its_number_times_its_unit(written: object, octets: int) -> None:
    assert Size.parse(written) == octets


@pytest.mark.parametrize("written", ["", "10", "MB", "10M", "1.5MB", "-1MB", "10  MB", True, 1.0, "٣MB"])
def test_what_is_no_size_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match="expected a size such as"):
        Size.parse(written)


def said_of(parse: Callable[[Any], object], written: object) -> str:
    """What a refusal says; nothing if it is read."""
    try:
        parse(written)
    except ValueError as trouble:
        return str(trouble)
    return ""


@pytest.mark.parametrize(
    "kind", [Duration, Size, Name, Domain, Address, Pattern, AddressPattern, FieldName, Fingerprint, Host]
)
@given(written=st.one_of(st.text(), st.integers(), st.floats(), st.booleans(), st.lists(st.text())))
def test_a_word_is_read_or_refused_in_one_short_line(kind: type[Address], written: object) -> None:
    said = said_of(kind.parse, written)
    assert "\n" not in said
    assert len(said) < 250


@pytest.mark.parametrize(
    "parse", [tcp_address, network, http_url, lambda text: socket_address(text, Path("/etc"))]
)
@given(text=st.one_of(st.text(max_size=60), st.text(alphabet="0123456789.:/[]@#?abunixhtps", max_size=20)))
def test_a_place_is_read_or_refused_in_one_line(parse: Callable[[str], object], text: str) -> None:
    assert "\n" not in said_of(parse, text)


@pytest.mark.parametrize("text", ["::1:25", "[127.0.0.1]:25", ":25", "a:65536", "a:", "a", "a b:1", "*:25"])
def test_an_address_to_listen_at_is_clear(text: str) -> None:
    with pytest.raises(ValueError, match="is not a"):
        tcp_address(text)


@pytest.mark.parametrize(
    "text", ["info@example.com", "o'hara+x@a-b.example", "a@host", "jörg@example.com", "a@[192.0.2.1]"]
)
def test_an_address_is_kept_but_for_the_case_of_its_domain(text: str) -> None:
    assert Address.parse(text) == text
    assert Address.parse("Info@EXAMPLE.com") == "Info@example.com"


@pytest.mark.parametrize(
    "text", ["", "a", "@b", "a@", "a b@c", "<a@b>", "A <a@b>", "a@b\r\nDATA", "a@b,c@d", "a@b "]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not an address"):
        Address.parse(text)


@pytest.mark.parametrize(
    "text", ["", ".", "a..b", "-a", "a b", "pop3://a", "a:995", "[::1]", "a/b", "ü.example"]
)
def test_what_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not"):
        Host.parse(text)


@pytest.mark.parametrize("text", ["pop.example.com", "192.0.2.1", "::1", "exch_01", "localhost"])
def test_a_host_is_a_name_or_an_ip_address(text: str) -> None:
    assert Host.parse(text) == text


def test_a_long_wrong_value_is_cut() -> None:
    with pytest.raises(ValueError, match="…") as caught:
        Domain.parse("x" * 10_000)
    assert len(str(caught.value)) < 150
