"""What a training curve tells of a run that ended well: spikes of the loss, which end nothing and are noted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RECENT_ROWS = 16
FEWEST_ROWS = 8
LEAST_SCORE = 8.0
LEAST_RISE = 0.01
"""A spike stands this part of the loss above the recent rows too: a curve without noise has no spread to compare."""
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
            f"row {self.row}, {self.tokens:,} tokens: training loss {self.loss:.4g} lies {self.score:.1f} robust"
            f" standard deviations above the {RECENT_ROWS} rows before"
        )


def spikes(tokens: np.ndarray, losses: np.ndarray) -> list[Spike]:
    """The rows of a curve whose loss rises far out of the rows before.

    The score of a row is (loss - median) / (1.4826 MAD) of at most RECENT_ROWS rows before it (Iglewicz and Hoaglin
    1993, How to Detect and Handle Outliers), which a spike among them hardly moves. A fall is none, however steep.
    """
    found = []
    for row in range(FEWEST_ROWS, len(losses)):
        recent, loss = losses[max(0, row - RECENT_ROWS) : row], float(losses[row])
        if not np.isfinite(loss):
            break
        median = float(np.median(recent))
        spread = max(NORMAL * float(np.median(np.abs(recent - median))), float(np.finfo(float).tiny))
        if loss - median > max(LEAST_SCORE * spread, LEAST_RISE * abs(median)):
            found.append(Spike(row, int(tokens[row]), loss, (loss - median) / spread))
    return found
