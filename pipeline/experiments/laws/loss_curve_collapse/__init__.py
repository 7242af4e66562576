"""Loss curves of one recipe, in units of what each reaches at its end, are one curve for all sizes.

With x = tokens seen / D and the irreducible loss E taken off, the normalised curve of a run of N parameters is

    l(x) = (L(x D) - E) / (L(D) - E).

For L = E + A / N^alpha + B / D^beta it is (1 + r x^-beta) / (1 + r) with r = (B / D^beta) / (A / N^alpha), so runs of
equal r collapse onto one curve: those of compute-optimal ladders, on which D / N is constant where alpha = beta. Where
the rate has decayed, the spread of l over sizes can even fall below the noise of L - E between seeds (supercollapse).

Source: Qiu, Xiao, Wilson, Pennington and Agarwala 2025, arXiv 2507.02119. Their losses are those of a fixed test set;
here training losses stand in for them. All sizes of a seed read the same windows of text in the same order, so how hard
a stretch of text is shows in all sizes at once, and is divided out first.

Regime. Controls known before a run: the spread of r, or of D / N, in a ladder; and the tokens t_s at which warm-up and
smallest batch end, which do not grow with D, so that only runs longer than t_s / x can agree from x on. Besides, what a
constant rate costs, and its decay gives back, must shrink in proportion to the reducible loss.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from pipeline.experiments.experiment import Finding, Judgement, Regime, RunContext, RunResult, StudyFacts
from pipeline.experiments.language_model.evidence import split_points
from pipeline.experiments.law import Dials
from pipeline.experiments.laws.loss_curve_collapse.curves import (
    CELL,
    FEWEST,
    FIXED_D,
    FIXED_N,
    LADDER,
    departures,
    fitted_law,
    follows,
    in_noise,
    jackknife,
    ladders,
    normalised,
    overall_spread,
    self_similar_from,
    spread,
    window_difficulty,
    without_each_size,
)
from pipeline.experiments.sweep import crossing, log_slope
from pipeline.experiments.verdict import Claim, Estimate
from pipeline.fitting.laws import Law
from pipeline.planning.run_spec import RunSpec
from pipeline.reporting.chapter import Figure
from pipeline.reporting.panel import panel

TITLE = "Collapse of loss curves"
READS = "language_model"
QIU = "Qiu et al. 2025, arXiv 2507.02119"
LEFT = 2.0
"""Noises between seeds by which a run that has left its ladder differs from the next longer run."""


class Settings(Dials):
    """Dials: `convention` of N; `same_ratio`, the largest factor between values of D/N in a ladder; curves are averaged
    over `bins` equal parts of x, of which those from `start` on are compared."""

    convention: Literal["total", "non_embedding", "with_head"]
    same_ratio: Annotated[float, Field(ge=1, lt=2)]
    start: Annotated[float, Field(gt=0, lt=1)]
    bins: Annotated[int, Field(ge=4)]

    @model_validator(mode="after")
    def _some_are_compared(self) -> Settings:
        if self.bins * (1 - self.start) < 3 - 1e-9:
            raise ValueError(f"start: fewer than 3 of {self.bins} bins lie beyond {self.start}")
        return self


def plan(settings: Settings, study: StudyFacts) -> list[RunSpec]:
    """Nothing: the law is tested on the runs of the study itself."""
    return []


def run(spec: RunSpec, context: RunContext) -> Iterator[RunResult]:
    """Never called, as nothing is planned."""
    raise NotImplementedError(f"{spec.experiment} has no runs of its own")


def judge(settings: Settings, runs: pl.DataFrame, curves: pl.DataFrame) -> Judgement:
    """Spread over sizes against noise between seeds at constant D/N and at fixed D, what moves the shape, and the runs
    that are too short."""
    points, _ = split_points(runs, settings.convention)
    law = fitted_law(points)
    if law is None:
        return _untested("The end points of the study do not determine an irreducible loss.")
    similar = self_similar_from(curves)
    shortest = similar / settings.start

    def curves_of(points: pl.DataFrame, law: Law) -> pl.DataFrame:
        known = runs.filter(pl.col("width").is_in(points["width"].unique()))
        rows = normalised(settings.bins, law, points, window_difficulty(known, curves, similar), curves)
        return rows.join(ladders(points, settings.same_ratio, shortest), on="run_id", maintain_order="left")

    def judged(rows: pl.DataFrame) -> pl.DataFrame:
        return rows.filter(pl.col("x") > settings.start, pl.col("D") >= shortest)

    rows = curves_of(points, law)
    compared, inside = rows.filter(pl.col("x") > settings.start), judged(rows)
    noise = overall_spread(inside, "reducible", CELL)
    if not noise > 0 or inside["ladder"].is_null().all():
        return _untested(
            f"No {FEWEST} sizes of one D/N were trained on {shortest:,.0f} tokens or more, or no size twice."
        )
    away = departures(compared, noise)
    without = [judged(curves_of(fewer, own)) for fewer, own in without_each_size(points)]
    findings = [
        _collapse(inside, without, LADDER, "constant D/N", shortest), *_shapes(inside, without),
        _joining(away, shortest), _collapse(inside, without, FIXED_D, "fixed D", shortest),
    ]  # fmt: skip
    tables = {
        "curves": _shown(rows, LADDER),
        "fixed": _shown(rows, FIXED_D),
        "spread": pl.concat(
            spread(part.filter(pl.col("D") >= shortest), column, groups).with_columns(what=pl.lit(what))
            for what, part, column, groups in (
                ("sizes, constant D/N", rows.drop_nulls("ladder"), "collapsed", LADDER),
                ("sizes, fixed D", rows, "collapsed", FIXED_D),
                ("seeds, not normalised", rows, "reducible", CELL),
            )
        ),
        "departures": away,
    }
    summary = {
        "says": _says(inside, away, law.E, noise),
        "E": float(law.E),
        "start": settings.start,
        "shortest": shortest,
    }
    return Judgement(findings, summary, tables)


def _untested(reason: str) -> Judgement:
    claim = Claim("loss curves collapse at constant D/N", "l(x) = (L(x D) - E) / (L(D) - E)", QIU)
    return Judgement([claim.at_most(Estimate(None), 0.0, reason, reached=False)], {"says": [reason]})


def _collapse(
    inside: pl.DataFrame, without: list[pl.DataFrame], groups: tuple[str, str], words: str, shortest: float
) -> Finding:
    ratio = jackknife(lambda rows: np.log(in_noise(rows, groups)), inside, without)
    apart = overall_spread(inside.drop_nulls(groups), "collapsed", groups)
    claim = Claim(f"loss curves collapse at {words}", "ln (sd of ln l over sizes / sd of ln (L - E) over seeds) <= 0",
                  QIU, "ln of a ratio", role="law" if groups == LADDER else "control",
                  figure="loss_curve_collapse_spread")  # fmt: skip
    says = (
        f"At {words} the normalised curves of different sizes are {100 * apart:.2g} % apart, "
        f"{np.exp(ratio.value):.2f} times the noise between seeds."
    )
    regime = Regime("D", "tokens", float(inside["D"].min()), float(inside["D"].max()), None, shortest)
    return claim.at_most(ratio, 0.0, says, [regime])


def _shapes(inside: pl.DataFrame, without: list[pl.DataFrame]) -> list[Finding]:
    found = []
    for groups, law, figure, words in (
        (FIXED_D, "shape of a loss curve, with size", "fixed", "At fixed D larger models have steeper curves:"),
        (FIXED_N, "shape of a loss curve, with tokens", "curves", "At fixed size longer runs have flatter curves:"),
    ):
        slope = jackknife(lambda rows, groups=groups: follows(rows, groups), inside, without)
        claim = Claim(law, "ln l = ln (1 + r x^-beta) - ln (1 + r)", QIU, "measured / predicted",
                      figure=f"loss_curve_collapse_{figure}")  # fmt: skip
        says = f"{words} their differences are {slope.value:.2f} times those of the law fitted to the end points alone."
        found.append(claim.equals(slope, 1.0, 0.2, says))
    return found


def _joining(away: pl.DataFrame, shortest: float) -> Finding:
    by_tokens = away.group_by("D").agg((pl.col("departure") ** 2).mean().sqrt()).sort("D")
    place, bracket = crossing(by_tokens["D"], by_tokens["departure"], LEFT)
    claim = Claim("shortest run that collapses", "D = t_s / x", "derived here", "tokens", role="boundary",
                  figure="loss_curve_collapse_departures")  # fmt: skip
    says = f"No number of tokens divides runs within {LEFT:g} noises of the next longer run from the others."
    if place is not None:
        says = f"Runs of fewer than {place:,.0f} tokens differ from the next longer run by more than {LEFT:g} noises."
    broke = None if bracket is None else bracket[0]
    regime = Regime("D", "tokens", bracket and bracket[1], float(by_tokens["D"].max()), broke, shortest)
    return claim.located([place], bracket, shortest, 2.0, says, [regime])


def _says(inside: pl.DataFrame, away: pl.DataFrame, E: float, noise: float) -> list[str]:
    gone = away.filter(pl.col("departure") > LEFT)["label"].unique(maintain_order=True).to_list()
    bare = inside.with_columns(reducible=pl.col("loss").log(), collapsed=(pl.col("loss") / pl.col("end")).log())
    with_E, without = in_noise(inside, LADDER), in_noise(bare, LADDER)
    gain = "asks for" if with_E < without else "gains nothing from"
    law = E + pl.col("predicted").exp() * (pl.col("end") - E)
    above = inside.group_by("D").agg(excess=(pl.col("loss") - law).mean(), end=(pl.col("end") - E).mean()).sort("D")
    says = [
        f"Runs more than {LEFT:g} noises from the next longer run of their ladder: {', '.join(gone) or 'none'}.",
        f"Curves of one size are {in_noise(inside, FIXED_N):.2f} noises apart over D, those of constant D/N "
        f"{with_E:.2f} with E = {E:.3g} taken off and {without:.2f} with E = 0: collapse {gain} this E.",
    ]
    if len(above) > 1 and above["excess"].min() > noise * above["end"].max():
        first, last = above.row(0, named=True), above.row(-1, named=True)
        says.append(
            f"Before their end curves lie {first['excess']:.3f} nats/token above the law of the end points in runs of "
            f"{first['D']:,} tokens and {last['excess']:.3f} in runs of {last['D']:,}, as "
            f"(L - E)^{log_slope(above['end'], above['excess']):.2f}. Collapse asks for the power 1: what the decay of "
            "the rate gives back would have to shrink with the reducible loss."
        )
    return says


def _shown(rows: pl.DataFrame, groups: tuple[str, str]) -> pl.DataFrame:
    """The curves of the group with the most sizes, of most tokens among equals."""
    most = rows.drop_nulls(groups).group_by(groups).agg(sizes=pl.col("N").n_unique(), longest=pl.col("D").max())
    chosen = rows.join(most.sort("sizes", "longest", *groups).tail(1).select(groups), on=groups).sort("D", "N", "x")
    return chosen.select("width", "D", "x", l=pl.col("collapsed").exp())


def draw(summary: dict, tables: dict[str, pl.DataFrame], runs: pl.DataFrame, curves: pl.DataFrame) -> list[Figure]:
    """A ladder of constant D/N, all sizes at one D, the spread against the noise, and the runs that leave."""
    if not tables:
        return []
    l_of_x = {"x": "x", "y": "l", "x_label": "x = tokens seen / D", "y_label": "l(x)", "by": "width", "logs": "y",
              "by_label": "width", "vertical": {"compared from here on": summary["start"]}}  # fmt: skip
    return [
        panel("loss_curve_collapse_curves", "Loss curves at constant D/N", "Normalised training loss of a ladder of "
              "sizes.", tables["curves"], **l_of_x),
        panel("loss_curve_collapse_fixed", "Loss curves at fixed D", "Normalised training loss of all sizes at one D.",
              tables["fixed"], **l_of_x),
        panel("loss_curve_collapse_spread", "Spread of normalised curves", "Standard deviation over sizes, and over "
              "seeds.", tables["spread"], "x", "sd", x_label="x = tokens seen / D", y_label="sd of the logarithm",
              by="what", logs="y"),
        panel("loss_curve_collapse_departures", "Runs that leave the collapse", "Distance of each run from the next "
              "longer run of its ladder.", tables["departures"], "D", "departure", x_label="D, tokens",
              y_label="noises between seeds", joined=False, horizontal={"has left": LEFT},
              vertical={"t_s / x": summary["shortest"]}),
    ]  # fmt: skip
