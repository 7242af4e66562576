"""Proves that a table of runs is read the same from every kind of file, and what is wrong with one told in one line.

Reference: tables written here, by Polars, gzip, zstandard and json.
"""

import gzip
import json
import os
import re

import numpy as np
import polars as pl
import pytest
import zstandard
from s3fs import S3FileSystem

from pipeline.external.read_runs import read_runs
from pipeline.external.table_file import read_sheet
from pipeline.fitting.laws import LAWS
from tests.command.known_laws import design, loss, table

NONE = dict.fromkeys("NDLC")
N, D = design(12)
ROWS = table(N, D, loss(N, D))


def read(path, law="chinchilla", cluster=None, recipe="recipe", **named):
    return read_runs(read_sheet(str(path)), LAWS[law], NONE | named, cluster, recipe)


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows.to_dicts()).encode()


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "csv.zst", "tsv", "jsonl", "jsonl.gz", "jsonl.zst", "parquet"])
def test_every_kind_of_file_gives_the_same_runs(tmp_path, kind):
    path = tmp_path / f"runs.{kind}"
    if kind == "parquet":
        ROWS.write_parquet(path)
    else:
        text = ROWS.write_csv(separator="\t" if kind == "tsv" else ",").encode() if "sv" in kind else lines(ROWS)
        pack = {"gz": gzip.compress, "zst": zstandard.compress}.get(kind.split(".")[-1], bytes)
        path.write_bytes(pack(text))
    found = read(path)
    for name in "NDL":
        np.testing.assert_array_equal(getattr(found.runs, name), ROWS[name].to_numpy())
    np.testing.assert_allclose(found.runs.C, 6 * N * D)
    assert (found.num_rows, found.cautions, found.absent, found.clusters) == (12, [], (), None)


@pytest.mark.parametrize(
    "names",
    [
        ("n", "d", "l", "c"),
        ("params", "tokens", "loss", "flops"),
        ("Parameters", "Training Tokens", "val_loss", "compute"),
        ("Model Size", "training_tokens", "Validation-Loss", "Training FLOP"),
    ],
)
def test_usual_names_are_found(tmp_path, names):
    ROWS.with_columns(C=6 * pl.col("N") * pl.col("D")).rename(dict(zip("NDLC", names, strict=True))).write_csv(
        tmp_path / "runs.csv"
    )
    assert tuple(read(tmp_path / "runs.csv").columns.values()) == names


def test_compute_stands_in_for_size_or_tokens(tmp_path):
    whole = ROWS.with_columns(C=6 * pl.col("N") * pl.col("D"))
    for dropped in "ND":
        whole.drop(dropped).write_csv(tmp_path / "runs.csv")
        found = read(tmp_path / "runs.csv").runs
        np.testing.assert_allclose(found.N, N)
        np.testing.assert_allclose(found.D, D)


def test_a_law_of_one_variable_needs_that_one(tmp_path):
    path = tmp_path / "runs.csv"
    pl.DataFrame({"C": 6 * N * D, "loss": ROWS["L"]}).write_csv(path)
    found = read(path, "saturating_C")
    np.testing.assert_allclose(6 * found.runs.N * found.runs.D, 6 * N * D)
    assert found.absent == ("N", "D")
    for law, wanted in (("chinchilla", "N"), ("saturating_N", "N"), ("broken_D", "D")):
        with pytest.raises(ValueError, match=rf"runs.csv: no column of {wanted} .*--{wanted}; the table has C, loss$"):
            read(path, law)


def test_a_law_of_compute_uses_the_compute_of_the_table(tmp_path):
    ROWS.with_columns(C=7.5 * pl.col("N") * pl.col("D")).write_csv(tmp_path / "runs.csv")
    found = read(tmp_path / "runs.csv", "broken_C").runs
    np.testing.assert_allclose(6 * found.N * found.D, 7.5 * N * D)
    np.testing.assert_array_equal(read(tmp_path / "runs.csv", "broken_C").as_given.N, ROWS["N"].to_numpy())


def test_clusters_and_recipes_are_labels(tmp_path):
    path = tmp_path / "runs.csv"
    group, recipe = np.resize(["x", "y", "z"], 12), np.resize(["new", "old"], 12)
    ROWS.with_columns(group=group, recipe=recipe).write_csv(path)
    found = read(path, "two_recipes", "group")
    assert found.recipes == ("new", "old")
    np.testing.assert_array_equal(found.runs.columns["recipe"], np.resize([0.0, 1.0], 12))
    assert [len(set(found.clusters[group == one])) for one in "xyz"] == [1, 1, 1]
    assert len(set(read(path, cluster="size").clusters)) == 12
    with pytest.raises(ValueError, match=r"column 'group' holds 3 recipes \('x', 'y', 'z'\); two are compared"):
        read(path, "two_recipes", recipe="group")
    with pytest.raises(ValueError, match=r"--cluster: no column 'host'; the table has N, D, L, group, recipe"):
        read(path, cluster="host")
    with pytest.raises(ValueError, match="no column 'unique_tokens'; the law data_constrained needs it"):
        read(path, "data_constrained")


