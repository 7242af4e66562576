"""Every training window is seen once a pass, in an order that the seed fixes; validation windows never change."""

import numpy as np
import pytest

from pipeline.corpus.batches import WindowOrder, evaluation_set

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


STARTS = np.array([0, 5_000, 5_050, 9_000])


def test_validation_windows_are_fixed_distinct_and_spread_over_the_documents():
    chosen, again = (evaluation_set(TOKENS, STARTS, 100, 51, most=20) for _ in range(2))
    assert np.array_equal(chosen.windows, again.windows)
    firsts = chosen.windows[:, 0]
    assert len(set(firsts)) == 51
    assert np.array_equal(chosen.windows, firsts[:, None] + np.arange(101))
    assert np.array_equal(chosen.documents, np.searchsorted(STARTS, firsts, side="right") - 1)
    assert np.bincount(chosen.documents, minlength=4).tolist() == [20, 1, 20, 10]


def test_without_a_bound_every_window_is_as_likely_as_another():
    chosen = evaluation_set(TOKENS, STARTS, 100, 100, most=100)
    assert np.array_equal(chosen.windows[:, 0], np.arange(0, 10_000, 100))


def test_too_few_tokens_are_refused():
    with pytest.raises(ValueError, match=r"evaluation.windows: 101 windows .* are more than the 100 of the validation"):
        evaluation_set(TOKENS, STARTS, 100, 101, most=100)
    with pytest.raises(ValueError, match=r"at most 5 from one document, are more than the 16 of the validation split"):
        evaluation_set(TOKENS, STARTS, 100, 50, most=5)
    with pytest.raises(ValueError, match=r"model.context: 20000 tokens are more than the 10001 training tokens"):
        WindowOrder(TOKENS, 20_000, 0)
