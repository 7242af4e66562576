"""Windows of tokens in a fixed order: where every training batch and the validation set come from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

EVALUATION_SEED = 20_240_527


class WindowOrder:
    """Training windows in one random order, fixed by the seed and shared by all model sizes.

    A window is `context` + 1 tokens (inputs and their next tokens); windows start every `context` tokens. Each pass
    over the corpus uses a permutation of its own, so no window repeats within a pass.
    """

    def __init__(self, tokens: np.ndarray, context: int, seed: int):
        self.num_windows = (len(tokens) - 1) // context
        if self.num_windows < 1:
            raise ValueError(f"model.context: {context} tokens are more than the {len(tokens)} training tokens")
        self._windows = _windows(tokens, context)
        self._context = context
        self._seed = seed
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0, np.uint32))

    def batch(self, start_tokens: int, num_tokens: int) -> np.ndarray:
        """The int64 windows (num_tokens / context, context + 1) that follow after `start_tokens` tokens of training."""
        first, count = start_tokens // self._context, num_tokens // self._context
        places = np.arange(first, first + count)
        passes = places // self.num_windows
        rows = [self._permutation(epoch)[places[passes == epoch] % self.num_windows] for epoch in np.unique(passes)]
        return self._windows[np.concatenate(rows)].astype(np.int64)

    def _permutation(self, epoch: int) -> np.ndarray:
        if self._order[0] != epoch:
            generator = np.random.Generator(np.random.PCG64([self._seed, epoch]))
            self._order = (epoch, generator.permutation(self.num_windows).astype(np.uint32))
        return self._order[1]


@dataclass(frozen=True)
class EvaluationSet:
    """Fixed validation windows (count, context + 1), int64, and the number of the document in which each starts."""

    windows: np.ndarray
    documents: np.ndarray


def evaluation_set(tokens: np.ndarray, starts: np.ndarray, context: int, count: int, most: int) -> EvaluationSet:
    """`count` validation windows, drawn at random with at most `most` from one document, the same for every run.

    `starts` holds where each document starts, in tokens. Windows of one document are alike, so a few long documents
    would otherwise make up most of the sampling error. Raises ValueError when there are too few windows.
    """
    places = np.random.Generator(np.random.PCG64(EVALUATION_SEED)).permutation((len(tokens) - 1) // context) * context
    owners = np.searchsorted(starts, places, side="right") - 1
    order = np.argsort(owners, kind="stable")
    first = np.concatenate([[True], np.diff(owners[order]) > 0])
    ranks = np.empty(len(places), np.int64)
    ranks[order] = np.arange(len(places)) - np.flatnonzero(first)[np.cumsum(first) - 1]
    chosen = np.sort(places[ranks < most][:count])
    if len(chosen) < count:
        raise ValueError(
            f"evaluation.windows: {count} windows of {context} tokens, at most {most} from one document, are more than"
            f" the {len(chosen)} of the validation split ({len(tokens)} tokens in {len(starts)} documents)"
        )
    documents = np.searchsorted(starts, chosen, side="right") - 1
    return EvaluationSet(_windows(tokens, context)[chosen // context].astype(np.int64), documents)


def _windows(tokens: np.ndarray, context: int) -> np.ndarray:
    return np.lib.stride_tricks.sliding_window_view(tokens, context + 1)[::context]
