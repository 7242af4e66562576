"""Predict the best use of a compute budget, or the loss of one run, from a fitted law."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from pipeline.command.options import positive
from pipeline.command.words import check_outputs, predict_text, write_json
from pipeline.external.choice import ISOFLOP
from pipeline.fitting.frontier import Serving, cheapest_for_loss
from pipeline.fitting.points import FLOPS_PER_PARAMETER_TOKEN
from pipeline.fitting.prediction import Budget, Prediction, Predictor
from pipeline.plain import plain

FINDINGS, DRAWS = "findings.json", "fit/language_model/draws.csv"
"""In the folder of results."""


@dataclass(frozen=True)
class Source:
    """A fitted law and the file that it comes from, with the warnings of its fit.

    `absent` are those of N and D that the fitted table did not hold; `recipes` the labels of recipe 0 and 1.
    """

    predictor: Predictor
    file: str
    absent: tuple[str, ...] = ()
    recipes: tuple[str, str] | None = None
    warnings: tuple[dict[str, str], ...] = ()

    @property
    def of_compute(self) -> bool:
        """Whether the law is one of C alone, which says nothing of N and D."""
        return tuple(self.predictor.form.levels) == ("C",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options of `study predict`."""
    parser.add_argument("--flops", metavar="C", help="a training budget, FLOPs: how to spend it best")
    parser.add_argument("--params", metavar="N", help="parameters of one run, with --tokens: its loss")
    parser.add_argument("--tokens", metavar="D", help="training tokens of one run, with --params")
    parser.add_argument(
        "--serve", metavar="TOKENS", help="with --flops: the cheapest as good model that serves so many"
    )
    parser.add_argument("--unique-tokens", metavar="U", help="unique tokens, for the law data_constrained")
    parser.add_argument("--recipe", metavar="LABEL", help="which recipe, for the law two_recipes; default: the first")
    parser.add_argument(
        "--from", dest="source", metavar="FIT.json", help="what `study fit --json` wrote; default: this study"
    )
    parser.add_argument("--json", metavar="OUT", help="also write the prediction to this file")


def command(arguments: argparse.Namespace) -> int:
    """0 once the prediction is printed. Raises ValueError in one line for a fault of the user's."""
    names = ("flops", "params", "tokens", "serve", "unique_tokens")
    given = {
        name: positive(f"--{name.replace('_', '-')}", text)
        for name in names
        if (text := getattr(arguments, name)) is not None
    }
    one_run = "params" in given or "tokens" in given
    if "flops" in given and one_run:
        raise ValueError("--flops asks for the best run, --params and --tokens for one run: give one or the other")
    if "flops" not in given and not one_run:
        raise ValueError("nothing asked: give --flops C, or --params N and --tokens D")
    if "serve" in given and one_run:
        raise ValueError("--serve needs --flops: it looks for the cheapest model of the loss that the budget reaches")
    check_outputs({"--from": arguments.source or f"results/{FINDINGS}"}, {"--json": arguments.json})
    source = read_fit(arguments.source) if arguments.source else read_study()
    columns = _columns(source, given, arguments.recipe)
    result = plain(of_run(source, given, columns) if one_run else of_budget(source, given, columns))
    print(predict_text(result))
    if arguments.json:
        write_json(arguments.json, result)
    return 0


def read_fit(path: str) -> Source:
    """The law of a file that `study fit --json` wrote. Raises ValueError for a refused fit or another file."""
    found = _json(Path(path))
    if not {"status", "predictor", "draws"} <= set(found):
        raise ValueError(
            f"{path}: not a fit: no status, predictor and draws; `study fit TABLE --json {path}` writes one"
        )
    if found["predictor"] is None:
        why = f"a fit without intervals: {found.get('no_intervals')}"
        if not found.get("answered"):
            why = f"a fit refused: {found.get('reason')}"
        elif found.get("law") == ISOFLOP:
            why = "isoFLOP minima, which are no law of the loss"
        raise ValueError(f"{path}: status {found['status']}: nothing can be predicted from {why}")
    recipes = found.get("recipes")
    return Source(
        _predictor(path, found["predictor"], found["draws"]),
        path,
        tuple(found.get("absent", ())),
        (recipes["first"], recipes["second"]) if recipes else None,
        tuple(found.get("warnings", ())),
    )


def read_study(results: Path = Path("results")) -> Source:
    """The law of the study with this folder of results. Raises ValueError where there is none, or none that may
    predict."""
    findings, draws = results / FINDINGS, results / DRAWS
    if not findings.exists():
        raise ValueError(f"{findings}: no study here yet; run `make study`, or name a fit by --from")
    summary = _json(findings).get("experiments", {}).get("language_model", {}).get("summary", {})
    if not summary.get("forecast"):
        raise ValueError(
            f"{findings}: experiments.language_model.summary.forecast: this study has no law that predicts"
        )
    if not draws.exists():
        raise ValueError(f"{draws}: no such file; run `make study`")
    table = pl.read_csv(draws, infer_schema_length=None)
    columns = [name for name in table.columns if name.startswith("theta_")]
    return Source(_predictor(str(findings), summary["forecast"], table.select(columns).to_numpy()), str(findings))


