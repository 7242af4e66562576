"""The bill: what the runs cost by size, and what each point from scratch would have cost."""

from __future__ import annotations

from typing import Any

import polars as pl

from pipeline.reporting.numbers import DASH, duration, factor, significant, whole
from pipeline.reporting.tables import Table, from_frame


def bill_table(runs: pl.DataFrame, planned: pl.DataFrame, telemetry: pl.DataFrame) -> Table:
    """The bill by size: FLOPs planned, seconds and speed measured, and what each point from scratch would have cost."""
    rows = planned.join(telemetry, on="run_id", how="left").with_columns(
        (pl.col("D") - pl.col("start_tokens")).alias("tokens_own"),
        pl.when(pl.col("kind") != "trunk").then(pl.col("C")).otherwise(0.0).alias("C_point"),
        pl.when(pl.col("C").is_not_null()).then(pl.col("flops_own")).alias("flops_own"),
    )
    timed = pl.col("training_seconds").is_not_null() & (pl.col("training_seconds") > 0)
    flops = pl.col("flops_own") * pl.col("tokens") / pl.col("tokens_own")
    sums = [pl.len().alias("runs"), pl.col("seconds").count().alias("timed")]
    sums += [_sum(pl.col(column)).alias(column) for column in ("tokens_own", "flops_own", "C_point", "seconds")]
    for name, amount in {
        "training_seconds": pl.col("training_seconds"),
        "tokens_timed": pl.col("tokens"),
        "flops_timed": flops,
        "matrix_seconds": flops / pl.col("matrix_flops_per_second"),
    }.items():
        sums.append(_sum(amount.filter(timed)).alias(name))
    size = ["experiment", "width", "N_non_embedding"]
    frame = rows.group_by(size).agg(sums).sort(size)
    total = rows.select(sums).with_columns(pl.lit("total").alias("experiment"))
    frame = pl.concat([frame, total], how="diagonal_relaxed").with_columns(
        pl.col("width").cast(pl.String).fill_null("all").alias("size"),
        tokens_per_second=pl.col("tokens_timed") / pl.col("training_seconds"),
        flops_per_second=pl.col("flops_timed") / pl.col("training_seconds"),
        matrix_share=pl.col("matrix_seconds") / pl.col("training_seconds"),
    )
    several = {"experiment": ("experiment", "words")} if rows["experiment"].n_unique() > 1 else {}
    columns = several | {
        "size": ("width", "words"),
        "N_non_embedding": ("N", "count"),
        "runs": ("runs", "whole"),
        "tokens_own": ("tokens trained", "count"),
        "flops_own": ("FLOPs", "flops"),
        "C_point": ("FLOPs from scratch", "flops"),
        "timed": ("runs timed", "whole"),
        "seconds": ("seconds of all workers", "duration"),
        "tokens_per_second": ("tokens/s", "count"),
        "flops_per_second": ("FLOP/s", "flops"),
        "matrix_share": ("of matrix products", "percent"),
    }
    caption = _bill_caption(frame.row(-1, named=True), int(rows["flops_own"].count()), runs, planned)
    shown = frame.drop("flops_timed", "tokens_timed", "matrix_seconds")
    return from_frame("bill", "The bill", caption, shown, columns, row_headed=True)


def _sum(amount: pl.Expr) -> pl.Expr:
    """The sum of what is recorded, null where nothing is."""
    return pl.when(amount.count() > 0).then(amount.sum())


def _bill_caption(last: dict[str, Any], num_costed: int, runs: pl.DataFrame, planned: pl.DataFrame) -> str:
    studied = planned.filter(pl.col("experiment").is_in(runs["experiment"].unique().to_list()))
    missing = len(studied.join(runs, on="run_id", how="anti"))
    own, scratch, timed = last["flops_own"], last["C_point"], last["timed"]
    caption = (
        f"{whole(last['runs'])} runs planned, {significant(own, 3, 1.0)} FLOPs{_whose(num_costed, last['runs'])}. "
        f"Training each point from scratch would cost {significant(scratch, 3, 1.0)} FLOPs, "
        f"{factor(scratch / own) if own else DASH} as much. "
    )
    caption += f"{missing} planned runs have no result. " if missing else ""
    if not timed:
        return caption + "No run was timed where this report was made."
    seconds = duration(last["seconds"])
    caption += f"Seconds were measured for {timed} of {last['runs']} runs: {seconds} in all, added over workers"
    if timed == last["runs"] == num_costed and own:
        caption += f"; from scratch at the same speed {duration(last['seconds'] * scratch / own)}"
    caption += (
        ". Tokens/s and FLOP/s are those of one run's training, its evaluation left out; their share is of the rate of "
        "large matrix products on the same device, measured beside the runs."
    )
    return caption


def _whose(num_costed: int, num_runs: int) -> str:
    """Words that say whose FLOPs a total is, where it is not that of all runs."""
    if num_costed == num_runs:
        return ""
    return f" by the {whole(num_costed)} of the scaling study; those of other laws have no count of FLOPs or tokens"
