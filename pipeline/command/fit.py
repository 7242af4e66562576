"""Fit a law to a table of finished runs: parameters with intervals, hold-out, warnings; or a named refusal."""

from __future__ import annotations

import argparse
from pathlib import PurePosixPath

from pipeline.command.fit_words import fit_text
from pipeline.command.options import number, positive, whole
from pipeline.command.words import check_outputs, write_json, write_text
from pipeline.external.choice import OVERRULED, RECIPE, Choice, despite_of, law_key
from pipeline.external.fit_table import fit_table
from pipeline.external.published import read_published
from pipeline.external.table_file import read_sheet
from pipeline.external.where import Condition, chosen
from pipeline.fitting.estimators import estimator_named
from pipeline.fitting.laws import LAWS
from pipeline.fitting.solver import NUM_STARTS

FEWEST_DRAWS, MOST_DRAWS, MOST_STARTS = 10, 1_000_000, 10_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options of `study fit`."""
    parser.add_argument(
        "table",
        metavar="TABLE",
        help="csv, tsv, jsonl (also .gz, .zst) or parquet, one row a run; or mlflow:EXPERIMENT at MLFLOW_TRACKING_URI",
    )
    for letter, what in (("N", "parameters"), ("D", "training tokens"), ("L", "loss"), ("C", "training FLOPs")):
        parser.add_argument(f"--{letter}", metavar="COL", help=f"column of {what}; default: a usual name")
    parser.add_argument(
        "--where",
        metavar="COND",
        action="append",
        default=[],
        help="rows to keep: COL=VALUE or COL=VALUE|VALUE, also with !=, and COL<VALUE with < <= > >=; may be repeated",
    )
    parser.add_argument(
        "--law",
        default="chinchilla",
        help=f"one of {', '.join(LAWS)}; default chinchilla; auto: by hold-out; isoflop: minima at given budgets C",
    )
    parser.add_argument(
        "--estimator", default="huber", help="huber, l1, l2, l2_linear or asymmetric; default huber, delta adaptive"
    )
    parser.add_argument("--delta", help="threshold of huber and asymmetric; default: 1.345 noise sds")
    parser.add_argument("--noise", metavar="SD", help="for isoflop: sd of a run's loss between seeds, nats/token")
    parser.add_argument("--bootstrap", default="1000", metavar="R", help="resamples; 0 for no intervals; default 1000")
    parser.add_argument("--cluster", metavar="COL", help="column that labels runs which are not independent, or size")
    parser.add_argument("--recipe", default=RECIPE, metavar="COL", help="column of the two recipes of two_recipes")
    parser.add_argument(
        "--holdout",
        metavar="Q",
        nargs="?",
        const="0.75",
        help="also fit below the Q quantile of C (0.75 unless said) and test above; 0: no hold-out at all",
    )
    parser.add_argument(
        "--despite",
        metavar="NAME",
        action="append",
        default=[],
        help=f"give the parameters in spite of this refusal, with its warning: {', '.join(OVERRULED)}; may be repeated",
    )
    parser.add_argument("--seed", default="42", help="seed of the resamples; default 42")
    parser.add_argument("--starts", default=str(NUM_STARTS), help=f"starts of the fit; default {NUM_STARTS}")
    parser.add_argument(
        "--published",
        metavar="NUMBERS",
        help="published numbers to stand beside ours: FILE.json, or NAME=VALUE,...,source=WORDS",
    )
    parser.add_argument("--json", metavar="OUT", help="also write everything, with the draws, to this file")
    parser.add_argument("--page", metavar="OUT.html", help="also write a page with figures and tables, one file")


def command(arguments: argparse.Namespace) -> int:
    """0 after a fit, 1 after a refusal; prints either. Raises ValueError in one line for a fault of the user's."""
    choice = _choice(arguments)
    check_outputs(
        {"TABLE": arguments.table, "--published": arguments.published},
        {"--json": arguments.json, "--page": arguments.page},
    )
    conditions = [Condition.parse(text) for text in arguments.where]
    fitted = fit_table(chosen(read_sheet(arguments.table), conditions), choice)
    print(fit_text(fitted.result))
    if arguments.json:
        write_json(arguments.json, fitted.result)
    if arguments.page:
        from pipeline.reporting.fit_page import fit_page

        title = PurePosixPath(fitted.result["table"]).name
        write_text(arguments.page, fit_page(title, fitted.result, fitted.points))
    return 0 if fitted.result["answered"] else 1


def _choice(arguments: argparse.Namespace) -> Choice:
    """The options as values. Raises ValueError naming the option and the value that cannot be."""
    law = law_key(arguments.law)
    delta = None if arguments.delta is None else positive("--delta", arguments.delta)
    estimator = estimator_named(arguments.estimator, delta)
    noise = None if arguments.noise is None else number("--noise", arguments.noise)
    num_resamples = whole("--bootstrap", arguments.bootstrap, 0, MOST_DRAWS)
    if 0 < num_resamples < FEWEST_DRAWS:
        raise ValueError(f"--bootstrap: {num_resamples} is neither 0 nor at least {FEWEST_DRAWS}")
    seed, starts = whole("--seed", arguments.seed, 0), whole("--starts", arguments.starts, 1, MOST_STARTS)
    quantile = None if arguments.holdout is None else number("--holdout", arguments.holdout)
    if quantile is not None and not 0 <= quantile < 1:
        raise ValueError(f"--holdout: {arguments.holdout} is not in [0, 1)")
    if seed >= 2**32:
        raise ValueError(f"--seed: {seed} is not below 2^32")
    return Choice(
        law,
        {letter: getattr(arguments, letter) for letter in "NDLC"},
        estimator,
        num_resamples,
        seed,
        starts,
        quantile,
        arguments.cluster,
        arguments.recipe,
        noise,
        despite_of(arguments.despite),
        None if arguments.published is None else read_published(arguments.published),
    )
