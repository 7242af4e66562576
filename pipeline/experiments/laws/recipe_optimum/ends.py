"""Where a dial leaves its optimum: the end of its range, foretold by the narrowest width, and a value far outside."""

from __future__ import annotations

from itertools import groupby

import numpy as np

from pipeline.experiments.experiment import Finding
from pipeline.experiments.laws.recipe_optimum.swept import Swept
from pipeline.experiments.laws.recipe_optimum.tables import NAME
from pipeline.experiments.sweep import crossing
from pipeline.experiments.verdict import Claim, Estimate

FACTOR = 1.5
"""Within which the end of a range must lie where it was foretold; a sweep moves in steps of two."""


def finding_of_control(swept: list[Swept], tolerance: float) -> Finding:
    """That a value at the end of its sweep is at its optimum too, of the dial that costs most there: it must fail."""
    claim = Claim("a value at the end of its sweep is at its optimum", "L(x) / min L - 1 = 0", "this study", "relative",
                  role="control", figure=NAME)  # fmt: skip
    costs = [(cost, one, end) for one in swept if one.sweep for end in (0, -1) for cost in [_cost(one, end)]]
    if not costs:
        return claim.at_most(Estimate(None), tolerance, "No sweep was trained to its ends.", reached=False)
    cost, one, end = max(costs, key=lambda found: found[0].value)
    value = one.study * np.exp(one.sweep.x[end])
    says = (
        f"At width {one.width} a {one.dial.quantity} of {value:.3g}, the end of its sweep, costs "
        f"{100 * cost.value:.1f} % of the loss."
    )
    return claim.at_most(cost, tolerance, says)


def finding_of_boundary(swept: list[Swept], tolerance: float) -> Finding:
    """Where the regret of a dial reaches the tolerance at the widest width, against what the parabola of the narrowest
    says: of the first dial that leaves it within both sweeps."""
    claim = Claim("end of the range of a dial, foretold by the narrowest width", "c (ln x / x*)^2 / 2 = tolerance",
                  "this study", role="boundary", figure=NAME)  # fmt: skip
    for _, widths in groupby(swept, key=lambda one: one.name):
        known = [one for one in widths if one.sweep and one.sweep.bracketed]
        if len(known) < 2:
            continue
        narrow, wide = known[0], known[-1]
        for side in (1, -1):
            found = crossed(wide, tolerance, side)
            if found is None:
                continue
            measured, bracket = found
            predicted = foretold(narrow, tolerance, side)
            says = (
                f"Width {narrow.width} puts the end of the range of the {wide.dial.quantity} at {predicted:.3g}; at "
                f"width {wide.width} it costs {100 * tolerance:g} % of the loss at {measured:.3g}."
            )
            return claim.located([measured], bracket, predicted, FACTOR, says)
    says = "No dial leaves its range within the sweeps of two widths."
    return claim.located([], None, tolerance, FACTOR, says)


def foretold(one: Swept, tolerance: float, side: int) -> float:
    """The value at which the parabola lies `tolerance` above its lowest point, above (`side` 1) or below (-1) it."""
    half = one.sweep.coefficients[2]
    return float(one.study * np.exp(one.sweep.optimum + side * np.sqrt(np.log1p(tolerance) / half)))


def crossed(one: Swept, tolerance: float, side: int) -> tuple[float, tuple[float, float]] | None:
    """(value at which the measured loss lies `tolerance` above the lowest of the parabola, the two swept values around
    it, in order), going from the lowest mean up (`side` 1) or down (-1); None where it does not come to that.

    Between two swept values the root of the height is taken as linear in the logarithm, as a parabola's is.
    """
    sweep = one.sweep
    heights = np.sqrt(np.clip(sweep.means - sweep.lowest, 0.0, None)) - np.sqrt(np.log1p(tolerance))
    beyond = side * (sweep.x - sweep.x[np.argmin(sweep.means)]) >= 0
    place, bracket = crossing(np.exp(side * sweep.x[beyond]), heights[beyond], 0.0)
    if place is None:
        return None
    low, high = sorted(float(one.study * end**side) for end in bracket)
    return float(one.study * place**side), (low, high)


def _cost(one: Swept, end: int) -> Estimate:
    """What the value at one end of the sweep costs over the lowest mean, with the error of a difference."""
    sweep = one.sweep
    cost = float(np.expm1(sweep.means[end] - sweep.means.min()))
    return Estimate(cost, float(np.sqrt(2 * sweep.variance / len(sweep.losses))), sweep.freedom + 1)
