"""A study published twice, the second time with a new size, through real DVC, git, collect, fit and report.

Training is not the point: the records of the planned runs are drawn from a known law. Change panel, ledger and site are
compared with what the test computes from the files of both commits.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from ruamel.yaml import YAML
from scipy.stats import binomtest

from pipeline.execution.run_store import RunStore
from pipeline.experiments.experiment import RunResult
from pipeline.experiments.language_model.plan import describe
from pipeline.fitting.laws import Chinchilla
from pipeline.params import read_params
from pipeline.planning.table import CURVES
from pipeline.study import plan_runs
from tests.faults.project import NOWHERE
from tests.small_study import SMALL
from tests.test_pipeline import change, copy_project, environment

TRUTH = Chinchilla(E=0.8, A=28.0, alpha=0.35, B=75.0, beta=0.36)
GRID = "widths: [16, 32, 48, 64, 96], tokens: [20_000, 40_000, 80_000, 160_000]"
MISSED = 40_000
"""Tokens of the run of the new size whose loss is far from the law."""
DOCUMENTS = np.arange(64, dtype=np.int32)


def call(folder, *command, check=True):
    """Output of a command in the project, whose MLflow is down; (exit code, output) where it may fail."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment(folder, MLFLOW_TRACKING_URI=NOWHERE, OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1"),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == 0 or not check, done.stdout
    return done.stdout if check else (done.returncode, done.stdout)


def study(folder, *words, **options):
    return call(folder, sys.executable, "-c", "from pipeline.command import main; main()", *words, **options)


def commit(folder, message):
    call(folder, "git", "add", "-A")
    call(folder, "git", "-c", "user.name=A. Author", "-c", "user.email=a@example.org", "commit", "-qm", message)
    return call(folder, "git", "rev-parse", "HEAD").strip()


def loss_of(facts, seed):
    """The loss of a run by the known law: noise of 0.1 %, and one run of the new size far off."""
    noise = 1e-3 * np.random.default_rng([facts["width"], facts["D"], seed]).standard_normal()
    far = 0.25 if facts["width"] == 192 and abs(facts["D"] - MISSED) < 2_000 else 0.0
    return float(TRUTH.loss(facts["N_non_embedding"], facts["D"]) * np.exp(noise + far))


def record_runs(folder):
    """Writes the records that training would leave, for every planned run that has none."""
    params, store = read_params(folder / "params.yaml"), RunStore(folder)
    for spec in plan_runs(params, folder / "data/tokens")[0]:
        if store.settled(spec.run_id):
            continue
        facts = describe(spec, 0)
        loss = loss_of(facts, spec.seed)
        steps = np.linspace(facts["D"] / 4, facts["D"], 4).round()
        curve = dict.fromkeys(list(CURVES)[1:], np.full(4, 256.0)) | {"tokens": steps, "train_loss": loss + 1 / steps}
        windows = 64 * loss * (1 + 0.1 * np.random.default_rng(0).standard_normal(64))
        arrays = {"losses": windows.astype(np.float32), "documents": DOCUMENTS}
        scalars = {} if spec.kind == "trunk" else {"loss": loss, "bits_per_byte": loss / np.log(2)}
        result = RunResult("finished", None, scalars, curve, arrays, 0, facts["D"], keeps_checkpoint=False)
        store.add(spec, result, {"seconds": 1.0, "tokens": facts["D"], "attempts": 1, "device": "cpu"})


def finish(folder, message):
    """The study carried out as its parameters say, and committed."""
    call(folder, "dvc", "repro", "prepare")
    record_runs(folder)
    call(folder, "dvc", "repro")
    return commit(folder, message)


