"""BVH: round trips through a writer of our own, naming schemes, and every malformed file."""

from __future__ import annotations

import contextlib
import io
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from gas_rt.body import JOINT_NAMES, PARENTS, Motion, read_bvh
from gas_rt.body.bvh import parse_bvh
from gas_rt.body.bvh_names import smpl_joints
from gas_rt.body.motion import REST_PELVIS
from gas_rt.errors import FileError

# A T-pose in metres, enough to have legs and arms.
OFFSETS = {
    "pelvis": (0, 0, 0),
    "hip": (0.1, 0, 0),
    "knee": (0, -0.4, 0),
    "ankle": (0, -0.44, 0),
    "foot": (0, -0.05, 0.13),
    "spine1": (0, 0.12, 0),
    "spine2": (0, 0.12, 0),
    "spine3": (0, 0.1, 0),
    "neck": (0, 0.2, 0),
    "head": (0, 0.1, 0),
    "collar": (0.05, 0.12, 0),
    "shoulder": (0.12, 0, 0),
    "elbow": (0.27, 0, 0),
    "wrist": (0.25, 0, 0),
    "hand": (0.08, 0, 0),
}


def bvh_text(
    rotations: np.ndarray,
    translations: np.ndarray,
    *,
    order: str = "ZXY",
    fps: float = 30.0,
    scale: float = 1.0,
) -> str:
    """An SMPL-named BVH file of a motion."""
    lines = ["HIERARCHY"]

    def joint(j: int, indent: str) -> None:
        name = JOINT_NAMES[j]
        x, y, z = OFFSETS[name.split("_")[-1]]
        x = -x if name.startswith("right") else x
        position = "Xposition Yposition Zposition " if j == 0 else ""
        rotation = " ".join(f"{axis}rotation" for axis in order)
        lines.append(f"{indent}{'JOINT' if j else 'ROOT'} {name}")
        lines.append(indent + "{")
        lines.append(f"{indent}  OFFSET {x * scale} {y * scale} {z * scale}")
        lines.append(f"{indent}  CHANNELS {3 if j else 6} {position}{rotation}")
        children = [c for c in range(24) if PARENTS[c] == j]
        for child in children:
            columns.append(child)
            joint(child, indent + "  ")
        if not children:
            lines.append(
                f"{indent}  End Site\n{indent}  {{\n{indent}    OFFSET 0 0 1\n{indent}  }}"
            )
        lines.append(indent + "}")

    columns = [0]
    joint(0, "")
    lines += ["MOTION", f"Frames: {len(rotations)}", f"Frame Time: {1 / fps!r}"]
    for frame, shift in zip(rotations, translations, strict=True):
        values = [*((shift + REST_PELVIS) * scale)]
        for j in columns:
            values += Rotation.from_rotvec(frame[j]).as_euler(order, degrees=True).tolist()
        lines.append(" ".join(repr(float(v)) for v in values))
    return "\n".join(lines) + "\n"


def same_rotation(a: np.ndarray, b: np.ndarray) -> None:
    a, b = a.reshape(-1, 3), b.reshape(-1, 3)
    assert (Rotation.from_rotvec(a) * Rotation.from_rotvec(b).inv()).magnitude().max() < 1e-4


ORDERS = ["XYZ", "XZY", "YXZ", "YZX", "ZXY", "ZYX"]


@settings(max_examples=20, deadline=None)
@given(
    arrays(np.float64, (2, 24, 3), elements=st.floats(-1.5, 1.5)),
    arrays(np.float64, (2, 3), elements=st.floats(-5, 5)),
    st.sampled_from(ORDERS),
    st.sampled_from([1.0, 100.0, 39.37]),
)
@pytest.mark.filterwarnings("ignore:Gimbal lock")
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory,
    rotations: np.ndarray,
    translations: np.ndarray,
    order: str,
    scale: float,
) -> None:
    path = tmp_path_factory.mktemp("bvh") / "m.bvh"
    path.write_text(bvh_text(rotations, translations, order=order, scale=scale))
    motion = read_bvh(path)
    same_rotation(motion.rotations, rotations)
    np.testing.assert_allclose(motion.translations, translations, atol=1e-4)
    assert motion.fps == pytest.approx(30)


def small(tmp_path: Path) -> tuple[Path, str]:
    rotations = np.random.default_rng(0).normal(0, 0.3, (3, 24, 3))
    return tmp_path / "m.bvh", bvh_text(rotations, np.zeros((3, 3)))


def test_motion_loads_it(tmp_path: Path) -> None:
    path, text = small(tmp_path)
    path.write_text(text)
    assert len(Motion.load(path)) == 3
    assert Motion.load(path, fps=60).fps == 60


