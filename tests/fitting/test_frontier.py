"""Proves the frontier and its bands against the law's own closed form and against the resamples they come from."""

import numpy as np
import pytest

from pipeline.fitting.frontier import cheapest_for_loss, compute_grid, flat_range, frontier
from pipeline.fitting.laws import Chinchilla, QForm
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


def test_bands_are_intervals_of_the_resampled_laws(fitted):
    found, draws = fitted
    laws = [QForm(*np.exp(theta)) for theta in draws.theta]
    sizes = np.array([law.optimal_size(1e12)[0] for law in laws])
    best = frontier(found.law, draws, [1e12])
    expected = draws.interval(sizes, float(found.law.optimal_size(1e12)[0]))
    np.testing.assert_allclose([best.N_low[0], best.N_high[0]], expected, rtol=1e-10)


def test_every_size_in_the_flat_range_is_within_a_thousandth_and_its_ends_are_at_it():
    law, C = Chinchilla(1.69, 406.4, 0.34, 410.7, 0.28), 1e21
    least = law.loss(law.optimal_size(C), C / 6 / law.optimal_size(C))[0]
    low, high = flat_range(law, C)
    for end in (low, high):
        assert law.loss(end, C / 6 / end) == pytest.approx(least * 1.001, rel=1e-9)
    inside = np.geomspace(low, high, 50)[1:-1]
    assert (law.loss(inside, C / 6 / inside) < least * 1.001).all()


def test_the_cheapest_model_without_serving_is_the_compute_optimal_one():
    law, C = Chinchilla(1.69, 406.4, 0.34, 410.7, 0.28), 1e21
    N = law.optimal_size(C)[0]
    found = cheapest_for_loss(law, float(law.loss(N, C / 6 / N)), 0.0)
    assert found.N == pytest.approx(N, rel=5e-3)
    assert found.C_train == pytest.approx(C, rel=1e-5)


def test_serving_makes_the_best_model_smaller_and_longer_trained():
    """The optimum of 6 N D + 2 N S on the curve of one loss, against its neighbours on that curve."""
    law, loss, served = Chinchilla(1.69, 406.4, 0.34, 410.7, 0.28), 2.2, 1e13
    found = cheapest_for_loss(law, loss, served)
    assert law.loss(found.N, found.D) == pytest.approx(loss, rel=1e-9)
    assert found.D / found.N > 20
    for factor in (0.97, 1.03):
        N = found.N * factor
        D = (law.B / (loss - law.E - law.A / N**law.alpha)) ** (1 / law.beta)
        assert 6 * N * D + 2 * N * served > found.C_train + found.C_serve
    assert cheapest_for_loss(law, 1.6, served) is None


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
