"""The ways into a mailbox of the POP3 peer: USER and PASS, APOP (RFC 1939), AUTH (RFC 5034) with PLAIN
(RFC 4616) and XOAUTH2. A refusal carries [AUTH] (RFC 3206).
"""

import base64
import binascii
import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.peers.pop3_session import Pop3Session

REFUSED = b"-ERR [AUTH] wrong user or password\r\n"
MALFORMED = b"-ERR malformed\r\n"
XOAUTH2_ERROR = b"+ " + base64.b64encode(b'{"status":"400","schemes":"Bearer"}') + b"\r\n"


def by_password(session: "Pop3Session", username: str, password: str) -> bytes:
    """The answer to PASS and to PLAIN."""
    mailbox = session.peer.mailboxes.get(username)
    return session.enter(mailbox) if mailbox and mailbox.password == password else REFUSED


def by_apop(session: "Pop3Session", argument: str) -> bytes:
    """The answer to APOP: name and MD5 of the greeting's stamp with the password."""
    name, _, digest = argument.partition(" ")
    mailbox = session.peer.mailboxes.get(name)
    if not session.peer.apop_stamp:
        return b"-ERR no APOP here\r\n"
    if mailbox is None:
        return REFUSED
    expected = hashlib.md5((session.peer.apop_stamp + mailbox.password).encode()).hexdigest()
    return session.enter(mailbox) if digest == expected else REFUSED


async def by_sasl(session: "Pop3Session", argument: str) -> bytes:
    """The answer to AUTH, with the initial response or after a "+"; "*" takes it back."""
    mechanism, _, initial = argument.partition(" ")
    if not mechanism:
        return b"+OK\r\n" + "".join(f"{name}\r\n" for name in session.peer.sasl).encode() + b".\r\n"
    if mechanism.upper() not in session.peer.sasl:
        return b"-ERR no such mechanism\r\n"
    if not initial:
        await session.conversation.write(b"+ \r\n")
        initial = (await session.conversation.read_line()).decode()
    if initial == "*":
        return b"-ERR taken back\r\n"
    try:
        response = base64.b64decode(initial, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return MALFORMED
    if mechanism.upper() == "PLAIN":
        return _by_plain(session, response)
    return await _by_token(session, response)


def _by_plain(session: "Pop3Session", response: str) -> bytes:
    parts = response.split("\0")
    return by_password(session, parts[1], parts[2]) if len(parts) == 3 else MALFORMED


async def _by_token(session: "Pop3Session", response: str) -> bytes:
    """XOAUTH2: user=NAME ^A auth=Bearer TOKEN ^A ^A; a refusal first says why and waits for an empty line."""
    parts = dict(part.split("=", 1) for part in response.split("\x01") if "=" in part)
    mailbox = session.peer.mailboxes.get(parts.get("user", ""))
    if mailbox and mailbox.token and parts.get("auth") == f"Bearer {mailbox.token}":
        return session.enter(mailbox)
    await session.conversation.write(XOAUTH2_ERROR)
    await session.conversation.read_line()
    return REFUSED
