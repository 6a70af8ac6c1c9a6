"""Gates say which output failed, where and by how much."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from export.errors import GateError
from export.precision.gates import audit_gate, lint_gate, parity_gate, stream_gate
from export.precision.measure import OutputError
from export.precision.typed import lowered
from tests.export.precision.toys import LAYERS, toy

WANTED = np.linspace(-1, 1, 101, dtype=np.float32)
STREAM = {
    "frames": 40,
    "psnr_db": 40.0,
    "required_db": 36.0,
    "loss_db": 0.05,
    "loss_db_max": 0.1,
}


def parity(found, precision="bf16"):
    errors = {"denoiser": {"as written": {"x0": OutputError.between(found, WANTED)}}}
    parity_gate(errors, {"denoiser": {"as written": precision}})


def test_an_error_is_measured_four_ways():
    error = OutputError.between(WANTED + np.float32(0.01), WANTED)
    assert error.largest == pytest.approx(0.01, rel=1e-4)
    assert error.relative == pytest.approx(0.01, rel=1e-4)
    assert error.rms == pytest.approx(0.01 / np.sqrt(np.mean(WANTED**2)), rel=1e-3)
    assert error.cosine == pytest.approx(1 / np.sqrt(1 + error.rms**2), abs=1e-6)
    assert error.finite


def test_parity_passes_what_is_close():
    parity(WANTED)
    parity(WANTED * np.float32(1.02))


def test_parity_tells_not_a_number():
    with pytest.raises(GateError, match=r"gate parity: denoiser\.x0 in as written has NaN"):
        parity(np.where(WANTED > 0.5, np.nan, WANTED))


def test_parity_tells_by_how_much():
    found = WANTED.copy()
    found[3] += 0.25
    with pytest.raises(GateError, match=r"x0 in as written differs by 0\.25 of its range.*0\.1"):
        parity(found)
    with pytest.raises(GateError, match=r"differs by 0\.02 .*0\.0001 in fp32"):
        parity(WANTED * np.float32(1.02), "fp32")


def test_parity_tells_another_direction():
    noise = np.random.default_rng(0).uniform(-0.09, 0.09, WANTED.shape).astype(np.float32)
    with pytest.raises(GateError, match=r"cosine 0\.99\d+ to PyTorch's, at least 0\.999"):
        parity(WANTED + noise)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"psnr_db": 35.9}, r"35\.90 dB from PyTorch's over 40 frames, at least 36"),
        ({"psnr_db": float("nan")}, "nan dB from PyTorch's"),
        ({"loss_db": 0.2}, r"lose 0\.200 dB to the truth.*at most 0\.1"),
        ({"loss_db": float("nan")}, "lose nan dB"),
    ],
)
def test_the_stream_tells_what_pictures_lack(changed, told):
    stream_gate({"openvino": STREAM})
    with pytest.raises(GateError, match=f"gate stream: pictures in openvino.*{told}") as caught:
        stream_gate({"openvino": STREAM | changed})
    assert caught.value.gate == "stream"


def test_lint_names_the_graph(tmp_path):
    graph = toy(tmp_path)
    lint_gate({"denoiser": graph})
    graph.graph.node[0].op_type = "Hardmax"
    with pytest.raises(GateError, match=r"gate lint: denoiser: operator Hardmax"):
        lint_gate({"denoiser": graph})


def test_the_audit_counts_and_finds_layers_of_another_type(tmp_path):
    path = tmp_path / "denoiser.onnx"
    graph = lowered(toy(tmp_path), ("first", "last"), "bf16")
    onnx.save(graph, path)
    counts = audit_gate(path, ("first", "last"), "bf16", threads=1)
    assert counts["file"] == {"bf16": 2, "fp32": 1}
    with pytest.raises(GateError, match=r"gate layer types: denoiser: middle computes in fp32"):
        audit_gate(path, LAYERS, "bf16", threads=1)
    with pytest.raises(GateError, match="last computes in bf16, the recipe says fp32"):
        audit_gate(path, ("first",), "bf16", threads=1)
    with pytest.raises(GateError, match="has no layer lost"):
        audit_gate(path, ("first", "last", "lost"), "bf16", threads=1)


def test_the_audit_finds_a_narrow_end(tmp_path):
    graph = lowered(toy(tmp_path), LAYERS, "fp16")
    up = next(n for n in graph.graph.node if n.output[0] == "last.out/wide")
    for node in graph.graph.node:
        node.input[:] = ["last.out" if name == up.output[0] else name for name in node.input]
    graph.graph.node.remove(up)
    double = next(n for n in graph.graph.node if n.name == "double")
    at = list(graph.graph.node).index(double) + 1
    double.output[0] = "twice/narrow"
    graph.graph.node.insert(
        at, onnx.helper.make_node("Cast", ["twice/narrow"], ["twice"], to=onnx.TensorProto.FLOAT)
    )
    path = tmp_path / "denoiser.onnx"
    onnx.save(graph, path)
    with pytest.raises(GateError, match="double comes after the last layer and is not in fp32"):
        audit_gate(path, LAYERS, "fp16", threads=1)


def test_many_problems_are_cut_short():
    error = GateError("parity", [f"output {k}" for k in range(11)])
    assert "output 7; and 3 more. Nothing was installed" in str(error)
    assert len(error.problems) == 11
