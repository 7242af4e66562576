"""What is trained to see how lazy a network is, and what the runs say: slopes in the width, and the boundary in s."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import polars as pl
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from pipeline.experiments.experiment import Finding, Regime
from pipeline.experiments.law import law_run
from pipeline.experiments.sweep import (
    crossing,
    crossings_over_seeds,
    estimate_of,
    local_slopes,
    log_slope,
    mean_over_seeds,
    slope_over_seeds,
)
from pipeline.experiments.verdict import Claim
from pipeline.params import Section
from pipeline.planning.run_spec import RunSpec
from pipeline.reporting.numbers import decimal

JACOT = "Jacot et al. 2018, arXiv 1806.07572"
LEE = "Lee et al. 2019, arXiv 1902.06720"
DYER = "Dyer and Gur-Ari 2019, arXiv 1909.11304"
GEIGER = "Geiger et al. 2019, arXiv 1906.08034"
Several = Field(min_length=3)
Width = Annotated[int, Field(ge=2)]


class Network(Section):
    """Dials: `num_draws` of initial weights for the distance from the limit; `rate` is eta lambda_max alpha^2 / n;
    `alphas` are swept at the two `lazy_widths`; relu is judged, a further one of `activations` is for comparison."""

    num_inputs: Width
    num_train: Width
    num_test: PositiveInt
    widths: Annotated[list[Width], Several]
    num_draws: PositiveInt
    steps: PositiveInt
    rate: Annotated[float, Field(gt=0, lt=1)]
    lazy_widths: Annotated[list[Width], Field(min_length=2, max_length=2)]
    alphas: Annotated[list[PositiveFloat], Several]
    activations: list[Literal["relu", "erf"]]

    @model_validator(mode="after")
    def _room_on_both_sides(self) -> Network:
        if "relu" not in self.activations:
            raise ValueError(f"activations: {self.activations} lacks relu, the one that is judged")
        for name in ("widths", "lazy_widths", "alphas", "activations"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise ValueError(f"{name}: {getattr(self, name)} holds a value twice")
        for width in self.lazy_widths:
            low, high = min(self.alphas) * width**0.5, max(self.alphas) * width**0.5
            if low > 1 or high < 10:
                raise ValueError(f"alphas: s = {low:.3g} to {high:.3g} at width {width}, which must span 1 to 10")
        return self


def plan_training(dials: Network, seeds: Sequence[int]) -> list[RunSpec]:
    """Kernels at initialisation, and trainings over the width and over alpha."""
    shape = dials.model_dump(include={"num_inputs", "num_train"})
    trained = shape | dials.model_dump(include={"num_test", "steps", "rate"})
    swept = [("width", h, 1.0) for h in dials.widths]
    swept += [("alpha", h, alpha) for h in dials.lazy_widths for alpha in dials.alphas]
    points = [("start", shape | {"num_draws": dials.num_draws, "width": h}) for h in dials.widths]
    points += [
        (kind, trained | {"activation": activation, "width": h, "alpha": alpha})
        for kind, h, alpha in swept
        for activation in dials.activations
    ]
    return [
        law_run("neural_tangent", kind, point, seed, label=_label(kind, point, seed),
                seconds=(dials.num_draws / 300 if kind == "start" else dials.steps / 1000) * _cost(point["width"]))
        for kind, point in points
        for seed in seeds
    ]  # fmt: skip


def _cost(width: int) -> float:
    """Seconds of 1000 steps, or of 300 draws."""
    return 0.2 + 1.2e-5 * width**2


def _label(kind: str, point: dict, seed: int) -> str:
    more = "" if kind == "start" else f" alpha={point['alpha']:g} {point['activation']}"
    return f"{kind} h={point['width']}{more} seed {seed}"


def judge_training(dials: Network, runs: pl.DataFrame) -> tuple[list[Finding], list[str], dict[str, pl.DataFrame]]:
    """Findings, sentences and tables: the slopes in the width, and the boundary at both widths of the sweep."""
    runs = runs.with_columns(s=pl.col("alpha") * pl.col("width").sqrt())
    start, trained, swept = (runs.filter(pl.col("kind") == kind) for kind in ("start", "width", "alpha"))
    lazy = mean_over_seeds(swept, ["activation", "width", "alpha", "s"], "drift", "foretold", "apart")
    lazy = lazy.with_columns(net=pl.format("{}, h = {}", "activation", "width"))
    tables = {"start": mean_over_seeds(start, "width", "unlike"), "lazy": lazy}
    tables["width"] = mean_over_seeds(trained, ["activation", "width"], "drift", "apart")
    relu = trained.filter(pl.col("activation") == "relu")
    findings = [
        _slope(start, "unlike", "distance from the limiting kernel", "|K_h - K_inf| ~ h^-1/2", JACOT, -0.5, 0.1),
        _slope(relu, "drift", "drift of the kernel", "|dK| / |K| ~ h^-1", DYER, -1.0, 0.3),
        _slope(relu, "apart", "distance from the linearisation", "|f - f_lin| = O(h^-1/2)", LEE, -0.5, None),
        *_lazy_or_rich(dials, *(rows.filter(pl.col("activation") == "relu").sort("s") for rows in (swept, lazy))),
    ]  # fmt: skip
    return findings, _powers(lazy), tables


def _slope(
    runs: pl.DataFrame, column: str, law: str, formula: str, source: str, target: float, band: float | None
) -> Finding:
    """Whether the slope in the width is `target` within `band`, or, without one, at most that."""
    slope, means = slope_over_seeds(runs, "width", column), mean_over_seeds(runs, "width", column).drop_nulls()
    claim = Claim(law, formula, source, "slope", figure=f"neural_tangent_{runs['kind'][0]}")
    says, held = f"The {law} was measured at no two widths.", []
    if slope.value is not None:
        low, high = local_slopes(means["width"], means[column])
        says = f"The {law} falls as h^{slope.value:.2f}: h^{low:.2f} in the narrower half, h^{high:.2f} in the wider."
        held = [Regime("width h", "units", means["width"][0], means["width"][-1])]
    if band is None:
        return claim.at_most(slope, target, says, held)
    return claim.equals(slope, target, band, says, held)


def _lazy_or_rich(dials: Network, runs: pl.DataFrame, means: pl.DataFrame) -> list[Finding]:
    """Where |dK| = |K| at the larger width over where at the smaller; and the linearisation far on the rich side."""
    narrow, wide = sorted(dials.lazy_widths)
    first, second = (means.filter(pl.col("width") == h) for h in (narrow, wide))
    # Networks of one seed learn the same points, so each seed has a ratio of its own.
    known, places = (crossings_over_seeds(runs.filter(pl.col("width") == h), "s", "drift", 1.0) for h in (narrow, wide))
    pairs = [(known.get(seed), places.get(seed)) for seed in sorted(known.keys() | places.keys())]
    ratios = [None if None in pair else pair[1] / pair[0] for pair in pairs]
    met = [ratio for ratio in ratios if ratio is not None]
    claim = Claim("lazy or rich", "|dK| = |K| at one s = alpha sqrt(h)", GEIGER, "ratio of s", role="boundary",
                  figure="neural_tangent_lazy")  # fmt: skip
    if not met:
        boundary = claim.located(ratios, None, 1.0, 1.5, "The kernel does not change by its own size at both widths.")
    else:
        low, high = (np.exp(np.mean(np.log([pair[i] for pair in pairs if None not in pair]))) for i in (0, 1))
        foretold, _ = crossing(second["s"], second["foretold"], 1.0)
        _, bracket = crossing(second["s"], second["drift"], 1.0)
        around = bracket and (bracket[0] / low, bracket[1] / low)
        says = (f"The kernel changes by its own size at s = {low:.2f} at h = {narrow} and {high:.2f} at h = {wide}, "
                f"means of {len(met)} seeds of {len(ratios)}, in which the second is {min(met):.2f} to {max(met):.2f} "
                f"times the first; the initial weights foretold {decimal(foretold, 2)} at h = {wide}.")  # fmt: skip
        regime = [Regime("s = alpha sqrt(h)", "", bracket and bracket[1], second["s"][-1], bracket and bracket[0],
                         foretold)]  # fmt: skip
        boundary = claim.located(ratios, around, 1.0, 1.5, says, regime)
    rich = first.row(0, named=True)
    claim = Claim("linearisation, rich", "|f - f_lin| << |f_lin|", GEIGER, role="control", figure="neural_tangent_lazy")
    says = f"At s = {rich['s']:.2g} the network ends {100 * rich['apart']:.0f} % away from its linearisation."
    return [boundary, claim.at_most(estimate_of(rich, "apart"), 0.1, says)]


def _powers(lazy: pl.DataFrame) -> list[str]:
    """How |dK| falls with s on either side of alpha = 1 at the larger width, and what is the same at both widths."""
    says, inside = [], lazy.filter(pl.col("drift") < 1).sort("width", "s")
    for (activation,), rows in inside.group_by("activation", maintain_order=True):
        wide = rows.filter(pl.col("width") == rows["width"].max())
        parts = wide.filter(pl.col("alpha") <= 1), wide.filter(pl.col("alpha") > 1)
        low, high = (f"s^{log_slope(x['s'], x['drift']):.2f}" if x.height > 1 else "unknown" for x in parts)
        last = rows.filter(pl.col("alpha") == rows["alpha"].max())
        products = " and ".join(f"{value:.3g}" for value in last["drift"] * last["alpha"] * last["width"])
        order = "-1, but for its kinks" if activation == "relu" else "-1"
        says.append(f"With {activation} the drift of a lazy network falls as {low} up to alpha = 1 (second order: -2), "
                    f"as {high} beyond (first order: {order}); at alpha = {last['alpha'][0]:g} alpha h |dK| / |K| is "
                    f"{products} at the two widths.")  # fmt: skip
    return says
