"""The gradient noise scale of the study's own language model, beside the batch that the study trains with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import polars as pl
from pydantic import Field, PositiveInt, model_validator

from pipeline.experiments.experiment import Finding, Regime, RunContext, RunResult, StudyFacts
from pipeline.experiments.law import Seeds, law_run, one_thread, result, torch
from pipeline.experiments.sweep import slope_over_seeds, worst
from pipeline.experiments.verdict import Claim, Estimate, over_seeds
from pipeline.params import Section
from pipeline.planning.run_spec import RunSpec
from pipeline.training.schedule import Course

MCCANDLISH = "McCandlish et al. 2018, arXiv 1812.06162"
TOLD = {
    True: "The batch is below the gradient noise scale at every measured point",
    False: "The batch is above the gradient noise scale at some measured point",
    None: "Whether the batch is below the gradient noise scale is not settled at every measured point",
}


class NoiseScale(Section):
    """Dials: a model of the study at `width` is measured after about `tokens` tokens of its constant-rate training, by
    `micro_batches` gradients of one window each."""

    seeds: Annotated[Seeds, Field(min_length=3)]
    width: PositiveInt
    tokens: Annotated[list[PositiveInt], Field(min_length=2, max_length=4)]
    micro_batches: Annotated[int, Field(ge=8)]

    @model_validator(mode="after")
    def _in_order(self) -> NoiseScale:
        if self.tokens != sorted(set(self.tokens)):
            raise ValueError(f"tokens: {self.tokens} must increase")
        return self


def plan_noise(dials: NoiseScale, study: StudyFacts) -> Iterable[RunSpec]:
    """One training a seed. Raises ValueError when the model or the corpus of the study does not allow the dials."""
    lm, place = study.language_model, "params.yaml: laws.batch_size.language_model"
    if dials.width % lm.model.head_size:
        raise ValueError(f"{place}.width: {dials.width} is not divisible by model.head_size {lm.model.head_size}")
    last, needed = dials.tokens[-1], dials.tokens[-1] + dials.micro_batches * lm.model.context
    if needed >= study.train_tokens:
        raise ValueError(f"{place}.tokens: {last} and what is measured there are more than the corpus holds")
    settings = {
        "vocab_size": study.vocab_size,
        "width": dials.width,
        "model": lm.model.model_dump(),
        "optimizer": lm.optimizer.model_dump(),
        "batch": lm.batch.model_dump(),
        "course": asdict(Course("constant", lm.schedule.warmup_tokens, 2 * last, 2 * last)),
        "tokens": dials.tokens,
        "micro_batches": dials.micro_batches,
    }
    for seed in dials.seeds:
        label, seconds = f"language model width {dials.width} seed {seed}", 4e-7 * dials.width * (last + needed)
        yield law_run(
            "batch_size", "language_model", settings, seed, label=label, seconds=seconds, data_digest=study.digest
        )


def run_noise(spec: RunSpec, context: RunContext) -> RunResult:
    """The curve holds, after each number of tokens: `noise_tokens`, B_simple; `own_batch`, the study's batch, both in
    tokens; and the two parts of the former, `trace` of the covariance of one token and `squared` mean gradient."""
    from pipeline.corpus.batches import WindowOrder
    from pipeline.corpus.shards import open_corpus
    from pipeline.experiments.language_model.run import recipe_of
    from pipeline.models.loss import next_token_loss
    from pipeline.models.parametrization import initialise
    from pipeline.models.transformer import Transformer
    from pipeline.training.optimizer import Optimizer
    from pipeline.training.schedule import batch_tokens

    one_thread()
    corpus, recipe = open_corpus(Path(context.tokens)), recipe_of(spec)
    if corpus.digest != spec.data_digest:
        raise ValueError(f"{context.tokens}: digest {corpus.digest[:12]} is not the planned {spec.data_digest[:12]}")
    model, window = Transformer(recipe.shape), recipe.shape.context
    initialise(model, recipe.model.parametrization, recipe.seed)
    optimizer, order = Optimizer(model, recipe.optimizer, recipe.model), WindowOrder(corpus.train, window, recipe.seed)
    tokens, rows = 0, []
    for place in spec.settings["tokens"]:
        while tokens < place:
            size = batch_tokens(recipe.batch, window, tokens)
            loss = next_token_loss(model, torch.from_numpy(order.batch(tokens, size)))
            loss.backward()
            optimizer.set_rates(recipe.course.rate_factor(tokens, size))
            optimizer.step()
            tokens += size
        if not np.isfinite(loss.item()):
            return result({}, status="diverged", reason=f"training loss {loss.item()} after {tokens} tokens")
        count = spec.settings["micro_batches"]
        windows = torch.from_numpy(order.batch(tokens, count * window))
        trace, squared = gradient_noise(
            partial(next_token_loss, model), list(model.parameters()), windows.split(1), window
        )
        rows.append((tokens, trace / squared, batch_tokens(recipe.batch, window, tokens), trace, squared))
    names = ("step", "noise_tokens", "own_batch", "trace", "squared")
    return result({}, dict(zip(names, map(np.array, zip(*rows, strict=True)), strict=True)))


def gradient_noise(loss, parameters: list, chunks, size: int) -> tuple[float, float]:
    """Unbiased (tr Sigma, |G|^2) from the gradients of `chunks` of `size` units each and that of them all: with B1 =
    size and B2 = size times their number, |G|^2 = (B2 |g2|^2 - B1 |g1|^2) / (B2 - B1) and tr Sigma = (|g1|^2 - |g2|^2)
    / (1 / B1 - 1 / B2), Sigma being the covariance of one unit's gradient."""
    total, small = 0.0, 0.0
    for chunk in chunks:
        flat = torch.cat([part.flatten() for part in torch.autograd.grad(loss(chunk), parameters)]).double()
        total, small = total + flat, small + flat.dot(flat).item() / len(chunks)
    large, whole = (total.dot(total) / len(chunks) ** 2).item(), size * len(chunks)
    return (small - large) / (1 / size - 1 / whole), (whole * large - size * small) / (whole - size)


