"""Proves that runs which cannot give a law get a named refusal or warning, never a confident number.

Reference: designs and faults made on purpose, with noise of several levels.
"""

import numpy as np
import pytest

from tests.command.known_laws import TRUTH, design, loss, noise, table

NOISE = [0.0, 0.003, 0.02]


def refused(found, name):
    """Whether no number of a law came out, under this name."""
    nothing = dict.fromkeys(TRUTH)
    assert found.code == 1
    assert name in {one["name"] for one in found.json["warnings"] if one["severity"] == "refusal"}
    assert found.json["params"] == found.json["standard_errors"] == found.json["intervals"] == nothing
    assert [found.json[key] for key in ("objective", "frontier", "predictor", "draws")] == [None] * 4
    assert found.out.startswith("REFUSED")
    assert "alpha =" not in found.out
    assert f"\n{name}: " in found.out
    return True


@pytest.mark.parametrize("sd", NOISE)
@pytest.mark.parametrize("jitter", [0.0, 0.03])
def test_tokens_in_proportion_to_size(fit_of, sd, jitter):
    N = np.geomspace(1e7, 1e10, 30)
    D = 20 * N * noise(30, jitter, seed=2)
    found = fit_of(table(N, D, loss(N, D) * noise(30, sd)))
    assert refused(found, "collinear_design")
    assert "narrow_ratio" in found.warned


@pytest.mark.parametrize("sd", NOISE)
def test_as_many_runs_as_parameters(fit_of, sd):
    N, D = design(5)
    assert refused(fit_of(table(N, D, loss(N, D) * noise(5, sd))), "too_few_runs")


@pytest.mark.parametrize("sd", NOISE)
@pytest.mark.parametrize("num_runs", [6, 7])
def test_hardly_more_runs_than_parameters_have_no_interval(fit_of, sd, num_runs):
    N, D = design(num_runs)
    found = fit_of(table(N, D, loss(N, D) * noise(num_runs, sd)))
    assert found.warned & {"few_runs", "plateau"}
    assert found.json["intervals"] == dict.fromkeys(TRUTH)
    assert found.json["predictor"] is None


@pytest.mark.parametrize("sd", [0.0, 0.001, 0.02])
def test_a_plateau(fit_of, sd):
    N, D = design(40)
    assert refused(fit_of(table(N, D, 2.0 * noise(40, sd))), "plateau")


def test_a_plateau_where_the_law_has_sunk_into_the_noise(fit_of):
    N, D = design(40)
    assert refused(fit_of(table(1e8 * N, 1e8 * D, loss(1e8 * N, 1e8 * D) * noise(40, 0.01))), "plateau")


@pytest.mark.parametrize("sd", NOISE)
@pytest.mark.parametrize("sizes", [[1e9], [1e8, 1e9]])
def test_one_or_two_sizes(fit_of, sd, sizes):
    D = design(40)[1]
    N = np.resize(sizes, 40)
    assert refused(fit_of(table(N, D, loss(N, D) * noise(40, sd))), "too_few_scales")


@pytest.mark.parametrize("sd", NOISE)
def test_one_number_of_tokens(fit_of, sd):
    N = design(40)[0]
    D = np.full(40, 1e10)
    assert refused(fit_of(table(N, D, loss(N, D) * noise(40, sd))), "too_few_scales")


@pytest.mark.parametrize("sd", [0.002, 0.01])
def test_a_loss_that_size_does_not_change(fit_of, sd):
    N, D = design(40)
    found = fit_of(table(N, D, (1.7 + 400 / D**0.28) * noise(40, sd)))
    assert "undetermined" in found.warned


@pytest.mark.parametrize("sd", NOISE)
@pytest.mark.parametrize("value", ["nan", "", "0", "-2.5", "inf", "diverged"])
def test_a_loss_that_is_no_positive_number(fit_of, sd, value):
    N, D = design(20)
    rows = table(N, D, loss(N, D) * noise(20, sd))
    losses = [f"{one!r}" for one in rows["L"]]
    losses[6] = value
    found = fit_of(table(N, D, losses))
    assert (found.code, found.out, found.json) == (1, "", None)
    assert len(found.err.splitlines()) == 1
    assert "runs.csv: row 7: column 'L': " in found.err


@pytest.mark.parametrize("sd", NOISE)
def test_copies_count_once(fit_of, sd):
    N, D = design(40)
    rows = table(N, D, loss(N, D) * noise(40, sd))
    once, twice = fit_of(rows), fit_of(rows.vstack(rows[:25]))
    assert "duplicated_rows" in twice.warned
    assert "25 rows are copies" in twice.out
    assert twice.json["num_runs"] == 40
    for key in ("params", "intervals", "objective"):
        assert twice.json[key] == once.json[key], key


@pytest.mark.parametrize("sd", NOISE)
@pytest.mark.parametrize("factor", [1.3, 3.0])
def test_a_diverged_run_left_in(fit_of, sd, factor):
    N, D = design(40)
    L = loss(N, D) * noise(40, sd)
    L[11] *= factor
    found = fit_of(table(N, D, L))
    assert "outlying_runs" in found.warned
    assert f"N = {N[11]:.4g}" in found.out


@pytest.mark.parametrize("sd", NOISE)
def test_swapped_columns(fit_of, sd):
    N, D = design(40)
    found = fit_of(table(N, D, loss(N, D) * noise(40, sd)), "--N", "D", "--D", "N")
    assert "swapped_columns" in found.warned


@pytest.mark.parametrize("factor", [1 / 6, 3.0, 1e-18])
def test_compute_that_contradicts_size_and_tokens(fit_of, factor):
    N, D = design(40)
    found = fit_of(table(N, D, loss(N, D), C=6 * N * D * factor))
    assert "compute_inconsistent" in found.warned


def test_a_law_that_is_not_this_one(fit_of):
    N, D = design(60)
    broken = loss(N, D) + 0.6 / (1 + np.exp(-3 * np.log(N * D / 1e19)))
    found = fit_of(table(N, D, broken * noise(60, 0.003)))
    assert found.warned & {"gate_failed", "low_coverage", "undetermined"}


def test_good_runs_have_no_warning(fit_of):
    N, D = design(80)
    found = fit_of(table(N, D, loss(N, D) * noise(80, 0.005)))
    assert (found.code, found.warned) == (0, set())
