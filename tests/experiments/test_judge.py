"""Proves the judgement on runs drawn from a known law plus noise, and that tiny or broken tables end in plain words."""

import json

import numpy as np
import polars as pl
import pytest

from pipeline.experiments.language_model.judge import judge
from pipeline.fitting.laws import Chinchilla, QForm
from pipeline.params import Fit
from tests.experiments.study_runs import study_runs

LAW = QForm(E=0.81, A=0.479 * 1e5**0.354, alpha=0.354, B=0.524 * 1e6**0.357, beta=0.357, q=1.48)
WIDTHS = [24, 32, 48, 64, 96, 136]
TOKENS = [150_016, 300_032, 600_064, 1_200_128, 2_400_256]
SETTINGS = Fit(convention="non_embedding", bootstrap=200, num_starts=16)
CURVES = pl.DataFrame(
    schema={
        "run_id": pl.String,
        "tokens": pl.Int64,
        "train_loss": pl.Float64,
        "learning_rate_scale": pl.Float64,
        "batch_tokens": pl.Int64,
    }
)


@pytest.fixture(scope="module")
def runs():
    return study_runs(LAW, WIDTHS, TOKENS, replicate_widths=[24, 48])


@pytest.fixture(scope="module")
def judgement(runs):
    return judge(SETTINGS, runs, CURVES)


def spoil(runs: pl.DataFrame, run_id: str, status: str, reason: str | None) -> pl.DataFrame:
    chosen = pl.col("run_id") == run_id
    return runs.with_columns(
        pl.when(chosen).then(None).otherwise("loss").alias("loss"),
        pl.when(chosen).then(pl.lit(status)).otherwise("status").alias("status"),
        pl.when(chosen).then(pl.lit(reason, pl.String)).otherwise("reason").alias("reason"),
    )


def test_the_known_law_is_found(judgement):
    summary = judgement.summary
    assert (summary["chosen"], summary["num_points"], summary["num_excluded"]) == ("q_form", 50, 0)
    assert summary["chosen_because"] == "Of these 2 laws only q_form passes its gate."
    assert summary["laws"]["chinchilla"]["reason"].startswith("q_form predicts held-out")
    law = summary["laws"]["q_form"]
    assert law["status"] == "converged"
    for name in ("E", "alpha", "beta", "q"):
        off = abs(law["params"][name] - getattr(LAW, name))
        assert off < 4 * law["standard_errors"][name], name
        assert law["intervals"][name][0] < law["params"][name] < law["intervals"][name][1]
    assert law["rms"] < 0.004


def test_lack_of_fit_tells_the_laws_apart(judgement):
    laws = judgement.summary["laws"]
    assert laws["q_form"]["lack_of_fit"]["p"] > 0.05
    assert laws["chinchilla"]["lack_of_fit"]["p"] < 0.05
    assert laws["chinchilla"]["lack_of_fit_in_trees"]["p"] < 1e-6
    assert laws["q_form"]["lack_of_fit"]["sd_used"] == judgement.summary["seed_noise"]["sd"]
    assert laws["q_form"]["lack_of_fit_in_trees"]["sd_used"] == judgement.summary["seed_noise"]["within_tree_sd"]


def test_seed_noise_is_between_trees(judgement):
    noise = judgement.summary["seed_noise"]
    trees = 2 * (3 - 1)  # three seeds of two sizes, whose runs hardly differ but by their trees
    assert (noise["num_cells"], noise["degrees_of_freedom"]) == (10, trees)
    assert 0.001 < noise["sd"] < 0.006
    assert noise["within_tree_sd"] == pytest.approx(0.001, rel=0.5)


def test_findings_hold_with_their_regimes(judgement, runs):
    power_law, extrapolation, exponent = judgement.findings
    assert power_law.verdict == "holds"
    assert power_law.measured <= power_law.tolerance
    assert [(part.variable, part.low, part.high, part.broke_at) for part in power_law.regime] == [
        ("N", 20_736.0, 665_856.0, None),
        ("D", 150_016.0, 2_400_256.0, None),
    ]
    assert extrapolation.verdict == "holds"
    assert extrapolation.interval[0] <= extrapolation.measured <= extrapolation.tolerance
    assert exponent.predicted == pytest.approx(LAW.size_exponent, abs=0.05)
    assert exponent.measured == pytest.approx(LAW.size_exponent, abs=0.1)


