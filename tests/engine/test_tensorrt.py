"""The TensorRT backend's control flow over stand-ins: no plan is built and no GPU is used here.

`test_tensorrt_contract` runs these tests once more with every access checked against TensorRT's
real bindings, so what is not run here is not checked there; it demands that every line is.
"""

from __future__ import annotations

import gc
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from gas_rt.core import BackendReport
from gas_rt.engine import GraphSpec, PlanStore, TensorSpec
from gas_rt.engine.tensorrt import TensorRtGraph
from gas_rt.engine.tensorrt.build import pack, unpack
from gas_rt.engine.tensorrt.weights import weights_in
from gas_rt.errors import (
    BackendError,
    BuildCancelledError,
    GasRtWarning,
    InputError,
    PlanError,
    ShapeError,
)
from tests.engine.fake_tensorrt import BuilderFlag
from tests.engine.tensorrt_world import (
    SHAPE,
    World,
    expected,
    make_world,
    some_inputs,
    write_plain,
    write_step,
)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return make_world(monkeypatch)


@pytest.fixture
def step(tmp_path: Path) -> GraphSpec:
    return write_step(tmp_path / "bundle")


def load(world: World, spec: GraphSpec, **options: Any) -> TensorRtGraph:
    graph = world.engine(**options).load(spec)
    assert isinstance(graph, TensorRtGraph)
    return graph


def same(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, atol=1e-6)


# ---- build, store, refit ------------------------------------------------------------------------


def test_a_plan_is_built_once_without_weights_and_computes(world: World, step: GraphSpec) -> None:
    engine = world.engine()
    inputs = some_inputs()
    same(engine.load(step).run(inputs), expected(step, inputs))
    assert world.trt.built == ["step"]
    assert world.trt.flags == {BuilderFlag.STRIP_PLAN, BuilderFlag.REFIT_IDENTICAL}
    assert world.trt.level == 3
    (plan,) = world.store.plans.values()
    assert weights_in(plan, step) == []
    engine.close()

    other = world.engine()
    same(other.load(step).run(inputs), expected(step, inputs))
    assert world.trt.built == ["step"]  # found this time
    assert world.store.keys[0].digest == world.store.keys[-1].digest
    other.close()


def test_the_key_names_all_a_plan_depends_on(world: World, step: GraphSpec) -> None:
    load(world, step)
    fields = world.store.keys[0].fields()
    assert fields["backend"] == "tensorrt"
    assert fields["precision"] == "fp32"
    assert fields["flags.weights"] == "stripped, refit identical"
    assert fields["machine.tensorrt"] == "11.4.0.106"
    assert fields["machine.gpu"] == "Fake GPU"
    assert fields["machine.sm"] == "8.9"
    assert "13020" in fields["machine.cuda"]


def test_both_versions_have_keys_of_their_own(
    monkeypatch: pytest.MonkeyPatch, step: GraphSpec
) -> None:
    digests = set()
    for version in ("10.16.1.11", "11.4.0.106"):
        world = make_world(monkeypatch, version)
        load(world, step)
        digests |= set(world.store.plans)
    assert len(digests) == 2


def test_the_report_tells_what_runs(world: World, step: GraphSpec) -> None:
    engine = world.engine()
    assert engine.report == BackendReport(
        "tensorrt", "tensorrt", "cuda, Fake GPU", "as exported", "on"
    )
    report = engine.load(step).report
    assert report == BackendReport("tensorrt", "tensorrt", "cuda, Fake GPU", "fp32", "on")


def test_a_plan_that_the_store_refuses_is_not_read(world: World, step: GraphSpec) -> None:
    load(world, step)
    world.store.refused = True
    with pytest.warns(GasRtWarning, match="contents differ; refused; built anew"):
        same(load(world, step).run(some_inputs()), expected(step, some_inputs()))
    assert world.trt.built == ["step", "step"]
    with pytest.raises(PlanError, match="contents differ; refused"):
        load(world, step, strict=True)


def test_a_plan_that_cannot_be_read_leaves_the_store(world: World, step: GraphSpec) -> None:
    load(world, step)
    world.trt.faults = {"deserialize_cuda_engine"}
    with pytest.raises(BackendError, match=r"refuses the stored plan.*load again"):
        load(world, step)
    assert not world.store.plans
    world.trt.faults = set()
    load(world, step)
    assert world.trt.built == ["step", "step"]


