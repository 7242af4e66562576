"""A network that adds modulo p first learns its examples by heart, and the rule long after: it groks.

Trained by AdamW on a part of all pairs (a, b) with answer a + b mod p, it knows those pairs within tens of steps, and
unseen pairs after t steps. What carries it across is the weight decay, whose clock ticks once in 1 / (rate x decay):

    t ~ 1 / (rate x decay),    and no t without decay.

Source: Power et al. 2022, arXiv 2201.02177 (grokking); Truong et al. 2026, arXiv 2605.18845 (t ~ 1 / (rate x decay));
Nanda et al. 2023, arXiv 2301.05217 (the rule in few frequencies). The end of the regime is derived here.

Regime. Controls, known before a run or from the runs at the smallest decay. AdamW holds no weight above 1 / decay (Xie
and Li 2024, arXiv 2404.04454); the clock rules only while the solution fits under that bound, so decay x t leaves its
constant at decay = 1 / q, with q the size that 5 % of the weights exceed where the decay is smallest. And the share of
pairs trained on: of most nothing but the rule is learned, without delay; of few it comes later than a run can wait.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated

import numpy as np
import polars as pl
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from pipeline.experiments.experiment import Finding, Judgement, Regime, RunContext, RunResult, StudyFacts
from pipeline.experiments.law import Dials, Seeds, law_run, one_thread, result, torch
from pipeline.experiments.laws.grokking.clock import of_clock, with_clock
from pipeline.experiments.sweep import mean_over_seeds
from pipeline.experiments.verdict import Claim, over_seeds
from pipeline.planning.run_spec import RunSpec
from pipeline.reporting.chapter import Figure
from pipeline.reporting.numbers import significant
from pipeline.reporting.panel import panel

TITLE = "Grokking"
POWER = "Power et al. 2022, arXiv 2201.02177"
LEARNED, CHECK, LEFT = 0.99, 10, 1.3
"""Accuracy that counts as learned; steps between its measurements; decay x t over its value at the smallest decay,
where the law counts as left."""
BETAS, EPS = (0.9, 0.98), 1e-8
Share = Annotated[float, Field(gt=0, lt=1)]


class Settings(Dials):
    """Dials: `modulus` p; widths `embedding`, `hidden`; `decays`, whose two smallest give the exponent and whose second
    is that of other runs; `rates`, whose first is; the share of pairs trained on, `fraction`, one `fewer`, one `more`;
    `patience`, the steps that a run may take, in proportion more where rate x decay is smaller."""

    seeds: Seeds
    modulus: Annotated[int, Field(ge=5)]
    embedding: PositiveInt
    hidden: PositiveInt
    decays: Annotated[list[PositiveFloat], Field(min_length=3)]
    rates: Annotated[list[PositiveFloat], Field(min_length=2)]
    fraction: Share
    fewer: Share
    more: Share
    patience: Annotated[int, Field(ge=CHECK)]

    @model_validator(mode="after")
    def _ordered(self) -> Settings:
        if not self.fewer < self.fraction < self.more:
            raise ValueError(f"fewer, fraction, more: {self.fewer}, {self.fraction}, {self.more} do not ascend")
        if sorted(set(self.decays)) != self.decays or len(set(self.rates)) < len(self.rates):
            raise ValueError(f"decays, rates: {self.decays} must ascend and {self.rates} differ")
        return self


def plan(settings: Settings, study: StudyFacts) -> list[RunSpec]:
    """For each seed: the sweep over decays, other rates at the smallest decay, no decay, and two other shares."""
    fixed = settings.model_dump(include={"modulus", "embedding", "hidden", "fraction"})
    (least, decay), (rate, *rates) = settings.decays[:2], settings.rates
    points = [("decay", {"decay": one}) for one in settings.decays] + [("zero", {"decay": 0.0})]
    points += [("rate", {"decay": least, "rate": one}) for one in rates]
    points += [(kind, {"fraction": getattr(settings, kind)}) for kind in ("fewer", "more")]
    specs = []
    for kind, changed in points:
        point = fixed | {"decay": decay, "rate": rate} | changed
        clock = point["decay"] * point["rate"] or math.inf
        point["num_steps"] = round(settings.patience * max(1.0, decay * rate / clock))
        seconds = point["num_steps"] * point["fraction"] * (2e-3 if kind in ("decay", "rate") else 5e-3)
        specs += [law_run("grokking", kind, point, seed, label=f"{kind} {changed} seed {seed}", seconds=seconds)
                  for seed in settings.seeds]  # fmt: skip
    return specs


def run(spec: RunSpec, context: RunContext) -> Iterator[RunResult]:
    """Scalars: `t_train`, `t_test`, the first checked steps at which seen, unseen pairs count as learned; `test_end`,
    the last accuracy on unseen pairs; `q95`, the size that 5 % of the weights exceed. The curve holds the checks."""
    one_thread()
    setup, random = spec.settings, torch.Generator().manual_seed(spec.seed)
    p, rate, decay = (setup[name] for name in ("modulus", "rate", "decay"))
    order = torch.randperm(p * p, generator=random)
    num_train, pairs = int(setup["fraction"] * p * p), (order // p, order % p, (order // p + order % p) % p)
    weights, parts = network(p, setup["embedding"], setup["hidden"], random)
    first, second, checks = torch.zeros_like(weights), torch.zeros_like(weights), []
    for step in range(setup["num_steps"] + 1):
        if step % CHECK == 0:
            checks.append((step, *check(parts, pairs, num_train), float(weights.norm())))
            if not math.isfinite(checks[-1][-1]):
                yield result({}, status="diverged", reason=f"weights are not finite at step {step}")
                return
            if min(checks[-1][1:3]) >= LEARNED:
                break
        slope = gradient(parts, *(part[:num_train] for part in pairs))
        first.lerp_(slope, 1 - BETAS[0])
        second.mul_(BETAS[1]).addcmul_(slope, slope, value=1 - BETAS[1])
        weights.mul_(1 - rate * decay)
        size = (second / (1 - BETAS[1] ** (step + 1))).sqrt_().add_(EPS)
        weights.addcdiv_(first, size, value=-rate / (1 - BETAS[0] ** (step + 1)))
    names = ("step", "train", "test", "sparsity", "norm")
    curve = dict(zip(names, map(np.array, zip(*checks, strict=True)), strict=True))
    reached = {name: curve["step"][curve[name] >= LEARNED] for name in ("train", "test")}
    scalars = {f"t_{name}": steps[0] if len(steps) else math.nan for name, steps in reached.items()}
    scalars |= {"test_end": curve["test"][-1], "q95": float(weights.abs().quantile(0.95))}
    yield result(scalars, curve)


def network(p: int, width: int, hidden: int, random: torch.Generator) -> tuple:
    """(all weights as one vector, its parts): the embedding, the two halves of the first layer and the last layer, so
    that the logits of (a, b) are relu(x_a left + x_b right) last. It starts as torch's Embedding and Linear do."""
    shapes = [(p, width), (width, hidden), (width, hidden), (hidden, p)]
    weights = torch.empty(sum(map(math.prod, shapes)))
    parts = [part.view(shape) for part, shape in zip(weights.split([*map(math.prod, shapes)]), shapes, strict=True)]
    parts[0].normal_(generator=random)
    for part, num_inputs in zip(parts[1:], (2 * width, 2 * width, hidden), strict=True):
        part.uniform_(-(num_inputs**-0.5), num_inputs**-0.5, generator=random)
    return weights, parts


