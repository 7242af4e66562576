"""The rate of the study's own language model: whether its best factor transfers, and what the study's rate costs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Annotated

import numpy as np
import polars as pl
from pydantic import Field, PositiveInt, model_validator

from pipeline.experiments.experiment import Finding, Progress, Regime, RunContext, RunResult, StudyFacts
from pipeline.experiments.language_model.plan import plan
from pipeline.experiments.law import Seeds, law_run, result
from pipeline.experiments.laws.mup_transfer.valley import Valley, ascend, drift, estimate, moves, valley_of
from pipeline.experiments.sweep import mean_over_seeds
from pipeline.experiments.verdict import Claim, Estimate
from pipeline.params import Evaluation, LanguageModel, Replicates, Section, SizesByTokens
from pipeline.planning.run_spec import RunSpec

YANG = "Yang et al. 2022, arXiv 2203.03466"
RATES = ("matrix_rate", "embedding_rate", "head_rate")
DRIFT, CHEAP = 0.25, 0.01
"""The largest drift of the best factor, octaves a doubling of width; the largest regret of the study's rate, in parts
of the loss, that leaves it well tuned."""


class Tuned(Section):
    """Dials: the study's model at `widths`, all its rates multiplied by 2 to the `log2_factors`, of which 0 is its own
    rate; `windows` of its validation text; `tokens` of training, None for the smallest count of the study."""

    seeds: Seeds
    widths: Annotated[list[PositiveInt], Field(min_length=2)]
    log2_factors: Annotated[list[float], Field(min_length=3)]
    windows: PositiveInt
    tokens: PositiveInt | None = None

    @model_validator(mode="after")
    def _room_on_both_sides(self) -> Tuned:
        ascend(self, "widths", "log2_factors")
        if 0 not in self.log2_factors[1:-1]:
            raise ValueError(
                f"log2_factors: {self.log2_factors} must hold 0, the study's rate, with room on both sides"
            )
        return self


def plan_study(dials: Tuned, study: StudyFacts) -> Iterable[RunSpec]:
    """Points of the study as it plans them itself, each from initialisation in one piece, at every factor and seed.

    Raises ValueError when the study's model has no such width, or its corpus or schedule no such count of tokens.
    """
    model = study.language_model
    for width in dials.widths:
        if width % model.model.head_size:
            place = "params.yaml: laws.mup_transfer.language_model.widths"
            raise ValueError(f"{place}: {width} is not divisible by model.head_size {model.model.head_size}")
    tokens = dials.tokens or min(spec.settings["course"]["end"] for spec in _points(model, study))
    changed = {
        "grid": SizesByTokens(kind="sizes_by_tokens", widths=dials.widths, tokens=[tokens]),
        "replicates": Replicates(),
        "evaluation": Evaluation(windows=dials.windows, windows_per_document=model.evaluation.windows_per_document),
    }
    for point in _points(model.model_copy(update=changed), study):
        width, own = point.settings["width"], point.settings["optimizer"]
        seconds = point.settings["course"]["end"] / 120_000 * (1.5 + width / 40 + 4e-6 * width**3)
        for factor in dials.log2_factors:
            rates = {name: own[name] * 2.0**factor for name in RATES}
            settings = point.settings | {"optimizer": own | rates, "log2_factor": factor}
            for seed in dials.seeds:
                label = f"language model width {width}, rates x {2.0**factor:g}, seed {seed}"
                yield law_run("mup_transfer", "language_model", settings, seed, label=label, seconds=seconds,
                              data_digest=study.digest)  # fmt: skip


def _points(model: LanguageModel, study: StudyFacts) -> list[RunSpec]:
    return [spec for spec in plan(model, study) if spec.kind != "trunk"]


def run_study(spec: RunSpec, context: RunContext) -> Iterator[Progress | RunResult]:
    """Trained by the study's own trainer: `loss` (nats/token) and `bits_per_byte` on the validation windows."""
    from pipeline.experiments.language_model.run import run

    for event in run(spec, context):
        if isinstance(event, RunResult):
            curve = {"step": event.curve["tokens"].astype(int), "train_loss": event.curve["train_loss"]}
            yield result(event.scalars, curve, event.status, event.reason)
        else:
            yield event


