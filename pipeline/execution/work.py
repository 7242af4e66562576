"""A run as a worker begins it, alone or as one of a group."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pipeline.corpus.copies import corpus_at_hand
from pipeline.experiments.experiment import Progress, RunContext, RunResult, step
from pipeline.planning.run_spec import RunSpec


def begin(spec: RunSpec, context: RunContext) -> Iterator[Progress | RunResult]:
    """What the run yields; the corpus that it reads is fetched first where this node has none."""
    if context.tokens_uri and spec.data_digest:
        context = replace(context, tokens=str(corpus_at_hand(Path(context.tokens), context.tokens_uri)))
    return step(spec.experiment, "run")(spec, context)
