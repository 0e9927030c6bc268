"""A file that is meant is found, however its sender hides it; and what is not meant is left alone."""

import binascii
import struct
import time
import zipfile

import pytest

from engine.attachment_reader.reading import read
from engine.core.attachments import Rules, is_plain
from tests.engine.attachment_reader.samples import (
    CRLF,
    EXE,
    attached,
    attached_part,
    disposed,
    in_base64,
    message,
    mixed,
    named,
    part,
    percent,
    word,
    zip_of,
    zipped,
)

RULES = Rules(
    ("*.exe", "*.js", "*/vbaproject.bin", "setup.*"), ("application/x-msdownload", "application/hta")
)
PLAIN_FILE = part("Content-Type: application/octet-stream; name=evil.exe")
NESTED = part("Content-Type: message/rfc822", body=attached("evil.exe", EXE))
UU = b"begin 644 evil.exe\r\n" + binascii.b2a_uu(EXE[:40]) + b"`\r\nend\r\n"


def deep(count: int) -> bytes:
    """Multiparts in multiparts; the file lies in the innermost."""
    outer = (f"Content-Type: multipart/mixed; boundary=b{n}\r\n\r\n--b{n}\r\n".encode() for n in range(count))
    return b"".join(outer) + PLAIN_FILE


NAMES = {
    "as usual": disposed('filename="invoice.exe"'),
    "type only": named("Content-Type: application/octet-stream; name=invoice.exe"),
    "upper case": disposed('FILENAME="INVOICE.EXE"'),
    "no quotes": disposed("filename=in voice.exe"),
    "no quotes, and more": disposed("filename=invoice.exe; size=1"),
    "no quotes, with a semicolon": disposed("filename=a;b.exe"),
    "quote without end": disposed('filename="invoice.exe'),
    "single quotes": disposed("filename='invoice.exe'"),
    "quote too early": disposed('filename="invoice".exe'),
    "two quotes": disposed('filename=""invoice.exe""'),
    "escaped quote": disposed(r'filename="in\"voice.exe"'),
    "escaped letter": disposed(r'filename="invoice.e\xe"'),
    "escaped end": disposed('filename="invoice.exe\\"'),
    "white space around": disposed('filename = "invoice.exe "'),
    "dot at the end": disposed('filename="invoice.exe."'),
    "dots and spaces": disposed('filename="invoice.exe . ."'),
    "no-break space at the end": disposed('filename="invoice.exe\u00a0"'),
    "stream": disposed('filename="invoice.exe::$DATA"'),
    "double extension": disposed('filename="invoice.pdf.exe"'),
    "many spaces": disposed(f'filename="invoice.pdf{" " * 300}.exe"'),
    "a very long name": disposed(f'filename="{"x" * 70_000}.exe"'),
    "NUL behind": disposed(b'filename="invoice.exe\0.pdf"'),
    "NUL within": disposed(b'filename="invoice.e\0xe"'),
    "tab within": disposed(b'filename="invoice.e\txe"'),
    "right to left": disposed('filename="invoice\u202efdp.exe"'),
    "right to left at the end": disposed('filename="invoice.exe\u202e"'),
    "zero width": disposed('filename="invoice.e\u200bxe"'),
    "soft hyphen": disposed('filename="invoice.ex\u00ade"'),
    "full width": disposed('filename="invoice．ｅｘｅ"'),
    "percent": disposed("filename=invoice%2Eexe"),
    "path": disposed(r'filename="C:\temp\setup.bin"'),
    "path with slashes": disposed('filename="../../setup.bin"'),
    "drive": disposed('filename="C:invoice.exe"'),
    "encoded word": disposed(f"filename={word('invoice.exe')}"),
    "encoded word in quotes": disposed(f'filename="{word("invoice.exe", "Q")}"'),
    "encoded word with a language": disposed("filename==?utf-8*en?Q?invoice.exe?="),
    "encoded words": disposed(f'filename="{word("invoice.")} {word("exe")}"'),
    "encoded words, folded": disposed(f'filename="{word("invoice.e")}\r\n {word("xe")}"'),
    "encoded word in part": disposed(f'filename="invoice.{word("exe")}"'),
    "encoded word without end": disposed("filename==?utf-8?Q?invoice.exe"),
    "encoded word in UTF-7": disposed("filename==?utf-7?Q?invoice+AC4-exe?="),
    "encoded word in UTF-16": disposed(f"filename={word('invoice.exe', 'B', 'utf-16')}"),
    "encoded word, no padding": disposed("filename==?utf-8?B?aW52b2ljZS5leGU?="),
    "encoded word in no charset": disposed("filename==?nothing?Q?invoice.exe?="),
    "encoded words in extended": disposed(f"filename*=utf-8''{percent(word('a.exe').encode())}"),
    "encoded whole": named(f"Content-Disposition: {word('attachment; filename=invoice.exe')}"),
    "extended": disposed("filename*=utf-8''invoice%2Eexe"),
    "extended in UTF-16": disposed(f"filename*=utf-16''{percent('invoice.exe'.encode('utf-16'))}"),
    "extended in no charset": disposed("filename*=nothing''invoice.exe"),
    "extended without charset": disposed("filename*=invoice.exe"),
    "extended with one apostrophe": disposed("filename*=utf-8'invoice.exe"),
    "extended in quotes": disposed("filename*=\"utf-8''invoice.exe\""),
    "continued": disposed('filename*0="invoice"; filename*1=".exe"'),
    "continued, folded": disposed('filename*0="invo";\r\n filename*1="ice.exe"'),
    "continued, out of order": disposed('filename*1=".exe"; filename*0="invoice"'),
    "continued, encoded": disposed("filename*0*=utf-8''invoice; filename*1*=%2Eexe"),
    "continued, in part encoded": disposed("filename*0*=utf-8''invoice%2E; filename*1=exe"),
    "continued from 1": disposed('filename*1="invoice"; filename*2=".exe"'),
    "continued with a gap": disposed('filename*0="invoice"; filename*5=".exe"'),
    "continued with leading zeros": disposed('filename*00="invoice"; filename*01=".exe"'),
    "continued twice, first": disposed('filename*0="a.e"; filename*0="b"; filename*1="xe"'),
    "continued twice, last": disposed('filename*0="b"; filename*0="a.e"; filename*1="xe"'),
    "continued among others": disposed('filename*0="a.e"; name*0="b"; filename*1="xe"; name*1="c"'),
    "spaces in a continuation": disposed('filename *0 = "invoice."; filename *1 = "exe"'),
    "comment": disposed('filename (that is) = "invoice.exe"'),
    "comment before": named('Content-Disposition: attachment (x; y); filename="invoice.exe"'),
    "name disagrees": named(
        'Content-Type: application/pdf; name="invoice.pdf"',
        'Content-Disposition: inline; filename="invoice.exe"',
    ),
    "filename disagrees": named(
        'Content-Type: application/pdf; name="invoice.exe"',
        'Content-Disposition: inline; filename="invoice.pdf"',
    ),
    "twice, first": disposed('filename="invoice.exe"; filename="invoice.pdf"'),
    "twice, last": disposed('filename="invoice.pdf"; filename="invoice.exe"'),
    "extended against plain": disposed("filename=invoice.pdf; filename*=utf-8''invoice.exe"),
    "two dispositions": named(
        "Content-Disposition: inline; filename=a.pdf", "Content-Disposition: x; filename=a.exe"
    ),
    "two types": named("Content-Type: a/b; name=a.exe", "Content-Type: a/b; name=a.pdf"),
    "no disposition type": named("Content-Disposition: filename=invoice.exe"),
    "description": named("Content-Type: application/octet-stream", "Content-Description: invoice.exe"),
    "location": named(
        "Content-Type: application/octet-stream", "Content-Location: http://x.example/a/b.exe?c=d"
    ),
    "folded": disposed('\r\n\tfilename="invoice.exe"'),
    "folded within": disposed('filename="invoice.\r\n exe"'),
    "folded behind the colon": named("Content-Disposition:\r\n attachment;\r\n filename=invoice.exe"),
    "not ASCII": disposed('filename="Übersicht.exe"'),
    "not UTF-8": disposed(b'filename="\xdcbersicht.exe"'),
}

