"""Training state on disk: one safetensors file, written whole or not at all, on any file system fsspec knows."""

from __future__ import annotations

import json
import os
import uuid
from dataclasses import dataclass

import fsspec
import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

CURVE_COLUMNS = ("tokens", "train_loss", "learning_rate_scale", "batch_tokens")

FACTS = ("tokens", "step", "high_rows", "start_loss")


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
    """Writes `state` to `uri` under a temporary name first, so that a reader never sees half a file.

    OSError when the disk is full: the old file, if any, stays as it was.
    """
    # One metadata key alone: safetensors writes several in no fixed order, and equal states must give equal bytes.
    facts = json.dumps({name: getattr(state, name) for name in FACTS})
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.tensors.items()}
    tensors["curve"] = torch.from_numpy(state.curve)
    tensors["recent"] = torch.from_numpy(state.recent)
    write_bytes(uri, save(tensors, {"state": facts}))


def read_checkpoint(uri: str) -> TrainingState | None:
    """The state in `uri`, None where there is no file. Raises ValueError when the file is not a checkpoint."""
    filesystem, path = fsspec.core.url_to_fs(uri)
    if not filesystem.exists(path):
        return None
    data = filesystem.cat_file(path)
    try:
        tensors = load(data)
        facts = json.loads(json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]["state"])
        facts = {name: facts[name] for name in FACTS}
        curve, recent = tensors.pop("curve").numpy(), tensors.pop("recent").numpy()
    except (SafetensorError, KeyError, ValueError) as error:
        raise ValueError(f"{uri}: not a checkpoint ({error})") from None
    return TrainingState(tensors=tensors, curve=curve, recent=recent, **facts)


def write_bytes(uri: str, data: bytes) -> None:
    """Writes `data` to `uri` in one atomic step; on a local disk it is also flushed to the device."""
    filesystem, path = fsspec.core.url_to_fs(uri)
    if filesystem.protocol not in ("file", ("file", "local")):
        filesystem.pipe_file(path, data)
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    temporary = f"{path}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise
