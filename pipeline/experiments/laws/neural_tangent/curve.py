"""Regression with the limiting kernel on the cube {-1, 1}^d: the learning curve of every degree of parity, exactly.

The corners of the cube make the kernel a function of the number of bits in which two points differ, with the parities
as eigenfunctions. With P_r(x, y) the sum over all parities of degree r of their product at x and y, K^+ the
pseudo-inverse of the kernel between the samples and K_2 = sum_r lambda_r^2 P_r, the share learned and the mean squared
error of a parity, averaged over the cube and over all parities of degree r, are

    L_r = lambda_r tr(K^+ P_r) / C(d, r),    MSE_r = tr(K^+ K_2 K^+ P_r) / C(d, r) - 2 L_r + 1,

so one draw of n samples takes matrices of n x n and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Annotated

import numpy as np
import polars as pl
from pydantic import Field, PositiveInt, model_validator
from scipy.optimize import brentq
from scipy.special import comb

from pipeline.experiments.experiment import Finding, Regime, RunResult
from pipeline.experiments.law import law_run, result, torch
from pipeline.experiments.laws.neural_tangent.network import arc_cosine
from pipeline.experiments.sweep import crossing, crossings_over_seeds, estimate_of, greatest, mean_over_seeds, worst
from pipeline.experiments.verdict import Claim
from pipeline.params import Section
from pipeline.planning.run_spec import RunSpec
from pipeline.reporting.numbers import decimal, significant

SIMON = "Simon et al. 2021, arXiv 2110.03922"
DEGREES = (1, 2, 3)
INSIDE, TOLERANCE = 0.125, 0.05
"""Repeated points up to which the curve counts as well inside its regime, and its tolerance there."""


class Curve(Section):
    """Dials: d = `dimension`, the swept n = `sizes`, and the draws of samples that a run averages."""

    dimension: Annotated[int, Field(ge=4, le=18)]
    sizes: Annotated[list[Annotated[int, Field(ge=2)]], Field(min_length=3)]
    num_samples: PositiveInt

    @model_validator(mode="after")
    def _on_both_sides(self) -> Curve:
        low, high = (repeats(n, self.dimension) for n in (min(self.sizes), max(self.sizes)))
        if low > INSIDE or high < 2:
            raise ValueError(f"sizes: n^2 / 2^(d+1) is {low:.3g} to {high:.3g}, which must span {INSIDE} to 2")
        if max(self.sizes) > 2**self.dimension / 2 or len(set(self.sizes)) < len(self.sizes):
            raise ValueError(f"sizes: {self.sizes} must differ, none above half of the 2^{self.dimension} corners")
        return self


def repeats(n: int, dimension: int) -> float:
    """The control n^2 / 2^(d+1)."""
    return n**2 / 2 ** (dimension + 1)


def plan_curve(dials: Curve, seeds: Sequence[int]) -> list[RunSpec]:
    """A run a seed for each number of samples."""
    fixed = {"dimension": dials.dimension, "num_samples": dials.num_samples}
    return [
        law_run("neural_tangent", "curve", fixed | {"size": n}, seed, label=f"curve n={n} seed {seed}",
                seconds=0.05 + 6e-7 * dials.num_samples * n**2)
        for n in dials.sizes
        for seed in seeds
    ]  # fmt: skip


def run_curve(spec: RunSpec) -> RunResult:
    """Scalars, means over draws: `ratio_r`, the MSE of degree r over its prediction; `missing`, n - sum of all shares;
    `once_r` and `inexact`, the same where repeated points are replaced by fresh ones (the latter the largest)."""
    d, n, random = spec.settings["dimension"], spec.settings["size"], torch.Generator().manual_seed(spec.seed)
    _, expected = predicted_curve(d, n)
    _, count = spectrum(d)
    rows = []
    for _ in range(spec.settings["num_samples"]):
        drawn = torch.randint(2**d, (n,), generator=random).numpy()
        stream = np.concatenate([drawn, torch.randperm(2**d, generator=random).numpy()])
        fresh = stream[np.sort(np.unique(stream, return_index=True)[1])[:n]]
        (share, error), (share_once, error_once) = regression(drawn, d), regression(fresh, d)
        ratios = [*(error / expected)[list(DEGREES)], *(error_once / expected)[list(DEGREES)]]
        rows.append([*ratios, n - count @ share, n - count @ share_once])
    names = [*(f"ratio_{r}" for r in DEGREES), *(f"once_{r}" for r in DEGREES), "missing"]
    means = dict(zip(names, np.mean(rows, axis=0), strict=False))
    return result(means | {"inexact": float(np.abs(rows, dtype=float)[:, -1].max())})


def regression(codes: np.ndarray, dimension: int) -> tuple[np.ndarray, np.ndarray]:
    """(L_r, MSE_r) by degree for the samples whose bits are those of `codes`, without ridge."""
    (values, count), signs = spectrum(dimension), 1 - 2 * ((codes[:, None] >> np.arange(dimension)) & 1)
    P = torch.from_numpy(parity_sums(dimension)[:, (dimension - signs @ signs.T) // 2])
    values, count = torch.from_numpy(values), torch.from_numpy(count)
    inverse = torch.linalg.pinv(torch.tensordot(values, P, 1), rtol=1e-10, hermitian=True)
    share = values * (inverse * P).sum((1, 2)) / count
    squares = inverse @ torch.tensordot(values**2, P, 1) @ inverse
    return share.numpy(), ((squares * P).sum((1, 2)) / count - 2 * share + 1).numpy()


@cache
def parity_sums(dimension: int) -> np.ndarray:
    """P[r, k], the sum over all parities of degree r of their product at two corners k bits apart (Krawtchouk)."""
    bits = range(dimension + 1)
    return np.array([[sum((-1) ** j * comb(k, j, exact=True) * comb(dimension - k, r - j, exact=True)
                          for j in range(r + 1)) for k in bits] for r in bits], dtype=float)  # fmt: skip


def spectrum(dimension: int) -> tuple[np.ndarray, np.ndarray]:
    """(eigenvalue, multiplicity) of the limiting kernel of ReLU on the cube, by degree of the parity."""
    bits = np.arange(dimension + 1)
    count = comb(dimension, bits)
    return parity_sums(dimension) @ (count * arc_cosine(1 - 2 * bits / dimension)) / count / 2**dimension, count


def predicted_curve(dimension: int, n: float) -> tuple[np.ndarray, np.ndarray]:
    """(L_r, MSE_r) by degree, from n different samples without ridge or noise."""
    values, count = spectrum(dimension)
    log_kappa = brentq(lambda log: float(count @ (values / (values + np.exp(log)))) - n, -80, 40, xtol=1e-13)
    share = values / (values + np.exp(log_kappa))
    return share, n / (n - count @ share**2) * (1 - share) ** 2


def judge_curve(dials: Curve, runs: pl.DataFrame) -> tuple[list[Finding], list[str], pl.DataFrame]:
    """Findings, sentences and table of the learning curve: the sum of shares, the errors, and the end of both."""
    runs = runs.filter(pl.col("kind") == "curve")
    names = [f"{name}_{r}" for name in ("ratio", "once") for r in DEGREES]
    table = mean_over_seeds(runs, "size", *names, "missing").with_columns(
        control=pl.col("size").cast(pl.Float64).pow(2) / 2.0 ** (dials.dimension + 1)
    )
    claim = Claim("sum of the shares learned", "sum_r C(d, r) L_r = n", SIMON, "modes", "identity",
                  figure="neural_tangent_curve")  # fmt: skip
    inexact = greatest(runs["inexact"])
    missed = significant(inexact.value, 1)
    says = f"Over all draws of different points the sum of the shares misses n by {missed} modes at most."
    return [claim.equals(inexact, 0.0, 1e-8, says), _errors(table), _end(runs, table)], [_why(dials, table)], table


def _off(row: dict) -> float:
    """The largest relative distance of an MSE from its prediction in a row, over the degrees; NaN if one is unknown."""
    return float(np.max(np.abs(np.array([row[f"ratio_{r}"] for r in DEGREES], dtype=float) - 1)))


def _errors(table: pl.DataFrame) -> Finding:
    rows = table.sort("control").to_dicts()
    broke = next((row["control"] for row in rows if _off(row) > TOLERANCE), None)
    held = [row["control"] for row in rows if _off(row) <= TOLERANCE and (broke is None or row["control"] < broke)]
    regime = [Regime("n^2 / 2^(d+1)", "points", min(held, default=None), max(held, default=None), broke)]
    claim = Claim("learning curve", "MSE_r = (1 - L_r)^2 n / (n - sum L^2)", SIMON, "relative",
                  figure="neural_tangent_curve")  # fmt: skip

    def judged(row: dict, degree: int) -> Finding:
        measured = estimate_of(row, f"ratio_{degree}")
        says = (f"Up to {INSIDE:g} expected repeats the error least sure of its prediction is that of degree {degree} "
                f"at n = {row['size']}, {decimal(measured.value, 3)} times it.")  # fmt: skip
        return claim.equals(measured, 1.0, TOLERANCE, says, regime)

    return worst(judged(row, degree) for row in rows if row["control"] <= INSIDE for degree in DEGREES)


def _end(runs: pl.DataFrame, table: pl.DataFrame) -> Finding:
    place, bracket = crossing(table["control"], table["missing"], 1.0)
    own = runs.join(table.select("size", "control"), on="size")
    places = list(crossings_over_seeds(own, "control", "missing", 1.0).values())
    claim = Claim("sum of the shares, points drawn twice", "n^2 / 2^(d+1) = 1", "derived here", "points", "identity",
                  "boundary", "neural_tangent_curve")  # fmt: skip
    if place is None:
        return claim.located(places, None, 1.0, 1.3, "On average no sample of the sweep misses a mode.")
    met = sorted(one for one in places if one is not None)
    by_seed = f"; of {len(places)} seeds {len(met)} do, at {met[0]:.2f} to {met[-1]:.2f}" if met else ""
    says = (f"With points drawn at random the sum of the shares misses one mode at n^2 / 2^(d+1) = {place:.2f} on "
            f"average{by_seed}.")  # fmt: skip
    regime = [Regime("n^2 / 2^(d+1)", "points", table["control"].min(), bracket[0], bracket[1], 1.0)]
    return claim.located(places, bracket, 1.0, 1.3, says, regime)


def _why(dials: Curve, table: pl.DataFrame) -> str:
    """Where the errors leave their tolerance, and how much of that is due to repeated points."""
    errors = [_off(row) for row in table.iter_rows(named=True)]
    place, _ = crossing(table["control"], errors, TOLERANCE)
    last = table.sort("control").row(-1, named=True)
    (_, before), (_, after) = (
        predicted_curve(dials.dimension, n) for n in (last["size"], last["size"] - last["missing"])
    )
    where = "nowhere in the sweep" if place is None else f"already at n^2 / 2^(d+1) = {place:.2f}"
    return (f"The errors leave {100 * TOLERANCE:g} % {where}. At n = {last['size']} that of degree 1 is "
            f"{last['ratio_1']:.3f} times its prediction, {last['once_1']:.3f} times without repeats, worth a factor "
            f"{after[1] / before[1]:.3f} in theory; the rest is a correction at finite n that the control does not see."
            )  # fmt: skip
