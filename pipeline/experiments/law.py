"""What every law of learning mechanics needs besides its science: dials, runs to plan, results to hand back."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from pipeline.experiments.experiment import RunResult
from pipeline.params import LAWS, Section
from pipeline.plain import plain
from pipeline.planning.code import reached_digest
from pipeline.planning.run_spec import RunSpec


class _Torch:
    """torch, imported at its first use, which is in a run: a law's module is also read where torch must stay out.

    A lazy module of importlib would not do: scipy touches a `torch` that it finds in sys.modules, which loads it.
    """

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module("torch"), name)


torch = _Torch()

Seeds = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=2)]
"""Seeds of repeated runs: at least two, since a standard error comes from them."""


class Dials(Section):
    """The section of a law in params.yaml: `on` or off, and its own dials."""

    on: bool = True


def law_run(
    law: str,
    kind: str,
    settings: Mapping,
    seed: int = 0,
    *,
    label: str,
    seconds: float,
    data_digest: str = "",
) -> RunSpec:
    """One run of the law named `law` (its module's name): `settings` are JSON types and all that changes its numbers.

    Its identity holds the code that the module's `run` reaches. `kind` tells the runs of one law apart; `label` is for
    people; `seconds` is what it takes on one core. `data_digest` only where it reads the corpus.
    """
    return RunSpec(
        experiment=law,
        kind=kind,
        settings=dict(settings),
        seed=seed,
        data_digest=data_digest,
        code_digest=reached_digest(f"{LAWS}.{law}", "run"),
        label=f"{law}: {label}",
        expected_seconds=seconds,
    )


def result(
    scalars: Mapping[str, float],
    curve: Mapping[str, np.ndarray] | None = None,
    status: Literal["finished", "diverged"] = "finished",
    reason: str | None = None,
) -> RunResult:
    """What a run of a law ends with: `scalars` by name, not finite ones left out, and a `curve` whose first column
    counts steps, an integer. A diverged run says its `reason`; whatever scalars it has are kept."""
    known = {name: value for name, value in plain(dict(scalars)).items() if value is not None}
    columns = {name: np.asarray(values) for name, values in (curve or {}).items()}
    return RunResult(status, reason, known, columns, {}, 0, 0, keeps_checkpoint=False)


def one_thread() -> None:
    """Makes torch use one thread and deterministic kernels, so that a run gives the same bits beside any other."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
