"""Gradient descent on the full batch drives the sharpness of the loss to 2 / eta and holds it there.

The sharpness S is the largest eigenvalue of the Hessian. Left to gradient flow it rises in training. At a rate eta a
quadratic loss is stable only up to S = 2 / eta, with heavy-ball momentum beta only up to 2 (1 + beta) / eta; a network
that meets this edge neither diverges nor stays below it: its loss rises and falls by turns, and S settles,

    S eta / (2 (1 + beta)) = 1.

Source: Cohen et al. 2021, arXiv 2103.00065; why it settles: Damian, Nichani and Lee 2022, arXiv 2209.15594; the early
catapult and its end near 4 / S0, for wide networks: Lewkowycz et al. 2020, arXiv 2003.02218.

Regime. A run at a small rate gives two numbers that place all others before they are made: S0, the sharpness at the
start, and S_GF, its largest in the same time (eta x steps). The edge is met where rho = eta S_GF / (2 (1 + beta)) > 1;
below, the law is not reached. Beyond eta = 2 / S0 the oscillation along the leading eigenvector grows from the first
steps on, and near 4 / S0 training diverges. The network must still be learning: the window is the second half of a
run, while the loss exceeds a millionth of its first value, and only runs that crossed the edge before it count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated

import numpy as np
import polars as pl
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from scipy.sparse.linalg import LinearOperator, eigsh

from pipeline.experiments.experiment import Judgement, RunContext, RunResult, StudyFacts
from pipeline.experiments.law import Dials, Seeds, law_run, one_thread, result, torch
from pipeline.experiments.laws.edge_of_stability.findings import CATAPULT, COHEN, NAME, end_of, fate, ratio, settles
from pipeline.experiments.sweep import mean_over_seeds
from pipeline.experiments.verdict import Claim
from pipeline.planning.run_spec import RunSpec
from pipeline.reporting.chapter import Figure
from pipeline.reporting.panel import panel

TITLE = "Edge of stability"
PLAIN, HEAVY = "gradient descent", "heavy ball"
Sweep = Annotated[list[PositiveFloat], Field(min_length=2)]


class Settings(Dials):
    """Dials: a tanh network of two hidden layers learns `num_points` random labels; `init_scale` multiplies its first
    weights; `time` is eta x steps; `multiples` are values of eta S0 / 2, tried at width `wide` for `start_seeds`. Heavy
    ball overshoots, so its sharpening must go on for longer: more points, smaller first weights."""

    seeds: Seeds
    start_seeds: Seeds
    num_points: PositiveInt
    num_hidden: PositiveInt
    init_scale: PositiveFloat
    time: PositiveFloat
    small_rate: PositiveFloat
    rates: Sweep
    wide: PositiveInt
    multiples: Sweep
    momentum: Annotated[float, Field(gt=0, lt=1)]
    heavy_points: PositiveInt
    heavy_scale: PositiveFloat
    heavy_rates: Sweep

    @model_validator(mode="after")
    def _room(self) -> Settings:
        rates = self.rates + self.heavy_rates
        if self.small_rate >= min(rates):
            raise ValueError(f"small_rate: {self.small_rate} is not below every rate, so it cannot predict for all")
        if self.time < 100 * max(rates):
            raise ValueError(f"time: {self.time:g} is less than 100 steps of the rate {max(rates):g}")
        if not min(self.multiples) < 1 < 2 < max(self.multiples):
            raise ValueError(f"multiples: {self.multiples} leave no room on both sides of 1 and 2")
        return self


def plan(settings: Settings, study: StudyFacts) -> list[RunSpec]:
    """For each seed and method a run at the small rate and one at every rate; short runs at multiples of 2 / S0."""
    task = settings.model_dump(include={"num_points", "num_hidden", "init_scale"})
    task |= {"momentum": 0.0, "multiple": None, "rate": None, "num_samples": 40}
    heavy = {"momentum": settings.momentum, "num_points": settings.heavy_points, "init_scale": settings.heavy_scale}
    short = {"num_hidden": settings.wide, "num_steps": 120, "num_samples": 1}
    points = [
        (kind, method | {"rate": rate, "num_steps": round(settings.time / rate)}, settings.seeds)
        for method, rates in (({}, settings.rates), (heavy, settings.heavy_rates))
        for kind, rate in [("small_rate", settings.small_rate), *(("edge", rate) for rate in rates)]
    ]
    points += [("start", short | {"multiple": value}, settings.start_seeds) for value in settings.multiples]
    return [
        law_run(NAME, kind, task | changed, seed, label=f"{kind} {changed} seed {seed}",
                seconds=0.1 + 3e-4 * changed["num_steps"])
        for kind, changed, seeds in points
        for seed in seeds
    ]  # fmt: skip


def run(spec: RunSpec, context: RunContext) -> Iterator[RunResult]:
    """Scalars: `initial` and `top` sharpness; `ratio`, the mean S eta / (2 (1 + beta)) in the window, `low`, `high` its
    range, `before` its largest value until then; `rises`, the share of steps that raise the loss; `growth`, the most
    that the gradient along the leading eigenvector gains in ten steps. The curve holds that ratio and the loss."""
    one_thread()
    setup, momentum, num_steps = spec.settings, spec.settings["momentum"], spec.settings["num_steps"]
    loss, theta = problem(setup, spec.seed)
    initial, leading = sharpness(loss, theta)
    rate = setup["rate"] or 2 * setup["multiple"] / initial
    sampled = np.unique(np.linspace(0, num_steps, setup["num_samples"]).astype(int))
    velocity, near, losses, along, sharp = 0 * theta, leading, [], [], []
    for now in range(num_steps + 1):
        value, gradient = slope(loss, theta)
        losses.append(value)
        if not value < 1e3 * losses[0]:
            break
        if now <= 10:
            along.append(abs(float(gradient.double().numpy() @ leading)))
        if now in sampled:
            largest, near = sharpness(loss, theta, near)
            sharp.append(largest)
        velocity = momentum * velocity - rate * gradient
        theta = theta + velocity
    losses, known = np.array(losses), sampled[: len(sharp)]
    ratios, late = np.array(sharp) * rate / (2 * (1 + momentum)), known > num_steps / 2
    window = ratios[late & (losses[known] > 1e-6 * losses[0])]
    scalars = {"initial": initial, "top": max(sharp), "before": ratios[~late].max(),
               "rises": np.mean(np.diff(losses) > 0), "growth": max(along[1:], default=np.inf) / along[0]}  # fmt: skip
    scalars |= {"ratio": window.mean(), "low": window.min(), "high": window.max()} if len(window) else {}
    curve = {"step": known, "time": known * rate, "sharpness_ratio": ratios, "loss": losses[known]}
    lost = None if losses[-1] < 1e3 * losses[0] else f"the loss passed 1000 times its first value at step {now}"
    yield result(scalars, curve, "diverged" if lost else "finished", lost)


def problem(setup: dict, seed: int) -> tuple[Callable, object]:
    """(mean squared error / 2 of the tanh network, as a function of all weights in one vector; the first weights)."""
    random, inputs, hidden = torch.Generator().manual_seed(seed), 8, setup["num_hidden"]
    examples = torch.randn(setup["num_points"], inputs, generator=random)
    labels = torch.randn(setup["num_points"], generator=random).sign()
    shapes = [(hidden, inputs), (hidden,), (hidden, hidden), (hidden,), (1, hidden), (1,)]
    sizes = [int(np.prod(shape)) for shape in shapes]
    scales = [setup["init_scale"] / shape[1] ** 0.5 if len(shape) == 2 else 0.0 for shape in shapes]
    first = [torch.randn(size, generator=random) * scale for size, scale in zip(sizes, scales, strict=True)]

    def loss(theta):
        W1, b1, W2, b2, W3, b3 = (part.view(shape) for part, shape in zip(theta.split(sizes), shapes, strict=True))
        hidden = torch.tanh(torch.tanh(examples.to(theta) @ W1.T + b1) @ W2.T + b2)
        return ((hidden @ W3.T + b3)[:, 0] - labels).square().mean() / 2

    return loss, torch.cat(first)


def slope(loss: Callable, theta: object) -> tuple[float, object]:
    """(loss, its gradient) at theta."""
    theta = theta.detach().requires_grad_()
    value = loss(theta)
    return value.item(), torch.autograd.grad(value, theta)[0]


def sharpness(loss: Callable, theta: object, near: np.ndarray | None = None) -> tuple[float, np.ndarray]:
    """(largest eigenvalue of the Hessian, its vector), by Lanczos on products H v = grad (g . v) that begins at `near`.

    The largest by sign, where power iteration would find the largest by size.
    """
    theta = theta.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(theta), theta, create_graph=True)

    def product(vector):
        along = torch.from_numpy(np.ascontiguousarray(vector).ravel()).to(theta)
        return torch.autograd.grad(gradient, theta, along, retain_graph=True)[0].double().numpy()

    hessian = LinearOperator((len(theta), len(theta)), matvec=product, dtype=np.float64)
    start = np.ones(len(theta)) if near is None else near
    (value,), vectors = eigsh(hessian, k=1, which="LA", v0=start, tol=1e-3, ncv=6)
    return float(value), vectors[:, 0]


def judge(settings: Settings, runs: pl.DataFrame, curves: pl.DataFrame) -> Judgement:
    """The ratio at the edge with momentum and without, the three boundaries, and what lies below the edge."""
    blank = pl.DataFrame(schema=dict.fromkeys(("ratio", "low", "high", "growth"), pl.Float64))
    runs = pl.concat([blank, runs], how="diagonal")
    methods = pl.DataFrame({"momentum": [0.0, settings.momentum], "rate": [settings.rates, settings.heavy_rates]})
    planned = pl.DataFrame({"seed": settings.seeds}).join(methods.explode("rate"), how="cross")
    flow = runs.filter(kind="small_rate").select("seed", "momentum", s_gf="top", s0="initial")
    edge = planned.join(flow, on=["seed", "momentum"], how="left").join(
        runs.filter(kind="edge"), on=["seed", "momentum", "rate"], how="left"
    ).select(
        "seed", "rate", "ratio", "low", "high", "before", "rises", risen=(pl.col("rises") > 0).cast(pl.Float64),
        method=pl.when(pl.col("momentum") > 0).then(pl.lit(HEAVY)).otherwise(pl.lit(PLAIN)),
        rho=pl.col("rate") * pl.col("s_gf") / (2 * (1 + pl.col("momentum"))),
        multiple=pl.col("rate") * pl.col("s0") / 2, lost=pl.col("status") == "diverged",
    ).with_columns(fate=fate()).drop("lost").sort("method", "seed", "rate")  # fmt: skip
    start = runs.filter(kind="start").select(
        "seed", "multiple", grown=(pl.col("growth") > 1).cast(pl.Float64), growth=pl.col("growth").fill_null(1e3),
        lost=(pl.col("status") == "diverged").cast(pl.Float64),
    )  # fmt: skip
    start = pl.DataFrame({"seed": settings.start_seeds}).join(start, on="seed", how="left").sort("seed", "multiple")
    plain, heavy = (edge.filter(method=name).drop_nulls("fate") for name in (PLAIN, HEAVY))
    alone, slow = edge.filter(method=PLAIN), edge.filter(pl.col("rho") < 1, method=PLAIN)
    met = slow.filter(pl.max_horizontal("before", "high") > 1)
    below = f"At rho < 1 the loss rises in {slow['rises'].mean() or 0:.2%} of the steps."
    control = Claim("sharpness below the edge", "S eta / 2 = 1", COHEN, "edges", role="control", figure=f"{NAME}_ratio")
    findings = [
        settles(plain, f"sharpness settles at the edge: {PLAIN}", "S eta / 2 = 1"),
        settles(heavy, f"sharpness settles at the edge: {HEAVY}", "S eta / (2 (1 + beta)) = 1"),
        end_of(alone, "rho", "risen", 0.5, 1.0, "the edge is met", "eta S_GF / 2 = 1", COHEN, "ratio",
               "The loss falls at every step up to rho = {:.2f} and rises at times beyond"),
        end_of(start, "multiple", "growth", 1.0, 1.0, "unstable from the start", "eta S0 / 2 = 1", CATAPULT, "start",
               "The leading oscillation grows from the first steps on beyond eta S0 / 2 = {:.2f}"),
        end_of(start, "multiple", "lost", 0.5, 2.0, "divergence", "eta S0 / 2 = 2", CATAPULT, "start",
               "Training diverges beyond eta S0 / 2 = {:.2f}"),
        control.equals(ratio(slow), 1.0, 0.03, below, reached=met.height > 0),
    ]  # fmt: skip
    says = [
        f"{name}: at rho = {at['rho'][0]:.2f} to {at['rho'][-1]:.2f} single runs settle at {at['ratio'].min():.3f} to "
        f"{at['ratio'].max():.3f} of the edge and swing between {at['low'].min():.2f} and {at['high'].max():.2f} of it."
        for name, past in (("Gradient descent", plain), ("Heavy ball", heavy))
        if (at := past.filter(fate="settled").sort("rho")).height
    ]  # fmt: skip
    tables = {"edge": edge, "start": start, "shares": mean_over_seeds(start, "multiple", "grown", "lost")}
    return Judgement(findings, {"says": says}, tables)


def draw(summary: dict, tables: dict[str, pl.DataFrame], runs: pl.DataFrame, curves: pl.DataFrame) -> list[Figure]:
    """The ratio in time, the ratio against rho, and the start at large rates."""
    shown = runs.filter(kind="edge", momentum=0.0, seed=runs["seed"].min())
    paths = curves.join(shown.select("run_id", "rate"), on="run_id").select("rate", "step", "time", "sharpness_ratio")
    return [
        panel(f"{NAME}_time", "Sharpness in time", "S eta / 2 of one seed at every rate: it rises to 1 and stays, or "
              "never meets it.", paths.sort("rate", "step"), "time", "sharpness_ratio", x_label="time, eta x steps",
              y_label="S eta / 2", by="rate", by_label="rate eta", logs="", horizontal={"edge": 1.0}),
        panel(f"{NAME}_ratio", "Where the sharpness settles", "Each dot a run: the mean in its window, in units of the "
              "edge, against rho known before the run.", tables["edge"], "rho", "ratio", x_label="rho = eta S_GF / "
              "(2 (1 + beta))", y_label="S eta / (2 (1 + beta))", by="method", joined=False, logs="x",
              vertical={"predicted entry": 1.0}, horizontal={"edge": 1.0}),
        panel(f"{NAME}_start", "Large rates from the start", "Shares of the seeds.", tables["shares"], "multiple",
              {"grown": "oscillation grows", "lost": "diverges"}, x_label="eta S0 / 2", y_label="share of seeds",
              logs="", vertical={"2 / S0": 1.0, "4 / S0": 2.0}),
    ]  # fmt: skip
