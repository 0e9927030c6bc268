"""Connecting, EHLO, STARTTLS, AUTH: every way in which no session comes about."""

import asyncio
import socket
from base64 import b64encode
from typing import Any

import pytest

from engine.adapters.smtp_next_hop import NextHopAccess, NextHopTimeouts
from engine.ports import Reply
from engine.secrets import SecretError
from tests.engine.adapters.handing_over import (
    FINGERPRINT,
    PREFIX,
    SOON_SECONDS,
    codes,
    handed_over,
    next_hop,
    only,
)
from tests.engine.adapters.scripted_smtp import CLOSE, DROP, EXTENSIONS, SILENCE, ScriptedServer
from tests.peers.certificates import server_context, write_certificate


async def test_no_server_is_the_next_hops_fault():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        async with next_hop(port) as hop:
            outcome = await handed_over(hop, "a@example.org", "b\r\n")
            answer = outcome.answers[0]
            assert isinstance(answer, Reply)
            assert (answer.code, answer.enhanced, answer.scope) == (None, "4.4.1", "next-hop")
            assert answer.text.startswith(f"4.4.1 connect to 127.0.0.1[127.0.0.1]:{port}: Connect")
            assert codes(outcome) == [None, 553]
            assert (outcome.address, outcome.tls) == ("", "none")


async def test_a_name_that_cannot_be_looked_up_says_so():
    async with next_hop(25, host="no..name") as hop:
        assert only(await handed_over(hop)).text.startswith("4.4.3 look up no..name: ")


@pytest.mark.parametrize(
    ("stage", "script", "said"),
    [
        ("GREETING", "250 2.0.0 hello", "250 2.0.0 hello"),
        ("GREETING", DROP, ""),
        ("GREETING", CLOSE, ""),
        ("GREETING", b"SSH-2.0-OpenSSH\r\n", "SSH-2.0"),
        ("GREETING", b"2" * 100_000, "too long"),
        ("EHLO", DROP, ""),
        ("EHLO", b"250-scripted\r\n250 PIPELINING\r\n250 one too many\r\n", "a reply without a command"),
        ("GREETING", b"220 hello\r\n250 one too many\r\n", "a reply without a command"),
    ],
)
async def test_a_session_that_breaks_is_the_next_hops_fault_and_has_no_code(stage, script, said):
    async with ScriptedServer() as server, next_hop(server.port) as hop:
        server.on(stage, script)
        outcome = await handed_over(hop)
        answer = only(outcome)
        assert (answer.code, answer.scope) == (None, "next-hop")
        assert answer.said.startswith("4.4.2 " if "one too many" not in str(script) else "4.")
        assert f"127.0.0.1[127.0.0.1]:{server.port}" in answer.text
        assert said in answer.text
        assert outcome.address == f"127.0.0.1:{server.port}"
        await server.connections[0].over.wait()


@pytest.mark.parametrize(
    ("stage", "script", "said", "enhanced"),
    [
        ("GREETING", "554 5.7.1 go away", "554 5.7.1 go away (the greeting of {})", "5.7.1"),
        ("GREETING", "554-not\r\n554 here", "554 not / here (the greeting of {})", None),
        ("GREETING", "421 4.3.2 busy", "421 4.3.2 busy (the greeting of {})", "4.3.2"),
        ("EHLO", "450 4.3.2 not now", "450 4.3.2 not now (the reply to EHLO of {})", "4.3.2"),
    ],
)
async def test_a_session_that_is_refused_is_the_next_hops_fault_in_the_server_s_words(
    stage, script, said, enhanced
):
    async with ScriptedServer() as server, next_hop(server.port) as hop:
        server.on(stage, script)
        answer = only(await handed_over(hop))
        assert answer.said == said.format(f"127.0.0.1[127.0.0.1]:{server.port}")
        assert (answer.code, answer.enhanced, answer.scope) == (int(script[:3]), enhanced, "next-hop")


