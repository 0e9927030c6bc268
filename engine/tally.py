"""What a poll came to: how many of what, and which of the retrieved messages may have another's octets.

A server that answers a RETR twice, with -ERR first, gives each message from there on in the place of the next one, and all looks
well until an answer is left over. So what came behind a refusal is in doubt until the session has shown to be in step, and where
it went out of step later: it is asked for once more, and not deleted before that. Where we are killed before that, nothing tells.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Tally:
    """The counts of one session. `in_step` says that no answer was left over; `out_of_step` that one may have been."""

    listed: int = 0
    downloaded: int = 0
    octets: int = 0
    oversize: int = 0
    refused: int = 0
    removed: int = 0
    resumed: bool = False  # no reset is suspected, or no longer
    in_step: bool = False
    out_of_step: bool = False
    _behind: set[str] = field(default_factory=set)  # streams of what came behind a refusal

    def took(self, stream: str, size_octets: int) -> None:
        """Count a new message."""
        self.downloaded += 1
        self.octets += size_octets
        self.met(stream)

    def met(self, stream: str) -> None:
        """Take note that a message came, be it on record already."""
        if self.refused:
            self._behind.add(stream)

    def broke(self, *, protocol: bool) -> None:
        """Take note that the session was lost, or that the server broke the `protocol`."""
        self.out_of_step = protocol or not self.in_step

    @property
    def behind(self) -> bool:
        """Whether anything came behind a refusal."""
        return bool(self._behind)

    @property
    def dubious(self) -> frozenset[str]:
        """The streams that may have the octets of another message than the one they are of."""
        return frozenset(self._behind if self.out_of_step else ())
