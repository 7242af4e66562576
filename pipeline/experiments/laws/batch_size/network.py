"""Batch size on a network: which rule for the rate keeps the course of SGD and of Adam when the batch grows."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations, pairwise
from typing import Annotated

import numpy as np
import polars as pl
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from pipeline.experiments.experiment import Finding, Regime, RunResult
from pipeline.experiments.law import Seeds, law_run, result
from pipeline.experiments.sweep import mean_over_seeds, worst
from pipeline.experiments.verdict import Claim, Estimate, over_seeds
from pipeline.params import Section
from pipeline.planning.run_spec import RunSpec
from pipeline.reporting.numbers import decimal

SOURCES = {"sgd": "Goyal et al. 2017, arXiv 1706.02677", "adam": "Malladi et al. 2022, arXiv 2205.10287"}
POWERS = {"linear": 1.0, "sqrt": 0.5, "none": 0.0}
LOST = float(np.log(1e6))
"""The distance of a diverged run from its course."""
RANKED = {"sgd": ("linear", "sqrt", "none"), "adam": ("sqrt", "linear", "none")}
BETAS, EPSILON, NUM_POINTS, NUM_TESTED, TEACHER_SEED = (0.95, 0.99), 1e-8, 32, 2048, 1234


class Network(Section):
    """Dials: a tanh network of two hidden layers of `width` learns a teacher of its own shape from `examples` that are
    seen once, with label noise of standard deviation `noise`; reference `batch` with `sgd_rate` or `adam_rate`;
    `factors` k, the last one judged; `beyond`, a factor for SGD alone."""

    seeds: Annotated[Seeds, Field(min_length=4)]
    num_inputs: PositiveInt
    width: PositiveInt
    noise: PositiveFloat
    examples: PositiveInt
    batch: PositiveInt
    sgd_rate: PositiveFloat
    adam_rate: PositiveFloat
    factors: Annotated[list[Annotated[int, Field(ge=2)]], Field(min_length=1)]
    beyond: Annotated[int, Field(ge=2)]

    @model_validator(mode="after")
    def _possible(self) -> Network:
        most = max(self.factors)
        if most * (1 - BETAS[0]) >= 1:
            raise ValueError(f"factors: {most} leaves no momentum to Adam: k (1 - {BETAS[0]}) must be below 1")
        if self.beyond <= most:
            raise ValueError(f"beyond: {self.beyond} must be above every factor, {self.factors}")
        for factor in (*self.factors, self.beyond):
            if self.examples % (self.batch * factor * NUM_POINTS):
                raise ValueError(
                    f"examples: {self.examples} are not {NUM_POINTS} times whole batches of {self.batch * factor}"
                )
        return self


def plan_network(dials: Network) -> Iterable[RunSpec]:
    """For each optimiser and seed the reference, and every rule at every factor."""
    shared = dials.model_dump(include={"num_inputs", "width", "noise", "examples"})
    for optimizer, rate in (("sgd", dials.sgd_rate), ("adam", dials.adam_rate)):
        factors = [*dials.factors, *([dials.beyond] if optimizer == "sgd" else [])]
        for rule, factor in [("reference", 1), *((rule, k) for k in factors for rule in POWERS)]:
            one = shared | {"optimizer": optimizer, "rule": rule, "factor": factor, "batch": dials.batch * factor}
            one["rate"] = rate * factor ** POWERS.get(rule, 0.0)
            seconds = dials.examples / one["batch"] * (1e-4 if optimizer == "sgd" else 2e-4)
            for seed in dials.seeds:
                label = f"{optimizer} {rule} x{factor} seed {seed}"
                yield law_run("batch_size", "network", one, seed, label=label, seconds=seconds)


def run_network(spec: RunSpec) -> RunResult:
    """The curve holds `excess`, half the squared distance from the teacher on fixed inputs, at 32 numbers of examples.
    The seed sets the initial weights and the examples, so runs that differ in the rule alone see the same."""
    dials, task = spec.settings, np.random.default_rng(TEACHER_SEED)
    shape = weight_shapes(dials["num_inputs"], dials["width"])
    teacher = layers(2.0 * initial(task, shape), shape)
    tested = task.normal(size=(NUM_TESTED, dials["num_inputs"]))
    taught = outputs(teacher, tested)[-1]
    scale = taught.std()
    random = np.random.default_rng(spec.seed)
    flat = initial(random, shape)
    x = random.normal(size=(dials["examples"], dials["num_inputs"]))
    y = outputs(teacher, x)[-1] / scale + dials["noise"] * random.normal(size=len(x))
    weights, gradient, batch = layers(flat, shape), np.empty_like(flat), dials["batch"]
    update = _adam(flat, dials["rate"], dials["factor"]) if dials["optimizer"] == "adam" else _sgd(dials["rate"])
    every, excess = dials["examples"] // NUM_POINTS, []
    for seen in range(0, dials["examples"], batch):
        backward(weights, layers(gradient, shape), x[seen : seen + batch], y[seen : seen + batch])
        flat -= update(gradient)
        if (seen + batch) % every == 0:
            excess.append(0.5 * np.mean((outputs(weights, tested)[-1] - taught / scale) ** 2))
            if not excess[-1] < 1e6:
                return result({}, status="diverged", reason=f"excess risk {excess[-1]} after {seen + batch} examples")
    return result({"last": excess[-1]}, {"step": every * np.arange(1, NUM_POINTS + 1), "excess": excess})


def weight_shapes(num_inputs: int, width: int) -> list[tuple[int, ...]]:
    """Shapes of weights and biases of the three layers in turn."""
    return [(num_inputs, width), (width,), (width, width), (width,), (width, 1), (1,)]


def initial(random: np.random.Generator, shape: list[tuple[int, ...]]) -> np.ndarray:
    """All weights in one vector: matrices of standard deviation 1 / sqrt(fan-in), biases zero."""
    parts = [random.normal(size=one) / np.sqrt(one[0]) if len(one) == 2 else np.zeros(one) for one in shape]
    return np.concatenate([part.ravel() for part in parts])


def layers(flat: np.ndarray, shape: list[tuple[int, ...]]) -> list[np.ndarray]:
    """Views of `flat` as weights and biases of the three layers in turn."""
    ends = np.cumsum([np.prod(one) for one in shape])
    return [part.reshape(one) for part, one in zip(np.split(flat, ends[:-1]), shape, strict=True)]


def outputs(weights: list[np.ndarray], x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Both hidden layers and the output, one row an example."""
    W1, b1, W2, b2, W3, b3 = weights
    first = np.tanh(x @ W1 + b1)
    second = np.tanh(first @ W2 + b2)
    return first, second, (second @ W3 + b3)[:, 0]


