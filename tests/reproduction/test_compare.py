"""Verdicts on retrained runs: noise against the study's own estimate, its false alarms by simulation, and what no noise
excuses."""

import numpy as np
import polars as pl
import pytest

from pipeline.fitting.laws import Chinchilla
from pipeline.fitting.seed_noise import seed_noise
from pipeline.planning.table import PLANNED
from pipeline.reproduction.compare import outcome, worst
from pipeline.reproduction.noise import LawNoise, StudyNoise, replaced
from pipeline.reproduction.published import Tables
from tests.experiments.study_runs import study_runs

LAW = Chinchilla(E=0.8, A=28.0, alpha=0.35, B=75.0, beta=0.36)
WIDTHS, TOKENS = [32, 48, 64], [200_000, 400_000, 800_000]


def curves_of(runs: pl.DataFrame) -> pl.DataFrame:
    """A training curve of ten rows a run, near its loss."""
    rows = pl.DataFrame({"part": np.linspace(0.1, 1, 10)})
    parts = runs.select("run_id", "D", pl.col("loss")).join(rows, how="cross")
    return parts.select(
        "run_id",
        tokens=(pl.col("D") * pl.col("part")).cast(pl.Int64),
        train_loss=pl.col("loss") / pl.col("part") ** 0.1,
    )


def tables_of(runs: pl.DataFrame, curves: pl.DataFrame) -> Tables:
    return Tables("results/runs.parquet", "results/curves.parquet", runs, curves)


def drawn(seed: int, sd: float = 0.004) -> Tables:
    runs = study_runs(LAW, WIDTHS, TOKENS, WIDTHS, tree_sd=0.0, run_sd=sd, random_seed=seed)
    runs = runs.filter(pl.col("kind") == "cooldown")
    return tables_of(runs, curves_of(runs))


def only(tables: Tables, ids: list[str]) -> Tables:
    runs, curves = (table.filter(pl.col("run_id").is_in(ids)) for table in (tables.runs, tables.curves))
    return tables_of(runs, curves)


def judged(published: Tables, retrained: Tables) -> list:
    noise = StudyNoise(replaced(published, retrained))
    ids = retrained.runs["run_id"].to_list()
    return [outcome(run_id, published, retrained, PLANNED, noise.of, len(ids)) for run_id in ids]


def falsified(tables: Tables, run_id: str, **columns) -> Tables:
    chosen = pl.col("run_id") == run_id
    changes = [pl.when(chosen).then(change).otherwise(pl.col(name)).alias(name) for name, change in columns.items()]
    return tables_of(tables.runs.with_columns(changes), tables.curves)


def test_the_noise_between_seeds_is_that_of_the_study():
    tables = drawn(1)
    N, D, L = (tables.runs[name].to_numpy().astype(float) for name in ("N_non_embedding", "D", "loss"))
    known, mine = seed_noise(L, N, D, np.arange(len(L))), StudyNoise(tables).of("loss")
    assert mine.sd == pytest.approx(known.sd, rel=1e-9)
    assert mine.freedom == known.degrees_of_freedom == 18


def test_identical_tables_are_the_same_bits_and_a_column_in_another_order_changes_nothing():
    tables = drawn(2)
    other = tables_of(
        tables.runs.select(sorted(tables.runs.columns)),
        tables.curves.select("train_loss", "tokens", "run_id"),
    )
    assert {one.verdict for one in judged(tables, other)} == {"same bits"}


def test_another_seed_passes_for_noise_and_alarms_falsely_no_more_often_than_said():
    alarms, num_studies = 0, 150
    for number in range(num_studies):
        published, other = drawn(10_000 + number), drawn(20_000 + number)
        ids = published.runs.filter(pl.col("role") == "grid")["run_id"].to_list()
        found = judged(published, only(other, ids))
        alarms += any(one.verdict == "does not reproduce" for one in found)
        assert not any(one.verdict == "same bits" for one in found)
    assert alarms / num_studies < 0.05 + 3 * np.sqrt(0.05 * 0.95 / num_studies)


def test_a_loss_beyond_the_noise_is_found_even_where_it_is_itself_one_of_the_seeds():
    truth = drawn(3)
    run_id = truth.runs.filter(pl.col("seed") == 1)["run_id"][0]
    for off, verdict in ((1.001, "within seed noise"), (1.04, "does not reproduce")):
        lie = falsified(truth, run_id, loss=pl.col("loss") * off, bits_per_byte=pl.col("bits_per_byte") * off)
        (found,) = judged(lie, only(truth, [run_id]))
        assert found.verdict == verdict
        assert "results/runs.parquet: loss: " in found.detail


@pytest.mark.parametrize(("column", "lie"), [("D", 1), ("status", pl.lit("diverged")), ("width", 31)])
def test_no_noise_excuses_what_follows_from_the_plan(column, lie):
    truth = drawn(4)
    run_id = truth.runs["run_id"][3]
    (found,) = judged(falsified(truth, run_id, **{column: lie}), only(truth, [run_id]))
    assert (found.verdict, worst([found, found])) == ("does not reproduce", found)
    assert f"results/runs.parquet: {column}: " in found.detail


def test_a_curve_of_another_length_or_far_away_is_found():
    truth = drawn(5)
    run_id = truth.runs["run_id"][3]
    mine = pl.col("run_id") == run_id
    shorter = truth.curves.filter(~(mine & (pl.col("tokens") == pl.col("tokens").filter(mine).max())))
    higher = truth.curves.with_columns(
        train_loss=pl.when(mine).then(pl.col("train_loss") + 0.3).otherwise(pl.col("train_loss"))
    )
    for curves, said in ((shorter, "9 rows of tokens, train_loss, retrained 10"), (higher, "train_loss: ")):
        (found,) = judged(tables_of(truth.runs, curves), only(truth, [run_id]))
        assert found.verdict == "does not reproduce"
        assert f"results/curves.parquet: {said}" in found.detail


def test_a_law_is_measured_with_the_seeds_of_the_same_setting():
    random = np.random.default_rng(0)
    rows = [
        {
            "run_id": f"{rate}-{seed}",
            "kind": "descent",
            "seed": seed,
            "status": "finished",
            "reason": None,
            "rate": rate,
        }
        | {"error": 5.0 * rate + 0.1 * random.standard_normal(), "exact": 2.0}
        for rate in (1.0, 2.0)
        for seed in range(6)
    ]
    truth = tables_of(
        pl.DataFrame(rows, infer_schema_length=None),
        pl.DataFrame({"run_id": []}, schema={"run_id": pl.String}),
    )
    own = truth.runs.filter(pl.col("rate") == 1.0)["error"].to_numpy()
    assert LawNoise(truth, ("rate",)).of("1.0-0")("error").sd == pytest.approx(own.std(ddof=1))
    for column, lie, verdict in (
        ("error", pl.col("error") + 0.05, "within seed noise"),
        ("error", pl.col("error") + 3.0, "does not reproduce"),
        ("exact", pl.col("exact") + 1e-12, "within seed noise"),
        ("exact", pl.col("exact") + 1e-3, "does not reproduce"),
        ("rate", pl.col("rate") + 1e-12, "does not reproduce"),
    ):
        again = only(truth, ["1.0-0"])
        lied = falsified(truth, "1.0-0", **{column: lie})
        spreads = LawNoise(replaced(lied, again), ("rate",)).of("1.0-0")
        assert outcome("1.0-0", lied, again, {"rate", "kind", "seed", "status"}, spreads, 1).verdict == verdict