def held(folder, revision, path):
    return subprocess.run(["git", "show", f"{revision}:{path}"], cwd=folder, capture_output=True, check=True).stdout


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The project after two publications: its folder, the commits of both results, and what `publish` printed."""
    folder, remote = tmp_path_factory.mktemp("published"), tmp_path_factory.mktemp("remote")
    copy_project(folder)
    text = SMALL.replace("widths: [16, 32], tokens: [20_000, 40_000, 80_000]", GRID).replace(
        "name: small", 'name: "A & <b>"'
    )
    (folder / "params.yaml").write_text(text)
    call(folder, "dvc", "init", "-q", "-f")
    first = finish(folder, "First results")
    said = [study(folder, "publish")]
    commit(folder, "Publish")
    call(folder, "dvc", "remote", "add", "-q", "-d", "shelf", str(remote))
    change(folder, "64, 96]", "64, 96, 192]")
    second = finish(folder, "A new size")
    said.append(study(folder, "publish"))
    commit(folder, "Publish again")
    return folder, (first, second), said, remote


@pytest.fixture
def copy(published, tmp_path):
    """A copy of the project, published twice."""
    return Path(shutil.copytree(published[0], tmp_path / "copy", symlinks=True))


def publications(folder):
    found = [json.loads(path.read_text()) for path in (folder / "publications").glob("*.json")]
    return sorted(found, key=lambda one: one["published_at"])


def test_what_was_foretold_is_what_the_law_of_that_day_says_of_runs_that_were_not_planned(published, tmp_path):
    folder, (first, _), _, _ = published
    one = publications(folder)[0]
    assert one["commit"] == first
    planned = pl.read_csv(held(folder, first, "results/runs.csv")).filter(pl.col("kind") == "cooldown")
    made = set(planned.select("N_non_embedding", "D").iter_rows())
    assert {(x["N"], x["D"]) for x in one["forecasts"]}.isdisjoint(made)
    assert {x["width"] for x in one["forecasts"]} == {16, 32, 48, 64, 96, 192, 384}
    assert len(one["forecasts"]) == 7 * 6 - 5 * 4
    (tmp_path / "results/fit/language_model").mkdir(parents=True)
    for name in ("results/findings.json", "results/fit/language_model/draws.csv"):
        (tmp_path / name).write_bytes(held(folder, first, name))
    law = json.loads((tmp_path / "results/findings.json").read_text())["experiments"]["language_model"]["summary"]
    values = law["laws"][law["chosen"]]["params"]
    for foretold in one["forecasts"]:
        parts = values["A"] / foretold["N"] ** values["alpha"], values["B"] / foretold["D"] ** values["beta"]
        q = values.get("q", 1.0)
        assert foretold["predicted"] == pytest.approx(
            values["E"] + (parts[0] ** q + parts[1] ** q) ** (1 / q), rel=1e-6
        )
    foretold = one["forecasts"][-1]
    asked = ("predict", "--params", str(foretold["N"]), "--tokens", str(foretold["D"]), "--json", "out.json")
    code = "from pipeline.command import main; main()"
    subprocess.run([sys.executable, "-c", code, *asked], cwd=tmp_path, env=environment(folder), check=True)
    said = json.loads((tmp_path / "out.json").read_text())
    assert [foretold["low"], foretold["high"]] == pytest.approx(said["prediction_interval"], rel=1e-9)
    assert foretold["extrapolation"] == pytest.approx(said["extrapolation"], rel=1e-9)


def test_the_ledger_scores_the_new_size_and_leaves_the_rest_open(published):
    folder, (_, second), _, _ = published
    one, two = publications(folder)
    ledger = pl.read_csv(folder / "reports/tables/ledger.csv", infer_schema_length=None)
    assert len(ledger) == len(one["forecasts"]) + len(two["forecasts"])
    made = pl.read_csv(held(folder, second, "results/runs.csv")).filter(pl.col("kind") == "cooldown")
    losses = {(N, D): loss for N, D, loss in made.select("N_non_embedding", "D", "loss").iter_rows()}
    scored = ledger.filter(pl.col("measured").is_not_null())
    assert scored["width"].to_list() == [192] * 4
    errors = []
    for row in scored.iter_rows(named=True):
        (was,) = (x for x in one["forecasts"] if (x["N"], x["D"]) == (row["N"], row["D"]))
        measured = losses[row["N"], row["D"]]
        assert row["measured"] == pytest.approx(measured, rel=1e-6)
        errors.append(measured / was["predicted"] - 1)
        assert row["error"] == pytest.approx(errors[-1], abs=1e-6)
        assert row["inside"] == (was["low"] <= measured <= was["high"]) == (abs(row["D"] - MISSED) > 2_000)
        assert row["outcome"] == ("inside" if row["inside"] else "outside")
    assert set(ledger.filter(pl.col("measured").is_null())["outcome"]) == {"open"}
    page = " ".join((folder / "reports/index.html").read_text().split())
    low, high = binomtest(3, 4).proportion_ci(0.95)
    rms = 100 * float(np.sqrt(np.mean(np.square(errors))))
    assert "Of 4 that were put to the test, 3 came out inside their interval (75" in page
    assert f"interval {100 * low:.0f} % to {100 * high:.0f} %" in page
    assert f"relative error of {rms:.0f} % rms" in page
    assert f"; {len(ledger) - 4} are open." in page


def test_the_change_panel_says_what_differs_between_both_commits(published):
    folder, commits, said, _ = published
    findings = [json.loads(held(folder, one, "results/findings.json"))["experiments"] for one in commits]
    laws = [one["language_model"]["summary"] for one in findings]
    chosen = [one["laws"][one["chosen"]] for one in laws]
    table = pl.read_csv(folder / "reports/tables/changes_parameters.csv", infer_schema_length=None)
    assert set(table["parameter"]) == {"a", *chosen[0]["params"], *chosen[1]["params"]}
    for row in table.iter_rows(named=True):
        name = row["parameter"]
        for when, law, one in zip(("before", "now"), laws, chosen, strict=True):
            value = law["frontier"]["a"] if name == "a" else one["params"].get(name)
            ends = law["frontier"]["a_interval"] if name == "a" else one["intervals"].get(name) or (None, None)
            assert [row[when], row[f"{when}_low"], row[f"{when}_high"]] == [value, *ends]
    runs = [pl.read_csv(held(folder, one, "results/runs.csv"), infer_schema_length=None) for one in commits]
    came = set(runs[1]["run_id"]) - set(runs[0]["run_id"])
    changed = pl.read_csv(folder / "reports/tables/changes_runs.csv", infer_schema_length=None)
    assert set(changed["run_id"]) == came
    assert len(came) == 8
    assert set(changed["change"]) == {"added"}
    assert set(changed["width"]) == {192}
    verdicts = [
        {(name, x["law"], x["role"]): x["verdict"] for name, all_of in one.items() for x in all_of["findings"]}
        for one in findings
    ]
    assert '<th scope="col"></th>' not in (folder / "reports/index.html").read_text()
    differing = {key for key in verdicts[0].keys() | verdicts[1].keys() if verdicts[0].get(key) != verdicts[1].get(key)}
    shown = pl.read_csv(folder / "reports/tables/changes_verdicts.csv", infer_schema_length=None)
    assert set(shown.select("experiment", "law", "role").iter_rows()) == differing
    assert "first publication of this study" in said[0]
    assert "8 added" in said[1]


def test_the_site_has_both_versions_and_is_built_by_the_workflow_without_any_package(published, tmp_path):
    folder, commits, said, remote = published
    one, two = publications(folder)
    names = [f"{x['published_at'][:10]}-{x['commit'][:7]}" for x in (one, two)]
    flow = YAML(typ="safe").load(Path(".github/workflows/pages.yml"))
    steps = flow["jobs"]["deploy"]["steps"]
    (script,) = [step["run"] for step in steps if "run" in step]
    assert flow["permissions"] == {"contents": "read", "pages": "write", "id-token": "write"}
    assert [step["with"]["fetch-depth"] for step in steps if "checkout" in step.get("uses", "")] == [0]
    uploads = [step for step in steps if "upload-pages-artifact" in step.get("uses", "")]
    assert steps.index(uploads[0]) > next(place for place, step in enumerate(steps) if "run" in step)
    clone = tmp_path / "clone"
    call(tmp_path, "git", "clone", "-q", str(folder), str(clone))
    bare = {"PATH": os.environ["PATH"]}
    command = script.replace("python3", f"{sys.executable} -S")
    subprocess.run(["bash", "-ec", command], cwd=clone, env=bare, check=True)
    site = clone / uploads[0]["with"]["path"]
    assert "A &amp; &lt;b&gt;" in (site / "versions/index.html").read_text()
    assert (site / f"versions/{names[0]}/index.html").exists()
    assert f'href="{names[0]}/index.html"' in (site / "versions/index.html").read_text()
    page, committed = (site / "index.html").read_text(), (folder / "reports/index.html").read_text()
    assert (
        page.replace('<p><a href="versions/index.html">All versions of this page</a></p>', "<!--versions-->")
        == committed
    )
    assert {p.name for p in (site / "tables").iterdir()} == {p.name for p in (folder / "reports/tables").iterdir()}
    machine = json.loads((site / "study.json").read_text())
    assert (machine["version"], machine["commit"]) == (names[1], commits[1])
    assert machine["parameters"] == two["state"]["parameters"]
    runs = pl.read_csv(held(folder, commits[1], "results/runs.csv"), infer_schema_length=None)
    assert {one["run_id"] for one in machine["runs"]} == set(runs["run_id"])
    cited = YAML(typ="safe").load(site / "CITATION.cff")
    assert (cited["title"], cited["version"], cited["commit"]) == ("A & <b>", names[1], commits[1])
    assert {author["name"] for author in cited["authors"]} == {"A. Author", "test"}
    mine = {p.relative_to(folder / "site"): p.read_bytes() for p in (folder / "site").rglob("*") if p.is_file()}
    assert mine == {p.relative_to(site): p.read_bytes() for p in site.rglob("*") if p.is_file()}
    call(tmp_path, "git", "clone", "-q", "--depth", "1", f"file://{folder}", "shallow")
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path / "shallow", env=bare, capture_output=True, text=True)
    assert done.returncode == 1
    assert "a shallow clone lacks the earlier versions" in done.stderr
    assert "no DVC remote is set" in said[0]
    assert "shipped to the DVC remote shelf" in said[1]
    assert len([path for path in remote.rglob("*") if path.is_file()]) > 48


def test_a_study_that_is_dirty_stale_or_tampered_with_is_not_published(copy):
    before = sorted(path.name for path in (copy / "publications").iterdir())
    assert "nothing new since" in study(copy, "publish")
    assert "nothing new since" in study(copy, "publish", "--dry-run")
    (copy / "results/runs.csv").write_text("tampered\n")
    assert "error: results/runs.csv: not committed" in _refused(copy)
    commit(copy, "Tampered")
    said = _refused(copy)
    assert "results/runs.csv" in said
    assert "the study is out of date; run `make study` and commit it" in said
    call(copy, "git", "revert", "--no-edit", "HEAD")
    path = next((copy / "publications").glob("*.json"))
    path.write_text(path.read_text().replace('"predicted": 2', '"predicted": 3', 1).replace('"low": 2', '"low": 1', 1))
    assert f"error: publications/{path.name}: not committed" in _refused(copy)
    commit(copy, "Tampered with a publication")
    assert "report (changed deps publications" in _refused(copy)
    code, printed = call(copy, "dvc", "repro", "report", check=False)
    assert code
    assert f"publications/{path.name}: digest: it was changed since it was published" in printed
    assert sorted(path.name for path in (copy / "publications").iterdir()) == before


def _refused(folder):
    """The one line of the refusal, with a dry run and without."""
    whole = study(folder, "publish", check=False)
    assert whole == study(folder, "publish", "--dry-run", check=False)
    code, printed = whole
    assert (code, printed.count("\n")) == (1, 1)
    return printed
