"""The tables behind the findings of the language-model study, one row a run, budget, subset or cell."""

from __future__ import annotations

import numpy as np
import polars as pl
import polars.selectors as cs
from numpy.typing import NDArray

from pipeline.experiments.language_model.evidence import Evidence
from pipeline.experiments.language_model.fit_tables import fit_tables
from pipeline.params import Fit as FitSettings

SIGNIFICANT_DIGITS = 12
"""Floats are rounded to this many digits before they are written: last bits differ between machines."""


def tables(settings: FitSettings, evidence: Evidence) -> dict[str, pl.DataFrame]:
    """Name -> table, floats rounded to SIGNIFICANT_DIGITS, rows sorted; a table without rows keeps its columns."""
    made = {
        "points": _points(evidence),
        "holdout": _holdout(evidence),
        "isoflop": _isoflop(evidence),
        "frontier": _frontier(evidence),
        "cutoffs": _cutoffs(evidence),
        "convexity": _convexity(evidence),
        "excluded": evidence.excluded,
        "seeds": _seeds(evidence),
        **fit_tables(settings, evidence),
    }
    return {name: table.with_columns(cs.float().round_sig_figs(SIGNIFICANT_DIGITS)) for name, table in made.items()}


def _points(evidence: Evidence) -> pl.DataFrame:
    points = evidence.points
    table = points.select("run_id", "width", "seed", "role", "N", "D", pl.col("C_law").alias("C"), "loss")
    for name, trial in evidence.trials.items():
        predicted = np.exp(trial.fit.points.log_L - trial.fit.residuals)
        table = table.with_columns(
            pl.Series(f"predicted_{name}", predicted), pl.Series(f"residual_{name}", trial.fit.residuals)
        )
    valid = evidence.valid
    inside = (pl.col("N") >= valid.N_min) & (pl.col("D") >= valid.D_min) if valid else pl.lit(None, pl.Boolean)
    return table.with_columns(inside.alias("law_holds"))


def _holdout(evidence: Evidence) -> pl.DataFrame:
    tested = {name: trial.holdout for name, trial in evidence.trials.items() if trial.holdout}
    rows = next(iter(tested.values())).test if tested else np.zeros(len(evidence.points), bool)
    table = evidence.points.select("run_id", "N", "D", pl.col("C_law").alias("C"), "loss").filter(pl.Series(rows))
    for name in evidence.trials:
        held = tested.get(name)
        for label, values in (
            ("predicted", held and np.exp(held.log_predicted)),
            ("low", held and np.exp(held.log_low)),
            ("high", held and np.exp(held.log_high)),
        ):
            table = table.with_columns(
                pl.Series(f"{label}_{name}", values if held else [None] * len(table), pl.Float64)
            )
    return table


def _isoflop(evidence: Evidence) -> pl.DataFrame:
    schema = dict.fromkeys(("C", "N", "loss", "N_star"), pl.Float64) | {"status": pl.String, "reason": pl.String}
    rows = [
        (part.C, N, loss, part.N_star, "refused" if part.reason else "accepted", part.reason or None)
        for part in evidence.isoflop.slices
        for N, loss in zip(part.N.tolist(), part.loss.tolist(), strict=True)
    ]
    return pl.DataFrame(rows, schema=schema, orient="row")


def _frontier(evidence: Evidence) -> pl.DataFrame:
    names = ("C", "N_star", "N_low", "N_high", "D_star", "D_low", "D_high", "loss", "loss_low", "loss_high")
    empty: NDArray = np.array([])
    best = evidence.frontier
    return pl.DataFrame({name: getattr(best, name) if best else empty for name in names})


def _cutoffs(evidence: Evidence) -> pl.DataFrame:
    schema = {
        "N_min": pl.Float64,
        "D_min": pl.Float64,
        "num_sizes": pl.Int64,
        "num_tokens": pl.Int64,
        "num_points": pl.Int64,
        "law": pl.String,
        "rms": pl.Float64,
        "chi2": pl.Float64,
        "degrees_of_freedom": pl.Int64,
        "p": pl.Float64,
    }
    rows = []
    for name, trial in evidence.trials.items():
        for part in trial.subsets:
            test = part.lack_of_fit
            tested = (test.chi2, test.degrees_of_freedom, test.p) if test else (None, None, None)
            counts = (part.num_sizes, part.num_tokens, part.num_points)
            rows.append((part.N_min, part.D_min, *counts, name, part.rms, *tested))
    return pl.DataFrame(rows, schema=schema, orient="row")


def _convexity(evidence: Evidence) -> pl.DataFrame:
    places = ("fixed", "low", "middle", "high", "exponent_below", "exponent_above", "z")
    schema = {"variable": pl.String} | dict.fromkeys(places, pl.Float64)
    rows = [(bend.variable, *(getattr(bend, name) for name in places)) for bend in evidence.bends]
    return pl.DataFrame(rows, schema=schema, orient="row")


def _seeds(evidence: Evidence) -> pl.DataFrame:
    return (
        evidence.points.group_by("width", "D")
        .agg(pl.len().cast(pl.Int64).alias("num_seeds"), pl.col("loss").log().std().alias("sd_ln_loss"))
        .filter(pl.col("num_seeds") >= 2)
        .sort("width", "D")
    )
