"""What a planned grid would buy: the intervals to expect of it, before it is paid for."""

from __future__ import annotations

import polars as pl

from pipeline.command.predict import read_study
from pipeline.fitting.design import Expected, expected_interval
from pipeline.fitting.points import FLOPS_PER_PARAMETER_TOKEN
from pipeline.fitting.prediction import BUDGET_FACTOR, Predictor


def worth_text(planned: pl.DataFrame, convention: str) -> str:
    """Lines for the bill: expected errors of a study of these runs, by the law and noise of the last study.

    `planned` has the columns of plan/runs.parquet; `convention` is the N of the law.
    """
    try:
        predictor = read_study().predictor
    except ValueError:
        return "worth:    not known before a first study has been fitted"
    law, points = predictor.law, planned.filter(pl.col("kind") != "trunk")
    C, (found,) = expected(predictor, [points], convention)
    if not found.identified:
        number = points.select(f"N_{convention}", "D").drop_nulls().n_unique()
        return f"worth:    these {number} (N, D) would not identify the {law.name} law: {found.reason}"
    errors = ", ".join(f"{name} {100 * error:.2g} %" for name, error in found.relative_error.items())
    return (
        f"worth:    the loss at {C:.3g} FLOPs ({BUDGET_FACTOR:g} times the largest planned) to +-"
        f"{100 * found.target_half_width:.2g} % (95 %), if the {law.name} law and the noise of the last study hold\n"
        f"          expected standard errors: {errors}"
    )


def expected(predictor: Predictor, tables: list[pl.DataFrame], convention: str) -> tuple[float, list[Expected]]:
    """(C, what studies of the points of each table would know of the best loss at C), by the law and noise of
    `predictor`.

    C, in FLOPs, is BUDGET_FACTOR times that of the largest point of all, 6 N D. Tables have the columns of
    plan/runs.parquet; a point counts once, however often it is repeated, and runs without N, those
    of other laws, never.
    """
    points = [
        table.select(f"N_{convention}", "D").drop_nulls().unique().sort(pl.all()).to_numpy().astype(float).T
        for table in tables
    ]
    C = BUDGET_FACTOR * FLOPS_PER_PARAMETER_TOKEN * max(float((N * D).max()) for N, D in points)
    best = float(predictor.law.optimal_size([C])[0])
    tokens = C / (FLOPS_PER_PARAMETER_TOKEN * best)
    return C, [expected_interval(predictor.law, N, D, predictor.noise_sd, best, tokens) for N, D in points]
