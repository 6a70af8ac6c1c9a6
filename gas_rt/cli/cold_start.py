"""One cold start, measured inside the process that starts: the child of ``gas-rt bench``.

`measure_starts` runs it as `BEGIN` and reads the times it prints.
"""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gas_rt.errors import BackendError

__all__ = ["StartSettings", "main", "measure_starts"]

# The clock is read before anything of ours is imported.
BEGIN = (
    "import time; began_ns = time.monotonic_ns(); "
    "from gas_rt.cli.cold_start import main; main(began_ns)"
)
KINDS = ("cold", "warm")  # with an empty plan store, and with what that one left in it
FRAMES_MAX = 64  # pushed until a frame comes


@dataclass(frozen=True)
class StartSettings:
    """What is started; the names are those of ``gas_rt.load`` and ``model.session``."""

    model: str
    backend: str
    precision: str
    threads: int | None
    avatar: str
    policy: str
    steps: int | None
    side_px: int


def measure_starts(settings: StartSettings, name: str, *, runs: int) -> list[dict[str, Any]]:
    """The report's ``cold_start`` of one case: `runs` processes of each kind in turn, medians."""
    found: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
    for _ in range(runs):
        with tempfile.TemporaryDirectory(prefix="gas-rt-start-") as folder:
            for kind in KINDS:
                found[kind].append(_start(settings, f"{kind} start, {name}", Path(folder)))
    return [_median_of(starts) for starts in found.values()]


def _median_of(starts: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians of the numbers, the last run's texts; the phases' medians need not add up."""
    merged = dict(starts[-1])
    for key, value in merged.items():
        if isinstance(value, float):
            merged[key] = round(statistics.median(start[key] for start in starts), 3)
    return {**merged, "runs": len(starts)}


def _start(settings: StartSettings, name: str, folder: Path) -> dict[str, Any]:
    from gas_rt.bench.start import StartTimes, start_row

    # The secret that seals plans lies apart from them.
    environment = {**os.environ, "XDG_STATE_HOME": str(folder / "state")}
    given = json.dumps({**asdict(settings), "plans": str(folder / "plans")})
    spawned_ns = time.monotonic_ns()
    done = subprocess.run(
        [sys.executable, "-c", BEGIN, given],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        told = json.loads(done.stdout)
        times = StartTimes(spawned_ns=spawned_ns, **told["times"])
        return start_row(name, times, told["extra"])
    except (ValueError, KeyError, TypeError) as error:
        said = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        raise BackendError(
            f"bench: the process that measures a start failed: {said[-1]}; run gas-rt doctor"
        ) from error


def main(began_ns: int) -> None:
    """Start what the command line's JSON says and print when each phase ended."""
    given = json.loads(sys.argv[1])
    _import(given["backend"])
    imported_ns = time.monotonic_ns()
    import gas_rt
    from gas_rt.bench.start import peak_rss_mib
    from gas_rt.cli.requests import orbit_requests
    from gas_rt.stream.play import play, recorder_for

    with gas_rt.load(
        given["model"],
        given["backend"],
        given["threads"],
        precision=given["precision"],
        plans=given["plans"],
    ) as model:
        avatar = model.open_avatar(given["avatar"])
        loaded_ns = time.monotonic_ns()
        with model.session(
            avatar, policy=given["policy"], steps=given["steps"], task="view", on_late="lossless"
        ) as session:
            opened_ns = time.monotonic_ns()
            requests = orbit_requests(model.performer(avatar), given["side_px"], FRAMES_MAX)
            excluded_ns = time.monotonic_ns() - opened_ns
            next(play(session, requests, recorder=recorder_for(session, "start"), live=False))
            framed_ns = time.monotonic_ns() - excluded_ns
        plans = model.backend.plans
    times = {
        "began_ns": began_ns,
        "imported_ns": imported_ns,
        "loaded_ns": loaded_ns,
        "opened_ns": opened_ns,
        "framed_ns": framed_ns,
    }
    print(json.dumps({"times": times, "extra": {"peak_rss_mib": peak_rss_mib(), "plans": plans}}))


def _import(backend: str) -> None:
    """Everything a session imports, and the libraries of the backend, before it is loaded."""
    for name in ("gas_rt.model", "gas_rt.bench.start", "gas_rt.cli.requests", "gas_rt.stream.play"):
        importlib.import_module(name)
    for name in ("openvino", "onnxruntime") if backend == "auto" else (backend.partition("-")[0],):
        if importlib.util.find_spec(name) is not None:
            importlib.import_module(name)