def judge_noise(
    runs: pl.DataFrame, curves: pl.DataFrame
) -> tuple[list[Finding], dict, list[str], dict[str, pl.DataFrame]]:
    """(finding, the summary's `study`, sentences, table): whether the study's batch is below the noise scale."""
    own = runs.filter(kind="language_model").select("run_id", "seed", power="batch.growth_power")
    points = own.join(curves.select("run_id", "step", "noise_tokens", "own_batch"), on="run_id").sort("step", "seed")
    # An estimate of |G|^2 below zero gives no number: the gradient drowns in its noise, whose scale is surely large.
    points = points.filter(pl.col("noise_tokens") > 0)
    points = points.with_columns(room=(pl.col("noise_tokens") / pl.col("own_batch")).log())
    rooms = {tokens: over_seeds(rows["room"]) for (tokens,), rows in points.group_by("step", maintain_order=True)}
    claim = Claim("batch of this study below its noise scale", "B <= B_simple = tr Sigma / |G|^2", MCCANDLISH,
                  "ln (B_simple / B)", figure="batch_size_noise")  # fmt: skip
    table = _table(points, rooms)
    if not rooms:
        sentence = "No training of the language model came to a measurement."
        study = {"inside": None, "noise_scale": None, "batch": None, "sentence": sentence}
        return [claim.at_least(Estimate(None), 0.0, sentence)], study, [sentence], {"noise": table}
    regime = Regime("tokens seen", "tokens", float(min(rooms)), float(max(rooms)))
    finding = worst(claim.at_least(room, 0.0, _says(tokens, room), [regime]) for tokens, room in rooms.items())
    inside = {"violated": False, "holds": True}.get(finding.verdict)
    end = table.row(-1, named=True)
    both = f"{end['own_batch']:,.0f} tokens against {end['noise_tokens']:,.0f}"
    sentence = f"{TOLD[inside]}: {both} after {end['step']:,} tokens."
    study = {"inside": inside, "noise_scale": end["noise_tokens"], "batch": end["own_batch"], "sentence": sentence}
    grown = slope_over_seeds(points, "step", "noise_tokens")
    growth = (
        f"The noise scale grows as tokens^{grown.value:.2f} (95 % interval ± {grown.reach:.2f}), the batch of the "
        f"study as tokens^{own['power'][0]:g}. It is that of raw gradients, which the optimiser of the study reshapes."
    )
    return [finding], study, [sentence, growth], {"noise": table}


def _says(tokens: int, room: Estimate) -> str:
    if room.value is None:
        return f"After {tokens:,} tokens no noise scale was measured."
    times = f"{np.exp(room.value):.1f} times the batch"
    return f"After {tokens:,} tokens, where there is least room, the noise scale is {times}."


def _table(points: pl.DataFrame, rooms: dict[int, Estimate]) -> pl.DataFrame:
    """One row a measured place: the noise scale (geometric mean over seeds), its 95 % interval, and the batch."""
    bounds = [np.exp(room.interval) if room.interval else (None, None) for room in rooms.values()]
    return points.group_by("step", maintain_order=True).agg(
        pl.col("own_batch").first(), noise_tokens=pl.col("noise_tokens").log().mean().exp()
    ).with_columns(
        low=pl.col("own_batch") * pl.Series([low for low, _ in bounds], dtype=pl.Float64),
        high=pl.col("own_batch") * pl.Series([high for _, high in bounds], dtype=pl.Float64),
    )  # fmt: skip
