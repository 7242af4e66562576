"""The record of one finished run on disk, read and proved."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from itertools import groupby

import numpy as np
import polars as pl
from safetensors import SafetensorError
from safetensors.numpy import load

from pipeline.execution.digests import Sealed
from pipeline.planning.run_spec import SETTLED, RunSpec
from pipeline.storage import Damaged

REPAIR = "run `make study` to train the run again"
FIELDS = {"status": str, "reason": (str, type(None)), "done": int, "scalars": dict}
STATUSES = (*SETTLED, "failed")
AT_ONCE = 2000
"""Records whose curves are best read together."""
NO_CURVES = pl.DataFrame(schema={"run_id": pl.String})
NOT_THAT_FORMAT = (SafetensorError, pl.exceptions.PolarsError, pl.exceptions.PanicException)


class Record:
    """The record of the run `run_id` in the folder `place`, whose digests are read once.

    All that reads it raises Damaged, a ValueError naming the file, where that is not as it was written or does not hold
    what a record holds.
    """

    def __init__(self, run_id: str, place: str):
        self.run_id, self.place = run_id, place
        with _named(place):
            self._sealed = Sealed(place)

    def result(self) -> dict:
        """result.json: the fields of FIELDS."""
        data = self._read("result.json")
        with _named(f"{self.place}/result.json"):
            record = json.loads(data.decode())
            if not isinstance(record, dict) or record.keys() != FIELDS.keys():
                raise ValueError(f"not the fields {', '.join(FIELDS)}")
            wrong = [name for name, kind in FIELDS.items() if not isinstance(record[name], kind)]
            wrong += [name for name, x in record["scalars"].items() if type(x) not in (int, float)] if not wrong else []
            if wrong or record["status"] not in STATUSES:
                raise ValueError(f"{wrong[0] if wrong else 'status'}: not a value that a record holds")
        return record

    def spec(self) -> RunSpec:
        """The spec of the run."""
        text = self._read("spec.json")
        with _named(f"{self.place}/spec.json"):
            spec = RunSpec.from_json(text.decode())
            if spec.run_id != self.run_id:
                raise ValueError(f"it is the spec of the run {spec.run_id}")
        return spec

    def curve(self) -> pl.DataFrame:
        """The training curve, from initialisation on; its first column after run_id counts steps or tokens."""
        data = self._read("curve.parquet")
        with _named(f"{self.place}/curve.parquet"):
            return _checked_curves(pl.read_parquet(data), [self.run_id])

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays that the result holds."""
        data = self._read("arrays.safetensors")
        with _named(f"{self.place}/arrays.safetensors"):
            return load(data)

    def check(self) -> None:
        """Reads everything, the checkpoint on this disk too. Raises Damaged where something is not sound, or the record
        is that of another run."""
        with _named(self.place):
            self._sealed.check()
        self.spec()
        if self.result()["status"] != "failed":
            self.curve()
            self.arrays()

    def _read(self, name: str) -> bytes:
        with _named(self.place):
            return self._sealed.read(name)


def read_curves(records: Sequence[Record]) -> pl.DataFrame:
    """The curves of `records`, one below the other, with the columns of all; NO_CURVES without records.

    Those with the same columns are read together, which takes a fifth of the time.
    """
    if not records:
        return NO_CURVES
    data = [BytesIO(record._read("curve.parquet")) for record in records]
    try:
        return _checked_curves(pl.read_parquet(data), [record.run_id for record in records])
    except (ValueError, *NOT_THAT_FORMAT):  # other columns, or a damaged one, which is named
        return pl.concat([record.curve() for record in records], how="diagonal_relaxed")


@contextmanager
def _named(path: str) -> Iterator[None]:
    """Raises Damaged, with the file and what to do about it, for whatever shows that a record is not as written."""
    try:
        yield
    except Damaged as error:
        raise Damaged(f"{error}; {REPAIR}") from None
    except (ValueError, TypeError, KeyError, RecursionError, *NOT_THAT_FORMAT) as error:
        raise Damaged(f"{path}: {' '.join(str(error).split())}; {REPAIR}") from None


def _checked_curves(curves: pl.DataFrame, run_ids: Sequence[str]) -> pl.DataFrame:
    named = [name for name, _ in groupby(curves["run_id"].to_list())] if "run_id" in curves.columns else [None]
    if named != list(run_ids) and (named or len(run_ids) > 1):
        raise ValueError("it is the curve of another run")
    wrong = [name for name, kind in curves.schema.items() if name != "run_id" and not kind.is_numeric()]
    if wrong:
        raise ValueError(f"{wrong[0]}: not a column of numbers")
    return curves
