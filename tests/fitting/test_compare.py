"""Proves the choice between laws and the gate on known truths and on an exactly solvable model of learning curves.

The model is power-law gradient flow (arXiv 2604.21691): L(N, t) = sum_{k<=N} k^-b e^(-2 k^-a t) + zeta(b, N + 1), whose
exponents are exact: alpha_N = b - 1, alpha_t = (b - 1) / a, alpha_C = (b - 1) / (1 + a) on C ~ N t.
"""

import numpy as np
import pytest

from pipeline.fitting.analysis import analyse
from pipeline.fitting.compare import RIVAL_GATE, bic, choose, gate, scored
from pipeline.fitting.estimators import L1, L2, Huber
from pipeline.fitting.laws import Chinchilla, QForm, Tied
from pipeline.fitting.runs import Runs
from tests.command.known_laws import gradient_flow
from tests.fitting.measured_studies import ADDITIVE_TRUTH, Q_TRUTH, study

EXPONENTS = [(1.5, 2.0), (2.0, 1.5), (1.3, 1.8)]


@pytest.mark.parametrize(("a", "b"), EXPONENTS)
@pytest.mark.parametrize("E", [0.05, 0.5])
def test_the_gate_refuses_the_additive_form_on_gradient_flow(a, b, E):
    found = analyse(Chinchilla, Runs.of(*gradient_flow(a, b, E)), Huber(), 50, 0)
    assert not found.answered
    assert found.status == "refused:gate_failed"
    assert found.predictor is None


@pytest.mark.parametrize(("a", "b"), EXPONENTS)
def test_the_q_form_wins_by_hold_out_and_finds_the_compute_exponent(a, b):
    runs = Runs.of(*gradient_flow(a, b))
    entries = [scored(form, runs, Huber(), 0, 0) for form in (Chinchilla, QForm)]
    assert choose(entries, noise=1e-3).fit.form is QForm
    law = analyse(QForm, runs, Huber(), 50, 0).fit.law
    assert law.alpha * law.beta / (law.alpha + law.beta) == pytest.approx((b - 1) / (1 + a), rel=0.03)


def test_on_an_additive_table_one_is_inside_the_interval_of_q():
    N, D, _ = study("S5")
    inside = 0
    for seed in range(20):
        L = ADDITIVE_TRUTH.loss(N, D) * np.exp(0.003 * np.random.default_rng(seed).standard_normal(len(N)))
        found = analyse(QForm, Runs.of(N, D, L), Huber(), 300, seed, rolling=False)
        low, high = found.draws.intervals()["q"]
        inside += low <= 1.0 <= high
    assert inside >= 17  # 19 of 20 expected; 16 or fewer would happen in 1.6 % of the cases


def test_an_additive_table_passes_the_gate():
    N, D, _ = study("S5")
    for seed in range(5):
        L = ADDITIVE_TRUTH.loss(N, D) * np.exp(0.003 * np.random.default_rng(seed).standard_normal(len(N)))
        assert analyse(Chinchilla, Runs.of(N, D, L), Huber(), 50, seed).answered


def test_the_law_of_fewest_parameters_is_chosen_among_equals():
    N, D, _ = study("S5")
    law = Chinchilla(E=0.95, A=50.0, alpha=0.4, B=115.0, beta=0.4)
    L = law.loss(N, D) * np.exp(0.003 * np.random.default_rng(2).standard_normal(len(N)))
    entries = [scored(form, Runs.of(N, D, L), L2, 0, 0) for form in (Chinchilla, Tied, QForm)]
    assert choose(entries, noise=0.003).fit.form is Tied
    assert choose([], noise=0.003) is None


