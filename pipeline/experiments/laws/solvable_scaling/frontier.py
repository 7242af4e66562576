"""The frontier of losses computed at several widths and steps: least loss on a budget C = d t, and its exponents."""

from __future__ import annotations

import numpy as np
import polars as pl

from pipeline.experiments.laws.solvable_scaling.outcome import falling
from pipeline.experiments.verdict import Estimate


def frontier(widths: np.ndarray, steps: np.ndarray, losses: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(C, least loss, its width) by parabolas in ln d, at C = d t that the best width and its neighbours reach."""
    kept = []
    for C in np.geomspace(widths[0] * 10.0, widths[-1] * float(steps[-1]), 60):
        at = np.log(C / widths)
        log_loss = [np.interp(x, np.log(steps), np.log(row), np.inf, np.inf) for x, row in zip(at, losses, strict=True)]
        best = int(np.argmin(log_loss))
        near = slice(best - 1, best + 2)
        if 0 < best < len(widths) - 1 and np.isfinite(log_loss[near]).all():
            curve = np.polyfit(np.log(widths[near]), log_loss[near], 2)
            place = -curve[1] / (2 * curve[0])
            kept.append((C, np.exp(np.polyval(curve, place)), np.exp(place)))
    return tuple(np.array(kept).T)


def mean_losses(rows: pl.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(widths, steps, loss of each width at each step averaged over projections)."""
    table = rows.group_by("width", "step").agg(pl.col("loss").mean()).sort("width", "step")
    widths, steps = (table[name].unique().sort().to_numpy() for name in ("width", "step"))
    return widths, steps, table["loss"].to_numpy().reshape(len(widths), len(steps))


def local_exponents(rows: pl.DataFrame) -> dict[str, Estimate]:
    """`loss_first`, `loss_last`, `size_first`, `size_last` of the frontier of mean losses, and `drift`, the change of
    the first two; standard errors by leaving each projection out in turn (jackknife)."""

    def measured(kept: pl.DataFrame) -> dict[str, float]:
        C, loss, size = frontier(*mean_losses(kept))
        found = falling({"loss": (C, loss), "size": (C, 1 / size)})
        return found | {"drift": found["loss_last"] - found["loss_first"]}

    seeds, whole = rows["seed"].unique().sort(), measured(rows)
    left = [measured(rows.filter(pl.col("seed") != seed)) for seed in seeds]
    spread = {key: np.std([one[key] for one in left]) * np.sqrt(len(seeds) - 1) for key in whole}
    return {key: Estimate(value, float(spread[key]), len(seeds)) for key, value in whole.items()}