def judge_study(runs: pl.DataFrame) -> tuple[list[Finding], dict, list[str], dict[str, pl.DataFrame]]:
    """(findings, the summary's `study`, sentences, tables): the drift of the best factor, and the study's own rate."""
    runs = runs.filter(kind="language_model")
    if "loss" not in runs.columns:
        runs = runs.with_columns(loss=pl.lit(None, pl.Float64))
    valleys = {width: valley_of(rows, "log2_factor") for (width,), rows in runs.group_by("width")}
    own = _own_rate(valleys, runs["course.end"][0])
    rule, optimizer = runs["model.parametrization"][0], runs["optimizer.kind"][0]
    says = (
        f"In the study's own model ({rule}, {optimizer}) the best factor of its rates drifts by {moves(valleys)} "
        f"octaves a doubling over widths {', '.join(map(str, sorted(valleys)))}. Longer trainings were not tried."
    )
    table = mean_over_seeds(runs.with_columns(factor=2.0 ** pl.col("log2_factor")), ["width", "factor"], "loss")
    study = {
        "inside": {"holds": True, "violated": False}.get(own.verdict),
        "factor": _best_factor(valleys),
        "regret": own.measured,
        "sentence": own.statement,
    }
    return [_transfer(valleys), own], study, [own.statement, says], {"language_model": table}


def _best_factor(valleys: dict[int, Valley]) -> float | None:
    """The best factor of the study's rates at the largest width; None where the sweep does not hold it."""
    last = valleys[max(valleys)]
    return float(2.0 ** last.optimum[0]) if last.bracketed else None


def _transfer(valleys: dict[int, Valley]) -> Finding:
    low, high = sorted(valleys)[-2:]
    claim = Claim("the best rate transfers, model of this study", "d log2 eta* / d log2 w = 0", YANG,
                  "octaves a doubling", figure="mup_transfer_language_model")  # fmt: skip
    found, moved = valleys[low].bracketed and valleys[high].bracketed, estimate(drift(valleys))
    says = "The lowest loss lies at the edge of the sweep: there is no best factor to compare."
    if found:
        narrow, wide = (2.0 ** valleys[width].optimum[0] for width in (low, high))
        says = (
            f"The study's model is best at {narrow:.2f} times the study's rates at width {low} and at {wide:.2f} times "
            f"at width {high}: a drift of {drift(valleys)[0]:.2f} octaves a doubling."
        )
    return claim.equals(moved, 0.0, DRIFT, says, [Regime("width", "", min(valleys), max(valleys))], found)


def _own_rate(valleys: dict[int, Valley], tokens: int) -> Finding:
    """The finding at the width where the study's rate costs most."""
    costs = {width: estimate(valleys[width].regret(0.0)) for width in sorted(valleys)}
    worst = max(costs.values(), key=lambda cost: np.inf if cost.value is None else cost.value)
    found, factor = all(valley.bracketed for valley in valleys.values()), _best_factor(valleys)
    claim = Claim("the study's own rate is near the best one", "loss at the study's rate / lowest loss - 1 = 0",
                  "this study", "relative", figure="mup_transfer_language_model")  # fmt: skip
    regime = Regime("width", "", min(valleys), max(valleys))
    reached = found or worst.value is None or worst.value > CHEAP  # where it is at least that much, no best is needed
    finding = claim.equals(worst, 0.0, CHEAP, "", [regime], reached)
    told = {"holds": "is near the best one", "violated": "is not the best one"}.get(
        finding.verdict, "may be near the best one or not"
    )
    best = f"is {factor:.2g} times the study's" if factor else "lies at the edge of the sweep or beyond it"
    listed = "; ".join(f"{_cost(cost, found)} at width {width}" for width, cost in costs.items())
    says = (
        f"The study's learning rate {told}: of the loss at {tokens:,} tokens it costs {listed}. The best rate at width "
        f"{max(valleys)} {best}."
    )
    return replace(finding, statement=says)


def _cost(cost: Estimate, found: bool) -> str:
    if cost.value is None:
        return "an unknown part"
    ends = f" ({100 * cost.interval[0]:.2g} to {100 * cost.interval[1]:.2g})" if cost.interval else ""
    return f"{'' if found else 'at least '}{100 * cost.value:.2g} %{ends}"
