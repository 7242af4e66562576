"""One run of the language model, from its start to its last token, resumable to the same bits."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from pipeline.corpus.batches import EvaluationSet, WindowOrder, evaluation_set
from pipeline.models.transformer import Shape
from pipeline.params import Batch, Evaluation, Model
from pipeline.params import Optimizer as OptimizerSettings
from pipeline.storage import Damaged, OriginLost
from pipeline.training.checkpoint import TrainingState, read_checkpoint, write_checkpoint
from pipeline.training.engine import Engine, make_engine
from pipeline.training.schedule import Course, batch_tokens
from pipeline.training.world import World

CURVE_STEPS = 20
PATIENCE_ROWS = 10
BELOW_START = 0.999
EVALUATION_BATCH = 8
"""Windows at once on a CPU, whose caches hold them; a GPU takes a whole micro-batch."""


@dataclass(frozen=True)
class Recipe:
    """Everything that changes the numbers of a run, besides the data: shape, rates, batch, way, seed."""

    shape: Shape
    model: Model
    optimizer: OptimizerSettings
    batch: Batch
    course: Course
    evaluation: Evaluation | None
    seed: int


@dataclass(frozen=True, eq=False)
class Data:
    """Token streams, one-dimensional; the text bytes each token stands for (int32, one entry a token id); and where
    each validation document starts, in tokens."""

    train: np.ndarray
    validation: np.ndarray
    token_bytes: np.ndarray
    validation_documents: np.ndarray


@dataclass(frozen=True)
class Places:
    """Where a run starts from and where it saves to (URIs): `origin` is the parent's checkpoint or None, `own` is this
    run's, saved every `checkpoint_seconds`. `micro_batch` bounds the tokens that go through the model at once; news of
    the run comes every `progress_seconds`; `sharded` divides the model among the processes of a group."""

    origin: str | None
    own: str
    checkpoint_seconds: float
    micro_batch: int
    progress_seconds: float = 1.0
    sharded: bool = False


@dataclass(frozen=True)
class Progress:
    """Tokens seen so far by a run that goes on; `note` says why it starts again, where it does."""

    tokens: int
    note: str = ""


@dataclass(frozen=True)
class Outcome:
    """What a run ended with.

    `losses` are the sums of nats over each validation window (empty for a trunk or a diverged run), `bytes` the text
    bytes of each and `documents` the number of the document it starts in; `curve` has the columns of
    checkpoint.CURVE_COLUMNS; `reason` tells why a run diverged; `resumed_from` and `tokens` bound this attempt,
    which trained for `seconds`, evaluation and checkpoints left out.
    """

    status: str
    reason: str | None
    tokens: int
    losses: np.ndarray
    bytes: np.ndarray
    documents: np.ndarray
    curve: np.ndarray
    resumed_from: int
    seconds: float


def train(recipe: Recipe, data: Data, places: Places, device: torch.device) -> Iterator[Progress | Outcome]:
    """Yields Progress now and then and last one Outcome; the final state is in `places.own` by then.

    A diverged run (loss not finite, or not below its start for PATIENCE_ROWS rows of the curve or at the end) has an
    Outcome that says so: divergence is a result, not an error. Where this process has joined a group, all of it train
    this run together, and the first alone saves. Raises OriginLost when the parent's checkpoint is missing or damaged;
    this run's own, damaged, is told in a note and ignored.
    """
    world = World.here()
    engine = make_engine(recipe.shape, recipe.model, recipe.optimizer, recipe.seed, device, world, places.sharded)
    state, note = _start(places, engine)
    if note:
        yield Progress(state.tokens, note)
    resumed_from = state.tokens
    order = WindowOrder(data.train, recipe.shape.context, recipe.seed)
    curve, recent = [tuple(row) for row in state.curve], list(state.recent)
    tokens, step, high_rows, start_loss = state.tokens, state.step, state.high_rows, state.start_loss
    reason = None
    began = saved = shown = time.monotonic()

    def save() -> None:
        tensors = engine.state()
        if world.rank == 0:
            state = TrainingState(tokens, step, tensors, _rows(curve), _values(recent), high_rows, start_loss)
            write_checkpoint(places.own, state)

    while tokens < recipe.course.end and reason is None:
        size = batch_tokens(recipe.batch, recipe.shape.context, min(tokens, recipe.course.fork))
        factor = recipe.course.rate_factor(tokens, size)
        recent.append(engine.step(order.batch(tokens, size), factor, places.micro_batch))
        if step == 0:
            start_loss = float(recent[0])
        tokens, step = tokens + size, step + 1
        # A trunk writes no row where it is cut, so that its curve does not depend on where that is.
        if step % CURVE_STEPS == 0 or (tokens == recipe.course.end and recipe.course.shape != "constant"):
            mean = float(_values(recent).mean())
            curve.append((tokens, mean, factor, size))
            high_rows = high_rows + 1 if mean > BELOW_START * start_loss else 0
            recent = []
            reason = _divergence(mean, high_rows, tokens, start_loss)
        if time.monotonic() - shown > places.progress_seconds:
            yield Progress(tokens)
            shown = time.monotonic()
        due = time.monotonic() - saved > places.checkpoint_seconds
        if world.size > 1:  # all of a group save or none, as they agree where they wait for the losses anyway
            due = step % CURVE_STEPS == 0 and world.agree(due)
        if due:
            paused = time.monotonic()
            save()
            saved = time.monotonic()
            began += saved - paused

    seconds = time.monotonic() - began
    assert reason or tokens == recipe.course.end, "a course ends on a step"
    losses = counts = documents = np.empty(0)
    if reason is None and recipe.course.shape != "constant":
        batch = EVALUATION_BATCH if device.type == "cpu" else max(1, places.micro_batch // recipe.shape.context)
        losses, counts, documents = _evaluate(engine, recipe, data, batch, world)
        loss = losses.mean(dtype="float64") / recipe.shape.context
        if not loss < BELOW_START * start_loss:
            reason = f"validation loss {loss:.4g} is not below the start {start_loss:.4g} nats/token"
    if reason is None:
        save()
    status = "finished" if reason is None else "diverged"
    yield Outcome(status, reason, tokens, losses, counts, documents, _rows(curve), resumed_from, seconds)


def _start(places: Places, engine: Engine) -> tuple[TrainingState, str]:
    """Where the run goes on or starts from, taken over by `engine`; and what was wrong with its own checkpoint."""
    state, note = None, ""
    try:
        state = read_checkpoint(places.own)
    except Damaged as error:
        note = f"{error}; the run starts again from its origin"
    if state is None and places.origin is not None:
        try:
            state = read_checkpoint(places.origin)
        except Damaged as error:
            raise OriginLost(str(error)) from None
        if state is None:
            raise OriginLost(f"{places.origin}: the checkpoint this run starts from is missing")
    if state is None:
        return TrainingState(0, 0, {}, np.empty((0, 4)), np.empty(0), 0, math.inf), note
    engine.restore(state.tensors, state.step)
    return state, note


def _evaluate(engine: Engine, recipe: Recipe, data: Data, batch: int, world: World) -> tuple[np.ndarray, ...]:
    """Nats, bytes and document of every validation window, `batch` of them at once.

    All processes go through the model equally often: one that is left without windows takes the first again.
    """
    chosen = _evaluation_set(data, recipe.shape.context, recipe.evaluation)
    sums = np.zeros(len(chosen.windows), np.float32)
    for number in range(0, len(sums), batch * world.size):
        first = number + batch * world.rank
        chunk = slice(first, first + batch) if first < len(sums) else slice(batch)
        losses = engine.losses(chosen.windows[chunk]).sum(axis=1)
        if first < len(sums):
            sums[chunk] = losses
    world.add_up([torch.from_numpy(sums)])
    return sums, data.token_bytes[chosen.windows[:, 1:]].sum(axis=1), chosen.documents


@lru_cache(maxsize=1)
def _evaluation_set(data: Data, context: int, asked: Evaluation) -> EvaluationSet:
    """The validation windows, found once for all runs of a worker."""
    return evaluation_set(
        data.validation, data.validation_documents, context, asked.windows, asked.windows_per_document
    )


def _divergence(mean: float, high_rows: int, tokens: int, start: float) -> str | None:
    if not math.isfinite(mean):
        return f"training loss is {mean} after {tokens} tokens"
    if high_rows >= PATIENCE_ROWS:
        return f"training loss {mean:.4g} does not fall below its start {start:.4g} nats/token in {tokens} tokens"
    return None


def _values(losses: list[Tensor | float]) -> np.ndarray:
    """The losses as float64: only here does the host wait for the device."""
    return np.array([float(loss) for loss in losses], dtype=np.float64)


def _rows(curve: list[tuple]) -> np.ndarray:
    return np.array(curve, dtype=np.float64).reshape(-1, 4)
