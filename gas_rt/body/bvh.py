"""BVH motion capture files: a parser that trusts nothing, and the way onto SMPL's joints."""

from __future__ import annotations

import itertools
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from gas_rt.body.bvh_names import smpl_joints
from gas_rt.body.motion import MAX_FPS, REST_PELVIS, Motion
from gas_rt.body.rotations import axis_angle_from_matrix
from gas_rt.body.skeleton import JOINT_NAMES, PARENTS, joint_index
from gas_rt.errors import FileError

__all__ = ["BvhJoint", "parse_bvh", "read_bvh"]

F64 = NDArray[np.float64]

# Far beyond any real file; a hostile one is refused before memory is spent on it.
MAX_JOINTS = 512
MAX_DEPTH = 64
MAX_FRAMES = 200_000
MAX_VALUES = 40_000_000
MAX_LINE = 1 << 17
MAX_NUMBER = 1e7
_CHANNELS = ("Xposition", "Yposition", "Zposition", "Xrotation", "Yrotation", "Zrotation")
_FRAMES_AT_ONCE = 4096
# SMPL's legs from hip to ankle, which tell the file's unit of length.
_LEG_M = 0.84
# A rest pose whose limbs are off SMPL's T-pose by less than this is taken as T-pose.
_REST_TOLERANCE = math.radians(12)
_LIMBS = (
    ("left_shoulder", "left_elbow", (1.0, 0.0, 0.0)),
    ("left_elbow", "left_wrist", (1.0, 0.0, 0.0)),
    ("right_shoulder", "right_elbow", (-1.0, 0.0, 0.0)),
    ("right_elbow", "right_wrist", (-1.0, 0.0, 0.0)),
    ("left_hip", "left_knee", (0.0, -1.0, 0.0)),
    ("left_knee", "left_ankle", (0.0, -1.0, 0.0)),
    ("right_hip", "right_knee", (0.0, -1.0, 0.0)),
    ("right_knee", "right_ankle", (0.0, -1.0, 0.0)),
)


@dataclass
class BvhJoint:
    """One joint as the file has it; `first` is the column of its first channel."""

    name: str
    parent: int
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    channels: list[str] = field(default_factory=list)
    first: int = 0


def read_bvh(path: str | os.PathLike[str], *, metres_per_unit: float | None = None) -> Motion:
    """Read a BVH file onto SMPL's 24 joints.

    Joint names of CMU, Mixamo and SMPL files are known; joints the file lacks stay at rest. The
    file's world is taken as y up with the rest pose facing +z. Without `metres_per_unit` the
    length of the legs tells the unit. Raises `FileError` naming the line that is wrong.
    """
    source = Path(path)
    try:
        with source.open("rb") as stream:
            joints, values, fps = parse_bvh(stream, name=str(source))
    except OSError as error:
        raise FileError(f"{source}: cannot read ({error.strerror}); check the path") from error
    return _to_smpl(str(source), joints, values, fps, metres_per_unit)


def parse_bvh(stream: IO[bytes], *, name: str) -> tuple[list[BvhJoint], F64, float]:
    """Joints, channel values [T, C] as in the file, and frames per second."""
    lines = _Lines(stream, name)
    joints = _hierarchy(lines)
    return joints, *_motion(lines, joints)


class _Lines:
    """The file line by line, each of bounded length and counted."""

    def __init__(self, stream: IO[bytes], name: str) -> None:
        self._stream = stream
        self._name = name
        self.number = 0

    def next(self) -> list[str]:
        """Words of the next line that has any; none at the end of the file."""
        while True:
            raw = self._stream.readline(MAX_LINE + 1)
            if not raw:
                return []
            self.number += 1
            if len(raw) > MAX_LINE:
                raise self.error(f"longer than {MAX_LINE} bytes")
            try:
                words = raw.decode("utf-8-sig").split()
            except UnicodeDecodeError:
                raise self.error("not text") from None
            if words:
                return words

    def error(self, what: str) -> FileError:
        """An error at the current line."""
        return FileError(f"{self._name}, line {self.number}: {what}; this is no valid BVH file")

    def number_from(self, word: str) -> float:
        """A plain finite number of reasonable size."""
        try:
            value = float(word)
        except ValueError:
            value = math.nan
        if not abs(value) <= MAX_NUMBER or "_" in word:
            raise self.error(f"expected a number, found {word[:40]!r}")
        return value


