"""Edge of stability: the sharpness against the dense Hessian and finite differences; every verdict that can occur."""

import numpy as np
import polars as pl
import pytest
import torch

from pipeline.experiments.laws.edge_of_stability import judge, problem, sharpness, slope
from pipeline.experiments.laws.edge_of_stability.findings import settles
from tests.experiments.laws.bench import dials, read_laws, try_law

QUICK = {"seeds": [0, 1, 2], "start_seeds": [0, 1, 2], "time": 150.0, "small_rate": 0.07, "rates": [0.08, 0.12, 0.2],
         "multiples": [0.9, 1.0, 1.2, 1.8, 2.4], "heavy_rates": [0.12, 0.16]}  # fmt: skip
EASY = {"seeds": [0, 1], "start_seeds": [0, 1], "num_points": 48, "time": 32.0, "small_rate": 0.06,
        "rates": [0.07, 0.08], "wide": 32, "multiples": [0.9, 2.4], "heavy_points": 48, "heavy_scale": 1.0,
        "heavy_rates": [0.3, 0.32]}  # fmt: skip


@pytest.fixture(scope="module")
def tried():
    return try_law("edge_of_stability", **QUICK)


@pytest.fixture(scope="module")
def easy():
    return try_law("edge_of_stability", **EASY)


def finding(tried, runs, law):
    """The one finding of that law if the runs had been these."""
    (found,) = (one for one in judge(tried.settings, runs, tried.curves).findings if one.law == law)
    return found


@pytest.fixture(scope="module", params=[0, 200], ids=["start", "trained"])
def weights(request):
    """(loss, weights after so many steps at rate 0.2), in double precision."""
    loss, theta = problem({"num_points": 40, "num_hidden": 10, "init_scale": 1.0}, 3)
    theta = theta.double()
    for _ in range(request.param):
        theta = theta - 0.2 * slope(loss, theta)[1]
    return loss, theta


@pytest.mark.filterwarnings("ignore:`torch.jit.script`:DeprecationWarning")  # of torch's own forward mode
def test_the_sharpness_is_the_largest_eigenvalue_of_the_dense_hessian(weights):
    loss, theta = weights
    value, vector = sharpness(loss, theta)
    values, vectors = torch.linalg.eigh(torch.func.hessian(loss)(theta))
    assert value == pytest.approx(values[-1].item(), rel=1e-4)
    assert abs(vector @ vectors[:, -1].numpy()) == pytest.approx(1, abs=1e-3)


def test_the_sharpness_is_the_curvature_that_finite_differences_of_the_loss_show(weights):
    loss, theta = weights
    value, vector = sharpness(loss, theta)
    along, small = torch.from_numpy(vector), 1e-3
    ahead, here, behind = (loss(theta + shift * along).item() for shift in (small, 0, -small))
    assert value == pytest.approx((ahead - 2 * here + behind) / small**2, rel=1e-3)
    assert slope(loss, theta)[1] @ along == pytest.approx((ahead - behind) / (2 * small), abs=1e-5)


def test_the_sharpness_is_the_largest_by_sign_where_a_negative_curvature_is_larger_in_size():
    curvatures = torch.linspace(-9, 3, 30, dtype=torch.float64)
    value, vector = sharpness(lambda theta: (curvatures * theta**2).sum() / 2, torch.ones(30, dtype=torch.float64))
    assert value == pytest.approx(3, rel=1e-3)
    assert abs(vector[-1]) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_the_edge_is_where_the_map_of_heavy_ball_on_a_parabola_gains_an_eigenvalue_beyond_one(momentum):
    for ratio, stable in ((0.99, True), (1.01, False)):
        curvature = ratio * 2 * (1 + momentum)
        steps = np.array([[1 + momentum - curvature, -momentum], [1, 0]])
        assert (np.abs(np.linalg.eigvals(steps)).max() < 1) == stable


def test_the_law_holds_with_momentum_and_without_and_its_boundaries_lie_where_predicted(tried):
    verdicts = {(one.law, one.role): one.verdict for one in tried.judgement.findings}
    assert {verdict for (_, role), verdict in verdicts.items() if role != "control"} == {"holds"}
    assert {verdict for (_, role), verdict in verdicts.items() if role == "control"} == {"not_reached"}


def test_the_loss_never_rises_below_the_edge_and_does_above(tried):
    for run in tried.judgement.tables["edge"].filter(method="gradient descent").iter_rows(named=True):
        assert (run["rises"] > 0) == (run["rho"] > 1.1), run
        assert not 0.95 < run["rho"] < 1.1, "choose rates clear of the edge"


def test_runs_that_never_meet_the_edge_are_not_reached_and_not_violated(easy):
    assert easy.finding("sharpness settles at the edge: gradient descent").verdict == "not_reached"
    assert easy.finding("edge of stability: the edge is met", "boundary").verdict == "not_reached"


def test_heavy_ball_on_a_task_that_is_soon_learned_overshoots_and_violates_the_law(easy):
    found = easy.finding("sharpness settles at the edge: heavy ball")
    assert found.verdict == "violated"
    assert found.measured < 0.9


