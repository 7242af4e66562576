"""Proves the fits of two measured studies, S4 and S5, against figures found by an independent program.

Those figures: L2 on ln L, N = body plus head, hold-out above the 75th percentile of N D as ln L - ln Lhat, lack of fit
at a relative sd of 0.35 %. S5's token counts are nominal, which moves its last digits by one.
"""

import numpy as np
import pytest

from pipeline.fitting.cutoffs import cutoffs, largest_accepted
from pipeline.fitting.estimators import L2
from pipeline.fitting.holdout import compute_quantile, hold_out
from pipeline.fitting.lack_of_fit import lack_of_fit
from pipeline.fitting.laws import Chinchilla, QForm
from pipeline.fitting.points import cells
from pipeline.fitting.runs import Runs
from pipeline.fitting.solver import fit
from pipeline.fitting.tree_noise import TreeNoise
from tests.fitting.measured_studies import study

SD = 0.0035


@pytest.mark.parametrize(
    ("name", "form", "rms", "p", "held", "worst", "E", "alpha", "beta", "q"),
    [
        ("S4", Chinchilla, 1.05, 1e-36, 2.84, 4.7, 0.90, 0.486, 0.367, 1.0),
        ("S4", QForm, 0.465, 1e-3, 1.82, 3.0, 0.73, 0.377, 0.301, 1.63),
        ("S5", Chinchilla, 0.828, 4e-23, 2.57, 4.4, 0.95, 0.446, 0.414, 1.0),
        ("S5", QForm, 0.389, 0.042, 1.15, 2.0, 0.81, 0.354, 0.358, 1.48),
    ],
)
def test_fit_and_hold_out(name, form, rms, p, held, worst, E, alpha, beta, q):
    N, D, L = study(name)
    found = fit(form, N, D, L, L2)
    assert found.status == "converged"
    assert 100 * found.rms == pytest.approx(rms, abs=0.0016)
    assert found.law.E == pytest.approx(E, abs=0.005)
    assert found.law.alpha == pytest.approx(alpha, abs=0.001)
    assert found.law.beta == pytest.approx(beta, abs=0.001)
    assert getattr(found.law, "q", 1.0) == pytest.approx(q, abs=0.005)
    test = lack_of_fit(found.residuals, found.jacobian, cells(N, D), TreeNoise.independent(SD, len(N)), SD)
    assert np.log10(test.p) == pytest.approx(np.log10(p), abs=0.06)
    runs = Runs.of(N, D, L)
    predicted = hold_out(form, runs, L2, compute_quantile(runs, 0.75), 100, 0)
    assert 100 * predicted.rms == pytest.approx(held, abs=0.006)
    assert 100 * predicted.max == pytest.approx(worst, abs=0.05)


def test_S4_obeys_the_additive_law_from_width_32_on():
    N, D, L = study("S4")
    accepted = largest_accepted(cutoffs(fit(Chinchilla, N, D, L, L2), N, D, SD), 0.0, 0.0)
    assert (accepted.N_min, accepted.D_min, accepted.num_points) == (45_056, 300_288, 20)
    assert accepted.lack_of_fit.p == pytest.approx(0.11, abs=0.005)
    assert 100 * accepted.rms == pytest.approx(0.365, abs=0.001)


def test_S4_from_width_32_on_under_the_q_form():
    N, D, L = study("S4")
    subsets = cutoffs(fit(QForm, N, D, L, L2), N, D, SD)
    (wide,) = [part for part in subsets if (part.N_min, part.D_min) == (45_056, 300_288)]
    assert 100 * wide.rms == pytest.approx(0.087, abs=0.001)
