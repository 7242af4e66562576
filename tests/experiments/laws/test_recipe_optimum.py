"""The recipe at its optimum: every verdict from tables whose truth is known, the plan against the study's own, and the
runs against the study's own trainer."""

import json

import numpy as np
import polars as pl
import pytest

from pipeline.experiments.experiment import RunContext, StudyFacts
from pipeline.experiments.language_model.plan import plan as plan_study
from pipeline.experiments.language_model.run import run as run_study
from pipeline.experiments.laws.recipe_optimum import Settings, draw, judge, plan
from pipeline.experiments.laws.recipe_optimum.sweeps import DIALS
from pipeline.experiments.verdict import overall
from pipeline.params import read_params
from pipeline.plain import flatten
from tests.experiments.laws.bench import dials, digest_of, read_laws, try_law
from tests.experiments.laws.test_recipe_optimum_parabola import valley

SETTINGS = Settings(
    seeds=[0, 1], widths=[32, 64], num_tokens=20_000, windows=64, tolerance=0.01,
    factors={"matrix_rate": [0.25, 0.5, 1, 2, 4], "batch": [0.25, 0.5, 1, 2, 4]},
)  # fmt: skip
TINY = {"seeds": [0, 1], "widths": [16, 32], "num_tokens": 20_000, "windows": 64,
        "factors": {"matrix_rate": [0.5, 1, 2], "cooldown": [0.5, 1, 2]}}  # fmt: skip
OWN = read_params().language_model


def runs_of(truth, sigma=0.0, seeds=2, seed=0):
    """The table of runs whose ln loss is truth[dial](width, x) and noise; a seed shifts a whole width."""
    random = np.random.default_rng(seed)
    rows = []
    for width in (32, 64):
        for one, level in enumerate(random.normal(scale=0.02, size=seeds)):
            for dial, factor in [("study", 1.0)] + [(dial, f) for dial in truth for f in (0.25, 0.5, 2.0, 4.0)]:
                log = truth["batch" if dial == "study" else dial](width, np.log(factor))
                base = {"matrix_rate": 0.01, "batch": 256.0, "study": 1.0}[dial]
                loss = float(np.exp(log + level + random.normal() * sigma))
                rows.append({"seed": one, "width": width, "dial": dial, "factor": factor, "quantity": base * factor,
                             "course.end": 120_000, "loss": loss})  # fmt: skip
    return pl.DataFrame(rows)


def judged(matrix, batch, sigma=0.0, **more):
    level = {"matrix_rate": lambda w, x: matrix(w, x) - matrix(w, 0.0), "batch": lambda w, x: batch(w, x) - batch(w, 0)}
    return judge(SETTINGS, runs_of(level, sigma, **more), pl.DataFrame())


@pytest.fixture(scope="module")
def tried(tokens):
    return try_law("recipe_optimum", tokens, **TINY)


def test_a_recipe_at_its_optimum_holds_with_its_range():
    found = judged(lambda w, x: valley(x, 0.1, 0.02), lambda w, x: valley(x, -0.1, 0.008), sigma=0.001)
    *laws, boundary, control = found.findings
    assert {one.verdict for one in laws} == {boundary.verdict} == {"holds"}
    assert control.verdict == "violated"
    assert overall([one.as_dict() for one in found.findings]) == "holds"
    assert found.summary["study"]["inside"] is True
    matrix, batch, moved = laws
    (regime,) = matrix.regime
    assert (regime.low, regime.high, regime.broke_at) == pytest.approx((0.01, 0.02, 0.005))
    (regime,) = batch.regime
    assert (regime.low, regime.high, regime.broke_at) == pytest.approx((128.0, 512.0, 64.0), rel=1e-9)
    assert moved.measured == pytest.approx(0.0, abs=1e-4)


def test_the_end_of_a_range_is_found_where_the_parabola_has_it_and_foretold_by_the_narrow_width():
    """Regret 1 % at ln x = 0.1 + sqrt(ln 1.01 / 0.02) of a parabola that both widths share."""
    found = judged(lambda w, x: valley(x, 0.1, 0.02), lambda w, x: valley(x, 0.0, 0.001), sigma=1e-6)
    *_, boundary, control = found.findings
    truth = 0.01 * np.exp(0.1 + np.sqrt(np.log(1.01) / 0.02))
    assert boundary.predicted == pytest.approx(truth, rel=1e-3)
    assert boundary.measured == pytest.approx(truth, rel=0.05)
    assert boundary.interval == pytest.approx((0.02, 0.04))
    assert control.measured == pytest.approx(np.expm1(0.02 * (np.log(0.25) - 0.1) ** 2), rel=0.05)
    moved = judged(
        lambda w, x: valley(x, 0.0 if w == 32 else 0.9, 0.02), lambda w, x: valley(x, 0.0, 0.001), sigma=1e-6
    )
    assert moved.findings[-2].verdict == "violated"