def forward(parts: list, a: torch.Tensor, b: torch.Tensor) -> tuple:
    """(activations of the hidden layer, logits) of the pairs (a, b)."""
    x, left, right, last = parts
    active = (x @ left).index_select(0, a).add_((x @ right).index_select(0, b)).relu_()
    return active, active @ last


def gradient(parts: list, a: torch.Tensor, b: torch.Tensor, answer: torch.Tensor) -> torch.Tensor:
    """The gradient of the mean cross-entropy over pairs, as one vector: written out, so that the first layer is applied
    to p embeddings and not to every pair."""
    x, left, right, last = parts
    active, logits = forward(parts, a, b)
    error = logits.softmax(1)
    error[torch.arange(len(a)), answer] -= 1
    error /= len(a)
    back = (error @ last.T).mul_(active.sign())
    by_a, by_b = (torch.zeros(len(x), back.shape[1]).index_add_(0, index, back) for index in (a, b))
    slopes = by_a @ left.T + by_b @ right.T, x.T @ by_a, x.T @ by_b, active.T @ error
    return torch.cat([slope.flatten() for slope in slopes])


def check(parts: list, pairs: tuple, num_train: int) -> tuple[float, float, float]:
    """(accuracy on the first `num_train` pairs, on the others, share of the embedding's power in five frequencies)."""
    a, b, answer = pairs
    right = (forward(parts, a, b)[1].argmax(1) == answer).float()
    power = torch.fft.rfft(parts[0], dim=0).abs().square().sum(1)[1:]
    share = power.topk(min(5, len(power))).values.sum() / power.sum()
    return float(right[:num_train].mean()), float(right[num_train:].mean()), float(share)


DELAY = Claim("delayed generalisation", "t(test) >= 10 t(train)", POWER, "ratio", figure="grokking_accuracy")


