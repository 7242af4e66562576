"""Memory: what a run is expected to take against what torch keeps, how runs share GPUs, and a worker that runs out."""

import json
import os

import polars as pl
import pytest
import torch

from pipeline.execution.placement import LEAST_MICRO_BATCH, Capacity, Request, request_of
from pipeline.experiments.experiment import CorpusFacts
from pipeline.experiments.language_model.memory import PROCESS_BYTES, memory
from pipeline.experiments.language_model.plan import plan
from pipeline.experiments.language_model.run import recipe_of
from pipeline.models.loss import next_token_loss
from pipeline.models.transformer import Transformer
from pipeline.params import Replicates, SizesByTokens, read_params
from tests.faults.project import run_stage
from tests.test_pipeline import ROOT

GB = 10**9
HOOK = """
import os, resource, sys
if any(word.endswith("default_worker.py") for word in sys.orig_argv):
    resource.setrlimit(resource.RLIMIT_DATA, (int(os.environ["WORKER_BYTES"]),) * 2)
"""
"""What Python runs first in every process that finds it: Ray's workers, and they alone, may not grow beyond a limit."""


def make_spec(width=64, depth=2, context=64, batch=16_384, kind="muon"):
    """A run of the language model with a batch of this many tokens."""
    study = read_params().language_model
    settings = study.model_copy(
        update={
            "grid": SizesByTokens(kind="sizes_by_tokens", widths=[width], tokens=[20 * batch]),
            "replicates": Replicates(),
            "model": study.model.model_copy(update={"depth": depth, "context": context}),
            "batch": study.batch.model_copy(update={"tokens": batch, "growth_from": 10**9}),
            "optimizer": study.optimizer.model_copy(update={"kind": kind}),
        }
    )
    return plan(settings, CorpusFacts("digest", 256, 10**12))[0]


