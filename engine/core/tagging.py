"""What goes out in front of a message that was scanned, and what in its header would pass for that. Pure.

The names are those that SpamAssassin and Exchange use, so that rules which people have go on working. SpamAssassin knows one
verdict: of several scanners the one that counts most speaks (spam before not spam, then the higher score), and each
has a line of its own that names it. What a person let go on in spite of a finding is not called spam any more; that it
was released is told instead. A score, a rule or a signature is whatever a scanner wrote: one well-formed ASCII field comes of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from engine.core import renaming
from engine.core.headers import Octets
from engine.core.policy import Policy
from engine.core.renaming import SUBJECT
from engine.core.trace import LINE_LENGTH_CHARACTERS, date, words_of
from engine.core.verdict import WHATEVER_IS_SPAM, Passed, Redirected, ScannerPolicy, is_spam, judge
from store.findings import Finding
from store.life import Message

FLAG, SCORE, STATUS = "X-Spam-Flag", "X-Spam-Score", "X-Spam-Status"
SCL, VIRUS, RELEASED = "X-MS-Exchange-Organization-SCL", "X-Virus-Status", "X-Mailgate-Released"

TESTS: Final = 100  # rules named in a status; a scanner that hits more says no more by it
WORD_LIMIT_CHARACTERS: Final = 64  # of a rule, a signature or a scanner: no line comes near 998

_NOT_WORD = re.compile(r"""[^!-~]|[(),;"\[\]\\]""")

Told = tuple[Finding, ScannerPolicy]
Fields = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message as it goes out: lines of ours, then its beginning, then the rest, which is not copied.

    `tags` and `renamed` are names of fields, for the record.
    """

    lines: bytes
    beginning: bytes
    rest: Octets
    tags: tuple[str, ...] = ()
    renamed: tuple[str, ...] = ()


def outgoing(message: Message, octets: Octets, policy: Policy) -> Outgoing:
    """Return what goes out of a message, our trace aside."""
    told = _told(message, policy)
    fields = [*_spam(told), *_viruses(told), *_released(message)]
    prefix = next((s.subject_prefix for f, s in told if s.subject_prefix and _is_spam(f, s)), "").encode()
    begun = renaming.Beginning(b"", octets)
    if prefix or _tags(message, policy):
        begun = renaming.beginning(octets, hostname=policy.hostname, subject_prefix=prefix)
    if prefix and not begun.has_subject:
        fields.append((SUBJECT, prefix.decode()))
    return Outgoing(
        lines="".join(_folded(name, text) for name, text in fields).encode("ascii"),
        beginning=begun.octets,
        rest=begun.rest,
        tags=tuple(dict.fromkeys((*(name for name, _ in fields), *((SUBJECT,) if prefix else ())))),
        renamed=begun.renamed,
    )


def _tags(message: Message, policy: Policy) -> bool:
    """Whether a scanner of such messages ever writes a verdict: then its absence is one, too."""
    return any(
        message.direction in s.directions and (s.on_found in ("tag", "redirect") or s.on_unscannable == "tag")
        for s in policy.scanners
    )


def _told(message: Message, policy: Policy) -> tuple[Told, ...]:
    """Return the findings that are told in front of it, in the order of the scanners."""
    if not message.findings:
        return ()
    judgement = judge(message, policy.scanners)
    if not isinstance(judgement, Passed | Redirected):
        return ()
    findings = {f.scanner: f for f in message.findings}
    return tuple((findings[s.name], s) for s in policy.scanners if s.name in judgement.tagged)


def _is_spam(finding: Finding, scanner: ScannerPolicy) -> bool:
    return finding.verdict in ("clean", "spam") and is_spam(finding, scanner)


def _spam(told: tuple[Told, ...]) -> Fields:
    """What the scanners for spam say, the one that counts most first."""
    weighed = sorted((t for t in told if t[0].verdict in ("clean", "spam")), key=_weight, reverse=True)
    fields: Fields = []
    if weighed:
        finding, scanner = weighed[0]
        if _is_spam(finding, scanner):
            fields.append((FLAG, "YES"))
        if finding.score is not None:
            fields.append((SCORE, _number(finding.score)))
    fields += ((STATUS, _status(finding, scanner)) for finding, scanner in weighed)
    levels = [level for one in weighed if (level := _level(*one)) is not None]
    return [*fields, (SCL, str(max(levels)))] if levels else fields


def _weight(told: Told) -> tuple[bool, float]:
    score = told[0].score
    return _is_spam(*told), float("-inf") if score is None else score


def _level(finding: Finding, scanner: ScannerPolicy) -> int | None:
    """Return the spam confidence level of a score: that of the highest step not above it. No score is the lowest."""
    score = float("-inf") if finding.score is None else finding.score
    steps = [
        level
        for step, level in scanner.scl
        if (_is_spam(finding, scanner) if step == WHATEVER_IS_SPAM else step <= score)
    ]
    return steps[-1] if steps else None


def _status(finding: Finding, scanner: ScannerPolicy) -> str:
    words = ["Yes," if _is_spam(finding, scanner) else "No,"]
    if finding.score is not None:
        words.append(f"score={_number(finding.score)}")
    required = finding.threshold if scanner.threshold is None else scanner.threshold
    if required is not None:
        words.append(f"required={_number(required)}")
    names = [_word(symbol) for symbol in finding.symbols[:TESTS]]
    words.append(f"tests={','.join(names) or 'none'}")
    return " ".join([*words, f"scanner={_word(scanner.name)}"])


def _viruses(told: tuple[Told, ...]) -> Iterator[tuple[str, str]]:
    """What was found, or could not be looked into, and goes on all the same."""
    for finding, scanner in told:
        by = f"scanner={_word(scanner.name)}"
        if finding.verdict == "infected":
            yield VIRUS, f"Infected, signature={_word(finding.signature or 'unnamed')} {by}"
        elif finding.verdict == "unscannable":
            looks_for_spam = scanner.kind in ("spamd", "rspamd")
            yield (STATUS if looks_for_spam else VIRUS), f"Unscannable, {by}"


def _released(message: Message) -> Iterator[tuple[str, str]]:
    if message.released_at is not None:
        why = f" ({message.quarantined_why})" if message.quarantined_why else ""
        who = words_of(message.released_by or "")
        yield RELEASED, f"from quarantine{why} by {who} at {date(message.released_at)}"


def _number(value: float) -> str:
    """One digit behind the point at least, as SpamAssassin writes it, three at most."""
    written = f"{value:.3f}".rstrip("0")
    return f"{written}0" if written.endswith(".") else written


def _word(text: str) -> str:
    return _NOT_WORD.sub("_", text[:WORD_LIMIT_CHARACTERS]) or "unnamed"


def _folded(name: str, text: str) -> str:
    """A field with CRLF at its end, folded at white space, or behind the comma of a list as SpamAssassin does it."""
    if len(name) + len(": ") + len(text) <= LINE_LENGTH_CHARACTERS:
        return f"{name}: {text}\r\n"
    lines = [f"{name}:"]
    for word in text.split(" "):
        for number, piece in enumerate(re.findall(r"[^,]*,|[^,]+", word)):
            joint = "" if number else " "
            if len(lines[-1]) + len(joint + piece) > LINE_LENGTH_CHARACTERS:
                lines.append(f"\t{piece}")
            else:
                lines[-1] += joint + piece
    return "\r\n".join([*lines, ""])
