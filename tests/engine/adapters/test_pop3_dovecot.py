"""A real Dovecot and our session understand each other, down to the octet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.adapters.pop3_source import MailboxAccess, open_session
from engine.ports import Retrieved, SourceTrouble
from tests.engine.adapters.scripted_pop3 import all_of, freely, trouble_of
from tests.peers import certificates
from tests.real.dovecot import Dovecot

ODD = {
    "plain": b"Subject: one\r\n\r\nbody\r\n",
    "dots": b"Subject: dots\r\n\r\n.\r\n..\r\n.x\r\n\r\n.\r\n",
    "octets": b"Subject: octets\r\n\r\n" + bytes(range(14, 256)) + b"\0\r\n",
    "lone-cr": b"Subject: cr\r\n\r\na\rb\r.\rc\r\n",
    "long-line": b"Subject: long\r\n\r\n" + b"x" * 1_000_000 + b"\r\n",
    "large": b"Subject: large\r\n\r\n" + b"0123456789.\r\n..\r\n" * 100_000,
}


def access(port: int, secret: str = "secret", **changes: Any) -> MailboxAccess:
    async def fetch() -> str:
        return secret

    settings: dict[str, Any] = {"host": "127.0.0.1", "username": "info", **changes}
    return MailboxAccess(port=port, secret=fetch, **settings)


async def test_every_octet_comes_from_dovecot_and_deletions_follow_quit(
    dovecot: Dovecot, tmp_path: Path
) -> None:
    for name, octets in ODD.items():
        dovecot.put("info", name, octets)
    for number in range(600):
        dovecot.put("info", f"small-{number}", b"Subject: %d\r\n\r\n.%d\r\n" % (number, number))
    ca = str(certificates.write_certificate(tmp_path))
    there = dovecot.messages("info")

    session = await open_session(access(dovecot.port, tls="starttls", tls_ca=ca))
    offers = await session.listing()
    got = [happened for happened in await all_of(session, offers) if isinstance(happened, Retrieved)]
    header = await session.top(next(offer for offer in offers if offer.uidl == b"large"), freely)
    refused = await session.delete(offers[:300])
    assert await session.quit() is None

    assert {(one.offer.uidl or b"").decode(): bytes(one.octets) for one in got} == there
    assert header == b"Subject: large\r\n\r\n"
    assert refused == ()
    assert len(dovecot.messages("info")) == len(there) - 300


@pytest.mark.parametrize("last", [True, False])
async def test_a_first_dot_that_dovecot_does_not_stuff_is_found_out(dovecot: Dovecot, last: bool) -> None:
    dovecot.put("info", "a", b"Subject: a\r\n\r\na\r\n")
    dovecot.put("info", "b", b".\r\n+OK 5 octets\r\nfaked\r\n")
    dovecot.put("info", "c", b"Subject: c\r\n\r\nc\r\n")
    dovecot.put("info", "d", b".kept\r\n\r\n")

    session = await open_session(access(dovecot.port_implicit, tls_verify=False))
    offers = {offer.uidl: offer for offer in await session.listing()}
    whole = await all_of(session, [offers[b"a"], offers[b"d"], offers[b"c"]])
    wanted = [offers[b"b"]] if last else [offers[b"b"], offers[b"c"]]
    retrieval = session.retrieve(wanted, freely)
    trouble = await trouble_of(anext(retrieval))
    await session.abort()

    assert [bytes(one.octets)[:5] for one in whole if isinstance(one, Retrieved)] == [
        b"Subje",
        b".kept",
        b"Subje",
    ]
    assert (trouble.kind, trouble.offer) == ("protocol", offers[b"b"])


@pytest.mark.parametrize("auth", ["user", "plain", "apop", "auto"])
async def test_each_login_works_and_a_wrong_password_is_said_to_be_one(
    start_dovecot: Callable[..., Dovecot], auth: str
) -> None:
    dovecot = start_dovecot({"info": "secret"}, apop=True)
    for tls, port in (("none", dovecot.port), ("implicit", dovecot.port_implicit)):
        session = await open_session(access(port, tls=tls, tls_verify=False, auth=auth))
        assert await session.listing() == ()
        assert await session.quit() is None

    with pytest.raises(SourceTrouble) as caught:
        await open_session(access(dovecot.port, "wrong", tls="none", auth=auth))
    assert (caught.value.kind, caught.value.permanent) == ("auth", True)


async def test_a_token_works_and_a_bad_one_is_said_to_be_bad(start_dovecot: Callable[..., Dovecot]) -> None:
    token = "t" * 300
    dovecot = start_dovecot({"info": "secret"}, tokens={token: "info", "short": "info"})
    for good in (token, "short"):
        session = await open_session(access(dovecot.port_implicit, good, tls_verify=False, auth="xoauth2"))
        assert await session.quit() is None

    trouble = await trouble_of(
        open_session(access(dovecot.port_implicit, "bad" * 100, tls_verify=False, auth="xoauth2"))
    )
    assert (trouble.kind, trouble.permanent) == ("auth", True)
    assert "badbad" not in trouble.text
