"""SMPL pickles: read as their authors wrote them, refused as soon as they ask for more."""

from __future__ import annotations

import io
import os
import pickle
import re
import struct
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import scipy.sparse

from export import smpl_pickle
from export.__main__ import main
from export.convert_smpl import convert
from gas_rt.body import BodyModel
from gas_rt.body.skeleton import PARENTS
from gas_rt.errors import FileError

VERTICES = 40


class Ch:
    """As chumpy pickles its arrays."""

    __module__, __qualname__ = "chumpy.ch", "Ch"

    def __init__(self, x: np.ndarray) -> None:
        self.x = x
        self._dirty_vars: dict[str, Any] = {}


class Select:
    """As chumpy pickles a view."""

    __module__, __qualname__ = "chumpy.reordering", "Select"

    def __init__(self, a: Ch, idxs: np.ndarray, shape: tuple[int, ...]) -> None:
        self.a, self.idxs, self.preferred_shape = a, idxs, shape


@pytest.fixture(autouse=True)
def chumpy(monkeypatch):
    """Modules of chumpy's names, for the pickler alone: the reader has none."""
    monkeypatch.setitem(sys.modules, "chumpy", types.ModuleType("chumpy"))
    for kind in (Ch, Select):
        module = types.ModuleType(kind.__module__)
        setattr(module, kind.__name__, kind)
        monkeypatch.setitem(sys.modules, kind.__module__, module)


class Python2Pickler(pickle._Pickler):
    """Bytes as Python 2's ``str``, which is what the published files hold."""

    dispatch: ClassVar[dict] = dict(pickle._Pickler.dispatch)

    def save_bytes(self, value: bytes) -> None:
        self.write(pickle.BINSTRING + struct.pack("<i", len(value)) + value)
        self.memoize(value)

    dispatch[bytes] = save_bytes


def dumped(model: Any) -> bytes:
    stream = io.BytesIO()
    Python2Pickler(stream, protocol=2).dump(model)
    data = stream.getvalue().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    return data.replace(b"scipy.sparse._csc", b"scipy.sparse.csc")


def smpl() -> dict[str, Any]:
    """A small model of random numbers in the published layout."""
    rng = np.random.default_rng(0)
    joints = len(PARENTS)
    weights = np.zeros((VERTICES, joints))
    weights[np.arange(VERTICES), rng.integers(joints, size=VERTICES)] = 0.75
    weights[:, 0] += 1 - weights.sum(1)
    regressor = rng.random((joints, VERTICES)) * (rng.random((joints, VERTICES)) > 0.7)
    shapes = rng.standard_normal((VERTICES, 3, 10))
    template = rng.standard_normal((VERTICES, 3))
    posed = np.asfortranarray(rng.standard_normal((VERTICES, 3, 207)))
    tree = np.stack([np.array(PARENTS) % 2**32, np.arange(joints)]).astype(np.uint32)
    return {
        "v_template": Ch(template),
        "shapedirs": Select(Ch(shapes), np.arange(shapes.size), shapes.shape),
        "posedirs": Ch(posed),
        "J_regressor": scipy.sparse.csc_matrix(regressor),
        "weights": Ch(weights),
        "kintree_table": tree,
        "f": rng.integers(VERTICES, size=(60, 3)).astype(np.uint32),
        "J": Ch(regressor @ template),
        "bs_style": "lbs",
        "pose_training_info": {"subjects": ["a", "b"], "count": 3},
    }


def test_a_published_layout_is_read_exactly(tmp_path):
    (tmp_path / "model.pkl").write_bytes(dumped(smpl()))
    told = convert(tmp_path / "model.pkl", tmp_path / "out" / "body.npz")
    body, model = BodyModel.open(tmp_path / "out" / "body.npz"), smpl()
    for ours, theirs in (
        (body.template, model["v_template"].x),
        (body.shapedirs, model["shapedirs"].a.x),
        (body.posedirs, model["posedirs"].x),
        (body.joint_regressor, model["J_regressor"].toarray()),
        (body.faces, model["f"]),
    ):
        np.testing.assert_array_equal(ours, theirs.astype(ours.dtype))
    assert body.parents.tolist() == list(PARENTS)
    assert (told["vertices"], told["faces"], told["shapes"]) == (VERTICES, 60, 10)
    assert "non-commercial" in told["licence"]


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_pickles_of_todays_libraries_are_read(protocol, tmp_path):
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(smpl(), protocol=protocol))
    found = smpl_pickle.read(str(tmp_path / "model.pkl"))
    np.testing.assert_array_equal(found["weights"], smpl()["weights"].x)


class Calls:
    """A pickle of this calls `function` when it is read."""

    def __init__(self, function: Callable, *arguments: Any) -> None:
        self.made = (function, arguments)

    def __reduce__(self) -> Any:
        return self.made


def asking_for(module: str, name: str, argument: str) -> bytes:
    """The same by hand, in whatever spelling."""
    return f"c{module}\n{name}\n(S'{argument}'\ntR.".encode()


def touching(marker: Path) -> str:
    return f"touch {marker}"


