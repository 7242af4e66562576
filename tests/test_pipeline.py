"""The whole pipeline on a small real corpus, with real DVC, Ray and MLflow, as a user runs it and as it is killed."""

import json
import math
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from ruamel.yaml import YAML

from benchmarks.increment import SMALL as SMALL_GRID
from benchmarks.increment import shrink
from pipeline.params import read_params
from tests.command.known_laws import TRUTH, design, loss, noise, table
from tests.small_study import LAW, SMALL

ROOT = Path(__file__).resolve().parents[1]
PAGE = 4096
"""What a file on a tmpfs takes room in, bytes."""
NOTE = "note: params.yaml: prepare.sources.0.path: pipeline/**/*.py lies outside corpus/, which DVC watches: "


def copy_project(folder):
    """The tracked files of the project in `folder`, as a git repository of its own with the small study."""
    names = subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines()
    for name in names:
        if not name.startswith(("results/", "reports/", "dvc.lock", "publications/2")) and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / "params.yaml").write_text(SMALL)
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "A small study"]):
        identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
        subprocess.run(["git", *identity, *command], cwd=folder, check=True)
    return folder


def environment(folder, **extra):
    clean = {k: v for k, v in os.environ.items() if k not in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI", "STUDY_WORKERS")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return clean | {"PATH": path, "PYTHONPATH": str(folder), "PYTHONUNBUFFERED": "1"} | extra


def run(folder, *command, check=True, **extra):
    """Output of a command in the project; its exit code must be 0 unless `check` is off."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment(folder, **extra),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == 0 or not check, done.stdout
    return done.stdout if check else (done.returncode, done.stdout)


def records(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted((folder / "runs").rglob("*")) if p.is_file()}


def shown(folder):
    """Every byte of the results and of the report, by path."""
    files = [path for name in ("results", "reports") for path in sorted((folder / name).rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def change(folder, before, after):
    text = (folder / "params.yaml").read_text()
    assert before in text
    (folder / "params.yaml").write_text(text.replace(before, after))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A project whose small study has run undisturbed, and what it printed."""
    folder = copy_project(tmp_path_factory.mktemp("study"))
    return folder, run(folder, "dvc", "repro")


@pytest.fixture
def copy(study, tmp_path):
    """A copy of the finished study to change at will."""
    return Path(shutil.copytree(study[0], tmp_path / "copy"))


def test_a_study_runs_from_corpus_to_report(study):
    folder, printed = study
    assert "18 runs planned: 18 new, 0 reused" in printed
    assert printed.count(NOTE) == 1
    runs = pl.read_parquet(folder / "results/runs.parquet")
    assert runs.height == 18
    assert set(runs["status"]) == {"finished"}
    points = runs.filter(pl.col("kind") == "cooldown")
    assert points.height == 9
    assert points["loss"].is_between(1.0, 5.0).all()
    largest = points.filter((pl.col("width") == 32) & (pl.col("D") > 60_000))
    assert largest["loss"].item() == points["loss"].min()
    assert "<svg" in (folder / "reports/index.html").read_text()
    assert [path.name for path in (folder / "scratch").iterdir()] == ["driver.lock"]


def test_mlflow_holds_one_run_a_training_run_and_can_be_rebuilt(study, copy):
    code = """
import mlflow, os
from mlflow import MlflowClient
client = MlflowClient(f"sqlite:///{os.getcwd()}/mlflow.db")
experiment = client.get_experiment_by_name("small")
runs = client.search_runs([experiment.experiment_id], max_results=1000)
print(sorted(run.data.tags["run_id"] for run in runs if "run_id" in run.data.tags))
"""
    planned = sorted(pl.read_parquet(copy / "plan/runs.parquet")["run_id"])
    assert run(copy, sys.executable, "-c", code).splitlines()[-1] == str(planned)
    for name in ("mlflow.db", "mlartifacts"):
        path = copy / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    run(copy, "study", "track")
    run(copy, "study", "track")
    assert run(copy, sys.executable, "-c", code).splitlines()[-1] == str(planned)


def test_an_unchanged_study_and_a_comment_retrain_nothing(copy):
    before = records(copy)
    assert "Running stage" not in run(copy, "dvc", "repro")
    source = copy / "pipeline/models/transformer.py"
    source.write_text("# A comment.\n" + source.read_text())
    assert "18 runs planned: 0 new, 18 reused" in run(copy, "dvc", "repro")
    assert records(copy) == before


@pytest.mark.timeout(600)
def test_a_law_beside_the_study_costs_its_own_runs_and_no_others(copy):
    kept = records(copy)
    change(copy, "laws: {}\n", LAW)
    assert "38 runs planned: 20 new, 18 reused" in run(copy, "dvc", "repro")
    assert records(copy).items() >= kept.items()
    assert "Deep linear networks" in (copy / "reports/index.html").read_text()
    before = records(copy)
    change(copy, "imbalances: [0.5, 2.0]", "imbalances: [0.5, 3.0]")
    assert "38 runs planned: 2 new, 36 reused" in run(copy, "dvc", "repro")
    assert records(copy).items() >= before.items()
    assert (copy / "results/fit/deep_linear").is_dir()
    assert "holds 40 training runs" in run(copy, "study", "track")
    shutil.rmtree(copy / "runs")
    (copy / "mlflow.db").unlink()
    assert "holds 38 training runs" in run(copy, "study", "track")
    text = (copy / "params.yaml").read_text()
    (copy / "params.yaml").write_text(text.replace(LAW.replace("2.0]\n    s", "3.0]\n    s"), "laws: {}\n"))
    run(copy, "dvc", "repro")
    assert not [name for name in shown(copy) if "deep_linear" in name]
    assert "up to date" in run(copy, "dvc", "status")
    assert "results/metrics.json" in run(copy, "dvc", "metrics", "show")


def test_runs_from_elsewhere_stand_beside_a_study_and_train_nothing(copy):
    kept, results = records(copy), (copy / "results/runs.parquet").read_bytes()
    judged = json.loads((copy / "results/findings.json").read_text())["experiments"]
    N, D = design(40)
    table(N, D, loss(N, D) * noise(40, 0.003)).write_csv(copy / "external/theirs.csv")
    published = 'published: {source: "A paper & <b>its</b> table", numbers: {alpha: 0.34}}'
    change(copy, "collect: {}", f"collect: {{external: [{{name: theirs, path: external/theirs.csv, {published}}}]}}")
    printed = run(copy, "dvc", "repro")
    assert "external: theirs: 40 rows of external/theirs.csv" in printed
    assert "Running stage 'train'" not in printed
    assert records(copy) == kept
    assert (copy / "results/runs.parquet").read_bytes() == results
    found = json.loads((copy / "results/findings.json").read_text())
    assert found["experiments"] == judged
    low, high = found["external"]["theirs"]["intervals"]["alpha"]
    assert low < TRUTH["alpha"] < high
    page = (copy / "reports/index.html").read_text()
    assert '<section id="external-theirs">' in page
    assert "A paper &amp; &lt;b&gt;its&lt;/b&gt; table" in page
    assert (copy / "reports/tables/external_theirs_published.csv").read_text().startswith("quantity,value,low,high")
    assert "Running stage" not in run(copy, "dvc", "repro")
    (copy / "external/theirs.csv").write_text("N,D,L\n1e8,1e9,high\n")
    code, printed = run(copy, "dvc", "repro", check=False)
    assert code
    told = "params.yaml: collect.external.0 (theirs): external/theirs.csv: row 1: column 'L': 'high' is not"
    assert told in printed
    assert records(copy) == kept


def test_another_learning_rate_retrains_everything(copy):
    change(copy, "matrix_rate: 0.01", "matrix_rate: 0.02")
    bill = run(copy, "study", "bill")
    assert "18 runs planned: 18 new, 0 reused" in bill
    assert bill.count(NOTE) == 1


def test_a_larger_token_count_and_a_new_size_train_only_what_is_new(copy):
    before = records(copy)
    change(copy, "80_000]", "80_000, 160_000]")
    bill = run(copy, "study", "bill")
    assert "24 runs planned: 6 new, 18 reused" in bill
    assert bill.count("cooldown to 159,936 tokens") == bill.count("trunk to 1") == 3
    run(copy, "dvc", "repro")
    after = records(copy)
    assert all(after[name] == data for name, data in before.items())
    assert len({Path(name).parts[1] for name in after}) == 24
    change(copy, "widths: [16, 32]", "widths: [16, 32, 48]")
    assert "32 runs planned: 8 new, 24 reused" in run(copy, "study", "bill")


def test_killed_at_any_moment_with_one_worker_and_no_mlflow_the_result_is_the_same(study, tmp_path):
    """kill -9 of the driver, then of the whole process group; one worker, not two; an MLflow server that is down."""
    folder = copy_project(tmp_path / "killed")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    extra = {"STUDY_WORKERS": "1", "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}"}
    run(folder, "dvc", "repro", "plan", **extra)
    for whole_group in (False, True):
        before = records(folder) if (folder / "runs").exists() else {}
        with subprocess.Popen(
            ["dvc", "repro"],
            cwd=folder,
            env=environment(folder, **extra),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process:
            for line in process.stdout:
                if "loss" in line:
                    break
            else:
                pytest.fail("training ended before it could be killed")
            if whole_group:
                os.killpg(process.pid, signal.SIGKILL)
            else:
                subprocess.run(["pkill", "-9", "-s", str(process.pid), "-f", "stages.train"], check=True)
            process.stdout.read()
        assert len(records(folder)) > len(before)
        assert records(folder).items() >= before.items()
    kept = records(folder)
    printed = run(folder, "dvc", "repro", **extra)
    assert ", 0 reused" not in printed
    assert "make track" in printed
    assert records(folder).items() >= kept.items()
    for name in ("runs.parquet", "curves.parquet"):
        assert (folder / "results" / name).read_bytes() == (study[0] / "results" / name).read_bytes()
    assert records(folder) == records(study[0])


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("depth: 2", "depht: 2", "params.yaml: language_model.model.depht: unknown key (value 2)"),
        ("80_000]", "-80_000]", "language_model.grid.tokens.2: Input should be greater than 0"),
        ("tokens: [20_000", "tokens: [99_000_000, 20_000", "set language_model.allow_repeats"),
        ("pipeline/**/*.py", "nowhere/*.txt", "nowhere/*.txt"),
        ("collect: {}", "collect: {round_digits: 99}", "params.yaml: collect.round_digits: Input should be less than"),
        ("fit: {", "fit: {estimator: hubr, ", "params.yaml: fit.estimator: Input should be 'huber',"),
        ("study: {", "foo: 1\nstudy: {", "params.yaml: foo: unknown key (value 1)"),
    ],
)
def test_bad_input_ends_in_one_clear_line_and_loses_nothing(copy, before, after, message):
    kept = records(copy) | shown(copy)
    change(copy, before, after)
    code, printed = run(copy, "dvc", "repro", check=False)
    assert code != 0
    assert printed.count(message) == 1
    assert "Traceback" not in printed
    assert records(copy) | shown(copy) == kept


