"""AUTH of the SMTP peer: PLAIN (RFC 4616) and LOGIN, with the initial response or after a 334. RFC 4954."""

import base64
import binascii
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.peers.smtp_session import SmtpSession


async def by_sasl(session: "SmtpSession", argument: str) -> tuple[str, str | None]:
    """The reply to AUTH, and the user if it is 235."""
    mechanism, _, initial = argument.partition(" ")
    if not session.peer.users or mechanism.upper() not in ("PLAIN", "LOGIN"):
        return "504 5.5.4 no such mechanism", None
    try:
        if mechanism.upper() == "PLAIN":
            _, name, password = (await _ask(session, "", initial)).split("\0")
        else:
            name = await _ask(session, "Username:", initial)
            password = await _ask(session, "Password:", "")
    except ValueError:
        return "501 5.5.2 malformed or taken back", None
    if session.peer.users.get(name) != password:
        return "535 5.7.8 Authentication credentials invalid", None
    return "235 2.7.0 Authentication successful", name


async def _ask(session: "SmtpSession", prompt: str, initial: str) -> str:
    """One turn. Raises ValueError for what is not base64, "*" among it."""
    if not initial:
        await session.conversation.write(b"334 " + base64.b64encode(prompt.encode()) + b"\r\n")
        initial = (await session.conversation.read_line()).decode()
    try:
        return base64.b64decode(initial, validate=True).decode()
    except binascii.Error as error:
        raise ValueError(str(error)) from error
