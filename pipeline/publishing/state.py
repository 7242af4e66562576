"""What a publication remembers of the results, as plain JSON: law, parameters, verdicts and runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from pipeline.experiments.experiment import LANGUAGE_MODEL

RUN = ("run_id", "kind", "width", "D", "seed", "status", "loss")


def state_of(
    experiments: Mapping[str, Mapping[str, Any]], runs: pl.DataFrame, law_runs: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """`experiments` is that of results/findings.json, `runs` results/runs.parquet, `law_runs` the run ids of each law
    of learning mechanics.

    `law` names the chosen law; `parameters` has value, low and high (95 %, None where there are none) of each of its
    parameters and of a, the exponent of N*; `verdicts` one entry a finding; `runs` the rows of the scaling study with N
    by the convention of the law.
    """
    summary = experiments[LANGUAGE_MODEL]["summary"]
    fitted = summary["laws"].get(summary["chosen"], {})
    parameters = {
        name: _estimate(value, (fitted.get("intervals") or {}).get(name))
        for name, value in (fitted.get("params") or {}).items()
    }
    if frontier := summary.get("frontier"):
        parameters["a"] = _estimate(frontier["a"], frontier.get("a_interval"))
    facts = ("law", "role", "verdict", "measured", "unit")
    table = runs.select(*RUN, pl.col(f"N_{summary['convention']}").alias("N")).sort("N", "D", "seed", "kind", "run_id")
    return {
        "law": {"name": fitted.get("form"), "formula": fitted.get("formula"), "source": fitted.get("source")}
        | {"convention": summary["convention"], "num_points": summary["num_points"], "rms": fitted.get("rms")},
        "parameters": parameters,
        "verdicts": [
            {"experiment": name} | {fact: one.get(fact) for fact in facts} | {"interval": _ends(one.get("interval"))}
            for name, judged in sorted(experiments.items())
            for one in judged["findings"]
        ],
        "runs": table.to_dicts(),
        "law_runs": {name: sorted(ids) for name, ids in sorted(law_runs.items())},
    }


def _estimate(value: float | None, interval: Sequence[float] | None) -> dict[str, float | None]:
    low, high = _ends(interval) or (None, None)
    return {"value": value, "low": low, "high": high}


def _ends(interval: Sequence[float] | None) -> list[float] | None:
    return None if interval is None else [float(end) for end in interval]
