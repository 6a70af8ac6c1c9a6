"""What a compiled graph depends on, field by field; equal keys mean an interchangeable plan.

Files are known by content, never by name: a retrained weight, another precision, one more flag, a
new driver or another processor gives another key.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gas_rt.engine.onnx_external import external_data_of
from gas_rt.engine.protocol import GraphSpec, TensorSpec
from gas_rt.errors import BackendError

__all__ = ["PlanKey", "SourceFile", "differences", "plan_key", "sha256_of"]

# A file changed twice within one tick of the kernel's clock keeps its times, so the hash of a file
# that was changed this recently is not remembered.
SETTLED_NS = 2_000_000_000
Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class SourceFile:
    """A file as it was when it was hashed."""

    path: Path
    state: tuple[int, ...]  # device, inode, size, mtime, ctime

    @staticmethod
    def of(path: Path) -> SourceFile:
        """The file as it is now."""
        s = path.stat()
        return SourceFile(path, (s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns))

    def unchanged(self) -> bool:
        """Whether the file is still the one that was hashed."""
        try:
            return SourceFile.of(self.path) == self
        except OSError:
            return False


@dataclass(frozen=True)
class PlanKey:
    """What a plan depends on.

    Attributes
    ----------
    graph : its name in the bundle.
    backend : that compiles it.
    precision : the recipe, as the backend names it.
    onnx : SHA-256 of the ONNX file: graph, constants, per-layer precision.
    weights : by file name, the SHA-256 of every file the ONNX keeps weights in.
    profile : by tensor (``in.NAME``, ``out.NAME``), dtype and static shape.
    flags : what the compiler was told beside that.
    machine : what it was compiled on and with: processor, versions, system.
    sources : the files behind `onnx` and `weights`; no part of the key.
    """

    graph: str
    backend: str
    precision: str
    onnx: str
    weights: Pairs
    profile: Pairs
    flags: Pairs
    machine: Pairs
    sources: tuple[SourceFile, ...] = field(default=(), compare=False, repr=False)

    def fields(self) -> dict[str, str]:
        """Every field under its dotted name, as manifests record it and messages show it."""
        return {
            "graph": self.graph,
            "backend": self.backend,
            "precision": self.precision,
            "onnx": self.onnx,
            **{f"weights.{name}": value for name, value in self.weights},
            **{f"profile.{name}": value for name, value in self.profile},
            **{f"flags.{name}": value for name, value in self.flags},
            **{f"machine.{name}": value for name, value in self.machine},
        }

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of all fields; the plan's name in the store."""
        return digest_of(self.fields())


def digest_of(fields: Mapping[str, str]) -> str:
    """SHA-256 of fields, whatever their order."""
    text = json.dumps(dict(fields), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def differences(kept: Mapping[str, str], wanted: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """(field, "is A, wanted B") for every field in which two keys differ."""
    for name in sorted({*kept, *wanted}):
        is_, want = kept.get(name, "absent"), wanted.get(name, "absent")
        if is_ != want:
            yield name, f"{_short(is_)}, wanted {_short(want)}"


def _short(value: str) -> str:
    return value if len(value) <= 60 else f"{value[:20]}…"


def plan_key(
    spec: GraphSpec,
    *,
    backend: str,
    precision: str,
    flags: Mapping[str, str],
    machine: Mapping[str, str],
) -> PlanKey:
    """The key of a graph on this machine.

    Raises `BackendError` for an empty value, which would make two machines look the same, and
    `BundleError` for an ONNX file whose external data cannot be read or leaves its folder.
    """
    for kind, values in (("flags", flags), ("machine", machine)):
        for name, value in values.items():
            if not isinstance(value, str) or not value:
                raise BackendError(
                    f"graph {spec.name}: {kind}.{name} is {value!r}; plans are kept only where "
                    "everything they depend on is known"
                )
    files = {".": spec.path, **_weight_files(spec.path)}
    sources = {name: SourceFile.of(path) for name, path in files.items()}
    hashes = {name: sha256_of(path) for name, path in files.items()}
    return PlanKey(
        graph=spec.name,
        backend=backend,
        precision=precision,
        onnx=hashes.pop("."),
        weights=tuple(sorted(hashes.items())),
        profile=tuple(_profile("in", spec.inputs)) + tuple(_profile("out", spec.outputs)),
        flags=tuple(sorted(flags.items())),
        machine=tuple(sorted(machine.items())),
        sources=tuple(sources.values()),
    )


def _profile(side: str, tensors: Mapping[str, TensorSpec]) -> Iterator[tuple[str, str]]:
    for name, tensor in sorted(tensors.items()):
        yield f"{side}.{name}", f"{tensor.dtype}{list(tensor.shape)}"


def _weight_files(onnx: Path) -> dict[str, Path]:
    """By the name the ONNX file uses, the files it keeps weights in."""
    locations = {data.location for data in external_data_of(onnx, sha256_of(onnx))}
    root = onnx.parent.resolve()
    files = {name: onnx.parent / name for name in sorted(locations)}
    for name, path in files.items():
        if path.is_symlink() or not path.resolve().is_relative_to(root) or not path.is_file():
            raise BackendError(
                f"{onnx.name}: keeps weights in {name!r}, which is no plain file of its folder; "
                "export it again"
            )
    return files


def sha256_of(path: Path) -> str:
    """SHA-256 of a file; remembered for as long as the file isn't touched."""
    source = SourceFile.of(path)
    newest = max(source.state[-2:])
    settled = newest + SETTLED_NS < time.time_ns()
    return _remembered_sha256(source) if settled else _sha256(path)


@functools.lru_cache(maxsize=256)
def _remembered_sha256(source: SourceFile) -> str:
    return _sha256(source.path)


def _sha256(path: Path) -> str:
    with open(path, "rb", opener=_no_wait) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _no_wait(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # a FIFO would never answer
