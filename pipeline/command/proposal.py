"""Propose the runs that narrow the forecast most for a budget of FLOPs; --apply writes them into params.yaml."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.command.options import positive
from pipeline.command.params_file import add_points
from pipeline.command.predict import read_study
from pipeline.command.words import aligned, figure
from pipeline.experiments.experiment import LANGUAGE_MODEL, CorpusFacts
from pipeline.experiments.language_model.forecast import COST_POWER, NUM_NEXT
from pipeline.experiments.language_model.ladder import flops_for, ladder, measured_run, with_points
from pipeline.experiments.language_model.plan import describe, plan
from pipeline.fitting.design import expected_interval, next_runs
from pipeline.fitting.estimators import L2
from pipeline.fitting.prediction import BUDGET_FACTOR, Prediction, Predictor
from pipeline.fitting.solver import fit
from pipeline.params import LanguageModel, Point, read_params
from pipeline.results import read_findings
from pipeline.study import study_facts

PARAMS, RESULTS, TOKENS = Path("params.yaml"), Path("results"), Path("data/tokens")


@dataclass(frozen=True)
class Proposed:
    """A run worth doing: its point, N by the study's convention, D in tokens, the FLOPs that it adds to the study, and
    the expected 95 % half width of ln L at the target once it and those before it are done."""

    point: Point
    N: int
    D: int
    flops: float
    half_width: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options of `study next`."""
    parser.add_argument("--flops", metavar="C", required=True, help="what the new runs may cost together, FLOPs")
    parser.add_argument(
        "--apply", action="store_true", help="write them into params.yaml, as language_model.grid.points"
    )


def command(arguments: argparse.Namespace) -> None:
    """Prints the proposal, and writes it where that is asked for.

    Raises ValueError without a study that predicts, or with a budget that buys none of the candidates.
    """
    budget = positive("--flops", arguments.flops)
    params = read_params(PARAMS)
    settings, corpus, predictor = params.language_model, study_facts(params, TOKENS), read_study(RESULTS).predictor
    valid = read_findings(RESULTS)[LANGUAGE_MODEL]["summary"].get("valid_from") or {}
    least = valid.get("N_min") or 0.0, valid.get("D_min") or 0.0
    target = predictor.budget(BUDGET_FACTOR * predictor.C_range[1]).best
    before, chosen = propose(settings, corpus, predictor, params.fit.convention, target, budget, least)
    print(_text(predictor, target, before, chosen, budget))
    if arguments.apply:
        add_points(PARAMS, [one.point for one in chosen])
        print(f"{len(chosen)} points added to {PARAMS}: language_model.grid.points; `study bill`, then `make study`")


def propose(
    settings: LanguageModel,
    corpus: CorpusFacts,
    predictor: Predictor,
    convention: str,
    target: Prediction,
    budget: float,
    least: tuple[float, float] = (0.0, 0.0),
) -> tuple[float, list[Proposed]]:
    """(expected 95 % half width of ln L at the target with the planned runs alone, the runs to add, in order).

    Candidates are the points of the study's ladder that are not planned yet, from `least` (N, D) on; what one costs is
    what the planner would train anew for it, a trunk that is shared only once. The next is always the one that cuts the
    variance at the target most for its cost (`pipeline.fitting.design.next_runs`).
    """
    law, column = predictor.law, f"N_{convention}"
    facts = [describe(spec, settings.seed) for spec in plan(settings, corpus) if spec.kind != "trunk"]
    made = sorted({(one[column], one["D"]) for one in facts})
    open_points: dict[tuple[int, int], Point] = {}
    for point in ladder(settings, corpus):
        one = describe(measured_run(settings, corpus, point), settings.seed)
        if (one[column], one["D"]) not in made and one[column] >= least[0] and one["D"] >= least[1]:
            open_points[one[column], one["D"]] = Point(width=point.width, tokens=point.tokens)

    def half_width() -> float:
        N, D = np.array(made, float).T
        return expected_interval(law, N, D, predictor.noise_sd, target.N, target.D).target_half_width

    before, left, chosen = half_width(), budget, []
    while open_points and len(chosen) < NUM_NEXT:
        grown = with_points(settings, [one.point for one in chosen])
        known = {spec.run_id for spec in plan(grown, corpus)}
        costs = [flops_for(grown, corpus, point, known) for point in open_points.values()]
        N, D = np.array(list(open_points), float).T
        if min(costs) > left:
            break
        held = np.array(made, float).T
        exact = fit(type(law), *held, law.loss(*held), L2)
        (best,) = next_runs(
            exact, predictor.noise_sd, N, D, target.N, target.D, left, 1, cost_power=COST_POWER, costs=costs
        )
        place = int(best.N), int(best.D)
        made.append(place)
        left -= best.C
        chosen.append(Proposed(open_points.pop(place), *place, best.C, half_width()))
    if not chosen:
        cheapest = f"the cheapest costs {figure(min(costs), 3)}" if open_points else "the whole ladder is planned"
        raise ValueError(f"--flops: {budget:g} buys none of the runs beyond the grid: {cheapest}")
    return before, chosen


def _text(predictor: Predictor, target: Prediction, before: float, chosen: list[Proposed], budget: float) -> str:
    head = ["run", "tokens", "N", "D", "FLOPs", "interval then"]
    rows = [
        [
            f"width {one.point.width}",
            f"{one.point.tokens:,}",
            figure(one.N),
            figure(one.D),
            figure(one.flops, 3),
            _percent(one.half_width),
        ]
        for one in chosen
    ]
    spent = sum(one.flops for one in chosen)
    return (
        f"target  the least loss at {figure(target.C, 3)} FLOPs (6 N D), {BUDGET_FACTOR:g} times the largest measured: "
        f"N = {figure(target.N, 3)}, D = {figure(target.D, 3)}\n"
        f"now     its 95 % interval is {_percent(before)}, if the {predictor.form.name} law and the noise hold\n\n"
        f"{aligned([head, *rows])}\n\n"
        f"in all  {len(chosen)} runs, {figure(spent, 3)} of {figure(budget, 3)} FLOPs: {_percent(before)} becomes "
        f"{_percent(chosen[-1].half_width)}"
    )


def _percent(half_width: float) -> str:
    return f"+-{figure(100 * half_width, 3)} %"