def backward(weights: list[np.ndarray], gradient: list[np.ndarray], x: np.ndarray, y: np.ndarray) -> None:
    """Fills `gradient` with that of the mean of (output - y)^2 / 2."""
    first, second, output = outputs(weights, x)
    delta = ((output - y) / len(y))[:, None]
    for index, below, above in ((4, second, None), (2, first, second), (0, x, first)):
        if above is not None:
            delta = delta @ weights[index + 2].T * (1 - above * above)
        np.matmul(below.T, delta, out=gradient[index])
        np.sum(delta, axis=0, out=gradient[index + 1])


def _sgd(rate: float):
    return lambda gradient: rate * gradient


def _adam(flat: np.ndarray, rate: float, factor: int):
    """Adam whose averages span the same number of examples at every batch: 1 - beta grows as k, epsilon as k^-1/2."""
    first, second, now = np.zeros_like(flat), np.zeros_like(flat), 0
    fade, fade_squared = (factor * (1 - beta) for beta in BETAS)
    epsilon = EPSILON / factor**0.5

    def update(gradient: np.ndarray) -> np.ndarray:
        nonlocal now
        now += 1
        np.add(first, fade * (gradient - first), out=first)
        np.add(second, fade_squared * (gradient * gradient - second), out=second)
        grown = np.sqrt(second / (1 - (1 - fade_squared) ** now)) + epsilon
        return rate / (1 - (1 - fade) ** now) * first / grown

    return update


