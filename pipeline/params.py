"""params.yaml as frozen, validated objects. This is the only module that reads it."""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    create_model,
    model_validator,
)
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

LAWS = "pipeline.experiments.laws"
"""The package of the laws of learning mechanics: class Settings of module <name> reads the section `laws.<name>`."""


class Section(BaseModel):
    """A section of params.yaml: frozen, with unknown keys and silent type changes refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Study(Section):
    """`name` is the MLflow experiment and the title of the report."""

    name: Annotated[str, Field(min_length=1)]


class PackageSource(Section):
    """Python source files inside installed packages; `sha256` pins the bytes (None: not checked)."""

    kind: Literal["packages"]
    names: Annotated[list[str], Field(min_length=1)]
    sha256: str | None = None


class TextSource(Section):
    """Text files, one document a file: a folder, a file or a glob; local, s3:// or hf://."""

    kind: Literal["text"]
    path: Annotated[str, Field(min_length=1)]


class JsonlSource(Section):
    """One JSON object a line with the text in `column`; plain, .gz or .zst."""

    kind: Literal["jsonl"]
    path: Annotated[str, Field(min_length=1)]
    column: str = "text"


class ParquetSource(Section):
    """Parquet files with the text in `column`."""

    kind: Literal["parquet"]
    path: Annotated[str, Field(min_length=1)]
    column: str = "text"


Source = Annotated[PackageSource | TextSource | JsonlSource | ParquetSource, Field(discriminator="kind")]


class BytesTokenizer(Section):
    """One token a byte, V = 256; byte 0 separates documents."""

    kind: Literal["bytes"]


class BpeTokenizer(Section):
    """Byte-level BPE trained on at most `sample_bytes` of the training split."""

    kind: Literal["bpe"]
    vocab_size: Annotated[int, Field(ge=257, le=65536)]
    sample_bytes: PositiveInt = 16_000_000


Tokenizer = Annotated[BytesTokenizer | BpeTokenizer, Field(discriminator="kind")]


class Prepare(Section):
    """Where the text comes from and how it becomes tokens."""

    sources: Annotated[list[Source], Field(min_length=1)]
    tokenizer: Tokenizer
    validation_fraction: Annotated[float, Field(gt=0, lt=1)]
    split_seed: int = 0


class Point(Section):
    """One run beside the grid: a width, the tokens it is trained on, and its seed (None: that of the study)."""

    width: PositiveInt
    tokens: PositiveInt
    seed: int | None = None


class _Grid(Section):
    """`widths` of every kind of grid, and single `points` beside it."""

    widths: Annotated[list[PositiveInt], Field(min_length=1)]
    points: list[Point] = []


class SizesByTokens(_Grid):
    """Every width at every token count: the tree of trunks and cooldowns."""

    kind: Literal["sizes_by_tokens"]
    tokens: Annotated[list[PositiveInt], Field(min_length=1)]


class IsoFlop(_Grid):
    """Every width at every compute budget (training FLOPs): D = C / (FLOPs a token)."""

    kind: Literal["isoflop"]
    flops: Annotated[list[PositiveFloat], Field(min_length=1)]


class TokensPerParameter(_Grid):
    """Every width at every ratio D / N, N non-embedding."""

    kind: Literal["tokens_per_parameter"]
    ratios: Annotated[list[PositiveFloat], Field(min_length=1)]


Grid = Annotated[SizesByTokens | IsoFlop | TokensPerParameter, Field(discriminator="kind")]


class Replicates(Section):
    """Extra seeds, which measure the noise between seeds; `tokens` bounds their D (None: the whole grid)."""

    seeds: list[int] = []
    widths: list[PositiveInt] = []
    max_tokens: PositiveInt | None = None


class Model(Section):
    """Shape of the transformer; width comes from the grid. `context` in tokens.

    `build` names a model of the user's own in its place, "package.module:function", which is given that shape (see
    models/own.py).
    """

    depth: PositiveInt
    head_size: PositiveInt
    context: PositiveInt
    mlp_ratio: PositiveInt = 4
    rope_base: PositiveFloat = 1000.0
    parametrization: Literal["mup", "standard"] = "mup"
    base_width: PositiveInt = 64
    build: Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$")] | None = None


class Optimizer(Section):
    """Rates at `model.base_width`. `matrix_rate` is for hidden matrices, the others for embedding and head."""

    kind: Literal["muon", "adamw"]
    matrix_rate: PositiveFloat
    embedding_rate: PositiveFloat
    head_rate: PositiveFloat
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.95
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    clip_norm: PositiveFloat | None = None


class Batch(Section):
    """Global batch in tokens: B(t) = tokens * max(1, (t / growth_from)^growth_power) after t tokens."""

    tokens: PositiveInt
    growth_from: PositiveInt = 60_000
    growth_power: Annotated[float, Field(ge=0, le=1)] = 0.5


class Schedule(Section):
    """`wsd`: warm-up, constant, linear cooldown over the last `cooldown_fraction` of D. `cosine`: from scratch to 0."""

    kind: Literal["wsd", "cosine"]
    warmup_tokens: Annotated[int, Field(ge=0)]
    cooldown_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2