def kept_bytes(spec, tokens):
    """Bytes of everything that torch keeps for the backward pass of `tokens` tokens, each storage once."""
    shape = recipe_of(spec).shape
    model, storages = Transformer(shape), {}
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    owned = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in owned:
            storages[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    windows = torch.randint(0, shape.vocab_size, (tokens // shape.context, shape.context + 1))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), torch.autocast("cpu", torch.bfloat16):
        next_token_loss(model, windows)
    return sum(size for size, _ in storages.values())


@pytest.mark.parametrize(("width", "depth", "context"), [(64, 2, 64), (128, 4, 64), (256, 3, 128)])
def test_activations_are_those_that_torch_keeps(width, depth, context):
    """Estimates grow with the tokens as what torch keeps, and the gradients of the logits, do: never below, hardly
    above."""
    spec = make_spec(width, depth, context)
    kept = kept_bytes(spec, 8192) - kept_bytes(spec, 4096) + 4096 * (4 + 2) * spec.settings["vocab_size"]
    expected = memory(spec, 8192) - memory(spec, 4096)
    assert kept <= expected <= 1.4 * kept


@pytest.mark.parametrize(("kind", "bytes_inside"), [("muon", 4 + 4 + 4 + 2), ("adamw", 4 + 4 + 8 + 2)])
def test_state_is_that_of_the_optimiser(kind, bytes_inside):
    """Against the parameters of the model itself: weight, gradient, moments and the copy of autocast; beside these at
    most what torch keeps of the smallest micro-batch, and two products of the largest stack in fp32 at once."""
    sizes, specs = [], [make_spec(width, kind=kind) for width in (256, 1024)]
    for spec in specs:
        weights = {name: weight.numel() for name, weight in Transformer(recipe_of(spec).shape).named_parameters()}
        outside = weights.pop("embedding") + weights.pop("head")
        sizes.append((bytes_inside * sum(weights.values()) + 18 * outside, max(weights.values())))
    state, stack = (large - small for small, large in zip(*sizes, strict=True))
    kept = kept_bytes(specs[1], 512) - kept_bytes(specs[0], 512)
    grown = memory(specs[1], 64) - memory(specs[0], 64)
    assert state + kept <= grown <= state + 1.4 * kept + 4 * 4 * stack


@pytest.mark.parametrize(("kind", "bytes_inside"), [("muon", 4 + 4 + 4), ("adamw", 4 + 4 + 8)])
def test_of_a_divided_model_each_device_has_its_part_of_the_state_and_the_same_beside_it(kind, bytes_inside):
    spec = make_spec(256, 6, kind=kind)
    weights = {name: weight.numel() for name, weight in Transformer(recipe_of(spec).shape).named_parameters()}
    outside = weights.pop("embedding") + weights.pop("head")
    state = bytes_inside * sum(weights.values()) + 16 * outside
    two, eight = (memory(spec, 64, shards) for shards in (2, 8))
    assert two - eight == pytest.approx(state * (1 / 2 - 1 / 8), abs=2)
    whole = outside + sum(weights.values()) / 6  # a layer, the embedding and the head: weight, copy and gradient
    assert two - state / 2 > PROCESS_BYTES + 12 * whole + kept_bytes(spec, 64)


def test_runs_share_a_gpu_as_their_memory_allows():
    spec = make_spec()
    need = memory(spec, 8192)
    assert need > PROCESS_BYTES
    for sharers in (8, 4, 2):
        roomy = Capacity(cpus=16, gpus=1, gpu_bytes=int(sharers * need / 0.9) + 9)
        tight = Capacity(cpus=16, gpus=1, gpu_bytes=int(sharers * need / 0.9) - 9)
        assert request_of(spec, 8192, 1, roomy) == Request("GPU", sharers)
        assert request_of(spec, 8192, 1, tight) == Request("GPU", sharers // 2)
    assert request_of(spec, 8192, 1, Capacity(16, 1, 80 * GB)).sharers == 8
    assert request_of(spec, 8192, 1, Capacity(16, 1, None)) == Request("GPU", 1)
    assert request_of(spec, 8192, 1, Capacity(16)) == Request("CPU")


def test_a_run_that_no_gpu_holds_is_refused_by_name():
    spec = make_spec(width=8192, depth=32)
    assert memory(spec, LEAST_MICRO_BATCH) > 80 * GB
    with pytest.raises(ValueError, match=rf"{spec.run_id} \(width 8192 trunk .*GB of GPU memory.*80 GB") as caught:
        request_of(spec, 8192, 1, Capacity(16, 8, 80 * GB))
    assert "\n" not in str(caught.value)


def test_a_run_that_no_gpu_holds_is_divided_among_several():
    spec, gpus = make_spec(width=8192, depth=32), Capacity(16, 8, 80 * GB)
    assert memory(spec, LEAST_MICRO_BATCH, 8) < 0.9 * 80 * GB < memory(spec, LEAST_MICRO_BATCH, 2)
    assert request_of(spec, 8192, 8, gpus) == Request("GPU", devices=8, sharded=True)
    with pytest.raises(ValueError, match=rf"{spec.run_id} .*175 GB.*train\.devices: 2 and train\.shard: auto.*80 GB"):
        request_of(spec, 8192, 2, gpus)
    with pytest.raises(ValueError, match=rf"{spec.run_id} .*500 GB.*train\.devices: 8 and train\.shard: never"):
        request_of(spec, 8192, 8, gpus, "never")


@pytest.mark.timeout(600)
def test_a_worker_without_memory_halves_its_micro_batch_and_finds_the_same_loss(planned, tmp_path):
    """262,144 tokens at once take a GB, and the worker may hold one in all; the loss stays."""
    text = (planned / "params.yaml").read_text()
    for before, after in {
        "widths: [16, 32], tokens: [20_000, 40_000, 80_000]": "widths: [16], tokens: [800_000]",
        "replicates: {seeds: [1], widths: [16]}": "allow_repeats: true",
        "batch: {tokens: 256, growth_from: 60_000}": "batch: {tokens: 262_144, growth_from: 10_000_000}",
        "micro_batch_tokens: 8192": "micro_batch_tokens: 262_144",
    }.items():
        assert before in text
        text = text.replace(before, after)
    (planned / "params.yaml").write_text(text)
    run_stage(planned, "plan")
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook/sitecustomize.py").write_text(HOOK)
    extra, seen = {"STUDY_WORKERS": "1", "PYTHONPATH": f"{tmp_path / 'hook'}{os.pathsep}{ROOT}"}, {}
    for name, limit in (("free", 16 * GB), ("limited", GB)):
        printed = run_stage(planned, "train", WORKER_BYTES=str(limit), **extra)
        assert ("out of memory; micro-batch halved to" in printed) == (name == "limited")
        run_stage(planned, "collect")
        facts = [json.loads(path.read_text()) for path in sorted((planned / "telemetry").glob("*.json"))]
        seen[name] = facts, pl.read_parquet(planned / "results/runs.parquet").drop_nulls("loss")
        (planned / "runs").rename(tmp_path / name)
    (free, losses), (limited, again) = seen["free"], seen["limited"]
    assert {facts["micro_batch_tokens"] for facts in free} == {262_144}
    for facts in limited:
        assert facts["halved"] >= 1
        assert facts["micro_batch_tokens"] == 262_144 >> facts["halved"]
        assert facts["attempts"] == 1 + facts["halved"]
    assert losses["run_id"].equals(again["run_id"])
    assert again["loss"].to_list() == pytest.approx(losses["loss"].to_list(), rel=1e-6)