def test_the_real_store_keeps_plans(world: World, step: GraphSpec, tmp_path: Path) -> None:
    for built in (1, 1):
        store = PlanStore.open(tmp_path / "plans")
        graph = load(world, step, store=store)
        same(graph.run(some_inputs()), expected(step, some_inputs()))
        assert len(world.trt.built) == built
        assert graph.report.plans == "on"
    assert world.trt.timings == b""  # of the one build


def test_a_graph_without_weights_needs_no_refit(world: World, tmp_path: Path) -> None:
    world.trt.faults = {"refit_from_file"}
    graph = load(world, write_plain(tmp_path))
    ones = np.ones(4, np.float32)
    np.testing.assert_array_equal(graph.run({"x": ones})["y"], 2 * ones)


def test_a_build_starts_from_earlier_timings(world: World, step: GraphSpec) -> None:
    world.store.timings = b"earlier;"
    load(world, step)
    assert world.trt.timings == b"earlier;"
    assert world.store.timings == b"earlier;timed;"


def test_timings_of_another_machine_are_left(world: World, step: GraphSpec) -> None:
    world.store.timings = b"foreign;"
    world.trt.faults = {"foreign timings"}
    load(world, step)
    assert world.store.timings == b"timed;"


def test_a_build_tells_how_far_it_is(world: World, step: GraphSpec) -> None:
    seen: list[tuple[float, str]] = []
    world.engine().load(step, progress=lambda share, doing: seen.append((share, doing)))
    assert [share for share, _ in seen] == pytest.approx([1 / 3, 2 / 3, 1])
    assert {doing for _, doing in seen} == {"Building engine"}


def test_a_build_can_be_cancelled(world: World, step: GraphSpec) -> None:
    cancel = threading.Event()
    with pytest.raises(BuildCancelledError, match="cancelled in Timing kernels; nothing was kept"):
        world.engine().load(step, progress=lambda *_: cancel.set(), cancel=cancel)
    assert not world.store.plans
    load(world, step)  # and started again


def test_without_a_store_every_start_builds(world: World, step: GraphSpec) -> None:
    for _ in range(2):
        engine = world.engine(store=None)
        assert engine.report.plans == "off"
        same(engine.load(step).run(some_inputs()), expected(step, some_inputs()))
        engine.close()
    assert world.trt.built == ["step", "step"]
    cancel = threading.Event()
    with pytest.raises(BuildCancelledError):
        world.engine(store=None).load(step, progress=lambda *_: cancel.set(), cancel=cancel)


def test_who_watches_a_build_may_fail(world: World, step: GraphSpec) -> None:
    def watch(share: float, doing: str) -> None:
        raise ValueError("the window is gone")

    with pytest.raises(ValueError, match="the window is gone"):
        world.engine().load(step, progress=watch)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("parse_from_file", r"cannot read step\.onnx: an operator that nobody knows"),
        ("build_serialized_network", r"cannot build step\.onnx"),
        ("deserialize_cuda_engine", "refuses the stored plan"),
        ("refit_from_file", r"cannot take the weights of step\.onnx: an operator"),
        ("missing weights", r"does not have 1 weights that the plan wants, 'conv\.weight'"),
        ("refit_cuda_engine", "cannot put the weights in"),
        ("create_execution_context", "makes no execution context"),
    ],
)
def test_every_step_to_a_graph_may_fail(
    world: World, step: GraphSpec, fault: str, message: str
) -> None:
    world.trt.faults = {fault}
    engine = world.engine()
    with pytest.raises(BackendError, match=message) as info:
        engine.load(step)
    said = "its log says nothing" if fault == "missing weights" else f"fault: {fault}"
    assert said in str(info.value)
    assert "chatter" not in str(info.value)
    assert "11.4.0.106" in str(info.value)
    world.trt.faults = set()
    inputs = some_inputs()
    same(engine.load(step).run(inputs), expected(step, inputs))  # the engine is whole
    engine.close()


def test_a_plan_that_kept_its_weights_is_not_stored(world: World, step: GraphSpec) -> None:
    world.trt.faults = {"leak"}
    with pytest.raises(BackendError, match=r"left weights in a plan.*'conv0\.weight' among 1"):
        load(world, step)
    assert not world.store.plans


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_weights_are_found_in_either_type(step: GraphSpec, dtype: Any) -> None:
    weights = np.frombuffer((step.path.parent / "step.bin").read_bytes(), np.float32)
    assert weights_in(b"plan" + weights.astype(dtype).tobytes(), step) == ["conv0.weight"]
    assert weights_in(b"plan" + weights[::-1].astype(dtype).tobytes(), step) == []


