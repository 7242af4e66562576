"""The recipe of this study is at its optimum: no dial, moved alone, lowers the loss at equal tokens.

A scaling law compares sizes that are each trained as well as they can be. Near its best value x* a dial x costs

    L(x) = L(x*) (1 + c (ln x / x*)^2 / 2),    regret = L(study's x) / L(x*) - 1,

so a value that is off by a factor of 1.4 may cost nothing that can be measured, while one off by 4 bends the law. Every
dial of the recipe (rates, momentum, batch, warm-up, cooldown) is multiplied by a few factors, the others kept, on the
study's own model with its own trainer at equal tokens, so at equal FLOPs. The same seed gives the same start and the
same order of the data, so what a dial changes is known much better than a loss.

Source: the claim is about this study; Yang et al. 2022, arXiv 2203.03466 (one tunes narrow models and transfers).

Estimator. A parabola in ln x through the means of ln L, least squares over all points. The noise of one ln L is what
remains when the level of every seed and of every setting is taken out, pooled over all settings of a width; where the
parabola misses the means by more, its misses count as noise. The interval of the regret is the largest saving over all
moves within the sweep, at both ends of the interval of each move, which covers also where nothing is to be saved.
Diverged settings are left out.

Regime. The range of each dial over which the loss stays within the tolerance of its lowest. A best value at the edge of
a sweep is no optimum. Each dial moves alone: a lower loss may exist where two move together (batch and rates, say), and
counts of tokens and widths beyond those swept were not tried. A course ends on a whole batch, so that counts of tokens
differ by up to one batch between values of the batch and the cooldown.

The tolerance, 1 % of the loss, is about twice the noise between two seeds, and a 1 % higher loss at all sizes would
leave every exponent where it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

import polars as pl

from pipeline.experiments.experiment import Judgement, Progress, RunContext, RunResult, StudyFacts
from pipeline.experiments.laws.mup_transfer.language_model import run_study
from pipeline.experiments.laws.recipe_optimum.ends import finding_of_boundary, finding_of_control
from pipeline.experiments.laws.recipe_optimum.findings import finding_of_dial, finding_of_transfer, percent, standing
from pipeline.experiments.laws.recipe_optimum.sweeps import OWN, plan_sweeps
from pipeline.experiments.laws.recipe_optimum.sweeps import Settings as Settings
from pipeline.experiments.laws.recipe_optimum.swept import sweeps_of
from pipeline.experiments.laws.recipe_optimum.tables import figure, optima, points
from pipeline.planning.run_spec import RunSpec
from pipeline.reporting.chapter import Figure

TITLE = "The recipe at its optimum"


def plan(settings: Settings, study: StudyFacts) -> list[RunSpec]:
    """The study's recipe, and every dial at its other values, at each width and seed."""
    return list(plan_sweeps(settings, study))


def run(spec: RunSpec, context: RunContext) -> Iterator[Progress | RunResult]:
    """One point of the study by the study's own trainer."""
    yield from run_study(spec, context)


def judge(settings: Settings, runs: pl.DataFrame, curves: pl.DataFrame) -> Judgement:
    """A finding a dial, one on the transfer over width, the end of a range and the control, and where the recipe
    stands."""
    swept = list(sweeps_of(runs, settings.tolerance))
    findings = [finding_of_dial(list(widths)) for _, widths in groupby(swept, key=lambda one: one.name)]
    study = standing(swept, findings, runs.filter(dial=OWN)["course.end"][0])
    says = [study["sentence"]]
    noises = {one.width: one.sweep.variance**0.5 for one in swept if one.sweep}
    if noises:
        told = ", ".join(f"{percent(error)} % at width {width}" for width, error in noises.items())
        says.append(f"The noise of one loss, its seed's own level taken out, is {told}.")
    without = [name for name in settings.factors if name not in {one.name for one in swept}]
    if without:
        says.append(f"Without effect on this recipe, and so not swept: {', '.join(without)}.")
    moved = finding_of_transfer(swept)
    tables = {"points": points(swept), "optima": optima(swept)}
    outside = [finding_of_boundary(swept, settings.tolerance), finding_of_control(swept, settings.tolerance)]
    return Judgement([*findings, *([moved] if moved else []), *outside], {"says": says, "study": study}, tables)


def draw(summary: dict, tables: dict[str, pl.DataFrame], runs: pl.DataFrame, curves: pl.DataFrame) -> list[Figure]:
    """One panel a dial."""
    return [figure(tables["points"], tables["optima"])]
