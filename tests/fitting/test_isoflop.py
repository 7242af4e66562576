"""Proves isoFLOP minima and their exponent on known surfaces against the closed form, and each refusal by its reason.

The surface is L = E + ((A / N^alpha)^q + (B / D^beta)^q)^(1/q), additive (arXiv 2203.15556, eq. 2) at q = 1; its
optimum on C = 6 N D is N* = G (C / 6)^a with a = beta / (alpha + beta) for every q.
"""

from dataclasses import dataclass

import numpy as np
import pytest

from pipeline.fitting.isoflop import isoflop, isoflop_runs, parabola_minimum


@dataclass(frozen=True)
class Surface:
    E: float
    A: float
    alpha: float
    B: float
    beta: float
    q: float = 1.0

    def loss(self, N, D):
        return self.E + ((self.A / N**self.alpha) ** self.q + (self.B / D**self.beta) ** self.q) ** (1 / self.q)

    @property
    def a(self):
        return self.beta / (self.alpha + self.beta)

    def optimal_size(self, C):
        ratio = self.alpha * self.A**self.q / (self.beta * self.B**self.q)
        return ratio ** (1 / (self.q * (self.alpha + self.beta))) * (C / 6) ** self.a


ADDITIVE = Surface(E=0.95, A=0.284 * 1e5**0.446, alpha=0.446, B=0.378 * 1e6**0.414, beta=0.414)
JOINED = Surface(E=0.81, A=0.479 * 1e5**0.354, alpha=0.354, B=0.524 * 1e6**0.357, beta=0.357, q=1.48)
SURFACES = pytest.mark.parametrize("surface", [ADDITIVE, JOINED], ids=["additive", "joined"])
METHODS = pytest.mark.parametrize("method", ["akima", "parabola"])

FINE = ([int(10_000 * 1.4**k) for k in range(16)], [int(100_000 * 1.7**k) for k in range(12)])
SMALL = ([12 * 3 * width**2 + 256 * width for width in (24, 32, 48, 64, 96, 136)], [150_000 * 2**k for k in range(5)])


def grid(sizes, tokens, num_seeds=1):
    N, D = np.meshgrid(np.array(sizes, float), np.array(tokens, float))
    return np.repeat(N.ravel(), num_seeds), np.repeat(D.ravel(), num_seeds)