@pytest.mark.parametrize("kind", [onnx.TensorProto.INT8, onnx.TensorProto.BFLOAT16])
def test_weights_of_other_types_are_found_as_they_are(step: GraphSpec, kind: int) -> None:
    weights = (step.path.parent / "step.bin").read_bytes()
    model = onnx.load(step.path, load_external_data=False)
    model.graph.initializer[0].data_type = kind
    onnx.save(model, step.path)
    assert weights_in(b"plan" + weights, step) == ["conv0.weight"]
    assert weights_in(b"plan" + weights[::-1], step) == []


def test_weights_too_plain_to_tell_are_not_looked_for(step: GraphSpec) -> None:
    path = step.path.parent / "step.bin"
    path.write_bytes(bytes(path.stat().st_size))
    assert weights_in(path.read_bytes(), step) == []


def test_indices_are_not_looked_for(step: GraphSpec) -> None:
    weights = (step.path.parent / "step.bin").read_bytes()
    model = onnx.load(step.path, load_external_data=False)
    model.graph.initializer[0].data_type = onnx.TensorProto.INT32
    onnx.save(model, step.path)
    assert weights_in(weights, step) == []


def test_a_plan_of_somebody_else_is_named() -> None:
    packed = pack(b"plan", {"precision": "fp32"})
    assert unpack(packed, where="g") == ({"precision": "fp32"}, memoryview(b"plan"))
    for bad in (b"", b"abc", b"\xff\xff\xff\xffplan", b"\x02\0\0\0[]plan", b"\x02\0\0\0{]plan"):
        with pytest.raises(BackendError, match="the stored plan is not one of TensorRT's"):
            unpack(bad, where="graph step")


# ---- precision ----------------------------------------------------------------------------------


def test_precision_is_the_files(world: World, tmp_path: Path) -> None:
    half = write_step(tmp_path / "half", precision="fp16")
    graph = load(world, half, precision="fp16")
    assert graph.report.precision == "fp16"
    same(graph.run(some_inputs()), expected(half, some_inputs()))
    full = write_step(tmp_path / "full")
    with pytest.raises(
        BackendError, match=r"step\.onnx computes in fp32; export .*--precision fp16"
    ):
        load(world, full, precision="fp16")


@pytest.mark.parametrize(("says", "does"), [("fp16", "fp32"), ("int8", "fp32"), ("fp32", "fp16")])
def test_a_file_that_computes_in_another_precision_is_refused(
    world: World, tmp_path: Path, says: str, does: str
) -> None:
    spec = write_step(tmp_path / "bundle", precision=does)
    _say(spec, says)
    with pytest.raises(
        BackendError, match=rf"says that it computes in {says}, its layers say .*{does}"
    ):
        load(world, spec)
    assert not world.trt.built


def _say(spec: GraphSpec, precision: str) -> None:
    model = onnx.load(spec.path, load_external_data=False)
    helper.set_model_props(model, {"gas_rt.precision": precision})
    onnx.save(model, spec.path)


def test_quantised_layers_count_as_int8(world: World, tmp_path: Path) -> None:
    spec = write_step(tmp_path / "bundle")
    _say(spec, "int8")
    _quantise(spec)
    assert load(world, spec).report.precision == "int8"


def _quantise(spec: GraphSpec) -> None:
    """Quantise x, and back, before the convolution."""
    model = onnx.load(spec.path, load_external_data=False)
    scales = [("scale", np.float32(0.05)), ("zero", np.int8(0))]
    model.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in scales)
    model.graph.node[0].input[0] = "x_back"
    quantised = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["x_int"]),
        helper.make_node("DequantizeLinear", ["x_int", "scale", "zero"], ["x_back"]),
    ]
    nodes = [*quantised, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, spec.path)


# ---- what is opened -----------------------------------------------------------------------------


def test_a_graph_that_is_not_what_its_bundle_says(world: World, step: GraphSpec) -> None:
    other = TensorSpec((1,), "float32")
    for wrong, message in (
        (replace(step, inputs={"x": step.inputs["x"]}), "has the inputs .*'gain', 'x'.*says .*'x'"),
        (replace(step, outputs={"y": other}), "has the outputs"),
        (replace(step, inputs={**step.inputs, "gain": other}), r"FLOAT of shape \[2\].* of \[1\]"),
        (
            replace(step, inputs={**step.inputs, "gain": TensorSpec((2,), "int32")}),
            r"FLOAT of shape \[2\], bundle.json says int32",
        ),
    ):
        with pytest.raises(BackendError, match=message):
            load(world, wrong)


