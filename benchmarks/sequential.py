"""The study's points without the project: a plain nanoGPT-style loop that trains each (N, D) from scratch, one by one.

`python -m benchmarks.sequential --width 64 --tokens 240000` trains that point (all token counts without --tokens, all
seeds of the study) and prints the validation loss. One process, plain autograd; nothing of pipeline.models or
pipeline.training is used, only the settings of params.yaml, the prepared corpus and its validation windows.

The loop follows nanoGPT (github.com/karpathy/nanoGPT): batches out of a memory map, at random places. The recipe is the
study's: Muon for the hidden matrices and AdamW for embedding and head, growing batches, warm-up and linear cooldown.
On a GPU the forward pass is in bfloat16, as there.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from benchmarks.plain_gpt import GPT, Muon
from benchmarks.stopwatch import num_cores
from pipeline.corpus.batches import evaluation_set
from pipeline.corpus.shards import open_corpus
from pipeline.params import LanguageModel, read_params

EVALUATION_WINDOWS = 64
"""Windows that the evaluation puts through the model at once: of 16 to 256 the fastest or within 3 % of it."""
LOG_STEPS = 100
KINDS = {"grid": "sizes_by_tokens", "optimizer": "muon", "schedule": "wsd"}
torch._dynamo.config.recompile_limit = 64


@dataclass(frozen=True)
class Way:
    """How a width is trained: threads, the precision in which Muon orthogonalises, and whether with torch.compile."""

    threads: int
    muon: Literal["float32", "bfloat16"] = "float32"
    compiled: bool = False


@dataclass(frozen=True)
class Point:
    """One model to train: its width, its tokens D and its seed."""

    width: int
    tokens: int
    seed: int


def points(settings: LanguageModel) -> list[Point]:
    """Every point of the study, the replicates too. ValueError for a recipe that has no baseline."""
    kinds = {part: getattr(settings, part).kind for part in KINDS}
    if kinds != KINDS:
        raise ValueError(f"params.yaml: language_model: the baseline is written for {KINDS}, not {kinds}")
    trees = [(width, settings.seed) for width in settings.grid.widths]
    trees += product(settings.replicates.widths, settings.replicates.seeds)
    most = settings.replicates.max_tokens or max(settings.grid.tokens)
    return [
        Point(width, tokens, seed)
        for width, seed in trees
        for tokens in settings.grid.tokens
        if seed == settings.seed or tokens <= most
    ]


def optimizers(model: GPT, settings: LanguageModel, way: Way) -> tuple[torch.optim.Optimizer, ...]:
    """Muon and AdamW with the study's rates at this width."""
    rates, shape = settings.optimizer, settings.model
    shrink = shape.base_width / model.width if shape.parametrization == "mup" else 1.0
    groups = [
        {"params": [model.wte.weight], "lr": rates.embedding_rate},
        {"params": [model.lm_head.weight], "lr": rates.head_rate * shrink},
    ]
    adam = torch.optim.AdamW(groups, betas=(rates.beta1, rates.beta2), weight_decay=rates.weight_decay, fused=True)
    return Muon(list(model.h.parameters()), rates.matrix_rate, rates.momentum, getattr(torch, way.muon)), adam


def batch_windows(settings: LanguageModel, tokens: int) -> int:
    """Windows in the batch after `tokens` tokens."""
    batch = settings.batch
    grown = batch.tokens * max(1.0, (tokens / batch.growth_from) ** batch.growth_power)
    return max(1, round(grown / settings.model.context))


def course(settings: LanguageModel, tokens: int) -> list[tuple[int, float]]:
    """(windows, learning rate over its peak) of every step of a training on `tokens` tokens."""
    fork, seen, steps = (1 - settings.schedule.cooldown_fraction) * tokens, 0, []
    while seen < tokens:
        windows = batch_windows(settings, min(seen, fork))
        rising = (seen + windows * settings.model.context) / max(settings.schedule.warmup_tokens, 1)
        falling = (tokens - seen) / (tokens - fork)
        steps.append((windows, min(1.0, rising, falling)))
        seen += windows * settings.model.context
    return steps


class Text:
    """The corpus: batches of training windows and the validation windows."""

    def __init__(self, folder: Path, settings: LanguageModel):
        corpus, context, asked = open_corpus(folder), settings.model.context, settings.evaluation
        self.train, self.vocab_size, self.context = corpus.train, corpus.vocab_size, context
        self.offsets = np.arange(context + 1)
        self.random = np.random.default_rng(settings.seed)
        chosen = evaluation_set(
            corpus.validation, corpus.validation_documents, context, asked.windows, asked.windows_per_document
        )
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.validation = torch.from_numpy(chosen.windows).to(self.device)

    def batch(self, count: int) -> tuple[Tensor, Tensor]:
        """(inputs, next tokens) of `count` windows at random places, (count, context) each."""
        starts = self.random.integers(0, len(self.train) - self.context, count)
        windows = torch.from_numpy(self.train[starts[:, None] + self.offsets].astype(np.int64)).to(self.device)
        return windows[:, :-1], windows[:, 1:]


class Training:
    """One model in training in a given way."""

    def __init__(self, settings: LanguageModel, text: Text, width: int, way: Way):
        torch.set_num_threads(way.threads)
        self.text, self.model = text, GPT(settings.model, text.vocab_size, width).to(text.device)
        self.optimizers = optimizers(self.model, settings, way)
        self.loss = torch.compile(GPT.forward, dynamic=True) if way.compiled else GPT.forward

    def arithmetic(self) -> torch.autocast:
        """bfloat16 on a GPU, fp32 on the CPU."""
        return torch.autocast(self.text.device.type, torch.bfloat16, enabled=self.text.device.type == "cuda")

    def step(self, windows: int, factor: float) -> Tensor:
        """The loss of one step on so many windows with `factor` times the peak rates, in nats/token."""
        with self.arithmetic():
            loss = self.loss(self.model, *self.text.batch(windows))
        loss.backward()
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = factor * group.setdefault("peak", group["lr"])
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return loss

    @torch.no_grad()
    def evaluate(self, windows: Tensor) -> float:
        """Mean loss over the validation `windows`, in nats/token."""
        with self.arithmetic():
            total = sum(float(self.model(x[:, :-1], x[:, 1:], "sum")) for x in windows.split(EVALUATION_WINDOWS))
        return total / (len(windows) * (windows.shape[1] - 1))


def train_point(point: Point, settings: LanguageModel, text: Text, way: Way) -> float:
    """The validation loss of `point` trained from scratch, in nats/token."""
    torch.manual_seed(point.seed)
    training = Training(settings, text, point.width, way)
    for number, (windows, factor) in enumerate(course(settings, point.tokens)):
        loss = training.step(windows, factor)
        if number % LOG_STEPS == 0 and not np.isfinite(loss.item()):
            raise FloatingPointError(f"{point}: the loss is {loss.item()} at step {number}")
    return training.evaluate(text.validation)


def main() -> int:
    """Trains the points that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sequential", description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, required=True)
    parser.add_argument("--tokens", type=int)
    parser.add_argument("--threads", type=int, default=num_cores())
    asked = parser.parse_args()
    settings = read_params().language_model
    text = Text(Path("data/tokens"), settings)
    for point in points(settings):
        if point.width == asked.width and asked.tokens in (None, point.tokens):
            began = time.perf_counter()
            loss = train_point(point, settings, text, Way(asked.threads))
            print(f"{point}: {loss:.4f} nats/token, {time.perf_counter() - began:.1f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
