"""Which runs were trained at one budget, when counts of tokens are whole numbers or whole batches.

A budget C = 6 N D that several sizes share comes back from a table only up to the rounding of D: to 1e-7 where tokens
are whole, to a per cent or so where they are whole batches. Runs are of one budget where their C lie close together and
far from all others, so that no dense grid of sizes by tokens and no sweep of C is taken for budgets: of runs with C at
random one in two hundred thousand would begin a budget of five.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

EQUAL = 1e-9
"""Relative difference of C that rounding of floats makes."""
WIDEST = 0.02
"""Spread of ln C up to which runs may be of one budget: a loss changes by a tenth to a quarter of it."""
APART = 10.0
"""The next run's C is farther away than this many times the spread."""


def shared_budgets(C: ArrayLike) -> list[NDArray[np.int64]]:
    """The runs of each budget, as indices into C (FLOPs), the smallest budget first.

    Runs with equal C are one budget. Neighbours are joined where all ln C of the budget lie within WIDEST, and the gap
    to the next budget on either side, of which there is at least one, is APART times as wide; the widest such stands.
    """
    log_C = np.log(np.asarray(C, float))
    order = np.argsort(log_C, kind="stable")
    blocks = np.split(order, np.flatnonzero(np.diff(log_C[order]) > EQUAL) + 1)
    low, high = (log_C[[block[place] for block in blocks]] for place in (0, -1))
    budgets, first = [], 0
    while first < len(blocks):
        last = _widest(low, high, first)
        budgets.append(np.concatenate(blocks[first : last + 1]))
        first = last + 1
    return budgets


def _widest(low: NDArray, high: NDArray, first: int) -> int:
    """The last block of the widest budget that begins with block `first`: itself alone where no other stands apart.

    `low` and `high` are the ends of ln C of each block, rising.
    """
    before = low[first] - high[first - 1] if first else np.inf
    reach = int(np.searchsorted(high, low[first] + min(WIDEST, before / APART), side="right"))
    for last in range(reach - 1, first, -1):
        after = low[last + 1] - high[last] if last + 1 < len(low) else np.inf
        if APART * (high[last] - low[first]) < min(before, after) < np.inf:
            return last
    return first
