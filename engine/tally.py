"""What a poll came to: how many of what."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Tally:
    """The counts of one session."""

    listed: int = 0
    downloaded: int = 0
    octets: int = 0
    oversize: int = 0
    refused: int = 0
    removed: int = 0
    resumed: bool = False  # no reset is suspected, or no longer
