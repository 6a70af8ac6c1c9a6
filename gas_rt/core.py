"""The nouns of gas-rt: poses, cameras, requests, windows, frames and their timings.

Frames of reference: the world is SMPL's (y up, metres, the body faces +z with zero rotations);
cameras are OpenCV's (x right, y down, z forward), ``x_cam = R @ x_world + t``; pixel (i, j)
has its centre at (i + 0.5, j + 0.5).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Protocol

import numpy as np
from numpy.typing import NDArray

from gas_rt.errors import SessionError, ShapeError

__all__ = [
    "JOINT_COUNT",
    "BackendReport",
    "Camera",
    "Frame",
    "FrameTimings",
    "Lease",
    "Level",
    "OnLate",
    "Pose",
    "Request",
    "Task",
    "Window",
    "as_array",
    "checked",
]

JOINT_COUNT = 24

Task = Literal["view", "pose"]
OnLate = Literal["freshest", "lossless", "paced"]
Level = Literal["full", "fewer_steps", "field", "held"]

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]


def as_array(value: Any, name: str) -> NDArray[Any]:
    """`value` as an array of any shape in the CPU's memory, or a `ShapeError` that names it."""
    if hasattr(value, "__cuda_array_interface__"):
        raise ShapeError(
            f"{name}: expected an array in the CPU's memory, got a {type(value).__name__} on a "
            "GPU; copy it first"
        )
    try:
        return np.asarray(value)
    except ValueError as error:
        raise ShapeError(
            f"{name}: expected an array, got a ragged sequence; pass one array"
        ) from error
    except (TypeError, RuntimeError) as error:  # of a type that refuses to be read, and says why
        raise ShapeError(
            f"{name}: expected an array, got a {type(value).__name__} that NumPy cannot read "
            f"({error}); convert it first"
        ) from error


def checked(
    value: Any,
    name: str,
    *,
    shape: tuple[int | None, ...],
    dtype: Any = np.float32,
) -> NDArray[Any]:
    """Return `value` as a C-contiguous array, or raise a `ShapeError` that names it.

    ``None`` in `shape` accepts any length. Floating-point values must be finite.
    """
    array = as_array(value, name)
    if array.dtype.kind not in "fiub":
        raise ShapeError(f"{name}: expected numbers, got dtype {array.dtype}; convert it first")
    matches = array.ndim == len(shape) and all(
        want is None or want == have for want, have in zip(shape, array.shape, strict=True)
    )
    if not matches:
        wanted = "[" + ", ".join("any" if n is None else str(n) for n in shape) + "]"
        raise ShapeError(f"{name}: expected shape {wanted}, got {list(array.shape)}; reshape it")
    if np.dtype(dtype).kind in "iu" and array.dtype.kind == "f":
        raise ShapeError(f"{name}: expected integers, got dtype {array.dtype}; round it first")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = int(np.size(array) - np.isfinite(array).sum())
        raise ShapeError(
            f"{name}: {bad} of {array.size} values are NaN or infinite; repair the source"
        )
    _check_range(array, name, np.dtype(dtype))
    return np.ascontiguousarray(array, dtype=dtype)


def _check_range(array: NDArray[Any], name: str, dtype: np.dtype[Any]) -> None:
    """Raise unless the values survive the conversion: NumPy wraps integers round silently."""
    if array.size == 0 or dtype.kind not in "fiu" or np.can_cast(array.dtype, dtype, "safe"):
        return
    limits = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    low, high = array.min(), array.max()
    if low < limits.min or high > limits.max:
        worst = low if low < limits.min else high
        raise ShapeError(
            f"{name}: value {worst} does not fit {dtype}, which ends at {limits.min} and "
            f"{limits.max}; repair the source"
        )


@dataclass(frozen=True, eq=False)
class Pose:
    """A body pose.

    Parameters
    ----------
    rotations : [24, 3] axis-angle in radians, SMPL joint order; row 0 is the global orientation.
    translation : [3] metres, added after skinning (SMPL's ``transl``).
    """

    rotations: F32
    translation: F32 = field(default_factory=lambda: np.zeros(3, np.float32))

    def __post_init__(self) -> None:
        rotations = np.asarray(self.rotations)
        if rotations.shape == (JOINT_COUNT * 3,):
            rotations = rotations.reshape(JOINT_COUNT, 3)
        rotations = checked(rotations, "Pose.rotations", shape=(JOINT_COUNT, 3))
        translation = checked(self.translation, "Pose.translation", shape=(3,))
        # Copies: a tracker that fills one buffer again and again must not change poses in flight.
        object.__setattr__(self, "rotations", rotations.copy())
        object.__setattr__(self, "translation", translation.copy())

    @classmethod
    def rest(cls) -> Pose:
        """SMPL's T-pose at the origin."""
        return cls(np.zeros((JOINT_COUNT, 3), np.float32))