HOSTILE: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "os.system": (
        lambda m: dumped({"f": Calls(os.system, touching(m))}),
        r"asks for (posix|nt)\.system",
    ),
    "eval": (lambda m: dumped(Calls(eval, f"open({str(m)!r}, 'w')")), "asks for __builtin__.eval"),
    "python 2's": (lambda m: asking_for("os", "system", touching(m)), "asks for os.system"),
    "subprocess": (
        lambda m: asking_for("subprocess", "getoutput", touching(m)),
        "asks for subprocess",
    ),
    "getattr": (lambda m: asking_for("builtins", "getattr", "x"), "asks for builtins.getattr"),
    "a dotted name": (
        lambda m: b"\x80\x04\x8c\x05numpy\x8c\x11ndarray.__class__\x93.",
        "asks for numpy.ndarray.__class__",
    ),
    "numpy's loader": (lambda m: asking_for("numpy", "load", "x"), "asks for numpy.load"),
    "state for a class": (
        lambda m: b"cchumpy.ch\nCh\n(dS'x'\nI1\nsb.",
        "gives a state to type",
    ),
    "state for a function": (
        lambda m: b"cnumpy.core.multiarray\n_reconstruct\n(dS'__kwdefaults__'\nS'x'\nsb.",
        "gives a state to function",
    ),
    "an extension": (lambda m: b"\x80\x02\x82\x01.", "asks for extension 1"),
    "a persistent id": (lambda m: b"Pelsewhere\n.", "outside of itself"),
    "a huge memo": (lambda m: b"\x80\x02]r\xff\xff\xff\x7f.", "memo entry 2147483647"),
    "a huge string": (
        lambda m: b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"x.",
        "cannot be unpickled",
    ),
    "a huge byte array": (
        lambda m: b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"x.",
        "cannot be unpickled",
    ),
    "deep nesting": (lambda m: b"(" * 100 + b"l" * 100 + b".", "holds list"),
    "nothing": (lambda m: b"", "cannot be unpickled"),
    "half of it": (lambda m: dumped(smpl())[:5000], "cannot be unpickled"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles_are_refused_and_do_nothing(name, tmp_path):
    make, message = HOSTILE[name]
    marker = tmp_path / "executed"
    path = tmp_path / "model.pkl"
    path.write_bytes(make(marker))
    if "huge" in name:  # what it asks for is refused where memory is limited
        with pytest.raises(FileError, match=message):
            convert(path, tmp_path / "body.npz")
        assert not (tmp_path / "body.npz").exists()
        return
    assert re.search(message, refusal(path))
    assert not marker.exists()


def refusal(path: Path) -> str:
    """What the reader says of a file, in this process."""
    try:
        smpl_pickle.read(str(path))
    except Exception as error:
        return smpl_pickle.told(error)
    raise AssertionError(f"{path} was read")


def test_a_refusal_reaches_who_asked(tmp_path):
    marker = tmp_path / "executed"
    (tmp_path / "model.pkl").write_bytes(HOSTILE["os.system"][0](marker))
    with pytest.raises(FileError, match=r"model\.pkl: asks for posix\.system.*Refused; give"):
        convert(tmp_path / "model.pkl", tmp_path / "body.npz")
    assert not marker.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["model.pkl"]


def broken(name: str) -> dict[str, Any]:
    model = smpl()
    if name == "NaN":
        model["v_template"].x[3, 1] = np.nan
    elif name == "wrong shape":
        model["posedirs"] = Ch(np.zeros((VERTICES, 3, 9)))
    elif name == "missing":
        del model["weights"]
    elif name == "objects":
        model["f"] = np.array([object()] * 3)
    elif name == "text":
        model["f"] = "faces"
    elif name == "view beyond":
        model["shapedirs"].idxs = model["shapedirs"].idxs + 1
    elif name == "sparse beyond":
        model["J_regressor"].indices[0] = 24
    elif name == "sparse huge":
        model["J_regressor"]._shape = (1 << 19, 1 << 19)
    elif name == "infinite views":
        view = Ch(np.zeros(3))
        view.x = view
        model["v_template"] = view
    return model


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("NaN", r"v_template.*(finite|NaN)"),
        ("wrong shape", r"posedirs: expected shape \[40, 3, 207\]"),
        ("missing", "weights missing"),
        ("objects", "f: an array of 'O8', expected numbers"),
        ("text", "f: str where an array belongs"),
        ("view beyond", "shapedirs: a view of elements"),
        ("sparse beyond", "J_regressor: .* whose indices leave it"),
        ("sparse huge", "J_regressor: a sparse matrix of shape"),
        ("infinite views", "v_template: views of views"),
    ],
)
def test_models_that_are_none_are_refused(name, message, tmp_path):
    (tmp_path / "model.pkl").write_bytes(dumped(broken(name)))
    with pytest.raises((smpl_pickle.RefusedError, FileError), match=message):
        BodyModel.from_arrays(smpl_pickle.read(str(tmp_path / "model.pkl")))


def test_an_array_must_hold_what_its_shape_says(tmp_path):
    data = dumped(smpl())
    # v_template's (40, 3) → (40, 9)
    forged = data.replace(b"K(K\x03\x86", b"K(K\x09\x86", 1)
    assert forged != data
    (tmp_path / "model.pkl").write_bytes(forged)
    with pytest.raises(
        smpl_pickle.RefusedError, match=r"v_template: .* \[40, 9\] that holds 960 bytes"
    ):
        smpl_pickle.read(str(tmp_path / "model.pkl"))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileError, match="no such file"):
        convert(tmp_path / "model.pkl", tmp_path / "body.npz")


def test_the_command_tells_what_it_wrote_and_what_it_refused(tmp_path, capsys):
    (tmp_path / "model.pkl").write_bytes(dumped(smpl()))
    arguments = ["convert-smpl", str(tmp_path / "model.pkl"), "-o", str(tmp_path / "body.npz")]
    assert main(arguments) == 0
    assert f'"vertices": {VERTICES}' in capsys.readouterr().out
    (tmp_path / "model.pkl").write_bytes(b"")
    assert main(arguments) == 1
    assert capsys.readouterr().err.startswith("error: ")
