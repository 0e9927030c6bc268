"""One mail transaction over one connection, from the ports' words to SMTP and back.

Owns the streaming of the content, the one point after which nobody may know what became of a message, what each
reply means for each recipient, and who is to be asked again where the server hung up. 8-bit content goes out as it
is even where 8BITMIME isn't offered: RFC 6152 wants it converted or bounced, but converting breaks signatures,
bouncing loses mail, and servers that can't do eight bits are gone ("just send eight"). SMTPUTF8 is said for an address
that needs it and for whoever asked for it, not for a header in UTF-8 alone: every server behind the next one would have to
offer it then, and mail that any of them takes as it is would come back from there. Never retries and never chooses a
connection.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Literal

from engine.adapters.smtp_line import Peer, SmtpLine
from engine.adapters.smtp_measured import Measured, refused_without_smtputf8, too_large
from engine.ports import Answer, LeftOut, NoAnswer, Reply
from engine.wire import smtp_reply
from engine.wire.smtp import ACCESS_FIRST, Dialogue, ascii_orcpt, mail_command, rcpt_command
from engine.wire.smtp_content import Stuffing

Scope = Literal["next-hop", "message", "recipient"]


class Delivery:
    """One attempt. `run` it, then read `answers`, or `never_began` and try on another connection.

    `answered` are those who need not be asked, by their place; `order` is that of the others, if not the usual one.
    """

    def __init__(
        self,
        line: SmtpLine,
        measured: Measured,
        answered: Mapping[int, Answer],
        order: Sequence[int] | None = None,
    ) -> None:
        self._line = line
        self._measured = measured
        transaction = measured.transaction
        offers = line.peer.offers
        self._answered: dict[int, Answer] = dict(answered)
        if "SMTPUTF8" not in offers:
            self._answered = {**refused_without_smtputf8(measured), **answered}
        limit_octets, size_octets = line.peer.size_octets, measured.survey.size_octets
        if limit_octets is not None and size_octets > limit_octets:
            self._answered = {**too_large(transaction, size_octets, limit_octets), **self._answered}
        places = range(len(transaction.recipients)) if order is None else order
        self._asked = [place for place in places if place not in self._answered]
        self._dot_sent = False
        self._dialogue = Dialogue(
            mail=self._mail(),
            recipients=[self._rcpt(place) for place in self._asked],
            pipelining="PIPELINING" in offers,
            reset=line.reset_first,
        )

    def _rcpt(self, place: int) -> bytes:
        transaction, offers = self._measured.transaction, self._line.peer.offers
        wish = transaction.wish
        if wish is None or "DSN" not in offers:
            return rcpt_command(transaction.recipients[place])
        orcpt = wish.orcpt[place] if wish.orcpt else ""
        return rcpt_command(
            transaction.recipients[place],
            notify=wish.notify[place] if wish.notify else "",
            orcpt=orcpt if "SMTPUTF8" in offers else ascii_orcpt(orcpt),
        )

    def _mail(self) -> bytes:
        transaction, survey = self._measured.transaction, self._measured.survey
        offers = self._line.peer.offers
        wish = transaction.wish if "DSN" in offers else None
        utf8 = "SMTPUTF8" in offers and (
            transaction.smtputf8
            or not transaction.reverse_path.isascii()
            or any(not transaction.recipients[place].isascii() for place in self._asked)
        )
        return mail_command(
            transaction.reverse_path,
            size_octets=survey.size_octets if "SIZE" in offers else None,
            eight_bit=survey.eight_bit and "8BITMIME" in offers,
            utf8=utf8,
            ret=wish.ret if wish else None,
            envid=wish.envid if wish else None,
        )

    async def run(self, before_dot: Callable[[], Awaitable[None]]) -> bool:
        """True where the connection may be used again. Raises what `before_dot` raises, without the dot."""
        if not self._asked:
            return True
        try:
            await self._line.open(self._dialogue)
            if self._line.trouble is None and self._dialogue.phase == "content":
                await self._content(before_dot)
        except BaseException:
            self._line.drop()
            raise
        return self._line.close_dialogue()

    async def _content(self, before_dot: Callable[[], Awaitable[None]]) -> None:
        stuffing = Stuffing(mend=self._measured.survey.lone_line_ends > 0)
        last = b""
        if self._measured.whole is not None:
            last = stuffing.feed(self._measured.whole)
        else:
            for chunk in self._measured.chunks():
                if not await self._line.send(stuffing.feed(chunk)):
                    return
        await before_dot()
        self._dot_sent = await self._line.end(last + stuffing.finish())
        final = self._dialogue.final_reply
        self._line.took_mail = self._line.took_mail or (final is not None and final.positive)

    @property
    def never_began(self) -> bool:
        """True where the connection turned out to be gone before the server took even MAIL."""
        reply = self._dialogue.mail_reply
        return bool(self._asked) and (
            (reply is None and (self._line.trouble is not None or self._dialogue.farewell is not None))
            or (reply is not None and reply.code == 421)
        )

    @property
    def peer(self) -> Peer:
        """Who was spoken to."""
        return self._line.peer

    @property
    def to_ask_again(self) -> list[int]:
        """Whom to ask on another connection where the server hung up amid the envelope; nobody where that were all the same.

        Whoever was accepted, for without the others he gets through; else whoever had no turn, in any order, lest the same
        one stand in front of the others each time.
        """
        if not self._cut_short:
            return []
        replies = self._dialogue.recipient_replies
        accepted = [place for place, reply in zip(self._asked, replies, strict=False) if reply.positive]
        blamed = len(replies) if replies and replies[-1].code == 421 else len(replies) + 1
        rest = self._asked[blamed:]
        again = accepted or random.sample(rest, len(rest))
        return again if len(again) < len(self._asked) else []

    @property
    def _cut_short(self) -> bool:
        """Whether the server hung up on an envelope that it had begun to take."""
        dialogue = self._dialogue
        begun = dialogue.mail_reply is not None and dialogue.mail_reply.positive
        finished = dialogue.data_reply is not None and dialogue.data_reply.code != 421
        hung_up = dialogue.farewell is not None or self._line.hung_up
        return begun and hung_up and not finished and not self._line.garbled

    @property
    def wish_passed_on(self) -> bool:
        """Whether the server was told what the client wants reported (RFC 3461 section 5.2.1)."""
        return self._measured.transaction.wish is not None and "DSN" in self._line.peer.offers

    @property
    def not_taken(self) -> Reply | None:
        """Why the server took not even MAIL, but may take it later, or another may now; None where it did or never will."""
        reply = self._dialogue.mail_reply
        if self.never_began or (self._asked and reply is not None and 400 <= reply.code < 500):
            answer = self._asked_answers()[0]
            return answer if isinstance(answer, Reply) else None
        return None

    def answers(self) -> tuple[Answer, ...]:
        """One answer for each recipient of the transaction, in their order."""
        answers = dict(self._answered)
        answers.update(zip(self._asked, self._asked_answers(), strict=True))
        return tuple(answers[place] for place in range(len(answers)))

    def _asked_answers(self) -> list[Answer]:
        dialogue, count = self._dialogue, len(self._asked)
        if self._line.garbled and not self._dot_sent:
            # Some reply was one too many, and nobody knows which: none of them counts.
            return [self._lost()] * count
        if dialogue.mail_reply is not None and dialogue.mail_reply.negative:
            return [self._for_want_of_tls(self._envelope_answer(dialogue.mail_reply, "message"))] * count
        rest = self._fate_of_accepted()
        replies = [self._recipient_answer(reply) for reply in dialogue.recipient_replies]
        return [answer or rest for answer in replies] + [rest] * (count - len(replies))

    def _fate_of_accepted(self) -> Answer:
        """What came of the recipients that weren't refused by RCPT."""
        dialogue = self._dialogue
        if dialogue.final_reply is not None:
            return _ours(dialogue.final_reply, "message")
        if self._dot_sent:
            return NoAnswer(f"{self._line.peer.where}: {self._line.trouble or 'no answer to the final dot'}")
        if self._cut_short:
            # Whoever took MAIL was well until these recipients came: if it is the next hop, the next message will show it.
            return LeftOut(self._hung_up())
        if dialogue.data_reply is not None and dialogue.data_reply.negative:
            return _ours(dialogue.data_reply, "message")
        if dialogue.farewell is not None:
            return _ours(dialogue.farewell, "next-hop")
        if dialogue.interruption is not None:
            said = f"{dialogue.interruption.code} {dialogue.interruption.text}"
            return Reply(None, f"4.5.0 given up before the final dot: {said}", "4.5.0", "message")
        return self._lost()

    def _recipient_answer(self, reply: smtp_reply.Reply) -> Answer | None:
        """The answer that RCPT alone decides, or None where the recipient was accepted, or the server hung up on him."""
        if reply.positive or reply.code == 421:
            return None
        answer = self._envelope_answer(reply, "recipient")
        return LeftOut(answer) if self._dialogue.accepted and _too_many(reply) else answer

    def _envelope_answer(self, reply: smtp_reply.Reply, scope: Scope) -> Reply:
        """Who wants a login or TLS first means the session, unless mail or another recipient was taken in this one."""
        let_in = self._line.took_mail or self._dialogue.accepted
        return _ours(reply, "next-hop" if reply.code == ACCESS_FIRST and not let_in else scope)

    def _for_want_of_tls(self, reply: Reply) -> Reply:
        """With why there is none, where the server wants it."""
        why = self._line.peer.tls.removeprefix("none ")
        if reply.code not in (530, 538) or not why.startswith("(STARTTLS failed"):
            return reply
        return replace(reply, text=f"{reply.text} {why}")

    def _hung_up(self) -> Reply:
        farewell = self._dialogue.farewell
        if farewell is not None:
            return Reply(farewell.code, farewell.text, farewell.enhanced, "message")
        return Reply(None, f"4.4.2 {self._line.peer.where}: {self._line.trouble}", "4.4.2", "message")

    def _lost(self) -> Reply:
        reason = self._line.trouble or "connection closed before the final dot"
        # Whoever said 354 was well until this content came: if it is the next hop, the next message will show it.
        went_ahead = self._dialogue.data_reply is not None and not self._line.garbled
        scope: Scope = "message" if went_ahead else "next-hop"
        return Reply(None, f"4.4.2 {self._line.peer.where}: {reason}", "4.4.2", scope)


@lru_cache(maxsize=256)
def _ours(reply: smtp_reply.Reply, scope: Scope) -> Reply:
    return Reply(reply.code, reply.text, reply.enhanced, "next-hop" if reply.code == 421 else scope)


def settled(answers: tuple[Answer, ...]) -> tuple[Answer, ...]:
    """Answers to act upon: who was left out comes at once, but only where somebody got an answer of his own.

    Else the same recipients would come again and again.
    """
    if any(not isinstance(answer, LeftOut) for answer in answers):
        return answers
    return tuple(answer.reply if isinstance(answer, LeftOut) else answer for answer in answers)


def _too_many(reply: smtp_reply.Reply) -> bool:
    """452 4.5.3, or 552, which RFC 5321 section 4.5.3.1.10 takes for the same; the text decides without a
    code.
    """
    if reply.code not in (452, 552):
        return False
    if reply.enhanced is not None:
        return reply.enhanced in ("4.5.3", "5.5.3")
    return "too many recipients" in reply.text.lower()