def test_tables_carry_every_run(judgement, runs):
    points = judgement.tables["points"]
    assert len(points) == len(runs.filter(pl.col("kind") == "cooldown"))
    residual = np.log(points["loss"]) - np.log(points["predicted_q_form"])
    np.testing.assert_allclose(residual, points["residual_q_form"], atol=1e-9)
    np.testing.assert_allclose(points["C"], 6 * points["N"] * points["D"])
    held = judgement.tables["holdout"]
    assert len(held) == judgement.summary["holdout"]["num_test"]
    assert (held["low_q_form"] < held["high_q_form"]).all()
    assert judgement.tables["seeds"]["num_seeds"].to_list() == [3] * 10
    assert set(judgement.tables["cutoffs"]["law"]) == {"chinchilla", "q_form"}
    assert judgement.tables["frontier"]["C"].max() == pytest.approx(10 * points["C"].max())


def test_conventions_refit_the_chosen_law(judgement):
    conventions = judgement.summary["conventions"]
    assert set(conventions) == {"total", "non_embedding", "with_head"}
    headline = judgement.summary["laws"]["q_form"]["params"]["alpha"]
    assert conventions["non_embedding"]["alpha"] == pytest.approx(headline, rel=1e-6)
    assert conventions["total"]["alpha"] > headline
    held = judgement.summary["holdout"]["laws"]["q_form"]["rms"]
    assert conventions["non_embedding"]["holdout_rms"] == pytest.approx(held, rel=1e-6)


def test_an_additive_truth_keeps_the_simpler_law():
    law = Chinchilla(E=0.95, A=0.284 * 1e5**0.446, alpha=0.446, B=0.378 * 1e6**0.414, beta=0.414)
    found = judge(SETTINGS, study_runs(law, WIDTHS, TOKENS, [24, 48], tree_sd=0.0), CURVES).summary
    assert found["chosen"] == "chinchilla"
    assert found["chosen_because"].startswith("The held-out rms")
    assert found["chosen_because"].endswith("chinchilla is the law of fewest parameters that fits (p = 0.83).")


def test_a_break_at_the_smallest_size_is_found_and_not_hidden(runs):
    broken = runs.with_columns(
        pl.when(pl.col("width") == 24).then(pl.col("loss") * 1.05).otherwise("loss").alias("loss")
    )
    found = judge(SETTINGS, broken, CURVES)
    assert found.summary["valid_from"]["N_min"] == 36_864
    assert found.summary["num_points"] == 50
    assert found.findings[0].regime[0].broke_at == 20_736
    holds = found.tables["points"].group_by("N").agg(pl.col("law_holds").all()).sort("N")["law_holds"]
    assert holds.to_list() == [False] + [True] * 5


def test_diverged_and_failed_runs_are_left_out_with_their_reason(runs):
    spoilt = spoil(runs, "cooldown-0136-0000150016-0", "diverged", "loss not finite at 131072 tokens")
    spoilt = spoil(spoilt, "trunk-0024-1", "failed", "RuntimeError: no memory")
    spoilt = spoil(spoilt, "cooldown-0032-0000150016-0", "finished", None)
    found = judge(SETTINGS, spoilt, CURVES)
    assert found.summary["num_points"] == 48
    assert found.summary["num_excluded"] == 3
    assert found.tables["excluded"].select("run_id", "status", "reason").rows() == [
        ("trunk-0024-1", "failed", "RuntimeError: no memory"),
        ("cooldown-0032-0000150016-0", "finished", "loss is missing, not finite or not positive"),
        ("cooldown-0136-0000150016-0", "diverged", "loss not finite at 131072 tokens"),
    ]


