"""What a run has decided and spent, in ``DIR/making.json``: a run that was killed goes on by it."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from gas_rt.errors import InputError

__all__ = ["Ledger", "machine"]

FILE = "making.json"


class Ledger:
    """Decisions are made once: sizes that were measured again would be others.

    `asked` is what the command was given that the result depends on; a folder that was begun with
    something else is refused.
    """

    def __init__(
        self, folder: Path, asked: dict[str, Any], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._path, self._clock = folder / FILE, clock
        self._state: dict[str, Any] = {"asked": asked, "decided": {}, "wall_s": {}}
        if self._path.exists():
            self._state = json.loads(self._path.read_text())
            if self._state["asked"] != asked:
                raise InputError(
                    f"{self._path}: was begun with {self._state['asked']}, now {asked} are asked "
                    "for; give the same, or another --out"
                )
        folder.mkdir(parents=True, exist_ok=True)
        self._write()

    @property
    def begun(self) -> bool:
        """Whether anything has been decided in this folder."""
        return bool(self._state["decided"])

    @property
    def decided(self) -> dict[str, Any]:
        """Everything decided so far."""
        return dict(self._state["decided"])

    @property
    def wall_s(self) -> dict[str, float]:
        """Seconds that each step has taken, over all runs but for what a kill cut off."""
        return {name: round(value, 1) for name, value in self._state["wall_s"].items()}

    def once(self, name: str, decide: Callable[[], int]) -> int:
        """A decision, made now if it has not been."""
        if name not in self._state["decided"]:
            self._state["decided"][name] = decide()
            self._write()
        return int(self._state["decided"][name])

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Adds the time of its block to the step's."""
        began = self._clock()
        try:
            yield
        finally:
            spent = self._state["wall_s"]
            spent[step] = spent.get(step, 0.0) + self._clock() - began
            self._write()

    def left_s(self, budget_s: float, shares: dict[str, float], step: str) -> float:
        """What a step may take: its share of what is left for it and those after it."""
        names = list(shares)
        after = names[names.index(step) :]
        spent = self._state["wall_s"]
        left = budget_s - sum(value for name, value in spent.items() if name not in after)
        return max(0.0, left) * shares[step] / sum(shares[name] for name in after)

    def _write(self) -> None:
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text(json.dumps(self._state, indent=1) + "\n")
        os.replace(temporary, self._path)


def machine(device: str) -> dict[str, Any]:
    """What the figures of a run depend on."""
    told: dict[str, Any] = {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "device": device,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    if device == "cuda":
        told["device"] = torch.cuda.get_device_name()
    return told


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.is_file() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
