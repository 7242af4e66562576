"""The parabola of a sweep: against true valleys and against numpy, its intervals against how often they cover, and the
noise of differences within seeds against the noise that was put in."""

import numpy as np
import pytest

from pipeline.experiments.laws.recipe_optimum.parabola import DEPTH, Sweep, noise

OCTAVES = np.log(2.0) * np.arange(-2, 3)


def valley(x, best, half):
    """ln loss of a true parabola with its lowest point at `best`."""
    return 0.8 + half * (x - best) ** 2


@pytest.mark.parametrize(("best", "half"), [(0.0, 0.02), (0.3, 0.01), (-0.9, 0.015)])
def test_the_optimum_and_the_regret_of_a_true_valley_are_recovered(best, half):
    level = np.array([[0.0], [0.02]])
    sweep = Sweep(OCTAVES, valley(OCTAVES, best, half) + level, 1e-8, 4)
    assert sweep.bracketed
    assert sweep.optimum == pytest.approx(best)
    assert sweep.regret(0.0) == pytest.approx(np.expm1(half * best**2))
    low, high = sweep.regret_interval(0.0)
    assert low <= sweep.regret(0.0) <= high


def test_the_parabola_is_numpys_through_the_points_that_lie_near_the_lowest():
    losses = np.array([[0.40, 0.06, 0.0, 0.02, 0.07], [0.44, 0.05, 0.01, 0.01, 0.06]])
    sweep = Sweep(OCTAVES, losses, 1e-6, 4)
    assert sweep.fitted.tolist() == [False, True, True, True, True]
    assert losses.mean(axis=0)[0] > DEPTH
    half, slope, level = np.polyfit(OCTAVES[1:], losses.mean(axis=0)[1:], 2)
    np.testing.assert_allclose(sweep.coefficients, [level, slope, half])
    assert sweep.optimum == pytest.approx(-slope / (2 * half))


@pytest.mark.parametrize("best", [0.0, 0.4, -0.7])
def test_the_intervals_cover_the_truth(best):
    """Noise of 0.5 % in every loss, of unknown size to the estimator, levels of seeds much larger than that."""
    random, half, num, covered = np.random.default_rng(3), 0.02, 1000, np.zeros(2)
    for _ in range(num):
        logs = valley(OCTAVES, best, half) + random.normal(size=(2, 1)) * 0.02 + random.normal(size=(2, 5)) * 0.005
        others = random.normal(size=(2, 12)) * 0.005 + random.normal(size=(2, 1))
        sweep = Sweep(OCTAVES, logs, *noise(others))
        low, high = sweep.regret_interval(0.0)
        reach = sweep.quantile * sweep.optimum_error
        covered += low <= np.expm1(half * best**2) <= high, abs(sweep.optimum - best) <= reach
    assert (covered / num >= 0.94).all()


@pytest.mark.parametrize("num_points", [3, 5])
def test_where_every_value_is_as_good_the_interval_begins_at_zero(num_points):
    """The lower end is the best of many moves: by the t of one it lay above zero in one case of ten."""
    random, num, above = np.random.default_rng(5), 2000, 0
    x = OCTAVES[2 - num_points // 2 :][:num_points]
    for _ in range(num):
        others = random.normal(size=(2, 15)) * 0.005
        sweep = Sweep(x, 0.8 + random.normal(size=(2, num_points)) * 0.005, *noise(others))
        above += sweep.regret_interval(0.0)[0] > 0
    assert above / num <= 0.05


def test_the_noise_is_that_of_differences_within_seeds():
    random = np.random.default_rng(0)
    settings, levels = random.normal(size=(1, 4000)), np.array([[0.0], [5.0], [-3.0]])
    variance, freedom = noise(settings + levels + 0.01 * random.normal(size=(3, 4000)))
    assert freedom == 2 * 3999
    assert variance == pytest.approx(1e-4, rel=0.05)
    missing = np.array([[1.0, np.nan, 2.0, 4.0], [1.1, 3.0, 2.3, 4.2]])
    assert noise(missing) == noise(missing[:, [0, 2, 3]])
