"""Forecasts of runs that are not trained yet, frozen with a publication and scored once those runs exist."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from pipeline.experiments.experiment import CorpusFacts
from pipeline.experiments.language_model.ladder import ladder, measured_run
from pipeline.experiments.language_model.plan import describe
from pipeline.fitting.prediction import Predictor
from pipeline.params import LanguageModel
from pipeline.planning.run_spec import RunSpec, digest
from pipeline.publishing.publication import Publication

SCORED = {
    "publication": (pl.String, "the publication that made the forecast: its date and commit"),
    "width": (pl.Int64, "width of the run"),
    "N": (pl.Int64, "parameters, by the convention of the law"),
    "D": (pl.Int64, "training tokens"),
    "extrapolation": (pl.Float64, "6 N D over that of the largest run measured then"),
    "predicted": (pl.Float64, "loss foretold, nats/token"),
    "low": (pl.Float64, "lower end of the 95 % prediction interval of one run"),
    "high": (pl.Float64, "its upper end"),
    "run_id": (pl.String, "the run, null while there is none"),
    "measured": (pl.Float64, "its loss, nats/token"),
    "error": (pl.Float64, "measured over predicted loss, less 1"),
    "inside": (pl.Boolean, "whether the interval holds the measured loss"),
}


@dataclass(frozen=True)
class Record:
    """How forecasts have done so far: of `scored` ones, `inside` lie in their 95 % interval; `rms` of their relative
    errors (None without one), and the `open` ones."""

    scored: int
    inside: int
    rms: float | None
    open: int


def forecast_key(spec: RunSpec) -> str:
    """What stays the same when the code of training is reworked: experiment, kind, settings, seed and corpus."""
    return digest(
        {
            "experiment": spec.experiment,
            "kind": spec.kind,
            "settings": spec.settings,
            "seed": spec.seed,
            "data": spec.data_digest,
        }
    )


def forecasts(
    settings: LanguageModel, corpus: CorpusFacts, predictor: Predictor | None, convention: str, made: Iterable[RunSpec]
) -> list[dict[str, Any]]:
    """What the law says of every run on the study's ladder that is not among `made`; empty without a predictor."""
    if predictor is None:
        return []
    known, found = {forecast_key(spec) for spec in made}, []
    for point in ladder(settings, corpus):
        spec = measured_run(settings, corpus, point)
        if (key := forecast_key(spec)) in known:
            continue
        facts = describe(spec, settings.seed)
        one = predictor.at(facts[f"N_{convention}"], facts["D"])
        low, high = one.prediction_interval
        found.append(
            {"key": key, "width": facts["width"], "N": facts[f"N_{convention}"], "D": facts["D"], "seed": spec.seed}
            | {"predicted": one.loss, "low": low, "high": high, "extrapolation": one.extrapolation}
        )
    return found


def scores(publications: Sequence[Publication], planned: pl.DataFrame, runs: pl.DataFrame) -> pl.DataFrame:
    """One row a forecast, with the columns of SCORED: of the newest publication first, then by N and D.

    What later publications foretell in the same numbers is the forecast of the first. `planned` is plan/runs.parquet
    with its column spec, `runs` results/runs.parquet. A run without a finite loss scores nothing.
    """
    wanted = {one["key"] for publication in publications for one in publication.forecasts}
    losses = _losses(wanted, planned, runs) if wanted else {}
    rows = []
    for publication, own in reversed(list(zip(publications, _new(publications), strict=True))):
        for one in sorted(own, key=lambda one: (one["N"], one["D"])):
            run_id, loss = losses.get(one["key"], (None, None))
            row = {"publication": publication.name, "run_id": run_id, "measured": loss} | {
                name: one[name] for name in SCORED if name in one
            }
            if loss is not None:
                row |= {"error": loss / one["predicted"] - 1, "inside": one["low"] <= loss <= one["high"]}
            rows.append(row)
    return pl.DataFrame(rows, schema={name: kind for name, (kind, _) in SCORED.items()})


def _new(publications: Sequence[Publication]) -> Iterator[list[dict[str, Any]]]:
    """The forecasts of each publication that none before it made."""
    made: set[tuple] = set()
    for publication in publications:
        numbers = [tuple(one[name] for name in ("key", "predicted", "low", "high")) for one in publication.forecasts]
        yield [one for one, said in zip(publication.forecasts, numbers, strict=True) if said not in made]
        made |= set(numbers)


def record_of(scored: pl.DataFrame) -> Record:
    """The record of `scores`."""
    done = scored.filter(pl.col("measured").is_not_null())
    errors = done["error"].to_list()
    rms = math.sqrt(sum(error**2 for error in errors) / len(errors)) if errors else None
    return Record(len(done), int(done["inside"].sum()), rms, len(scored) - len(done))


def _losses(wanted: set[str], planned: pl.DataFrame, runs: pl.DataFrame) -> Mapping[str, tuple[str, float | None]]:
    """Key -> (run_id, loss) of the runs that forecasts were made of."""
    measured = dict(
        runs.filter((pl.col("status") == "finished") & pl.col("loss").is_finite()).select("run_id", "loss").iter_rows()
    )
    specs = planned.filter(pl.col("run_id").is_in(list(measured)))["spec"]
    keys = ((forecast_key(spec), spec.run_id) for spec in map(RunSpec.from_json, specs))
    return {key: (run_id, measured[run_id]) for key, run_id in keys if key in wanted}
