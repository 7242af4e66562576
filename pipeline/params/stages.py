"""The sections of the study as a whole and of the stages from train on."""

from __future__ import annotations

from importlib import import_module
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from pipeline.params.section import Section


class Study(Section):
    """`name` is the MLflow experiment and the title of the report."""

    name: Annotated[str, Field(min_length=1)]


class Train(Section):
    """How runs are executed; nothing here changes the numbers, so nothing here is part of a run's identity.

    `devices` cores or GPUs train one run of the language model together, whose numbers are then those of one up to
    rounding; `shard` divides its weights and optimiser state among them: always, never, or, auto, where one GPU cannot
    hold them. A run that has told how far it is and then says nothing for `silence_seconds` is taken from its worker,
    at no cost but time: it goes on from its last checkpoint in another.
    """

    micro_batch_tokens: PositiveInt
    checkpoint_seconds: PositiveFloat
    retries: Annotated[int, Field(ge=0)]
    devices: PositiveInt = 1
    shard: Literal["auto", "always", "never"] = "auto"
    silence_seconds: PositiveFloat = 600.0

    @model_validator(mode="after")
    def _shard_has_a_use(self) -> Train:
        if self.shard == "always" and self.devices == 1:
            raise ValueError("shard: always has no effect with devices: 1")
        return self


class ExternalColumns(Section):
    """The table's own names of N (parameters), D (tokens), L (loss) and C (FLOPs); None for a usual name."""

    N: str | None = None
    D: str | None = None
    L: str | None = None
    C: str | None = None


class PublishedNumbers(Section):
    """`numbers` by the name of a parameter or exponent, each a value or {value, interval}; `source` says whose."""

    source: Annotated[str, Field(min_length=1)]
    numbers: Annotated[dict[str, Any], Field(min_length=1)]


class External(Section):
    """A table of finished runs from elsewhere, fitted and reported by itself as by `study fit`.

    `path` lies in the folder external/, which DVC watches, or is an address (s3://...) or mlflow:EXPERIMENT, which it
    does not. `where` chooses rows; `law`, `estimator`, `delta`, `noise`, `recipe` and `despite` are as there.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
    path: Annotated[str, Field(min_length=1)]
    columns: ExternalColumns = ExternalColumns()
    where: list[str] = []
    law: str = "chinchilla"
    estimator: str = "huber"
    delta: PositiveFloat | None = None
    noise: PositiveFloat | None = None
    recipe: str = "recipe"
    despite: list[str] = []
    published: PublishedNumbers | None = None

    @model_validator(mode="after")
    def _can_be_fitted(self) -> External:
        watched = PurePosixPath(self.path).parts
        addressed = "://" in self.path or self.path.startswith("mlflow:")
        if not addressed and (watched[0] != "external" or ".." in watched):
            raise ValueError(f"path: {self.path!r} does not lie in external/, the folder that DVC watches")
        import_module("pipeline.external.entry").check(self)  # above this module: it knows the laws by name
        return self


class Collect(Section):
    """`round_digits` is the number of significant digits of floats in results/runs.csv.

    `external` are tables of runs from elsewhere, which stand in the report beside the study and never in its law.
    """

    round_digits: Annotated[int, Field(ge=3, le=17)] = 8
    external: list[External] = []

    @model_validator(mode="after")
    def _names_differ(self) -> Collect:
        names = [entry.name for entry in self.external]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"external: {names.count(name)} tables are called {name!r}")
        return self


class Fit(Section):
    """`convention` is the N of the headline law; `bootstrap` counts resamples of runs.

    `delta` is the threshold of huber and asymmetric on ln L, None for one adapted to the noise. `holdout_quantile` of
    compute splits the hold-out that chooses the law.
    """

    convention: Literal["total", "non_embedding", "with_head"]
    estimator: Literal["huber", "l1", "l2", "asymmetric"] = "huber"
    delta: PositiveFloat | None = None
    bootstrap: Annotated[int, Field(ge=100)]
    holdout_quantile: Annotated[float, Field(gt=0, lt=1)] = 0.75
    num_starts: PositiveInt = 16
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _delta_has_a_use(self) -> Fit:
        if self.delta is not None and self.estimator in ("l1", "l2"):
            raise ValueError(f"delta: {self.delta} has no effect with estimator {self.estimator}")
        return self


class Report(Section):
    """`subtitle` stands under the title of the page."""

    subtitle: str = ""


class Publish(Section):
    """How a publication is cited: its `authors` (none: those of the git history), an SPDX `licence`, and the `url` that
    the page will have."""

    authors: list[Annotated[str, Field(min_length=1)]] = []
    licence: Annotated[str, Field(min_length=1)] = "CC-BY-4.0"
    url: str | None = None
