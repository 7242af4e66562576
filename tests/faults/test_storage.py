"""Checkpoints and the corpus on a storage that every node reaches: a server that speaks S3, which also goes away."""

import hashlib
import os
import shutil
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager

import fsspec
import pytest
from moto.server import ThreadedMotoServer

from pipeline.corpus.copies import corpus_at_hand, publish_corpus
from pipeline.corpus.shards import open_corpus
from pipeline.execution.cluster import Cluster
from pipeline.execution.executor import Executor, Policy
from pipeline.execution.run_store import RunStore
from pipeline.planning.table import read_plan
from pipeline.storage import read, storage_uri, upload, write
from tests.faults.project import of_stage, record, run_stage, say, start

ACCESS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


class Server:
    """An S3 server at a port of its own, whose buckets outlive `stop`."""

    def __init__(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.start()

    def start(self):
        self.moto = ThreadedMotoServer("127.0.0.1", self.port, verbose=False)
        self.moto.start()

    def stop(self):
        self.moto.stop()

    @contextmanager
    def gone(self):
        """The server is down; yields a counter of those who knock, each of whom is turned away."""
        self.stop()
        knocks = threading.Semaphore(0)
        with socket.create_server(("127.0.0.1", self.port)) as door:

            def turn_away():
                while True:
                    try:
                        visitor, _ = door.accept()
                    except OSError:
                        return
                    visitor.close()
                    knocks.release()

            porter = threading.Thread(target=turn_away)
            porter.start()
            yield knocks
            door.shutdown(socket.SHUT_RDWR)
        porter.join()
        self.start()

    @property
    def environment(self):
        return ACCESS | {"AWS_MAX_ATTEMPTS": "1", "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}"}


@pytest.fixture
def s3(monkeypatch):
    """A server with an empty bucket named study, which this process talks to as well."""
    server = Server()
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    buckets = fsspec.filesystem("s3")
    buckets.mkdir("study")
    yield server
    buckets.rm("study", recursive=True)
    server.stop()


def test_a_study_outlives_its_storage_and_gives_the_same_bytes(planned, quiet, s3):
    """The server goes away once a run has ended, until ten requests have failed, and comes back."""
    where = s3.environment | {"STUDY_STORAGE": "s3://study/one"}
    with start(planned, *of_stage("train"), **where) as driver:
        for line in driver.stdout:
            if "loss" in line:
                break
        else:
            pytest.fail("training ended before the server could go away")
        with s3.gone() as knocks:
            for _ in range(10):
                assert knocks.acquire(timeout=120)
        printed = driver.stdout.read()
    assert driver.returncode == 0, printed
    assert "failed" not in printed
    run_stage(planned, "collect")
    for name in ("runs.parquet", "curves.parquet"):
        assert (planned / "results" / name).read_bytes() == (quiet / "results" / name).read_bytes()
    for name, data in record(quiet).items():
        run_id, file = name.split("/")[1:]
        if file == "checkpoint.safetensors":
            assert read(f"s3://study/one/{run_id}/{file}") == data
    assert not list(planned.glob("runs/*/checkpoint.safetensors"))


def test_a_write_outlasts_a_fault_and_gives_up_by_name(s3):
    with s3.gone() as knocks:
        done = threading.Thread(target=write, args=("s3://study/file", b"whole"))
        done.start()
        assert knocks.acquire(timeout=60)
    done.join(timeout=60)
    assert read("s3://study/file") == b"whole"
    assert read("s3://study/other") is None
    with s3.gone(), pytest.raises(OSError, match=r"s3://study/file: .* \(\d+ tries in \d+ s\)") as told:
        write("s3://study/file", b"new", patience=0.0)
    assert "\n" not in str(told.value)
    assert read("s3://study/file") == b"whole"


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("bucket/study", "is not a URI such as s3://bucket/study"),
        ("s3://", "is not a URI such as"),
        ("nosuch://bucket", "Protocol not known: nosuch"),
        ("simplecache::s3://bucket", "is not a URI such as"),
        ("s3://bucket/study?versionId=1", "is not a URI such as"),
        ("s3://[bucket", "is not a URI"),
    ],
)
def test_a_malformed_storage_is_refused_in_one_line(monkeypatch, uri, message):
    monkeypatch.setenv("STUDY_STORAGE", uri)
    with pytest.raises(ValueError, match="environment: STUDY_STORAGE: ") as told:
        storage_uri()
    assert message in str(told.value)
    assert "\n" not in str(told.value)