def _hierarchy(lines: _Lines) -> list[BvhJoint]:
    if [w.upper() for w in lines.next()] != ["HIERARCHY"]:
        raise lines.error("expected HIERARCHY first")
    joints: list[BvhJoint] = []
    # Open braces, innermost last: the joint's index, or -1 for an end site.
    stack: list[int] = []
    pending: int | None = None
    channels = 0
    while True:
        words = lines.next()
        if not words:
            raise lines.error("the hierarchy does not end")
        opens = len(words) > 1 and words[-1] == "{"
        words = words[:-1] if opens else words
        word = words[0].upper()
        if pending is not None and word != "{":
            raise lines.error("expected { after the joint's name")
        if word in ("ROOT", "JOINT"):
            _check_place(lines, word, joints, stack)
            joint = BvhJoint(" ".join(words[1:]), stack[-1] if stack else -1)
            if not joint.name or len(joint.name) > 200:
                raise lines.error("a joint needs a name of at most 200 letters")
            joints.append(joint)
            pending = len(joints) - 1
        elif word == "END":
            if not stack or stack[-1] < 0:
                raise lines.error("End Site outside a joint")
            pending = -1
        elif word == "{":
            if pending is None or len(words) > 1:
                raise lines.error("unexpected {")
            opens = True
        elif word == "OFFSET":
            _offset(lines, words, joints, stack)
        elif word == "CHANNELS":
            channels += _channels(lines, words, joints, stack, channels)
        elif word == "}":
            if not stack or len(words) > 1:
                raise lines.error("unexpected }")
            stack.pop()
            if not stack:
                return joints
        else:
            raise lines.error(f"unexpected {words[0][:40]!r}")
        if opens:
            if pending is None or len(stack) >= MAX_DEPTH:
                raise lines.error(f"unexpected {{, or joints nested deeper than {MAX_DEPTH}")
            stack.append(pending)
            pending = None


def _check_place(lines: _Lines, word: str, joints: list[BvhJoint], stack: list[int]) -> None:
    if (word == "ROOT") == bool(stack):
        raise lines.error("expected one ROOT, and every JOINT inside it")
    if stack and stack[-1] < 0:
        raise lines.error("a JOINT inside an End Site")
    if len(joints) >= MAX_JOINTS:
        raise lines.error(f"more than {MAX_JOINTS} joints")


def _offset(lines: _Lines, words: list[str], joints: list[BvhJoint], stack: list[int]) -> None:
    if len(words) != 4 or not stack:
        raise lines.error("expected OFFSET x y z inside a joint")
    x, y, z = (lines.number_from(w) for w in words[1:])
    if stack[-1] >= 0:
        joints[stack[-1]].offset = (x, y, z)


def _channels(
    lines: _Lines, words: list[str], joints: list[BvhJoint], stack: list[int], first: int
) -> int:
    if not stack or stack[-1] < 0 or joints[stack[-1]].channels:
        raise lines.error("CHANNELS must stand once, inside a joint")
    names = {c.upper(): c for c in _CHANNELS}
    found = [names.get(w.upper()) for w in words[2:]]
    channels = [c for c in found if c is not None]
    count = words[1] if len(words) > 1 else ""
    if count != str(len(words) - 2) or len(channels) != len(found):
        raise lines.error("expected CHANNELS, their number, and Xposition … Zrotation")
    if len(set(channels)) != len(channels):
        raise lines.error("a channel stands twice")
    joint = joints[stack[-1]]
    joint.channels = channels
    joint.first = first
    return len(channels)


def _motion(lines: _Lines, joints: list[BvhJoint]) -> tuple[F64, float]:
    width = sum(len(j.channels) for j in joints)
    if width == 0:
        raise lines.error("no joint has CHANNELS")
    if [w.upper() for w in lines.next()] != ["MOTION"]:
        raise lines.error("expected MOTION after the hierarchy")
    words = lines.next()
    if len(words) != 2 or words[0].upper() != "FRAMES:" or not words[1].isascii():
        raise lines.error("expected Frames: and a number")
    if not words[1].isdigit() or len(words[1]) > 18 or not int(words[1]):
        raise lines.error("expected a positive number of frames")
    frames = int(words[1])
    if frames > MAX_FRAMES or frames * width > MAX_VALUES:
        raise lines.error(
            f"{frames} frames of {width} values, at most {MAX_FRAMES} frames are read"
        )
    words = lines.next()
    if len(words) != 3 or [w.upper() for w in words[:2]] != ["FRAME", "TIME:"]:
        raise lines.error("expected Frame Time: and a number")
    period = lines.number_from(words[2])
    if not 1 / MAX_FPS <= period <= 1e4:
        raise lines.error(f"a frame time of {period} s; expected {1 / MAX_FPS:g} s or more")
    return _values(lines, frames, width), 1 / period


def _values(lines: _Lines, frames: int, width: int) -> F64:
    # Rows are kept as they come: the number of frames is a claim until they have been read.
    rows: list[F64] = []
    while words := lines.next():
        if len(rows) == frames:
            raise lines.error(f"more frames than the {frames} announced")
        if len(words) != width:
            raise lines.error(f"expected {width} values for the frame, found {len(words)}")
        rows.append(np.array([lines.number_from(w) for w in words]))
    if len(rows) < frames:
        raise lines.error(f"{frames} frames announced, the file ends after {len(rows)}")
    return np.stack(rows)


