"""Two reports of the same machine and runs: which figures got worse, and by how much."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gas_rt.bench.scenario import Kind, figure
from gas_rt.errors import FileError, InputError
from gas_rt.stream.report import SCHEMA_VERSION

__all__ = [
    "TOLERANCES",
    "Change",
    "Comparison",
    "Tolerance",
    "check_alike",
    "compare",
    "identity",
    "read_report",
]

REPORT_MAX_BYTES = 64 << 20
RUN_TEXTS = ("name", "kind", "policy", "task")
BACKEND_TEXTS = ("requested", "actual", "device", "precision")


@dataclass(frozen=True)
class Tolerance:
    """How much worse a figure may get: `relative` of the old value plus `absolute`.

    `kind` None stands for both;
    """

    path: tuple[str, ...]
    unit: str
    relative: float
    absolute: float = 0.0
    more_is_better: bool = False
    kind: Kind | None = None

    @property
    def name(self) -> str:
        """The figure's path as one word."""
        return ".".join(self.path)


# Relative parts: a rate of an undisturbed run repeats within 3 % from one run to the next, a tail
# percentile within 10 %; each gets about three times that. Absolute parts keep small values from
# failing on what nobody can see.
TOLERANCES = (
    Tolerance(("fps",), "fps", 0.10, more_is_better=True, kind="saturated"),
    Tolerance(("core_s_per_frame",), "core-seconds", 0.10, kind="saturated"),
    Tolerance(("stages_sum_ms",), "ms", 0.10, 0.5, kind="saturated"),
    Tolerance(("age_ms", "p50"), "ms", 0.10, 5.0, kind="live"),
    Tolerance(("age_ms", "p95"), "ms", 0.15, 10.0, kind="live"),
    Tolerance(("age_ms", "p99"), "ms", 0.30, 20.0, kind="live"),
    Tolerance(("interframe_ms", "p95"), "ms", 0.15, 5.0, kind="live"),
    Tolerance(("jitter_ms",), "ms", 0.30, 3.0, kind="live"),
    Tolerance(("first_frame_ms",), "ms", 0.20, 20.0, kind="live"),
    Tolerance(("deadline_miss",), "of all", 0.0, 0.01, kind="live"),
    Tolerance(("viewer", "stall_ms"), "ms", 0.20, 50.0, kind="live"),
    Tolerance(("full_share",), "of all", 0.0, 0.01, more_is_better=True),
)
MEMORY = Tolerance(("memory", "peak_rss_mib"), "MiB", 0.10, 16.0)
STARTS = (
    Tolerance(("total_ms",), "ms", 0.25, 200.0),
    Tolerance(("peak_rss_mib",), "MiB", 0.10, 16.0),
)


@dataclass(frozen=True)
class Change:
    """One figure in both reports."""

    run: str
    tolerance: Tolerance
    old: float
    new: float

    @property
    def regressed(self) -> bool:
        """Whether it got worse by more than is tolerated."""
        worse = self.old - self.new if self.tolerance.more_is_better else self.new - self.old
        return worse > self.tolerance.relative * abs(self.old) + self.tolerance.absolute

    def as_dict(self) -> dict[str, Any]:
        """For the report."""
        return {
            "run": self.run,
            "figure": self.tolerance.name,
            "old": self.old,
            "new": self.new,
            "change": round(self.new / self.old - 1, 4) if self.old else None,
            "tolerated_relative": self.tolerance.relative,
            "tolerated_absolute": self.tolerance.absolute,
            "unit": self.tolerance.unit,
            "regressed": self.regressed,
        }

    def __str__(self) -> str:
        tolerance = self.tolerance
        share = f", {self.new / self.old - 1:+.1%}" if self.old else ""
        allowed = [f"{tolerance.relative:.0%}"] if tolerance.relative else []
        allowed += [f"{tolerance.absolute:g} {tolerance.unit}"] if tolerance.absolute else []
        return (
            f"{self.run}: {tolerance.name} {self.old:.4g} → {self.new:.4g} {tolerance.unit}"
            f"{share} ({'less' if tolerance.more_is_better else 'more'} by "
            f"{' + '.join(allowed)} is tolerated)"
        )


@dataclass(frozen=True)
class Comparison:
    """All figures that both reports have, and runs that only the old one has."""

    changes: tuple[Change, ...]
    left_out: tuple[str, ...]

    @property
    def regressions(self) -> tuple[Change, ...]:
        """The figures that got worse by more than is tolerated."""
        return tuple(change for change in self.changes if change.regressed)


def read_report(path: str | Path) -> dict[str, Any]:
    """A report of ``gas-rt bench``, with every part that a comparison reads.

    Raises `FileError` for whatever else the file may be.
    """
    path = Path(path)
    try:
        if path.stat().st_size > REPORT_MAX_BYTES:
            raise FileError(f"{path}: larger than 64 MiB, so no report; give a report.json")
        document = json.loads(path.read_bytes(), parse_constant=_no_constant)
    except OSError as error:
        raise FileError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except (ValueError, RecursionError) as error:
        raise FileError(
            f"{path}: not a JSON document ({error}); give the output of gas-rt bench --json"
        ) from error
    try:
        _check_report(document)
    except FileError as error:
        raise FileError(
            f"{path}: {error}; give the output of gas-rt bench --json, of this version"
        ) from error
    return document  # type: ignore[no-any-return]  # an object, as was just checked