def test_crlf_tabs_and_braces_on_the_joints_line(tmp_path: Path) -> None:
    path, text = small(tmp_path)
    path.write_text(text)
    plain = read_bvh(path)
    joined = text.replace("\n", "\r\n").replace("  ", "\t").replace("pelvis\r\n{", "pelvis {")
    path.write_bytes(joined.encode("utf-8-sig"))
    np.testing.assert_array_equal(read_bvh(path).rotations, plain.rotations)


def test_arms_down_rest_pose_is_turned_to_the_t_pose(tmp_path: Path) -> None:
    path = tmp_path / "m.bvh"
    down = bvh_text(np.zeros((1, 24, 3)), np.zeros((1, 3)))
    for old, new in (("0.27 0.0 0.0", "0 -0.27 0"), ("0.25 0.0 0.0", "0 -0.25 0")):
        down = down.replace(f"OFFSET {old}", f"OFFSET {new}")
        down = down.replace(f"OFFSET -{old}", f"OFFSET {new}")
    path.write_text(down)
    motion = read_bvh(path)
    left = Rotation.from_rotvec(motion.rotations[0, JOINT_NAMES.index("left_shoulder")])
    np.testing.assert_allclose(left.apply([1, 0, 0]), [0, -1, 0], atol=1e-5)
    elbow = motion.rotations[0, JOINT_NAMES.index("left_elbow")]
    np.testing.assert_allclose(elbow, 0, atol=1e-5)


MIXAMO = [
    "mixamorig:Hips",
    "mixamorig:Spine",
    "mixamorig:Spine1",
    "mixamorig:Spine2",
    "mixamorig:Neck",
    "mixamorig:Head",
    "mixamorig:LeftShoulder",
    "mixamorig:LeftArm",
    "mixamorig:LeftForeArm",
    "mixamorig:LeftHand",
    "mixamorig:RightShoulder",
    "mixamorig:RightArm",
    "mixamorig:RightForeArm",
    "mixamorig:RightHand",
    "mixamorig:LeftUpLeg",
    "mixamorig:LeftLeg",
    "mixamorig:LeftFoot",
    "mixamorig:LeftToeBase",
    "mixamorig:RightUpLeg",
    "mixamorig:RightLeg",
    "mixamorig:RightFoot",
    "mixamorig:RightToeBase",
]
CMU = [
    "Hips",
    "LHipJoint",
    "LeftUpLeg",
    "LeftLeg",
    "LeftFoot",
    "LeftToeBase",
    "RHipJoint",
    "RightUpLeg",
    "RightLeg",
    "RightFoot",
    "RightToeBase",
    "LowerBack",
    "Spine",
    "Spine1",
    "Neck",
    "Neck1",
    "Head",
    "LeftShoulder",
    "LeftArm",
    "LeftForeArm",
    "LeftHand",
    "LeftFingerBase",
    "RightShoulder",
    "RightArm",
    "RightForeArm",
    "RightHand",
]
OURS = [name.replace("left_", "L_").replace("right_", "R_") for name in JOINT_NAMES]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (
            MIXAMO,
            {"left_collar": "mixamorig:LeftShoulder", "left_shoulder": "mixamorig:LeftArm"}
            | {"spine3": "mixamorig:Spine2", "right_ankle": "mixamorig:RightFoot"},
        ),
        (CMU, {"spine1": "LowerBack", "spine3": "Spine1", "neck": "Neck", "left_knee": "LeftLeg"}),
        (OURS, {"left_shoulder": "L_shoulder", "left_hand": "L_hand", "spine2": "spine2"}),
        (list(JOINT_NAMES), {name: name for name in JOINT_NAMES}),
    ],
    ids=["mixamo", "cmu", "smpl_short", "smpl"],
)
def test_joint_names(names: list[str], expected: dict[str, str]) -> None:
    found = {joint: names[i] for joint, i in smpl_joints(names).items()}
    assert found | expected == found
    assert len(set(found.values())) == len(found), "no joint stands for two"
    assert len(found) >= 22 or names is CMU


def test_unknown_joints(tmp_path: Path) -> None:
    path, text = small(tmp_path)
    path.write_text(text.replace("left_hip", "tentacle"))
    with pytest.raises(FileError, match=r"no joint for left_hip among pelvis, tentacle"):
        read_bvh(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="cannot read"):
        read_bvh(tmp_path / "absent.bvh")


def test_legs_without_length(tmp_path: Path) -> None:
    path, text = small(tmp_path)
    text = text.replace("OFFSET 0.0 -0.4 0.0", "OFFSET 0 0 0")
    path.write_text(text.replace("OFFSET 0.0 -0.44 0.0", "OFFSET 0 0 0"))
    with pytest.raises(FileError, match="metres_per_unit"):
        read_bvh(path)
    assert len(read_bvh(path, metres_per_unit=1.0)) == 3


