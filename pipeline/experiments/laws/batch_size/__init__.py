"""A larger batch allows a larger rate, up to the noise scale of the gradient.

The gradient of a batch of B examples is the true gradient G plus noise of covariance Sigma / B. While noise dominates,
k times the batch at k times the rate gives the same course in the examples seen (SGD, linear rule); Adam divides by the
size of the gradient, and so needs k^1/2 times the rate, with 1 - beta times k. On a quadratic of curvature H the best
step has the rate and the gain

    eta*(B) = eta_max / (1 + B_noise / B),    dL*(B) = dL_max / (1 + B_noise / B),    B_noise = tr(H Sigma) / (G^T H G),

of which B_simple = tr Sigma / |G|^2 is the measurable stand-in. Over a whole training, S steps and E = B S examples to
a given loss obey (S / S_min - 1) (E / E_min - 1) = 1: beyond B_crit = E_min / S_min a larger batch costs more examples
than it saves steps.

Sources: Goyal et al. 2017, arXiv 1706.02677 (linear rule); McCandlish et al. 2018, arXiv 1812.06162 (noise scale,
hyperbola); Malladi et al. 2022, arXiv 2205.10287 (square-root rule of Adam). The exact case is SGD in expectation on
Gaussian linear regression with eigenvalues k^-a, whose wall is derived here.

Regime. Controls known before a run: eta k lambda_max, in which the error of the linear rule is of first order, with a
wall a little below 2, where the noise of the gradients feeds itself,

    sum_i eta lambda_i / (B (2 - eta (1 + 1/B) lambda_i)) = 1;

B / B_noise, far below which the rules hold; for Adam also k (1 - beta_1) < 1. For the language model of this study: its
batch over B_simple, measured in tokens along its own training.
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from pipeline.experiments.experiment import Judgement, RunContext, RunResult, StudyFacts
from pipeline.experiments.law import Dials
from pipeline.experiments.laws.batch_size.exact import Exact, judge_exact, plan_exact, run_exact
from pipeline.experiments.laws.batch_size.language_model import NoiseScale, judge_noise, plan_noise, run_noise
from pipeline.experiments.laws.batch_size.network import Network, judge_network, plan_network, run_network
from pipeline.planning.run_spec import RunSpec
from pipeline.reporting.chapter import Figure
from pipeline.reporting.panel import panel

TITLE = "Batch size"
MEASURED = {"run_id": pl.String, "step": pl.Int64} | dict.fromkeys(("excess", "noise_tokens", "own_batch"), pl.Float64)
"""Columns of the curves that are judged, there even where every run of a kind diverged."""


class Settings(Dials):
    """Dials of the three parts: exact recursion, network, and the noise scale of the study's language model."""

    exact: Exact
    network: Network
    language_model: NoiseScale


def plan(settings: Settings, study: StudyFacts) -> list[RunSpec]:
    """The runs of all three parts."""
    return [
        *plan_exact(settings.exact), *plan_network(settings.network), *plan_noise(settings.language_model, study)
    ]  # fmt: skip


def run(spec: RunSpec, context: RunContext) -> Iterator[RunResult]:
    """One run of the part that its kind names."""
    if spec.kind == "language_model":
        yield run_noise(spec, context)
    elif spec.kind == "network":
        yield run_network(spec)
    else:
        yield run_exact(spec)


def judge(settings: Settings, runs: pl.DataFrame, curves: pl.DataFrame) -> Judgement:
    """The exact laws and their ends, the rules on a network, and where the study's own batch stands."""
    curves = pl.concat([pl.DataFrame(schema=MEASURED), curves], how="diagonal_relaxed")
    exact, told_exact, tables = judge_exact(settings.exact, runs)
    network, told_network, more = judge_network(settings.network, runs, curves)
    noise, study, told_noise, most = judge_noise(runs, curves)
    summary = {"says": [*told_exact, *told_network, *told_noise], "study": study}
    return Judgement([*exact, *network, *noise], summary, tables | more | most)


def draw(summary: dict, tables: dict[str, pl.DataFrame], runs: pl.DataFrame, curves: pl.DataFrame) -> list[Figure]:
    """The rules in the exact case, the two slowdowns of a small batch, the rules on a network, and the noise scale."""
    return [
        panel("batch_size_rules", "Scaling rules, exact SGD", "Largest distance from the course of the reference at "
              "equal examples; beyond the wall the risk diverges.", tables["rules"], "control", "error",
              x_label="eta k lambda_max", y_label="largest |ln ratio| of risks", by="rule", by_label="rule",
              vertical={"wall": tables["rules"]["wall"][0]}, horizontal={"agreement": 0.02}),
        panel("batch_size_optimum", "What a small batch costs", "Dots: measured; lines: 1 + B_noise / B for one step, "
              "1 + B_crit / B for many.", tables["optimum"], "batch", "slowdown", x_label="batch B, examples",
              y_label="slowdown", by="what", theory="predicted"),
        panel("batch_size_network", "Scaling rules on a network", "Mean distance from the reference in ln risk; bars "
              "of 1.96 standard errors over seeds.", tables["network"], "factor", "error", x_label="times the batch, k",
              y_label="mean |ln ratio| of risks", by="course", error="error_se"),
        panel("batch_size_noise", "Noise scale of the language model", "Noise scale of the gradient, its 95 % interval "
              "over seeds, and the batch of the study.", tables["noise"], "step",
              {"noise_tokens": "noise scale", "low": "its lower end", "high": "its upper end", "own_batch": "batch"},
              x_label="tokens seen", y_label="tokens"),
    ]  # fmt: skip