STRUCTURES = {
    "the whole message": message("Content-Type: application/octet-stream; name=evil.exe", body=EXE),
    "no MIME-Version": attached("evil.exe", EXE).replace(b"MIME-Version: 1.0\r\n", b""),
    "text": message("Content-Type: text/plain; name=evil.exe", body=EXE),
    "nested": mixed(NESTED),
    "nested twice": mixed(part("Content-Type: message/rfc822", body=mixed(NESTED))),
    "nested in base64": mixed(
        part(
            "Content-Type: message/rfc822",
            "Content-Transfer-Encoding: base64",
            body=in_base64(mixed(PLAIN_FILE)),
        )
    ),
    "nested as a file": attached("mail.eml", mixed(PLAIN_FILE)),
    "multipart in base64": mixed(
        part(
            "Content-Type: multipart/mixed; boundary=c",
            "Content-Transfer-Encoding: base64",
            body=in_base64(b"--c\r\n" + PLAIN_FILE + b"\r\n--c--\r\n"),
        )
    ),
    "message/partial": message(
        "Content-Type: message/partial; id=a; number=1; total=2", body=attached("evil.exe", EXE)
    ),
    "without end": mixed(PLAIN_FILE, end=False),
    "cut off in the header": mixed(
        part("Content-Type: application/x; name=evil.exe", body=b"")[:-4], end=False
    ),
    "behind the end": mixed() + b"--b\r\n" + PLAIN_FILE,
    "before the first": message(
        "Content-Type: multipart/mixed; boundary=b", body=b"--c\r\n" + PLAIN_FILE + b"\r\n--b\r\n\r\n--b--"
    ),
    "empty boundary": mixed(PLAIN_FILE, boundary="", kind='multipart/mixed; boundary=""'),
    "no boundary": mixed(PLAIN_FILE, kind="multipart/mixed"),
    "two boundaries": mixed(PLAIN_FILE, kind="multipart/mixed; boundary=c; boundary=b"),
    "boundary with a comment": mixed(PLAIN_FILE, kind="multipart/mixed; boundary=(x)b"),
    "boundary in RFC 2231": mixed(PLAIN_FILE, kind="multipart/mixed; boundary*=us-ascii''b"),
    "boundary continued": mixed(
        PLAIN_FILE, boundary="bb", kind="multipart/mixed; boundary*0=b; boundary*1=b"
    ),
    "boundary with an odd end": mixed(PLAIN_FILE).replace(b"--b\r\n", b"--b x\r\n"),
    "boundary in another case": mixed(PLAIN_FILE, boundary="B"),
    "two types of the message": mixed(PLAIN_FILE).replace(
        b"\r\nContent-Type", b"\r\nContent-Type: text/plain\r\nContent-Type", 1
    ),
    "two types, the other way": mixed(PLAIN_FILE).replace(
        b"boundary=b\r\n", b"boundary=b\r\nContent-Type: text/plain\r\n", 1
    ),
    "not the type it has": mixed(PLAIN_FILE, kind="multipart; boundary=b"),
    "space before the colon": mixed(part("Content-Disposition : attachment; filename=evil.exe")),
    "space before the message's colon": mixed(PLAIN_FILE).replace(
        b"\r\nContent-Type:", b"\r\nContent-Type :", 1
    ),
    "lines end with LF": mixed(PLAIN_FILE).replace(b"\r\n", b"\n"),
    "lines end with CR": mixed(PLAIN_FILE).replace(b"\r\n", b"\r"),
    "NUL in the header": mixed(PLAIN_FILE).replace(b"Subject: look", b"Sub\0ject: look\r\n\0: x"),
    "a line that is no field": mixed(PLAIN_FILE).replace(b"Subject: look", b"this is no field"),
    "begins with an mbox line": b"From a@b Thu Jan  1 00:00:00 1970\r\n" + mixed(PLAIN_FILE),
    "begins with a quoted mbox line": b">From a@b Thu Jan  1 00:00:00 1970\r\n" + mixed(PLAIN_FILE),
    "begins with white space": b" \r\n" + mixed(PLAIN_FILE),
    "a line of white space in the header": mixed(PLAIN_FILE).replace(b"Subject: look", b"Subject: look\r\n "),
    "fields folded at once": mixed(part("Content-Type: a/b", " ; name=evil.exe")),
    "many parts": mixed(*[part("Content-Type: text/plain")] * 500, PLAIN_FILE),
    "deep": deep(100),
    "deeper than the parser goes": deep(3000),
    "uuencode": message(body=b"hello\r\n" + UU),
    "uuencode first": message("Content-Type: text/plain", body=UU),
    "uuencode in base64": message(
        "Content-Type: text/plain", "Content-Transfer-Encoding: base64", body=in_base64(b"hello\n" + UU)
    ),
    "uuencode in quoted-printable": message(
        "Content-Type: text/plain",
        "Content-Transfer-Encoding: quoted-printable",
        body=UU.replace(b"begin", b"=62egin"),
    ),
    "uuencode in a part": mixed(part("Content-Type: text/plain", body=b"x\r\n" + UU)),
    "uuencode before the first part": mixed().replace(b"\r\n\r\n", b"\r\n\r\n" + UU, 1),
    "uuencode in base64 of POSIX": message(body=b"begin-base64 644 evil.exe\r\nAAAA\r\n====\r\n"),
    "yEnc": message(body=b"=ybegin line=128 size=3 name=evil.exe\r\nabc\r\n=yend size=3\r\n"),
}

