"""OpenVINO's compiled graphs through the plan store: the same numbers, without compiling again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino
import pytest

import gas_rt
from gas_rt import Avatar, Model
from gas_rt.core import BackendReport
from gas_rt.engine import Bundle, GraphSpec, PlanStore, open_bundle
from gas_rt.engine.openvino import OpenVinoEngine
from gas_rt.errors import BackendError, GasRtWarning
from tests.toy_person import ToyPerson

GRAPHS = ("nerf_encoder", "nerf_field", "conditioner", "vae_decoder")  # the quick ones


@pytest.fixture
def store(tmp_path: Path) -> PlanStore:
    return PlanStore.open(tmp_path / "plans")


@pytest.fixture(scope="module")
def bundle(diffusion_folder: Path) -> Bundle:
    return open_bundle(diffusion_folder)


def engine_with(store: PlanStore, *, threads: int = 1) -> OpenVinoEngine:
    return OpenVinoEngine(threads=threads, precision="fp32", requested="openvino", store=store)


def inputs_of(spec: GraphSpec) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    low, high = 0.1, 1.0  # noise levels are above 0; an index becomes 0
    return {n: rng.uniform(low, high, t.shape).astype(t.dtype) for n, t in spec.inputs.items()}


def never_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    def compile_model(*args: object) -> None:
        raise AssertionError("compiled again")

    monkeypatch.setattr(openvino.Core, "compile_model", compile_model)


def test_every_graph_gives_the_same_bits_from_the_store(
    bundle: Bundle, store: PlanStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    cold = engine_with(store)
    graphs = {name: bundle.graph(name) for name in GRAPHS}
    expected = {name: cold.load(spec).run(inputs_of(spec)) for name, spec in graphs.items()}
    assert {plan.outcome for plan in store.recent} == {"built"}
    never_compile(monkeypatch)
    warm = engine_with(PlanStore.open(store.folder))
    for name, spec in graphs.items():
        graph = warm.load(spec)
        assert graph.report == BackendReport("openvino", "openvino", "cpu", "fp32", plans="on")
        for key, array in graph.run(inputs_of(spec)).items():
            np.testing.assert_array_equal(array, expected[name][key], err_msg=f"{name}, {key}")


def test_another_budget_or_precision_is_another_plan(bundle: Bundle, store: PlanStore) -> None:
    spec = bundle.graph("vae_decoder")
    engine_with(store).load(spec)
    engine_with(store, threads=2).load(spec)
    assert store.recent[-1].outcome == "built"
    assert store.recent[-1].why == "the nearest one kept has other flags.INFERENCE_NUM_THREADS"
    assert len(store.entries()) == 2
    (field,) = {
        name
        for name in store.entries()[0].key
        if store.entries()[0].key[name] != store.entries()[1].key[name]
    }
    assert field == "flags.INFERENCE_NUM_THREADS"


def test_the_key_tells_this_machine_and_version(bundle: Bundle, store: PlanStore) -> None:
    machine = dict(engine_with(store).plan_key(bundle.graph("vae_decoder")).machine)
    assert machine["openvino"] == openvino.get_version()
    assert "FP32" in machine["capabilities"].split()
    assert set(machine) == {"os", "cpu", "isa", "openvino", "capabilities"}


def test_a_refused_plan_is_compiled_anew_and_said(bundle: Bundle, store: PlanStore) -> None:
    spec = bundle.graph("vae_decoder")
    engine = engine_with(store)
    expected = engine.load(spec).run(inputs_of(spec))
    (file,) = store.folder.glob("*.plan")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.warns(GasRtWarning, match=r"the plan was changed .*refused; compiled anew"):
        graph = engine.load(spec)
    for name, array in graph.run(inputs_of(spec)).items():
        np.testing.assert_array_equal(array, expected[name])
    assert all(plan.problem is None for plan in store.verify())
    engine.load(spec)  # without a warning
    assert store.recent[-1].outcome == "found"


def test_a_graph_that_does_not_compile_leaves_nothing(store: PlanStore, tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"")
    with pytest.raises(BackendError, match=r"cannot compile bad\.onnx"):
        engine_with(store).load(GraphSpec("x", tmp_path / "bad.onnx", {}, {}))
    assert store.entries() == []


def test_a_model_streams_the_same_frames_from_the_store(
    diffusion_folder: Path,
    diffusion_model: Model,
    diffusion_avatar: Avatar,
    person: ToyPerson,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    requests = person.requests(4)
    expected = [f.rgb.copy() for f in diffusion_model.stream(diffusion_avatar, requests)]
    for start in ("cold", "warm"):
        if start == "warm":
            never_compile(monkeypatch)
        with gas_rt.load(
            diffusion_folder,
            "openvino",
            threads=2,
            precision="fp32",
            plans=tmp_path / "plans",
        ) as model:
            frames = [f.rgb.copy() for f in model.stream(diffusion_avatar, requests)]
            assert model.backend.plans == "on"
        for frame, want in zip(frames, expected, strict=True):
            np.testing.assert_array_equal(frame, want)