def of_budget(source: Source, given: dict[str, float], columns: dict[str, float]) -> dict[str, Any]:
    """The best use of --flops, as plain values."""
    predictor, C = source.predictor, given["flops"]
    if source.of_compute:
        if "serve" in given:
            raise ValueError(f"--serve: the law {predictor.form.name} knows no size, and so no cheaper one")
        found = _run(predictor.at(C / FLOPS_PER_PARAMETER_TOKEN, 1.0, **columns), source)
        return found | {"params": None, "tokens": None, "tokens_per_parameter": None, "flops": C}
    budget: Budget = predictor.budget(C, **columns)
    serving = None
    if "serve" in given:
        serving = _serving(
            cheapest_for_loss(predictor.law, budget.best.loss, given["serve"], **columns), given["serve"]
        )
    return _run(budget.best, source) | {
        "flops": C,
        "params_interval": budget.N_interval,
        "tokens_interval": budget.D_interval,
        "tokens_per_parameter_interval": budget.tokens_per_parameter_interval,
        "flat_params": budget.flat_N,
        "serving": serving,
    }


def of_run(source: Source, given: dict[str, float], columns: dict[str, float]) -> dict[str, Any]:
    """The loss of a run of --params and --tokens, as plain values."""
    for letter, name in (("N", "params"), ("D", "tokens")):
        if name not in given and (source.of_compute or letter not in source.absent):
            raise ValueError(f"--{name} is missing: a run has --params and --tokens")
    return _run(source.predictor.at(given.get("params", 1.0), given.get("tokens", 1.0), **columns), source)


def _run(one: Prediction, source: Source) -> dict[str, Any]:
    own = [dict(zip(("name", "text"), text.split(": ", 1), strict=True), severity="warning") for text in one.warnings]
    return {
        "law": source.predictor.form.name,
        "source": source.file,
        "flops": one.C,
        "params": None if source.absent and "N" in source.absent else one.N,
        "tokens": None if source.absent and "D" in source.absent else one.D,
        "tokens_per_parameter": None if source.absent else one.tokens_per_parameter,
        "loss": one.loss,
        "interval": one.interval,
        "prediction_interval": one.prediction_interval,
        "params_interval": None,
        "tokens_interval": None,
        "tokens_per_parameter_interval": None,
        "flat_params": None,
        "extrapolation": one.extrapolation,
        "serving": None,
        "warnings": [*own, *source.warnings],
    }


def _serving(found: Serving | None, served_tokens: float) -> dict[str, float] | None:
    if found is None:
        return None
    return {
        "served_tokens": served_tokens,
        "params": found.N,
        "tokens": found.D,
        "loss": found.loss,
        "flops_train": found.C_train,
        "flops_serve": found.C_serve,
    }


def _columns(source: Source, given: dict[str, float], recipe: str | None) -> dict[str, float]:
    needed = source.predictor.form.columns
    for option, value, name in (
        ("--unique-tokens", given.get("unique_tokens"), "unique_tokens"),
        ("--recipe", recipe, "recipe"),
    ):
        if value is not None and name not in needed:
            raise ValueError(f"{option}: the law {source.predictor.form.name} has no {name}")
    found = {}
    if "unique_tokens" in needed:
        if "unique_tokens" not in given:
            raise ValueError(f"--unique-tokens is missing: the law {source.predictor.form.name} needs it")
        found["unique_tokens"] = given["unique_tokens"]
    if "recipe" in needed:
        known = source.recipes or ("0", "1")
        if recipe is not None and recipe not in known:
            raise ValueError(f"--recipe: {recipe!r} is none of {known[0]}, {known[1]}")
        found["recipe"] = float(known.index(recipe or known[0]))
    return found


def _predictor(file: str, entry: dict[str, Any], draws: Any) -> Predictor:
    try:
        predictor = Predictor.from_dict(entry, np.asarray(draws, float))
    except KeyError as error:
        raise ValueError(
            f"{file}: the law that predicts has no {error.args[0]}: written by another version, so fit it again"
        ) from None
    except (TypeError, ValueError) as error:
        raise ValueError(f"{file}: no law that predicts: {error}") from None
    shape, num = predictor.draws.shape, len(predictor.form.parameters())
    if len(shape) != 2 or shape[1] != num or len(predictor.estimate) != num or not shape[0]:
        raise ValueError(f"{file}: draws of shape {shape} do not belong to the law {predictor.form.name}")
    return predictor


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except ValueError as error:
        raise ValueError(f"{path}: not JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path}: {type(found).__name__}, not an object")
    return found
