"""Passwords and tokens: where they come from, and how they stay out of everything printed.

A secret names its source; the text itself is read each time it is needed, so that a renewed token or a
changed file is used at the next login. Never prints, logs or stores the text, nor any output of a command
that failed.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
from base64 import b64encode
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, assert_never

COMMAND_SECONDS = 30.0  # a password store may ask a slow key agent; longer would hold up every poll
KILLED_SECONDS = 5.0  # a killed process is gone at once, unless the system itself is stuck
CONCEALED = "***"
QUOTED_LEAST = 8  # characters of a password in base64 that are taken for a part of it
SECRET_OCTETS = 16384  # OAuth tokens run to a few thousand octets; more is the wrong file

SecretKind = Literal["text", "env", "file", "command"]


class SecretError(Exception):
    """A secret couldn't be had. The text is one line: whose secret, and what to do. Never what was read."""


@dataclass(frozen=True, slots=True, repr=False)
class Secret:
    """A secret by its source.

    `source` is the secret itself, the name of an environment variable, an absolute path, or a command line;
    `kind` says which. `used_for` names it in errors. `folder` is where a command runs; None for the process's
    own.
    """

    source: str
    kind: SecretKind = field(default="text", kw_only=True)
    used_for: str = field(default="secret", kw_only=True)
    folder: Path | None = field(default=None, kw_only=True)

    def __repr__(self) -> str:
        return "Secret(…)"

    async def reveal(self) -> str:
        """The text, read now. Raises SecretError."""
        try:
            return _usable(await self._read())
        except _Unusable as trouble:
            raise SecretError(f"{self.used_for}: {trouble}") from None

    async def _read(self) -> str:
        match self.kind:
            case "text":
                return self.source
            case "env":
                return _from_environment(self.source)
            case "file":
                return await asyncio.to_thread(_from_file, Path(self.source))
            case "command":
                return await _from_command(self.source, self.folder)
            case _:
                assert_never(self.kind)


class _Unusable(Exception):
    """Why, without whose."""


def _usable(text: str) -> str:
    if not text:
        raise _Unusable("the secret is empty")
    # In POP3 and SMTP a line break would end the command and start another; in SASL PLAIN a NUL ends a part.
    if any(character in text for character in "\r\n\0"):
        raise _Unusable("the secret holds a line break or NUL: it must be one line")
    if any(
        "\ud800" <= character <= "\udfff" for character in text
    ):  # octets of the environment that are no text
        raise _Unusable("the secret is not UTF-8")
    return text


def _from_environment(name: str) -> str:
    text = os.environ.get(name)
    if text is None:
        raise _Unusable(f"the environment variable {name} is not set")
    return text


def _from_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            octets = file.read(SECRET_OCTETS + 1)
    except OSError as trouble:
        raise _Unusable(f"the file {path} can't be read: {trouble.strerror}") from None
    return _decoded(octets, f"the file {path}").rstrip("\r\n")


async def _from_command(command: str, folder: Path | None) -> str:
    """Run without a shell: words are split as a shell would, but nothing is expanded, piped or redirected."""
    words = shlex.split(command)
    try:
        process = await asyncio.create_subprocess_exec(
            *words,
            cwd=folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as trouble:
        raise _Unusable(f"the command {words[0]} can't be run: {trouble.strerror}") from None
    octets = await _output_of(process, words[0])
    if process.returncode != 0 and len(octets) <= SECRET_OCTETS:  # more is cut short by killing it
        raise _Unusable(f"the command {words[0]} failed with exit status {process.returncode}")
    return _decoded(octets, f"what the command {words[0]} prints").strip()


async def _output_of(process: asyncio.subprocess.Process, name: str) -> bytes:
    assert process.stdout is not None
    octets, complete = b"", False
    try:
        async with asyncio.timeout(COMMAND_SECONDS):
            while len(octets) <= SECRET_OCTETS and (piece := await process.stdout.read(SECRET_OCTETS)):
                octets += piece
            if len(octets) <= SECRET_OCTETS:
                await process.wait()
                complete = True
    except TimeoutError:
        raise _Unusable(f"the command {name} gave no answer within {COMMAND_SECONDS:g} s") from None
    finally:
        if not complete:
            await _killed(process, process.stdout)
    return octets


async def _killed(process: asyncio.subprocess.Process, rest: asyncio.StreamReader) -> None:
    """End the command and its children: it leads a process group of its own."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(TimeoutError):
        async with asyncio.timeout(KILLED_SECONDS):
            while await rest.read(SECRET_OCTETS):  # a full pipe would keep wait() from ending
                pass
            await process.wait()


def _decoded(octets: bytes, what: str) -> str:
    if len(octets) > SECRET_OCTETS:
        raise _Unusable(f"{what} is longer than {SECRET_OCTETS} octets: is it the secret?")
    try:
        return octets.decode()
    except UnicodeDecodeError:
        raise _Unusable(f"{what} is not UTF-8 text") from None


def concealed(text: str, username: str, password: str) -> str:
    """Return what a server said without the password, should it quote what it was sent, whole or its beginning."""
    for sent in (f"\0{username}\0{password}", password):
        whole = b64encode(sent.encode()).decode()
        quoted = (whole[:length] for length in range(len(whole), QUOTED_LEAST, -1))
        if (found := next((part for part in quoted if part in text), None)) is not None:
            text = text.replace(found, CONCEALED)
    return text.replace(password, CONCEALED) if password else text