def budgets(surface, num_sizes=9, off_centre=1.0):
    """Nine budgets with sizes at factors of two about the optimum, times `off_centre`."""
    C = np.geomspace(1e11, 1e15, 9)
    N = off_centre * surface.optimal_size(C)[:, None] * 2.0 ** (np.arange(num_sizes) - num_sizes // 2)
    return np.repeat(C, num_sizes), N.ravel()


@SURFACES
def test_a_fine_grid_finds_the_closed_form(surface):
    N, D = grid(*FINE)
    found = isoflop(N, D, surface.loss(N, D), noise_sd=0.001, num_resamples=100, seed=0)
    assert found.exponent == pytest.approx(surface.a, abs=0.01)
    assert found.interval[0] < surface.a < found.interval[1]
    for part in found.minima:
        assert part.N_star == pytest.approx(surface.optimal_size(part.C), rel=0.05)


def test_a_small_grid_finds_the_exponent_within_its_interval():
    N, D = grid(*SMALL)
    found = isoflop(N, D, JOINED.loss(N, D), noise_sd=0.0035, num_resamples=200, seed=0)
    assert found.exponent == pytest.approx(JOINED.a, abs=0.02)
    assert found.interval[0] < JOINED.a < found.interval[1]


def test_losses_are_interpolated_inside_the_measured_tokens_only():
    N, D = grid(*SMALL)
    for part in isoflop(N, D, JOINED.loss(N, D), noise_sd=0.0035, num_resamples=10, seed=0).slices:
        tokens = part.C / (6 * part.N)
        assert (tokens >= D.min() * (1 - 1e-8)).all()
        assert (tokens <= D.max() * (1 + 1e-8)).all()
        np.testing.assert_allclose(part.loss, JOINED.loss(part.N, tokens), rtol=2e-3)


@SURFACES
@METHODS
def test_runs_at_budgets_find_the_closed_form(surface, method):
    C, N = budgets(surface)
    found = isoflop_runs(C, N, surface.loss(N, C / (6 * N)), noise_sd=0.001, num_resamples=100, seed=0, method=method)
    assert found.exponent == pytest.approx(surface.a, abs=1e-3)
    assert found.interval[0] < surface.a < found.interval[1]
    np.testing.assert_allclose(
        [part.N_star for part in found.minima],
        surface.optimal_size(np.unique(C)),
        rtol=0.05 if method == "akima" else 0.1,
    )


def test_the_order_of_runs_and_rounding_of_C_do_not_matter():
    C, N = budgets(ADDITIVE)
    L, order = ADDITIVE.loss(N, C / (6 * N)), np.random.default_rng(0).permutation(len(C))
    plain = isoflop_runs(C, N, L, noise_sd=0.0, num_resamples=2, seed=0)
    other = isoflop_runs((6 * N * (C / (6 * N)))[order], N[order], L[order], noise_sd=0.0, num_resamples=2, seed=0)
    assert len(other.slices) == 9
    assert other.exponent == pytest.approx(plain.exponent, rel=1e-9)


@pytest.mark.parametrize("num_seeds", [1, 3])
def test_the_interval_of_a_grid_covers_and_is_as_wide_as_the_estimates_scatter(num_seeds):
    N, D = grid(*FINE, num_seeds=num_seeds)
    coverage, width = _coverage(
        lambda L, seed: isoflop(N, D, L, noise_sd=0.0035, num_resamples=200, seed=seed), ADDITIVE.loss(N, D), 0.0035
    )
    assert coverage >= 0.9
    assert 0.8 < width < 1.35


@METHODS
def test_the_interval_of_runs_at_budgets_covers(method):
    C, N = budgets(ADDITIVE)
    coverage, width = _coverage(
        lambda L, seed: isoflop_runs(C, N, L, noise_sd=0.001, num_resamples=200, seed=seed, method=method),
        ADDITIVE.loss(N, C / (6 * N)),
        0.001,
    )
    assert coverage >= 0.9
    assert 0.8 < width < 1.35


def _coverage(estimate, loss, noise_sd, num_studies=120):
    """How many intervals hold the true exponent, and their mean width over that of a 95 % interval of the estimates."""
    random = np.random.default_rng(1)
    found = [estimate(loss * np.exp(noise_sd * random.standard_normal(len(loss))), seed) for seed in range(num_studies)]
    low, high = np.array([one.interval for one in found]).T
    width = (high - low).mean() / (2 * 1.96 * np.std([one.exponent for one in found], ddof=1))
    return ((low < ADDITIVE.a) & (ADDITIVE.a < high)).mean(), width


def test_noise_may_differ_between_runs():
    C, N = budgets(ADDITIVE)
    L = ADDITIVE.loss(N, C / (6 * N))
    same = isoflop_runs(C, N, L, noise_sd=np.full(len(C), 0.002), num_resamples=50, seed=0)
    assert same.interval == isoflop_runs(C, N, L, noise_sd=0.002, num_resamples=50, seed=0).interval
    more = isoflop_runs(C, N, L, noise_sd=np.where(C > 1e13, 0.01, 0.002), num_resamples=50, seed=0)
    assert more.interval[1] - more.interval[0] > 1.5 * (same.interval[1] - same.interval[0])


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


def test_akima_finds_a_minimum_between_the_first_two_sizes():
    C, N = np.full(7, 1e13), np.exp(np.arange(9.0, 16.0))
    found = isoflop_runs(C, N, np.exp(1 + 0.02 * (np.log(N) - 9.4) ** 2), noise_sd=0.0, num_resamples=1, seed=0)
    assert np.log(found.slices[0].N_star) == pytest.approx(9.4, abs=0.05)


@METHODS
@pytest.mark.parametrize(("off_centre", "edge"), [(100.0, "smallest"), (0.01, "largest")])
def test_budgets_with_their_minimum_at_an_edge_are_refused(method, off_centre, edge):
    C, N = budgets(ADDITIVE, off_centre=off_centre)
    found = isoflop_runs(C, N, ADDITIVE.loss(N, C / (6 * N)), 0.001, num_resamples=10, seed=0, method=method)
    assert (found.minima, found.exponent, found.interval) == ([], None, None)
    assert {part.reason for part in found.refused} == {f"the smallest loss is at the {edge} size that reaches it"}


@pytest.mark.parametrize(("method", "num_sizes", "needed"), [("akima", 4, 5), ("parabola", 2, 3)])
def test_budgets_of_too_few_sizes_are_refused(method, num_sizes, needed):
    C, N = budgets(ADDITIVE, num_sizes)
    found = isoflop_runs(C, N, ADDITIVE.loss(N, C / (6 * N)), 0.001, num_resamples=10, seed=0, method=method)
    assert {part.reason for part in found.refused} == {f"{num_sizes} sizes reach this budget, {needed} are needed"}


def test_sizes_that_are_all_too_large_are_refused_at_every_budget():
    N, D = grid([10**8, 2 * 10**8, 4 * 10**8, 8 * 10**8], [100_000 * 2**k for k in range(6)])
    found = isoflop(N, D, ADDITIVE.loss(N, D), noise_sd=0.001, num_resamples=10, seed=0)
    assert (found.minima, found.exponent, found.interval) == ([], None, None)
    assert {part.reason for part in found.refused} == {"the smallest loss is at the smallest size that reaches it"}


def test_too_few_sizes_or_tokens_give_no_budgets():
    for sizes, tokens in (([10_000, 40_000], (1, 2, 4, 8)), ([1, 2, 4, 8], (100_000, 200_000))):
        N, D = grid(sizes, tokens)
        assert isoflop(N, D, ADDITIVE.loss(N, D), noise_sd=0.001, num_resamples=10, seed=0).slices == []


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"method": "spline"}, r"method: 'spline' is not one of \['akima', 'parabola'\]"),
        ({"L": [1.0, np.nan, 1.0]}, "L: row 1 is nan; must be finite and positive"),
        ({"N": [1.0, 2.0]}, r"C, N, L: need one row a run, not \{'C': 3, 'N': 2, 'L': 3\}"),
        ({"noise_sd": -0.1}, "noise_sd: -0.1 is not one number or one for each of 3 runs, zero or more"),
    ],
)
def test_wrong_values_are_refused_by_name(changed, message):
    values = {"C": [1e12] * 3, "N": [1e4, 2e4, 4e4], "L": [1.0, 1.0, 1.0], "noise_sd": 0.1} | changed
    with pytest.raises(ValueError, match=message):
        isoflop_runs(**values, num_resamples=1, seed=0)
