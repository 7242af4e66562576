"""The MLflow store of a study: the only import of mlflow, which happens when a store is opened (2 to 5 seconds)."""

from __future__ import annotations

import functools
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

import polars as pl

from pipeline.tracking.record import Record

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

# MLflow by itself waits minutes for a dead server, talks on the terminal, and tells its makers that it was used.
ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
STUDY_NOTE = (
    "A scaling study: one run for each stage (prepare, plan, train, collect, fit, report) and one for each training run"
    " of the language model. Tick runs of two sizes and open the chart view to compare their curves; the report is an"
    " artifact of the run `report`, the fitted law in the metrics of the run `fit`."
)
LAWS_NOTE = "The training runs of the laws of learning mechanics; what they say is in the run `fit` of the study."
MARK = "mirrored"
_METRICS_A_BATCH, _TEXTS_A_BATCH = 1000, 100
_DIGEST_LENGTH = 36
_Method = TypeVar("_Method", bound=Callable)


class StoreFault(ConnectionError):
    """The MLflow store does not do its work; says in one line why."""


def tracking_uri(root: Path) -> str:
    """MLFLOW_TRACKING_URI, by default the file mlflow.db in `root`."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{root.resolve() / 'mlflow.db'}"


def shown(uri: str) -> str:
    """`uri` without user and password."""
    parts = urlsplit(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if parts.password else uri


def _faults_of_mlflow() -> tuple[type[Exception], ...]:
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, RequestException, SQLAlchemyError, sqlite3.Error


def _may_fail(method: _Method) -> _Method:
    """`method`, with every fault of MLflow's own raised as StoreFault; a bug of ours stays what it is."""

    @functools.wraps(method)
    def guarded(*arguments, **options):
        try:
            return method(*arguments, **options)
        except _faults_of_mlflow() as error:
            raise StoreFault(_one_line(error)) from error

    return guarded


