"""fp16 and bf16 in a graph: the chosen layers, and nothing around them."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from export.lint import lint
from export.precision.audit import layer_types, wide_tail
from export.precision.graphs import heavy_nodes, types_of
from export.precision.measure import Session
from export.precision.switched import SWITCH, switched, typed_narrowing
from export.precision.typed import lowered, rounded
from tests.export.precision.toys import LAYERS, samples, toy


def relative(found, wanted):
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_the_chosen_layers_are_narrow_and_what_is_around_them_is_not(tmp_path, precision):
    wide = toy(tmp_path)
    graph = lowered(wide, ("first", "last"), precision)
    assert layer_types(graph) == {"first": precision, "middle": "fp32", "last": precision}
    assert wide_tail(graph) == []
    assert lint(graph) == []
    kinds = types_of(graph)
    assert kinds["scaled"] == kinds["twice"] == kinds["y"] == TensorProto.FLOAT
    # SiLU after a narrow layer is narrow if a narrow layer is to come.
    assert kinds["first.act"] == kinds["first.out"] != TensorProto.FLOAT
    assert kinds["middle.act"] == TensorProto.FLOAT
    assert wide.graph.node[1].op_type == "Conv", "the given graph is left as it was"


def test_an_output_between_layers_is_wide(tmp_path):
    wide = toy(tmp_path)
    shape = [d.dim_value for d in wide.graph.output[0].type.tensor_type.shape.dim]
    wide.graph.output.append(onnx.helper.make_tensor_value_info("first.act", 1, shape))
    graph = lowered(wide, LAYERS, "bf16")
    kinds = types_of(graph)
    assert kinds["first.act"] == TensorProto.FLOAT != kinds["first.out"]
    assert layer_types(graph) == dict.fromkeys(LAYERS, "bf16")


def test_fp16_computes_what_fp32_does_to_its_precision(tmp_path):
    wide, given = toy(tmp_path), samples(1)[0]
    wanted = Session(wide, threads=1).run(given)["y"]
    found = Session(rounded(lowered(wide, LAYERS, "fp16")), threads=1).run(given)["y"]
    assert 1e-5 < relative(found, wanted) < 2e-3


def test_bf16_is_emulated_by_rounding(tmp_path):
    """One layer alone: operands and result rounded to bf16, by NumPy's type of that name."""
    wide, given = toy(tmp_path), samples(1)[0]

    def short(value):
        return np.asarray(value, np.float32).astype(ml_dtypes.bfloat16).astype(np.float32)

    session = Session(rounded(lowered(wide, ("first",), "bf16")), threads=1)
    found = session.run(given)["y"]
    by_hand = onnx.ModelProto()
    by_hand.CopyFrom(wide)
    for tensor in by_hand.graph.initializer:
        if tensor.name == "diffusion.first.weight/fp32":
            tensor.CopyFrom(
                numpy_helper.from_array(short(numpy_helper.to_array(tensor)), tensor.name)
            )
    value = onnx.helper.make_tensor_value_info
    by_hand.graph.output.append(value("first.out", 1, None))
    by_hand.graph.node[0].output[0] = "before"
    by_hand.graph.input.append(value("scaled", 1, [1, 24, 8, 8]))
    scaled = short(given["x"] * np.float32(0.5))
    made = Session(by_hand, threads=1).run({**given, "scaled": scaled})["first.out"]
    rest = onnx.ModelProto()
    rest.CopyFrom(wide)
    heavy_nodes(rest)["first"].output[0] = "unused"
    rest.graph.input.append(value("first.out", 1, [1, 24, 8, 8]))
    wanted = Session(rest, threads=1).run({**given, "first.out": short(made)})["y"]
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_a_switch_narrows_a_layer(tmp_path, precision):
    wide, given = toy(tmp_path), samples(1)[0]
    session = Session(switched(wide, LAYERS, typed_narrowing(precision), outputs=True), threads=1)
    plain = Session(wide, threads=1).run(given)["y"]
    off = session.run({**given, SWITCH: np.zeros(3, bool)})["y"]
    np.testing.assert_array_equal(off, plain)
    for k, layer in enumerate(LAYERS):
        on = session.run({**given, SWITCH: np.arange(3) == k})["y"]
        alone = Session(rounded(lowered(wide, (layer,), precision)), threads=1).run(given)
        np.testing.assert_allclose(on, alone["y"], rtol=1e-5, atol=1e-5)


def test_a_weight_that_fp16_cannot_hold_is_named(tmp_path):
    wide = toy(tmp_path)
    for tensor in wide.graph.initializer:
        if "middle" in tensor.name:
            value = numpy_helper.to_array(tensor) * np.float32(1e6)
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    with pytest.raises(ValueError, match=r"diffusion\.middle\.weight.*fp16 cannot store"):
        lowered(wide, LAYERS, "fp16")
    lowered(wide, LAYERS, "bf16")