CONTENTS = {
    "zip": attached("a.zip", zipped("docs/invoice.pdf.exe")),
    "zip called otherwise": attached("a.pdf", zipped("evil.exe")),
    "zip without a name": named("Content-Transfer-Encoding: base64", body=in_base64(zipped("evil.exe"))),
    "zip in binary": named("Content-Type: application/zip", body=zipped("evil.exe")),
    "zip, stored": attached("a.zip", zipped("evil.exe", method=zipfile.ZIP_STORED)),
    "zip in zip": attached("a.zip", zip_of([("b.zip", zipped("evil.exe"))])),
    "zip in zip, called otherwise": attached("a.zip", zip_of([("b.dat", zipped("evil.exe"))])),
    "zip in zip, stored": attached("a.zip", zip_of([("b.zip", zipped("evil.exe"))], zipfile.ZIP_STORED)),
    "zip behind other octets": attached("a.zip", b"x" * 5000 + zipped("evil.exe")),
    "zip before other octets": attached("a.zip", zipped("evil.exe") + b"x" * 5000),
    "two zips": attached("a.zip", zipped("evil.exe") + zipped("a.txt")),
    "zip without directory": attached("a.zip", zipped("evil.exe").partition(b"PK\1\2")[0]),
    "zip, directory only": attached("a.zip", b"".join(zipped("evil.exe").partition(b"PK\1\2")[1:])),
    "zip whose directory says otherwise": attached(
        "a.zip", zipped("evil.exe").replace(b"evil.exe", b"good.txt", 1)
    ),
    "zip whose files say otherwise": attached(
        "a.zip", b"evil.exe".join(zipped("good.txt").rsplit(b"good.txt", 1))
    ),
    "zip with the encrypted bit": attached(
        "a.zip", zipped("evil.exe").replace(b"PK\3\4\x14\0\0\0", b"PK\3\4\x14\0\1\0")
    ),
    "zip with backslashes": attached("a.zip", zipped("evil.exe").replace(b"evil.exe", b"\\vil.exe")),
    "zip with a dot at the end": attached("a.zip", zipped("evil.exe. ")),
    "zip, base64 with rubbish": named(
        "Content-Transfer-Encoding: base64",
        body=b"!!" + b"\r\n*".join(in_base64(zipped("evil.exe")).split(b"\r\n")),
    ),
    "zip, base64 in pieces": named(
        "Content-Transfer-Encoding: base64",
        body=binascii.b2a_base64(b"PK\3\4") + binascii.b2a_base64(zipped("evil.exe")[4:]),
    ),
    "zip, base64 cut off": named(
        "Content-Transfer-Encoding: base64", body=in_base64(zipped("evil.exe"))[:-7]
    ),
    "zip, odd encoding": named('Content-Transfer-Encoding: "BASE64" (x)', body=in_base64(zipped("evil.exe"))),
    "zip, two encodings": named(
        "Content-Transfer-Encoding: 7bit",
        "Content-Transfer-Encoding: base64",
        body=in_base64(zipped("evil.exe")),
    ),
    "zip in quoted-printable": named(
        "Content-Transfer-Encoding: quoted-printable", body=binascii.b2a_qp(zipped("evil.exe"), istext=False)
    ),
    "zip in uuencode": message(
        body=b"begin 644 a.zip\n"
        + b"".join(binascii.b2a_uu(zipped("evil.exe")[n : n + 45]) for n in range(0, 200, 45))
        + b"`\nend\n"
    ),
    "macros": attached("a.docx", zipped("[Content_Types].xml", "word/vbaProject.bin")),
    "macros in a zip": attached("a.zip", zip_of([("a.docx", zipped("word/vbaProject.bin"))])),
}

