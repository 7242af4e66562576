"""Batch size in an exactly solvable case: one-pass SGD on Gaussian linear regression, in expectation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Annotated

import numpy as np
import polars as pl
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from scipy.optimize import brentq, least_squares, minimize_scalar

from pipeline.experiments.experiment import Finding, Regime, RunResult
from pipeline.experiments.law import law_run, result
from pipeline.experiments.laws.solvable_scaling.one_pass_sgd import feedback
from pipeline.experiments.sweep import crossing, greatest, local_slopes
from pipeline.experiments.verdict import Claim, Estimate
from pipeline.params import Section
from pipeline.planning.run_spec import RunSpec
from pipeline.reporting.numbers import percent

GOYAL = "Goyal et al. 2017, arXiv 1706.02677"
MCCANDLISH = "McCandlish et al. 2018, arXiv 1812.06162"
SAME_COURSE, INSIDE = 0.02, 0.2
"""The largest error of a rule that keeps the course; the largest eta k lambda_max that is far from the wall."""
HYPERBOLA, NEAR = 0.05, 10.0
"""Rms of ln S above which steps and examples lie on no hyperbola; the factor within which B_crit is B_simple."""
LIMIT, DIVERGED = 20_000, 1e6


class Exact(Section):
    """Dials: eigenvalues k^-decay of `num_modes` inputs, label noise of variance `noise`; `rate` and batch 1 are the
    reference over `examples`, `factors` k of it are tried; `walls` are values of eta lambda_max around its end;
    `batches` those whose rate is tuned to reach `target` of the first risk."""

    num_modes: Annotated[int, Field(ge=2)]
    decay: Annotated[float, Field(gt=1)]
    noise: PositiveFloat
    rate: PositiveFloat
    examples: PositiveInt
    factors: Annotated[list[Annotated[int, Field(ge=2)]], Field(min_length=3)]
    walls: Annotated[list[PositiveFloat], Field(min_length=2)]
    batches: Annotated[list[PositiveInt], Field(min_length=4)]
    target: Annotated[float, Field(gt=0, lt=1)]

    @model_validator(mode="after")
    def _room_on_both_sides(self) -> Exact:
        if self.examples * self.rate < 8 * max(self.walls):
            raise ValueError(f"examples: {self.examples} are fewer than 8 steps at the largest of walls")
        if min(self.factors) * self.rate > INSIDE:
            raise ValueError(f"factors: eta k must begin below {INSIDE}, found {self.factors}")
        if max(self.factors) * self.rate >= self.wall:
            raise ValueError(f"factors: eta k must end below the wall {self.wall:.4g}, found {self.factors}")
        if not min(self.walls) < self.wall < max(self.walls):
            raise ValueError(f"walls: {self.walls} must lie on both sides of {self.wall:.4g}")
        return self

    @property
    def wall(self) -> float:
        """eta lambda_max from which on the risk grows without end at the batch eta / rate of the linear rule."""
        spectrum, most = np.arange(1.0, self.num_modes + 1) ** -self.decay, 2 - self.rate
        return brentq(lambda eta: feedback(eta, spectrum, eta / self.rate) - 1, 1e-9, most * (1 - 1e-9))


def plan_exact(dials: Exact) -> Iterable[RunSpec]:
    """One exact computation a point: both rules at every factor, the wall, one step and many at every batch."""
    model = dials.model_dump(include={"num_modes", "decay", "noise"})
    whole = model | dials.model_dump(include={"rate", "examples"})
    points = [("rule", whole | {"rule": rule, "factor": k}) for rule in ("linear", "sqrt") for k in dials.factors]
    points += [("rule", whole | {"rule": "linear", "factor": control / dials.rate}) for control in dials.walls]
    points += [("one_step", model | {"batch": batch}) for batch in dials.batches]
    points += [("many_steps", model | {"batch": batch, "target": dials.target}) for batch in dials.batches]
    for kind, settings in points:
        point = settings.get("batch", settings.get("factor"))
        yield law_run("batch_size", kind, settings, label=f"exact {kind} {point:g}", seconds=0.5)


def run_exact(spec: RunSpec) -> RunResult:
    """Scalars by kind. rule: `error`, the largest |ln risk / reference| at equal examples, and `growth`, the risk at
    the end over that half-way. one_step: `best_rate`, `predicted_rate` and both noise scales. many_steps: the
    fewest `steps` to the target, at `best_rate`."""
    dials = spec.settings
    spectrum = np.arange(1.0, dials["num_modes"] + 1) ** -dials["decay"]
    start = np.ones_like(spectrum)
    if spec.kind == "rule":
        factor, noise = dials["factor"], dials["noise"]
        rate = dials["rate"] * factor ** (0.5 if dials["rule"] == "sqrt" else 1.0)
        risk = course(spectrum, start, noise, rate, factor, int(dials["examples"] / factor))
        reference = course(spectrum, start, noise, dials["rate"], 1, dials["examples"])
        seen = np.rint(factor * np.arange(len(risk))).astype(int)
        found = {"error": np.abs(np.log(risk / reference[seen])).max(), "growth": risk[-1] / risk[len(risk) // 2]}
        if risk[-1] > DIVERGED * risk[0]:
            return result(found, status="diverged", reason=f"the risk grows without end, step {len(risk) - 1}")
        return result(found)
    simple, noisy, largest = noise_scale(spectrum, start, dials["noise"])
    if spec.kind == "one_step":
        best = minimize_scalar(
            lambda rate: spectrum @ step(start, spectrum, dials["noise"], rate, dials["batch"]),
            bounds=(0.0, 4.0), method="bounded", options={"xatol": 1e-9},
        )  # fmt: skip
        predicted = largest / (1 + noisy / dials["batch"])
        return result({"best_rate": best.x, "predicted_rate": predicted, "noise_scale": noisy, "simple_scale": simple})

    def tried(log_rate: float) -> float:
        return np.log(steps_to(dials["target"], spectrum, start, dials["noise"], np.exp(log_rate), dials["batch"]))

    found = minimize_scalar(tried, bounds=np.log([1e-3, 2.0]), method="bounded", options={"xatol": 1e-3})
    tuned = {"steps": np.exp(found.fun), "best_rate": np.exp(found.x), "simple_scale": simple}
    if tuned["steps"] >= LIMIT:
        return result(tuned, status="diverged", reason=f"no rate reaches the target in {LIMIT} steps")
    return result(tuned)


def step(error: np.ndarray, spectrum: np.ndarray, noise: float, rate: float, batch: float) -> np.ndarray:
    """E (w_i - w*_i)^2 after one step of SGD: exact for Gaussian inputs with independent coordinates."""
    kept = 1 - 2 * rate * spectrum + rate**2 * (1 + 1 / batch) * spectrum**2
    return error * kept + rate**2 / batch * spectrum * (spectrum @ error + noise)


def course(spectrum: np.ndarray, error: np.ndarray, noise: float, rate: float, batch: float, num: int) -> np.ndarray:
    """The excess risk at the start and after each of `num` steps; cut where it has grown beyond all bounds."""
    risk = [spectrum @ error]
    for _ in range(num):
        error = step(error, spectrum, noise, rate, batch)
        risk.append(spectrum @ error)
        if not risk[-1] < DIVERGED * risk[0]:
            break
    return np.array(risk)


def noise_scale(spectrum: np.ndarray, error: np.ndarray, noise: float) -> tuple[float, float, float]:
    """B_simple = tr Sigma / |G|^2, B_noise = tr(H Sigma) / G^T H G, and eta_max = |G|^2 / G^T H G, the best rate of one
    step without noise; Sigma = (risk + noise) H + G G^T is the covariance of one example's gradient."""
    squared, curved, spread = spectrum**2 @ error, spectrum**3 @ error, spectrum @ error + noise
    simple = (spectrum.sum() * spread + squared) / squared
    return simple, (spectrum @ spectrum * spread + curved) / curved, squared / curved


