"""What all connections have in common in a configuration: TLS, a user name, a secret, the files they name.

Makes a `Secret` of what is written; never reads one. Paths are relative to the folder of the configuration
file.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from engine.secrets import Secret, SecretKind
from engine.settings.lines import Place
from engine.settings.reading import Fault
from engine.settings.tables import MailboxTable, NextHopTable, SecretTable, SecretWritten

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def check_tls(place: Place, table: MailboxTable | NextHopTable, *, verify_written: bool) -> None:
    """Refuse what makes the TLS keys contradict each other. Raises Fault."""
    given = [key for key in ("tls_ca", "tls_fingerprint") if getattr(table, key) is not None]
    if given and table.tls == "none":
        raise Fault((*place, given[0]), 'has no meaning with tls = "none": leave one of them out')
    if len(given) == 2:
        raise Fault((*place, "tls_ca"), "can't go with tls_fingerprint, which asks no CA: leave one out")
    if given and not verify_written:
        raise Fault((*place, "tls_verify"), f"false would make {given[0]} useless: leave one of them out")


def absolute(written: str | None, folder: Path) -> Path | None:
    """A path of the configuration file."""
    return None if written is None else folder / written


def one_line(place: Place, written: str) -> str:
    """A user name or secret: not empty, and nothing in it that could end a command of POP3 or SMTP."""
    if not written or any(character in written for character in "\r\n\0"):
        raise Fault(place, "is empty or holds a line break" if written else "is empty")
    return written


def secret_from(place: Place, written: SecretWritten, used_for: str, folder: Path) -> Secret:
    """The secret that is written at `place`. `used_for` names it where it can't be read later."""
    if isinstance(written, str):
        return Secret(one_line(place, written), used_for=used_for)
    kind, source = _kind(place, written)
    if kind == "env" and not _VARIABLE.fullmatch(source):
        raise Fault((*place, kind), "is not the name of an environment variable")
    if kind == "file":
        source = str(folder / source)
    if kind == "command":
        _check_command((*place, kind), source)
    return Secret(source, kind=kind, used_for=used_for, folder=folder)


def _kind(place: Place, written: SecretTable) -> tuple[SecretKind, str]:
    kinds: tuple[SecretKind, ...] = ("env", "file", "command")
    given = [(kind, source) for kind in kinds if (source := getattr(written, kind)) is not None]
    if len(given) != 1:
        raise Fault(place, "expected exactly one of env, file, command")
    kind, source = given[0]
    return kind, one_line((*place, kind), source)


def _check_command(place: Place, command: str) -> None:
    try:
        words = shlex.split(command)
    except ValueError as trouble:
        raise Fault(place, f"can't be split into words: {str(trouble).lower()}") from None
    if not words:
        raise Fault(place, "names no program")