def _to_smpl(
    name: str, joints: list[BvhJoint], values: F64, fps: float, metres_per_unit: float | None
) -> Motion:
    mapped = smpl_joints([j.name for j in joints])
    needed = ("left_hip", "right_hip", "left_knee", "right_knee", "left_shoulder", "right_shoulder")
    missing = [n for n in needed if n not in mapped]
    if missing:
        raise FileError(
            f"{name}: no joint for {', '.join(missing)} among "
            f"{', '.join(j.name for j in joints)[:400]}; rename the joints to SMPL's or Mixamo's"
        )
    rest = np.zeros((len(joints), 3))
    for i, joint in enumerate(joints):
        rest[i] = np.array(joint.offset) + (rest[joint.parent] if joint.parent >= 0 else 0)
    aligned = _alignment(mapped, rest)
    # Part by part: a matrix per joint and frame is far more than the file itself.
    rotations = np.concatenate(
        [
            _rotations(_forward(joints, values[start : start + _FRAMES_AT_ONCE]), mapped, aligned)
            for start in range(0, len(values), _FRAMES_AT_ONCE)
        ]
    )
    unit = _unit(name, mapped, rest) if metres_per_unit is None else metres_per_unit
    translations = _root(joints[0], values) * unit - np.array(REST_PELVIS)
    return Motion(rotations, translations.astype(np.float32), fps)


def _rotations(world: F64, mapped: dict[str, int], aligned: F64) -> NDArray[np.float32]:
    """SMPL's rotations [T, 24, 3] of the joints' world rotations [T, J, 3, 3]."""
    globals_ = np.broadcast_to(np.eye(3), (len(world), len(JOINT_NAMES), 3, 3)).copy()
    rotations = np.zeros((len(world), len(JOINT_NAMES), 3), np.float32)
    for j, joint_name in enumerate(JOINT_NAMES):
        parent = PARENTS[j]
        if joint_name in mapped:
            globals_[:, j] = world[:, mapped[joint_name]] @ aligned[j]
        elif parent >= 0:
            globals_[:, j] = globals_[:, parent]
        above = globals_[:, parent] if parent >= 0 else np.eye(3)
        rotations[:, j] = axis_angle_from_matrix(np.swapaxes(above, -1, -2) @ globals_[:, j])
    return rotations


def _forward(joints: list[BvhJoint], values: F64) -> F64:
    """World rotations [T, J, 3, 3]."""
    world = np.empty((len(values), len(joints), 3, 3))
    for i, joint in enumerate(joints):
        local = np.broadcast_to(np.eye(3), (len(values), 3, 3))
        for k, channel in enumerate(joint.channels):
            if channel.endswith("rotation"):
                angle = np.deg2rad(values[:, joint.first + k])
                local = local @ _about("XYZ".index(channel[0]), angle)
        world[:, i] = world[:, joint.parent] @ local if joint.parent >= 0 else local
    return world


def _root(joint: BvhJoint, values: F64) -> F64:
    """The root's position [T, 3] in the file's unit."""
    root = np.broadcast_to(np.array(joint.offset), (len(values), 3)).copy()
    for k, channel in enumerate(joint.channels):
        if channel.endswith("position"):
            root[:, "XYZ".index(channel[0])] = values[:, joint.first + k]
    return root


def _about(axis: int, angle: F64) -> F64:
    """Rotations [T, 3, 3] about a coordinate axis."""
    a, b = (axis + 1) % 3, (axis + 2) % 3
    out = np.zeros((len(angle), 3, 3))
    out[:, axis, axis] = 1
    out[:, a, a] = out[:, b, b] = np.cos(angle)
    out[:, b, a] = np.sin(angle)
    out[:, a, b] = -out[:, b, a]
    return out


def _alignment(mapped: dict[str, int], rest: F64) -> F64:
    """[24, 3, 3]: from SMPL's rest direction of each limb to the file's, where they differ."""
    aligned = np.broadcast_to(np.eye(3), (len(JOINT_NAMES), 3, 3)).copy()
    for start, end, direction in _LIMBS:
        if start not in mapped or end not in mapped:
            continue
        bone = rest[mapped[end]] - rest[mapped[start]]
        length = np.linalg.norm(bone)
        if length < 1e-9:
            continue
        a, b = np.array(direction), bone / length
        angle = math.acos(float(np.clip(a @ b, -1, 1)))
        if not _REST_TOLERANCE < angle < math.pi - 1e-3:
            continue
        v = np.cross(a, b)
        k = np.array([[0, -v[2], v[1]], [v[2], 0, -v[0]], [-v[1], v[0], 0]])
        aligned[joint_index(start)] = np.eye(3) + k + k @ k / (1 + a @ b)
    # What hangs on a turned limb has been turned with it.
    for side in ("left_", "right_"):
        for joint, source in (("wrist", "elbow"), ("hand", "elbow")):
            aligned[joint_index(side + joint)] = aligned[joint_index(side + source)]
    return aligned


def _unit(name: str, mapped: dict[str, int], rest: F64) -> float:
    ankle = "left_ankle" if "left_ankle" in mapped else "left_knee"
    chain = [n for n in ("left_hip", "left_knee", ankle) if n in mapped]
    length = sum(
        float(np.linalg.norm(rest[mapped[b]] - rest[mapped[a]]))
        for a, b in itertools.pairwise(chain)
    )
    if length < 1e-6:
        raise FileError(f"{name}: the legs have no length; pass metres_per_unit")
    return (_LEG_M if ankle == "left_ankle" else _LEG_M / 2) / length
