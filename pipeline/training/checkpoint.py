"""Training state as one safetensors file that proves itself: what is read is what was saved, or an error."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from pipeline.storage import Damaged, read, write

CURVE_COLUMNS = ("tokens", "train_loss", "learning_rate_scale", "batch_tokens")

FACTS = {"tokens": int, "step": int, "high_rows": int, "start_loss": float}
INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Types by bytes an element, as which numpy can take any tensor: it knows no bfloat16."""


@dataclass
class TrainingState:
    """A model in training. `tokens` seen so far; `curve` rows follow CURVE_COLUMNS; `recent` are the step losses
    (nats/token) since the last curve row; `high_rows` counts the last rows whose mean was not below `start_loss`, the
    loss of the first step."""

    tokens: int
    step: int
    tensors: dict[str, Tensor]
    curve: np.ndarray
    recent: np.ndarray
    high_rows: int
    start_loss: float


def write_checkpoint(uri: str, state: TrainingState) -> None:
    """Writes `state` to `uri` in one atomic step.

    OSError when there is no room or the place cannot be reached: the old file, if any, stays as it was.
    """
    facts = {name: getattr(state, name) for name in FACTS}
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.tensors.items()}
    tensors["curve"] = torch.from_numpy(state.curve)
    tensors["recent"] = torch.from_numpy(state.recent)
    # One metadata key alone: safetensors writes several in no fixed order, and equal states must give equal bytes.
    write(uri, save(tensors, {"state": json.dumps(facts | {"sha256": _digest(facts, tensors)})}))


def read_checkpoint(uri: str) -> TrainingState | None:
    """The state in `uri`, None where there is no file. Raises Damaged, a ValueError, when it is not what was saved."""
    data = read(uri)
    if data is None:
        return None
    try:
        tensors = load(data)
        facts = json.loads(json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]["state"])
        saved = facts.pop("sha256")
        if saved != _digest(facts, tensors):
            raise ValueError("its content does not have the sha256 that was saved with it")
        _check(facts, tensors)
    except (SafetensorError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise Damaged(f"{uri}: not a checkpoint, or damaged ({' '.join(str(error).split())})") from None
    curve, recent = tensors.pop("curve").numpy(), tensors.pop("recent").numpy()
    return TrainingState(tensors=tensors, curve=curve, recent=recent, **facts)


def _digest(facts: dict, tensors: dict[str, Tensor]) -> str:
    """Hexadecimal sha256 over the facts and the name, type, shape and bytes of every tensor, whatever their order."""
    total = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        total.update(f"\0{name}\0{tensor.dtype}\0{list(tensor.shape)}\0".encode())
        total.update(tensor.view(INTEGERS[tensor.element_size()]).numpy().tobytes())
    return total.hexdigest()


def _check(facts: dict, tensors: dict[str, Tensor]) -> None:
    """Raises ValueError or TypeError for a state that no training run can have saved."""
    for name, kind in FACTS.items():
        if type(facts[name]) is not kind or facts[name] < 0 or math.isnan(facts[name]):
            raise TypeError(f"{name}: {facts[name]!r} is not a {kind.__name__} of a run")
    if facts.keys() != FACTS.keys():
        raise ValueError(f"{sorted(facts)} are not the facts of a run")
    curve, recent = tensors["curve"], tensors["recent"]
    if curve.dtype != torch.float64 or recent.dtype != torch.float64 or recent.dim() != 1:
        raise TypeError("its curve is not one of a run")
    if curve.dim() != 2 or curve.shape[1] != len(CURVE_COLUMNS):
        raise ValueError(f"its curve has the shape {list(curve.shape)}")
