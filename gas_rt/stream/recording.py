"""A recording: what was decided in a session, from which its frames can be made again.

It holds which pose, camera, task and steps entered the stages, how far each came and on which rung
of the ladder, where a window ended, and what was shown; no time of arrival. One safetensors file,
all of whose claims are checked before a tensor is read.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from gas_rt.avatar import Avatar, BundleMark
from gas_rt.core import JOINT_COUNT, BackendReport, Camera, Frame, Level, Pose, Request, Task
from gas_rt.engine import Bundle
from gas_rt.errors import FileError, GasRtError, GasRtWarning, InputError
from gas_rt.files import atomic_write
from gas_rt.stream.assembly import DiffusionRun
from gas_rt.stream.config import FPS_MAX
from gas_rt.tensor_file import TensorHeader, read_tensor_header, read_tensors

__all__ = ["FRAMES_MAX", "Admitted", "Recording", "SessionMark", "Shown", "digest_of"]

METADATA_KEY = "gas_rt_recording"
FORMAT_VERSION = 1
WHAT = "a gas-rt recording"
# An hour and more at 25 fps, in some 40 MB of file and twice that in memory.
FRAMES_MAX = 100_000
DIGEST_BYTES = 16
LEVELS: tuple[Level, ...] = get_args(Level)
# How far a pose comes: its field is rendered, it is denoised, and it is decoded.
FIELD_ONLY, DENOISED, DECODED = range(3)
STEPS_MAX = 1000
TASKS: tuple[Task | None, ...] = (None, *get_args(Task))
# Shapes by the counts they share: n admitted, m shown, c cameras.
TENSORS: dict[str, tuple[str, tuple[str | int, ...]]] = {
    "admitted.index": ("I32", ("n",)),
    "admitted.generation": ("I32", ("n",)),
    "admitted.rung": ("I32", ("n",)),
    "admitted.reached": ("U8", ("n",)),
    "admitted.fresh": ("U8", ("n",)),
    "admitted.steps": ("I32", ("n",)),
    "admitted.task": ("U8", ("n",)),
    "admitted.camera": ("I32", ("n",)),
    "admitted.rotations": ("F32", ("n", JOINT_COUNT, 3)),
    "admitted.translation": ("F32", ("n", 3)),
    "camera.intrinsics": ("F32", ("c", 3, 3)),
    "camera.rotation": ("F32", ("c", 3, 3)),
    "camera.translation": ("F32", ("c", 3)),
    "camera.size": ("I32", ("c", 2)),
    "shown.index": ("I32", ("m",)),
    "shown.level": ("U8", ("m",)),
    "shown.digest": ("U8", ("m", DIGEST_BYTES)),
}
SIZES = {"I32": "<i4", "U8": "u1", "F32": "<f4"}


@dataclass(frozen=True)
class SessionMark:
    """What a session was opened with, as far as its pixels follow from it.

    `threads` and the backend's fields are where it ran; elsewhere the last bits may differ.
    """

    bundle: BundleMark
    avatar: str
    policy: str
    steps: int
    seed: int
    task: Task
    noise_period: int | None
    mode: str
    half_field: bool
    skip_below_rad: float
    fps: float
    threads: int
    backend: str
    device: str
    precision: str

    @classmethod
    def of(
        cls,
        bundle: Bundle,
        avatar: Avatar,
        run: DiffusionRun,
        *,
        mode: str,
        half_field: bool,
        skip_below_rad: float,
        fps: float,
        threads: int,
        backend: BackendReport,
    ) -> SessionMark:
        """The mark of a session that is being opened."""
        return cls(
            bundle=BundleMark.of(bundle),
            avatar=avatar.fingerprint,
            policy=run.policy,
            steps=run.steps,
            seed=run.seed,
            task=run.task,
            noise_period=run.noise_period,
            mode=mode,
            # As a file can hold them: a rate may be a Fraction, or any of them NumPy's.
            half_field=bool(half_field),
            skip_below_rad=float(skip_below_rad),
            fps=float(fps),
            threads=threads,
            backend=backend.actual,
            device=backend.device,
            precision=backend.precision,
        )

    def warn_of_differences(self, here: SessionMark) -> None:
        """Warn of what may change the last bits of a replay `here`."""
        for name in ("backend", "device", "precision", "threads"):
            was, now = getattr(self, name), getattr(here, name)
            if was != now:
                warnings.warn(
                    f"replay: was recorded with {name} {was}, here it is {now}: frames may differ",
                    GasRtWarning,
                    stacklevel=3,
                )


@dataclass(frozen=True, eq=False)
class Admitted:
    """One frame that stages worked on.

    Attributes
    ----------
    index : its number in the stream, which its noise is made from.
    generation : resets of the session before it.
    rung : of the ladder it was made on; 0 is what the session asked for.
    request : without its times.
    reached : how far it came: its field was rendered (0), it was denoised (1), and decoded (2).
        In a session with a ladder, what was shown or dropped before goes no further.
    fresh : whether a pause of the poses ended the window before it.
    """

    index: int
    generation: int
    rung: int
    request: Request
    reached: int = DECODED
    fresh: bool = False


@dataclass(frozen=True)
class Shown:
    """One frame that was handed out; `digest` of its pixels, empty where it is not known."""

    index: int
    level: Level
    digest: bytes = b""


@dataclass(frozen=True)
class Recording:
    """The decisions of one session, in their order."""

    session: SessionMark
    admitted: tuple[Admitted, ...] = field(repr=False)
    shown: tuple[Shown, ...] = field(repr=False)

    @classmethod
    def open(cls, path: str | Path) -> Recording:
        """Read a recording. Raises `FileError` for a file that is none, or damaged."""
        header = read_tensor_header(path, what=WHAT)
        mark = _session_mark(header)
        _check_tensors(header)
        try:
            return cls._from_arrays(mark, read_tensors(header))
        except FileError:
            raise
        except (GasRtError, ValueError) as error:
            raise FileError(f"{path}: damaged: {error}; record the session again") from error

    def save(self, path: str | Path) -> None:
        """Write the recording, replacing the file in one step."""
        from safetensors.numpy import save

        description = {"format_version": FORMAT_VERSION, **asdict(self.session)}
        metadata = {METADATA_KEY: json.dumps(description, sort_keys=True)}
        with atomic_write(path) as stream:
            stream.write(save(self._arrays(), metadata))

    def check(self, bundle: Bundle, avatar: Avatar) -> None:
        """Raise `FileError` unless it was recorded with this bundle and avatar."""
        loaded = BundleMark.of(bundle)
        if self.session.bundle != loaded:
            raise FileError(
                f"recording: was made with bundle {self.session.bundle}, the one loaded is "
                f"{loaded}; load that bundle"
            )
        if self.session.avatar != avatar.fingerprint:
            raise FileError(
                f"recording: was made with avatar {self.session.avatar[:12]}, this one is "
                f"{avatar.fingerprint[:12]}; give the avatar file that was recorded"
            )

    def _arrays(self) -> dict[str, NDArray[Any]]:
        numbers: dict[tuple[Any, ...], int] = {}
        cameras: list[Camera] = []
        which = []
        for row in self.admitted:
            key = _camera_key(row.request.camera)
            if key not in numbers:
                numbers[key] = len(cameras)
                cameras.append(row.request.camera)
            which.append(numbers[key])
        rows, poses = self.admitted, [row.request.pose for row in self.admitted]
        values: dict[str, Any] = {
            "admitted.index": [row.index for row in rows],
            "admitted.generation": [row.generation for row in rows],
            "admitted.rung": [row.rung for row in rows],
            "admitted.reached": [row.reached for row in rows],
            "admitted.fresh": [row.fresh for row in rows],
            "admitted.steps": [row.request.steps or 0 for row in rows],
            "admitted.task": [TASKS.index(row.request.task) for row in rows],
            "admitted.camera": which,
            "admitted.rotations": [pose.rotations for pose in poses],
            "admitted.translation": [pose.translation for pose in poses],
            "camera.intrinsics": [camera.intrinsics for camera in cameras],
            "camera.rotation": [camera.rotation for camera in cameras],
            "camera.translation": [camera.translation for camera in cameras],
            "camera.size": [(camera.width, camera.height) for camera in cameras],
            "shown.index": [shown.index for shown in self.shown],
            "shown.level": [LEVELS.index(shown.level) for shown in self.shown],
            "shown.digest": [
                np.frombuffer(shown.digest.ljust(DIGEST_BYTES, b"\0"), np.uint8)
                for shown in self.shown
            ],
        }
        counts = {"n": len(rows), "m": len(self.shown), "c": len(cameras)}
        return {
            name: np.asarray(value, SIZES[TENSORS[name][0]]).reshape(_shape(name, counts))
            for name, value in values.items()
        }

    @classmethod
    def _from_arrays(cls, mark: SessionMark, arrays: dict[str, NDArray[Any]]) -> Recording:
        _check_values(arrays)
        cameras = [
            Camera(k, r, t, int(width), int(height))
            for k, r, t, (width, height) in zip(
                arrays["camera.intrinsics"],
                arrays["camera.rotation"],
                arrays["camera.translation"],
                arrays["camera.size"].tolist(),
                strict=True,
            )
        ]
        names = ("camera", "task", "steps", "index", "generation", "rung", "reached", "fresh")
        numbers = zip(*(arrays[f"admitted.{name}"].tolist() for name in names), strict=True)
        poses = zip(arrays["admitted.rotations"], arrays["admitted.translation"], strict=True)
        admitted = []
        for (camera, task, steps, *decided), pose in zip(numbers, poses, strict=True):
            request = Request(Pose(*pose), cameras[camera], None, TASKS[task], steps or None)
            index, generation, rung, reached, fresh = decided
            admitted.append(Admitted(index, generation, rung, request, reached, bool(fresh)))
        shown = tuple(
            Shown(index, LEVELS[level], digest.tobytes() if digest.any() else b"")
            for index, level, digest in zip(
                arrays["shown.index"].tolist(),
                arrays["shown.level"].tolist(),
                arrays["shown.digest"],
                strict=True,
            )
        )
        return cls(mark, tuple(admitted), shown)


def digest_of(frame: Frame) -> bytes:
    """What tells whether two frames have the same pixels."""
    digest = hashlib.blake2b(np.ascontiguousarray(frame.rgb).data, digest_size=DIGEST_BYTES)
    digest.update(np.ascontiguousarray(frame.alpha).data)
    return digest.digest()


def _camera_key(camera: Camera) -> tuple[Any, ...]:
    arrays = camera.intrinsics, camera.rotation, camera.translation
    return (*(array.tobytes() for array in arrays), camera.width, camera.height)


def _shape(name: str, counts: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(counts[n] if isinstance(n, str) else n for n in TENSORS[name][1])


def _session_mark(header: TensorHeader) -> SessionMark:
    path = header.path
    if METADATA_KEY not in header.metadata:
        raise FileError(f"{path}: not {WHAT}: its metadata lack {METADATA_KEY!r}")
    try:
        said = json.loads(header.metadata[METADATA_KEY])
        version = said.pop("format_version")
        if version != FORMAT_VERSION:
            raise FileError(
                f"{path}: recording format {version!r}, this gas-rt reads {FORMAT_VERSION}; "
                "replay it with the version that made it"
            )
        bundle = BundleMark(**{name: str(value) for name, value in said.pop("bundle").items()})
        mark = SessionMark(bundle=bundle, **said)
    except FileError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise FileError(f"{path}: damaged: its metadata cannot be read: {error}") from error
    for name, kinds in _MARK_TYPES.items():
        value = getattr(mark, name)
        if not isinstance(value, kinds) or (isinstance(value, bool) and kinds is not bool):
            raise FileError(f"{path}: damaged: its metadata say {name} {value!r:.80}")
    for name, value, right in (
        ("task", mark.task, mark.task in get_args(Task)),
        ("fps", mark.fps, 0 < mark.fps <= FPS_MAX),
        ("skip_below_rad", mark.skip_below_rad, 0 <= mark.skip_below_rad <= np.pi),
    ):
        if not right:
            raise FileError(f"{path}: damaged: its metadata say {name} {value!r:.80}")
    return mark


_MARK_TYPES: dict[str, Any] = {
    **dict.fromkeys(("avatar", "policy", "task", "mode", "backend", "device", "precision"), str),
    **dict.fromkeys(("steps", "seed", "threads"), int),
    "noise_period": (int, type(None)),
    "half_field": bool,
    "skip_below_rad": (int, float),
    "fps": (int, float),
}


def _check_tensors(header: TensorHeader) -> None:
    """Raise unless the tensors are those of a recording, and not more of them than one may have."""
    path = header.path
    if odd := sorted(set(header.tensors) ^ set(TENSORS)):
        verb = "lacks" if odd[0] in TENSORS else "has also"
        raise FileError(f"{path}: damaged: it {verb} tensor {odd[0]!r:.80}; record it again")
    counts: dict[str, int] = {}
    for name, letter in (("admitted.index", "n"), ("shown.index", "m"), ("camera.size", "c")):
        shape = header.tensors[name].shape
        counts[letter] = shape[0] if shape else 0
        if counts[letter] > FRAMES_MAX:
            raise FileError(
                f"{path}: {name} has {counts[letter]} entries, at most {FRAMES_MAX} are read; "
                "is this the right file?"
            )
    for name, (dtype, _) in TENSORS.items():
        entry, shape = header.tensors[name], _shape(name, counts)
        if entry.shape != shape or entry.dtype != np.dtype(SIZES[dtype]):
            raise FileError(
                f"{path}: damaged: {name} is {entry.dtype} {list(entry.shape)}, expected "
                f"{np.dtype(SIZES[dtype])} {list(shape)}; record the session again"
            )


def _check_values(arrays: Mapping[str, NDArray[Any]]) -> None:
    """Raise unless the numbers can be those of one session."""
    limits = {
        "admitted.index": 2**31 - 1,
        "admitted.generation": 2**31 - 1,
        "admitted.rung": STEPS_MAX,
        "admitted.reached": DECODED,
        "admitted.fresh": 1,
        "admitted.steps": STEPS_MAX,
        "admitted.task": len(TASKS) - 1,
        "admitted.camera": len(arrays["camera.size"]) - 1,
        "shown.level": len(LEVELS) - 1,
    }
    for name, high in limits.items():
        values = arrays[name]
        if values.size and not 0 <= int(values.min()) <= int(values.max()) <= high:
            worst = values.min() if values.min() < 0 else values.max()
            raise InputError(f"{name}: value {worst} is not in 0..{high}")
    if (np.diff(arrays["admitted.index"].astype(np.int64)) <= 0).any():
        raise InputError("admitted.index: does not rise")
    for name in ("admitted.generation", "shown.index"):
        if (np.diff(arrays[name].astype(np.int64)) < 0).any():
            raise InputError(f"{name}: falls")
    missing = np.setdiff1d(arrays["shown.index"], arrays["admitted.index"])
    if missing.size:
        raise InputError(f"shown.index: frame {missing[0]} was never admitted")