class Evaluation(Section):
    """Fixed validation windows, the same for all runs, each `model.context` tokens long, a few from each document."""

    windows: PositiveInt
    windows_per_document: PositiveInt


class LanguageModel(Section):
    """The language-model scaling study: what is trained, how, and on which grid."""

    grid: Grid
    seed: int = 0
    replicates: Replicates = Replicates()
    model: Model
    optimizer: Optimizer
    batch: Batch
    schedule: Schedule
    evaluation: Evaluation
    allow_repeats: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> LanguageModel:
        places = [("grid.widths", width) for width in self.grid.widths]
        places += [(f"grid.points.{number}.width", point.width) for number, point in enumerate(self.grid.points)]
        for place, width in places:
            if width % self.model.head_size:
                raise ValueError(f"{place}: {width} is not divisible by model.head_size {self.model.head_size}")
        if self.model.head_size % 2:
            raise ValueError(f"model.head_size: {self.model.head_size} is odd; rotary positions need pairs")
        if self.batch.tokens % self.model.context:
            raise ValueError(
                f"batch.tokens: {self.batch.tokens} is not a multiple of model.context {self.model.context}"
            )
        for width in self.replicates.widths:
            if width not in self.grid.widths:
                raise ValueError(f"replicates.widths: {width} is not one of grid.widths {self.grid.widths}")
        if self.seed in self.replicates.seeds:
            raise ValueError(f"replicates.seeds: {self.seed} is already language_model.seed")
        return self


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


class Laws(Section):
    """The laws of learning mechanics to be tested beside the scaling study: one field a law of params.yaml."""

    @property
    def tested(self) -> dict[str, Section]:
        """The settings of every law that is on, by name, in the order of params.yaml."""
        return {name: getattr(self, name) for name in type(self).model_fields if getattr(self, name).on}


class Params(Section):
    """The whole of params.yaml."""

    study: Study
    prepare: Prepare
    language_model: LanguageModel
    laws: Laws = Laws()
    train: Train
    collect: Collect
    fit: Fit
    report: Report
    publish: Publish = Publish()


def read_params(path: Path = Path("params.yaml")) -> Params:
    """The validated parameters of the study in `path`.

    Raises ValueError with one line a fault: file, field, value.
    """
    return validated(path, read_tree(path, YAML(typ="safe")))


def read_section(name: str, path: Path = Path("params.yaml")) -> Any:
    """The section `name` of the parameters in `path`, validated alone: for the whole of it the laws' modules are
    loaded, which takes half a second.

    Raises ValueError as `read_params` does.
    """
    model = create_model(
        "Part", __config__=ConfigDict(frozen=True), **{name: (Params.model_fields[name].annotation, ...)}
    )
    return getattr(_checked(path, model, read_tree(path, YAML(typ="safe"))), name)


def read_tree(path: Path, yaml: YAML) -> Any:
    """The content of the file `path` as `yaml` gives it. Raises ValueError where there is none, or no YAML."""
    try:
        return yaml.load(path)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" line {mark.line + 1}" if mark else ""
        raise ValueError(f"{path}:{place} not YAML: {getattr(error, 'problem', error)}") from None


def validated(path: Path, tree: object) -> Params:
    """`tree` as parameters. Raises ValueError with one line a fault: file `path`, field, value."""
    return _checked(path, _with_laws(path, tree), tree)


def _checked(path: Path, model: type[BaseModel], tree: object) -> Any:
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        # A misspelt key is also a missing one: the unknown name alone tells more.
        unknown = [fault for fault in error.errors() if fault["type"] == "extra_forbidden"]
        raise ValueError("\n".join(_fault(path, fault) for fault in unknown or error.errors())) from None


def _with_laws(path: Path, tree: object) -> type[Params]:
    """Params with a field for each law that `tree` names."""
    named = tree.get("laws") if isinstance(tree, dict) else None
    if not isinstance(named, dict):
        return Params
    for name in named:
        if not isinstance(name, str) or not name.isidentifier() or find_spec(f"{LAWS}.{name}") is None:
            raise ValueError(f"{path}: laws.{name}: no such law (value {named[name]!r}); `study laws` lists them")
    return _params_of(tuple(named))


@lru_cache
def _params_of(laws: tuple[str, ...]) -> type[Params]:
    """The class of parameters with these laws, the same one each time, so that equal parameters are equal."""
    fields = {name: (import_module(f"{LAWS}.{name}").Settings, ...) for name in laws}
    return create_model("Params", __base__=Params, laws=(create_model("Laws", __base__=Laws, **fields), ...))


def _fault(path: Path, fault: dict) -> str:
    place = ".".join(str(part) for part in fault["loc"]) or "(whole file)"
    if fault["type"] == "extra_forbidden":
        return f"{path}: {place}: unknown key (value {fault['input']!r})"
    if fault["type"] == "missing":
        return f"{path}: {place}: missing"
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "value_error":
        return f"{path}: {place}.{message}"
    return f"{path}: {place}: {message} (value {fault['input']!r})"