MINIMAL = """HIERARCHY
ROOT a
{
  OFFSET 0 0 0
  CHANNELS 3 Xrotation Yrotation Zrotation
  End Site
  {
    OFFSET 0 1 0
  }
}
MOTION
Frames: 2
Frame Time: 0.04
1 2 3
4 5 6
"""

MALFORMED = {
    "empty": ("", 0, "HIERARCHY"),
    "no_hierarchy": (MINIMAL.replace("HIERARCHY\n", ""), 1, "HIERARCHY"),
    "binary": ("\x00\x01\x02", 1, "HIERARCHY"),
    "hierarchy_does_not_end": (MINIMAL[: MINIMAL.index("}\nMOTION")], 9, "does not end"),
    "no_brace": (MINIMAL.replace("ROOT a\n{", "ROOT a"), 3, "expected {"),
    "brace_without_joint": (MINIMAL.replace("ROOT a\n{", "{"), 2, "unexpected {"),
    "two_braces": (MINIMAL.replace("ROOT a\n{", "ROOT a {\n{"), 3, "unexpected {"),
    "close_first": ("HIERARCHY\n}\n", 2, "unexpected }"),
    "joint_before_root": (MINIMAL.replace("ROOT", "JOINT"), 2, "expected one ROOT"),
    "two_roots": (MINIMAL.replace("  End Site", "  ROOT b"), 6, "expected one ROOT"),
    "nameless": (MINIMAL.replace("ROOT a", "ROOT"), 2, "name"),
    "long_name": (MINIMAL.replace("ROOT a", "ROOT " + "a" * 300), 2, "name"),
    "joint_in_end_site": (MINIMAL.replace("OFFSET 0 1 0", "JOINT b"), 8, "inside an End Site"),
    "end_in_end_site": (MINIMAL.replace("OFFSET 0 1 0", "End Site"), 8, "End Site outside"),
    "offset_short": (MINIMAL.replace("OFFSET 0 0 0", "OFFSET 0 0"), 4, "OFFSET x y z"),
    "offset_nan": (MINIMAL.replace("OFFSET 0 0 0", "OFFSET 0 nan 0"), 4, "a number, found 'nan'"),
    "offset_huge": (MINIMAL.replace("OFFSET 0 0 0", "OFFSET 0 1e30 0"), 4, "a number"),
    "offset_underscore": (MINIMAL.replace("OFFSET 0 0 0", "OFFSET 0 1_0 0"), 4, "a number"),
    "unknown_word": (MINIMAL.replace("  OFFSET 0 0 0", "  SCALE 1"), 4, "unexpected 'SCALE'"),
    "channel_count": (MINIMAL.replace("CHANNELS 3", "CHANNELS 4"), 5, "CHANNELS"),
    "channel_name": (MINIMAL.replace("Yrotation", "Wrotation"), 5, "CHANNELS"),
    "channel_twice": (MINIMAL.replace("Yrotation", "Xrotation"), 5, "twice"),
    "channels_twice": (
        MINIMAL.replace("  End Site", "  CHANNELS 1 Xposition\n  End Site"),
        6,
        "once",
    ),
    "no_channels": (
        MINIMAL.replace("  CHANNELS 3 Xrotation Yrotation Zrotation\n", ""),
        9,
        "no joint has CHANNELS",
    ),
    "no_motion": (MINIMAL[: MINIMAL.index("MOTION")], 10, "MOTION"),
    "frames_word": (MINIMAL.replace("Frames:", "Frame:"), 12, "Frames:"),
    "frames_text": (MINIMAL.replace("Frames: 2", "Frames: two"), 12, "positive number of frames"),
    "frames_zero": (MINIMAL.replace("Frames: 2", "Frames: 0"), 12, "positive number of frames"),
    "frames_negative": (MINIMAL.replace("Frames: 2", "Frames: -2"), 12, "positive number"),
    "frames_superscript": (MINIMAL.replace("Frames: 2", "Frames: ²"), 12, "Frames:"),
    "time_zero": (MINIMAL.replace("0.04", "0"), 13, "frame time"),
    "time_negative": (MINIMAL.replace("0.04", "-1"), 13, "frame time"),
    "time_text": (MINIMAL.replace("0.04", "fast"), 13, "a number"),
    "frame_short": (
        MINIMAL.replace("4 5 6", "4 5"),
        15,
        "expected 3 values for the frame, found 2",
    ),
    "frame_long": (MINIMAL.replace("4 5 6", "4 5 6 7"), 15, "found 4"),
    "frame_text": (MINIMAL.replace("4 5 6", "4 x 6"), 15, "a number, found 'x'"),
    "frame_inf": (MINIMAL.replace("4 5 6", "4 inf 6"), 15, "a number"),
    "frames_missing": (MINIMAL.replace("Frames: 2", "Frames: 3"), 15, "ends after 2"),
    "frames_extra": (MINIMAL.replace("Frames: 2", "Frames: 1"), 15, "more frames than the 1"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_file(case: str) -> None:
    text, line, message = MALFORMED[case]
    with pytest.raises(FileError, match="no valid BVH") as caught:
        parse_bvh(io.BytesIO(text.encode()), name="m.bvh")
    assert f"m.bvh, line {line}: " in str(caught.value)
    assert message in str(caught.value)


def test_not_text() -> None:
    with pytest.raises(FileError, match="line 1: not text"):
        parse_bvh(io.BytesIO(b"\xff\xfe\x80 \n"), name="m.bvh")


def test_minimal_is_well_formed() -> None:
    joints, values, fps = parse_bvh(io.BytesIO(MINIMAL.encode()), name="m.bvh")
    assert [j.name for j in joints] == ["a"]
    np.testing.assert_array_equal(values, [[1, 2, 3], [4, 5, 6]])
    assert fps == 25


def nested(depth: int) -> str:
    opening = "".join(f"JOINT j{i}\n{{\nOFFSET 0 0 0\n" for i in range(depth))
    return "HIERARCHY\nROOT r\n{\nOFFSET 0 0 0\n" + opening + "}" * depth


class Endless(io.RawIOBase):
    """A stream without line breaks or end."""

    def readable(self) -> bool:
        return True

    def readline(self, size: int | None = -1, /) -> bytes:
        assert size is not None
        assert 0 < size < 1 << 20, "a reader must bound its lines"
        return b"1" * size


BOMBS = {
    "deep": (nested(100_000), "nested deeper"),
    "wide": (
        "HIERARCHY\nROOT r\n{\n" + "JOINT j\n{\n}\n" * 100_000,
        "more than 512 joints",
    ),
    "frames": (MINIMAL.replace("Frames: 2", "Frames: 1000000000"), "1000000000 frames"),
    "frames_digits": (MINIMAL.replace("Frames: 2", "Frames: " + "9" * 5000), "positive number"),
    "frames_claimed": (MINIMAL.replace("Frames: 2", "Frames: 199999"), "ends after 2"),
    "long_line": ("HIERARCHY\nROOT " + "a" * (1 << 22), "longer than"),
    "long_number": (MINIMAL.replace("OFFSET 0 0 0", "OFFSET 0 0 " + "1" * 100_000), "a number"),
    "many_words": (MINIMAL.replace("1 2 3", "1 " * 60_000), "expected 3 values"),
}


@pytest.mark.parametrize("case", BOMBS)
def test_bombs_fail_quickly(case: str) -> None:
    text, message = BOMBS[case]
    stream = io.BytesIO(text.encode())
    start = time.perf_counter()
    with pytest.raises(FileError, match=message):
        parse_bvh(stream, name="m.bvh")
    assert time.perf_counter() - start < 1.0


def test_many_joints_without_channels_take_no_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every joint has a matrix per frame, also where the file has no value for it."""
    path, text = small(tmp_path)
    extra = "".join(f"JOINT extra{i}\n{{\nOFFSET 0 0 0\n}}\n" for i in range(450))
    head, tail = text.split("MOTION", 1)
    row = tail.strip().splitlines()[-1]
    frames = 1000
    monkeypatch.setattr("gas_rt.body.bvh._FRAMES_AT_ONCE", 100)
    motion = f"MOTION\nFrames: {frames}\nFrame Time: 0.04\n" + f"{row}\n" * frames
    path.write_text(head.rstrip()[:-1] + extra + "}\n" + motion)
    tracemalloc.start()
    loaded = read_bvh(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(loaded) == frames
    np.testing.assert_array_equal(loaded.rotations[0], loaded.rotations[-1])
    assert peak < 20e6  # all frames at once would take 34e6 for the matrices alone


def test_endless_line() -> None:
    with pytest.raises(FileError, match="longer than"):
        parse_bvh(Endless(), name="m.bvh")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_mutations_fail_with_our_error_or_not_at_all(data: st.DataObject) -> None:
    text = bytearray(MINIMAL.encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text) - 1))
        text[at : at + data.draw(st.integers(0, 6))] = data.draw(st.binary(max_size=6))
        text = text or bytearray(b" ")
    with contextlib.suppress(FileError):
        parse_bvh(io.BytesIO(bytes(text)), name="m.bvh")
