"""What is asked of a fit to a table of runs."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.external.published import Published
from pipeline.fitting.estimators import Estimator
from pipeline.fitting.laws import LAWS, Chinchilla, Law
from pipeline.fitting.solver import NUM_STARTS

AUTO = "auto"
"""The law that predicts held-out larger runs best, of five."""
OVERRULED = ("plateau", "gate_failed")
"""Refusals of a fit that has a minimum: its parameters may be asked for, and the refusal then stands as a warning."""
ISOFLOP = "isoflop"
"""No law: the minima at given budgets, and their exponent."""
RECIPE = "recipe"
"""The usual name of the column of recipes."""
ALIASES = {"additive": "chinchilla", "saturating": "saturating_C", "broken": "broken_C", "bnsl": "broken_C"}


@dataclass(frozen=True)
class Choice:
    """How a table is fitted.

    `law` is a key of LAWS, AUTO or ISOFLOP; `columns` maps N, D, L, C to columns, None for a usual name; `holdout` is a
    quantile of C to fit below and test above, 0 for no hold-out at all; `noise`, for ISOFLOP, the sd of one run's loss
    in nats/token, None where it is not known; `despite` names refusals that shall be warnings, of OVERRULED.
    """

    law: str
    columns: dict[str, str | None]
    estimator: Estimator
    num_resamples: int = 1000
    seed: int = 42
    num_starts: int = NUM_STARTS
    holdout: float | None = None
    cluster: str | None = None
    recipe: str = RECIPE
    noise: float | None = None
    despite: tuple[str, ...] = ()
    published: Published | None = None

    def check(self) -> None:
        """Raises ValueError for a noise that is no size, a noise or a recipe that has no use, and for published numbers
        that this law does not give."""
        if self.noise is not None and not 0 < self.noise < math.inf:
            raise ValueError(f"--noise: {self.noise:g} is not a positive number of nats/token")
        if self.noise is not None and self.law != ISOFLOP:
            raise ValueError(f"--noise: {self.noise:g} has no effect with the law {self.law}")
        if self.recipe != RECIPE and "recipe" not in form_of(self.law).columns:
            raise ValueError(f"--recipe: {self.recipe!r} has no effect with the law {self.law}")
        if self.published and self.law != AUTO:
            self.published.check(LAWS.get(self.law))


def form_of(law: str) -> type[Law]:
    """The law whose columns are read for a key: AUTO compares laws of N and D, and isoFLOP minima need them too."""
    return LAWS.get(law, Chinchilla)


def despite_of(names: Iterable[str]) -> tuple[str, ...]:
    """The names, each one of OVERRULED; raises ValueError for another."""
    for name in names:
        if name not in OVERRULED:
            raise ValueError(f"--despite: {name!r} is none of {', '.join(OVERRULED)}")
    return tuple(names)


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