def test_a_dial_away_from_its_optimum_violates_by_its_regret():
    found = judged(lambda w, x: valley(x, np.log(2.2), 0.05), lambda w, x: valley(x, 0.0, 0.02), sigma=0.0005)
    matrix, batch = found.findings[:2]
    assert (matrix.verdict, batch.verdict) == ("violated", "holds")
    truth = np.expm1(0.05 * np.log(2.2) ** 2)
    assert matrix.interval[0] <= truth <= matrix.interval[1]
    assert matrix.measured == pytest.approx(truth, rel=0.05)
    study = found.summary["study"]
    assert study["inside"] is False
    assert study["regrets"]["matrix_rate"] == matrix.measured
    best = found.tables["optima"].filter(dial="matrix rate", width=64).row(0, named=True)
    assert best["optimum"] == pytest.approx(0.022, rel=0.02)
    assert best["optimum_low"] < best["optimum"] < best["optimum_high"]


@pytest.mark.parametrize(("slope", "verdict"), [(0.001, "not_reached"), (0.02, "violated")])
def test_a_least_loss_at_the_edge_is_no_optimum_but_can_tell_that_the_study_is_not_there(slope, verdict):
    found = judged(lambda w, x: slope * x, lambda w, x: valley(x, 0.0, 0.02), sigma=0.0002)
    assert found.findings[0].verdict == verdict
    assert "lies at an end of the sweep or is not settled by it" in found.findings[0].statement
    assert not found.tables["optima"].filter(dial="matrix rate")["bracketed"].any()
    assert found.tables["optima"].filter(dial="matrix rate")["optimum"].null_count() == 2


def test_too_much_noise_leaves_the_recipe_undetermined():
    found = judged(lambda w, x: valley(x, 0.0, 0.02), lambda w, x: valley(x, 0.0, 0.02), sigma=0.02)
    assert "undetermined" in {one.verdict for one in found.findings}
    assert found.summary["study"]["inside"] is None


def test_a_best_value_that_moves_with_width_does_not_transfer():
    found = judged(
        lambda w, x: valley(x, 0.8 if w == 64 else -0.8, 0.02), lambda w, x: valley(x, 0.0, 0.02), sigma=0.0003
    )
    moved = found.findings[2]
    assert (moved.law, moved.verdict) == ("the best recipe transfers over width", "violated")
    assert moved.measured == pytest.approx(np.expm1(0.02 * 1.6**2), rel=0.05)


def test_diverged_settings_are_left_out_and_too_few_leave_a_dial_undetermined():
    runs = runs_of({"matrix_rate": lambda w, x: valley(x, 0.1, 0.02), "batch": lambda w, x: valley(x, 0.0, 0.02)}, 1e-3)
    lost = pl.when((pl.col("dial") == "matrix_rate") & (pl.col("factor") == 4)).then(None).otherwise(pl.col("loss"))
    found = judge(SETTINGS, runs.with_columns(loss=lost), pl.DataFrame())
    assert found.findings[0].verdict == "holds"
    assert found.tables["points"].filter(dial="matrix rate", width=64)["factor"].max() == pytest.approx(2.0)
    lost = pl.when((pl.col("dial") == "matrix_rate") & (pl.col("factor") >= 1)).then(None).otherwise(pl.col("loss"))
    few = judge(SETTINGS, runs.with_columns(loss=lost).filter(pl.col("factor") != 0.25), pl.DataFrame())
    assert few.findings[0].verdict == "undetermined"
    assert "diverged" in few.findings[0].statement
    nothing = judge(SETTINGS, runs.drop("loss"), pl.DataFrame())
    assert {one.verdict for one in nothing.findings if one.role == "law"} == {"undetermined"}
    assert {one.verdict for one in nothing.findings if one.role != "law"} == {"not_reached"}
    assert draw(nothing.summary, nothing.tables, runs, pl.DataFrame())
    for one in (few, nothing):
        json.dumps([finding.as_dict() for finding in one.findings] + [one.summary], allow_nan=False)


def test_the_study_is_trained_by_its_own_trainer_at_its_own_recipe(tried, tokens, tmp_path):
    """Reference: the study's own trunk and cooldown at the same point; each other value gives another loss."""
    grid = OWN.grid.model_copy(update={"widths": [16], "tokens": [20_000]})
    evaluation = OWN.evaluation.model_copy(update={"windows": 64})
    replicates = OWN.replicates.model_copy(update={"seeds": [], "widths": []})
    small = OWN.model_copy(update={"grid": grid, "evaluation": evaluation, "replicates": replicates})
    trunk, cooldown = plan_study(small, StudyFacts(digest_of(tokens), 256, 5_000_000, small))
    for spec, origin in ((trunk, None), (cooldown, str(tmp_path / trunk.run_id))):
        *_, last = run_study(spec, RunContext(str(tokens), origin, str(tmp_path / spec.run_id), 60.0, 8192))
    own = tried.runs.filter(dial="study", width=16, seed=0)
    assert own["loss"].item() == last.scalars["loss"]
    assert set(tried.runs["status"]) == {"finished"}
    assert tried.runs["loss"].n_unique() == len(tried.runs) == 2 * 2 * (1 + 2 * 2)