TYPES = {
    "as usual": named("Content-Type: application/x-msdownload"),
    "upper case": named("Content-Type: APPLICATION/X-MsDownload; name=a.pdf"),
    "white space": named("Content-Type: application / x-msdownload"),
    "comment": named("Content-Type: application/(x)x-msdownload"),
    "quotes": named('Content-Type: "application/x-msdownload"'),
    "folded": named("Content-Type:\r\n application/x-msdownload"),
    "twice": named("Content-Type: text/plain", "Content-Type: application/hta"),
    "encoded": named(f"Content-Type: {word('application/hta')}"),
    "by its first octets": attached("a.pdf", b"MZ\x90\0" + bytes(100)),
    "by its first octets, in uuencode": message(
        body=b"begin 644 a.pdf\n" + binascii.b2a_uu(b"MZ\x90\0") + b"`\nend\n"
    ),
    "the whole message": message("Content-Type: application/hta", body=EXE),
}

HARMLESS = {
    "text": message(body=b"evil.exe is a name\r\n"),
    "text in parts": mixed(part("Content-Type: text/html", body=b"<p>name=evil.exe\r\n")),
    "report": mixed(part("Content-Type: message/delivery-status", body=b"Action: failed\r\n")),
    "picture": attached("evil.exe.png", b"\x89PNG" + bytes(1000)),
    "document": attached("a.docx", zipped("[Content_Types].xml", "word/document.xml")),
    "zip": attached("a.zip", zipped("docs/readme.txt", "exe")),
    "zip in zip in zip": attached("a.zip", zip_of([("b.zip", zip_of([("c.zip", zipped("evil.exe"))]))])),
    "other names": disposed('filename="Rechnung März (2).exe.pdf"'),
    "subject": message("Subject: evil.exe", "Content-Type: text/plain; charset=utf-8"),
    "source of a message in a text": message("Content-Type: text/plain", body=mixed(PLAIN_FILE)),
    "begins": message(body=b"begin with evil.exe\r\nbegin 644\r\n"),
}