def test_an_end_that_some_seeds_never_meet_does_not_hold_on_the_others(tried):
    whole = tried.finding("edge of stability: unstable from the start", "boundary")
    assert (whole.verdict, whole.interval_kind) == ("holds", "confidence")
    assert "the mean of 3 of 3 seeds" in whole.statement
    stable = pl.when(kind="start", seed=2).then(pl.lit("finished")).otherwise(pl.col("status"))
    part = finding(tried, tried.runs.with_columns(status=stable), "edge of stability: divergence")
    assert part.verdict == "undetermined"
    assert "the mean of 2 of 3 seeds" in part.statement


def past_the_edge(tried, method="gradient descent"):
    """(seed, rate) of the runs that the law is about."""
    settled = tried.judgement.tables["edge"].filter(fate="settled", method=method)
    return settled.select("seed", "rate").rows()


def at(seed, rate):
    return (pl.col("kind") == "edge") & (pl.col("seed") == seed) & (pl.col("rate") == rate) & (pl.col("momentum") == 0)


@pytest.mark.parametrize("known", [True, False])
def test_one_run_that_diverges_past_the_edge_violates_the_law_whatever_the_others_do(tried, known):
    law, (*_, last) = "sharpness settles at the edge: gradient descent", past_the_edge(tried)
    edit = {"status": pl.when(at(*last)).then(pl.lit("diverged")).otherwise(pl.col("status"))}
    if not known:
        edit |= {name: pl.when(~at(*last)).then(name) for name in ("ratio", "low", "high", "before", "rises")}
    found = finding(tried, tried.runs.with_columns(**edit), law)
    assert found.verdict == "violated"
    assert "Of 5 runs past the edge 1 diverged and 0 gave no value" in found.statement
    (regime,) = found.regime
    assert regime.high < regime.broke_at == tried.judgement.tables["edge"].filter(seed=last[0], rate=last[1])["rho"][0]


@pytest.mark.parametrize("edit", ["removed", "without a ratio"])
def test_the_law_does_not_hold_without_a_seed_that_crossed_the_edge(tried, edit):
    law, (*_, last) = "sharpness settles at the edge: gradient descent", past_the_edge(tried)
    left = {"removed": tried.runs.filter(~at(*last).fill_null(False)),
            "without a ratio": tried.runs.with_columns(ratio=pl.when(~at(*last)).then("ratio"))}[edit]  # fmt: skip
    found = finding(tried, left, law)
    assert found.verdict == "undetermined"
    assert "Of 5 runs past the edge 0 diverged and 1 gave no value" in found.statement


@pytest.mark.parametrize(("num_lost", "verdict"), [(0, "holds"), (2, "holds"), (3, "undetermined")])
def test_the_law_does_not_hold_on_less_than_half_of_the_runs(num_lost, verdict):
    fates = ["unknown"] * num_lost + ["settled"] * (4 - num_lost)
    rows = [(seed, 1.1 + rank, fate, 1 + 0.001 * seed) for seed in range(3) for rank, fate in enumerate(fates)]
    past = pl.DataFrame(rows, ["seed", "rho", "fate", "ratio"], orient="row")
    assert settles(past, "law", "formula").verdict == verdict


def test_a_seed_without_its_run_at_the_small_rate_cannot_be_placed_and_leaves_the_law_undetermined(tried):
    placed = tried.runs.filter(~((pl.col("kind") == "small_rate") & (pl.col("seed") == 2)))
    for law in ("sharpness settles at the edge: gradient descent", "edge of stability: the edge is met"):
        assert finding(tried, placed, law).verdict == "undetermined"
    started = tried.runs.filter(~((pl.col("kind") == "start") & (pl.col("seed") == 2)))
    assert finding(tried, started, "edge of stability: divergence").verdict == "undetermined"


def test_the_same_run_gives_the_same_bits(easy):
    again = try_law("edge_of_stability", **EASY)
    assert again.runs.equals(easy.runs)
    assert again.curves.equals(easy.curves)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seeds": [0]}, r"laws\.edge_of_stability\.seeds: List should have at least 2 items"),
        ({"rates": []}, r"laws\.edge_of_stability\.rates: List should have at least 2 items"),
        ({"rates": [0.1, -0.2]}, r"laws\.edge_of_stability\.rates\.1: .*greater than 0 \(value -0.2\)"),
        ({"num_hidden": 0}, r"laws\.edge_of_stability\.num_hidden: .*greater than 0"),
        ({"momentum": 1.0}, r"laws\.edge_of_stability\.momentum: .*less than 1"),
        ({"small_rate": 0.2}, r"laws\.edge_of_stability\.small_rate: 0.2 is not below every rate"),
        ({"time": 5.0}, r"laws\.edge_of_stability\.time: 5 is less than 100 steps of the rate 0.32"),
        ({"multiples": [1.2, 1.6]}, r"laws\.edge_of_stability\.multiples: .* leave no room on both sides of 1 and 2"),
        ({"depth": 3}, r"laws\.edge_of_stability\.depth: unknown key"),
    ],
)
def test_bad_dials_are_refused_before_anything_runs(tmp_path, changed, message):
    with pytest.raises(ValueError, match=message):
        read_laws(tmp_path, {"edge_of_stability": dials("edge_of_stability") | changed})