@dataclass(frozen=True, eq=False)
class Camera:
    """A pinhole camera without distortion, OpenCV convention.

    Parameters
    ----------
    intrinsics : [3, 3] pixels, ``[[fx, 0, cx], [0, fy, cy], [0, 0, 1]]``.
    rotation : [3, 3] world to camera, orthonormal with determinant +1.
    translation : [3] metres, world to camera.
    width, height : pixels.
    """

    intrinsics: F32
    rotation: F32
    translation: F32
    width: int
    height: int

    def __post_init__(self) -> None:
        k = checked(self.intrinsics, "Camera.intrinsics", shape=(3, 3))
        r = checked(self.rotation, "Camera.rotation", shape=(3, 3))
        t = checked(self.translation, "Camera.translation", shape=(3,))
        for name in ("width", "height"):
            size = getattr(self, name)
            if not isinstance(size, int | np.integer) or not 1 <= size <= 16384:
                raise ShapeError(f"Camera.{name}: expected 1..16384 pixels, got {size!r}")
            object.__setattr__(self, name, int(size))
        if k[0, 0] <= 0 or k[1, 1] <= 0:
            raise ShapeError(
                f"Camera.intrinsics: focal lengths must be positive, got fx {k[0, 0]}, fy {k[1, 1]}"
            )
        if np.abs(k[[0, 1, 2, 2, 2], [1, 0, 0, 1, 2]] - [0, 0, 0, 0, 1]).max() > 1e-6:
            raise ShapeError(
                "Camera.intrinsics: expected [[fx, 0, cx], [0, fy, cy], [0, 0, 1]], "
                f"got {k.tolist()}"
            )
        r64 = r.astype(np.float64)
        if np.abs(r64 @ r64.T - np.eye(3)).max() > 1e-3 or np.linalg.det(r64) < 0:
            raise ShapeError(
                "Camera.rotation: expected an orthonormal matrix with determinant +1, "
                f"got determinant {np.linalg.det(r64):.3f}; orthonormalise it"
            )
        object.__setattr__(self, "intrinsics", k.copy())  # copies, as of a pose
        object.__setattr__(self, "rotation", r.copy())
        object.__setattr__(self, "translation", t.copy())

    def resized(self, *, width: int, height: int) -> Camera:
        """The same view sampled on another pixel grid."""
        scale = np.diag([width / self.width, height / self.height, 1.0]).astype(np.float32)
        return Camera(scale @ self.intrinsics, self.rotation, self.translation, width, height)


@dataclass(frozen=True, eq=False)
class Request:
    """What one output frame shall show, and when its pose was captured (monotonic clock, ns).

    `task` and `steps` are the session's where they are None, and may differ from one request to
    the next.
    """

    pose: Pose
    camera: Camera
    captured_ns: int | None = None
    task: Task | None = None
    steps: int | None = None


@dataclass(frozen=True)
class Window:
    """The frames one denoiser call works on: ``[anchor | context, clean | in flight]``."""

    anchor: int
    context: int
    chunk: int
    steps: int

    @property
    def length(self) -> int:
        """Frames in the window."""
        return self.anchor + self.context + self.steps * self.chunk


@dataclass(frozen=True)
class BackendReport:
    """Which backend was asked for and which one runs, on what, in which precision.

    `plans` is ``on`` where compiled graphs are kept for the next start, ``off`` where they are not
    asked to be; else it says what is in the way.
    `notes` say what was not as asked for and why: a backend that was passed over, what was measured
    to choose, a precision the processor lacks.
    """

    requested: str
    actual: str
    device: str
    precision: str
    plans: str = "off"
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class FrameTimings:
    """Where one frame's time went, in milliseconds.

    Attributes
    ----------
    captured_ns, pushed_ns, ready_ns : of the pose, of its push, and of the finished frame.
    stages_ms : by stage, the work that was this frame's. Of a call that moves several frames each
        has its share, so that sums over frames count nothing twice. ``denoise 1`` and on are the
        frame's steps.
    waits_ms : what else passed: ``queue``, until the first stage took the pose; ``handoff``,
        between stages; ``window``, inside of stages while they worked for other frames or
        waited for later poses or their turn on the denoiser; ``late``, from the last stage that a
        field has seen to its being shown in the frame's place; ``held``, since a frame that is
        shown once more was finished. Stages and waits add up to the time from push to ready.
    """

    captured_ns: int
    pushed_ns: int
    ready_ns: int
    stages_ms: dict[str, float] = field(default_factory=dict)
    waits_ms: dict[str, float] = field(default_factory=dict)

    @property
    def age_ms(self) -> float:
        """Age of pose: from the pose's capture to the frame being ready."""
        return (self.ready_ns - self.captured_ns) / 1e6


class Lease(Protocol):
    """The right to some memory, which ends with `release`."""

    def release(self) -> None:
        """Give the memory back. May be repeated."""
        ...


@dataclass(frozen=True, eq=False)
class Frame:
    """One output picture.

    Attributes
    ----------
    rgb : [H, W, 3] uint8 sRGB, black where alpha is 0.
    alpha : [H, W] uint8. Of a session's frames both are read-only, in memory that is used again
        once nothing refers to the frame or to an array made of it (NumPy's views and DLPack's
        consumers count), or after `release`. Until then they do not change, however long they
        are kept.
    index : the frame's number in its stream, from 0, counting frames that were dropped.
    level : what made it: ``full`` is what was asked for; ``fewer_steps``, ``field`` (stage 1's
        render alone) and ``held`` (an earlier frame once more, with its index and request) are the
        rungs of the ladder that a late session steps down.
    """

    rgb: U8
    alpha: U8
    index: int
    request: Request
    timings: FrameTimings
    level: Level = "full"
    lease: Lease | None = field(default=None, repr=False)

    def copy(self) -> Frame:
        """The same frame with pixels of its own, which may be written to."""
        return Frame(
            self.rgb.copy(), self.alpha.copy(), self.index, self.request, self.timings, self.level
        )

    @property
    def valid(self) -> bool:
        """Whether the frame has its pixels: it was not released."""
        return "rgb" in self.__dict__

    def release(self) -> None:
        """Give the pixels' memory back now. May be repeated.

        The frame is not `valid` any more; arrays that were made of it show later frames.
        """
        for pixels in ("rgb", "alpha"):
            self.__dict__.pop(pixels, None)
        if self.lease is not None:
            self.lease.release()

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            if name in ("rgb", "alpha"):
                raise SessionError(
                    f"frame {self.index}: was released, its {name} is gone; copy() a frame before "
                    "release(), or release it later"
                )
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