def test_a_damaged_publication_leaves_the_report_as_it_was(copy):
    kept = shown(copy)
    (copy / "publications/2026-01-01-0000000.json").write_text("{")
    code, printed = run(copy, "dvc", "repro", check=False)
    assert code != 0
    assert printed.count("publications/2026-01-01-0000000.json: ") == 1
    assert "Traceback" not in printed
    assert shown(copy) == kept


def test_the_dials_of_the_corpus_example_fit_it_and_those_of_the_project_are_refused_before_training(tmp_path):
    folder, yaml = copy_project(tmp_path), YAML()
    shown = (folder / "corpus/README.md").read_text()
    (commands,), blocks = (re.findall(rf"```{kind}\n(.*?)```", shown, re.DOTALL) for kind in ("sh", "yaml"))
    run(folder, "bash", "-ec", commands)
    params = yaml.load(ROOT / "params.yaml")
    prepare, dials = (yaml.load(block) for block in blocks)
    yaml.dump(params | prepare, folder / "params.yaml")
    run(folder, "dvc", "repro", "prepare")
    code, printed = run(folder, "study", "bill", check=False)
    assert code == 1
    assert "language_model.grid.tokens: 240000: D = 240,000 tokens are more than the" in printed
    params["language_model"] |= dials["language_model"]
    yaml.dump(params | prepare | {"laws": {}}, folder / "params.yaml")
    assert "runs planned" in run(folder, "study", "bill")
    params["language_model"]["evaluation"]["windows"] = 4096
    yaml.dump(params | prepare | {"laws": {}}, folder / "params.yaml")
    code, printed = run(folder, "study", "bill", check=False)
    assert code == 1
    assert "params.yaml: language_model.evaluation.windows: 4096 windows of 64 tokens, at most 64 from one" in printed
    prepare["prepare"]["validation_fraction"] = 0.1
    yaml.dump(params | prepare | {"laws": {}}, folder / "params.yaml")
    code, printed = run(folder, "study", "bill", check=False)
    assert (code, printed.count("\n")) == (1, 1)
    assert "data/tokens: prepared from other sources" in printed


