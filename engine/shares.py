"""What a poll, and what a submission, has of the memory budget while mail comes in.

A share grows with what arrives, and leaves with the message: from then on whoever has the message gives it back.
"""

from __future__ import annotations

from engine.budget import RECORD_OCTETS, OctetBudget
from engine.ports import Offer

LISTING = 0  # no message has this number (RFC 1939 section 5)


STEP_OCTETS_LIMIT = 8 << 20  # what is asked for at once may come to nothing


class Share:
    """The share of one message that a client sends: how large it will be, nobody knows."""

    __slots__ = ("_budget", "octets")

    def __init__(self, budget: OctetBudget) -> None:
        self.octets = 0
        self._budget = budget

    async def reach(self, octets: int) -> None:
        """Wait until there is room for so many octets in all, and for as much again in bounded steps."""
        if octets > self.octets:
            self.octets = await self._budget.grow(self.octets, octets + min(octets, STEP_OCTETS_LIMIT))

    async def settle(self, octets: int) -> None:
        """Make it what the whole message takes, waiting where it had none."""
        wanted = octets + RECORD_OCTETS
        if self.octets == 0:
            self.octets = await self._budget.take(wanted)
        else:
            self.octets = self._budget.settle(self.octets, wanted)

    def pass_on(self) -> int:
        """Return what to give back later: from now on that is somebody else's duty."""
        octets, self.octets = self.octets, 0
        return octets

    def release(self) -> None:
        """Give everything back. May be called again."""
        if octets := self.pass_on():
            self._budget.give_back(octets)


class Shares:
    """The shares of one poll, `held` by message number. Close the session before `release`.

    A share is taken before the RETR.
    """

    def __init__(self, budget: OctetBudget) -> None:
        self.held: dict[int, int] = {}
        self._budget = budget

    async def admit(self, offer: Offer, octets: int) -> None:
        """Wait for room in memory: before a message is asked for, and each time its reply outgrows its share."""
        number = offer.number
        if number in self.held:
            await self._grow(number, octets + RECORD_OCTETS)
        else:
            self.held[number] = await self._budget.take(octets + RECORD_OCTETS)

    async def admit_listing(self, octets: int) -> None:
        """Wait for room in memory for a listing."""
        self.held.setdefault(LISTING, 0)
        await self._grow(LISTING, octets)

    def settle(self, share: int, octets: int) -> int:
        """Charge a message that turned out larger than its share; returns what to give back for it."""
        return self._budget.settle(share, octets + RECORD_OCTETS)

    def pay_back(self, share: int) -> None:
        """Give back a share that has left."""
        self._budget.give_back(share)

    def give_back(self, number: int) -> None:
        """Give back one share, if it is still here."""
        if (share := self.held.pop(number, None)) is not None:
            self._budget.give_back(share)

    def release(self) -> None:
        """Give back all that is still here."""
        for number in tuple(self.held):
            self.give_back(number)

    async def _grow(self, number: int, octets: int) -> None:
        before = self.held[number]
        share = await self._budget.grow(before, octets)
        if number in self.held:
            self.held[number] = share
        else:  # its last octets were on their way: it has left with the share it had
            self._budget.settle(share, before)
