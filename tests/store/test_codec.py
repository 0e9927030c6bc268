"""Events are stored as these octets for ever, and whatever is read back is what was written or an error."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import NODEFAULT
from msgspec.structs import fields, replace

from store import codec
from store.codec import decode, encode
from store.errors import Damaged, UnknownEvent
from store.events import (
    Attempted,
    ContentsPurged,
    Deferred,
    Delivered,
    Discarded,
    Downloaded,
    Erased,
    Event,
    Failed,
    Generated,
    Held,
    Imported,
    Kept,
    KeptNoLonger,
    MailboxEvent,
    MessageEvent,
    Quarantined,
    RedeliveryRequested,
    RejectedOversize,
    Relayed,
    Released,
    RemovedFromSource,
    Reported,
    Scanned,
    Submitted,
    personal_facts,
)
from store.mailbox_events import (
    Adopted,
    Adoption,
    MarkedAsDeleted,
    PollFailed,
    PollFinished,
    PollRecovered,
    UidlResetSuspected,
    Undeleted,
    Withheld,
)

GOLDEN = Path(__file__).parent / "golden" / "events-1.json"
AT = datetime(2026, 5, 4, 3, 2, 1, 987654, tzinfo=UTC)

HEADER: dict[str, Any] = {
    "reverse_path": "jürgen@straße.example",
    "recipients": ("info@example.com", "sales@example.com"),
    "message_id": "<1@customer.example>",
    "subject": 'Größe "XL" \\ \0 \U0001f4e8',
    "from_": "Jürgen <jürgen@straße.example>",
    "date": "Mon, 4 May 2026 05:02:01 +0200",
}
TAKEN: dict[str, Any] = {
    "numbers": (0, 2),
    "next_hop": "home",
    "attempt": 3,
    "address": "192.0.2.25:25",
    "tls": "TLSv1.3 verified",
    "code": 250,
    "duration_ms": 212,
    "recipients": ("info@example.com", "x@example.com"),
    "reply": "2.0.0 Ok\nqueued",
}

# One of each with every fact filled in, then those whose facts may be missing, with none.
EVENTS: tuple[Event, ...] = (
    Downloaded(
        mailbox="info",
        uidl="a b\xff\0",
        size_octets=1234,
        listed_octets=1230,
        content="ab" * 32,
        bare_newlines=True,
        recipient_count=2,
        policy="5e1f",
        routed_by=("header To, instance 1", "mailbox recipients"),
        client_ip="192.0.2.7",
        **HEADER,
    ),
    RejectedOversize(
        mailbox="info",
        uidl="u1",
        size_octets=50_000_000_000,
        limit_octets=10_000_000,
        limit_from="next-hop",
        next_hop="home",
        recipient_count=2,
        policy="5e1f",
        routed_by=("mailbox recipients",),
        reply="5.3.4 too large",
        **HEADER,
    ),
    Generated(kind="delay", about="m1", size_octets=9, content="cd" * 32, recipient_count=2, **HEADER),
    Held(why="loop", rule="seen twice", until=AT, numbers=(1,), policy="5e1f"),
    Attempted(
        numbers=(0,),
        next_hop="home",
        attempt=1,
        rule="route 1: takes all",
        policy="5e1f",
        recipients=("info@example.com",),
    ),
    Delivered(**TAKEN),
    Relayed(**TAKEN),
    Deferred(
        numbers=(0,),
        next_hop="home",
        attempt=1,
        retry_at=AT,
        scope="next-hop",
        code=421,
        unknown=True,
        tried=False,
        policy="5e1f",
        recipients=("info@example.com",),
        reply="4.3.2 closing",
    ),
    Failed(
        numbers=(0,),
        reason="expired",
        next_hop="home",
        attempt=9,
        code=451,
        policy="5e1f",
        recipients=("info@example.com",),
        reply="4.3.0 later",
    ),
    Reported(kind="failure", report="m2"),
    RemovedFromSource(mailbox="info", uidl="u\x80", confirmed_by="quit"),
    PollFailed(mailbox="info", kind="in-use", permanent=False, text="-ERR in use"),
    PollRecovered(mailbox="info"),
    PollFinished(
        mailbox="info", listed=9, downloaded=3, oversize=1, refused=2, downloaded_octets=777, duration_ms=55
    ),
    PollFinished(
        mailbox="info",
        listed=2,
        downloaded=0,
        oversize=0,
        refused=1,
        downloaded_octets=0,
        duration_ms=5,
        broken=True,
        withheld=(Withheld(uidl="u\0", size_octets=5, breaks=True, text="-ERR no", since=AT),),
    ),
    Adopted(
        mailbox="info",
        uidls=(Adoption(uidl="u1", size_octets=5), Adoption(uidl="", size_octets=6, message="m1")),
        operator="anna",
        reason="moved",
    ),
    UidlResetSuspected(mailbox="info", listed=9, vanished=8, alike=7),
    RejectedOversize(size_octets=5, limit_octets=4, limit_from="listener", policy="5e1f"),
    Held(why="unroutable", rule="", policy="5e1f"),
    Deferred(
        numbers=(),
        next_hop="",
        attempt=0,
        retry_at=AT.replace(microsecond=0),
        scope="message",
        code=None,
        policy="",
    ),
    Failed(numbers=(0,), reason="operator", next_hop=None, attempt=0, code=None, policy="5e1f"),
    Submitted(
        direction="outbound",
        protocol="ESMTPSA",
        tls="TLSv1.3 TLS_AES_256_GCM_SHA384",
        size_octets=1234,
        content="ab" * 32,
        bare_newlines=True,
        recipient_count=2,
        notify=("SUCCESS,DELAY", "NEVER"),
        ret="HDRS",
        smtputf8=True,
        automatic=True,
        next_hop="provider",
        policy="5e1f",
        peer="192.0.2.9",
        helo="exchange.example.com",
        user="alice",
        orcpt=("rfc822;info@example.com", ""),
        envid="QQ314159",
        **HEADER,
    ),
    Submitted(
        direction="inbound",
        protocol="SMTP",
        tls="none",
        size_octets=0,
        content="cd" * 32,
        bare_newlines=False,
        recipient_count=1,
        policy="5e1f",
    ),
    Held(why="operator", rule="by hand", numbers=(0,), operator="anna", policy="5e1f", reason="für Jürgen"),
    Released(
        numbers=(0,),
        operator="anna",
        policy="5e1f",
        recipients=("info@example.com",),
        routed_by=("mailbox recipients",),
        reason="Jürgen says so",
    ),
    Failed(
        numbers=(0,),
        reason="operator",
        next_hop=None,
        attempt=1,
        code=None,
        operator="anna",
        policy="5e1f",
        recipients=("info@example.com",),
        comment="Jürgen left",
    ),
    Discarded(
        numbers=(1,),
        operator="anna",
        rule="spam",
        policy="5e1f",
        recipients=("x@example.com",),
        reason="Jürgen's",
    ),
    Released(operator="anna", policy="5e1f"),
    Discarded(policy="5e1f"),
    Scanned(
        scanner="spamd",
        verdict="spam",
        score=15.25,
        threshold=5.0,
        symbols=("BAYES_99", "URIBL_BLACK"),
        engine="SpamAssassin 4.0.0",
        duration_ms=120,
        policy="5e1f",
    ),
    Scanned(
        scanner="clamd",
        verdict="error",
        signature=None,
        duration_ms=30_000,
        retry_at=datetime(2026, 5, 4, 5, 2, 1, tzinfo=UTC),
        blame="message",
        late=True,
        policy="5e1f",
        detail="no answer to Jürgen.zip",
    ),
    Quarantined(
        reason="refused-as-spam",
        rule="home: 550 5.7.1 *spam*",
        scanner="clamd",
        numbers=(1,),
        next_hop="home",
        operator="anna",
        policy="5e1f",
        recipients=("info@example.com",),
        reply="550 5.7.1 rejected as spam",
    ),
    RedeliveryRequested(
        numbers=(0,),
        added=1,
        next_hop="home",
        force=True,
        replay="r1",
        operator="anna",
        rule="clamd: redirect",
        policy="5e1f",
        recipients=("info@example.com", "jürgen@straße.example"),
        reason="Jürgen lost it",
    ),
    Reported(kind="digest", report="m2", numbers=(0, 2)),
    ContentsPurged(reason="retention.contents: 30d", policy="5e1f"),
    Erased(revisions=(0, 2, 3), octets=True, operator="anna", reason="a request of 4 May"),
    Kept(operator="anna", policy="5e1f", reason="Jürgen ./. us"),
    KeptNoLonger(operator="bob", policy="5e1f", reason="settled"),
    Generated(
        kind="mailbox-failing", about="", concerns="info", size_octets=9, content="cd" * 32, recipient_count=1
    ),
    Imported(
        direction="outbound",
        size_octets=1234,
        content="ef" * 32,
        bare_newlines=True,
        recipient_count=2,
        automatic=True,
        status_report=True,
        next_hop="provider",
        operator="anna",
        policy="5e1f",
        file="Jürgen.mbox, message 2",
        reason="Jürgen lost it",
        **HEADER,
    ),
    MarkedAsDeleted(mailbox="info", marked=("m1", "m2")),
    MarkedAsDeleted(
        mailbox="info",
        marked=(),
        refused=(Undeleted(message="m1", uidl="u\0", size_octets=5, text="-ERR no", since=AT),),
        more_refused=7,
    ),
    PollFinished(
        mailbox="info",
        listed=2,
        downloaded=0,
        oversize=0,
        refused=0,
        downloaded_octets=0,
        duration_ms=5,
        withheld=(Withheld(uidl="", size_octets=5, breaks=False, text="", since=AT, lacks="uidl"),),
        more_withheld=3,
    ),
)


def written(event: Event) -> dict[str, Any]:
    encoded = encode(event)
    personal = None if encoded.personal is None else encoded.personal.decode()
    return {"name": event.NAME, "version": event.VERSION, "data": encoded.data.decode(), "personal": personal}


def read(golden: dict[str, Any]) -> Event:
    personal = None if golden["personal"] is None else golden["personal"].encode()
    return decode(golden["name"], golden["version"], golden["data"].encode(), personal)


def golden() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(GOLDEN.read_text())
    return found


def test_there_are_golden_octets_of_every_event() -> None:
    assert {type(event) for event in EVENTS} == set(get_args(Event))
    assert {one["name"] for one in golden()} == set(codec.CLASSES)


@pytest.mark.parametrize(("event", "stored"), list(zip(EVENTS, golden(), strict=True)))
def test_an_event_of_version_1_is_written_and_read_as_ever(event: Event, stored: dict[str, Any]) -> None:
    assert written(event) == stored
    assert read(stored) == event


def test_names_are_unique_and_versions_count_from_one() -> None:
    kinds = get_args(Event)
    assert set(kinds) == {*get_args(MessageEvent), *get_args(MailboxEvent)}
    assert len({kind.NAME for kind in kinds}) == len(kinds)
    for kind in kinds:
        steps = [version for name, version in codec.UPCASTERS if name == kind.NAME]
        assert sorted(steps) == list(range(1, kind.VERSION))


@pytest.mark.parametrize("event", EVENTS)
def test_erased_personal_facts_are_read_as_their_defaults(event: Event) -> None:
    erased = decode(event.NAME, event.VERSION, encode(event).data, None)
    for field in fields(type(event)):
        if field.name in personal_facts(type(event)):
            assert field.default is not NODEFAULT
            assert getattr(erased, field.name) == field.default
        else:
            assert getattr(erased, field.name) == getattr(event, field.name)


class Configured(str):
    """As a configuration has its values."""


class Octets(int):
    """As a configuration has its sizes."""


def test_a_configured_value_is_written_as_what_it_is() -> None:
    event = RejectedOversize(
        size_octets=Octets(12),
        limit_octets=Octets(10),
        limit_from="config",
        next_hop=Configured("home"),
        policy="p",
    )
    assert decode(event.NAME, event.VERSION, *encode(event)) == event
    assert json.loads(encode(event).data)["next_hop"] == "home"


@pytest.mark.parametrize("kind", get_args(Event), ids=lambda kind: kind.NAME)
def test_what_equals_its_default_is_left_out_however_it_was_made(kind: type[Event]) -> None:
    """The encoder asks whether it is the very same, so each default has to be a value of which there is but one."""
    nothing: list[str] = []
    made = {"": "".join(nothing), (): tuple(nothing), "inbound": sys.intern("in" + "bound")}
    for field in fields(kind):
        if field.default is not NODEFAULT and field.default not in (None, False, True):
            assert made[field.default] is field.default, field.name


def test_no_personal_fact_is_among_the_facts_that_stay() -> None:
    stored = written(EVENTS[0])
    for word in ("straße", "example.com", "192.0.2.7", "XL", "routed"):
        assert word not in stored["data"]
    assert "straße" in stored["personal"]


@pytest.mark.parametrize(("name", "version"), [("teleported", 1), ("delivered", 2), ("held", 99)])
def test_an_event_newer_than_the_program_is_an_error_that_names_it(name: str, version: int) -> None:
    with pytest.raises(UnknownEvent, match=f"{name!r} version {version} .*upgrade mailgate"):
        decode(name, version, b"{}", None)


def test_an_old_version_is_brought_up_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PollRecovered, "VERSION", 3)
    monkeypatch.setattr(codec, "_reader", codec._reader.__wrapped__)  # it remembers what was version 1
    steps = {
        ("poll-recovered", 1): lambda found: {"box": found["name"]},
        ("poll-recovered", 2): lambda found: {"mailbox": found["box"].lower()},
    }
    monkeypatch.setattr(codec, "UPCASTERS", steps)
    assert decode("poll-recovered", 1, b'{"name":"INFO"}', None) == PollRecovered(mailbox="info")
    assert decode("poll-recovered", 2, b'{"box":"Info"}', None) == PollRecovered(mailbox="info")
    assert decode("poll-recovered", 3, b'{"mailbox":"Info"}', None) == PollRecovered(mailbox="Info")


DATA, PRIVATE = encode(EVENTS[0])


@pytest.mark.parametrize(
    ("data", "personal"),
    [
        (b"", None),
        (b"{", None),
        (b"[]", None),
        (b"7", None),
        (b"null", None),
        (b"{}", None),
        (b"\xff\xfe", None),
        (DATA[:-1], PRIVATE),
        (DATA.replace(b"1234", b'"many"'), PRIVATE),
        (DATA.replace(b"true", b"null"), PRIVATE),
        (DATA, b"["),
        (DATA, b'["abc"]'),
        (DATA, b"7"),
        (DATA, b'{"recipients":"info@example.com"}'),
    ],
)
def test_octets_that_are_no_such_event_are_damage(data: bytes, personal: bytes | None) -> None:
    with pytest.raises(Damaged, match="'downloaded' version 1"):
        decode("downloaded", 1, data, personal)


# Whatever a header, a listing or a reply may hold; surrogates are no text.
texts = st.text(st.characters(exclude_categories=["Cs"]))
times = st.datetimes(timezones=st.just(UTC))
counts = st.integers(0, 2**53)


@given(texts, st.lists(texts), counts, st.none() | texts)
def test_any_text_comes_back_as_it_went(one: str, several: list[str], size: int, perhaps: str | None) -> None:
    event = replace(
        EVENTS[0],  # type: ignore[arg-type]
        uidl=one,
        size_octets=size,
        reverse_path=one,
        recipients=tuple(several),
        subject=perhaps,
        from_=perhaps,
    )
    assert decode("downloaded", 1, *encode(event)) == event


@given(times, st.lists(counts), st.none() | counts, st.booleans(), texts)
def test_any_time_and_number_comes_back_as_it_went(
    at: datetime, numbers: list[int], code: int | None, flag: bool, reply: str
) -> None:
    event = Deferred(
        numbers=tuple(numbers),
        next_hop=reply,
        attempt=1,
        retry_at=at,
        scope="recipient",
        code=code,
        unknown=flag,
        tried=not flag,
        policy="",
        reply=reply,
    )
    assert decode("deferred", 1, *encode(event)) == event
