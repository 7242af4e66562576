"""The protocol every law is tested by: plan, run, judge, draw.

An experiment has four steps, so one planner, executor, store, tracker and report serve all laws:

    plan(settings, study)                  -> list[RunSpec]     what to train
    run(spec, context)                     -> Progress..., RunResult   train one piece (the only step that needs torch)
    judge(settings, runs, curves)          -> Judgement         what the runs say about the law
    draw(summary, tables, runs, curves)    -> list[Figure]      pictures, each made from a table published beside it

The language-model study is a package with one module a step; every other law is one module of `laws/` with all four.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pkgutil import iter_modules
from typing import Literal

import numpy as np
import polars as pl

from pipeline.params import LAWS, LanguageModel

LANGUAGE_MODEL = "language_model"
Verdict = Literal["holds", "violated", "not_reached", "undetermined"]
ToleranceKind = Literal["distance", "factor", "at_most"]
IntervalKind = Literal["confidence", "swept"]


@dataclass(frozen=True)
class Regime:
    """Range of one swept variable over which a law was seen to hold, and where it was seen to break.

    `low` and `high` are in `unit`; None means that no run bounds that side. `broke_at` is the nearest swept value
    outside the range at which the law failed, None if it was never seen to fail. `predicted` is where theory puts the
    end of the range, None where it says nothing.
    """

    variable: str
    unit: str
    low: float | None
    high: float | None
    broke_at: float | None = None
    predicted: float | None = None


@dataclass(frozen=True)
class Finding:
    """One law put to the test: what was predicted, what was measured, with what uncertainty, and where it holds.

    `predicted`, `measured`, `interval`, `error` (standard error of `measured`) and `tolerance` are in `unit`.
    `tolerance_kind` says what the tolerance is: a distance from what was predicted, a factor either way of it (then
    without unit), or the most that `measured` may be. `interval_kind` says what the interval is: one of 95 %, or the
    two swept values between which a boundary lies, which have no level. `verdict` is `not_reached` when the runs never
    entered the regime, `undetermined` when half of the interval is wider than the tolerance. `role`: the law inside its
    regime, the boundary of that regime, or a control: a setting outside it, where the law is expected to fail. `kind`:
    an exact identity, or an empirical regularity; their tolerances differ in nature. `figure` names the figure that
    shows it.
    """

    law: str
    statement: str
    formula: str
    source: str
    unit: str
    predicted: float | None
    measured: float | None
    interval: tuple[float, float] | None
    tolerance: float | None
    verdict: Verdict
    regime: list[Regime] = field(default_factory=list)
    error: float | None = None
    role: Literal["law", "boundary", "control"] = "law"
    kind: Literal["identity", "regularity"] = "regularity"
    figure: str | None = None
    tolerance_kind: ToleranceKind = "distance"
    interval_kind: IntervalKind = "confidence"

    def as_dict(self) -> dict:
        """The finding as plain JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class Judgement:
    """Everything one experiment concludes: findings, a summary of JSON types, and named tables."""

    findings: list[Finding]
    summary: dict
    tables: dict[str, pl.DataFrame] = field(default_factory=dict)


@dataclass(frozen=True)
class CorpusFacts:
    """What a planner may know of the corpus: its digest, the size of its vocabulary, its training tokens."""

    digest: str
    vocab_size: int
    train_tokens: int


@dataclass(frozen=True)
class StudyFacts(CorpusFacts):
    """The corpus, and the settings of the study's language model, for a law that is tested on that very model."""

    language_model: LanguageModel


@dataclass(frozen=True)
class RunContext:
    """What a run needs to know about its surroundings; nothing here changes its numbers.

    `tokens` is the folder of the prepared corpus, `tokens_uri` where a node that lacks it finds a copy;
    `origin` the URI of the checkpoint to start from, None for initialisation; `own` the URI of this run's checkpoint,
    written every `checkpoint_seconds` and at the end; `micro_batch_tokens` bounds the tokens that go through the model
    at once; `sharded` divides the model among the processes of a group.
    """

    tokens: str
    origin: str | None
    own: str
    checkpoint_seconds: float
    micro_batch_tokens: int
    tokens_uri: str | None = None
    sharded: bool = False


@dataclass(frozen=True)
class Progress:
    """A run goes on: `done` of its whole path so far, in the unit of its plan (tokens for a language model); `note`
    says why it starts again, where it does."""

    done: int
    note: str = ""


@dataclass(frozen=True)
class RunResult:
    """What one run ended with: `status` finished or diverged (with its `reason`), scalars, curves by column name, and
    arrays of detail. `resumed_from` and `done` bound the work of this attempt, in tokens. `keeps_checkpoint`: the final
    state lies at the context's `own` and belongs to the record. `measured` holds seconds and rates: telemetry, which no
    later stage hashes."""

    status: Literal["finished", "diverged"]
    reason: str | None
    scalars: dict[str, float]
    curve: dict[str, np.ndarray]
    arrays: dict[str, np.ndarray]
    resumed_from: int
    done: int
    keeps_checkpoint: bool = True
    measured: dict[str, float] = field(default_factory=dict)


def step(experiment: str, name: Literal["plan", "run", "measure", "memory", "count", "judge", "draw"]) -> Callable:
    """The function of one step of an experiment, imported only now: `plan` must not load what `run` needs."""
    if experiment == LANGUAGE_MODEL:
        return getattr(import_module(f"pipeline.experiments.{experiment}.{name}"), name)
    return getattr(import_module(f"{LAWS}.{experiment}"), name)


def reads(law: str) -> str:
    """The experiment whose runs the law is judged by: its own, unless its module says READS = another."""
    return getattr(import_module(f"{LAWS}.{law}"), "READS", law)


def described(law: str) -> tuple[str, str]:
    """(title, docstring) of a law's module: what it says of itself."""
    module = import_module(f"{LAWS}.{law}")
    return module.TITLE, module.__doc__


def known_laws() -> list[str]:
    """The names of all laws of learning mechanics there are, whether params.yaml has them or not, sorted."""
    return sorted(module.name for module in iter_modules(import_module(LAWS).__path__))