def judge(settings: Settings, runs: pl.DataFrame, curves: pl.DataFrame) -> Judgement:
    """The delay, the clock of the decay and where it stops to rule, the settings without delay or without an end."""
    runs = pl.concat([pl.DataFrame(schema={"t_train": float, "t_test": float}), runs], how="diagonal_relaxed")
    runs = with_clock(runs, settings.decays[0]).with_columns(delay=pl.col("t_test") / pl.col("t_train"))
    swept = {kind: rows for (kind,), rows in runs.group_by("kind")}
    base = swept["decay"].filter(pl.col("decay") == settings.decays[1])
    decays = mean_over_seeds(swept["decay"], "decay", "t_test", "clock", "kept")
    shown = pl.concat([base.with_columns(kind=pl.lit("grokking")), swept["zero"], swept["fewer"], swept["more"]])
    shown = shown.filter(pl.col("seed") == settings.seeds[0])["run_id", "kind"]
    accuracy = curves.join(shown, on="run_id").filter(pl.col("step") > 0).sort("kind", "step")
    more = replace(DELAY, law="delayed generalisation, more pairs", role="control")
    clock = of_clock(settings.seeds, settings.decays, swept, LEFT)
    findings = [_delayed(DELAY, base), *clock, _delayed(more, swept["more"])]
    missed = (("grokking: no decay", "zero"), ("grokking: few pairs", "fewer"))
    findings += [_missed(law, swept[kind], base) for law, kind in missed]
    summary = {"says": _grown(accuracy.filter(pl.col("kind") == "grokking")), "end": clock[-1].predicted}
    return Judgement(findings, summary, {"decays": decays, "accuracy": accuracy})


def _delayed(claim: Claim, rows: pl.DataFrame) -> Finding:
    delay, share = over_seeds(rows["delay"]), rows["fraction"][0]
    mean, least = significant(delay.value), significant(rows["delay"].min())
    says = (f"With {share:g} of the pairs {delay.num} of {len(rows)} seeds learn the rest, in {mean} times as many "
            f"steps in the mean and {least} at the least.")  # fmt: skip
    held = [Regime("share of pairs", "", share, share)] if claim.role == "law" else []
    return claim.at_least(delay, 10, says, held, not rows["delay"].has_nulls())


def _missed(law: str, rows: pl.DataFrame, base: pl.DataFrame) -> Finding:
    end, done, steps = over_seeds(rows["test_end"]), rows["t_test"].count(), rows["num_steps"].max()
    decay, share, times = rows["decay"][0], rows["fraction"][0], steps / (base["t_test"].mean() or math.nan)
    says = (f"With decay {decay:g} and {share:g} of the pairs {done} of {len(rows)} seeds learn the rest in {steps} "
            f"steps, {times:.1f} times what grokking takes; the accuracy is {significant(end.value, 2)}.")  # fmt: skip
    claim = replace(DELAY, law=law, formula="accuracy on unseen pairs", unit="", role="control")
    found = claim.at_least(end, LEARNED, says, reached=done == len(rows))
    return replace(found, interval=found.interval and tuple(np.clip(found.interval, 0.0, 1.0).tolist()))


def _grown(own: pl.DataFrame) -> list[str]:
    """What grows, and what does not, while one run groks."""
    share, late = own["sparsity"], own.filter(pl.col("step") > own["step"].max() / 10)["norm"]
    missed = own.filter(pl.col("test") < 0.5)
    return [
        f"Five frequencies hold {share[0]:.0%} of the embedding's power at first, {missed['sparsity'][-1]:.0%} when "
        f"half of the unseen pairs are missed (step {missed['step'][-1]}), {share[-1]:.0%} in the end.",
        f"In the last nine tenths of the steps the norm of the weights stays in {late.min():.3g} to {late.max():.3g}; "
        "it would fall there were t the first passage of a falling norm (arXiv 2605.18845).",
    ] if len(missed) else ["The first seed has no curve to follow."]  # fmt: skip


def draw(summary: dict, tables: dict[str, pl.DataFrame], runs: pl.DataFrame, curves: pl.DataFrame) -> list[Figure]:
    """Accuracies in time, the clock against the decay, and what grows before the accuracy does."""
    lines = {"train": "seen pairs", "test": "unseen pairs", "sparsity": "five frequencies"}
    own = tables["accuracy"].filter(pl.col("kind") == "grokking")
    return [
        panel("grokking_accuracy", "Unseen pairs are learned late", "Accuracy on them; zero: without decay.",
              tables["accuracy"], "step", "test", by="kind", x_label="step", y_label="accuracy", logs="x"),
        panel("grokking_decay", "The clock of the decay", "rate x decay x t; bars of 1.96 standard errors over seeds.",
              tables["decays"], "decay", "clock", error="clock_se", x_label="decay", y_label="rate x decay x t",
              vertical={"end, predicted": summary["end"]}),
        panel("grokking_progress", "The rule grows before it shows", "Accuracies, and the share of the power of the "
              "embedding in five frequencies.", own, "step", lines, x_label="step", y_label="share", logs="x"),
    ]  # fmt: skip
