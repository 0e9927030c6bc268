"""What a POP3 server's refusals and failures mean: the one place that decides.

Owns the way from replies and broken conversations to `SourceTrouble`. Pure: no I/O, no state. Reads
response codes (RFC 2449 section 8, RFC 3206) wherever they stand, also from servers that forget to announce
RESP-CODES; words only where there is no code.

`permanent` is said only where the server says so, or where the configuration cannot work: a bare -ERR may
pass.
"""

from __future__ import annotations

import re
from typing import Final

from engine.ports import Offer, SourceTrouble, TroubleKind
from engine.secrets import CONCEALED
from engine.wire.pop3_replies import Broken, Capabilities, Greeted, Replied, code_of, text_of

# SYS/PERM and SYS/TEMP are the server's own failures, so the mailbox is as good as not reachable.
_CODES: Final[dict[str, tuple[TroubleKind, bool]]] = {
    "IN-USE": ("in-use", False),
    "LOGIN-DELAY": ("login-delay", False),
    "SYS/TEMP": ("connect", False),
    "SYS/PERM": ("connect", True),
    "AUTH": ("auth", True),
}

# Words are the last resort. A locked account is a matter of the login, a locked mailbox is another session.
_WORDS: Final[tuple[tuple[re.Pattern[str], TroubleKind], ...]] = (
    (re.compile(r"(mail ?box|mail ?drop|mail ?file|spool)\W.*\b(lock|busy|in use)", re.I), "in-use"),
    (re.compile(r"\block\w*\b.*\b(mail ?box|mail ?drop|mail ?file|spool)\b", re.I), "in-use"),
    (
        re.compile(r"\b(is in use|already (in use|open|logged|locked)|another (pop3? )?session)\b", re.I),
        "in-use",
    ),
    (re.compile(r"\b(login|log ?in|poll|check)\w*\b.*\btoo (often|frequent|soon|fast)", re.I), "login-delay"),
    (re.compile(r"\btoo (many|frequent) (login|connection|log ?on|session)", re.I), "login-delay"),
    (
        re.compile(r"\b(tempora|unavailable|try again later|internal (server )?error|time[d ]*out)", re.I),
        "connect",
    ),
)


def of_broken(broken: Broken) -> SourceTrouble:
    """A conversation that broke. The offer is named where a RETR or TOP was its end."""
    command = broken.command
    about = command.about if command and command.verb in ("RETR", "TOP") else None
    offer = about if isinstance(about, Offer) else None
    where = f" at {command.verb}" if command else ""
    where += f" of message {offer.number} ({offer.named})" if offer else ""
    return SourceTrouble("connect" if broken.lost else "protocol", broken.text + where, offer=offer)


def of_greeting(greeted: Greeted) -> SourceTrouble:
    """A server that greets with -ERR: nothing was said of passwords yet."""
    text = text_of(greeted.line)
    kind, permanent = _CODES.get(code_of(greeted.line) or "") or (_by_words(text) or "connect", False)
    return SourceTrouble(
        kind, f"the server turned us away: {text or 'without a reason'}", permanent=permanent
    )


def of_login(reply: Replied, capabilities: Capabilities, secrets: tuple[str, ...]) -> SourceTrouble:
    """-ERR to a login.

    Where the server announces AUTH-RESP-CODE and gives no [AUTH], it is no matter of the password (RFC 3206
    section 6): the mailbox cannot be reached now. Without that announcement, it is taken for one.
    """
    text = concealed(reply.line, secrets)
    said = f"the server refused the login: {text or 'without a reason'}"
    known = _CODES.get(code_of(reply.line) or "")
    if known is not None:
        return SourceTrouble(known[0], said, permanent=known[1])
    otherwise: TroubleKind = "connect" if "AUTH-RESP-CODE" in capabilities else "auth"
    return SourceTrouble(_by_words(text) or otherwise, said)


def of_refusal(reply: Replied) -> SourceTrouble:
    """-ERR to a command a session cannot do without."""
    kind, permanent = _CODES.get(code_of(reply.line) or "") or ("protocol", False)
    text = text_of(reply.line) or "without a reason"
    return SourceTrouble(kind, f"the server refused {reply.command.verb}: {text}", permanent=permanent)


def is_codeless(reply: Replied) -> bool:
    """Whether a refusal carries no response code that tells of a passing or a lasting failure."""
    return code_of(reply.line) not in _CODES


def concealed(line: bytes, secrets: tuple[str, ...]) -> str:
    """A status line in words without the secrets, should the server echo what it was sent."""
    for secret in secrets:
        if secret:
            line = line.replace(secret.encode(), CONCEALED.encode())
    return text_of(line)


def _by_words(text: str) -> TroubleKind | None:
    return next((kind for words, kind in _WORDS if words.search(text)), None)