def test_replicates_with_rounded_losses_stay(tmp_path):
    rounded = ROWS.with_columns(pl.col("L").round(1))
    pl.concat([rounded.with_columns(seed=pl.lit(seed)) for seed in range(5)]).write_csv(tmp_path / "runs.csv")
    found = read(tmp_path / "runs.csv")
    assert (found.num_rows, len(found.runs), found.cautions) == (60, 60, [])


def test_a_copy_is_one_however_its_numbers_are_written(tmp_path):
    (tmp_path / "runs.csv").write_text("N,D,L,host\n1e8,2e9,3,a\n100000000,2e9,3.0,a\n1e8,2e9,3,b\n", encoding="utf-8")
    found = read(tmp_path / "runs.csv")
    np.testing.assert_array_equal(found.copies, [False, True, False])
    assert "1 row is a copy of another in every column" in found.cautions[0].text


def test_copies_go_and_replicates_stay(tmp_path):
    other = ROWS.with_columns(pl.col("L") * 1.01)
    pl.concat([ROWS, other, ROWS]).write_csv(tmp_path / "runs.csv")
    found = read(tmp_path / "runs.csv")
    assert (found.num_rows, len(found.runs)) == (36, 24)
    assert [caution.name for caution in found.cautions] == ["duplicated_rows"]


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("N,params,D,L", "'N' and 'params' may each be N .*choose one by --N"),
        ("N,D,loss,val_loss", "'loss' and 'val_loss' may each be L .*choose one by --L"),
        ("N,D,score,x", "no column of L .*--L; the table has N, D, score, x"),
    ],
)
def test_columns_that_are_not_clear(tmp_path, header, words):
    (tmp_path / "runs.csv").write_text(f"{header}\n1,2,3,4\n", encoding="utf-8")
    with pytest.raises(ValueError, match=f"runs.csv: {words}"):
        read(tmp_path / "runs.csv")


def test_a_column_of_words_is_no_candidate(tmp_path):
    (tmp_path / "runs.csv").write_text("param_count,params,D,L\nkaplan,1000000,2e7,3.5\nall,2e6,4e7,3.25\n")
    assert read(tmp_path / "runs.csv").columns["N"] == "params"


@pytest.mark.parametrize(
    ("header", "columns"),
    [
        ("d,params,flops,loss", {"N": "params", "L": "loss", "C": "flops"}),
        ("l,n,params,tokens,final_val_loss", {"N": "params", "D": "tokens", "L": "final_val_loss"}),
        ("d,N,C,L", {"N": "N", "L": "L", "C": "C"}),
        ("d,config/n_params,summary/tokens_seen,L", {"N": "config/n_params", "D": "summary/tokens_seen", "L": "L"}),
        ("d,params,l", {"N": "params", "D": "d", "L": "l"}),
    ],
)
def test_a_small_letter_is_the_last_choice(tmp_path, header, columns):
    values = ",".join("1e8" for _ in header.split(","))
    (tmp_path / "runs.csv").write_text(f"{header}\n{values}\n", encoding="utf-8")
    assert read(tmp_path / "runs.csv").columns == columns


@pytest.mark.parametrize(
    ("header", "letter"),
    [("n,params_m,tokens,loss", "N"), ("l,params,tokens,smoothed_loss", "L"), ("d,N,mtokens,L", "D")],
)
def test_a_small_letter_is_not_taken_where_another_column_speaks_of_the_same(tmp_path, header, letter):
    (tmp_path / "runs.csv").write_text(f"{header}\n1,2,3,4\n", encoding="utf-8")
    with pytest.raises(ValueError, match=f"no column of {letter} .*name it by --{letter}; the table has"):
        read(tmp_path / "runs.csv")