def check_alike(old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Raise `InputError` unless figures of the reports can be compared, saying what differs.

    They must agree in the machine's processor, the threads, the bundle and how they measure, and
    the old one must have every run of the new. `new` need not have been measured yet: of its runs,
    only what `identity` reads is looked at, and the name.
    """
    found = []
    for part, keys in (
        ("environment", ("cpu", "cpus", "kernel_isa")),
        ("model", ("bundle", "threads")),
        ("bench", ("fps", "seconds", "rounds", "jitter_ms", "buffer_ms", "motion", "quick")),
    ):
        for key in keys:
            before, now = old[part].get(key), new[part].get(key)
            if before != now:
                found.append(f"{part} {key} was {before!r}, is {now!r}")
    if found:
        raise InputError(
            f"--compare: the runs are unlike: {'; '.join(found)}; measure the old version here, "
            "with the same flags"
        )
    if problems := old["bench"]["noise"]:
        raise InputError(
            f"--compare: the old run was itself too noisy to count: {problems[0]}; measure it again"
        )
    known = {identity(run) for run in old["runs"]}
    if unmatched := [run["name"] for run in new["runs"] if identity(run) not in known]:
        raise InputError(
            f"--compare: the old report has no run like {', '.join(unmatched)} on the same "
            f"backend and precision; it has {', '.join(run['name'] for run in old['runs'])}"
        )


def identity(run: Mapping[str, Any]) -> tuple[Any, ...]:
    """What makes two runs the same: kind, policy, task, steps, resolution, and what ran them."""
    backend = run["backend"]
    return (
        *(run[key] for key in ("kind", "policy", "task", "steps")),
        tuple(run["resolution"]),
        *(backend[key] for key in BACKEND_TEXTS),
    )


def compare(old: Mapping[str, Any], new: Mapping[str, Any]) -> Comparison:
    """Match the runs of reports that are alike and compare their figures."""
    before = {identity(run): run for run in old["runs"]}
    changes: list[Change] = []
    for run in new["runs"]:
        tolerances = [t for t in TOLERANCES if t.kind in (None, run["kind"])]
        changes += _changes(str(run["name"]), before.pop(identity(run)), run, tolerances)
    changes += _changes("all runs", old, new, [MEMORY])
    starts = {start["name"]: start for start in old.get("cold_start") or ()}
    for start in new.get("cold_start") or ():
        if start["name"] in starts:
            changes += _changes(str(start["name"]), starts[start["name"]], start, STARTS)
    return Comparison(tuple(changes), tuple(str(run["name"]) for run in before.values()))


def _changes(
    name: str,
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    tolerances: Sequence[Tolerance],
) -> list[Change]:
    found = []
    for tolerance in tolerances:
        before, now = figure(old, tolerance.path), figure(new, tolerance.path)
        if before is not None and now is not None:
            found.append(Change(name, tolerance, before, now))
    return found


# ---- a file that a stranger wrote ---------------------------------------------------------------


def _check_report(document: Any) -> None:
    """Raise `FileError` unless everything a comparison reads is there and of its type."""
    report = _object(document, "the document")
    version = report.get("schema_version")
    if version != SCHEMA_VERSION or isinstance(version, bool):
        raise FileError(f"'schema_version' is {version!r:.40}, expected {SCHEMA_VERSION}")
    for part in ("environment", "model", "bench"):
        _object(report.get(part), f"{part!r}")
    problems = report["bench"].get("noise")
    if not isinstance(problems, list) or not all(isinstance(p, str) for p in problems):
        raise FileError("'noise' of 'bench': expected a list of texts")
    for key in ("runs", "cold_start"):
        if not isinstance(report.get(key), list):
            raise FileError(f"{key!r}: expected a list, got {report.get(key)!r:.40}")
    if not report["runs"]:
        raise FileError("'runs': is empty")
    seen: set[tuple[Any, ...]] = set()
    for k, value in enumerate(report["runs"]):
        run = _object(value, f"run {k}")
        _check_run(run, f"run {k}")
        if identity(run) in seen:
            raise FileError(f"run {k}: is there twice")
        seen.add(identity(run))
    for k, value in enumerate(report["cold_start"]):
        _text(_object(value, f"start {k}"), "name", f"start {k}")


def _check_run(run: Mapping[str, Any], where: str) -> None:
    for key in RUN_TEXTS:
        _text(run, key, where)
    if not _is_number(run.get("steps")):
        raise FileError(f"{where}, 'steps': expected a number, got {run.get('steps')!r:.40}")
    size = run.get("resolution")
    if not isinstance(size, list) or len(size) != 2 or not all(_is_number(n) for n in size):
        raise FileError(f"{where}, 'resolution': expected two numbers, got {size!r:.40}")
    backend = _object(run.get("backend"), f"{where}, 'backend'")
    for key in BACKEND_TEXTS:
        _text(backend, key, f"{where}, 'backend'")
    for tolerance in TOLERANCES:
        if tolerance.kind in (None, run["kind"]):
            _check_figure(run, tolerance.path, where)


def _check_figure(run: Mapping[str, Any], path: Sequence[str], where: str) -> None:
    """A figure that is missing would be left out of the comparison in silence."""
    value: Any = run
    for key in path:
        value = value.get(key, "nothing") if isinstance(value, Mapping) else "nothing"
    if value is not None and not _is_number(value):
        raise FileError(f"{where}, {'.'.join(path)!r}: expected a number, got {value!r:.40}")


def _object(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise FileError(f"{where}: expected an object, got {value!r:.40}")
    return value


def _text(value: Mapping[str, Any], key: str, where: str) -> None:
    if not isinstance(value.get(key), str):
        raise FileError(f"{where}, {key!r}: expected a text, got {value.get(key)!r:.40}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")
