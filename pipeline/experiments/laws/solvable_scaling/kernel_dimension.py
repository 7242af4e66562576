"""Kernel regression on points in d dimensions: the exponent is set by smoothness and falls with the dimension.

A Gaussian field with the kernel K_T (teacher) is learned from n random points by regression with the kernel K_S
(student). If the spectra of the kernels fall as |w|^-alpha_T and |w|^-alpha_S, the error falls as

    error ~ n^-beta,    beta = min(alpha_T - d, 2 alpha_S) / d.

Matern's kernel of smoothness nu has alpha = d + 2 nu (nu = 1/2 is Laplace's). The mean over teachers is exact given the
points, E = K_T(0) - 2 k_S A k_T + k_S A K_T A k_S with A = K_S^-1, so no target is sampled.

Source: Spigler, Geiger and Wyart 2019, arXiv 1905.10843.

Regime. The teacher's smoothness nu, known before: beyond nu = alpha_S, with a Laplace student nu = d + 1, the student
cannot follow and beta saturates at 2 alpha_S / d. Near the edge of the cube the exponent differs; errors are taken well
inside.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import polars as pl
from pydantic import Field, PositiveInt
from scipy.spatial.distance import cdist
from scipy.special import factorial, gamma, kv

from pipeline.experiments.experiment import RunResult
from pipeline.experiments.law import result
from pipeline.experiments.laws.solvable_scaling.outcome import (
    Exponent,
    Outcome,
    planned,
    recovered,
    rows_of,
    saturation,
)
from pipeline.experiments.sweep import estimate_of, local_slopes, log_slope, mean_over_seeds
from pipeline.experiments.verdict import Claim
from pipeline.params import Section
from pipeline.planning.run_spec import RunSpec

MODEL = "kernel_dimension"
SOURCE = "Spigler et al. 2019, arXiv 1905.10843"
TOLERANCE = 0.1
LAPLACE, MATERN = 0.5, 1.5
PAIRS = ((LAPLACE, LAPLACE), (MATERN, LAPLACE), (MATERN, MATERN))
"""Smoothness nu of teacher and student."""
INSIDE, TESTED = (0.2, 0.8), 200
"""Errors are averaged over so many points of this cube within the unit cube."""
HALVINGS = 4
"""Numbers of points: the largest, and halved so many times. Each n is drawn so often that all draws of it have as many
points as the largest, since the largest gap between few points varies much."""


class DimensionDials(Section):
    """`most_points` is the largest n for each of `dimensions`, half of it in one; `smoothness` values of the teacher's
    nu on both sides of 2, in one dimension with a Laplace student and at most `most_swept` points. In one dimension,
    where single gaps rule, all is drawn `num_draws` times a seed."""

    dimensions: Annotated[list[Annotated[int, Field(ge=1, le=6)]], Field(min_length=1)]
    most_points: Annotated[int, Field(ge=160, le=4000)]
    smoothness: Annotated[list[Annotated[float, Field(gt=0, le=5)]], Field(min_length=2)]
    most_swept: Annotated[int, Field(ge=160, le=1000)]
    num_draws: PositiveInt


def ends(a: float) -> dict[str, float]:
    """Where theory puts the end of the regime in each swept dial, which needs values on both sides."""
    return {"smoothness": 2.0}


def plan(dials: DimensionDials, exponents: list[list[float]], seeds: list[int]) -> list[RunSpec]:
    """A run for each dimension, pair of kernels and seed; in one dimension, a run for each smoothness and seed."""
    power = [
        {"dimension": d, "teacher": teacher, "student": student}
        | {"most": dials.most_points // (2 if d == 1 else 1), "num_draws": dials.num_draws if d == 1 else 1}
        for d in dials.dimensions
        for teacher, student in PAIRS
    ]
    swept = {"dimension": 1, "student": LAPLACE, "most": dials.most_swept, "num_draws": dials.num_draws}
    setups = [("power", setup) for setup in power] + [
        ("smoothness", swept | {"teacher": nu}) for nu in dials.smoothness
    ]
    return [planned(MODEL, part, setup, seed, seconds=0.3) for part, setup in setups for seed in seeds]


def run(spec: RunSpec) -> RunResult:
    """Local exponents `first` and `last` of the mean error in n, and `slope`, that over the whole range."""
    setup, random = spec.settings, np.random.default_rng(spec.seed)
    sizes = [setup["most"] // 2**halved for halved in range(HALVINGS, -1, -1)]
    kernels = setup["teacher"], setup["student"]
    errors = [
        np.mean([expected_error(setup["dimension"], n, *kernels, random) for _ in range(num)])
        for n in sizes
        for num in [setup["num_draws"] * setup["most"] // n]
    ]
    first, last = local_slopes(sizes, errors)
    scalars = {"first": -first, "last": -last, "slope": -log_slope(sizes, errors)}
    return result(scalars, {"step": np.array(sizes), "error": np.array(errors)})


def matern(nu: float, distance: np.ndarray) -> np.ndarray:
    """Matern's kernel of smoothness nu and unit length: e^-r times a polynomial where nu is a half-integer."""
    r, p = np.sqrt(2 * nu) * distance, nu - 0.5
    if p == int(p):
        terms = [factorial(p + i) / (factorial(i) * factorial(p - i)) * (2 * r) ** (p - i) for i in range(int(p) + 1)]
        return factorial(p) / factorial(2 * p) * np.exp(-r) * sum(terms)
    r = np.maximum(r, 1e-12)
    return 2 ** (1 - nu) / gamma(nu) * r**nu * kv(nu, r)