def test_no_password_is_told(monkeypatch):
    monkeypatch.setenv("STUDY_STORAGE", "sftp://me:secret@host/study")
    with pytest.raises(ValueError, match="leave the password out") as told:
        storage_uri()
    assert "secret" not in str(told.value)


def test_a_storage_that_refuses_ends_the_stage_in_one_line_before_any_run(planned, s3):
    code, printed = say(planned, *of_stage("train"), **s3.environment, STUDY_STORAGE="s3://nobody/study")
    assert code == 1
    assert printed.splitlines()[-1].startswith("error: s3://nobody/study/tokens/writable: ")
    assert "Traceback" not in printed
    assert not list((planned / "runs").iterdir())


@pytest.mark.parametrize("place", ["s3://study", "file://{folder}", "memory://study"])
def test_a_corpus_comes_back_whole_from_every_kind_of_storage(quiet, s3, monkeypatch, tmp_path, place):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    tokens, storage = quiet / "data/tokens", place.format(folder=tmp_path / "storage")
    uri = publish_corpus(tokens, storage)
    assert uri == f"{storage}/tokens/{hashlib.sha256((tokens / 'manifest.json').read_bytes()).hexdigest()}"
    assert corpus_at_hand(tokens, uri) == tokens
    copy = corpus_at_hand(tmp_path / "nowhere", uri)
    for path in tokens.iterdir():
        assert (copy / path.name).read_bytes() == path.read_bytes()
    (copy / "train.bin").write_bytes(b"other")
    assert open_corpus(corpus_at_hand(tmp_path / "nowhere", uri)).digest == open_corpus(tokens).digest
    shutil.rmtree(copy)
    write(f"{uri}/validation.bin", b"other")
    with pytest.raises(ValueError, match=r"validation\.bin is damaged.*; delete .*/manifest\.json and run the study"):
        corpus_at_hand(tmp_path / "nowhere", uri)
    assert not copy.exists()


def test_a_copy_that_was_cut_short_is_not_taken_for_one(quiet, tmp_path):
    """The manifest comes last: an upload that dies before it is done again by the next driver."""
    tokens, storage = quiet / "data/tokens", f"file://{tmp_path}/storage"
    digest = hashlib.sha256((tokens / "manifest.json").read_bytes()).hexdigest()
    upload(tokens / "token_bytes.npy", f"{storage}/tokens/{digest}/train.bin")
    with pytest.raises(OSError, match="token"):
        corpus_at_hand(tmp_path / "nowhere", f"{storage}/tokens/{digest}")
    copied = tmp_path / "storage/tokens" / digest
    publish_corpus(tokens, storage)
    assert {path.name for path in copied.iterdir()} == {path.name for path in tokens.iterdir()}
    assert (copied / "train.bin").read_bytes() == (tokens / "train.bin").read_bytes()


def test_processes_of_a_node_fetch_the_corpus_once(quiet, s3, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    uri = publish_corpus(quiet / "data/tokens", "s3://study")
    code = "import sys, pathlib, pipeline.corpus.copies as c; print(c.corpus_at_hand(pathlib.Path('x'), sys.argv[1]))"
    both = [
        subprocess.Popen([sys.executable, "-c", code, uri], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    assert len({process.communicate()[0] for process in both}) == 1
    assert [process.returncode for process in both] == [0] * 3
    kept = tmp_path / "cache/scaling-study/tokens"
    assert sorted(path.suffix for path in kept.iterdir()) == ["", ".lock"]


def test_a_worker_without_the_corpus_trains_on_its_copy(quiet, s3, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    _, specs = read_plan(quiet / "plan/runs.parquet")
    first = next(spec for spec in specs if spec.needs is None)
    store = RunStore(tmp_path, "s3://study")
    uri = publish_corpus(quiet / "data/tokens", store.storage)
    policy = Policy(tmp_path / "nowhere", 8192, 60.0, retries=0, tokens_uri=uri)
    with Cluster() as cluster:
        assert Executor([first], store, cluster, policy, (), {first.run_id: 1.0}).run() == {}
    for name in ("result.json", "curve.parquet", "arrays.safetensors"):
        assert store.folder(first.run_id).joinpath(name).read_bytes() == record(quiet)[f"runs/{first.run_id}/{name}"]
    digest = uri.rpartition("/")[2]
    assert sorted(os.listdir(tmp_path / "cache/scaling-study/tokens")) == [digest, f"{digest}.lock"]
