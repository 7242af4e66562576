"""Collapse of loss curves: synthetic studies whose curves are known to collapse or not, the difficulty of the windows
against the one that was put in, and the committed results of the study itself."""

import re

import numpy as np
import polars as pl
import pytest

from pipeline.experiments.laws.loss_curve_collapse import Settings, draw, judge, plan
from pipeline.experiments.laws.loss_curve_collapse.curves import (
    ladders,
    normalised,
    overall_spread,
    self_similar_from,
    spread,
    window_difficulty,
)
from pipeline.fitting.laws import Chinchilla
from pipeline.planning.table import CURVES, schema
from tests.experiments.laws.bench import dials, read_laws, try_law
from tests.experiments.study_runs import study_runs

LAW = Chinchilla(E=0.9, A=60.0, alpha=0.45, B=200.0, beta=0.45)
WIDTHS, TOKENS = [32, 48, 64, 96, 128, 176], [120_000, 240_000, 480_000, 960_000, 1_920_000]
SETTINGS = Settings.model_validate(dials("loss_curve_collapse"))
ROW, FORK = 6_000, 0.8


def synthetic(excess=0.0, hard=0.005, start=0, seed_sd=0.007):
    """(runs, curves) of LAW with trunks that lie `excess` nats/token above it until a linear decay; windows are harder
    than others by a factor of e^(`hard` * noise), the same for all sizes of a seed; little is learned before `start`
    tokens, where the batch begins to grow. Each seed of a size is off by its own factor, sd `seed_sd`, in L - E."""
    random = np.random.default_rng(0)
    runs = study_runs(LAW, WIDTHS, TOKENS, WIDTHS[:3], seeds=(1, 2), tree_sd=0.0, run_sd=0.0)
    windows = {seed: hard * random.normal(size=max(TOKENS) // ROW) for seed in (0, 1, 2)}
    trees = runs.select("width", "seed").unique(maintain_order=True).rows()
    off = {tree: np.exp(seed_sd * random.normal()) for tree in trees}
    curves, losses = [], []
    for run in runs.iter_rows(named=True):
        trunk, D = run["kind"] == "trunk", run["D"]
        tokens, own = np.arange(ROW, D + 1, ROW), off[run["width"], run["seed"]]
        rate = np.ones(len(tokens)) if trunk else np.clip((1 - (tokens - ROW / 2) / D) / (1 - FORK), 0, 1)
        learned = ((tokens - ROW / 2.0) ** 8 + float(start) ** 8) ** 0.125
        reducible = LAW.loss(run["N_non_embedding"], learned) - LAW.E + excess * rate
        losses.append(None if trunk else LAW.E + (run["loss"] - LAW.E) * own)
        columns = {
            "tokens": tokens,
            "train_loss": (LAW.E + reducible * own) * np.exp(windows[run["seed"]][: len(tokens)]),
            "learning_rate_scale": rate,
            "batch_tokens": np.where(tokens <= start, 256, 512),
        }
        curves.append(pl.DataFrame({"run_id": run["run_id"]} | columns, schema=schema(CURVES)))
    return runs.with_columns(loss=pl.Series(losses)), pl.concat(curves)


def verdicts(judgement):
    return {(one.law, one.role): one.verdict for one in judgement.findings}


def test_curves_with_one_universal_shape_collapse_and_those_of_one_D_do_not():
    found = verdicts(judge(SETTINGS, *synthetic()))
    assert found["loss curves collapse at constant D/N", "law"] == "holds"
    assert found["shape of a loss curve, with size", "law"] == "holds"
    assert found["shape of a loss curve, with tokens", "law"] == "holds"
    assert found["loss curves collapse at fixed D", "control"] == "violated"


def test_errors_are_those_of_whole_studies_without_one_size():
    """The law, and with it E, is fitted anew for each: it decides the shape of every curve."""
    runs, curves = synthetic()
    law = "shape of a loss curve, with tokens"

    def slope(width):
        findings = judge(SETTINGS, runs.filter(pl.col("width").ne_missing(width)), curves).findings
        return next(one for one in findings if one.law == law)

    without = np.array([slope(width).measured for width in WIDTHS])
    expected = np.sqrt((len(WIDTHS) - 1) * without.var())
    assert slope(None).error == pytest.approx(expected, rel=1e-6)


def test_an_excess_that_does_not_shrink_breaks_the_collapse_and_is_measured():
    judgement = judge(SETTINGS, *synthetic(excess=0.06, seed_sd=0.004))
    assert verdicts(judgement)["loss curves collapse at constant D/N", "law"] == "violated"
    assert verdicts(judgement)["shape of a loss curve, with tokens", "law"] == "violated"
    excesses = [float(word) for word in re.findall(r"0\.\d\d\d", judgement.summary["says"][-1])]
    # Two of the six bins that are compared lie in the decay, where the mean excess is half.
    assert excesses == pytest.approx([0.05, 0.05], abs=0.006)


def test_runs_that_are_too_short_are_named_and_bound_the_collapse():
    judgement = judge(SETTINGS, *synthetic(start=72_000))
    assert re.findall(r"width \d+ at [\d,]+k", judgement.summary["says"][0])
    assert not re.findall(r"width \d+ at (480|960|1,920)k", judgement.summary["says"][0])
    (boundary,) = [one for one in judgement.findings if one.role == "boundary"]
    assert (boundary.verdict, boundary.predicted, boundary.interval) == ("holds", 180_000, (120_000, 240_000))


def test_the_difficulty_of_the_windows_is_found_and_taken_off():
    runs, curves = synthetic(hard=0.05)
    points = runs.filter(pl.col("kind") == "cooldown").with_columns(N=pl.col("N_non_embedding"))
    tokens, total = window_difficulty(runs, curves, 0.0)[1]
    truth = 0.05 * np.random.default_rng(0).normal(size=2 * len(TOKENS) * 64)[max(TOKENS) // ROW :][: len(tokens) - 1]
    assert np.corrcoef(np.diff(total), truth)[0, 1] > 0.95
    left = [
        overall_spread(
            normalised(10, LAW, points, difficulty, curves).filter(pl.col("x") < 0.8), "reducible", ("N", "D")
        )
        for difficulty in (window_difficulty(runs, curves, 0.0), {})
    ]
    assert left[0] < 0.5 * left[1]


def test_the_spread_is_the_pooled_standard_deviation():
    values = np.random.default_rng(1).normal(size=(2, 4))
    rows = pl.DataFrame(
        {"x": [0.5] * 8, "group": np.repeat([0, 1], 4), "other": 0, "value": values.ravel()}
    )  # fmt: skip
    found = spread(rows, "value", ("group", "other"))["sd"][0]
    assert found == pytest.approx(np.sqrt(values.var(axis=1, ddof=1).mean()))


def test_a_ladder_has_one_run_a_size_and_enough_sizes():
    points = pl.DataFrame(
        {"run_id": list("abcdef"), "seed": 0, "N": [1, 2, 4, 4, 8, 8], "D": [100, 210, 400, 420, 2000, 790]}
    )
    found = dict(ladders(points, 1.1, 200.0).rows())
    assert found == {"a": 98.75, "b": 98.75, "c": 98.75, "d": None, "e": None, "f": 98.75}
    assert set(dict(ladders(points, 1.1, 500.0).rows()).values()) == {None}


def test_the_course_is_self_similar_once_warm_up_is_over_and_the_batch_grows():
    rows = {"run_id": "a", "tokens": [10, 20, 30, 40, 50], "learning_rate_scale": [0.5, 1.0, 1.0, 1.0, 0.5]}
    grows, stays = (pl.DataFrame(rows | {"batch_tokens": batch}) for batch in ([4, 4, 4, 8, 8], [4] * 5))
    assert (self_similar_from(grows), self_similar_from(stays)) == (30.0, 10.0)


def test_a_study_without_ladders_or_second_seeds_is_not_reached():
    runs, curves = synthetic()
    narrow = judge(SETTINGS, runs.filter(pl.col("width") < 60), curves)
    single = judge(SETTINGS, runs.filter(pl.col("seed") == 0), curves)
    empty = judge(SETTINGS, runs.clear(), curves.clear())
    for judgement in (narrow, single, empty):
        assert [one.verdict for one in judgement.findings] == ["not_reached"]
        assert draw(judgement.summary, judgement.tables, runs, curves) == []


def test_the_committed_results_are_judged_and_drawn():
    tried = try_law("loss_curve_collapse")
    assert verdicts(tried.judgement)["loss curves collapse at fixed D", "control"] == "violated"
    wide, narrow = (tried.finding(f"loss curves collapse at {words}", role) for words, role in
                    (("fixed D", "control"), ("constant D/N", "law")))  # fmt: skip
    assert narrow.measured < wide.measured + np.log(0.75)
    figures = draw(tried.judgement.summary, tried.judgement.tables, tried.runs, tried.curves)
    assert {one.figure for one in tried.judgement.findings} == {one.name for one in figures}
    assert plan(tried.settings, None) == []
    again = judge(tried.settings, tried.runs.sample(fraction=1.0, shuffle=True, seed=0), tried.curves)
    assert again.findings == tried.judgement.findings


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"start": 0.8}, r"laws\.loss_curve_collapse\.start: fewer than 3 of 10 bins lie beyond 0\.8"),
        ({"bins": 2}, r"laws\.loss_curve_collapse\.bins: .*greater than or equal to 4"),
        ({"same_ratio": 0.9}, r"laws\.loss_curve_collapse\.same_ratio: .*greater than or equal to 1"),
        ({"convention": "all"}, r"laws\.loss_curve_collapse\.convention: Input should be 'total'"),
    ],
)
def test_bad_dials_are_refused_before_anything_is_judged(tmp_path, changed, message):
    with pytest.raises(ValueError, match=message):
        read_laws(tmp_path, {"loss_curve_collapse": dials("loss_curve_collapse") | changed})