def test_another_recipe_is_set_aside(runs):
    own = pl.col("run_id") == "cooldown-0032-0000150016-0"
    mixed = runs.with_columns(pl.when(own).then(pl.lit("cosine")).otherwise("recipe").alias("recipe"))
    found = judge(SETTINGS, mixed, CURVES)
    assert found.summary["num_points"] == 49
    assert found.tables["excluded"]["reason"].to_list() == ["recipe cosine is not that of the law, wsd"]


def test_a_run_that_appears_twice_is_refused(runs):
    with pytest.raises(ValueError, match="run_id: cooldown-0024-0000150016-0 appears more than once"):
        judge(SETTINGS, pl.concat([runs, runs.filter(pl.col("run_id") == "cooldown-0024-0000150016-0")]), CURVES)


@pytest.mark.parametrize(
    ("widths", "tokens", "replicates"),
    [
        ([16, 32], [100_032, 200_064], []),
        ([16, 32], [100_032, 200_064], [16]),
        ([16, 32], [100_032, 200_064, 400_128], []),
        ([32], TOKENS, []),
        (WIDTHS, [150_016], [24]),
        ([24, 48, 96], TOKENS[:3], []),
        ([24, 48, 96], TOKENS[:4], [24]),
        ([16], [100_032], []),
    ],
)
def test_small_grids_end_in_plain_words(widths, tokens, replicates):
    found = judge(SETTINGS, study_runs(LAW, widths, tokens, replicates), CURVES)
    json.dumps(found.summary, allow_nan=False)
    json.dumps([finding.as_dict() for finding in found.findings], allow_nan=False)
    small = min(len(widths), len(tokens)) < 3
    for law in found.summary["laws"].values():
        if small:
            assert law["status"] == "not_identified"
            assert law["reason"]
            assert set(law["params"].values()) == {None}
    if small:
        assert {finding.verdict for finding in found.findings} == {"undetermined"}
        assert "do not identify the law" in found.findings[0].statement


def test_three_sizes_are_too_few_to_say_where_a_law_holds():
    found = judge(SETTINGS, study_runs(LAW, [24, 48, 96], TOKENS, [24]), CURVES)
    assert found.summary["laws"]["q_form"]["status"] == "converged"
    assert found.findings[0].verdict == "undetermined"
    assert "too small to say where it holds" in found.findings[0].statement
    assert found.summary["valid_from"]["rule"] == "Not decided: it takes at least four sizes and four token counts."


def test_a_law_that_fits_nowhere_is_violated():
    runs = study_runs(LAW, WIDTHS, TOKENS, [24, 48], tree_sd=0.0003, run_sd=0.0002)
    wave = 1.0 + 0.01 * pl.col("N_non_embedding").log().mul(9.0).sin() * pl.col("D").log().mul(7.0).cos()
    found = judge(SETTINGS, runs.with_columns(pl.col("loss") * wave), CURVES)
    assert found.findings[0].verdict == "violated"
    assert [part.broke_at for part in found.findings[0].regime] == [665_856.0, 2_400_256.0]
    assert found.findings[0].measured > found.findings[0].tolerance
    assert found.summary["valid_from"]["N_min"] is None
    assert found.summary["valid_from"]["rule"].startswith("No such set exists. Sought: the largest set")


def test_no_finished_run_at_all(runs):
    failed = runs.with_columns(
        pl.lit("failed").alias("status"), pl.lit("RuntimeError").alias("reason"), pl.lit(None, pl.Float64).alias("loss")
    )
    found = judge(SETTINGS, failed, CURVES)
    assert found.summary["num_points"] == 0
    assert found.summary["num_excluded"] == len(runs)
    assert {finding.verdict for finding in found.findings} == {"undetermined"}
    assert found.findings[0].statement == "No run finished with a loss, so no law can be fitted."
    json.dumps(found.summary, allow_nan=False)


def test_same_runs_in_any_order_give_the_same_bytes(runs, judgement):
    again = judge(SETTINGS, runs.sample(fraction=1.0, shuffle=True, seed=3), CURVES)
    assert json.dumps(again.summary, sort_keys=True) == json.dumps(judgement.summary, sort_keys=True)
    for name, table in judgement.tables.items():
        assert again.tables[name].equals(table), name
