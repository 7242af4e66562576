"""The identity of a run: what was trained, on which data, by which code."""

from __future__ import annotations

import hashlib
import json
import math
import re
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from types import NoneType

RUN_ID, EXPERIMENT = re.compile(r"[0-9a-f]{16}"), re.compile(r"[a-z][a-z0-9_]*")
SETTLED = ("finished", "diverged")
"""How a run can have ended that is never trained again: a diverged run is a result too."""


@dataclass(frozen=True)
class RunSpec:
    """One uninterrupted piece of training.

    `settings` holds every value that changes the numbers, as JSON types. `parent_id` is the run this one starts from.
    `resumes_id` is a run that lies on this run's own path, so that its checkpoint saves work but changes no number: a
    trunk is the same run wherever it was cut, and `resumes_id` is therefore not part of the identity. `label` is for
    people; `flops` is the training cost of this piece alone. A run whose work is not counted in FLOPs says instead how
    many `expected_seconds` it takes on one core.
    """

    experiment: str
    kind: str
    settings: dict
    seed: int
    data_digest: str
    code_digest: str
    parent_id: str | None = None
    resumes_id: str | None = None
    label: str = ""
    flops: float = 0.0
    expected_seconds: float = 0.0

    @cached_property
    def run_id(self) -> str:
        """16 hexadecimal digits of the hash of everything that changes the numbers."""
        return _sha256(self._identity(self._settings))[:16]

    @cached_property
    def _settings(self) -> str:
        return canonical_json(self.settings, "settings")

    def _identity(self, settings: str) -> str:
        fields = {
            "experiment": self.experiment,
            "kind": self.kind,
            "seed": self.seed,
            "parent_id": self.parent_id,
            "data": self.data_digest,
            "code": self.code_digest,
        }
        return _with_settings(fields, settings)

    @property
    def needs(self) -> str | None:
        """The run whose checkpoint must be there before this one starts, if any."""
        return self.parent_id or self.resumes_id

    def to_json(self) -> str:
        """Canonical JSON of the fields, which `from_json` reads back."""
        return _with_settings({name: getattr(self, name) for name in FIELDS if name != "settings"}, self._settings)

    @classmethod
    def from_json(cls, text: str) -> RunSpec:
        """The spec that `to_json` wrote. Raises ValueError naming a field that is missing, unknown or mistyped;
        what has no stable form in `settings` is refused by `run_id`."""
        fields = json.loads(text)
        if not isinstance(fields, dict):
            raise ValueError(f"spec: {text[:40]!r} is not a JSON object")
        for name in sorted(fields.keys() ^ FIELDS.keys()):
            raise ValueError(f"spec: {name}: {'unknown field' if name in fields else 'missing'}")
        for name, kinds in FIELDS.items():
            if type(fields[name]) not in kinds:
                raise ValueError(
                    f"spec: {name}: {fields[name]!r} is not {' or '.join(kind.__name__ for kind in kinds)}"
                )
        for name in ("parent_id", "resumes_id"):
            if fields[name] is not None:
                check_run_id(fields[name])
        if not EXPERIMENT.fullmatch(fields["experiment"]):
            raise ValueError(f"spec: experiment: {fields['experiment']!r} is not the name of an experiment")
        for name in ("flops", "expected_seconds"):
            _refuse_unstable(fields[name], f"spec.{name}")
        spec = cls(**fields)
        with suppress(ValueError):  # what was read from JSON has a stable form, unless a number in it is not finite
            vars(spec)["run_id"] = _sha256(spec._identity(_json(spec.settings)))[:16]
        return spec


FIELDS = {
    "experiment": (str,),
    "kind": (str,),
    "settings": (dict,),
    "seed": (int,),
    "data_digest": (str,),
    "code_digest": (str,),
    "parent_id": (str, NoneType),
    "resumes_id": (str, NoneType),
    "label": (str,),
    "flops": (float, int),
    "expected_seconds": (float, int),
}
"""Types of the fields of a RunSpec in JSON."""


def check_run_id(text: str) -> str:
    """`text`, which is a run_id. Raises ValueError otherwise: names of files and URIs are made from it."""
    if not isinstance(text, str) or not RUN_ID.fullmatch(text):
        raise ValueError(f"run_id: {text!r} is not 16 hexadecimal digits")
    return text


def digest(value: object) -> str:
    """Hexadecimal sha256 of the canonical JSON of `value`."""
    return _sha256(canonical_json(value))


def canonical_json(value: object, name: str = "value") -> str:
    """JSON with sorted keys and no spaces, equal for equal values.

    Raises ValueError for what has no one stable form (a set, an object, NaN) in the value, which goes by `name`: it
    must never enter an identity.
    """
    try:
        text = _json(value)
        stable = json.loads(text) == value
    except (TypeError, ValueError):
        stable = False
    if not stable:
        _refuse_unstable(value, name)  # which names what is to blame, but takes longer
        text = _json(value)
    return text


def _with_settings(fields: dict, settings: str) -> str:
    """Canonical JSON of an object with `fields`, and "settings" as the last of its names, whose JSON this is."""
    _refuse_unstable(fields, "spec")
    return f'{_json(fields)[:-1]},"settings":{settings}}}'


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


_json = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode


def _refuse_unstable(value: object, place: str) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise ValueError(f"{place}: key {key!r} is not text, so it has no stable form")
            _refuse_unstable(item, f"{place}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _refuse_unstable(item, f"{place}[{index}]")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{place}: {value} has no stable form")
    elif not (value is None or isinstance(value, (str, int, bool))):
        raise ValueError(f"{place}: {value!r} of type {type(value).__name__} has no stable form")
