"""Proves that runs are of one budget where rounding parts their C, and never where a grid or a sweep lies close.

Reference: budgets known beforehand, whose tokens are rounded here.
"""

import numpy as np
import pytest

from pipeline.fitting.budgets import shared_budgets

SIZES = np.round(np.geomspace(1e6, 3e8, 9))


def rounded(budgets, batch):
    """C of nine sizes on each budget (FLOPs), tokens in whole batches of so many."""
    C = np.repeat(budgets, len(SIZES))
    N = np.tile(SIZES, len(budgets))
    return 6 * N * np.maximum(np.round(C / (6 * N) / batch), 1) * batch


@pytest.mark.parametrize("batch", [1, 10_000, 500_000])
@pytest.mark.parametrize("ratio", [1.5, 2, 10])
def test_rounded_budgets_come_back_in_any_order(batch, ratio):
    budgets = 1e17 * float(ratio) ** np.arange(5)
    C, order = rounded(budgets, batch), np.random.default_rng(0).permutation(45)
    found = shared_budgets(C[order])
    assert [set(order[here]) for here in found] == [set(range(9 * k, 9 * k + 9)) for k in range(5)]


def test_equal_budgets_are_found_however_close_they_lie():
    C = np.repeat(1e18 * 1.001 ** np.arange(7), 4)
    assert [list(here) for here in shared_budgets(C)] == np.arange(28).reshape(7, 4).tolist()


@pytest.mark.parametrize("step", [0.001, 0.005, 0.015])
def test_a_sweep_of_compute_is_no_budget(step):
    assert [len(here) for here in shared_budgets(np.exp(40 + step * np.arange(300)))] == [1] * 300


def test_a_dense_grid_without_common_budgets_is_left_alone():
    N, D = np.meshgrid(np.geomspace(1e6, 3e8, 30), np.geomspace(1e8, 7e9, 31))
    assert max(len(here) for here in shared_budgets((6 * N * D).ravel())) < 3


def test_runs_at_random_make_no_budget_of_five():
    C = np.exp(np.random.default_rng(0).uniform(38, 48, 5000))
    assert max(len(here) for here in shared_budgets(C)) < 5


def test_budgets_wider_than_the_gaps_between_them_stay_apart():
    C = 1e18 * np.array([1.0, 1.01, 1.02, 1.05, 1.06, 1.07])
    assert [len(here) for here in shared_budgets(C)] == [1] * 6
