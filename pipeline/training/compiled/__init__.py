"""The training step on a CPU core as machine code, by Numba: no autograd, no dispatch, nothing between the arithmetic.

Code once compiled is kept beside the sources under a name that changes with any of them, since Numba itself looks only
at the file that a function stands in, not at those of the functions that it calls; with the processor, and with the
folder, since Numba knows code by the place of its source.
"""

import errno
import fcntl
import hashlib
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import numba
from llvmlite.binding import get_host_cpu_features, get_host_cpu_name

_folder = Path(__file__).parent
_sources = b"".join(path.read_bytes() for path in sorted(_folder.glob("*.py")))
_processor = f"{get_host_cpu_name()} {get_host_cpu_features().flatten()}"
_kept = _folder / "__pycache__" / hashlib.sha256(_sources + f"{_processor}{_folder}".encode()).hexdigest()[:16]
if os.access(_folder, os.W_OK):
    numba.config.CACHE_DIR = str(_kept)


@cache
def compile_apart(head_size: int) -> None:
    """Returns once the machine code for heads of `head_size` lies beside the sources, from a process of its own.

    A process that has compiled the step itself rounds its sums in another order than one that loads the same code, so
    every process that trains loads it. Processes that need it at once wait for the first of them. Raises OSError where
    there is no room for it, RuntimeError where it cannot be compiled for another reason.
    """
    done = _kept / f"head_size_{head_size}"
    if not numba.config.CACHE_DIR or done.exists():
        return
    _kept.mkdir(parents=True, exist_ok=True)
    with (_kept / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            project = os.pathsep.join([str(_folder.parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
            command = [sys.executable, "-m", __name__, str(head_size)]
            ways = os.environ | {"PYTHONPATH": project}
            compiled = subprocess.run(command, env=ways, stderr=subprocess.PIPE, text=True)
            if os.strerror(errno.ENOSPC) in compiled.stderr:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(_kept))
            if compiled.returncode:
                raise RuntimeError(f"the training step cannot be compiled: {compiled.stderr}")
            done.touch()
