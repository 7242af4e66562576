"""Eight models whose learning curves are solved: ground truth for exponents, and for the engine that fits them.

Nearly all are one picture. A task has modes k = 1, 2, ... that matter as k^-b and are learned at a speed k^-a, or seen
with such a frequency. What is learned after a time t are the modes up to k ~ t^(1/a); what is left is their tail:

    loss ~ N^-(b-1) in size,    t^-(b-1)/a in time,    C^-alpha_C with alpha_C = (b-1)/(1+a) at N* ~ C^1/(1+a).

Gradient flow on such modes has the surface (zeta is Hurwitz's, the tail of the modes that are missing)

    L(N, t) = E + sum_{k <= N} k^-b e^(-2 k^-a t) + zeta(b, N + 1).

A mode that is both missing and not yet learned is counted once, so the surface is nearer to the larger of two terms
than to their sum: Chinchilla's additive law is the wrong form and finds a wrong alpha_C, which the project's engine
must notice from the runs; its q-form ((A/N^alpha)^q + (B/t^beta)^q)^(1/q) is nearly right.

One-pass SGD has the same exponent in time, exactly through the recursion of its expected errors e_k at batch B,

    e_k <- e_k (1 - 2 eta k^-a + eta^2 (1 + 1/B) k^-2a) + (eta^2 / B) k^-a (sum_j j^-a e_j + noise).

Kernel regression errs as n^-min(b-1, 2a) in samples; random features as P^-min(b-1, a) in features, as n^-min(b-1, 2a)
in samples, and by 1/P above its limit at fixed n. Quanta of frequency k^-(1+alpha) leave n^-alpha in size and
D^-alpha/(1+alpha) in data; skills with such frequencies, each learned along a sigmoid, t^-alpha/(1+alpha) in time and
C^-alpha/(2+alpha). In d dimensions, with kernels of spectra |w|^-alpha_T (teacher) and |w|^-alpha_S (student), the
error falls as n^-beta, beta = min(alpha_T - d, 2 alpha_S) / d. SGD on projected features has three phases of exponents.

Sources: Simon et al. 2026, arXiv 2604.21691 (the list); Bordelon et al. 2024, arXiv 2402.01092; Lin et al. 2024, arXiv
2406.08466; Simon et al. 2021, arXiv 2110.03922; Simon et al. 2023, arXiv 2311.14646; Paquette et al. 2024, arXiv
2405.15074; Michaud et al. 2023, arXiv 2303.13506; Nam et al. 2024, arXiv 2404.17563; Spigler et al. 2019, arXiv
1905.10843. Each model is a module of its own, which derives its formulas.

Regime. Each model has a coordinate, known before any run, at which its exponent ends: t / N^a for gradient flow; for
SGD eta tr H, where its noise feeds itself, and b = 2a, where noise outlives signal; b = 1 + 2a for kernel regression;
b = 1 + a and P = n for random features; the teacher's smoothness nu = d + 1, with a Laplace student, in d dimensions.
Projected features need sizes beyond this study; there it is tested that no exponent is claimed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated

import polars as pl
from pydantic import Field, model_validator

from pipeline.experiments.experiment import Judgement, RunContext, RunResult, StudyFacts
from pipeline.experiments.law import Dials, Seeds
from pipeline.experiments.laws.solvable_scaling import (
    engine,
    gradient_flow,
    kernel_dimension,
    kernel_regression,
    one_pass_sgd,
    projected,
    quanta,
    random_features,
    skills,
)
from pipeline.experiments.laws.solvable_scaling.engine import run as run_engine
from pipeline.experiments.laws.solvable_scaling.figures import figures
from pipeline.experiments.laws.solvable_scaling.gradient_flow import run as run_gradient_flow
from pipeline.experiments.laws.solvable_scaling.kernel_dimension import run as run_kernel_dimension
from pipeline.experiments.laws.solvable_scaling.kernel_regression import run as run_kernel_regression
from pipeline.experiments.laws.solvable_scaling.one_pass_sgd import run as run_one_pass_sgd
from pipeline.experiments.laws.solvable_scaling.projected import run as run_projected
from pipeline.experiments.laws.solvable_scaling.quanta import run as run_quanta
from pipeline.experiments.laws.solvable_scaling.random_features import run as run_random_features
from pipeline.experiments.laws.solvable_scaling.skills import run as run_skills
from pipeline.params import Section
from pipeline.planning.run_spec import RunSpec
from pipeline.reporting.chapter import Figure

TITLE = "Solvable scaling laws"
NEAR = 0.02
RUNS = {
    "engine": run_engine,
    "gradient_flow": run_gradient_flow,
    "one_pass_sgd": run_one_pass_sgd,
    "kernel_regression": run_kernel_regression,
    "random_features": run_random_features,
    "projected": run_projected,
    "quanta": run_quanta,
    "skills": run_skills,
    "kernel_dimension": run_kernel_dimension,
}
"""The model of a run -> its code; only what these reach is part of a run's identity."""
MODELS = {
    "engine": engine,
    "gradient_flow": gradient_flow,
    "one_pass_sgd": one_pass_sgd,
    "kernel_regression": kernel_regression,
    "random_features": random_features,
    "projected": projected,
    "quanta": quanta,
    "skills": skills,
    "kernel_dimension": kernel_dimension,
}
Pair = Annotated[list[Annotated[float, Field(gt=1)]], Field(min_length=2, max_length=2)]


