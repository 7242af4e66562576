"""Published runs are retrained for real: the same bits on a clone without records, and falsified ones are named."""

import json
import shutil

import polars as pl
import pytest

from pipeline.execution.digests import seal
from pipeline.execution.run_store import RunStore
from pipeline.planning.table import read_plan
from tests.faults.project import study


def specs_of(folder):
    """The planned runs by what they are: (kind, width, D, seed)."""
    table, specs = read_plan(folder / "plan/runs.parquet")
    keys = table.select("kind", "width", "D", "seed").iter_rows()
    return dict(zip(keys, specs, strict=True))


def smallest_cooldown(folder, seed):
    return next(
        spec for (kind, width, _, s), spec in specs_of(folder).items() if (kind, width, s) == ("cooldown", 16, seed)
    )


def test_a_clone_without_records_reproduces_to_the_bit(finished):
    for name in ("runs", "telemetry", "plan", "reports", "scratch"):
        shutil.rmtree(finished / name)
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    code, printed = study(finished, "verify", "--sample", "2", "--seed", "4")
    assert code == 0, printed
    lines = [line.split() for line in printed.splitlines() if line.startswith("  ") and "[" not in line[:4]]
    told = {words[0]: " ".join(words[1:3]) for words in lines}
    assert set(told.values()) == {"same bits"}
    runs = pl.read_parquet(finished / "results/runs.parquet")
    mine = runs.filter(pl.col("run_id").is_in(list(told)))
    assert mine.filter(pl.col("kind") == "cooldown").height == 2
    assert set(mine["parent_id"].drop_nulls()) <= set(told)
    assert f"{len(told)} runs: {len(told)} same bits, 0 within seed noise, 0 does not reproduce" in printed
    assert {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()} == before


def test_a_falsified_table_a_falsified_record_and_a_stranger_are_named(finished):
    by_table, by_record = (smallest_cooldown(finished, seed) for seed in (0, 1))
    path = finished / "results/runs.parquet"
    falsified = pl.when(pl.col("run_id") == by_table.run_id).then(pl.col("loss") * 0.8).otherwise(pl.col("loss"))
    runs = pl.read_parquet(path).with_columns(falsified.alias("loss"))
    stranger = runs.head(1).with_columns(run_id=pl.lit("0123456789abcdef"))
    pl.concat([runs, stranger]).write_parquet(path)
    folder = RunStore(finished).folder(by_record.run_id)
    result = json.loads((folder / "result.json").read_text())
    result["scalars"]["loss"] *= 1.3
    (folder / "result.json").write_text(json.dumps(result, sort_keys=True, indent=1) + "\n")
    (folder / "digests.json").unlink()
    seal(folder)
    assert RunStore(finished).damaged(by_record.run_id) is None
    code, printed = study(finished, "verify", "--runs", by_table.run_id, by_record.run_id[:9], "0123456789abcdef")
    assert code == 1, printed
    told = {line.split()[0]: line for line in printed.splitlines() if "  " in line[:3]}
    for spec, place in ((by_table, "results/runs.parquet: loss: "), (by_record, "its record in runs/: loss: ")):
        assert f"{spec.run_id}  does not reproduce" in told[spec.run_id]
        assert place in told[spec.run_id]
        assert f"{spec.parent_id}  same bits" in told[spec.parent_id]
    assert "do not plan it" in told["0123456789abcdef"]
    assert "5 runs: 2 same bits, 0 within seed noise, 3 does not reproduce" in printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--runs", "nowhere"], "error: RUN_ID: 'nowhere' is no run of this study"),
        (["--sample", "0"], "error: --sample: 0 is below 1"),
    ],
)
def test_a_wrong_command_is_told_in_one_line(finished, words, message):
    assert study(finished, "verify", *words) == (1, f"{message}\n")