def steps_to(share: float, spectrum: np.ndarray, error: np.ndarray, noise: float, rate: float, batch: float) -> float:
    """Steps, interpolated, until the risk is `share` of the first; beyond LIMIT a value that grows with the miss."""
    target = share * (spectrum @ error)
    before = spectrum @ error
    for now in range(LIMIT):
        error = step(error, spectrum, noise, rate, batch)
        risk = spectrum @ error
        if risk <= target:
            return now + np.log(before / target) / np.log(before / risk)
        if risk > DIVERGED * target:
            break
        before = risk
    return LIMIT * (1 + min(risk / target, DIVERGED))


def hyperbola(batch: Sequence[float], steps: Sequence[float]) -> tuple[float, float, float, float]:
    """(S_min, B_crit, standard error of ln B_crit, rms of residuals) of S = S_min (1 + B_crit / B), fitted in ln S."""
    batch, steps = np.asarray(batch, float), np.asarray(steps, float)
    fit = least_squares(
        lambda theta: theta[0] + np.log1p(np.exp(theta[1]) / batch) - np.log(steps),
        [np.log(steps.min()), np.log(np.median(batch))],
    )
    covariance = np.linalg.inv(fit.jac.T @ fit.jac) * 2 * fit.cost / (len(batch) - 2)
    least, critical = np.exp(fit.x)
    return float(least), float(critical), float(covariance[1, 1] ** 0.5), float((2 * fit.cost / len(batch)) ** 0.5)


