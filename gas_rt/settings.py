"""The environment variables gas-rt reads; one that it does not know is an error.

A misspelt switch that is ignored costs an afternoon, so it is named at once.
"""

from __future__ import annotations

import difflib
import os

from gas_rt.errors import InputError

__all__ = ["VARIABLES", "check_environment"]

PREFIX = "GAS_RT_"
VARIABLES = {
    "GAS_RT_KERNELS": "native (default) or numpy: which kernels run",
    "GAS_RT_ISA": "base, avx2 or avx512: instruction set of the native kernels (default: widest)",
    "GAS_RT_CUDA": "auto (default), 0 or 1: whether an installation builds the CUDA kernels",
    "GAS_RT_SANITIZE": "sanitizers to build the native kernels with, such as address,undefined",
}


def check_environment() -> None:
    """Raise if a variable is set that starts with ``GAS_RT_`` and means nothing."""
    for name in sorted(os.environ):
        if name.startswith(PREFIX) and name not in VARIABLES:
            near = difflib.get_close_matches(name, VARIABLES, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(VARIABLES)}"
            raise InputError(f"environment variable {name}: unknown; {hint}")
