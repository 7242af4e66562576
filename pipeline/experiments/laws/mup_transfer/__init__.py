"""The best learning rate of a narrow network is the best one of a wide network: under muP it transfers over width.

Adam moves every weight by about its rate, whatever the gradient. So w weights that pull together change what they feed
by w times the rate. The maximal-update parametrization (muP) lets the rates of all matrices that are fed by w units
fall with the width w, from a base width w0 on,

    eta_hidden = eta_output = eta w0 / w,    eta_input = eta,

so that a step changes every layer by an amount that does not depend on w, and the eta of the lowest loss is the same
at every width. With one rate for all widths, the standard parametrization, the output changes by w times as much, and

    eta*(w) = eta*(w0) w0 / w.

Source: Yang et al. 2022, arXiv 2203.03466 (rules for Adam, transfer); Yang and Hu 2020, arXiv 2011.14522 (theory). The
end of transfer with one rate for all is derived here. The output layer starts at zero, so that both differ in their
rates alone.

Regime. Controls known before a run: w / w0, by which the one rate of the standard parametrization is too high, so that
its transfer ends near w = F w0, where a rate F times too high costs the stated regret at the base width; and the
width itself, since muP is a limit of infinite width: among narrow widths what a step changes, and so the best rate, may
still drift. A lowest loss at the edge of a sweep is no optimum.

The same is asked of the study's own language model, with its own optimiser, batch and schedule, all of whose rates are
multiplied by one factor: whether the best factor transfers, and how much lower its loss is than at the study's rate.
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from pipeline.experiments.experiment import Judgement, Progress, RunContext, RunResult, StudyFacts
from pipeline.experiments.law import Dials
from pipeline.experiments.laws.mup_transfer.language_model import Tuned, judge_study, plan_study, run_study
from pipeline.experiments.laws.mup_transfer.network import Network, plan_network, run_network
from pipeline.experiments.laws.mup_transfer.network_findings import judge_network
from pipeline.planning.run_spec import RunSpec
from pipeline.reporting.chapter import Figure
from pipeline.reporting.panel import panel

TITLE = "Learning rates over width (muP)"


class Settings(Dials):
    """Dials of the two parts: a network of two hidden layers, and the study's own language model (None: left out)."""

    network: Network
    language_model: Tuned | None


def plan(settings: Settings, study: StudyFacts) -> list[RunSpec]:
    """The runs of both parts."""
    tuned = plan_study(settings.language_model, study) if settings.language_model else []
    return [*plan_network(settings.network), *tuned]


def run(spec: RunSpec, context: RunContext) -> Iterator[Progress | RunResult]:
    """One run of the part that its kind names."""
    if spec.kind == "language_model":
        yield from run_study(spec, context)
    else:
        yield run_network(spec)


def judge(settings: Settings, runs: pl.DataFrame, curves: pl.DataFrame) -> Judgement:
    """Transfer on the network, its controls and its end, and what the study's own rate costs."""
    findings, says, tables = judge_network(settings.network, runs, curves)
    if settings.language_model is None:
        return Judgement(findings, {"says": says, "study": None}, tables)
    own, study, told, table = judge_study(runs)
    return Judgement([*findings, *own], {"says": [*says, *told], "study": study}, tables | table)


def draw(summary: dict, tables: dict[str, pl.DataFrame], runs: pl.DataFrame, curves: pl.DataFrame) -> list[Figure]:
    """Loss against rate with muP and with one rate for all, what a few steps change, and the study's own model."""
    rates, best = tables["rates"], tables["optima"].row(0, named=True)
    found = {} if best["log2_optimum"] is None else {f"best at width {best['width']}": 2.0 ** best["log2_optimum"]}
    figures = [
        panel("mup_transfer_mup", "Rates under muP", "Loss after training against the rate at the base width; "
              "bars of 1.96 standard errors over seeds.", rates.filter(parametrization="mup"), "rate", "loss",
              x_label="rate eta", y_label="loss, nats", by="width", by_label="width", error="loss_se", vertical=found),
        panel("mup_transfer_standard", "One rate for all", "The same with one rate for all matrices at every width.",
              rates.filter(parametrization="standard"), "rate", "loss", x_label="rate eta", y_label="loss, nats",
              by="width", by_label="width", error="loss_se", vertical=found),
        panel("mup_transfer_coordinates", "What a few steps change", "Root mean square change of what enters each "
              "layer's units, under muP and with one rate for all (standard).", tables["coordinates"], "width",
              {"first_layer": "first", "second_layer": "second", "output": "output"}, x_label="width w",
              y_label="change", by="parametrization"),
    ]  # fmt: skip
    if "language_model" in tables:
        figures.append(
            panel("mup_transfer_language_model", "Rates of the study's own model", "Validation loss against the factor "
                  "of all rates, by width; bars of 1.96 standard errors.", tables["language_model"], "factor", "loss",
                  x_label="times the study's rates", y_label="loss, nats/token", by="width", by_label="width",
                  error="loss_se", logs="x", vertical={"rate of the study": 1.0})
        )  # fmt: skip
    return figures
