"""The reporting checklist of a scaling-law study, filled in from what the study left behind.

What such a study owes its readers follows the survey of arXiv 2502.18969; the questions are in our own words.
"""

from __future__ import annotations

from typing import Any

import polars as pl

from pipeline.params import LanguageModel, Params
from pipeline.reporting.chapter import Item
from pipeline.reporting.checklist_fit import data_items, fit_items, law_items
from pipeline.reporting.inputs import Inputs
from pipeline.reporting.numbers import count, duration, significant, whole
from pipeline.reporting.provenance import Provenance
from pipeline.reporting.tables import Table, words
from pipeline.reporting.tuning import tuning

MOST_LISTED = 24
"""Widths that an answer names one by one."""
LOOKS = {"yes": "holds", "partly": "undetermined", "no": "violated"}


def checklist_table(params: Params, inputs: Inputs, provenance: Provenance, experiment: str) -> Table:
    """The checklist of one experiment: four groups of questions, each with the study's own answer."""
    summary = inputs.experiments[experiment]["summary"]
    tables = inputs.tables[experiment]
    runs = inputs.runs.filter(pl.col("experiment") == experiment)
    settings: LanguageModel = getattr(params, experiment)
    groups = {
        "The law": law_items(summary, tables),
        "The training runs": _training_items(settings, summary, runs, inputs),
        "The data of the fit": data_items(settings, summary, tables, inputs.manifest),
        "The fit": [*fit_items(summary), _release(provenance)],
    }
    flat = [
        {"group": group, "question": item.question, "answer": item.answer, "answered": item.answered}
        for group, items in groups.items()
        for item in items
    ]
    rows = tuple(
        (words(row["question"]), words(row["answer"]), words(row["answered"], LOOKS[row["answered"]])) for row in flat
    )
    met = sum(row["answered"] == "yes" for row in flat)
    caption = (
        f"What a study of scaling laws should say of itself (after arXiv 2502.18969), answered from its own settings "
        f"and results: {met} of {len(flat)} in full. “Partly” and “no” are what a reader should hold against it."
    )
    return Table(
        "checklist",
        "What is reported, and what is not",
        caption,
        ("question", "answer", "reported"),
        rows,
        pl.DataFrame(flat),
        row_headed=True,
        groups=tuple(row["group"] for row in flat),
    )


def _training_items(settings: LanguageModel, summary: dict[str, Any], runs: pl.DataFrame, inputs: Inputs) -> list[Item]:
    trained = runs.filter(pl.col("kind") != "trunk")
    return [
        _sizes(settings, runs, trained),
        _tokens(trained, inputs.manifest),
        _counting(summary),
        _schedule(settings),
        _hyperparameters(settings),
        _over_sizes(settings),
        _tuned(inputs),
        _corpus(inputs.manifest),
        _cost(runs, inputs.telemetry),
    ]


def _sizes(settings: LanguageModel, runs: pl.DataFrame, trained: pl.DataFrame) -> Item:
    shape = settings.model
    widths = sorted(set(runs["width"]))
    listed = ", ".join(map(str, widths)) if len(widths) <= MOST_LISTED else f"{widths[0]} to {widths[-1]}"
    done = (trained["status"] == "finished").sum()
    kind = f"models that {shape.build} makes" if shape.build else "decoder-only transformers"
    return Item(
        "How many models, of which sizes and shape?",
        f"{done} of {len(trained)} trained to an end, {len(widths)} sizes from "
        f"{count(runs['N_non_embedding'].min())} to {count(runs['N_non_embedding'].max())} non-embedding parameters: "
        f"{kind}, of {shape.depth} layers, width {listed}, heads of "
        f"{shape.head_size}, MLPs {shape.mlp_ratio} times as wide, contexts of {shape.context} tokens. Only the width "
        "grows.",
        "yes",
    )


def _tokens(trained: pl.DataFrame, manifest: dict[str, Any]) -> Item:
    low, high, there = trained["D"].min(), trained["D"].max(), manifest["train"]["tokens"]
    passes = high / there
    seen = "no token is seen twice" if passes <= 1 else "tokens are repeated"
    return Item(
        "On how many tokens, and are any repeated?",
        f"{count(low)} to {count(high)} tokens in {trained['D'].n_unique()} counts; the largest is "
        f"{significant(passes, 2)} passes over the {count(there)} training tokens, so {seen}.",
        "yes",
    )


_COUNTED = {
    "total": "all parameters, the embedding included",
    "non_embedding": "all parameters but embedding and head",
    "with_head": "every parameter but the embedding",
}


