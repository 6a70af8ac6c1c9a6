"""The environment variables gas-rt reads; one that it does not know is an error.

A misspelt switch that is ignored costs an afternoon, so it is named at once.
"""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from pathlib import Path

from gas_rt.errors import InputError

__all__ = ["VARIABLES", "PlanSettings", "check_environment", "plan_settings"]

PREFIX = "GAS_RT_"
VARIABLES = {
    "GAS_RT_KERNELS": "native (default) or numpy: which kernels run",
    "GAS_RT_ISA": "base, avx2 or avx512: instruction set of the native kernels (default: widest)",
    "GAS_RT_CUDA": "auto (default), 0 or 1: whether an installation builds the CUDA kernels",
    "GAS_RT_PLANS": "off, or where compiled graphs are kept (default: ~/.cache/gas-rt/plans)",
    "GAS_RT_PLANS_GIB": "GiB they may take before those used longest ago are removed (default: 16)",
    "GAS_RT_SANITIZE": "sanitizers to build the native kernels with, such as address,undefined",
}


def check_environment() -> None:
    """Raise if a variable is set that starts with ``GAS_RT_`` and means nothing."""
    for name in sorted(os.environ):
        if name.startswith(PREFIX) and name not in VARIABLES:
            near = difflib.get_close_matches(name, VARIABLES, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(VARIABLES)}"
            raise InputError(f"environment variable {name}: unknown; {hint}")


@dataclass(frozen=True)
class PlanSettings:
    """Whether compiled graphs are kept, and where; None is the plan store's own default."""

    on: bool
    folder: Path | None
    cap_bytes: int | None


def plan_settings(plans: str | Path | None = None) -> PlanSettings:
    """What the caller says of the plan store, or else the environment.

    Raises `InputError` for an empty folder and for a cap that is no positive number.
    """
    where = os.environ.get("GAS_RT_PLANS") if plans is None else plans
    if where == "":
        raise InputError("GAS_RT_PLANS: empty; give a folder, or 'off'")
    folder = None if where in (None, "off") else Path(where)
    return PlanSettings(where != "off", folder, _cap_bytes(os.environ.get("GAS_RT_PLANS_GIB")))


def _cap_bytes(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        cap = round(float(text) * (1 << 30))
    except (ValueError, OverflowError):
        cap = 0
    if cap < 1:
        raise InputError(f"GAS_RT_PLANS_GIB: expected a number above 0, got {text!r}")
    return cap
