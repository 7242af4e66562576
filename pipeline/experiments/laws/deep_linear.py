"""A deep linear network learns its modes one after another, each along a sigmoid of its own.

Two linear layers W2 W1 trained by gradient flow on L = |Sigma_yx - W2 W1|^2 / 2, with whitened inputs and small,
aligned, balanced initial weights, decouple into the singular modes of Sigma_yx = U S V^T. The strength a of a mode is

    da/dt = 2 a (s - a),    a(t) = s e^(2 s t) / (e^(2 s t) - 1 + s / a0),

so a mode twice as strong is learned twice as soon. Gradient descent with rate eta leaves this curve by an error of
first order in eta.

Source: Saxe, McClelland and Ganguli 2013, arXiv 1312.6120 (sigmoid modes); the ends of the regime are derived here.

Regime. Controls, all known before a run: eta s_max, where the minimum loses its stability at 1 (curvature 2 s); the
imbalance r = ln(|W1| / |W2|), which shifts a sigmoid by ln cosh^2(r / 2) in 2 s t and so misses it by
tanh(ln cosh(r / 2) / 2); inputs that are not white, which move the end point of mode i by
d = |(V^T Sigma_xx^-1 V)_ii - 1|; and random initial weights, whose modes keep the order in time, s t_half = constant,
only as their scale falls (logarithmically).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import numpy as np
import polars as pl
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from pipeline.experiments.experiment import Judgement, Regime, RunContext, RunResult, StudyFacts
from pipeline.experiments.law import Dials, Seeds, law_run, result
from pipeline.experiments.sweep import crossing, estimate_of, mean_over_seeds, slope_over_seeds
from pipeline.experiments.verdict import Claim, over_seeds
from pipeline.planning.run_spec import RunSpec
from pipeline.reporting.chapter import Figure
from pipeline.reporting.panel import panel

TITLE = "Deep linear networks"
SAXE = "Saxe et al. 2013, arXiv 1312.6120"
SIGMOID = "a = s e^(2st) / (e^(2st) - 1 + s/a0)"
BOUND = 0.01
"""The error up to which a mode follows its sigmoid."""
Sweep = Annotated[list[PositiveFloat], Field(min_length=2)]


class Settings(Dials):
    """Dials: `strengths` are the singular values; `rates` eta; `stability` values of eta s_max; `conditions` of
    Sigma_xx; `imbalances` r; `scales` of random initial weights; `missed` the error that ends the regime."""

    seeds: Seeds
    num_inputs: PositiveInt
    num_hidden: PositiveInt
    strengths: Annotated[list[PositiveFloat], Field(min_length=2)]
    initial: PositiveFloat
    rates: Sweep
    stability: Sweep
    conditions: Annotated[list[Annotated[float, Field(ge=1)]], Field(min_length=2)]
    imbalances: Sweep
    scales: Sweep
    missed: PositiveFloat = 0.05

    @model_validator(mode="after")
    def _wide_enough(self) -> Settings:
        if min(self.num_inputs, self.num_hidden) < len(self.strengths):
            raise ValueError(f"strengths: {len(self.strengths)} modes do not fit {self.num_inputs} x {self.num_hidden}")
        return self


def plan(settings: Settings, study: StudyFacts) -> list[RunSpec]:
    """A run a seed for each value of each sweep; whatever is not swept keeps its ideal value."""
    ideal = settings.model_dump(include={"num_inputs", "num_hidden", "strengths", "initial"})
    ideal |= {"rate": min(settings.rates), "condition": 1.0, "imbalance": 0.0, "scale": None}
    top, coarse = max(settings.strengths), max(settings.rates)
    sweeps = {
        "rate": [{"rate": rate} for rate in settings.rates],
        "stability": [{"rate": value / top} for value in settings.stability],
        "condition": [{"condition": value} for value in settings.conditions],
        "imbalance": [{"imbalance": value} for value in settings.imbalances],
        "scale": [{"scale": value, "rate": coarse} for value in settings.scales],
    }
    return [
        law_run("deep_linear", kind, ideal | changed, seed, label=f"{kind} {changed} seed {seed}", seconds=0.4)
        for kind, points in sweeps.items()
        for changed in points
        for seed in settings.seeds
    ]


def run(spec: RunSpec, context: RunContext) -> Iterator[RunResult]:
    """Scalars: `error`, the largest |a_i(t) - sigmoid| / s_i over modes and time; `unsettled`, the largest
    |a_i - s_i| / s_i at the end; `moved`, the predicted shift d of an end point; `spread`, the coefficient of variation
    of s_i t_half. The curve holds a_i at 200 times."""
    setup, random = spec.settings, np.random.default_rng(spec.seed)
    s, rate = np.array(setup["strengths"]), setup["rate"]
    num_modes, start = len(s), setup["initial"] if setup["scale"] is None else setup["scale"] ** 2
    U, V, R, Q = (_orthogonal(random, n)[:, :m] for n, m in (
        (num_modes, num_modes), (setup["num_inputs"], num_modes), (setup["num_hidden"], num_modes),
        (setup["num_inputs"], setup["num_inputs"]),
    ))  # fmt: skip
    spread = np.sqrt(setup["condition"]) ** np.linspace(-1, 1, setup["num_inputs"])
    Sxx, Syx = (Q * spread) @ Q.T, (U * s) @ V.T
    tilt = np.exp(setup["imbalance"] / 2)
    W1, W2 = np.sqrt(start) * tilt * R @ V.T, np.sqrt(start) / tilt * U @ R.T
    if setup["scale"] is not None:
        W1 = random.normal(size=W1.shape) * setup["scale"] / np.sqrt(setup["num_hidden"])
        W2 = random.normal(size=W2.shape) * setup["scale"] / np.sqrt(setup["num_hidden"])
    num_steps = int(np.ceil((np.log(s.min() / start) + 6) / (2 * s.min()) / rate))
    times, strengths = rate * np.arange(num_steps + 1), np.empty((num_steps + 1, num_modes))
    for now in range(num_steps + 1):
        strengths[now] = np.einsum("ki,ki->i", U, W2 @ (W1 @ V))
        residual = Syx - W2 @ W1 @ Sxx
        W1, W2 = W1 + rate * W2.T @ residual, W2 + rate * residual @ W1.T
        if not np.abs(strengths[now]).max() < 1e6:
            yield result({"error": np.inf}, status="diverged", reason=f"mode strengths grow without end, step {now}")
            return
    halves = s * times[np.argmax(strengths > s / 2, axis=0)]
    kept = np.unique(np.linspace(0, num_steps, 200).astype(int))
    yield result(
        {
            "error": float((np.abs(strengths - sigmoid(s, start, times)) / s).max()),
            "unsettled": float((np.abs(strengths[-2:] - s) / s).max()),
            "moved": float(np.abs(np.diag(V.T @ np.linalg.inv(Sxx) @ V) - 1).max()),
            "spread": float(halves.std() / halves.mean()),
        },
        {"step": kept, "time": times[kept]} | {f"a_{i}": strengths[kept, i] for i in range(num_modes)},
    )


def sigmoid(s: np.ndarray, initial: float, times: np.ndarray) -> np.ndarray:
    """a_i(t) of every mode, shape (times, modes), from a(0) = `initial`."""
    return s / (1 + (s / initial - 1) * np.exp(-2 * np.outer(times, s)))


def missed_by(imbalance: float) -> float:
    """The error that an imbalance r makes for small initial weights: tanh(ln cosh(r / 2) / 2)."""
    return float(np.tanh(np.log(np.cosh(imbalance / 2)) / 2))


def _orthogonal(random: np.random.Generator, size: int) -> np.ndarray:
    return np.linalg.qr(random.normal(size=(size, size)))[0]


def judge(settings: Settings, runs: pl.DataFrame, curves: pl.DataFrame) -> Judgement:
    """The sigmoids at the finest rate, first order in the rate, order in time, and where the regime ends."""
    runs = runs.with_columns(pl.col("error", "unsettled").fill_null(1e6))
    swept = {kind: rows for (kind,), rows in runs.group_by("kind")}
    tables = {
        "rate": mean_over_seeds(swept["rate"], "rate", "error"),
        "stability": mean_over_seeds(swept["stability"], "rate", "unsettled"),
        "condition": mean_over_seeds(swept["condition"], "condition", "error", "moved"),
        "imbalance": mean_over_seeds(swept["imbalance"], "imbalance", "error"),
        "scale": mean_over_seeds(swept["scale"], "scale", "spread"),
    }
    tables["stability"] = tables["stability"].with_columns(control=pl.col("rate") * max(settings.strengths))
    tables["imbalance"] = tables["imbalance"].with_columns(
        predicted=pl.col("imbalance").map_elements(missed_by, return_dtype=pl.Float64)
    )
    findings = [*_first_order(settings, swept["rate"]), *_boundaries(settings, tables)]
    findings += _order(settings, swept["scale"])
    return Judgement(findings, {"says": _says(tables)}, tables)


def _first_order(settings: Settings, runs: pl.DataFrame) -> list:
    slope, finest = slope_over_seeds(runs, "rate", "error"), min(settings.rates)
    error = over_seeds(runs.filter(pl.col("rate") == finest)["error"])
    by_rate = runs.group_by("rate").agg(pl.col("error").mean()).sort("rate")
    held, broke = (by_rate.filter(part)["rate"] for part in (pl.col("error") <= BOUND, pl.col("error") > BOUND))
    near = [Regime("eta", "time", held.min(), held.max(), broke.min())]
    fitted = [Regime("eta", "time", by_rate["rate"].min(), by_rate["rate"].max())]
    modes = Claim("sigmoid modes", SIGMOID, SAXE, "relative", "identity", figure="deep_linear_modes")
    order = Claim("error of the sigmoids", "sup |a_i - sigmoid| / s_i ~ eta", SAXE, "slope", figure="deep_linear_rate")
    small = f"At eta = {finest:g} every mode follows its sigmoid to {100 * error.value:.2g} %."
    return [
        modes.at_most(error, BOUND, small, near),
        order.equals(slope, 1.0, 0.05, f"The error falls as eta^{slope.value:.3f}: it is that of Euler steps.", fitted),
    ]


def _boundaries(settings: Settings, tables: dict[str, pl.DataFrame]) -> list:
    missed, found = settings.missed, []
    even = float(2 * np.arccosh(np.exp(2 * np.arctanh(missed))))
    for name, column, error, predicted, factor, formula, words in (
        ("stability", "control", "unsettled", 1.0, 1.1, "eta s_max = 1", "eta s_max"),
        ("imbalance", "imbalance", "error", even, 1.3, "tanh(ln cosh(r/2) / 2)", "imbalance r"),
        ("condition", "moved", "error", missed, 2.0, "|(V^T Sigma_xx^-1 V)_ii - 1|", "shift d of an end point"),
    ):
        table, figure = tables[name], f"deep_linear_{name}"
        place, bracket = crossing(table[column], table[error], missed)
        claim = Claim(f"sigmoid modes: {words}", formula, "derived here", "", "identity", "boundary", figure)
        says = f"The error stays below {100 * missed:g} % over the sweep; predicted to reach it at {predicted:.3g}."
        if place is not None:
            says = f"The error reaches {100 * missed:g} % at {words} = {place:.3g}; predicted {predicted:.3g}."
        low, high = bracket or (None, None)
        regime = [Regime(words, "", None, low, high, predicted)]
        found.append(claim.located([place], bracket, predicted, factor, says, regime))
    worst, figure = tables["condition"].row(-1, named=True), "deep_linear_condition"
    control = Claim("sigmoid modes, inputs far from white", SIGMOID, SAXE, "relative", "identity", "control", figure)
    says = f"With a condition number of {worst['condition']:g} the sigmoid is missed by {100 * worst['error']:.0f} %."
    return [*found, control.at_most(estimate_of(worst, "error"), missed, says)]


def _order(settings: Settings, runs: pl.DataFrame) -> list:
    found, law, formula = [], "modes are learned in order", "s_i t_half,i = constant"
    for role, scale, verb in (("law", min(settings.scales), "agree"), ("control", max(settings.scales), "agree only")):
        spread = over_seeds(runs.filter(pl.col("scale") == scale)["spread"])
        claim = Claim(law, formula, SAXE, "variation", role=role, figure="deep_linear_scale")
        says = f"From random weights of scale {scale:g} the times s_i t_half {verb} to {100 * spread.value:.0f} %."
        found.append(claim.at_most(spread, 0.1, says, [Regime("scale", "", None, scale if role == "law" else None)]))
    return found


def _says(tables: dict[str, pl.DataFrame]) -> list[str]:
    off = float((tables["imbalance"]["error"] / tables["imbalance"]["predicted"] - 1).abs().max())
    spreads = ", ".join(
        f"{100 * x:.0f} % at {scale:g}" for scale, x in tables["scale"].select("scale", "spread").rows()
    )
    return [
        f"The error that an imbalance of the layers makes is the predicted one to {100 * off:.2g} % over the sweep.",
        f"The order in time emerges slowly as random weights shrink: s_i t_half varies by {spreads} of their scale.",
    ]


def draw(summary: dict, tables: dict[str, pl.DataFrame], runs: pl.DataFrame, curves: pl.DataFrame) -> list[Figure]:
    """The modes in time, the error against the rate, and the sweeps that leave the regime."""
    finest = runs.filter(pl.col("kind") == "rate").sort("rate", "seed").row(0, named=True)
    own = curves.filter(pl.col("run_id") == finest["run_id"])
    names = [name for name in own.columns if name.startswith("a_")]
    modes = own.unpivot(names, index=["step", "time"], variable_name="mode", value_name="a").sort("mode", "time")
    error, missed = "largest error / s", "Largest distance from the sigmoid against "
    return [
        panel("deep_linear_modes", "Modes of a deep linear network", "Strength of each mode; the strongest is first.",
              modes, "time", "a", x_label="time, eta x steps", y_label="mode strength a", by="mode", logs=""),
        panel("deep_linear_rate", "Error of the sigmoids", f"{missed}the rate; a seed turns the basis alone.",
              tables["rate"], "rate", "error", x_label="rate eta", y_label=error),
        panel("deep_linear_stability", "Stability of the minimum", "Distance from the minimum at the end of training.",
              tables["stability"], "control", "unsettled", x_label="eta s_max", y_label="largest |a - s| / s",
              vertical={"predicted": 1.0}),
        panel("deep_linear_imbalance", "Imbalance of the layers", f"{missed}r. Line: tanh(ln cosh(r / 2) / 2).",
              tables["imbalance"], "imbalance", "error", theory="predicted", x_label="imbalance r", y_label=error),
        panel("deep_linear_condition", "Inputs that are not white", f"{missed}the predicted shift of an end point.",
              tables["condition"].filter(pl.col("moved") > 1e-9), "moved", "error", x_label="shift d", y_label=error),
        panel("deep_linear_scale", "Order of the modes", "Coefficient of variation of s_i t_half from random weights.",
              tables["scale"], "scale", "spread", x_label="scale of the weights", y_label="variation of s t_half"),
    ]  # fmt: skip