def test_every_dial_has_its_finding_and_its_panel(tried):
    found = tried.judgement
    (shown,) = draw(found.summary, found.tables, tried.runs, tried.curves)
    assert {one.figure for one in found.findings} == {shown.name}
    assert set(shown.table["dial"]) == {"matrix rate", "cooldown fraction"}
    assert found.summary["study"]["sentence"] == found.summary["says"][0]
    assert set(found.summary["study"]["regrets"]) == set(TINY["factors"])


def test_each_dial_changes_its_own_setting_alone():
    settings = Settings(
        **dials("recipe_optimum") | {"factors": {name: [0.5, 1, 2] for name in DIALS}, "widths": [32, 64]}
    )
    planned = plan(settings, StudyFacts("", 256, 50_000_000, OWN))
    specs = [spec for spec in planned if spec.settings["width"] == 32 and spec.seed == 0]
    half = {spec.settings["dial"]: flatten(spec.settings) for spec in specs if spec.settings["factor"] == 0.5}
    own = next(flatten(spec.settings) for spec in specs if spec.settings["dial"] == "study")
    assert half.keys() == DIALS.keys()
    for name in ("matrix_rate", "embedding_rate", "head_rate"):
        assert half[name][f"optimizer.{name}"] == 0.5 * own[f"optimizer.{name}"]
    assert 1 - half["momentum"]["optimizer.momentum"] == pytest.approx(0.5 * (1 - own["optimizer.momentum"]))
    assert half["batch"]["batch.tokens"] == 0.5 * own["batch.tokens"]
    assert half["warmup"]["course.warmup"] == 0.5 * own["course.warmup"]
    cooled = 1 - half["cooldown"]["course.fork"] / half["cooldown"]["course.end"]
    assert cooled == pytest.approx(0.5 * OWN.schedule.cooldown_fraction, rel=0.05)
    for name, one in half.items():
        same = ("dial", "factor", "quantity", "course.fork", "course.end")
        assert sum(one[key] != own[key] for key in own if key not in same) == (name != "cooldown")


def test_a_dial_without_effect_is_not_swept_and_defaults_are_the_small_end_of_the_study():
    adam = OWN.model_copy(update={"optimizer": OWN.optimizer.model_copy(update={"kind": "adamw"})})
    specs = plan(Settings(**dials("recipe_optimum")), StudyFacts("", 256, 50_000_000, adam))
    assert "momentum" not in {spec.settings["dial"] for spec in specs}
    bare = Settings(**dials("recipe_optimum") | {"widths": None, "num_tokens": None})
    specs = plan(bare, StudyFacts("", 256, 50_000_000, OWN))
    assert {spec.settings["width"] for spec in specs} == set(sorted(OWN.grid.widths)[:2])
    second = sorted(OWN.grid.tokens)[1]
    assert all(abs(spec.settings["course"]["end"] - second) < 4096 for spec in specs)
    assert len({spec.run_id for spec in specs}) == len(specs)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seeds": [0]}, r"seeds: List should have at least 2 items"),
        ({"factors": {"beta3": [0.5, 1, 2]}}, r"factors: 'beta3' is not one of matrix_rate, "),
        ({"factors": {"batch": [1, 2, 4]}}, r"factors: batch: \[1.*\] must ascend and hold 1, .* room on both sides"),
        ({"factors": {"batch": [0.5, 2, 4]}}, r"factors: batch: .* must ascend and hold 1"),
        ({"factors": {"batch": [2, 1, 0.5]}}, r"factors: batch: .* must ascend and hold 1"),
        ({"factors": {}}, r"factors: .*at least 1 item"),
        ({"widths": [64, 32]}, r"widths: \[64, 32\] must ascend"),
        ({"tolerance": 0}, r"tolerance: .*greater than 0"),
        ({"speed": 1}, r"speed: unknown key"),
    ],
)
def test_bad_dials_are_refused_before_anything_runs(tmp_path, changed, message):
    with pytest.raises(ValueError, match=r"laws\.recipe_optimum\." + message):
        read_laws(tmp_path, {"recipe_optimum": dials("recipe_optimum") | changed})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"widths": [16, 40]}, r"recipe_optimum\.widths: 40 is not divisible by model\.head_size 16"),
        ({"factors": {"batch": [0.3, 1, 2]}}, r"factors\.batch: 0\.3 times the study's 256 is refused: .*multiple"),
        ({"factors": {"cooldown": [0.5, 1, 8]}}, r"factors\.cooldown: 8 times the study's 0\.2 is refused: "),
        ({"factors": {"momentum": [0.5, 1, 20]}}, r"factors\.momentum: 20 times the study's 0\.85 is refused: "),
    ],
)
def test_what_the_study_cannot_have_is_refused_at_planning(changed, message):
    settings = Settings(**dials("recipe_optimum") | changed)
    with pytest.raises(ValueError, match=message):
        plan(settings, StudyFacts("", 256, 50_000_000, OWN))