@pytest.mark.timeout(600)
def test_a_model_and_a_corpus_of_the_users_own_go_through_the_whole_study(tmp_path):
    """The mixer of own/mixer.py on the corpus of corpus/README.md; an edit of the model trains everything anew, since
    every number may change."""
    folder = copy_project(tmp_path)
    shown = (folder / "corpus/README.md").read_text()
    (commands,), (prepare, _) = (re.findall(rf"```{kind}\n(.*?)```", shown, re.DOTALL) for kind in ("sh", "yaml"))
    run(folder, "bash", "-ec", commands)
    change(folder, SMALL[SMALL.index("prepare:") : SMALL.index("language_model:")], prepare)
    change(folder, "context: 64}", "context: 64, build: 'own.mixer:build'}")
    change(
        folder, "widths: [16, 32], tokens: [20_000, 40_000, 80_000]", "widths: [16, 32, 48], tokens: [10_000, 20_000]"
    )
    change(folder, "seeds: [1], widths", "seeds: [], widths")
    run(folder, "dvc", "repro")
    runs = pl.read_parquet(folder / "results/runs.parquet").filter(pl.col("kind") == "cooldown")
    assert set(runs["status"]) == {"finished"}
    for width, group in runs.group_by("width"):
        C, T = width[0], 64
        N = 2 * (9 * C * C + 2 * C + C // 16 * T * T)
        assert set(group["N_non_embedding"]) == {N}
        assert set(group["C"] / group["D"]) == {6 * (2 * 9 * C * C + 512 * C) + 6 * 2 * T * C}
    assert runs["loss"].is_between(2.0, math.log(512)).all()
    assert json.loads((folder / "data/tokens/manifest.json").read_text())["sources"][0]["documents"] >= 30
    assert "models that own.mixer:build makes" in (folder / "reports/index.html").read_text()
    source = folder / "own/mixer.py"
    source.write_text(source.read_text().replace("* 0.02", "* 0.03"))
    run(folder, sys.executable, "-m", "stages.plan")
    assert not set(pl.read_parquet(folder / "plan/runs.parquet")["run_id"]) & {
        path.name for path in folder.glob("runs/*")
    }


@pytest.mark.parametrize(
    ("names", "room"),
    [(("data", "plan", "params.yaml"), 700_000), (("data", "plan", "params.yaml", "pipeline", "stages"), 100_000)],
)
def test_a_full_disk_stops_the_study_and_loses_nothing(study, copy, tmp_path, names, room):
    """Training on a file system of the kernel's, made for this test alone, with room for some of the runs, or for not
    even the compiled code."""
    small = tmp_path / "disk"
    small.mkdir()
    for cache in copy.rglob("__pycache__"):
        shutil.rmtree(cache)
    moves = " && ".join(f"cp -r {copy}/{name} ." for name in names)
    paths = [path for name in names for path in [copy / name, *(copy / name).rglob("*")]]
    size = room + sum(-(-path.stat().st_size // PAGE) * PAGE for path in paths)
    script = (
        f"mount -t tmpfs -o size={size} tmpfs {small} && cd {small} && {moves} && "
        f"({sys.executable} -m stages.train; echo exit $?; rm -rf data; mkdir -p runs; cp -r runs {tmp_path}/kept)"
    )
    done = subprocess.run(
        ["unshare", "--mount", "--map-root-user", "bash", "-c", script],
        env=environment(small, MLFLOW_TRACKING_URI="http://127.0.0.1:9")
        | {"PYTHONPATH": os.pathsep.join([str(small), str(study[0])]), "PYTHONDONTWRITEBYTECODE": "1"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if "unshare" in done.stdout or "mount:" in done.stdout:
        pytest.skip(f"this machine lends no file system of its own: {done.stdout.splitlines()[0]}")
    assert "exit 1" in done.stdout
    assert "No space left on device; free some room" in done.stdout
    assert "Traceback" not in done.stdout
    for path in (tmp_path / "kept").rglob("result.json"):
        assert path.read_bytes() == (study[0] / "runs" / path.parent.name / "result.json").read_bytes()


def test_the_default_parameters_are_valid():
    grid = read_params(ROOT / "params.yaml").language_model.grid
    assert (max(grid.widths) / min(grid.widths)) ** 2 >= 30
    assert max(grid.tokens) / min(grid.tokens) >= 16


def test_the_small_study_of_a_benchmark_has_valid_parameters(tmp_path):
    shutil.copy2(ROOT / "params.yaml", tmp_path)
    shrink(tmp_path)
    params = read_params(tmp_path / "params.yaml")
    assert params.laws.tested == {}
    assert params.language_model.grid.model_dump(include=set(SMALL_GRID)) == SMALL_GRID
