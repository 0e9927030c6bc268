"""What a request to deliver again comes to, whatever state the recipients are in: property by property."""

from __future__ import annotations

from dataclasses import replace as changed

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec.structs import replace

from engine.core.replaying import HAS_IT, HELD_BY_A_PERSON, UNDER_WAY, Again, Nothing, Request, ask
from store.life import Message, evolve
from store.recipient import ACCEPTED, Recipient, State
from tests.engine.core.lives import LATER, downloaded, policy

STATES = st.sampled_from(
    [
        "received",
        "deferred",
        "held",
        "quarantined",
        "outcome-unknown",
        "delivered",
        "relayed",
        "failed",
        "discarded",
    ]
)
POLICY = policy()
REQUEST = Request(replay="r1", operator="anna")


def of(*states: State) -> Message:
    """A message whose recipients are in these states."""
    recipients = tuple(
        Recipient(
            number=n,
            address=f"r{n}@example.com",
            state=state,
            attempts=1,
            held_why={"held": "operator", "quarantined": "quarantined"}.get(state),  # type: ignore[arg-type]
        )
        for n, state in enumerate(states)
    )
    return replace(downloaded(), recipients=recipients)


@given(st.lists(STATES, min_size=1, max_size=5), st.booleans())
def test_each_recipient_gets_it_or_is_left_out_with_a_reason_and_never_twice(
    states: list[State], force: bool
) -> None:
    before = of(*states)
    answer = ask(before, changed(REQUEST, force=force), POLICY, worked_on=True, kept=True)
    out = {address for address, _ in answer.left_out}
    got = {address for address, _ in answer.to} if isinstance(answer, Again) else set()
    assert got | out == {r.address for r in before.recipients}
    assert not got & out
    if not force:
        assert not got & {r.address for r in before.recipients if r.state in ACCEPTED}
    if isinstance(answer, Again):
        after = evolve(before, before.id, answer.event, LATER)
        assert {r.address for r in after.recipients if r.open and not r.held} >= got
        untouched = [
            (a, b) for a, b in zip(before.recipients, after.recipients, strict=True) if a.address in out
        ]
        assert all(a == b for a, b in untouched)
        repeated = ask(after, changed(REQUEST, force=force), POLICY, worked_on=True, kept=True)
        assert isinstance(repeated, Nothing)
        assert repeated.repeated


def test_what_is_being_handed_over_is_left_alone_while_somebody_works_on_it() -> None:
    flying = of("outcome-unknown")
    answer = ask(flying, REQUEST, POLICY, worked_on=True, kept=True)
    assert answer.left_out == (("r0@example.com", UNDER_WAY),)
    assert isinstance(ask(flying, REQUEST, POLICY, worked_on=False, kept=True), Again)


def test_somebody_who_has_it_is_not_sent_to_under_another_spelling() -> None:
    request = changed(REQUEST, recipients=("R0@Example.com", "new@example.com"))
    answer = ask(of("delivered"), request, POLICY, worked_on=False, kept=True)
    assert isinstance(answer, Again)
    assert answer.left_out == (("R0@Example.com", HAS_IT),)
    assert [address for address, _ in answer.to] == ["new@example.com"]


def test_what_a_person_holds_goes_to_nobody_else_unless_by_force() -> None:
    request = changed(REQUEST, recipients=("new@example.com",))
    held = of("delivered", "held")
    assert ask(held, request, POLICY, worked_on=False, kept=True) == Nothing(text=HELD_BY_A_PERSON)
    forced = ask(held, changed(request, force=True), POLICY, worked_on=False, kept=True)
    assert isinstance(forced, Again)
    unroutable = replace(downloaded(), recipients=(), held_why="unroutable")
    assert isinstance(ask(unroutable, request, POLICY, worked_on=False, kept=True), Again)


@given(st.lists(STATES, min_size=1, max_size=4), st.booleans(), st.booleans())
def test_naming_a_recipient_of_its_own_makes_no_second_one(
    states: list[State], force: bool, worked_on: bool
) -> None:
    assume(force or "held" not in states)
    before = of(*states)
    named = tuple(r.address.upper() for r in before.recipients)
    to_all = ask(before, changed(REQUEST, force=force), POLICY, worked_on=worked_on, kept=True)
    request = changed(REQUEST, recipients=named, force=force)
    answer = ask(before, request, POLICY, worked_on=worked_on, kept=True)
    assert type(answer) is type(to_all)
    if isinstance(answer, Again) and isinstance(to_all, Again):
        assert (answer.to, answer.doubtful) == (to_all.to, to_all.doubtful)
        assert evolve(before, before.id, answer.event, LATER) == evolve(
            before, before.id, to_all.event, LATER
        )


@pytest.mark.parametrize(
    ("to", "others", "bound_for"),
    [
        (None, (), "home"),
        ("branch", (), "branch"),
        ("mx", ("ann@foreign.example",), "mx:foreign.example"),
        ("mx", ("ann@foreign.example", "bob@other.example"), None),
        (None, ("x@example.com", "desk@branch.example"), None),
    ],
)
def test_a_request_says_which_next_hop_all_go_to(
    to: str | None, others: tuple[str, ...], bound_for: str | None
) -> None:
    request = changed(REQUEST, next_hop=to, recipients=others)
    answer = ask(of("failed"), request, POLICY, worked_on=False, kept=True)
    assert isinstance(answer, Again)
    assert answer.event.bound_for == bound_for


@pytest.mark.parametrize("kept", [False])
def test_without_octets_there_is_nothing_to_deliver(kept: bool) -> None:
    answer = ask(of("failed"), REQUEST, POLICY, worked_on=False, kept=kept)
    assert answer == Nothing(text="the octets are no longer kept")