class MlflowStore:
    """The MLflow experiment `study` at `uri`, and beside it one for the runs of the laws of learning mechanics, which
    are many and short and would hide the others. `tags` go on every run.

    Local artifacts go to mlartifacts/ in `root`; a server decides for itself. Raises StoreFault when there is no store.
    """

    def __init__(self, uri: str, root: Path, study: str, tags: dict[str, str]):
        _check_database(uri)
        _prepare_environment()
        self.uri, self.tags = uri, tags
        self._client = self._connect(uri)
        self._study_id = self._experiment(root, study, STUDY_NOTE)
        self._laws_id = self._experiment(root, f"{study} laws", LAWS_NOTE)

    @staticmethod
    @_may_fail
    def _connect(uri: str) -> MlflowClient:
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=uri)

    @_may_fail
    def _experiment(self, root: Path, name: str, note: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found:
            return found.experiment_id
        local = None if self.uri.startswith("http") else (root.resolve() / "mlartifacts").as_uri()
        tags = {"mlflow.experimentKind": "custom_model_development", "mlflow.note.content": note}
        return self._client.create_experiment(name, artifact_location=local, tags=tags)

    def _place(self, of_law: bool) -> str:
        return self._laws_id if of_law else self._study_id

    @_may_fail
    def training_runs(self) -> dict[str, str]:
        """run_id -> DVC hash of what is mirrored, for every training run that is mirrored whole."""
        held, page = {}, None
        while page is None or page.token:
            page = self._client.search_runs(
                [self._study_id, self._laws_id], "tags.run_id LIKE '%'", page_token=page.token if page else None
            )
            held |= {run.data.tags["run_id"]: run.data.tags.get("dvc_hash", "") for run in page if _ended(run)}
        return held

    @property
    @_may_fail
    def mark(self) -> str:
        """The last `set_mark` of anybody; "" before."""
        return self._client.get_experiment(self._study_id).tags.get(MARK, "")

    @_may_fail
    def set_mark(self, text: str) -> None:
        """Writes a tag of the experiment, which says what the runs in it mirror."""
        self._client.set_experiment_tag(self._study_id, MARK, text)

    @_may_fail
    def begin(self, name: str, identity: dict[str, str], parent: str | None = None, began: int | None = None) -> str:
        """MLflow's id of the run with these tags, which is created if there is none. `parent` is an MLflow id."""
        found = self._find(self._study_id, identity)
        return found.info.run_id if found else self._create(self._study_id, name, identity, parent, began)

    @_may_fail
    def write(self, record: Record, parent: str | None = None) -> bool:
        """True when something had to be written, False when MLflow already holds this record whole."""
        place = self._place(record.of_law)
        found = self._find(place, record.identity)
        if found and _ended(found) and record.hashes.items() <= found.data.tags.items():
            return False
        if found and record.unique:
            self._client.delete_run(found.info.run_id)
            found = None
        known = (place, record.name, record.identity, parent, record.began)
        self._fill(found.info.run_id if found else self._create(*known), record)
        return True

    def _find(self, place: str, identity: dict[str, str]) -> Run | None:
        wanted = " and ".join(f"tags.`{name}` = '{value}'" for name, value in identity.items())
        return next(iter(self._client.search_runs([place], wanted, max_results=1)), None)

    def _create(self, place: str, name: str, identity: dict[str, str], parent: str | None, began: int | None) -> str:
        tags = self.tags | identity | ({"mlflow.parentRunId": parent} if parent else {})
        return self._client.create_run(place, start_time=began, tags=tags, run_name=name).info.run_id

    def _fill(self, mlflow_id: str, record: Record) -> None:
        """The end comes last, so that a run cut off here is seen to be incomplete."""
        from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag

        now = record.ended or round(1000 * time.time())
        metrics = [Metric(name, float(value), now, record.step) for name, value in record.metrics.items()]
        if len(record.curves):
            for name in record.curves.columns[1:]:
                points = record.curves.select(record.curves.columns[0], name).iter_rows()
                metrics += [Metric(name, float(value), now, step) for step, value in points]
        params = [Param(name, value) for name, value in record.params.items()]
        told = {"mlflow.note.content": record.note} if record.note else {}
        told |= {"mlflow.source.name": record.source, "mlflow.source.type": "LOCAL"}
        tags = [RunTag(name, value) for name, value in (record.tags | record.hashes | told).items()]
        while metrics or params or tags:
            texts = {"params": params[:_TEXTS_A_BATCH], "tags": tags[:_TEXTS_A_BATCH]}
            numbers = metrics[: _METRICS_A_BATCH - sum(map(len, texts.values()))]
            self._client.log_batch(mlflow_id, metrics=numbers, **texts)
            metrics, params, tags = metrics[len(numbers) :], params[_TEXTS_A_BATCH:], tags[_TEXTS_A_BATCH:]
        if record.dataset:
            data = record.dataset
            entity = Dataset(data.name, data.digest[:_DIGEST_LENGTH], "local", data.source, profile=data.profile)
            self._client.log_inputs(mlflow_id, [DatasetInput(entity, [InputTag("mlflow.data.context", "training")])])
        self._upload(mlflow_id, record)
        status = "FINISHED" if record.succeeded else "FAILED"
        self._client.set_terminated(mlflow_id, status, end_time=record.ended)

    def _upload(self, mlflow_id: str, record: Record) -> None:
        try:
            for path, folder in record.artifacts:
                log = self._client.log_artifacts if path.is_dir() else self._client.log_artifact
                log(mlflow_id, str(path), folder or None)
            for name, text in record.texts.items():
                self._client.log_text(mlflow_id, text, name)
        except OSError as error:
            raise StoreFault(f"artifacts of {record.name}: {_one_line(error)}") from error


def finished_runs(uri: str, experiment: str) -> tuple[pl.DataFrame, dict[str, int]]:
    """(finished runs of an MLflow experiment, the number of others by status), the oldest run first.

    Columns are run_id, run_name and, under MLflow's own names, params.*, tags.* (text) and metrics.* (numbers, the
    latest of each). Nothing is written. Raises ValueError for an experiment that is not there, StoreFault for no store.
    """
    name = f"{experiment} at {shown(uri)}"
    path = urlsplit(uri).path.removeprefix("/") if uri.startswith("sqlite:///") else None
    if path is not None and not Path(path).exists():
        raise ValueError(f"mlflow:{name}: no such database; set MLFLOW_TRACKING_URI")
    _check_database(uri)
    _prepare_environment()
    try:
        runs = _runs_of(uri, experiment)
    except _faults_of_mlflow() as error:
        raise StoreFault(f"mlflow:{name}: {_one_line(error)}") from error
    runs.sort(key=lambda run: (run.info.start_time or 0, run.info.run_id))
    rows = [
        {"run_id": run.info.run_id, "run_name": run.info.run_name}
        | {f"params.{key}": value for key, value in run.data.params.items()}
        | {f"metrics.{key}": float(value) for key, value in run.data.metrics.items()}
        | {f"tags.{key}": value for key, value in run.data.tags.items()}
        for run in runs
        if run.info.status == "FINISHED"
    ]
    others = [run.info.status.lower() for run in runs if run.info.status != "FINISHED"]
    return pl.DataFrame(rows, infer_schema_length=None), {one: others.count(one) for one in sorted(set(others))}


def _runs_of(uri: str, experiment: str) -> list[Run]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name(experiment)
    if found is None:
        raise ValueError(f"mlflow:{experiment} at {shown(uri)}: no such experiment")
    page = client.search_runs([found.experiment_id])
    runs = list(page)
    while page.token:
        page = client.search_runs([found.experiment_id], page_token=page.token)
        runs += page
    return runs


def _prepare_environment() -> None:
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def _ended(run: Run) -> bool:
    return run.info.status in ("FINISHED", "FAILED")


def _one_line(error: BaseException) -> str:
    """What the system said at the bottom of `error`, such as "Connection refused", else its own first line."""
    bottom = error
    while bottom.__cause__ or bottom.__context__:
        bottom = bottom.__cause__ or bottom.__context__
    told = bottom if isinstance(bottom, OSError) else error
    return str(told).strip().partition("\n")[0][:300] or type(error).__name__


def _check_database(uri: str) -> None:
    """Looks into a database of its own accord: MLflow would try for minutes to open one that is broken."""
    if urlsplit(uri).scheme.partition("+")[0] not in _DATABASES:
        return
    import sqlalchemy
    from sqlalchemy.exc import SQLAlchemyError

    try:
        url = sqlalchemy.make_url(uri)
        if url.drivername.startswith("sqlite") and url.database:
            Path(url.database).parent.mkdir(parents=True, exist_ok=True)
        engine = sqlalchemy.create_engine(url)
        try:
            sqlalchemy.inspect(engine).get_table_names()
        finally:
            engine.dispose()
    except (SQLAlchemyError, ImportError, OSError) as error:
        raise StoreFault(_one_line(error)) from error
