"""What a planned grid would buy: the intervals to expect of it, before it is paid for."""

from __future__ import annotations

import polars as pl

from pipeline.command.predict import FINDINGS, read_study
from pipeline.fitting.design import expected_interval
from pipeline.fitting.points import FLOPS_PER_PARAMETER_TOKEN
from pipeline.fitting.prediction import BUDGET_FACTOR


def worth_text(planned: pl.DataFrame, convention: str) -> str:
    """Lines for the bill: expected errors of a study of these runs, by the law and noise of the last study.

    `planned` has the columns of plan/runs.parquet; `convention` is the N of the law.
    """
    try:
        predictor = read_study().predictor
    except ValueError:
        return "worth:    not known before a first study has been fitted"
    law = predictor.law
    points = planned.filter(pl.col("kind") != "trunk").select(f"N_{convention}", "D").unique().sort(pl.all())
    N, D = points.to_numpy().astype(float).T
    C = BUDGET_FACTOR * FLOPS_PER_PARAMETER_TOKEN * float((N * D).max())
    best = float(law.optimal_size([C])[0])
    found = expected_interval(law, N, D, predictor.noise_sd, best, C / (FLOPS_PER_PARAMETER_TOKEN * best))
    if not found.identified:
        return f"worth:    these {len(N)} (N, D) would not identify the {law.name} law: {found.reason}"
    errors = ", ".join(f"{name} {100 * error:.2g} %" for name, error in found.relative_error.items())
    return (
        f"worth:    the loss at {C:.3g} FLOPs ({BUDGET_FACTOR:g} times the largest planned) to +-"
        f"{100 * found.target_half_width:.2g} % (95 %), if the {law.name} law and the noise of {FINDINGS} hold\n"
        f"          expected standard errors: {errors}"
    )