def in_zip(octets: bytes) -> bytes:
    return zip_of([("b.zip", octets)])


def entries(count: int, name: bytes, extra_octets: int = 0) -> bytes:
    """Local headers of a zip archive, each of which says that its extra field is so long."""
    names = [name + b"%04d" % number for number in range(count)]
    lengths = struct.pack("<HH", len(name) + 4, extra_octets)
    return b"".join(b"PK\3\4" + bytes(22) + lengths + one for one in names)


END = b"PK\5\6" + bytes(18)
OVERLAPPING = (entries(300, b"a", 0xFFFF) + bytes(0xFFFF)) * 100 + END
MARKS = ("\u0301" * 1024 + "\u0327" * 1024).encode()  # which are put into order one by one
FORWARDED = b"Content-Type: message/rfc822; name=a.eml\r\n\r\n"
COSTLY = {
    "extra fields on each other": attached("a.zip", in_zip(OVERLAPPING)),
    "many marks": attached("a.zip", in_zip(entries(1_900, MARKS) + END)),
    "many marks again and again": attached("a.zip", zip_of([(MARKS.decode(), entries(9_999, b"a") + END)])),
    "spaces behind a name": named("Content-Type: text/plain; name" + " " * 200_000 + "x"),
    "punycode": named("Content-Type: a/b; name*=punycode'x'" + "%61" * 60_000 + "-" + "b9" * 400_000),
    "messages in messages": mixed(FORWARDED * 100 + b"x" * 200_000),
}
COSTLY_SECONDS = 20  # of the processor; each of them took minutes


def cases(group: dict[str, bytes]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "octets", [pytest.param(octets, id=name) for name, octets in group.items()]
    )


@cases({**NAMES, **STRUCTURES, **CONTENTS})
def test_a_name_that_is_meant_is_found(octets: bytes) -> None:
    answer = read(octets, RULES, archives=True)
    assert answer.rule is not None
    assert answer.rule.startswith("name ")
    assert answer.files
    assert all(file.isprintable() and len(file) < 500 for file in answer.files)
    assert not is_plain(octets, RULES)


