"""Tables that every study has: runs, exclusions, recipe, corpus, coverage, provenance."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import polars as pl
from pydantic import BaseModel

from pipeline.reporting.numbers import DASH, known, percent, whole
from pipeline.reporting.provenance import Provenance
from pipeline.reporting.tables import Table, bounds, from_frame, number, of_facts, words

NOMINAL = 0.95

_RUN_COLUMNS = {
    "run_id": ("run", "words"),
    "kind": ("kind", "words"),
    "role": ("role", "words"),
    "width": ("width", "whole"),
    "N_non_embedding": ("N, non-embedding", "count"),
    "D": ("D, tokens", "count"),
    "seed": ("seed", "whole"),
    "C": ("C, FLOPs", "flops"),
    "flops_own": ("own FLOPs", "flops"),
    "seconds": ("seconds", "duration"),
    "loss": ("loss, nats/token", "loss"),
    "bits_per_byte": ("bits/byte", "loss"),
    "loss_se_level": ("s.e. of level", "significant"),
    "loss_se_compared": ("s.e. compared", "significant"),
    "status": ("status", "words"),
}


def runs_table(runs: pl.DataFrame, telemetry: pl.DataFrame) -> Table:
    """Every planned run with its loss and what it cost."""
    frame = runs.join(telemetry.select("run_id", "seconds"), on="run_id", how="left", maintain_order="left")
    shown = frame.with_columns(pl.col("run_id").str.head(16))
    caption = (
        "C is what the run would have cost from initialisation, own FLOPs what it did cost. Trunks have no loss: their "
        "cooldowns are the points of the law. The level's standard error is common to all runs; the other is left once "
        "that common shift is removed."
    )
    table = from_frame("runs", f"Every run ({len(runs)})", caption, shown, _RUN_COLUMNS, folded=True)
    return replace(table, frame=frame)


def excluded_table(runs: pl.DataFrame, judged: pl.DataFrame | None) -> Table:
    """Every run that is not in the fit although it was planned, with the reason, whoever excluded it; of the trunks,
    which are points of no law, those that did not finish."""
    columns = ["run_id", "kind", "width", "D", "seed", "status", "reason"]
    text = [pl.col("status").cast(pl.String), pl.col("reason").cast(pl.String)]
    failed = runs.filter(pl.col("status") != "finished").select(columns).with_columns(text)
    if judged is not None and len(judged):
        absent = [pl.lit(None).alias(column) for column in columns if column not in judged.columns]
        more = judged.with_columns(absent).select(columns).with_columns(text).cast(dict(failed.schema))
        failed = pl.concat([failed, more]).unique("run_id", keep="first", maintain_order=True)
    shown = {column: (column.replace("run_id", "run"), "words") for column in columns}
    shown |= {"D": ("D, tokens", "count")}
    caption = (
        "Planned runs that did not become points of the law. Trunks never do: those that finished are not listed, "
        "those that did not are. Nothing else is left out."
    )
    return from_frame(
        "excluded", "Excluded runs", caption, failed, shown, empty="none: every planned run is in the law"
    )


def recipe_table(sections: dict[str, BaseModel]) -> Table:
    """Every setting of params.yaml, defaults included."""
    facts = [fact for name, section in sections.items() for fact in _flat(name, section.model_dump(mode="json"))]
    return of_facts("recipe", "The recipe", "Every setting of the study, defaults included.", facts, folded=True)


def _flat(prefix: str, value: Any) -> list[tuple[str, str]]:
    if isinstance(value, dict):
        return [fact for key, inner in value.items() for fact in _flat(f"{prefix}.{key}", inner)]
    if isinstance(value, list):
        if any(isinstance(inner, dict) for inner in value):
            return [fact for index, inner in enumerate(value) for fact in _flat(f"{prefix}[{index}]", inner)]
        return [(prefix, ", ".join(map(str, value)) or DASH)]
    return [(prefix, DASH if value is None else str(value))]


_DROPPED = {"duplicate documents": "duplicates", "empty documents": "empty", "invalid documents": "invalid"}


def corpus_table(manifest: dict[str, Any]) -> Table:
    """What text was trained on, how it was split, and its digest."""
    facts: list[tuple[str, str]] = []
    for split in ("train", "validation"):
        for unit in ("tokens", "documents", "bytes"):
            facts.append((f"{split} {unit}", whole(manifest[split][unit])))
    facts += [(name, whole(manifest.get(key))) for name, key in _DROPPED.items()]
    for key in ("vocab_size", "dtype", "tokenizer", "split", "sources", "digest"):
        facts += [(name.replace("_", " "), text) for name, text in _flat(key, manifest.get(key))]
    return of_facts("corpus", "The corpus", "Exact duplicates, empty and invalid documents are dropped.", facts)


def coverage_table(coverage: pl.DataFrame) -> Table:
    """How often intervals of simulated studies held the truth, a row a quantity, a group a law and estimator."""
    rows, groups = [], []
    for row in coverage.sort("law", "estimator", "num_runs", "noise_sd", maintain_order=True).iter_rows(named=True):
        low, high = row["low"], row["high"]
        told = known(low) and known(high)
        against = "too narrow" if told and high < NOMINAL else "too wide" if told and low > NOMINAL else "as nominal"
        rows.append(
            (
                words(row["quantity"]),
                number(row["num_runs"], whole),
                number(row["noise_sd"], percent),
                number(row["coverage"], lambda share: percent(share, 3)),
                bounds(low, high, lambda share: percent(share, 3)),
                words(against if told else None),
                number(row["num_studies"], whole),
            )
        )
        groups.append(f"{row['law']}, {row['estimator']}")
    caption = (
        "Simulated studies from known laws, nominal 95 %: how often the interval of each quantity held the truth, with "
        "the 95 % interval of that share. “As nominal” says that 95 % lies in it; few studies rule out little."
    )
    if rows:
        counts = [sum(row[5].text == against for row in rows) for against in ("as nominal", "too narrow", "too wide")]
        caption += " Of {} rows {} are as nominal, {} too narrow and {} too wide.".format(len(rows), *counts)
    header = ("quantity", "runs", "noise of ln L", "coverage", "its 95 %", "against nominal", "studies")
    return Table(
        "coverage",
        "Coverage of the intervals",
        caption,
        header,
        tuple(rows),
        coverage,
        empty="not run: there is no benchmarks/results/coverage.csv",
        folded=len(rows) > 40,
        row_headed=True,
        groups=tuple(groups),
    )


def provenance_tables(provenance: Provenance) -> tuple[Table, Table, Table]:
    """Commit and state of the tree; DVC hashes; versions of libraries."""
    changed = ", ".join(provenance.changed) or "none"
    commit = provenance.commit or "not a git checkout"
    facts = [("git commit", commit), ("committed at", provenance.committed_at)]
    facts.append(("source files changed since", changed if provenance.commit else None))
    source = of_facts("source", "Source", "The state of the source tree when this report was made.", facts)
    frame = pl.DataFrame(
        [(h.stage, h.role, h.path, h.md5, h.size) for h in provenance.hashes],
        schema={"stage": pl.String, "role": pl.String, "path": pl.String, "md5": pl.String, "bytes": pl.Int64},
        orient="row",
    )
    rows = tuple(
        (
            words(h.stage),
            words({"dep": "read", "out": "wrote"}[h.role]),
            words(h.path),
            words(h.md5),
            number(h.size, whole),
        )
        for h in provenance.hashes
    )
    caption = "What each stage before the report read and wrote, by DVC's hash."
    hashes = Table(
        "dvc_hashes",
        "DVC hashes",
        caption,
        ("stage", "did", "path", "md5", "bytes"),
        rows,
        frame,
        folded=True,
        empty="none: this study was not run by DVC",
    )
    versions = of_facts(
        "versions", "Versions", "Installed where this report was made.", list(provenance.versions.items()), folded=True
    )
    return source, hashes, versions
