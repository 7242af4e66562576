"""Input made to do harm: refused in one line or shown as text; nothing runs, nothing lands outside the project."""

import ast
import json
import pickle
import re
import shutil
import socket
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import polars as pl
import psutil
import pytest
import torch

from pipeline.corpus.prepare import prepare_corpus
from pipeline.corpus.shards import MANIFEST, open_corpus, write_manifest
from pipeline.execution.digests import DIGESTS, seal
from pipeline.execution.run_store import RunStore
from pipeline.params import BytesTokenizer, Prepare, TextSource
from pipeline.planning.run_spec import RunSpec
from pipeline.planning.table import read_plan
from pipeline.storage import Damaged
from pipeline.training.checkpoint import read_checkpoint
from tests.faults.project import of_stage, say
from tests.reporting.conftest import build_report, runs_frame, write_study
from tests.test_pipeline import environment

ROOT = Path(__file__).resolve().parents[2]


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, canary: Path):
        self.canary = canary

    def __reduce__(self):
        return Path.touch, (self.canary,)


def test_the_bomb_goes_off_where_it_is_unpickled(tmp_path):
    pickle.loads(pickle.dumps(Bomb(tmp_path / "canary")))
    assert (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    "wrap", [lambda bomb: pickle.dumps(bomb), lambda bomb: b"\x08" + bytes(7) + pickle.dumps(bomb)]
)
def test_a_pickle_is_no_checkpoint(tmp_path, wrap):
    (tmp_path / "checkpoint").write_bytes(wrap(Bomb(tmp_path / "canary")))
    with pytest.raises(Damaged, match="checkpoint: not a checkpoint, or damaged"):
        read_checkpoint(str(tmp_path / "checkpoint"))
    torch.save({"state": Bomb(tmp_path / "canary")}, tmp_path / "checkpoint")
    with pytest.raises(Damaged, match="checkpoint: not a checkpoint, or damaged"):
        read_checkpoint(str(tmp_path / "checkpoint"))
    assert not (tmp_path / "canary").exists()


def test_a_pickle_in_an_array_of_the_corpus_is_refused(finished, tmp_path):
    """With a manifest made to match."""
    tokens = finished / "data/tokens"
    np.save(tokens / "token_bytes.npy", np.array([Bomb(tmp_path / "canary")] * 256, dtype=object), allow_pickle=True)
    facts = json.loads((tokens / MANIFEST).read_text())
    write_manifest(tokens, {name: value for name, value in facts.items() if name not in ("files", "sha256")})
    with pytest.raises(ValueError, match=r"not a prepared corpus .*allow_pickle=False") as told:
        open_corpus(tokens)
    assert "\n" not in str(told.value)
    assert not (tmp_path / "canary").exists()


