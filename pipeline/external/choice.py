"""What is asked of a fit to a table of runs."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pipeline.external.published import Published
from pipeline.fitting.estimators import Estimator
from pipeline.fitting.laws import LAWS, Chinchilla, Law
from pipeline.fitting.solver import NUM_STARTS

AUTO = "auto"
"""The law that predicts held-out larger runs best, of five."""
ISOFLOP = "isoflop"
"""No law: the minima at given budgets, and their exponent."""
ALIASES = {"additive": "chinchilla", "saturating": "saturating_C", "broken": "broken_C", "bnsl": "broken_C"}


@dataclass(frozen=True)
class Choice:
    """How a table is fitted.

    `law` is a key of LAWS, AUTO or ISOFLOP; `columns` maps N, D, L, C to columns, None for a usual name; `holdout` is a
    quantile of C to fit below and test above, 0 for no hold-out at all; `noise`, for ISOFLOP, the sd of one run's loss
    in nats/token, None where it is not known.
    """

    law: str
    columns: dict[str, str | None]
    estimator: Estimator
    num_resamples: int = 1000
    seed: int = 42
    num_starts: int = NUM_STARTS
    holdout: float | None = None
    cluster: str | None = None
    recipe: str = "recipe"
    noise: float | None = None
    published: Published | None = None

    @property
    def form(self) -> type[Law] | None:
        """The law that decides which columns are read; None for ISOFLOP."""
        return None if self.law == ISOFLOP else LAWS.get(self.law, Chinchilla)


def law_key(name: str) -> str:
    """The key of LAWS, AUTO or ISOFLOP that a name means, whatever its case, hyphens and underscores.

    Raises ValueError for another.
    """
    known = {_letters(key): key for key in (*LAWS, AUTO, ISOFLOP)} | ALIASES
    key = known.get(_letters(name))
    if key is None:
        raise ValueError(f"--law: {name!r} is none of {', '.join((*LAWS, AUTO, ISOFLOP))}")
    return key


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
