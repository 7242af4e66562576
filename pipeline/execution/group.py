"""A run on several devices at once: a process on each, which train it together (training/world.py), by Ray Train."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath
from queue import Empty
from threading import Thread

from ray.train import FailureConfig, RunConfig, ScalingConfig, get_context
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2.api.exceptions import TrainingFailedError
from ray.util.queue import Queue

from pipeline.execution.failures import Failure, failure_of
from pipeline.execution.placement import Request
from pipeline.execution.work import begin
from pipeline.experiments.experiment import Progress, RunContext, RunResult
from pipeline.planning.run_spec import RunSpec

LOOK_SECONDS = 1.0
"""How often it is made sure that the group is still there."""


def train_together(spec: RunSpec, context: RunContext, request: Request) -> Iterator[Progress | RunResult | Failure]:
    """What the run yields in its first process, or the first failure of any; a process that is gone loses the run.

    Ray Train starts nothing twice: the executor decides what a failure means.
    """
    news = Queue(actor_options={"num_cpus": 0})
    gpu = request.place == "GPU"
    trainer = TorchTrainer(
        _member,
        train_loop_config={"spec": spec, "context": context, "news": news},
        scaling_config=ScalingConfig(
            num_workers=request.devices,
            use_gpu=gpu,
            resources_per_worker={"CPU": 1} | ({"GPU": 1} if gpu else {}),
        ),
        # NCCL for what lies on a GPU alone: what a group agrees on, and losses of windows, do not.
        torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if gpu else "gloo"),
        run_config=RunConfig(
            name="group",
            storage_path=str(PurePath(context.own).parent),
            failure_config=FailureConfig(max_failures=0),
        ),
    )
    ended: list[str] = []
    work = Thread(target=_fit, args=(trainer, ended), daemon=True)
    work.start()
    event = None
    while not isinstance(event, RunResult | Failure):
        alive = work.is_alive()
        try:
            event = news.get(timeout=LOOK_SECONDS)
        except Empty:
            event = None if alive else Failure("lost", f"a process of {request.devices} is gone: {' '.join(ended)}")
        if event is not None:
            yield event
    work.join()
    news.shutdown(force=True)


def _fit(trainer: TorchTrainer, ended: list[str]) -> None:
    try:
        trainer.fit()
    except TrainingFailedError as error:
        ended.append(str(error).strip().splitlines()[0])


def _member(config: dict) -> None:
    """One process of the group: the first tells the news, each its own failure; the others fail with it."""
    spec, context, news = config["spec"], config["context"], config["news"]
    try:
        for event in begin(spec, context):
            if get_context().get_world_rank() == 0:
                news.put(event)
    except ConnectionResetError:
        raise
    except Exception as error:
        news.put(failure_of(error))
        raise
