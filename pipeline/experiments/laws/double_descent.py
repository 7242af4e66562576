"""Least squares of least norm errs most where parameters equal samples, and the best ridge removes that peak.

With n samples y = beta . x + noise of variance s2, isotropic Gaussian x of p features and |beta|^2 = r2, the expected
excess risk |b - beta|^2 of the solution of least norm is known exactly at every size,

    p < n - 1:   s2 p / (n - p - 1),
    p > n + 1:   r2 (1 - n / p) + s2 n / (p - n - 1),

and infinite between. Under the ridge lam = p s2 / r2, the best where nothing but |beta| is known, it only rises with p.

Source: Belkin, Hsu and Xu 2019, arXiv 1903.07571, and Hastie et al. 2019, arXiv 1903.08560 (exact risk); Nakkiran et
al. 2020, arXiv 2003.01897 (ridge). The ends of the regime are derived here, the variances from inverse Wishart moments.

Regime. Controls, all known before a run. The distance |p - n|: the smallest eigenvalue of a Wishart matrix is below x
with a probability ~ x^((|p - n| + 1) / 2), so (|p - n| + 1) / 2 is the tail index of the error of one data set; its
mean exists while |p - n| > 1, its variance while |p - n| > 3, and there the means are compared. The ridge as a share of
the best one: the peak is gone from the share on at which the deterministic equivalent of the risk loses its fall. And
s2 / r2: without ridge, the risk at |p - n| >= 4 hardly falls once the noise is as small as the exact risk says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Annotated

import numpy as np
import polars as pl
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from scipy.optimize import brentq

from pipeline.experiments.experiment import Finding, Judgement, Regime, RunContext, RunResult, StudyFacts
from pipeline.experiments.law import Dials, Seeds, law_run, result
from pipeline.experiments.sweep import crossing
from pipeline.experiments.verdict import Claim, Estimate, over_seeds
from pipeline.planning.run_spec import RunSpec
from pipeline.reporting.chapter import Figure
from pipeline.reporting.numbers import significant
from pipeline.reporting.panel import panel

TITLE = "Double descent"
BELKIN, NAKKIRAN = "Belkin et al. 2019, arXiv 1903.07571", "Nakkiran et al. 2020, arXiv 2003.01897"
MARGIN = 4
"""Least |p - n| at which the error has a variance."""
FALL = 0.05
"""Fall of the risk, as p grows, that counts as a peak."""
Sweep = Annotated[list[PositiveFloat], Field(min_length=2)]


class Settings(Dials):
    """Dials: `num_samples` n; `num_features` p; `signal` r2; `noise` s2; `ridges` as shares of the best one;
    `noises`, other values of s2; `repetitions`, data sets a seed."""

    seeds: Seeds
    num_samples: Annotated[int, Field(gt=MARGIN)]
    num_features: list[PositiveInt]
    signal: PositiveFloat
    noise: PositiveFloat
    ridges: Sweep
    noises: Sweep
    repetitions: Annotated[int, Field(ge=100)]

    @model_validator(mode="after")
    def _both_sides(self) -> Settings:
        n, sizes = self.num_samples, set(self.num_features)
        if sum(p <= n - MARGIN for p in sizes) < 2 or sum(p >= n + MARGIN for p in sizes) < 2:
            raise ValueError(f"num_features: two sizes at least {MARGIN} below and two above {n} samples are needed")
        if not {n - 1, n, n + 1} <= sizes:
            raise ValueError(f"num_features: the peak is sought at {n - 1}, {n} and {n + 1}; one of them is missing")
        if 1.0 not in self.ridges:
            raise ValueError("ridges: the best ridge, 1.0, is missing")
        return self


def plan(settings: Settings, study: StudyFacts) -> list[RunSpec]:
    """A run for each number of features and seed; the ridges and noises share its data."""
    fixed = settings.model_dump(include={"num_samples", "signal", "noise", "ridges", "noises", "repetitions"})
    return [
        law_run("double_descent", "features", fixed | {"num_features": p}, seed, label=f"p = {p} seed {seed}",
                seconds=settings.repetitions * settings.num_samples * (150 + p) * 2e-8)
        for p in sorted(set(settings.num_features)) for seed in settings.seeds
    ]  # fmt: skip


def run(spec: RunSpec, context: RunContext) -> Iterator[RunResult]:
    """Scalars, of the simulated solutions of least norm: `risk`, their mean |b - beta|^2; `middle`, its median; `tail`,
    Hill's 1 / index of the largest 5 %. The curve holds the mean risk given the inputs for each ridge and noise."""
    setup, random = spec.settings, np.random.default_rng(spec.seed)
    n, p, r2, s2 = (setup[name] for name in ("num_samples", "num_features", "signal", "noise"))
    cases = [(share, s2) for share in setup["ridges"]] + [(0.0, value) for value in setup["noises"]]
    errors, given = [], np.zeros(len(cases))
    for start in range(0, setup["repetitions"], 200):
        num_sets = min(200, setup["repetitions"] - start)
        X, noise = random.normal(size=(num_sets, n, p)), np.sqrt(s2) * random.normal(size=(num_sets, n))
        beta = np.full(p, np.sqrt(r2 / p))
        b, spectrum = least_norm(X, X @ beta + noise)
        errors.append(((b - beta) ** 2).sum(axis=1))
        given += [risk_given(spectrum, p, r2, value, share * p * value / r2).sum() for share, value in cases]
    error = np.sort(np.concatenate(errors))
    top = error[-max(len(error) // 20, 2) :]
    ridges, noises = zip(*cases, strict=True)
    yield result(
        {"risk": error.mean(), "middle": np.median(error), "tail": np.log(top[1:] / top[0]).mean()},
        {"step": range(len(cases)), "ridge": ridges, "s2": noises, "mean_risk": given / setup["repetitions"]},
    )


def least_norm(X: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The solutions of least norm of X b = y in the sense of least squares, shape (sets, p), and the min(n, p)
    eigenvalues of X^T X that are not zero."""
    transposed, tall = X.transpose(0, 2, 1), X.shape[1] >= X.shape[2]
    spectrum, basis = np.linalg.eigh(transposed @ X if tall else X @ transposed)
    known = np.einsum("rnp,rn->rp", X, y) if tall else y
    solved = np.einsum("rij,rj->ri", basis, np.einsum("rij,ri->rj", basis, known) / spectrum)
    return (solved if tall else np.einsum("rnp,rn->rp", X, solved)), spectrum


def risk_given(spectrum: np.ndarray, p: int, r2: float, s2: float, ridge: float) -> np.ndarray:
    """Excess risk of a ridge estimate given the eigenvalues of X^T X, averaged over noise and direction of beta."""
    kept = spectrum / (spectrum + ridge)
    bias = r2 / p * (((1 - kept) ** 2).sum(axis=1) + p - spectrum.shape[1])
    return bias + s2 * (kept**2 / spectrum).sum(axis=1)


def exact(n: int, p: int, r2: float, s2: float) -> tuple[float, float]:
    """(mean, variance) of |b - beta|^2; infinite where they do not exist."""
    small, large, apart = min(n, p), max(n, p), abs(n - p)
    share = max(1 - n / p, 0.0)
    mean = r2 * share + s2 * small / (apart - 1) if apart > 1 else np.inf
    if apart < MARGIN:
        return mean, np.inf
    trace = 2 * small * (large - 1) / (apart * (apart - 1) ** 2 * (apart - 3))
    square = small * (large - 1) / (apart * (apart - 1) * (apart - 3))
    return mean, s2**2 * (trace + 2 * square) + r2**2 * 2 * share * (1 - share) / (p + 2)


def equivalent(n: int, p: int, r2: float, s2: float, ridge: float) -> float:
    """Excess risk of a ridge estimate by its deterministic equivalent, exact as n and p grow together."""
    gap = p / n + ridge / n - 1
    kappa = (gap + np.sqrt(gap**2 + 4 * ridge / n)) / 2
    return (r2 * (kappa / (1 + kappa)) ** 2 + s2) / (1 - p / n / (1 + kappa) ** 2) - s2


def fall(risks: Sequence[float]) -> float:
    """The largest part by which the risk falls from one size to any larger one; 0 where it only rises."""
    return float(np.max(1 - np.asarray(risks) / np.maximum.accumulate(np.asarray(risks))))


def judge(settings: Settings, runs: pl.DataFrame, curves: pl.DataFrame) -> Judgement:
    """The exact risk and its z scores, the peak, the tail of its errors, and what removes the peak."""
    n, r2, s2, num_seeds = settings.num_samples, settings.signal, settings.noise, len(settings.seeds)
    num_sets = settings.repetitions * num_seeds
    runs = runs.rename({"num_features": "p"}).with_columns(apart=(pl.col("p") - n).abs())
    sizes = runs.group_by("p", "apart").agg(pl.col("risk", "middle", "tail").mean()).sort("p")
    theory = pl.DataFrame([exact(n, p, r2, s2) for p in sizes["p"]], ["exact", "variance"], orient="row")
    z = (pl.col("risk") - pl.col("exact")) / (pl.col("variance") / num_sets).sqrt()
    sizes = sizes.hstack(theory.with_columns(pl.all().replace(np.inf, None))).with_columns(z=z)
    tails = sizes.filter(pl.col("apart") <= MARGIN).group_by("apart").agg(index=1 / pl.col("tail").mean())
    tails = tails.with_columns(predicted=(pl.col("apart") + 1) / 2).sort("apart")
    cases = curves.join(runs["run_id", "p", "apart", "seed"], on="run_id", maintain_order="left")
    ridged = cases.filter(pl.col("ridge") > 0).with_columns(value="ridge")
    bare = cases.filter((pl.col("ridge") == 0) & (pl.col("apart") >= MARGIN)).with_columns(value=pl.col("s2") / r2)
    ridges = _falls(ridged, lambda p, share: equivalent(n, p, r2, s2, share * p * s2 / r2))
    noises = _falls(bare, lambda p, ratio: exact(n, p, r2, ratio * r2)[0])
    shown = ridged.group_by("ridge", "p").agg(risk=pl.col("mean_risk").mean()).sort("ridge", "p")
    risk, middle = sizes.filter(pl.col("p") == n).row(0, named=True)["risk"], sizes["middle"].max()
    says = [
        f"Means over {num_sets} data sets are compared with the exact ones where errors have a variance.",
        f"Nearer to p = n the worst data sets rule the mean, {risk:.2g} at p = n; the median reaches {middle:.2g}.",
    ]
    tables = {"sizes": sizes, "tails": tails, "noises": noises[0], "ridges": ridges[0], "ridged": shown}
    findings = [*_risk(sizes, tails, n, num_sets), *_removed(sizes, ridges, noises, num_seeds)]
    return Judgement(findings, {"says": says}, tables)


def _falls(cases: pl.DataFrame, theory: Callable[[int, float], float]) -> tuple[pl.DataFrame, float]:
    """(for each value the fall of the mean risk, measured and predicted; the value predicted for a fall of FALL)."""
    sizes, rows = cases["p"].unique().sort(), []
    for (value,), own in cases.group_by("value"):
        seeds = over_seeds(fall(part.sort("p")["mean_risk"]) for _, part in own.group_by("seed", maintain_order=True))
        rows.append((value, seeds.value, seeds.error, fall([theory(p, value) for p in sizes])))
    place = np.exp(brentq(lambda log: fall([theory(p, np.exp(log)) for p in sizes]) - FALL, np.log(1e-9), 0.0))
    return pl.DataFrame(rows, ["value", "fall", "fall_se", "predicted"], orient="row").sort("value"), float(place)


def _risk(sizes: pl.DataFrame, tails: pl.DataFrame, n: int, num_sets: int) -> list[Finding]:
    """Simulated over exact risk, weighted by exact precision; the largest z score; the peak; the end of the mean."""
    inside, top, p = sizes.drop_nulls("z"), int(sizes["middle"].arg_max()), sizes["p"]
    weight = inside["exact"] ** 2 / inside["variance"] * num_sets
    ratio, largest = float((inside["risk"] / inside["exact"] * weight).sum() / weight.sum()), inside["z"].abs().max()
    claim = Claim("exact risk of least squares", "s2 p/(n-p-1); r2 (1-n/p) + s2 n/(p-n-1)", BELKIN, "ratio", "identity",
                  figure="double_descent_risk")  # fmt: skip
    scores = replace(claim, law="exact risk at every size", formula="|z|", unit="exact standard errors")
    says = f"At {len(inside)} sizes with |p - {n}| >= {MARGIN} the simulated risk is {ratio:.4f} of the exact one."
    measured, held = Estimate(ratio, float(weight.sum()) ** -0.5, num_sets), inside["apart"].min()
    found = [claim.equals(measured, 1.0, 0.01, says, [Regime("|p - n|", "features", held, None)])]
    around = float(p[max(top - 1, 0)]), float(p[min(top + 1, len(p) - 1)])
    peak = Claim("peak of the risk", "p = n", BELKIN, "features", "identity", "boundary", "double_descent_risk")
    mean = Claim("mean of the risk exists", "tail index (|p - n| + 1) / 2 > 1", "derived here", "|p - n| + 1",
                 role="boundary", figure="double_descent_tail")  # fmt: skip
    end, bracket = crossing(tails["apart"] + 1, tails["index"], 1.0)
    broke = tails.filter(pl.col("index") <= 1)["apart"].max()
    low = tails.filter(pl.col("apart").gt(broke) if broke is not None else True)["apart"].min()
    ends = f"The tail index of single errors is 1, where they lose their mean, at |p - n| + 1 = {significant(end)}."
    return [
        *found,
        scores.at_most(Estimate(largest), 3.5, f"No size deviates by more than {largest:.2g} exact standard errors."),
        peak.located([float(p[top])], around, n, 1.02, f"The median error is largest at p = {p[top]}, for n = {n}."),
        mean.located([end], bracket, 2.0, 1.25, ends, [Regime("|p - n|", "features", low, None, broke, 1)]),
    ]


def _removed(sizes: pl.DataFrame, ridges: tuple, noises: tuple, num_seeds: int) -> list[Finding]:
    """Monotone under the best ridge, not without one, and how much ridge or how little noise removes the peak."""
    best = ridges[0].filter(pl.col("value") == 1.0).row(0, named=True)
    with_best, without = Estimate(best["fall"], best["fall_se"], num_seeds), Estimate(fall(sizes["middle"]))
    claim = Claim("risk monotone under the best ridge", "lam = p s2 / r2", NAKKIRAN, figure="double_descent_ridge")
    control = replace(claim, law="risk monotone without ridge", formula="lam = 0", role="control")
    says = f"The largest fall of the risk under the best ridge, as p grows, is {with_best.value:.1%}."
    found = [claim.at_most(with_best, 0.01, says)]
    says = f"The largest fall of the median risk without ridge is {without.value:.1%}."
    found.append(control.at_most(without, 0.01, says))
    for (table, predicted), name, words in ((ridges, "ridge", "share of the best ridge"), (noises, "noise", "s2 / r2")):
        place, bracket = crossing(table["value"], table["fall"] - FALL, 0.0)
        below, above = bracket or (None, None)
        claim = Claim(f"peak removed by {name}", "fall of the predicted risk", "derived here", words, role="boundary",
                      figure=f"double_descent_{name}")  # fmt: skip
        says = f"Beyond n, the risk falls by {FALL:.0%} at {words} = {significant(place)}; predicted {predicted:.3g}."
        ends = (None, below, above) if name == "noise" else (above, None, below)
        found.append(claim.located([place], bracket, predicted, 1.3, says, [Regime(words, "", *ends, predicted)]))
    return found


def draw(summary: dict, tables: dict[str, pl.DataFrame], runs: pl.DataFrame, curves: pl.DataFrame) -> list[Figure]:
    """The risk against the number of features, ridges that remove its peak, and the two ends of the regime."""
    return [
        panel("double_descent_risk", "Risk of least squares of least norm", "Dots: simulated; line: exact mean.",
              tables["sizes"].with_columns(mean=pl.when(pl.col("exact").is_not_null()).then("risk")), "p",
              {"mean": "mean, where it exists", "middle": "median"}, theory="exact", x_label="features p",
              y_label="excess risk"),
        panel("double_descent_ridge", "A ridge removes the peak", "Mean risk under shares of the best ridge.",
              tables["ridged"], "p", "risk", by="ridge", by_label="share", x_label="features p", y_label="excess risk"),
        panel("double_descent_tail", "Tail of the errors of single data sets", "Hill's index of the largest 5 %; line: "
              "(|p - n| + 1) / 2. Below 1 there is no mean risk.", tables["tails"], "apart", "index",
              theory="predicted", x_label="|p - n|", y_label="tail index", logs="", horizontal={"mean exists": 1.0}),
        panel("double_descent_noise", "Little noise, no peak", "Largest fall of the risk over sizes with |p - n| >= 4, "
              "no ridge; line: of the exact risk.", tables["noises"], "value", "fall", theory="predicted",
              x_label="s2 / r2", y_label="largest fall of the risk", logs="x", horizontal={"counts as a peak": FALL}),
    ]  # fmt: skip