def _counting(summary: dict[str, Any]) -> Item:
    return Item(
        "How are N, D and C counted?",
        f"N: {_COUNTED[summary['convention']]}. D: training tokens from initialisation to the end of the cooldown. C: "
        "6ND in the law and its figures; the bill counts exact training FLOPs with attention and head. Other counts "
        "stand in “What N counts” and “Three approaches”.",
        "yes",
    )


def _schedule(settings: LanguageModel) -> Item:
    schedule = settings.schedule
    text = f"Warm-up over {count(schedule.warmup_tokens)} tokens, then cosine to zero at D, each run from scratch."
    if schedule.kind == "wsd":
        text = (
            f"Warm-up over {count(schedule.warmup_tokens)} tokens, constant, then a linear cooldown to zero over the "
            f"last {significant(100 * schedule.cooldown_fraction, 2)} % of D, so that the schedule ends where the run "
            "does. Cooldowns of one size and seed branch from one trunk."
        )
    return Item("Which learning-rate schedule, and does it end at D?", text, "yes")


def _hyperparameters(settings: LanguageModel) -> Item:
    one, batch = settings.optimizer, settings.batch
    name = {"muon": "Muon for matrices, AdamW for embedding and head", "adamw": "AdamW"}[one.kind]
    momentum = f"momentum {one.momentum:g}, " if one.kind == "muon" else ""
    clip = f", gradients clipped at {one.clip_norm:g}" if one.clip_norm else ", no clipping"
    return Item(
        "Which optimiser, rates and batch?",
        f"{name}: rates {one.matrix_rate:g} (matrices), {one.embedding_rate:g} (embedding), {one.head_rate:g} (head) "
        f"at width {settings.model.base_width}; {momentum}betas {one.beta1:g} and {one.beta2:g}, weight decay "
        f"{one.weight_decay:g}{clip}. Batch {batch.tokens} tokens, growing as the power {batch.growth_power:g} of the "
        f"tokens seen from {count(batch.growth_from)} on.",
        "yes",
    )


def _over_sizes(settings: LanguageModel) -> Item:
    question = "How do hyperparameters change with size?"
    if settings.model.parametrization == "mup":
        return Item(
            question,
            "By the maximal-update rules (arXiv 2203.03466): rates and initial weights are set at one width and "
            "transfer to the others. The batch depends on tokens seen, not on size.",
            "yes",
        )
    return Item(
        question,
        "They do not: every width has the same rates, which then suit some sizes better than others.",
        "partly",
    )


def _tuned(inputs: Inputs) -> Item:
    question = "Were the hyperparameters tuned for these sizes?"
    said, inside = tuning(inputs.experiments)
    if not said:
        return Item(
            question,
            "No search is part of this study: the settings above were given. A law of badly tuned sizes has other "
            "exponents, so this is for the reader to judge.",
            "no",
        )
    return Item(question, " ".join(said), "yes" if inside else "partly")


def _corpus(manifest: dict[str, Any]) -> Item:
    sources = "; ".join(
        f"{source['kind']} {', '.join(source['names']) if 'names' in source else source.get('path', '')}".strip()
        for source in manifest["sources"]
    )
    tokenizer = manifest["tokenizer"]["kind"]
    train = manifest["train"]
    return Item(
        "Which corpus and tokenizer?",
        f"{sources}: {whole(train['documents'])} training documents, {count(train['tokens'])} tokens; "
        f"{whole(manifest['duplicates'])} exact duplicates dropped. Tokenizer: {tokenizer}, vocabulary "
        f"{manifest['vocab_size']}. Digest {manifest['digest'][:16]}.",
        "yes",
    )


def _cost(runs: pl.DataFrame, telemetry: pl.DataFrame) -> Item:
    question = "What did it cost, on which hardware?"
    flops = significant(runs["flops_own"].sum(), 3, 1.0)
    timed = telemetry.join(runs.select("run_id"), on="run_id", how="semi").drop_nulls("seconds")
    if timed.is_empty():
        return Item(question, f"{flops} training FLOPs; no run was timed where this report was made.", "partly")
    devices = ", ".join(sorted(set(timed["device"].drop_nulls()))) or "device not recorded"
    seconds = duration(timed["seconds"].sum())
    return Item(
        question,
        f"{flops} training FLOPs; {seconds} over all workers for {len(timed)} of {len(runs)} runs ({devices}).",
        "yes" if len(timed) == len(runs) else "partly",
    )


def _release(provenance: Provenance) -> Item:
    clean = provenance.commit is not None and not provenance.changed
    source = "The code is that of the commit" if clean else "The code differs from its commit, or has none: see"
    where = "under Provenance, beside hashes of all inputs"
    return Item(
        "Are data and code there to check this?",
        "Every run with its loss, every setting and every figure's table lie beside this page as csv. "
        f"{source} {where}.",
        "yes" if clean else "partly",
    )
