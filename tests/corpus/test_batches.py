"""Every training window is seen once a pass, in an order that the seed fixes; validation windows never change."""

import numpy as np
import pytest

from pipeline.corpus.batches import WindowOrder, evaluation_windows

TOKENS = np.arange(10_001, dtype=np.uint16)


def test_one_pass_covers_every_token_once_and_the_next_in_another_order():
    order = WindowOrder(TOKENS, 100, seed=0)
    first, second = order.batch(0, 10_000), order.batch(10_000, 10_000)
    assert np.array_equal(np.sort(first[:, :-1].ravel()), np.arange(10_000))
    assert np.array_equal(np.sort(second[:, :-1].ravel()), np.arange(10_000))
    assert not np.array_equal(first, second)
    assert np.array_equal(first[:, 1:], first[:, :-1] + 1)


def test_batches_do_not_depend_on_how_the_way_is_cut():
    order = WindowOrder(TOKENS, 100, seed=0)
    pieces = [order.batch(start, size) for start, size in ((0, 300), (300, 9_000), (9_300, 1_200))]
    assert np.array_equal(np.concatenate(pieces), WindowOrder(TOKENS, 100, seed=0).batch(0, 10_500))


def test_seeds_give_other_orders():
    assert not np.array_equal(WindowOrder(TOKENS, 100, 0).batch(0, 1000), WindowOrder(TOKENS, 100, 1).batch(0, 1000))


def test_validation_windows_are_fixed_and_distinct():
    windows, starts = evaluation_windows(TOKENS, 100, 50)
    again, _ = evaluation_windows(TOKENS, 100, 50)
    assert np.array_equal(windows, again)
    assert len(set(starts)) == 50
    assert np.array_equal(windows[:, 0], starts)


def test_too_few_tokens_are_refused():
    with pytest.raises(ValueError, match=r"evaluation.windows: 101 windows of 100 tokens are more than the 100"):
        evaluation_windows(TOKENS, 100, 101)
    with pytest.raises(ValueError, match=r"model.context: 20000 tokens are more than the 10001 training tokens"):
        WindowOrder(TOKENS, 20_000, 0)