@pytest.mark.parametrize(("stage", "field"), [("GREETING", "greeting_seconds"), ("EHLO", "command_seconds")])
async def test_silence_during_set_up_ends_by_a_time_out(stage, field):
    timeouts = NextHopTimeouts(**{field: SOON_SECONDS})
    async with ScriptedServer() as server, next_hop(server.port, timeouts=timeouts) as hop:
        server.on(stage, SILENCE)
        assert codes(await handed_over(hop)) == [None]


async def test_a_server_without_ehlo_is_greeted_with_helo():
    async with ScriptedServer() as server, next_hop(server.port) as hop:
        server.on("EHLO", "502 5.5.1 what?")
        assert codes(await handed_over(hop)) == [250]
        assert server.verbs() == ["EHLO", "HELO", "MAIL", "RCPT", "DATA"]
        assert server.taken[0].mail == "MAIL FROM:<me@example.net>"


async def test_cancelling_during_set_up_closes_the_connection():
    async with ScriptedServer() as server, next_hop(server.port, connections=1) as hop:
        server.on("EHLO", SILENCE)
        task = asyncio.create_task(handed_over(hop))
        await server.until(lambda: server.verbs() == ["EHLO"])
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await server.connections[0].over.wait()


@pytest.mark.parametrize("mode", ["required", "implicit"])
@pytest.mark.parametrize("way", ["ca", "fingerprint", "unverified"])
async def test_tls_as_configured(mode, way, tmp_path):
    context = server_context()
    server = ScriptedServer(implicit_tls=context) if mode == "implicit" else ScriptedServer(starttls=context)
    access: dict[str, Any] = {"tls": mode}
    if way == "ca":
        access["tls_ca"] = str(write_certificate(tmp_path))
    elif way == "fingerprint":
        access["tls_fingerprint"] = FINGERPRINT
    else:
        access["tls_verify"] = False
    content = b".x\r\n" * 100_000
    async with server, next_hop(server.port, **access) as hop:
        outcome = await handed_over(hop, content=content)
        assert codes(outcome) == [250]
        assert outcome.tls.startswith("TLSv1.3 TLS_")
        assert outcome.tls.endswith(" unverified" if way == "unverified" else " verified")
        assert server.taken[0].octets == PREFIX + b"..x\r\n" * 100_000
        assert codes(await handed_over(hop)) == [250]
        assert len(server.connections) == 1


@pytest.mark.parametrize("mode", ["required", "implicit"])
@pytest.mark.parametrize(
    "access",
    [{}, {"tls_fingerprint": "sha256:" + "0" * 64}, {"host": "localhost", "tls_fingerprint": "sha256:1"}],
)
async def test_a_certificate_that_is_not_trusted_ends_it(mode, access):
    context = server_context()
    server = ScriptedServer(implicit_tls=context) if mode == "implicit" else ScriptedServer(starttls=context)
    async with server, next_hop(server.port, tls=mode, **access) as hop:
        answer = only(await handed_over(hop))
        assert (answer.code, answer.scope) == (None, "next-hop")
        assert "certificate" in answer.text
        assert not any(line.startswith("MAIL") for line in server.lines)


@pytest.mark.parametrize("greeting", ["554 5.3.2 not today", SILENCE])
async def test_a_session_that_fails_under_tls_harms_no_connection_that_gets_its_number(greeting):
    server = ScriptedServer(implicit_tls=server_context())
    server.on("GREETING", greeting)
    access = {
        "tls": "implicit",
        "tls_verify": False,
        "timeouts": NextHopTimeouts(greeting_seconds=SOON_SECONDS),
    }
    async with server, ScriptedServer() as other, next_hop(server.port, **access) as hop:
        assert only(await handed_over(hop)).scope == "next-hop"
        for _ in range(4):  # the loop refuses a number that it thinks is taken
            _, writer = await asyncio.open_connection("127.0.0.1", other.port)
            writer.close()


async def test_a_missing_tls_ca_is_named(tmp_path):
    async with ScriptedServer() as server:
        async with next_hop(server.port, tls="required", tls_ca=str(tmp_path / "absent.pem")) as hop:
            assert "absent.pem" in only(await handed_over(hop)).text
        assert server.connections == []