@cases(TYPES)
def test_a_type_that_is_meant_is_found(octets: bytes) -> None:
    answer = read(octets, RULES, archives=True)
    assert answer.rule in ("type application/x-msdownload", "type application/hta")
    assert not is_plain(octets, RULES)


@cases(HARMLESS)
def test_what_is_not_meant_is_left_alone(octets: bytes) -> None:
    answer = read(octets, RULES, archives=True)
    assert (answer.rule, answer.unread) == (None, "")


def test_without_archives_the_names_in_them_are_not_looked_at() -> None:
    for name in ("zip", "zip in zip", "zip without directory"):
        answer = read(CONTENTS[name], RULES, archives=False)
        assert (answer.rule, answer.unread) == (None, "")


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        (attached("a.zip", zipped("a.txt").partition(b"PK\1\2")[0]), "a.zip has no directory at its end"),
        (attached("a.zip", b"rubbish"), "a.zip is no zip archive"),
        (named("Content-Type: application/zip", body=EXE), "a part without a name is no zip archive"),
        (
            attached("a.zip", zipped("a.txt", "b.txt").replace(b"PK\1\2", b"PK\1\3", 1)),
            "a.zip has a damaged directory",
        ),
        (attached("a.zip", zipped(*map(str, range(10_001)))), "a.zip has more than 10000 entries"),
        (
            attached("a.zip", zip_of([("b.zip", zipped("a.txt", content=bytes(9 << 20), method=0))])),
            "a.zip an archive in it is too large to look into",
        ),
        (deep(3000).replace(b"evil.exe", b"good.txt"), "the message is nested too deeply"),
        (mixed(part("Content-Type: text/plain", body=CRLF * 1_000_001)), "the message has too many lines"),
        (mixed(part("Content-Type: text/plain", body=b"--\r\n" * 100_001)), "the message has too many parts"),
    ],
)
def test_what_can_not_be_read_is_said(octets: bytes, why: str) -> None:
    answer = read(octets, RULES, archives=True)
    assert (answer.rule, answer.unread) == (None, why)


def test_what_is_wrong_with_the_structure_is_said_and_harms_nothing() -> None:
    answer = read(mixed(end=False), RULES, archives=True)
    assert (answer.rule, answer.unread, answer.wrong) == (None, "", ("CloseBoundaryNotFound",))


@pytest.mark.parametrize(
    ("octets", "file"),
    [
        (NAMES["as usual"], "invoice.exe"),
        (NAMES["encoded words"], "invoice.exe"),
        (NAMES["right to left"], "invoice\\u202efdp.exe"),
        (CONTENTS["zip"], "docs/invoice.pdf.exe in a.zip"),
        (CONTENTS["zip in zip"], "b.zip/evil.exe in a.zip"),
        (STRUCTURES["uuencode"], "evil.exe"),
        (TYPES["as usual"], "a part without a name"),
    ],
)
def test_the_file_is_named_as_it_is_read(octets: bytes, file: str) -> None:
    assert read(octets, RULES, archives=True).files[0] == file


@pytest.mark.parametrize("octets", list(COSTLY.values()), ids=list(COSTLY))
def test_a_small_message_is_read_in_little_time(octets: bytes) -> None:
    began = time.process_time()
    answer = read(octets, RULES, archives=True)
    assert time.process_time() - began < COSTLY_SECONDS
    assert answer.rule is None


def test_archives_that_are_too_much_hide_nothing_else() -> None:
    bomb, evil = in_zip(OVERLAPPING), zipped("evil.exe")
    parts = [part("Content-Type: application/zip; name=a.zip", body=octets) for octets in (bomb, evil)]
    answer = read(mixed(*parts), RULES, archives=True)
    assert answer.unread == "a.zip an archive in it has too much in it to look into"
    assert (
        read(mixed(*parts, part("Content-Type: a/b; name=b.exe")), RULES, archives=True).rule == "name *.exe"
    )


def test_many_files_in_several_archives_are_no_more_than_is_looked_into() -> None:
    names = [f"a folder/of some length/{number} with a name of its own.txt" for number in range(10_000)]
    full = [attached_part(f"{n}.zip", zipped(f"{n}.txt", *names[1:], content=b"")) for n in range(3)]
    answer = read(mixed(*full, attached_part("last.zip", zipped("evil.exe"))), RULES, archives=True)
    assert (answer.files, answer.unread) == (("evil.exe in last.zip",), "")
