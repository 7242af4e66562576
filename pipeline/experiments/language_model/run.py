"""One run of the language-model study: from a spec to a result."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from pipeline.corpus.shards import open_corpus
from pipeline.experiments.experiment import Progress, RunContext, RunResult
from pipeline.experiments.language_model.count import shape_of
from pipeline.params import Batch, Evaluation, Model, Optimizer
from pipeline.planning.run_spec import RunSpec
from pipeline.training import trainer
from pipeline.training.checkpoint import CURVE_COLUMNS
from pipeline.training.device import give_back_memory, peak_memory, prepare_device
from pipeline.training.peak import matrix_product_rate
from pipeline.training.schedule import Course


def run(spec: RunSpec, context: RunContext) -> Iterator[Progress | RunResult]:
    """Yields Progress now and then, and last the RunResult.

    Its scalars are `loss` (nats/token) and `bits_per_byte` on the validation windows; its arrays hold the `losses`
    (nats), `bytes` and `documents` of every window. Raises ValueError when the corpus is not the planned one.
    """
    corpus = open_corpus(Path(context.tokens))
    if corpus.digest != spec.data_digest:
        raise ValueError(f"{context.tokens}: digest {corpus.digest[:12]} is not the planned {spec.data_digest[:12]}")
    recipe = recipe_of(spec)
    data = _data(context.tokens, corpus.digest)
    places = trainer.Places(
        context.origin, context.own, context.checkpoint_seconds, context.micro_batch_tokens, sharded=context.sharded
    )
    device = prepare_device(context.sharded)
    peak = matrix_product_rate(device)
    give_back_memory(device)
    for event in trainer.train(recipe, data, places, device):
        if isinstance(event, trainer.Outcome):
            measured = {"training_seconds": event.seconds, "matrix_flops_per_second": peak} | peak_memory(device)
            yield _result(event, recipe, measured)
        else:
            yield Progress(event.tokens, event.note)
    give_back_memory(device)


@lru_cache(maxsize=1)
def _data(tokens: str, digest: str) -> trainer.Data:
    """The corpus in `tokens`, opened once for all runs of a worker; `digest` tells one corpus from another."""
    corpus = open_corpus(Path(tokens))
    return trainer.Data(corpus.train, corpus.validation, corpus.token_bytes, corpus.validation_documents)


def recipe_of(spec: RunSpec) -> trainer.Recipe:
    """The typed settings that `spec` carries as JSON."""
    numbers = spec.settings
    model = Model(**numbers["model"])
    return trainer.Recipe(
        shape=shape_of(model, numbers["vocab_size"], numbers["width"]),
        model=model,
        optimizer=Optimizer(**numbers["optimizer"]),
        batch=Batch(**numbers["batch"]),
        course=Course(**numbers["course"]),
        evaluation=Evaluation(**numbers["evaluation"]) if "evaluation" in numbers else None,
        seed=spec.seed,
    )


def _result(outcome: trainer.Outcome, recipe: trainer.Recipe, measured: dict[str, float]) -> RunResult:
    scalars = {}
    if len(outcome.losses) and outcome.status == "finished":
        nats = float(outcome.losses.sum(dtype="float64"))
        scalars["loss"] = nats / (len(outcome.losses) * recipe.shape.context)
        scalars["bits_per_byte"] = nats / float(outcome.bytes.sum()) / math.log(2)
    return RunResult(
        status=outcome.status,
        reason=outcome.reason,
        scalars=scalars,
        curve=dict(zip(CURVE_COLUMNS, outcome.curve.T, strict=True)),
        arrays={
            "losses": outcome.losses.astype("float32"),
            "bytes": outcome.bytes.astype("int32"),
            "documents": outcome.documents.astype("int32"),
        },
        resumed_from=outcome.resumed_from,
        done=outcome.tokens,
        measured=measured,
    )
