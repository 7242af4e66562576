"""The size of the initial weights alone takes a diagonal linear network from the kernel's solution to the sparsest one.

The network w = u^2 - v^2 (entry by entry) starts at u = v = alpha, so w = 0, and is trained by gradient flow on
L = |X w - y|^2 / (2 n) with fewer samples than inputs. Of all w with X w = y it ends in the one of least

    Q(w) = sum_i integral from 0 to w_i of arcsinh(w / (2 alpha^2)) dw,    so    w = 2 alpha^2 sinh(X^T nu),

where nu minimises the convex dual sum_i 2 alpha^2 (cosh((X^T nu)_i) - 1) - nu . y. Gradient descent of rate eta misses
it by an error of first order in eta, as its steps shrink the product u_i v_i, which stays alpha^2 in the flow.

Sources: Woodworth et al. 2020, arXiv 2002.09277 (interpolant and its limits); Even et al. 2023, arXiv 2302.08982
(finite steps). The first order of their error and the place of the boundary are derived here.

Regime. The control is alpha^2 against the entries of w. Those far below 2 alpha^2 cost w^2, those far above |w| up to a
logarithm: the network is lazy and ends in the solution of least L2 norm where alpha is large, rich and of least L1
norm where it is small. The boundary between them, the alpha whose interpolant is as far from the one as from the
other, follows from X and y by the dual before anything is trained; it falls with the number of inputs d, the width.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import numpy as np
import polars as pl
from pydantic import Field, PositiveFloat, model_validator

from pipeline.experiments.experiment import Finding, Judgement, Regime, RunContext, RunResult, StudyFacts
from pipeline.experiments.law import Dials, Seeds, law_run, result
from pipeline.experiments.laws.lazy_rich.solutions import (
    boundary,
    gradient_descent,
    gradient_flow,
    interpolant,
    relative,
    sparsest,
)
from pipeline.experiments.sweep import crossing, estimate_of, mean_over_seeds, slope_over_seeds
from pipeline.experiments.verdict import Claim, Estimate, over_seeds
from pipeline.planning.run_spec import RunSpec
from pipeline.reporting.chapter import Figure
from pipeline.reporting.panel import panel

TITLE = "Lazy and rich"
WOODWORTH = "Woodworth et al. 2020, arXiv 2002.09277"
STEP_ALPHA = 0.1
"""The initial weights at which the rate is swept."""
Count = Annotated[int, Field(ge=2)]


class Settings(Dials):
    """Dials: `num_samples` n of a target with `num_nonzero` ones among d inputs, at two `widths` d; `alphas` are swept
    by gradient flow, `rates` by gradient descent at the larger width."""

    seeds: Seeds
    num_samples: Count
    num_nonzero: Annotated[int, Field(ge=1)]
    widths: Annotated[list[Count], Field(min_length=2, max_length=2)]
    alphas: Annotated[list[Annotated[float, Field(ge=1e-5, le=100)]], Field(min_length=4)]
    rates: Annotated[list[PositiveFloat], Field(min_length=2)]

    @model_validator(mode="after")
    def _has_both_ends(self) -> Settings:
        for name in ("widths", "alphas", "rates"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise ValueError(f"{name}: {getattr(self, name)} holds a value twice")
        if not self.num_nonzero < self.num_samples < min(self.widths):
            raise ValueError(f"num_samples: {self.num_samples} must be more than num_nonzero and less than every width")
        if min(self.alphas) > 0.01 or max(self.alphas) < 1:
            raise ValueError(f"alphas: {min(self.alphas):g} to {max(self.alphas):g} must span 0.01 to 1")
        return self


def plan(settings: Settings, study: StudyFacts) -> list[RunSpec]:
    """The boundary foretold, gradient flow over alpha at both widths, and gradient descent over the rate."""
    task = {"num_samples": settings.num_samples, "num_nonzero": settings.num_nonzero}
    points = [("foretold", {"width": d}, 0.1) for d in settings.widths]
    points += [("flow", {"width": d, "alpha": alpha}, 0.1) for d in settings.widths for alpha in settings.alphas]
    wide = {"width": max(settings.widths), "alpha": STEP_ALPHA}
    points += [("descent", wide | {"rate": rate}, 1e-3 / rate) for rate in settings.rates]
    return [
        law_run("lazy_rich", kind, task | point, seed, label=f"{kind} {point} seed {seed}", seconds=seconds)
        for kind, point, seconds in points
        for seed in settings.seeds
    ]


def run(spec: RunSpec, context: RunContext) -> Iterator[RunResult]:
    """Scalars. Kind foretold: `boundary`, the alpha whose interpolant is as far from the L1 as from the L2 solution.
    Others: `missed`, |w - w_Q| / |w_Q|; `to_l1`, `to_l2`, distances from these solutions over that between them;
    `q_to_l1`, `q_to_l2`, those of w_Q; `off_l1`, `off_l2`, relative distances; `excess`, |w|_1 over the least, less 1.
    Kind descent: `explained`, as `missed`, from the w_Q of the initial weights sqrt(u_i v_i) at the end."""
    setup, random = spec.settings, np.random.default_rng(spec.seed)
    X = random.normal(size=(setup["num_samples"], setup["width"]))
    y = X[:, : setup["num_nonzero"]].sum(axis=1)
    ends = sparsest(X, y), np.linalg.pinv(X) @ y
    if spec.kind == "foretold":
        yield result({"boundary": boundary(X, y, *ends)})
        return
    alpha, descent = setup["alpha"], spec.kind == "descent"
    u, v = gradient_descent(X, y, alpha, setup["rate"]) if descent else gradient_flow(X, y, alpha)
    if not np.isfinite([u, v]).all():
        yield result({"missed": np.inf}, status="diverged", reason="the steps are too long to fit the data")
        return
    w, w_Q, between = u**2 - v**2, interpolant(X, y, alpha), np.linalg.norm(ends[0] - ends[1])
    scalars = {"missed": relative(w, w_Q), "excess": np.abs(w).sum() / np.abs(ends[0]).sum() - 1}
    for name, end in zip(("l1", "l2"), ends, strict=True):
        scalars[f"to_{name}"] = np.linalg.norm(w - end) / between
        scalars[f"q_to_{name}"] = np.linalg.norm(w_Q - end) / between
        scalars[f"off_{name}"] = relative(w, end)
    if descent:
        scalars["explained"] = relative(w, interpolant(X, y, np.sqrt(np.abs(u * v))))
    yield result(scalars)


def judge(settings: Settings, runs: pl.DataFrame, curves: pl.DataFrame) -> Judgement:
    """The interpolant over all alpha, the error of finite steps, the boundary at both widths, and both ends."""
    flow, descent, foretold = (runs.filter(pl.col("kind") == kind) for kind in ("flow", "descent", "foretold"))
    flow = flow.with_columns(pl.col("missed").fill_null(1e6))
    scalars = ("missed", "to_l1", "to_l2", "q_to_l1", "q_to_l2", "off_l1", "off_l2", "excess")
    alphas = mean_over_seeds(flow, ["width", "alpha"], *scalars)
    tables = {"alpha": alphas, "rate": mean_over_seeds(descent, "rate", "missed", "explained")}
    findings = [_interpolant(flow), *_steps(descent)]
    findings += [_boundary(flow, foretold, d) for d in sorted(settings.widths)]
    return Judgement([*findings, *_ends(alphas)], {"says": _says(foretold, tables["rate"])}, tables)


def _interpolant(flow: pl.DataFrame) -> Finding:
    claim = Claim("exact interpolant", "w = 2 alpha^2 sinh(X^T nu), X w = y", WOODWORTH, "relative", "identity",
                  figure="lazy_rich_alpha")  # fmt: skip
    worst, low, high = Estimate(flow["missed"].max()), flow["alpha"].min(), flow["alpha"].max()
    says = f"From alpha = {low:g} to {high:g} gradient flow ends within {worst.value:.1g} of the interpolant, relative."
    return claim.at_most(worst, 0.01, says, [Regime("alpha", "", low, high)])


def _steps(descent: pl.DataFrame) -> list[Finding]:
    """The error of gradient descent at the finest rate, and its order in the rate."""
    slope, finest = slope_over_seeds(descent, "rate", "missed"), descent["rate"].min()
    missed = over_seeds(descent.filter(pl.col("rate") == finest)["missed"])
    inside = descent.group_by("rate").agg(pl.col("missed").fill_null(1e6).mean()).sort("rate")
    held, broke = (inside.filter(part)["rate"] for part in (pl.col("missed") <= 0.01, pl.col("missed") > 0.01))
    regime = [Regime("eta", "time", held.min(), held.max(), broke.min())]
    small = Claim("interpolant, finite steps", "as above", WOODWORTH, "relative", "identity", figure="lazy_rich_rate")
    order = Claim("error of finite steps", "|w - w_Q| ~ eta", "derived here", "slope", figure="lazy_rich_rate")
    if slope.value is None or missed.value is None:
        says = "Gradient descent diverges at the finest rate, or at all rates but one."
        return [small.at_most(missed, 0.01, says), order.equals(slope, 1.0, 0.1, says)]
    return [
        small.at_most(missed, 0.01, f"At eta = {finest:g} gradient descent misses it by {missed.value:.2g}.", regime),
        order.equals(slope, 1.0, 0.1, f"The error of gradient descent falls as eta^{slope.value:.2f}."),
    ]


def _boundary(flow: pl.DataFrame, foretold: pl.DataFrame, d: int) -> Finding:
    """Where the trained networks of one width are as far from the L1 as from the L2 solution, in the geometric mean."""
    flow, foretold, found = flow.filter(pl.col("width") == d), foretold.filter(pl.col("width") == d), []
    for _, rows in flow.sort("alpha").group_by("seed", maintain_order=True):
        found.append(crossing(rows["alpha"], rows["to_l1"] / rows["to_l2"], 1.0)[0])
    claim = Claim(f"lazy or rich, {d} inputs", "|w_Q - w_L1| = |w_Q - w_L2|", "derived here", "alpha", "identity",
                  "boundary", "lazy_rich_alpha")  # fmt: skip
    if None in found or foretold["boundary"].null_count():
        return claim.located([], None, 1.0, 1.2, f"With {d} inputs not every problem has a boundary in the sweep.")
    place, predicted = (float(np.exp(np.log(values).mean())) for values in (np.array(found), foretold["boundary"]))
    alphas = sorted(set(flow["alpha"]))
    low, high = max(a for a in alphas if a <= place), min(a for a in alphas if a >= place)
    says = (f"With {d} inputs the trained network is as far from the L1 as from the L2 solution at alpha {place:.3f} "
            f"({min(found):.3f} to {max(found):.3f} over problems); the data foretold {predicted:.3f}.")  # fmt: skip
    regime = [Regime("alpha", "", high, alphas[-1], low, predicted)]
    return claim.located([place], (low, high), predicted, 1.2, says, regime)


def _ends(alphas: pl.DataFrame) -> list[Finding]:
    """The least L2 norm at the largest alpha, the least L1 norm at the smallest, and not at the largest."""
    lazy, rich = (alphas.filter(pl.col("alpha") == end) for end in (alphas["alpha"].max(), alphas["alpha"].min()))
    found = []
    for law, rows, column, bound, kind, role, words in (
        ("lazy end", lazy, "off_l2", 0.01, "identity", "law", "is off the solution of least L2 norm by"),
        ("rich end", rich, "excess", 0.05, "regularity", "law", "exceeds the least L1 norm by"),
        ("rich end, from large weights", lazy, "excess", 0.05, "regularity", "control", "exceeds the least L1 norm by"),
    ):
        worst = rows.sort(column, nulls_last=True).row(-1, named=True)
        formula = "w -> argmin |w|_2" if column == "off_l2" else "|w|_1 -> min |w|_1"
        claim = Claim(law, formula, WOODWORTH, "relative", kind, role, "lazy_rich_alpha")
        value = np.nan if worst[column] is None else worst[column]
        says = f"At alpha = {worst['alpha']:g} with {worst['width']} inputs it {words} {100 * value:.3g} %."
        found.append(claim.at_most(estimate_of(worst, column), bound, says))
    return found


def _says(foretold: pl.DataFrame, rates: pl.DataFrame) -> list[str]:
    means = foretold.group_by("width").agg(pl.col("boundary").log().mean().exp()).sort("width")
    said = " and ".join(f"{place:.3f} with {d} inputs" for d, place in means.iter_rows() if place is not None)
    says = [f"The data alone put the boundary between rich and lazy at alpha = {said}."] if said else []
    finest = rates.row(0, named=True)
    if finest["explained"] is not None:
        says.append(f"Finite steps act as smaller initial weights: at eta = {finest['rate']:g} the network misses the "
                    f"interpolant of alpha by {100 * finest['missed']:.2g} %, and that of the sqrt(u_i v_i) which it "
                    f"ends with by {100 * finest['explained']:.1g} %.")  # fmt: skip
    return says


def draw(summary: dict, tables: dict[str, pl.DataFrame], runs: pl.DataFrame, curves: pl.DataFrame) -> list[Figure]:
    """The way from the L1 to the L2 solution, the excess of the L1 norm, and the error of finite steps."""
    alphas = tables["alpha"]
    ways = pl.concat(
        alphas.select("width", "alpha", net=pl.format("d = {}, to L{}", "width", pl.lit(norm)),
                      trained=f"to_l{norm}", exact=f"q_to_l{norm}") for norm in (1, 2)
    )  # fmt: skip
    return [
        panel("lazy_rich_alpha", "From the sparsest to the kernel's solution", "Dots: distance of the trained network "
              "from the solutions of least L1 and L2 norm, over that between them; lines: of the exact interpolant.",
              ways, "alpha", "trained", by="net", theory="exact", logs="x", x_label="initial weights alpha",
              y_label="distance"),
        panel("lazy_rich_excess", "L1 norm in excess", "How far the L1 norm of the trained network exceeds the least; "
              "bars of 1.96 standard errors over problems.", alphas, "alpha", "excess", by="width", by_label="inputs",
              error="excess_se", x_label="initial weights alpha", y_label="|w|_1 / least |w|_1 - 1"),
        panel("lazy_rich_rate", "Finite steps", "Distance of gradient descent from the interpolant of alpha, and from "
              "that of the sqrt(u_i v_i) it ends with.", tables["rate"], "rate", {"missed": "of alpha",
              "explained": "of sqrt(u_i v_i)"}, x_label="rate eta", y_label="|w - w_Q| / |w_Q|"),
    ]  # fmt: skip
