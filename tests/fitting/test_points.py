"""Proves cells against numpy's unique rows, and levels spread over many values."""

import numpy as np

from pipeline.fitting.points import cells, spread_levels


def test_cells_are_the_unique_rows_in_their_order():
    random = np.random.default_rng(0)
    columns = [random.integers(0, high, 300) * 0.37 - 1.0 for high in (7, 11, 3)]
    expected = np.unique(np.stack(columns, axis=1), axis=0, return_inverse=True)[1].reshape(-1)
    np.testing.assert_array_equal(cells(*columns), expected)
    assert len(cells([], [])) == 0


def test_levels_keep_both_ends_and_spread_evenly():
    values = np.repeat(np.arange(100.0), 2)
    np.testing.assert_array_equal(spread_levels(values, 100), np.arange(100.0))
    np.testing.assert_array_equal(spread_levels(values, 4), [0.0, 33.0, 66.0, 99.0])