async def test_required_tls_never_falls_back():
    async with ScriptedServer() as server, next_hop(server.port, tls="required") as hop:
        answer = only(await handed_over(hop))
        assert (answer.code, answer.enhanced, answer.scope) == (None, "4.7.0", "next-hop")
        assert "STARTTLS" in answer.text
    async with (
        ScriptedServer(starttls=server_context()) as server,
        next_hop(server.port, tls="required") as hop,
    ):
        server.on("STARTTLS", "454 4.7.0 no certificate today")
        where = f"127.0.0.1[127.0.0.1]:{server.port}"
        said = f"454 4.7.0 no certificate today (STARTTLS failed with {where})"
        assert only(await handed_over(hop)).said == said
        assert server.taken == []


ANYBODY: dict[str, Any] = {"tls": "opportunistic", "tls_verify": False}
EXPECTED: list[dict[str, Any]] = [
    {"tls": "opportunistic", "tls_verify": True},
    {"tls": "opportunistic", "tls_verify": False, "tls_fingerprint": "sha256:" + "0" * 64},
]


@pytest.mark.parametrize("expected", EXPECTED)
async def test_opportunistic_tls_that_is_told_whom_to_expect_tells_no_other_server_anything(expected):
    access = {**expected, "username": "gate", "secret": secret}
    offers = (*EXTENSIONS, "AUTH PLAIN LOGIN")
    async with (
        ScriptedServer(offers, starttls=server_context()) as other,
        next_hop(other.port, **access) as hop,
    ):
        assert "certificate" in only(await handed_over(hop)).text
        assert not {"AUTH", "MAIL"} & {line.split()[0] for line in other.lines}
        assert len(other.connections) == 1
    for script in (None, "454 4.7.0 no certificate today", DROP):
        async with ScriptedServer(offers) as plain, next_hop(plain.port, **access) as hop:
            if script is not None:
                plain.extensions = (*offers, "STARTTLS")
                plain.on("STARTTLS", script)
            answer = only(await handed_over(hop))
            code = 454 if str(script).startswith("454") else None
            assert (answer.code, answer.enhanced, answer.scope) == (code, "4.7.0", "next-hop")
            assert "STARTTLS" in answer.text
            assert not {"AUTH", "MAIL"} & {line.split()[0] for line in plain.lines}
            assert len(plain.connections) == 1


async def test_opportunistic_tls_goes_to_the_server_that_is_expected(tmp_path):
    ca = str(write_certificate(tmp_path))
    for way in ({"tls_ca": ca}, {"tls_fingerprint": FINGERPRINT}):
        async with (
            ScriptedServer(starttls=server_context()) as server,
            next_hop(server.port, tls="opportunistic", **way) as hop,
        ):
            outcome = await handed_over(hop)
            assert codes(outcome) == [250]
            assert outcome.tls.endswith(" verified")


async def test_opportunistic_tls_takes_any_certificate():
    async with (
        ScriptedServer(starttls=server_context()) as server,
        next_hop(server.port, **ANYBODY) as hop,
    ):
        outcome = await handed_over(hop)
        assert codes(outcome) == [250]
        assert outcome.tls.endswith(" unverified")


async def test_opportunistic_tls_does_without_where_it_is_not_offered():
    async with ScriptedServer() as server, next_hop(server.port, **ANYBODY) as hop:
        outcome = await handed_over(hop)
        assert (codes(outcome), outcome.tls) == ([250], "none")


@pytest.mark.parametrize("way", ["454 4.7.0 no certificate today", "220 but no TLS follows", DROP])
async def test_opportunistic_tls_that_fails_goes_on_in_clear_text_on_a_new_connection(way):
    async with (
        ScriptedServer(starttls=server_context()) as server,
        next_hop(server.port, **ANYBODY) as hop,
    ):
        if way.startswith("220"):
            server.starttls = None
            server.extensions = (*EXTENSIONS, "STARTTLS")
        server.on("STARTTLS", way)
        outcome = await handed_over(hop)
        assert codes(outcome) == [250]
        assert outcome.tls.startswith("none (STARTTLS failed with ")
        assert [taken.connection for taken in server.taken] == [1]


