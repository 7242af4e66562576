"""The training step on a CPU core as machine code, by Numba: no autograd, no dispatch, nothing between the arithmetic.

Code once compiled is kept beside the sources under a name that changes with any of them, since Numba itself looks only
at the file that a function stands in, not at those of the functions that it calls.
"""

import hashlib
import os
from pathlib import Path

import numba

_folder = Path(__file__).parent
_sources = b"".join(path.read_bytes() for path in sorted(_folder.glob("*.py")))
if os.access(_folder, os.W_OK):
    numba.config.CACHE_DIR = str(_folder / "__pycache__" / hashlib.sha256(_sources).hexdigest()[:16])