class Settings(Dials):
    """Dials: `seeds` of all that is sampled; `exponents` the pairs (a, b) of the power-law models, of which the first
    is swept; then a section a model, null to leave it out."""

    seeds: Seeds
    exponents: Annotated[list[Pair], Field(min_length=1)]
    engine: engine.EngineDials | None
    gradient_flow: gradient_flow.FlowDials | None
    one_pass_sgd: one_pass_sgd.SgdDials | None
    kernel_regression: kernel_regression.KernelDials | None
    random_features: random_features.FeatureDials | None
    projected: projected.ProjectedDials | None
    quanta: quanta.QuantaDials | None
    skills: skills.SkillDials | None
    kernel_dimension: kernel_dimension.DimensionDials | None

    @property
    def asked(self) -> dict[str, Section]:
        """The dials of every model that is not left out, by name."""
        return {name: getattr(self, name) for name in MODELS if getattr(self, name) is not None}

    @model_validator(mode="after")
    def _room(self) -> Settings:
        if not self.asked:
            raise ValueError("engine: every model is left out (null)")
        for a, b in self.exponents:
            if b >= 1 + a:
                raise ValueError(f"exponents: b = {b:g} is not below 1 + a = {1 + a:g}; beyond, exponents saturate")
        edge = min(one_pass_sgd.stability_edge(a) for a, _ in self.exponents)
        if self.one_pass_sgd is not None and max(self.one_pass_sgd.rates) >= edge:
            raise ValueError(f"one_pass_sgd.rates: {max(self.one_pass_sgd.rates)} is not below the edge {edge:.4g}")
        a = self.exponents[0][0]
        for name, dials in self.asked.items():
            ends = MODELS[name].ends(a) if hasattr(MODELS[name], "ends") else {}
            for dial, end in ends.items():
                swept = getattr(dials, dial)
                if not min(swept) < end < max(swept):
                    raise ValueError(f"{name}.{dial}: {swept} lie on one side of the predicted end {end:.4g}")
        return self


def plan(settings: Settings, study: StudyFacts) -> list[RunSpec]:
    """The runs of every model that is asked for."""
    chosen = settings.asked.items()
    return [spec for name, dials in chosen for spec in MODELS[name].plan(dials, settings.exponents, settings.seeds)]


def run(spec: RunSpec, context: RunContext) -> Iterator[RunResult]:
    """The result of the model's own `run`, which says what its scalars are."""
    yield RUNS[spec.settings["model"]](spec)


def judge(settings: Settings, runs: pl.DataFrame, curves: pl.DataFrame) -> Judgement:
    """What each model says, the engine's compute exponent first; `exponents` gathers all that were measured."""
    outcomes = [MODELS[name].judge(runs, curves) for name in settings.asked]
    exponents = [one for outcome in outcomes for one in outcome.exponents]
    tables = {name: table for outcome in outcomes for name, table in outcome.tables.items()}
    tables["exponents"] = pl.DataFrame([asdict(one) for one in exponents], infer_schema_length=None)
    near = sum(one.off <= NEAR for one in exponents)
    say = f"{near} of {len(exponents)} exponents of these models come out within {100 * NEAR:g} % of theory."
    says = [say, *(line for outcome in outcomes for line in outcome.says)]
    return Judgement([one for outcome in outcomes for one in outcome.findings], {"says": says}, tables)


def draw(summary: dict, tables: dict[str, pl.DataFrame], runs: pl.DataFrame, curves: pl.DataFrame) -> list[Figure]:
    """The figures whose tables are there."""
    return figures(tables)