@pytest.mark.parametrize("version", ["10.15.0.1", "9.3.0.1", "12.0.0.1"])
def test_other_versions_are_refused(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    with pytest.raises(BackendError, match=rf"found TensorRT {version}, this gas-rt knows 10\.16"):
        make_world(monkeypatch, version).engine()


@pytest.mark.parametrize("package", ["tensorrt", "cupy", "cupyx"])
def test_a_missing_package_is_named(
    monkeypatch: pytest.MonkeyPatch, world: World, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    name = package.removesuffix("x")
    with pytest.raises(BackendError, match=f"Python package {name} cannot be imported"):
        world.engine()


def test_a_machine_without_a_gpu(world: World) -> None:
    world.gpu.faults = {"no gpu"}
    with pytest.raises(BackendError, match="no GPU is visible"):
        world.engine()
    world.gpu.faults = {"no cuda"}
    with pytest.raises(BackendError, match="CUDA does not start: cudaErrorInsufficientDriver"):
        world.engine()


@pytest.mark.parametrize(
    "kind", ["Runtime", "Builder", "OnnxParser", "Refitter", "OnnxParserRefitter"]
)
def test_an_object_that_cannot_be_made(world: World, step: GraphSpec, kind: str) -> None:
    world.trt.faults = {kind}
    with pytest.raises(BackendError, match=rf"makes no {kind} \(pybind11.*returned nullptr\)"):
        load(world, step)


def test_the_gpu_is_the_one_that_was_current(world: World, step: GraphSpec) -> None:
    world.gpu.current.number = 1
    engine = world.engine()
    graph = engine.load(step)
    assert graph.report.device == "cuda, Other GPU"
    world.gpu.current.number = 0
    wanted = expected(step, some_inputs())
    found: list[dict[str, np.ndarray]] = []
    thread = threading.Thread(target=lambda: found.append(graph.run(some_inputs())))
    thread.start()
    thread.join()
    same(found[0], wanted)
    same(graph.run(some_inputs()), wanted)
    engine.close()


# ---- running ------------------------------------------------------------------------------------


@pytest.mark.parametrize("cuda_graphs", [True, False])
def test_runs_give_arrays_of_the_callers_own(
    world: World, step: GraphSpec, cuda_graphs: bool
) -> None:
    graph = load(world, step, cuda_graphs=cuda_graphs)
    kept = graph.run(some_inputs(1))
    for seed in (2, 3):
        same(graph.run(some_inputs(seed)), expected(step, some_inputs(seed)))
    same(kept, expected(step, some_inputs(1)))
    assert world.gpu.launches == (3 if cuda_graphs else 0)


def test_wrong_inputs_are_named(world: World, step: GraphSpec) -> None:
    graph = load(world, step)
    with pytest.raises(ShapeError, match="input 'gain' was not given"):
        graph.run({"x": some_inputs()["x"]})
    with pytest.raises(ShapeError, match=r"input 'gain': expected shape \[2\], got \[3\]"):
        graph.run({**some_inputs(), "gain": np.ones(3, np.float32)})


@pytest.mark.parametrize("cuda_graphs", [True, False])
def test_an_output_feeds_the_next_step_without_a_copy(
    world: World, step: GraphSpec, cuda_graphs: bool
) -> None:
    graph = load(world, step, cuda_graphs=cuda_graphs)
    run = graph.device_run({"x": "x_next"})
    inputs = some_inputs()
    for name, value in inputs.items():
        run.inputs[name].set(value, stream=run.stream)
    addresses = []
    wanted = dict(inputs)
    for _ in range(5):
        addresses.append((run.inputs["x"].data.ptr, id(run.inputs["gain"])))
        run.launch()
        wanted["x"] = expected(step, wanted)["x_next"]
        assert run.outputs["x_next"].data.ptr == run.inputs["x"].data.ptr  # of the next launch
    found = run.outputs["x_next"].get(stream=run.stream)
    np.testing.assert_allclose(found, wanted["x"], atol=1e-5)
    assert world.gpu.copies == ["in", "in", "out"]
    assert [a[0] for a in addresses] == [addresses[0][0], addresses[1][0]] * 2 + [addresses[0][0]]
    assert len({a[0] for a in addresses}) == 2
    assert len({a[1] for a in addresses}) == 1


def test_only_like_can_feed_like(world: World, step: GraphSpec) -> None:
    graph = load(world, step)
    for feedback in ({"gain": "x_next"}, {"x": "nothing"}, {"nothing": "x0"}):
        with pytest.raises(InputError, match="cannot feed input"):
            graph.device_run(feedback)


def test_runs_of_one_graph_do_not_meet(world: World, step: GraphSpec) -> None:
    graph = load(world, step)
    run = graph.device_run()
    first, second = some_inputs(1), some_inputs(2)
    for name, value in first.items():
        run.inputs[name].set(value, stream=run.stream)
    run.launch()
    same(graph.run(second), expected(step, second))
    found = {name: value.get(stream=run.stream) for name, value in run.outputs.items()}
    same(found, expected(step, first))


def test_graphs_share_one_arena_that_may_move(world: World, tmp_path: Path) -> None:
    small, large = (
        write_step(tmp_path / "bundle", name=name, nodes=n) for name, n in (("a", 1), ("b", 5))
    )
    engine = world.engine()
    first = engine.load(small)
    same(first.run(some_inputs()), expected(small, some_inputs()))
    second = engine.load(large)  # needs more: the block moves, what was recorded is recorded anew
    gc.collect()
    same(first.run(some_inputs(1)), expected(small, some_inputs(1)))
    same(second.run(some_inputs(1)), expected(large, some_inputs(1)))
    third = engine.load(write_step(tmp_path / "bundle", name="c"))  # needs less: it stays
    same(third.run(some_inputs(2)), expected(small, some_inputs(2)))
    assert len(world.gpu.allocated) == 2
    assert world.gpu.allocated[0] < world.gpu.allocated[1]


@pytest.mark.parametrize("fault", ["capture", "execute while recording"])
def test_a_graph_that_cannot_be_recorded_runs_without(
    world: World, step: GraphSpec, fault: str
) -> None:
    world.gpu.faults, world.trt.faults = {fault}, {fault}
    graph = load(world, step)
    with pytest.warns(GasRtWarning, match="step: cannot be recorded as a CUDA graph"):
        same(graph.run(some_inputs()), expected(step, some_inputs()))
    same(graph.run(some_inputs(1)), expected(step, some_inputs(1)))
    assert "runs without" in graph.report.notes[0]
    assert world.gpu.launches == 0
    strict = load(world, step, strict=True)
    with pytest.raises(BackendError, match="Refused, since 'strict' allows no fallback"):
        strict.run(some_inputs())


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("set_tensor_address", "TensorRT refuses the address of 'x'"),
        ("execute_async_v3", "TensorRT cannot run"),
        ("copy", "CUDA failed: cudaErrorInvalidValue"),
        ("sync", "CUDA failed: cudaErrorLaunchFailure"),
    ],
)
def test_every_step_of_a_run_may_fail(
    world: World, step: GraphSpec, fault: str, message: str
) -> None:
    graph = load(world, step)
    world.trt.faults = world.gpu.faults = {fault}
    with pytest.raises(BackendError, match=f"graph step: {message}"):
        graph.run(some_inputs())
    world.trt.faults, world.gpu.faults = set(), set()
    same(graph.run(some_inputs(1)), expected(step, some_inputs(1)))


