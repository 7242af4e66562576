"""What a training curve tells of a run that ended well: spikes of the loss, which end nothing and are noted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RECENT_ROWS = 16
LEAST_SCORE = 8.0
"""Against 16 rises of mere noise a row has this score once in 22,000 (against 8, once in 700)."""
LEAST_RISE = 0.01
"""A spike stands this part of the loss above the row before too: a curve without noise has no spread to compare."""
NORMAL = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""


@dataclass(frozen=True)
class Spike:
    """A row of a curve: its number from 0, `tokens` seen, training `loss` (nats/token), and the robust z-score."""

    row: int
    tokens: int
    loss: float
    score: float

    @property
    def note(self) -> str:
        """The spike in words."""
        return (
            f"row {self.row}, {self.tokens:,} tokens: training loss jumps to {self.loss:.4g} nats/token,"
            f" {self.score:.1f} robust standard deviations of the rises before"
        )


def spikes(tokens: np.ndarray, losses: np.ndarray) -> list[Spike]:
    """The rows of a curve whose loss rises far out of the rows before.

    The score of a row is (rise - median) / (1.4826 MAD) of the rise from the row before, against the RECENT_ROWS
    rises before that (Iglewicz and Hoaglin 1993, How to Detect and Handle Outliers): rises do not see the trend, and a
    spike among them hardly moves their median. A fall is none, however steep.
    """
    found, rises = [], np.diff(losses)
    for row in range(RECENT_ROWS + 1, len(losses)):
        recent, rise = rises[row - 1 - RECENT_ROWS : row - 1], float(rises[row - 1])
        if not np.isfinite(rise):
            break
        median = float(np.median(recent))
        spread = max(NORMAL * float(np.median(np.abs(recent - median))), float(np.finfo(float).tiny))
        if rise - median > LEAST_SCORE * spread and rise > LEAST_RISE * abs(losses[row - 1]):
            found.append(Spike(row, int(tokens[row]), float(losses[row]), (rise - median) / spread))
    return found
