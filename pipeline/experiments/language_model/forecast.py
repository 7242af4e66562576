"""What the study says of runs not made yet: its predictor, and the runs that would teach it most."""

from __future__ import annotations

import numpy as np
import polars as pl

from pipeline.experiments.language_model.evidence import Evidence
from pipeline.fitting.analysis import noise_sd
from pipeline.fitting.design import expected_interval, next_runs
from pipeline.fitting.points import spread_levels
from pipeline.fitting.prediction import BUDGET_FACTOR, Prediction, Predictor
from pipeline.fitting.validation import trust

FINER = 2.0
"""Next runs may be this factor beyond the measured sizes and token counts, on a grid of that ratio."""
NUM_NEXT = 8
MOST_LEVELS = 48
"""Measured sizes, and token counts, that candidates have where all of them would be more than MANY_CANDIDATES."""
MANY_CANDIDATES = 2_500
COST_POWER = 0.4
"""The cut of the variance is divided by C^COST_POWER: by C itself it asks for hundreds of the smallest run."""


def predictor_of(evidence: Evidence) -> Predictor | None:
    """The predictor of the chosen law, None where it may not be quoted."""
    trial = evidence.trial
    if trial is None or not trial.printable:
        return None
    noise = noise_sd(trial.fit, len(np.unique(evidence.runs.cell)))
    return Predictor.of(trial.independent_draws, noise, trust(trial.origins), evidence.runs)


def target_of(evidence: Evidence, predictor: Predictor) -> Prediction:
    """The best use of BUDGET_FACTOR times the largest compute: what next runs and influence are about."""
    return predictor.budget(BUDGET_FACTOR * float(evidence.runs.C.max())).best


def next_points(evidence: Evidence) -> pl.DataFrame:
    """The runs that would narrow the forecast at BUDGET_FACTOR times the largest compute most for their FLOPs.

    Candidates are measured sizes and token counts (MOST_LEVELS of many) and one step of FINER beyond, from the scale on
    from which the law holds; together they cost at most what the study has cost (6 N D). `error_before` and
    `error_after` are standard errors of ln L at the target.
    """
    names = ("N", "D", "C", "error_before", "error_after", "cut_per_flop", "total_flops")
    predictor = predictor_of(evidence)
    if predictor is None:
        return pl.DataFrame(schema=dict.fromkeys(names, pl.Float64))
    runs, valid = evidence.runs, evidence.valid
    best = target_of(evidence, predictor)
    levels = [np.unique(values) for values in (runs.N, runs.D)]
    if len(levels[0]) * len(levels[1]) > MANY_CANDIDATES:
        levels = [spread_levels(values, MOST_LEVELS) for values in levels]
    sizes, tokens = (np.append(values, values[-1] * np.array([FINER, FINER**2])) for values in levels)
    N, D = (grid.ravel() for grid in np.meshgrid(sizes, tokens, indexing="ij"))
    chosen = next_runs(
        evidence.trial.fit,
        predictor.noise_sd,
        N,
        D,
        best.N,
        best.D,
        budget_flops=float(runs.C.sum()),
        num_runs=NUM_NEXT,
        cost_power=COST_POWER,
        N_min=valid.N_min if valid else None,
        D_min=valid.D_min if valid else None,
    )
    return pl.DataFrame([[getattr(one, name) for name in names] for one in chosen], schema=names, orient="row")


def planned(evidence: Evidence, next_table: pl.DataFrame) -> dict[str, float] | None:
    """Half widths of the 95 % interval of ln L at the target: of the runs made, and with the next runs added.

    Seeds of one (N, D) count once, as they do in the fit.
    """
    predictor = predictor_of(evidence)
    if predictor is None or next_table.is_empty():
        return None
    runs = evidence.runs
    best = target_of(evidence, predictor)
    made = np.column_stack([runs.N, runs.D])
    more = np.vstack([made, next_table.select("N", "D").to_numpy()])
    now, then = (
        expected_interval(predictor.law, *np.unique(cells, axis=0).T, predictor.noise_sd, best.N, best.D)
        for cells in (made, more)
    )
    return {
        "C": best.C,
        "half_width_now": now.target_half_width,
        "half_width_then": then.target_half_width,
        "flops": float(next_table["C"].sum()),
    }
