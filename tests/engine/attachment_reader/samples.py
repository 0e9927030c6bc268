"""Messages with a file in them, each hiding it in another way; and mail that has none that is meant."""

import base64
import io
import zipfile
from collections.abc import Iterable

EXE = b"not a program, only called one\r\n"
CRLF = b"\r\n"
# To read this takes minutes: boundaries within boundaries are looked for in every line.
SLOW = (
    b"Subject: slow\r\n"
    + b"".join(f"Content-Type: multipart/mixed; boundary=b{n}\r\n\r\n--b{n}\r\n".encode() for n in range(300))
    + b"\r\n"
    + b"--a\r\n" * 90_000
    + b"x\r\n" * 800_000
)


def message(*headers: str | bytes, body: bytes = b"") -> bytes:
    """A message with these header lines behind the usual ones."""
    usual = [b"From: a@elsewhere.example", b"To: info@example.com", b"Subject: look", b"MIME-Version: 1.0"]
    lines = usual + [line.encode() if isinstance(line, str) else line for line in headers]
    return CRLF.join(lines) + CRLF * 2 + body


def part(*headers: str | bytes, body: bytes = EXE) -> bytes:
    """A part with these header lines."""
    lines = [line.encode() if isinstance(line, str) else line for line in headers]
    return CRLF.join(lines) + CRLF * 2 + body


def mixed(
    *parts: bytes, boundary: str = "b", kind: str = "multipart/mixed; boundary=b", end: bool = True
) -> bytes:
    """A message of several parts, the first of them a text."""
    text = part("Content-Type: text/plain", body=b"see below\r\n")
    delimiter = b"--" + boundary.encode() + CRLF
    body = b"".join(delimiter + one + CRLF for one in (text, *parts))
    return message(
        f"Content-Type: {kind}", body=body + (b"--" + boundary.encode() + b"--\r\n" if end else b"")
    )


def named(*lines: str | bytes, body: bytes = EXE) -> bytes:
    """A message whose one attachment has these header lines."""
    return mixed(part(*lines, body=body))


def disposed(parameters: str | bytes) -> bytes:
    """A message whose one attachment has these parameters in its Content-Disposition."""
    written = parameters.encode() if isinstance(parameters, str) else parameters
    return named("Content-Type: application/octet-stream", b"Content-Disposition: attachment; " + written)


def in_base64(octets: bytes) -> bytes:
    return base64.encodebytes(octets).replace(b"\n", CRLF)


def attached(name: str, octets: bytes) -> bytes:
    """A message with this file, as mail programs write it."""
    return mixed(attached_part(name, octets))


def attached_part(name: str, octets: bytes) -> bytes:
    """The part that is this file."""
    return part(
        f'Content-Type: application/octet-stream; name="{name}"',
        "Content-Transfer-Encoding: base64",
        f'Content-Disposition: attachment; filename="{name}"',
        body=in_base64(octets),
    )


def zipped(*names: str, content: bytes = EXE, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip archive of files with these names."""
    return zip_of(((name, content) for name in names), method)


def zip_of(files: Iterable[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as archive:
        for name, content in files:
            archive.writestr(name, content)
    return target.getvalue()


def word(text: str, encoding: str = "B", charset: str = "utf-8") -> str:
    """An encoded word (RFC 2047)."""
    octets = text.encode(charset)
    coded = (
        base64.b64encode(octets).decode() if encoding == "B" else "".join(f"={octet:02X}" for octet in octets)
    )
    return f"=?{charset}?{encoding}?{coded}?="


def percent(octets: bytes) -> str:
    return "".join(f"%{octet:02x}" for octet in octets)