def test_no_code_of_the_project_unpickles():
    """By its syntax: no import of a library that runs what it reads, no torch.load, no numpy.load that may unpickle."""
    for path in [*(ROOT / "pipeline").rglob("*.py"), *(ROOT / "stages").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [one.name for one in node.names]
                assert not {name.split(".")[0] for name in names} & {
                    "pickle",
                    "dill",
                    "joblib",
                    "cloudpickle",
                    "shelve",
                }
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ("eval", "exec"), path
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "load":
                owner = ast.unparse(node.func.value)
                assert owner != "torch", path
                if owner == "np":
                    assert "allow_pickle=False" in ast.unparse(node), path


def _rewritten(table: pl.DataFrame, change) -> pl.DataFrame:
    """The plan with the fields of its first spec changed, under the run_id that they give where they give one."""
    fields = change(json.loads(table["spec"][0]))
    text = fields if isinstance(fields, str) else json.dumps(fields)
    try:
        run_id = RunSpec(**fields).run_id
    except (TypeError, ValueError):
        run_id = table["run_id"][0]
    rows = pl.int_range(pl.len()) == 0
    return table.with_columns(
        pl.when(rows).then(pl.lit(text)).otherwise("spec").alias("spec"),
        pl.when(rows).then(pl.lit(run_id)).otherwise("run_id").alias("run_id"),
    )


FORGERIES = {
    "another run's id": (
        lambda t: t.with_columns(pl.lit("0123456789abcdef").alias("run_id")),
        r"run '0123456789abcdef': its spec is that of",
    ),
    "a path as id": (
        lambda t: t.with_columns(pl.lit("../../../etc/passwd").alias("run_id")),
        r"run '\.\./\.\./\.\./etc/passwd': its spec",
    ),
    "a path as parent": (
        lambda t: _rewritten(t, lambda x: x | {"parent_id": "../../../../tmp/x"}),
        r"run_id: '\.\./\.\./\.\./\.\./tmp/x' is not 16 hexadecimal digits",
    ),
    "a module as experiment": (
        lambda t: _rewritten(t, lambda x: x | {"experiment": "os.path"}),
        r"experiment: 'os\.path' is not the name of an experiment",
    ),
    "a field of another type": (lambda t: _rewritten(t, lambda x: x | {"seed": "0"}), "seed: '0' is not int"),
    "a field too many": (lambda t: _rewritten(t, lambda x: x | {"run": "rm"}), "run: unknown field"),
    "not an object": (lambda t: _rewritten(t, lambda x: "[]"), "is not a JSON object"),
    "deeper than Python nests": (lambda t: _rewritten(t, lambda x: "[" * 200_000), "recursion"),
    "a number without a value": (
        lambda t: _rewritten(t, lambda x: '{"a": NaN}'),
        "missing|unknown",
    ),
    "no specs": (lambda t: t.drop("spec"), "spec: None where the plan has String"),
    "numbers for names": (
        lambda t: t.with_columns(pl.lit(1).alias("kind")),
        "kind: Int32 where the plan has String",
    ),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_plan_is_refused_by_name(planned, name):
    forge, message = FORGERIES[name]
    path = planned / "plan/runs.parquet"
    forge(pl.read_parquet(path)).write_parquet(path)
    with pytest.raises(ValueError, match=message) as told:
        read_plan(path)
    assert str(told.value).startswith(f"{path}: ")
    assert "\n" not in str(told.value)


def test_a_stage_tells_a_forged_plan_in_one_line_and_writes_nothing(planned):
    path = planned / "plan/runs.parquet"
    FORGERIES["a path as parent"][0](pl.read_parquet(path)).write_parquet(path)
    before = {found for found in planned.parent.rglob("*") if "__pycache__" not in found.parts}
    code, printed = say(planned, *of_stage("train"))
    assert code == 1
    assert printed.count("\n") == 1
    assert "run `dvc repro -f plan`" in printed
    assert {found for found in planned.parent.rglob("*") if "__pycache__" not in found.parts} == before
    path.write_bytes(pickle.dumps(Bomb(planned / "canary")))
    code, printed = say(planned, *of_stage("train"))
    assert (code, printed.count("\n")) == (1, 1)
    assert not (planned / "canary").exists()


RECORDS = {
    "result.json": ["[]", "{}", '{"status": "finished"}', "[" * 100_000, "\ud800".encode("utf-8", "surrogatepass")],
    "spec.json": ["{}", "[]", "null"],
    "curve.parquet": [b"", b"PAR1", pickle.dumps([])],
    "arrays.safetensors": [b"", b"\xff" * 16, pickle.dumps([])],
}


@pytest.mark.parametrize(("name", "content"), [(name, content) for name, all in RECORDS.items() for content in all])
def test_a_record_of_the_wrong_kind_is_damaged_though_its_digests_agree(finished, name, content):
    store = RunStore(finished)
    run_id = sorted(path.name for path in (finished / "runs").iterdir())[0]
    (store.folder(run_id) / DIGESTS).unlink()
    (store.folder(run_id) / name).write_bytes(content.encode() if isinstance(content, str) else content)
    seal(store.folder(run_id))
    assert store.damaged(run_id).startswith(f"{store.folder(run_id) / name}: ")
    assert "\n" not in store.damaged(run_id)


@pytest.mark.parametrize(
    "change",
    [
        {"status": "best"},
        {"done": "9"},
        {"reason": 1},
        {"scalars": {"loss": "1.0"}},
        {"scalars": {"loss": True}},
        {"x": 1},
    ],
)
def test_a_result_of_the_wrong_types_is_damaged_though_its_digests_agree(finished, change):
    store = RunStore(finished)
    run_id = sorted(path.name for path in (finished / "runs").iterdir())[0]
    result = store.result(run_id) | change
    (store.folder(run_id) / DIGESTS).unlink()
    (store.folder(run_id) / "result.json").write_text(json.dumps(result))
    seal(store.folder(run_id))
    assert store.status(run_id) == "damaged"
    with pytest.raises(ValueError, match=r"result\.json: "):
        store.result(run_id)


def test_hostile_names_and_documents_are_only_text(tmp_path, monkeypatch):
    """File names with markup, quotes, line breaks, format fields and bytes that are no text; documents likewise."""
    monkeypatch.chdir(tmp_path)
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    names = ["<script>", "$(touch canary)", "`touch canary`;", "a\nb", "%s{0}", "a..b", "a'b\"c", "-rf"]
    kinds = [
        "<script>alert(1)</script>",
        "\ufeff\u202e\u0000",
        "{{ 7 * 7 }}{% raw %}",
        "\x1b[2J",
        "é" * 50_000,
        "\n" * 99,
    ]
    documents = [f"{kind} {number}" for number in range(12) for kind in kinds]
    for number, text in enumerate(documents):
        (corpus / f"{names[number % len(names)]}{number}").write_text(text)
    (corpus / "bytes").write_bytes(bytes(range(256)) * 10)
    with open(bytes(corpus) + b"/\xff\xfe", "wb") as file:
        file.write(b"a name that is no text")
    settings = Prepare(
        sources=[TextSource(kind="text", path="corpus")],
        tokenizer=BytesTokenizer(kind="bytes"),
        validation_fraction=0.3,
    )
    before = set(tmp_path.rglob("*"))
    manifest = prepare_corpus(settings, tmp_path / "data/tokens", lambda *_: None)
    opened = open_corpus(tmp_path / "data/tokens")
    text = bytes(opened.train).split(b"\0") + bytes(opened.validation).split(b"\0")
    kept = [document.encode() for document in documents if "\0" not in document] + [b"a name that is no text"]
    assert sorted(filter(None, text)) == sorted(kept)
    assert manifest["invalid"] == 13
    assert set(tmp_path.rglob("*")) - before == {
        tmp_path / "data",
        tmp_path / "data/tokens",
        *(tmp_path / "data/tokens").iterdir(),
    }


class Elements(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, html: str):
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data


def harm(field: str) -> str:
    """Markup that would run if it were taken for markup; says which field it came from."""
    return f"<script>alert('{field}')</script><img src=x onerror=\"alert('{field}')\">"


def _harmed(value: object, field: str, spared: tuple[str, ...]) -> object:
    """`value` with markup behind every text in it, but for the keys that the code goes by."""
    if isinstance(value, dict):
        return {key: one if key in spared else _harmed(one, f"{field}.{key}", spared) for key, one in value.items()}
    if isinstance(value, list):
        return [_harmed(one, field, spared) for one in value]
    return f"{value} {harm(field)}" if isinstance(value, str) else value


@pytest.fixture(scope="module")
def harmful(tmp_path_factory) -> Path:
    """A finished study with markup in every text of params.yaml and of the data, and its page."""
    root = write_study(tmp_path_factory.mktemp("harmful") / "study", runs_frame())
    params = (root / "params.yaml").read_text()
    for field, before in {"name": '"Loss & <scale>"', "path": "corpus}", "subtitle": '"a test study"'}.items():
        assert before in params
        params = params.replace(before, json.dumps(f"{field} {harm(field)}") + before[len(before.rstrip("}")) :])
    (root / "params.yaml").write_text(params)
    for name, spared in {
        "data/tokens/manifest.json": (),
        "results/findings.json": (
            *("kind", "role", "verdict", "figure", "status", "chosen", "convention", "estimator", "kind_of_delta"),
            "summary",
        ),
    }.items():
        path = root / name
        path.write_text(json.dumps(_harmed(json.loads(path.read_text()), path.stem, spared)))
    runs = pl.read_parquet(root / "results/runs.parquet")
    traceback = 'Traceback (most recent call last):\n  File "x.py"\nValueError: '
    failed = pl.col("status") != "finished"
    reason = pl.when(failed).then(pl.lit(traceback + harm("reason"))).otherwise("reason")
    kind = pl.when(failed).then(pl.col("recipe") + harm("recipe")).otherwise("recipe")
    role = pl.when(failed).then(pl.col("role") + harm("role")).otherwise("role")
    runs.with_columns(reason.alias("reason"), kind.alias("recipe"), role.alias("role")).write_parquet(
        root / "results/runs.parquet"
    )
    for path in (root / "telemetry").glob("*.json"):
        path.write_text(json.dumps(_harmed(json.loads(path.read_text()), "telemetry", ("run_id",))))
    lock = {"stages": {harm("stage"): {"deps": [{"path": harm("dep"), "md5": harm("md5"), "size": 1}]}}}
    (root / "dvc.lock").write_text(json.dumps(lock))
    for command in (["init", "-q"], ["commit", "-qm", "x", "--allow-empty"]):
        identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
        subprocess.run(["git", *identity, *command], cwd=root, check=True)
    (root / "<img src=x onerror=alert('file')>").write_text("")
    return build_report(root)


def test_markup_in_any_field_is_text_on_the_page(harmful):
    html = (harmful / "reports/index.html").read_text()
    page = Elements(html)
    tags = {tag for tag, _ in page.found}
    assert not tags & {"img", "iframe", "object", "embed", "base"}
    scripts = [facts.get("type") for tag, facts in page.found if tag == "script"]
    assert scripts == ["application/json", "application/json", None]
    (run,) = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    assert "alert" not in run
    assert [facts["class"] for tag, facts in page.found if tag == "form"] == ["calculator"]
    assert [facts for tag, facts in page.found if tag == "link"] == [{"rel": "icon", "href": "data:,"}]
    for tag, facts in page.found:
        assert not [name for name in facts if name.startswith("on")], tag
        for name in ("href", "src", "xlink:href"):
            place = facts.get(name) or "#"
            assert place.startswith(("#", "figures/", "tables/", "data:,", "https://arxiv.org/abs/")), place
    shown = (
        "name",
        "path",
        "subtitle",
        "manifest.sources.path",
        "manifest.digest",
        "reason",
        "role",
        "stage",
        "dep",
        "md5",
    )
    shown += ("findings.experiments.language_model.findings.statement", "file")
    for field in shown:
        assert f"alert('{field}')" in page.text, field
    for path in (harmful / "reports/figures").glob("*.svg"):
        assert "<script" not in path.read_text()
        assert "onerror" not in path.read_text()


def test_the_pages_of_mlflow_are_for_this_machine_alone(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = (sys.executable, "-c", "from pipeline.command import main; main()", "ui")
    extra = {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db", "MLFLOW_PORT": str(port)}
    shutil.copy(ROOT / "params.yaml", tmp_path)
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environment(ROOT, **extra),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        said = next((line for line in process.stdout if "Application startup complete" in line), None)
        assert said, "it ended without serving"
        family = {process.pid, *(child.pid for child in psutil.Process(process.pid).children(recursive=True))}
        sockets = [one for one in psutil.net_connections("inet") if one.pid in family]
        found = {one.laddr.ip for one in sockets if one.status == psutil.CONN_LISTEN and one.laddr.port == port}
    finally:
        for member in psutil.Process(process.pid).children(recursive=True):
            member.kill()
        process.kill()
        process.wait()
        process.stdout.close()
    assert found == {"127.0.0.1"}


def test_a_stranger_without_the_token_cannot_use_the_ray_of_a_study(tmp_path):
    study = """
import sys, ray
from pipeline.execution.cluster import Cluster
with Cluster():
    print(ray.get_runtime_context().gcs_address, flush=True)
    sys.stdin.read()
"""
    guest = "import sys, ray; ray.init(address=sys.argv[1], log_to_driver=False); print(ray.cluster_resources())"
    host = subprocess.Popen(
        [sys.executable, "-c", study],
        cwd=tmp_path,
        env=environment(ROOT),
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with host:
        address = host.stdout.readline().strip()
        answers = {}
        for name, token in {"stranger": {"RAY_AUTH_TOKEN": "0" * 64}, "owner": {}}.items():
            answers[name] = subprocess.run(
                [sys.executable, "-c", guest, address],
                cwd=tmp_path,
                env=environment(ROOT, RAY_AUTH_MODE="token", **token),
                capture_output=True,
                text=True,
            )
    assert answers["stranger"].returncode != 0
    assert "uthenticat" in answers["stranger"].stderr
    assert answers["owner"].returncode == 0, answers["owner"].stderr
