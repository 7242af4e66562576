"""Proves isoFLOP minima on known surfaces against the closed form, and each refusal by its reason."""

import numpy as np
import pytest

from pipeline.fitting.forms import Additive
from pipeline.fitting.isoflop import isoflop, parabola_minimum
from tests.fitting.measured_studies import ADDITIVE_TRUTH, Q_TRUTH, grid, study


@pytest.mark.parametrize("law", [ADDITIVE_TRUTH, Q_TRUTH], ids=lambda law: law.name)
def test_a_fine_grid_finds_the_closed_form(law):
    N, D = grid([int(10_000 * 1.4**k) for k in range(16)], tuple(int(100_000 * 1.7**k) for k in range(12)))
    found = isoflop(N, D, law.loss(N, D), noise_sd=0.001, num_resamples=100, seed=0)
    assert found.exponent == pytest.approx(law.size_exponent, abs=0.01)
    assert found.interval[0] < law.size_exponent < found.interval[1]
    for part in found.minima:
        assert part.N_star == pytest.approx(law.optimal_size(part.C)[0], rel=0.05)


def test_the_default_grid_finds_the_exponent_within_its_interval():
    N, D, _ = study("S5")
    found = isoflop(N, D, Q_TRUTH.loss(N, D), noise_sd=0.0035, num_resamples=200, seed=0)
    assert found.exponent == pytest.approx(Q_TRUTH.size_exponent, abs=0.02)
    assert found.interval[0] < Q_TRUTH.size_exponent < found.interval[1]


def test_losses_are_interpolated_inside_the_measured_tokens_only():
    N, D, L = study("S5")
    for part in isoflop(N, D, L, noise_sd=0.0035, num_resamples=10, seed=0).slices:
        tokens = part.C / (6 * part.N)
        assert (tokens >= D.min() * (1 - 1e-8)).all()
        assert (tokens <= D.max() * (1 + 1e-8)).all()
        np.testing.assert_allclose(part.loss, Q_TRUTH.loss(part.N, tokens), rtol=0.03)


@pytest.mark.parametrize(
    ("loss", "reason"),
    [
        ([1.0, 1.1, 1.2, 1.3], "the smallest loss is at the smallest size that reaches it"),
        ([1.3, 1.2, 1.1, 1.0], "the smallest loss is at the largest size that reaches it"),
        ([1.0, 1.3, 0.99, 1.3, 1.0], "the parabola opens downwards"),
    ],
)
def test_a_bad_minimum_is_refused(loss, reason):
    vertex, why = parabola_minimum(np.arange(len(loss)), np.array(loss))
    assert np.isnan(vertex)
    assert why == reason


def test_an_exact_parabola_gives_its_vertex():
    log_N = np.array([9.0, 10.0, 11.5, 12.0, 13.0])
    assert parabola_minimum(log_N, 1.0 + 0.02 * (log_N - 11.1) ** 2) == (pytest.approx(11.1, abs=1e-10), "")


def test_sizes_that_are_all_too_large_are_refused_at_every_budget():
    N, D = grid([10**8, 2 * 10**8, 4 * 10**8, 8 * 10**8], tuple(100_000 * 2**k for k in range(6)))
    found = isoflop(N, D, ADDITIVE_TRUTH.loss(N, D), noise_sd=0.001, num_resamples=10, seed=0)
    assert (found.minima, found.exponent, found.interval) == ([], None, None)
    assert {part.reason for part in found.refused} == {"the smallest loss is at the smallest size that reaches it"}


def test_too_few_sizes_or_tokens_give_no_budgets():
    for sizes, tokens in (([10_000, 40_000], (1, 2, 4, 8)), ([1, 2, 4, 8], (100_000, 200_000))):
        N, D = grid(sizes, tokens)
        law = Additive(E=1.0, A=1.0, alpha=0.3, B=1.0, beta=0.3)
        assert isoflop(N, D, law.loss(N, D), noise_sd=0.001, num_resamples=10, seed=0).slices == []