@pytest.mark.parametrize("estimator", [L2, L1])
def test_bic_prefers_the_truth_and_charges_for_parameters(estimator):
    """Over ten studies of thirty runs, on average: a single one may favour the wrong law by chance."""
    N, D, _ = study("S5")
    gain = {"bent": 0.0, "straight": 0.0}
    for seed in range(10):
        noise = np.exp(0.002 * np.random.default_rng(seed).standard_normal(len(N)))
        for name, truth in (("bent", Q_TRUTH), ("straight", ADDITIVE_TRUTH)):
            runs = Runs.of(N, D, truth.loss(N, D) * noise)
            gain[name] += bic(runs.fitted(Chinchilla, estimator)) - bic(runs.fitted(QForm, estimator))
    assert gain["bent"] > 100
    assert gain["straight"] < 0


def test_the_gaussian_criterion_is_that_of_its_likelihood():
    N, D, L = study("S5")
    found = Runs.of(N, D, L).fitted(Chinchilla, L2)
    sd = np.sqrt(np.mean(found.residuals**2))
    log_likelihood = -0.5 * len(N) * (np.log(2 * np.pi * sd**2) + 1)
    constant = len(N) * (np.log(2 * np.pi) + 1)
    assert bic(found) + constant == pytest.approx(-2 * log_likelihood + 6 * np.log(len(N)))


@pytest.mark.parametrize(("share", "offset"), [(0.02, 0.5), (0.05, 1.5)])
def test_gross_outliers_refuse_no_robust_fit(share, offset):
    """They are named, and neither the gate nor the plateau test counts them; least squares are refused as before."""
    N, D = (part.ravel() for part in np.meshgrid(np.geomspace(3e7, 1e10, 10), np.geomspace(1e9, 3e11, 12)))
    random = np.random.default_rng(0)
    truth = Chinchilla(1.82, 482.0, 0.348, 2085.0, 0.366)
    L = truth.loss(N, D) * np.exp(0.004 * random.standard_normal(len(N)))
    out = random.choice(len(N), round(share * len(N)), replace=False)
    L[out] += offset
    found = analyse(Chinchilla, Runs.of(N, D, L), Huber(), 50, 0)
    assert found.answered, found.status
    assert found.fit.law.alpha == pytest.approx(truth.alpha, abs=0.02)
    (named,) = [one.text for one in found.cautions if one.name == "outlying_runs"]
    assert named.startswith(f"{len(out)} run")


def test_a_loss_that_is_too_low_is_named():
    N, D, _ = study("S5")
    L = ADDITIVE_TRUTH.loss(N, D) * np.exp(0.003 * np.random.default_rng(0).standard_normal(len(N)))
    L[3] *= 0.5
    (named,) = [
        one.text
        for one in analyse(Chinchilla, Runs.of(N, D, L), Huber(), 50, 0).cautions
        if one.name == "outlying_runs"
    ]
    assert "below the law" in named
    assert f"L = {L[3]:.4g}" in named


def test_a_law_with_many_outliers_is_refused():
    N, D, _ = study("S5")
    L = ADDITIVE_TRUTH.loss(N, D) * np.exp(0.003 * np.random.default_rng(0).standard_normal(len(N)))
    L[::4] *= 1.5
    assert analyse(Chinchilla, Runs.of(N, D, L), Huber(), 0, 0).status == "refused:gate_failed"


def test_a_rival_refuses_the_true_law_only_beyond_noise():
    """Three isoFLOP budgets of five sizes: in some of these studies the q-form predicts twice as well by chance."""
    truth = Chinchilla(1.82, 482.0, 0.348, 2085.0, 0.366)
    C = np.repeat([1e19, 1e20, 1e21], 5)
    N = truth.optimal_size(C) * np.tile([0.25, 0.5, 1.0, 2.0, 4.0], 3)
    D = C / 6 / N
    lucky = 0
    for seed in range(40):
        noise = 0.003 * np.random.default_rng(seed).standard_normal(len(N))
        runs = Runs.of(N, D, truth.loss(N, D) * np.exp(noise))
        own, rival = (scored(form, runs, Huber(), 0, 0) for form in (Chinchilla, QForm))
        lucky += own.held_out > RIVAL_GATE * rival.held_out
        assert gate(own.fit, own.origins, {"q_form": rival.origins}) == "", seed
    assert lucky