def test_a_full_gpu_is_named(world: World, step: GraphSpec) -> None:
    engine = world.engine()
    world.gpu.faults = {"memory"}
    with pytest.raises(BackendError, match="graph step: the GPU's memory is full"):
        engine.load(step)


def test_closing_frees_the_gpu(world: World, step: GraphSpec) -> None:
    engine = world.engine()
    graph = engine.load(step)
    graph.run(some_inputs())
    assert world.gpu.memory
    engine.close()
    engine.close()
    with pytest.raises(BackendError, match="graph step: the engine is closed"):
        graph.run(some_inputs())
    with pytest.raises(BackendError, match="graph step: the engine is closed"):
        engine.load(step)
    gc.collect()
    assert not world.gpu.memory


def test_threads_take_turns(world: World, tmp_path: Path) -> None:
    engine = world.engine()
    specs = [write_step(tmp_path / "bundle", name=name) for name in ("a", "b")]
    graphs = [engine.load(spec) for spec in specs]
    bad: list[str] = []

    def work(index: int) -> None:
        for seed in range(10):
            found = graphs[index].run(some_inputs(seed))
            if not np.allclose(found["x0"], wanted[seed]["x0"], atol=1e-5):
                bad.append(f"{index} {seed}")

    wanted = [expected(specs[0], some_inputs(seed)) for seed in range(10)]
    threads = [threading.Thread(target=work, args=(k % 2,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not bad
    assert wanted[0]["x0"].shape == SHAPE
