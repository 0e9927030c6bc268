"""What stands behind MAIL and RCPT is read as the RFCs have it, and refused with the right reply where it isn't so."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.wire.smtp_arguments import (
    ArgumentFault,
    MailArgument,
    RcptArgument,
    mail_argument,
    rcpt_argument,
)


@pytest.mark.parametrize(
    ("text", "mailbox"),
    [
        ("FROM:<a@b.example>", "a@b.example"),
        ("FROM:<>", ""),
        ("from: <a@b.example>", "a@b.example"),
        ("FROM:a@b.example", "a@b.example"),
        ("FROM:<@one.example,@two.example:a@b.example>", "a@b.example"),
        ('FROM:<"a > b"@c.example>', '"a > b"@c.example'),
        ('FROM:<"a\\"b"@c.example>', '"a\\"b"@c.example'),
        ("FROM:<a@[192.0.2.1]>", "a@[192.0.2.1]"),
    ],
)
def test_a_path_is_read(text: str, mailbox: str) -> None:
    assert mail_argument(text, extended=False) == MailArgument(mailbox=mailbox)


def test_parameters_are_read_and_kept_as_written() -> None:
    text = "FROM:<a@b.example> SIZE=1000 BODY=8bitmime smtputf8 RET=hdrs ENVID=QQ+2B314 AUTH=<>"
    assert mail_argument(text, extended=True) == MailArgument(
        mailbox="a@b.example", size_octets=1000, smtputf8=True, ret="HDRS", envid="QQ+2B314"
    )
    assert mail_argument("FROM:<> RET=full", extended=True).ret == "FULL"
    text = "TO:<a@b.example> NOTIFY=failure,DELAY ORCPT=rfc822;a+2Bb@b.example"
    assert rcpt_argument(text, extended=True, utf8=False) == RcptArgument(
        mailbox="a@b.example", notify="FAILURE,DELAY", orcpt="rfc822;a+2Bb@b.example"
    )
    text = "TO:<\u00fc@b.example> ORCPT=utf-8;\u00fc@b.example"
    assert rcpt_argument(text, extended=True, utf8=True).orcpt == "utf-8;\u00fc@b.example"


def test_a_size_of_twenty_digits_is_one_and_fits_into_a_store() -> None:
    assert mail_argument("FROM:<> SIZE=99999999999999999999", extended=True).size_octets == 2**63 - 1


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "501 5.5.4"),
        ("FROM:", "501 5.5.4"),
        ("FROM", "501 5.5.4"),
        ("TO:<a@b.example>", "501 5.5.4"),
        ("FROM:<a@b.example", "501 5.5.4"),
        ("FROM:<a@b.example>SIZE=1", "501 5.5.4"),
        ("FROM:<a@b.example> SIZE=", "501 5.5.4"),
        ("FROM:<a@b.example> SIZE=-1", "501 5.5.4"),
        ("FROM:<a@b.example> SIZE=1 size=2", "501 5.5.4"),
        ("FROM:<a@b.example> SMTPUTF8=yes", "501 5.5.4"),
        ("FROM:<a@b.example> BODY=BINARYMIME", "501 5.5.4"),
        ("FROM:<a@b.example> RET=SOME", "501 5.5.4"),
        ("FROM:<a@b.example> ENVID=a+b", "501 5.5.4"),
        ("FROM:<a@b.example> ENVID=" + "a" * 101, "501 5.5.4"),
        ("FROM:<a@b.example> FUTURE=1", "555 5.5.4"),
    ],
)
def test_what_can_t_be_read_is_refused(text: str, code: str) -> None:
    with pytest.raises(ArgumentFault) as caught:
        mail_argument(text, extended=True)
    assert caught.value.reply.startswith(code)


@pytest.mark.parametrize(
    "parameter",
    [
        "NOTIFY=NEVER,DELAY",
        "NOTIFY=SOMETIMES",
        "ORCPT=a@b.example",
        "ORCPT=rfc822;a+b@c.example",
        "ORCPT=rfc822;" + "a" * 500,
        "ORCPT=utf-8;\u00fc@b.example",
    ],
)
def test_wishes_for_reports_are_checked(parameter: str) -> None:
    with pytest.raises(ArgumentFault, match="501 5.5.4".replace(".", r"\.")):
        rcpt_argument(f"TO:<a@b.example> {parameter}", extended=True, utf8=False)


def test_after_helo_there_are_no_parameters() -> None:
    with pytest.raises(ArgumentFault, match=r"555 5\.5\.4"):
        mail_argument("FROM:<a@b.example> SIZE=1", extended=False)


@given(text=st.text(max_size=60))
def test_whatever_is_written_there_is_an_answer(text: str) -> None:
    for written in (text, f"FROM:{text}", f"FROM:<{text}", f"FROM:<a@b> {text}"):
        assert answer(written)[:4] in ("250 ", "501 ", "555 ")


def answer(written: str) -> str:
    try:
        mail_argument(written, extended=True)
    except ArgumentFault as fault:
        return fault.reply
    return "250 2.1.0 Ok"
