"""The budget calculator: what its script needs to predict as `study predict` does, and a table for where none runs."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from scipy.special import stdtrit

from pipeline.fitting.intervals import MOST_BIAS
from pipeline.fitting.points import FLOPS_PER_PARAMETER_TOKEN
from pipeline.fitting.prediction import BUDGET_FACTOR, Budget, Predictor
from pipeline.reporting.numbers import count, factor
from pipeline.reporting.tables import FORMS, Table, bounds, estimate, number

LAWS = ("chinchilla", "q_form")
"""The laws that the page's script knows: those that a study may choose."""
FACTORS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
"""Budgets of the table, in multiples of the largest compute measured."""


@dataclass(frozen=True)
class Calculator:
    """`stored`: the fitted law and its resamples for the script, plain JSON values; `budgets`: a few of its answers."""

    stored: dict[str, Any]
    budgets: Table


def calculator(predictor: Predictor) -> Calculator | None:
    """The calculator of a fitted law; None for a law that the page's script does not know.

    The resamples are handed over to the last bit (base64 of little-endian doubles, row by row), so that the page and
    `study predict` differ by rounding alone.
    """
    if predictor.form.name not in LAWS:
        return None
    stored = predictor.as_dict() | {
        "draws": base64.b64encode(np.ascontiguousarray(predictor.draws, "<f8").tobytes()).decode(),
        "reach": float(stdtrit(max(predictor.freedom, 1), 0.975)),
        "most_bias": MOST_BIAS,
        "flops_per_parameter_token": FLOPS_PER_PARAMETER_TOKEN,
        "warn_beyond": BUDGET_FACTOR,
    }
    return Calculator(stored, _budgets(predictor))


def _budgets(predictor: Predictor) -> Table:
    answers = [predictor.budget(share * predictor.C_range[1]) for share in FACTORS]
    rows = tuple(
        (
            number(one.best.C, FORMS["flops"]),
            number(one.best.extrapolation, factor),
            estimate(one.best.N, one.N_interval, count),
            estimate(one.best.D, one.D_interval, count),
            estimate(one.best.loss, one.best.prediction_interval),
            bounds(*one.flat_N, count),
        )
        for one in answers
    )
    caption = (
        "The best use of a budget of C = 6ND FLOPs by the law above, with 95 % intervals; that of the loss is the "
        "prediction interval of one run. Sizes in the flat range lose at most 0.1 %. Beyond the largest compute "
        f"measured all of this is extrapolation, and past {BUDGET_FACTOR:g} times a guess."
    )
    header = ("C, FLOPs", "of the largest", "N*, parameters", "D*, tokens", "loss, nats/token", "flat range of N")
    return Table("budgets", "Budgets at a glance", caption, header, rows, pl.DataFrame(map(_flat, answers)))


def _flat(one: Budget) -> dict[str, float]:
    ends = {
        "N": one.N_interval,
        "D": one.D_interval,
        "loss": one.best.interval,
        "prediction": one.best.prediction_interval,
        "flat_N": one.flat_N,
    }
    flat = {f"{name}_{side}": pair[place] for name, pair in ends.items() for place, side in enumerate(("low", "high"))}
    values = {"C": one.best.C, "extrapolation": one.best.extrapolation, "N": one.best.N, "D": one.best.D}
    return values | {"loss": one.best.loss} | flat
