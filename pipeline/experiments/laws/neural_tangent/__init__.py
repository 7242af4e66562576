"""A wide enough network trains as a kernel method, and the spectrum of its kernel tells what n samples teach it.

A network f with two hidden layers of width h, each layer divided by the root of its fan-in, starts with a kernel
K_h = (df/dtheta)(df/dtheta)^T that tends to the arc-cosine recursion. Training alpha (f - f_0) moves this kernel by dK,
and f away from its linearisation f_lin, by less in wider networks (the last at least as fast as h^-1/2):

    |K_h - K_inf| / |K_inf| ~ h^-1/2,    |dK| / |K| ~ h^-1,    |f - f_lin| ~ h^-1/2 to h^-1.

Kernel regression on n corners of the cube {-1, 1}^d follows from the eigenvalues lambda_r of the parities of degree r.
A share L_r = lambda_r / (lambda_r + kappa) of each is learned, kappa being set by the sum of all shares:

    sum_r C(d, r) L_r = n,    MSE_r = (1 - L_r)^2 n / (n - sum_r C(d, r) L_r^2).

Sources: Jacot et al. 2018, arXiv 1806.07572 (limit); Lee et al. 2019, arXiv 1902.06720, and Dyer and Gur-Ari 2019,
arXiv 1909.11304 (drift); Chizat et al. 2018, arXiv 1812.07956, and Geiger et al. 2019, arXiv 1906.08034 (lazy and
rich); Simon et al. 2021, arXiv 2110.03922 (learning curve). How |dK| depends on alpha, and the exact averages over a
cube, are derived here.

Regime. A network is lazy where s = alpha sqrt(h) is large and rich where it is small, with |dK| = |K| at an s of order
1 that does not depend on h. To second order in the motion of the weights |dK| / |K| ~ 1 / s^2, which rules while alpha
< 1; to first order only ~ 1 / (alpha h), since the random signs of the readout cancel, which rules for alpha > 1, where
the kinks of ReLU add ~ alpha^-1/2 h^-3/4. The initial weights foretell the order of the boundary: it lies where the
kernel, taken at the weights in which training of f_lin ends, has changed by its own size. The learning curve is that of
n different points: its control is the number of repeated ones to be expected, n^2 / 2^(d+1), and at 1 the sum of the
shares misses one mode.
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from pipeline.experiments.experiment import Judgement, RunContext, RunResult, StudyFacts
from pipeline.experiments.law import Dials, Seeds, one_thread
from pipeline.experiments.laws.neural_tangent.curve import Curve, judge_curve, plan_curve, run_curve
from pipeline.experiments.laws.neural_tangent.network import run_start, run_training
from pipeline.experiments.laws.neural_tangent.training import Network, judge_training, plan_training
from pipeline.planning.run_spec import RunSpec
from pipeline.reporting.chapter import Figure
from pipeline.reporting.panel import panel

TITLE = "Neural tangent kernel"


class Settings(Dials):
    """Dials of the two parts, networks in training and regression with their limiting kernel."""

    seeds: Seeds
    network: Network
    curve: Curve


def plan(settings: Settings, study: StudyFacts) -> list[RunSpec]:
    """The runs of both parts."""
    return [*plan_training(settings.network, settings.seeds), *plan_curve(settings.curve, settings.seeds)]


def run(spec: RunSpec, context: RunContext) -> Iterator[RunResult]:
    """One run of the part that its kind names."""
    one_thread()
    if spec.kind == "curve":
        yield run_curve(spec)
    elif spec.kind == "start":
        yield run_start(spec)
    else:
        yield run_training(spec)


def judge(settings: Settings, runs: pl.DataFrame, curves: pl.DataFrame) -> Judgement:
    """The slopes in the width, the boundary between lazy and rich, and the learning curve with its end."""
    findings, says, tables = judge_training(settings.network, runs)
    more, said, table = judge_curve(settings.curve, runs)
    return Judgement([*findings, *more], {"says": [*says, *said]}, tables | {"curve": table})


def draw(summary: dict, tables: dict[str, pl.DataFrame], runs: pl.DataFrame, curves: pl.DataFrame) -> list[Figure]:
    """The limit of the kernel and the drift over the width, lazy against rich, and the learning curve."""
    lazy = tables["lazy"].with_columns(pl.when(pl.col("foretold") < 10).then("foretold").alias("foretold"))
    return [
        panel("neural_tangent_start", "Kernel at initialisation", "Distance of the kernel of a ReLU network from the "
              "arc-cosine recursion; bars of 1.96 standard errors.", tables["start"], "width", "unlike",
              error="unlike_se", x_label="width h", y_label="|K_h - K_inf| / |K_inf|"),
        panel("neural_tangent_width", "Training in wider networks", "Change of the kernel by training, and distance of "
              "the function from its linearisation, at alpha = 1.", tables["width"], "width", {"drift": "|dK| / |K|",
              "apart": "|f - f_lin|"}, by="activation", x_label="width h", y_label="relative change"),
        panel("neural_tangent_lazy", "Lazy and rich", "Dots: change of the kernel by training; a network is rich above "
              "the dashed line. Lines: foretold by the initial weights.", lazy, "s", "drift", by="net",
              theory="foretold", horizontal={"|dK| = |K|": 1.0}, x_label="s = alpha sqrt(h)", y_label="|dK| / |K|"),
        panel("neural_tangent_curve", "Learning curve on the cube", "Mean squared error over its prediction, by degree "
              "of the parity, with repeated points and, for degree 1, without.", tables["curve"], "control",
              {"ratio_1": "degree 1", "ratio_2": "degree 2", "ratio_3": "degree 3", "once_1": "degree 1, none twice"},
              logs="x", vertical={"one point repeated": 1.0}, horizontal={"5 %": 1.05}, y_label="MSE / prediction",
              x_label="expected number of repeated points, n^2 / 2^(d+1)"),
    ]  # fmt: skip