def judge_network(
    dials: Network, runs: pl.DataFrame, curves: pl.DataFrame
) -> tuple[list[Finding], list[str], dict[str, pl.DataFrame]]:
    """(findings, sentences, tables): the rules ranked for SGD and for Adam, with the floor between seeds."""
    own = runs.filter(pl.col("kind") == "network")
    points = own.join(curves.select("run_id", "step", "excess"), on="run_id", maintain_order="left_right").select(
        "optimizer", "rule", "factor", "seed", "step", log=pl.col("excess").log()
    )
    reference = points.filter(pl.col("rule") == "reference").drop("rule", "factor")
    paired = points.filter(pl.col("rule") != "reference").join(
        reference, on=["optimizer", "seed", "step"], maintain_order="left"
    )
    away = (pl.col("log") - pl.col("log_right")).abs().mean()
    missed = paired.group_by("optimizer", "rule", "factor", "seed", maintain_order=True).agg(error=away)
    lost = own.filter(pl.col("status") == "diverged", pl.col("rule") != "reference")
    missed = pl.concat([missed, lost.select("optimizer", "rule", "factor", "seed", error=pl.lit(LOST))])
    floors = {optimizer: _floor(reference.filter(pl.col("optimizer") == optimizer)) for optimizer in RANKED}
    table = mean_over_seeds(missed, ["optimizer", "rule", "factor"], "error").with_columns(
        course=pl.format("{}, {}", "optimizer", "rule"), floor=pl.col("optimizer").replace_strict(floors)
    )
    findings = [_ranking(optimizer, missed, max(dials.factors), floors[optimizer]) for optimizer in RANKED]
    return findings, _beyond(dials, table), {"network": table}


def _floor(reference: pl.DataFrame) -> float:
    """Mean |ln ratio| of two reference runs that differ in the seed alone."""
    rows = [group.sort("step")["log"].to_numpy() for _, group in reference.group_by("seed", maintain_order=True)]
    apart = [np.abs(one - other).mean() for one, other in combinations(rows, 2)]
    return float(np.mean(apart)) if apart else np.inf


def _ranking(optimizer: str, missed: pl.DataFrame, factor: int, floor: float) -> Finding:
    ranked, name = RANKED[optimizer], {"sgd": "SGD", "adam": "Adam"}[optimizer]
    rows = missed.filter(optimizer=optimizer, factor=factor).pivot(on="rule", index="seed", values="error").sort("seed")
    rows = rows.with_columns(pl.lit(None, pl.Float64).alias(rule) for rule in ranked if rule not in rows.columns)
    claim = Claim(f"scaling rules ranked, {name} on a network", " < ".join(ranked), SOURCES[optimizer],
                  "mean |ln ratio|", figure="batch_size_network")  # fmt: skip
    regime = [Regime("k", "times the batch", 1.0, float(factor))]
    steps = [over_seeds(rows[worse] - rows[better]) for better, worse in pairwise(ranked)]
    if all(step.value is None for step in steps):
        return claim.at_least(Estimate(None), 0.0, f"No reference run of {name} came to its end.", regime)
    told = ", ".join(f"{rule} {decimal(rows[rule].mean(), 3)}" for rule in ranked)
    says = f"At {factor} times the batch {name} leaves its course by: {told}; two seeds are {floor:.3f} apart."
    # An interval is at least as wide as the distance of two seeds, so a smaller difference stays undetermined.
    floors = [floor / Estimate(0.0, 1.0, step.num).reach for step in steps]
    wide = [
        Estimate(step.value, float(np.maximum(step.error, least)), step.num)
        for step, least in zip(steps, floors, strict=True)
    ]
    return worst(claim.at_least(step, 0.0, says, regime) for step in wide)


def _beyond(dials: Network, table: pl.DataFrame) -> list[str]:
    """Where the linear rule of SGD ends on the network."""
    far = {row["rule"]: row["error"] for row in table.filter(optimizer="sgd", factor=dials.beyond).to_dicts()}
    if not {"linear", "sqrt"} <= far.keys():
        return []
    lost = "no longer beats" if far["linear"] > far["sqrt"] else "still beats"
    return [
        f"On the network the linear rule {lost} the square-root rule at {dials.beyond} times the batch of SGD "
        f"({far['linear']:.2f} against {far['sqrt']:.2f} away from the course in ln risk)."
    ]