def expected_error(d: int, n: int, teacher: float, student: float, random: np.random.Generator) -> float:
    """The error of ridgeless regression on n points of the unit cube, averaged over teachers and inner points."""
    X, x = random.random((n, d)), random.uniform(*INSIDE, (TESTED, d))
    apart, from_points = cdist(X, X), cdist(X, x)
    weights = np.linalg.solve(matern(student, apart), matern(student, from_points))
    own = matern(teacher, apart) @ weights - 2 * matern(teacher, from_points)
    return float(1 + np.mean(np.sum(weights * own, axis=0)))


def judge(runs: pl.DataFrame, curves: pl.DataFrame) -> Outcome:
    """The exponent by dimension and kernels, and the smoothness from which it saturates."""
    power, swept = rows_of(runs, MODEL, "power"), rows_of(runs, MODEL, "smoothness")
    table = mean_over_seeds(power, ["dimension", "teacher", "student"], "first", "last", "slope")
    exponents = [
        Exponent(MODEL, "error in n", _setting(row), exponent(row["dimension"], row["teacher"], row["student"]),
                 slope.value, row["first"], slope.error, slope.num)
        for row in table.iter_rows(named=True)
        for slope in [estimate_of(row, "slope")]
    ]  # fmt: skip
    sweep = mean_over_seeds(swept, "teacher", "slope").select(
        nu="teacher",
        exponent="slope",
        predicted=pl.min_horizontal(2 * pl.col("teacher"), pl.lit(2 * (1 + 2 * LAPLACE))),
        short=1 - pl.col("slope") / (2 * pl.col("teacher")),
    )
    figure = "solvable_scaling_smoothness"
    claim = Claim("kernel regression in d dimensions: exponent", "beta = min(alpha_T - d, 2 alpha_S) / d", SOURCE,
                  figure="solvable_scaling_exponents")  # fmt: skip
    ends = Claim("kernel regression in d dimensions: saturation", "nu = d + 1", SOURCE, role="boundary", figure=figure)
    found = [
        recovered(claim, exponents, TOLERANCE, "The smoother the teacher and the fewer the dimensions, the faster"),
        saturation(ends, sweep, TOLERANCE, 2.0, 1.15, "a Laplace student in one dimension", "nu"),
    ]
    return Outcome(found, exponents, {"smoothness": sweep})


def exponent(d: int, teacher: float, student: float) -> float:
    """beta for kernels of these smoothnesses."""
    return min(2 * teacher, 2 * (d + 2 * student)) / d


def _setting(row: dict) -> str:
    name = {LAPLACE: "Laplace", MATERN: "Matern 3/2"}
    return f"d = {row['dimension']}, {name[row['teacher']]} teacher, {name[row['student']]} student"