async def test_a_server_that_wants_tls_and_could_not_give_it_is_told_of_so():
    async with ScriptedServer(starttls=server_context()) as server, next_hop(server.port, **ANYBODY) as hop:
        server.on("STARTTLS", "454 4.7.0 no certificate today")
        server.on("MAIL", "530 5.7.0 Must issue a STARTTLS command first")
        answer = only(await handed_over(hop))
        where = f"127.0.0.1[127.0.0.1]:{server.port}"
        why = f"(STARTTLS failed with {where}: 454 4.7.0 no certificate today)"
        assert answer.said == f"530 5.7.0 Must issue a STARTTLS command first {why}"
        server.on("MAIL", "550 5.7.1 not you")
        assert only(await handed_over(hop)).said == "550 5.7.1 not you"


QUOTED = b64encode(b"\0gate\0hunter2-secret").decode()


async def secret() -> str:
    return "hunter2-secret"


async def test_a_password_goes_only_under_tls():
    extensions = (*EXTENSIONS, "AUTH PLAIN LOGIN")
    async with ScriptedServer(extensions) as server:
        access: dict[str, Any] = {**ANYBODY, "username": "gate", "secret": secret}
        async with next_hop(server.port, **access) as hop:
            answer = only(await handed_over(hop))
            assert (answer.code, answer.scope) == (None, "next-hop")
            assert "authentication" in answer.text
            assert not any(line.startswith("AUTH") for line in server.lines)


@pytest.mark.parametrize(
    ("scripts", "code", "said"),
    [
        (
            {"AUTH": "535 5.7.8 wrong password"},
            535,
            "535 5.7.8 wrong password (authentication as gate failed with 127",
        ),
        ({"AUTH": "454 4.7.0 try later"}, 454, "454 4.7.0 try later (authentication as gate failed with 127"),
        ({"EHLO": "250 scripted.example"}, None, "4.7.0 authentication as gate failed with 127"),
        ({"AUTH": DROP}, None, "4.7.0 authentication as gate failed with 127"),
        ({"AUTH": f"535 5.7.8 no: AUTH PLAIN {QUOTED}"}, 535, "535 5.7.8 no: AUTH PLAIN *** ("),
        ({"AUTH": f"535 5.7.8 no: AUTH PLAIN {QUOTED[:20]}."}, 535, "535 5.7.8 no: AUTH PLAIN ***. ("),
        ({"AUTH": "535 5.7.8 hunter2-secret is wrong"}, 535, "535 5.7.8 *** is wrong ("),
    ],
)
async def test_failed_authentication_is_the_next_hops_fault(scripts, code, said):
    async with ScriptedServer((*EXTENSIONS, "AUTH PLAIN")) as server:
        for stage, script in scripts.items():
            server.on(stage, script)
        async with next_hop(server.port, username="gate", secret=secret) as hop:
            answer = only(await handed_over(hop))
            assert (answer.code, answer.scope) == (code, "next-hop")
            assert answer.said.startswith(said)
            assert "hunter2" not in answer.text
            assert QUOTED[:20] not in answer.text
            assert server.taken == []


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (SecretError("next_hop.home password: PASSWORD is not set"), "PASSWORD is not set"),
        (KeyError("hunter2"), "KeyError"),
    ],
)
async def test_a_password_that_cannot_be_read_is_told_without_details(error, said):
    async def no_secret() -> str:
        raise error

    async with (
        ScriptedServer((*EXTENSIONS, "AUTH PLAIN")) as server,
        next_hop(server.port, username="gate", secret=no_secret) as hop,
    ):
        answer = only(await handed_over(hop))
        assert answer.code is None
        assert said in answer.text
        assert "hunter2" not in answer.text


def test_the_secret_is_not_shown():
    access = NextHopAccess(name="home", host="mx", username="gate", secret=secret)
    assert "secret" not in repr(access)
