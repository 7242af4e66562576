"""The forecast ledger: what was foretold at each publication, how it came out, and the record so far."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
from scipy.special import betaincinv

from pipeline.publishing.forecasts import record_of, scores
from pipeline.publishing.publication import Publication
from pipeline.reporting.numbers import percent
from pipeline.reporting.tables import Table, from_frame, words

MOST_OPEN = 30
"""Forecasts up to which the ledger stands unfolded."""
_COLUMNS = {
    "publication": ("published", "words"),
    "width": ("width", "whole"),
    "N": ("N", "count"),
    "D": ("D, tokens", "count"),
    "extrapolation": ("times the largest C", "significant"),
    "predicted": ("foretold", "loss"),
    "low": ("from", "loss"),
    "high": ("to", "loss"),
    "measured": ("measured", "loss"),
    "error": ("error", "percent"),
    "outcome": ("outcome", "words"),
}


def ledger_tables(publications: Sequence[Publication], planned: pl.DataFrame, runs: pl.DataFrame) -> tuple[Table, ...]:
    """The ledger and the list of publications; empty before a first one."""
    if not publications:
        return ()
    scored = scores(publications, planned, runs)
    outcome = pl.when(pl.col("inside")).then(pl.lit("inside")).when(~pl.col("inside")).then(pl.lit("outside"))
    shown = scored.with_columns(outcome=outcome.otherwise(pl.lit("open")))
    said = (
        "Losses in nats/token that the law of a publication foretold, with the 95 % prediction interval of one run, "
        f"frozen before those runs were trained. {record_words(scored)}"
    )
    shown = shown.sort(pl.col("measured").is_null(), maintain_order=True)
    empty, folded = "none: no law that predicts", len(shown) > MOST_OPEN
    ledger = from_frame("ledger", "Forecast ledger", said, shown, _COLUMNS, empty=empty, folded=folded)
    return ledger, _published(publications)


def record_words(scored: pl.DataFrame) -> str:
    """The record so far in two sentences, with the interval that so many trials leave for the coverage."""
    record = record_of(scored)
    waiting = f"{record.open} {'is' if record.open == 1 else 'are'} open."
    if not record.scored:
        return f"None has been put to the test yet; {waiting}"
    low, high = _sure(record.inside, record.scored)
    return (
        f"Of {record.scored} that were put to the test, {record.inside} came out inside their interval "
        f"({percent(record.inside / record.scored)}, 95 % interval {percent(low)} to {percent(high)} if they "
        f"were independent), with a relative error of {percent(record.rms)} rms; {waiting}"
    )


def _sure(inside: int, scored: int) -> tuple[float, float]:
    """The 95 % interval of a share (Clopper and Pearson 1934, doi 10.1093/biomet/26.4.404)."""
    low = float(betaincinv(inside, scored - inside + 1, 0.025)) if inside else 0.0
    high = float(betaincinv(inside + 1, scored - inside, 0.975)) if inside < scored else 1.0
    return low, high


def _published(publications: Sequence[Publication]) -> Table:
    rows = [
        {
            "publication": one.name,
            "published_at": one.published_at,
            "commit": one.commit,
            "law": one.state["law"]["name"],
            "points": one.state["law"]["num_points"],
            "runs": len(one.state["runs"]) + sum(map(len, one.state["law_runs"].values())),
            "forecasts": len(one.forecasts),
        }
        for one in reversed(publications)
    ]
    shown = tuple(tuple(words(value) for value in row.values()) for row in rows)
    header = ("version", "published", "commit", "law", "points", "runs", "forecasts")
    return Table("publications", "Publications", "The newest first.", header, shown, pl.DataFrame(rows))
