"""Proves the frontier and its bands against the law's own closed form and against the resamples they come from."""

import numpy as np
import pytest

from pipeline.fitting.forms import QForm
from pipeline.fitting.frontier import compute_grid, frontier
from pipeline.fitting.points import cells
from pipeline.fitting.solver import fit
from pipeline.fitting.uncertainty import bootstrap
from tests.fitting.measured_studies import study


@pytest.fixture(scope="module")
def fitted():
    N, D, L = study("S5")
    found = fit(QForm, N, D, L)
    return found, bootstrap(found, cells(N, D), 200, seed=0)


def test_compute_is_spent_exactly_and_bands_hold_the_law(fitted):
    found, draws = fitted
    best = frontier(found.law, draws, compute_grid([1e10, 1e13]))
    np.testing.assert_allclose(6 * best.N_star * best.D_star, best.C, rtol=1e-12)
    np.testing.assert_allclose(best.loss, found.law.loss(best.N_star, best.D_star), rtol=1e-14)
    for low, value, high in (
        (best.N_low, best.N_star, best.N_high),
        (best.D_low, best.D_star, best.D_high),
        (best.loss_low, best.loss, best.loss_high),
        (best.tokens_per_parameter_interval[0], best.tokens_per_parameter, best.tokens_per_parameter_interval[1]),
    ):
        assert (low <= value).all()
        assert (value <= high).all()


def test_no_neighbouring_size_is_better(fitted):
    found, draws = fitted
    best = frontier(found.law, draws, [1e12])
    for factor in (0.9, 1.1):
        assert found.law.loss(best.N_star * factor, best.D_star / factor)[0] > best.loss[0]


def test_bands_are_percentiles_of_the_resampled_laws(fitted):
    found, draws = fitted
    laws = [QForm(*np.exp(theta)) for theta in draws.theta]
    sizes = np.percentile([law.optimal_size(1e12)[0] for law in laws], [2.5, 97.5])
    best = frontier(found.law, draws, [1e12])
    np.testing.assert_allclose([best.N_low[0], best.N_high[0]], sizes, rtol=1e-10)


def test_the_grid_covers_the_measured_range_and_ten_times_more():
    C = compute_grid([3e9, 2e10, 5e12])
    assert C[0] == pytest.approx(3e9)
    assert C[-1] == pytest.approx(5e13)
    assert np.isclose(C, 5e12).sum() == 1
    assert (np.diff(C) > 0).all()


def test_a_single_budget_has_a_grid_too():
    assert compute_grid([1e12, 1e12])[0] == pytest.approx(1e12)


def test_impossible_compute_is_refused(fitted):
    found, draws = fitted
    with pytest.raises(ValueError, match=r"C: 0\.0 is not a positive number of FLOPs"):
        frontier(found.law, draws, [1e12, 0.0])