def judge_exact(dials: Exact, runs: pl.DataFrame) -> tuple[list[Finding], list[str], dict[str, pl.DataFrame]]:
    """(findings, sentences, tables) of the exact case."""
    rule = runs.filter(kind="rule").with_columns(control=pl.col("factor") * dials.rate)
    rule = rule.select("rule", "factor", "control", "error", "growth", wall=dials.wall).sort("rule", "factor")
    one, many = (runs.filter(kind=kind).sort("batch") for kind in ("one_step", "many_steps"))
    reached = many.filter(status="finished")
    least, critical, spread, rms = hyperbola(reached["batch"], reached["steps"])
    largest = one["predicted_rate"] * (1 + one["noise_scale"] / one["batch"])
    slowdowns = {
        "one step, eta_max / eta*": (one, largest / one["best_rate"], one["noise_scale"]),
        "many steps, S / S_min": (reached, reached["steps"] / least, critical),
    }
    optimum = [
        rows.select("batch", what=pl.lit(what), slowdown=slowdown, predicted=1 + scale / rows["batch"])
        for what, (rows, slowdown, scale) in slowdowns.items()
    ]
    ends = [_wall(rule.filter(rule="linear")), _one_step(one), *_critical(reached, critical, spread, rms)]
    linear = rule.filter(pl.col("rule") == "linear", pl.col("factor") <= max(dials.factors))
    lower, upper = local_slopes(linear["factor"] - 1, linear["error"])
    says = [
        f"Where theory is exact the error of the linear rule grows as (k - 1)^{lower:.2f} at small and "
        f"(k - 1)^{upper:.2f} at large k. The critical batch over many steps, {critical:.3g}, is "
        f"{critical / one['simple_scale'][0]:.1f} times the noise scale of the first gradient, which grows in time."
    ]
    return [*_rules(rule), *ends], says, {"rules": rule, "optimum": pl.concat(optimum)}


