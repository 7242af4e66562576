"""Each kind of failure is told apart, and running out of memory is recognised where it really happens."""

import errno
import pickle
import subprocess
import sys

import pytest

from pipeline.execution.failures import failure_of
from pipeline.stage import run_stage


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError("no memory"), "memory"),
        (OSError(errno.ENOSPC, "full", "runs/x"), "disk"),
        (OSError(errno.EACCES, "denied"), "bug"),
        (KeyError("x"), "bug"),
    ],
)
def test_kinds(error, kind):
    failure = failure_of(error)
    assert failure.kind == kind
    assert type(error).__name__ in failure.summary
    assert failure.place == (error.filename if kind == "disk" else "")
    assert pickle.loads(pickle.dumps(failure)) == failure


def test_torch_out_of_memory_is_recognised():
    """A process that may not grow beyond 4 GB asks torch for 64 GB."""
    code = """
import resource, torch
from pipeline.execution.failures import out_of_memory
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
try:
    torch.empty(1 << 34)
except RuntimeError as error:
    print(out_of_memory(error), out_of_memory(RuntimeError("shapes do not match")))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["True", "False"]


def test_faults_of_the_user_end_in_one_line(capsys):
    def fault(error):
        def main():
            raise error

        code = run_stage(main)
        return code, capsys.readouterr().err

    assert fault(ValueError("params.yaml: x: wrong (value 3)")) == (1, "error: params.yaml: x: wrong (value 3)\n")
    assert fault(FileNotFoundError(errno.ENOENT, "No such file", "a.txt")) == (1, "error: a.txt: No such file\n")
    code, text = fault(OSError(errno.ENOSPC, "No space left on device", "runs/x"))
    assert code == 1
    assert text.startswith("error: runs/x: No space left on device; free some room")
    assert text.count("\n") == 1
    with pytest.raises(ZeroDivisionError):
        run_stage(lambda: 1 / 0)
