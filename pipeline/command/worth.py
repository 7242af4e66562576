"""What a planned grid would buy: the intervals to expect of it, before it is paid for."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import polars as pl

from pipeline.command.predict import FINDINGS, read_study
from pipeline.experiments.experiment import LANGUAGE_MODEL
from pipeline.fitting.design import Expected, expected_interval
from pipeline.fitting.points import FLOPS_PER_PARAMETER_TOKEN
from pipeline.fitting.prediction import BUDGET_FACTOR, Predictor
from pipeline.results import read_findings

RESULTS = Path("results")


def worth_text(planned: pl.DataFrame, convention: str) -> str:
    """Lines for the bill: what a study of these runs would do to the interval of a forecast, and its expected errors,
    by the law and noise of the last study; or why that is not known.

    `planned` has the columns of plan/runs.parquet; `convention` is the N of the law.
    """
    try:
        predictor = read_study(RESULTS).predictor
    except ValueError as error:
        return f"worth:    not known{_why(error)}"
    law, points = predictor.law, planned.filter(pl.col("kind") != "trunk")
    measured = pl.read_parquet(RESULTS / "runs.parquet").filter(pl.col("loss").is_not_null())
    C, (now, found) = expected(predictor, [measured, points], convention)
    if not found.identified:
        number = points.select(f"N_{convention}", "D").drop_nulls().n_unique()
        return f"worth:    these {number} (N, D) would not identify the {law.name} law: {found.reason}"
    errors = ", ".join(f"{name} {100 * error:.2g} %" for name, error in found.relative_error.items())
    before = f"from +-{100 * now.target_half_width:.2g} % " if now.identified else ""
    return (
        f"worth:    the loss at {C:.3g} FLOPs ({BUDGET_FACTOR:g} times the largest planned) {before}to +-"
        f"{100 * found.target_half_width:.2g} % (95 %), if the {law.name} law and the noise of the last study hold\n"
        f"          expected standard errors: {errors}"
    )


def _why(error: ValueError) -> str:
    """Why the worth of a plan is not known: no study yet, one whose fit was refused, or the `error` that says more."""
    if not (RESULTS / FINDINGS).exists():
        return " before a first study has been fitted"
    with suppress(ValueError):  # what is no JSON is what `error` says
        summary = read_findings(RESULTS).get(LANGUAGE_MODEL, {}).get("summary", {})
        law = summary.get("laws", {}).get(summary.get("chosen"), {})
        if law.get("reason"):
            return f": the last study has no law that predicts ({summary['chosen']}: {law['status']}: {law['reason']})"
    return f": {error}"


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