@pytest.mark.parametrize(
    ("scale", "told"),
    [
        ({"N": 1e-9, "D": 1e-9}, "the smallest N is 0.01.*, D is 1.*: N counts parameters"),
        ({"N": 1e-6}, "the smallest N is 10.*: N"),
        ({"D": 1e-9}, "the smallest D is 1.*: N"),
    ],
)
def test_units_that_are_no_parameters_or_tokens_are_told(tmp_path, scale, told):
    ROWS.with_columns(pl.col(name) * factor for name, factor in scale.items()).write_csv(tmp_path / "runs.csv")
    (caution,) = read(tmp_path / "runs.csv").cautions
    assert caution.name == "units"
    assert re.search(told, caution.text)
    assert "write its columns in full (7e9, not 7)" in caution.text


def test_units_of_compute_are_told_where_it_gives_the_tokens(tmp_path):
    ROWS.select("N", "L", C=6e-18 * pl.col("N") * pl.col("D")).write_csv(tmp_path / "runs.csv")
    (caution,) = read(tmp_path / "runs.csv").cautions
    assert re.match(r"the smallest D = C / 6 N is .*e-0\d, C is .*: N counts", caution.text)


def test_a_mapped_column_settles_it(tmp_path):
    (tmp_path / "runs.csv").write_text("N,params,D,L\n1,2,3,4\n", encoding="utf-8")
    assert read(tmp_path / "runs.csv", N="params").runs.N == 2
    with pytest.raises(ValueError, match="--L: no column 'x'; the table has N, params, D, L"):
        read(tmp_path / "runs.csv", N="params", L="x")


@pytest.mark.parametrize("column", ["N", "D", "L"])
@pytest.mark.parametrize(
    ("value", "told"),
    [(None, "missing"), (float("nan"), "nan"), (float("inf"), "inf"), (0.0, "0.0"), (-1.0, "-1.0"), ("abc", "'abc'")],
)
@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_value_that_is_no_positive_number_is_named(tmp_path, column, value, told, kind):
    rows = ROWS.to_dicts()
    rows[4][column] = value
    rows[9][column] = value
    if isinstance(value, str):
        rows = [row | {column: str(row[column])} for row in rows]
    broken, path = pl.DataFrame(rows), tmp_path / f"runs.{kind}"
    if kind == "csv":
        broken.write_csv(path)
    elif kind == "parquet":
        broken.write_parquet(path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with pytest.raises(
        ValueError, match=rf"runs.{kind}: row 5 \(first of 2\): column '{column}': .*(?i:{told})"
    ) as raised:
        read(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("runs.csv", b"", "the table is empty"),
        ("runs.csv", b"N,D,L\n", "the table has no rows"),
        ("runs.csv", b"N,D,L\n1,2,3,4\n", "cannot be read as csv: "),
        ("runs.csv", b'\xef\xbb\xbfN,D,L,"L"\r\n1,2,3,4\r\n', "2 columns are called 'L'"),
        ("runs.tsv", b"N\tN\tD\tL\tN\n1\t2\t3\t4\t5\n", "3 columns are called 'N'"),
        ("runs.csv", b"N,D,L\n\xff,2,3\n", "cannot be read as csv: "),
        ("runs.csv.gz", b"N,D,L\n1,2,3\n", "Not a gzipped file"),
        ("runs.csv.zst", b"N,D,L\n1,2,3\n", "cannot be unpacked: "),
        ("runs.jsonl", b'{"N": 1}\n{"N": \n', "line 2: not JSON: "),
        ("runs.jsonl", b"[1, 2]\n", "line 1: list, not an object of columns"),
        ("runs.parquet", b"N,D,L\n1,2,3\n", "cannot be read as parquet: "),
        ("runs.xlsx", b"N,D,L\n1,2,3\n", "unknown kind of file; one of .csv, "),
    ],
)
def test_a_file_that_is_no_table(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name}: {words}") as raised:
        read(tmp_path / name)
    assert "\n" not in str(raised.value)


def test_columns_without_a_name_may_be_several(tmp_path):
    (tmp_path / "runs.csv").write_text("N,D,L,,\n1e8,2e9,3,,\n", encoding="utf-8")
    assert read(tmp_path / "runs.csv").num_rows == 1


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match=r"runs.csv: No such file or directory"):
        read(tmp_path / "runs.csv")


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("http://127.0.0.1:9/runs.csv", "ClientConnectorError: Cannot connect to host 127.0.0.1:9"),
        ("s3://nobody/runs.csv", "NoCredentialsError: Unable to locate credentials"),
        ("nowhere://runs.csv", "ValueError: Protocol not known: nowhere"),
    ],
)
def test_an_address_that_gives_nothing_says_why(tmp_path, monkeypatch, address, told):
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setattr(S3FileSystem, "_cache", {})
    with pytest.raises(ValueError, match=f"^{re.escape(f'{address}: cannot be read: {told}')}") as raised:
        read_sheet(address)
    assert "\n" not in str(raised.value)
