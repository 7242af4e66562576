"""IsoFLOP minima of a table of runs at given budgets, and their exponent, in the shape of every other fit."""

from __future__ import annotations

from typing import Any

from pipeline.external.choice import ISOFLOP
from pipeline.external.read_runs import RunTable
from pipeline.fitting.budgets import EQUAL
from pipeline.fitting.checks import Caution
from pipeline.fitting.isoflop import FEWEST_FOR_AKIMA, IsoFlop, isoflop_runs
from pipeline.fitting.points import FLOPS_PER_PARAMETER_TOKEN

SOURCE = "Hoffmann et al. 2022, arXiv 2203.15556, approach 2; minima as in Porian et al. 2024, arXiv 2406.19146"
FORMULA = "N*(C) ~ C^a, N* the size of least loss on a budget C"
METHOD = "Akima interpolation of ln L in ln N in each budget; least squares of ln N* on ln C"


def isoflop_table(table: RunTable, noise: float | None, num_resamples: int, seed: int) -> dict[str, Any]:
    """The minima per budget and the exponent a, with an interval where `noise` is known: the sd of a loss, nats/token.

    The interval resamples noise: the ln L of every run receives a Gaussian of sd noise / L. Fewer than three minima
    refuse the exponent.
    """
    runs = table.runs
    resampled = noise is not None and num_resamples > 0
    found = isoflop_runs(runs.C, runs.N, runs.L, (noise or 0.0) / runs.L, num_resamples if resampled else 0, seed)
    cautions = list(table.cautions) + _cautions(found, noise)
    answered = found.exponent is not None
    return {
        "table": table.path,
        "notes": list(table.notes),
        "columns": table.columns,
        "absent": list(table.absent),
        "span": {name: [x.min(), x.max()] for name, x in (("N", runs.N), ("D", runs.D), ("C", runs.C))},
        "num_rows": table.num_rows,
        "num_runs": len(runs),
        "law": ISOFLOP,
        "formula": FORMULA,
        "source": SOURCE,
        "estimator": METHOD,
        "params": {},
        "standard_errors": {},
        "intervals": {},
        "status": "converged" if answered else "refused:too_few_minima",
        "answered": answered,
        "reason": "; ".join(one.text for one in cautions if one.severity == "refusal"),
        "minima": [_minimum(part) for part in found.slices],
        "frontier": _frontier(found, noise, num_resamples) if answered else None,
        "recipes": None,
        "holdout": {"rolling": [], "split": None, "widening": None},
        "warnings": [caution.as_dict() for caution in cautions],
        "predictor": None,
        "draws": None,
    }


def _cautions(found: IsoFlop, noise: float | None) -> list[Caution]:
    cautions = []
    full = [len(part.N) >= FEWEST_FOR_AKIMA for part in found.slices]
    merged = [spread for spread, enough in zip(found.spreads, full, strict=True) if enough and spread > EQUAL]
    if merged:
        text = (
            f"{len(merged)} of {len(full)} budgets were put together from runs whose C differs by up to "
            f"{100 * max(merged):.2g} %, as that of rounded tokens does, and far less than budgets differ"
        )
        cautions.append(Caution("merged_budgets", text))
    if 2 * sum(full) < len(full):
        text = (
            f"{full.count(False)} of {len(full)} budgets C have fewer than {FEWEST_FOR_AKIMA} sizes: runs of several "
            "sizes on the same budgets are wanted; for other runs fit a law of N and D, such as --law chinchilla"
        )
        cautions.append(Caution("sparse_budgets", text))
    if found.exponent is None:
        largest = max(len(part.N) for part in found.slices)
        text = (
            f"{len(found.minima)} of {len(found.slices)} budgets C have a minimum, three are needed; the most sizes "
            f"that share one C are {largest}"
        )
        cautions.append(Caution("too_few_minima", text, "refusal"))
    elif found.refused:
        text = f"{len(found.refused)} of {len(found.slices)} budgets have no minimum and no part in the exponent"
        cautions.append(Caution("refused_budgets", text))
    if noise is None:
        cautions.append(Caution("no_noise", "no interval: the noise between seeds is not known; give it by --noise SD"))
    return cautions


def _minimum(part: Any) -> dict[str, Any]:
    N = part.N_star
    D = None if N is None else part.C / (FLOPS_PER_PARAMETER_TOKEN * N)
    found = {"C": part.C, "num_sizes": len(part.N), "params": N, "tokens": D, "reason": part.reason}
    return found | {"tokens_per_parameter": None if N is None else D / N}


def _frontier(found: IsoFlop, noise: float | None, num_resamples: int) -> dict[str, Any]:
    """The exponents of N* ~ C^a and D* ~ C^b, b = 1 - a; a standard error is the interval's half width over 1.96."""
    a, interval = found.exponent, found.interval if noise is not None and num_resamples else None
    low, high = interval or (None, None)
    last = max(found.minima, key=lambda part: part.C)
    told = f"interval: {num_resamples} resamples of noise of {noise:g} nats/token a run" if interval else None
    return {
        "a": a,
        "a_interval": interval,
        "a_error": (high - low) / (2 * 1.96) if interval else None,
        "b": 1 - a,
        "b_interval": (1 - high, 1 - low) if interval else None,
        "method": told,
        "params_interval": None,
        **{name: _minimum(last)[name] for name in ("C", "params", "tokens", "tokens_per_parameter")},
    }
