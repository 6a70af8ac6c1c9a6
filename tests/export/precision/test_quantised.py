"""int8 in a graph: ranges from inputs, pairs around layers, and what int8 ruins left out."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from export.lint import lint
from export.onnx_files import halve, move_weights
from export.precision.audit import layer_types, runtime_types, wide_tail
from export.precision.graphs import stored_names, widened
from export.precision.measure import Session, openvino_outputs
from export.precision.quantised import calibrated, int8_narrowing, quantised
from export.precision.recipe import recipe_for
from export.precision.switched import SWITCH, switched
from tests.export.precision.toys import LAYERS, samples, toy, written


def relative(found, wanted):
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("toy")


@pytest.fixture(scope="module")
def scales(folder):
    return calibrated(toy(folder), samples(4))


def test_scales_are_of_a_tensor_and_of_a_weights_channels(folder, scales):
    assert list(scales) == list(LAYERS)
    for layer in LAYERS:
        assert scales[layer][0].value.shape == ()
        assert scales[layer][1].value.shape == (24,)
        assert scales[layer][1].axis == 0
    largest = [np.abs(s["x"]).max() / 2 for s in samples(4)]
    # NNCF takes the mean of what samples reach.
    assert min(largest) <= 127 * float(scales["first"][0].value) <= 1.01 * max(largest)


def test_int8_is_close_to_fp32_and_runs_as_int8(folder, scales, tmp_path):
    wide, given = toy(folder), samples(1, seed=9)[0]
    graph = quantised(wide, scales, LAYERS)
    assert layer_types(graph) == dict.fromkeys(LAYERS, "int8")
    assert wide_tail(graph) == []
    assert lint(graph) == []
    wanted = Session(wide, threads=1).run(given)["y"]
    found = Session(graph, threads=1).run(given)["y"]
    assert 1e-3 < relative(found, wanted) < 0.05
    runtime = openvino_outputs(graph, given, threads=1)["y"]
    assert relative(runtime, wanted) < 0.05
    onnx.save(graph, tmp_path / "q.onnx")
    assert runtime_types(tmp_path / "q.onnx", hint="f32", threads=1) == {"int8": 3}


def test_the_switch_agrees_with_the_graph(folder, scales):
    wide, given = toy(folder), samples(1, seed=9)[0]
    session = Session(
        switched(wide, LAYERS, int8_narrowing(wide, scales), outputs=False), threads=1
    )
    for flags in ([True, False, True], [False, True, False], [True] * 3, [False] * 3):
        on = session.run({**given, SWITCH: np.array(flags)})["y"]
        layers = [name for name, flag in zip(LAYERS, flags, strict=True) if flag]
        wanted = Session(quantised(wide, scales, layers), threads=1).run(given)["y"]
        np.testing.assert_allclose(on, wanted, rtol=1e-5, atol=1e-5)


def test_weights_lie_there_as_int8_and_the_others_as_fp16(folder, scales, tmp_path):
    wide = toy(folder)
    graph = quantised(wide, scales, ("first", "last"))
    halve(graph, stored_names(wide))
    given = samples(1, seed=9)[0]
    wanted = Session(graph, threads=1).run(given)["y"]
    move_weights({"toy": graph}, tmp_path, weights="weights.safetensors")
    stored = onnx.load(tmp_path / "toy.onnx")
    kinds = {t.name: t.data_type for t in stored.graph.initializer if len(t.dims) == 4}
    assert sorted(kinds.values()) == [TensorProto.INT8, TensorProto.INT8, TensorProto.FLOAT16]
    integers = [
        numpy_helper.to_array(t)
        for t in stored.graph.initializer
        if t.data_type == TensorProto.INT8 and len(t.dims) == 4
    ]
    assert {int(np.abs(value).max()) for value in integers} <= {63, 64}, "half of the range"
    np.testing.assert_array_equal(Session(stored, threads=1).run(given)["y"], wanted)


def test_a_planted_layer_that_int8_ruins_is_kept(tmp_path):
    wide, given = toy(tmp_path, spike="middle"), samples(6)
    session = Session(wide, threads=1)
    recipe = recipe_for(
        wide,
        "int8",
        samples=given[:2],
        wanted=[session.run(sample) for sample in given[:2]],
        calibration=given,
        budget=0.03,
        threads=1,
    )
    assert set(recipe.choice.kept) == {"middle"}
    assert recipe.choice.error <= 0.03 < recipe.choice.error_of_all
    assert layer_types(recipe.apply(wide)) == {
        "first": "int8",
        "middle": "fp32",
        "last": "int8",
    }
    told = recipe.as_dict()
    assert (told["layers"], told["narrow"]) == (3, 2)


def test_a_graph_without_layers_is_refused(tmp_path):
    wide = toy(tmp_path)
    nodes = [node for node in wide.graph.node if node.op_type == "Mul"][:1]
    nodes.append(onnx.helper.make_node("Identity", ["scaled"], ["y"]))
    del wide.graph.node[:]
    wide.graph.node.extend(nodes)
    given = samples(2)
    with pytest.raises(ValueError, match="no layer of the graph can compute in bf16"):
        recipe_for(wide, "bf16", samples=given, wanted=[{"y": s["x"]} for s in given])


def test_a_graph_that_computes_in_fp16_is_refused(tmp_path):
    path = written(tmp_path / "toy.onnx")
    model = onnx.load(path)
    model.graph.node.append(onnx.helper.make_node("Neg", ["diffusion.first.weight"], ["negative"]))
    onnx.save(model, path)
    with pytest.raises(ValueError, match=r"computes with 'diffusion\.first\.weight' in fp16"):
        widened(path)