def _rules(rule: pl.DataFrame) -> list[Finding]:
    found, small = [], pl.col("error") <= SAME_COURSE
    for name, words, formula, role in (
        ("linear", "linear scaling rule, exact SGD", "eta -> k eta, B -> k B", "law"),
        ("sqrt", "square-root scaling rule, exact SGD", "eta -> k^1/2 eta, B -> k B", "control"),
    ):
        own = rule.filter(rule=name)
        off = greatest(own.filter(pl.col("control") <= INSIDE)["error"])
        held, broke = (own.filter(bound, pl.col("error").is_not_nan()) for bound in (small, ~small))
        regime = Regime("eta k lambda_max", "", held["control"].min(), held["control"].max(), broke["control"].min())
        claim = Claim(words, formula, GOYAL, "largest |ln ratio|", "identity", role, "batch_size_rules")
        says = f"Up to eta k lambda_max = {INSIDE:g} the risks at equal examples are within {percent(off.value, 3)}."
        found.append(claim.at_most(off, SAME_COURSE, says, [regime]))
    return found


def _wall(linear: pl.DataFrame) -> Finding:
    (place, bracket), predicted = crossing(linear["control"], linear["growth"], 1.0), linear["wall"][0]
    claim = Claim("end of the linear rule", "sum_i eta lambda_i / (B (2 - eta (1 + 1/B) lambda_i)) = 1", "derived here",
                  "eta k lambda_max", "identity", "boundary", "batch_size_rules")  # fmt: skip
    says = "The risk does not begin to grow in the swept range."
    if bracket is not None:
        growth = [linear.filter(control=control)["growth"][0] for control in bracket]
        says = (
            f"At eta k lambda_max = {bracket[0]:g} the risk ends at {growth[0]:.3g} times that half-way, at "
            f"{bracket[1]:g} at {growth[1]:.3g} times; it is predicted to grow without end from {predicted:.3f} on."
        )
    regime = Regime("eta k lambda_max", "", None, bracket and bracket[0], bracket and bracket[1], predicted)
    return claim.located([place], bracket, predicted, 1.1, says, [regime])


def _one_step(one: pl.DataFrame) -> Finding:
    off = greatest((one["best_rate"] / one["predicted_rate"] - 1).abs())
    noise = f"B_noise = {one['noise_scale'][0]:.3g}"
    says = f"The best rate of one step is the predicted one to {percent(off.value)}; {noise}."
    claim = Claim("best rate of one step", "eta* = eta_max / (1 + B_noise / B)", MCCANDLISH, "relative", "identity",
                  figure="batch_size_optimum")  # fmt: skip
    return claim.at_most(off, 0.01, says, [Regime("B", "examples", one["batch"].min(), one["batch"].max())])


def _critical(many: pl.DataFrame, critical: float, spread: float, rms: float) -> list[Finding]:
    simple, held = float(many["simple_scale"][0]), [Regime("B", "examples", many["batch"].min(), many["batch"].max())]
    formula, figure = "(S / S_min - 1) (E / E_min - 1) = 1", "batch_size_optimum"
    curve = Claim("steps against examples", formula, MCCANDLISH, "rms of ln S", figure=figure)
    batch = Claim("critical batch", "B_crit = E_min / S_min ~ B_simple", MCCANDLISH, "examples", figure=figure)
    says = f"At the best rates, steps and examples follow the hyperbola to {100 * rms:.1f} % rms."
    found = curve.at_most(Estimate(rms), HYPERBOLA, says, held)
    if found.verdict != "holds":
        return [found, batch.located([], None, simple, NEAR, "Without a hyperbola there is no critical batch.", held)]
    # The scatter about the hyperbola makes an interval of ln B_crit, with two parameters fitted.
    log = Estimate(np.log(critical / simple), spread, many.height - 1)
    ends = simple * np.exp(log.value - log.reach), simple * np.exp(log.value + log.reach)
    says = f"The hyperbola bends at B_crit = {critical:.3g}, {critical / simple:.2g} times B_simple."
    located = batch.located([critical], ends, simple, NEAR, says, held)
    verdict = batch.equals(log, 0.0, np.log(NEAR), says).verdict
    return [found, replace(located, verdict=verdict, error=critical * spread, interval_kind="confidence")]
