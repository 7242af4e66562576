"""Whether a retrained run is the published one: the same bits, within the noise between seeds, or neither.

Two runs that differ by their seed alone differ by a normal number of sd sqrt(2) s, s the sd between seeds. A retrained
run has the same seed, but on another machine rounding differs and training amplifies that, at worst to another draw of
this noise. So a number may be off by t sqrt(2) s, t the two-sided 95 % quantile of Student's t with the degrees of
freedom of s, for all compared runs together (Bonferroni); and by ROUNDING of itself. A curve is off by the root mean
square over its rows.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl
from scipy.special import stdtrit

from pipeline.reproduction.noise import CURVE, Spread, Spreads
from pipeline.reproduction.published import Tables

Verdict = Literal["same bits", "within seed noise", "does not reproduce"]
VERDICTS: tuple[Verdict, ...] = ("same bits", "within seed noise", "does not reproduce")
"""From best to worst."""
ROUNDING = 1e-6
"""Relative change of a number that another order of summation can make."""
STANDARD_ERRORS = ("loss_se_level", "loss_se_compared")
ERROR_TOLERANCE = 0.1
"""Relative change allowed to a standard error, of which seeds say nothing: a tenth of it changes no conclusion."""


@dataclass(frozen=True)
class Outcome:
    """What became of one run, and in words what differs."""

    run_id: str
    verdict: Verdict
    detail: str = ""


def outcome(
    run_id: str,
    published: Tables,
    retrained: Tables,
    fixed: Collection[str],
    spreads: Spreads,
    num_compared: int,
    left_out: Collection[str] = (),
) -> Outcome:
    """The verdict on one run, `num_compared` being compared in all.

    Columns in `fixed` follow from the plan, so that no noise excuses a difference there; those in `left_out` do not
    count.
    """
    theirs, ours = (
        {key: value for key, value in table.row(run_id).items() if value is not None and key not in left_out}
        for table in (published, retrained)
    )
    differing: list[tuple[bool, str]] = []
    for column in sorted(theirs.keys() | ours.keys()):
        a, b = theirs.get(column), ours.get(column)
        if a != b:
            said = f"{published.runs_place}: {column}: {_told(a)}, retrained {_told(b)}"
            if column in fixed or not (_is_number(a) and _is_number(b)):
                differing.append((False, said))
            else:
                differing.append(_judged(said, np.array([a]), np.array([b]), column, spreads, num_compared))
    x, y = (table.curve(run_id) for table in (published, retrained))
    said = published.curves_place
    if x.columns != y.columns or len(x) != len(y):
        differing.append((False, f"{said}: {_shape(x)}, retrained {_shape(y)}"))
    else:
        for column in (name for name in x.columns if not x[name].equals(y[name])):
            rows = (curve[column].to_numpy().astype(float) for curve in (x, y))
            differing.append(_judged(f"{said}: {column}", *rows, f"{CURVE}{column}", spreads, num_compared))
    if not differing:
        return Outcome(run_id, "same bits")
    wrong = [words for fine, words in differing if not fine]
    return Outcome(run_id, VERDICTS[2 if wrong else 1], "; ".join(wrong or [words for _, words in differing]))


def worst(outcomes: Collection[Outcome]) -> Outcome:
    """The worst of several verdicts on the same run."""
    return max(outcomes, key=lambda one: VERDICTS.index(one.verdict))


def _judged(
    said: str, a: np.ndarray, b: np.ndarray, column: str, spreads: Spreads, num_compared: int
) -> tuple[bool, str]:
    """Whether two numbers, or the rows of two curves, are near enough; and `said` with how far they are apart."""
    spread = Spread(ERROR_TOLERANCE, 0, True) if column in STANDARD_ERRORS else spreads(column)
    size = float(np.sqrt(np.nanmean(a**2)))
    relative = spread is None or spread.relative
    if relative and (a > 0).all() and (b > 0).all():
        off = float(np.sqrt(np.mean(np.log(b / a) ** 2)))
    else:
        with np.errstate(invalid="ignore"):
            apart = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(b - a))
        off = float(np.sqrt(np.mean(np.nan_to_num(apart, nan=np.inf) ** 2))) / (size if relative and size else 1.0)
    allowed = ROUNDING * (1.0 if relative else size)
    if spread and spread.freedom:
        quantile = float(stdtrit(spread.freedom, 1 - 0.025 / num_compared))
        allowed = max(allowed, quantile * math.sqrt(2) * spread.sd)
    elif spread:
        allowed = spread.sd
    percent, unit = (100, " %") if relative else (1, "")
    return off <= allowed, f"{said}: {percent * off:.3g}{unit} apart, {percent * allowed:.3g}{unit} allowed"


def _shape(curve: pl.DataFrame) -> str:
    return f"{len(curve)} rows of {', '.join(curve.columns)}" if len(curve) else "no rows"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _told(value: Any) -> str:
    return f"{value:.8g}" if isinstance(value, float) else "nothing" if value is None else str(value)
