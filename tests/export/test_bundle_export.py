"""A bundle out of models: graphs agree with PyTorch, weights lie there once, nothing half done."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from safetensors.numpy import load_file

from export import bundle as exporting
from export.bundle_json import file_entry
from export.diffusion import rounded_to_half
from export.lint import lint, operators
from export.parity import TOLERANCE
from gas_rt.engine import open_bundle, open_engine
from reference.autoencoder import Autoencoder
from reference.autoencoder.training import PRESETS as AUTOENCODERS
from reference.diffusion.config import PRESETS as DENOISERS
from tests.export.tiny_models import BODY, FACTS, POINTS, RANGES, export, tiny_nerf, tiny_stage2

STAGE1_GRAPHS = {"nerf_encoder", "nerf_field"}
STAGE2_GRAPHS = {
    "image_encoder",
    "vae_encoder",
    "conditioner",
    "vae_decoder",
    "denoiser",
    "denoiser_nocfg",
    "denoiser_3",
    "denoiser_nocfg_3",
}


@pytest.fixture
def field_only(monkeypatch):
    """Exports that take a second: the gate has been tried where `bundle` was made."""
    monkeypatch.setattr(exporting, "check_graphs", lambda folder, cases: {"gate": 0.0})


def graph_of(bundle: Path, name: str) -> onnx.ModelProto:
    return onnx.load(bundle / f"{name}.onnx", load_external_data=False)


def test_the_bundle_describes_itself_and_opens(bundle):
    manifest = json.loads((bundle / "bundle.json").read_text())
    listed = {p.name for p in bundle.iterdir()} - {"bundle.json"}
    assert set(manifest["files"]) == listed
    for name, entry in manifest["files"].items():
        data = (bundle / name).read_bytes()
        assert entry == {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    assert manifest["graphs"]["nerf_field"]["inputs"]["vertex_id"] == {
        "shape": [POINTS],
        "dtype": "int32",
    }
    opened = open_bundle(bundle)
    assert set(opened.graphs) == STAGE1_GRAPHS | STAGE2_GRAPHS
    assert opened.policies == ("field", "diagonal", "sequential", "parity")
    assert opened.config.field_points == POINTS


def test_the_configuration_is_the_checkpoints(bundle):
    config = json.loads((bundle / "bundle.json").read_text())["config"]["diffusion"]
    assert config["latent_shape"] == [4, 4, 4]
    assert (config["embedding_channels"], config["condition_channels"]) == (16, 32)
    assert config["residual_std"] == DENOISERS["tiny"].residual_std
    assert config["profiles"]["live"]["frames"] == 2
    assert config["profiles"]["parity"] == {
        "frames": 3,
        "overlap": 1,
        "guided": "denoiser_3",
        "unguided": "denoiser_nocfg_3",
    }
    for policy in ("diagonal", "sequential"):
        assert config["policies"][policy]["sigmas"] == {"1": [10.0]}
    lists = config["policies"]["parity"]["sigmas"]
    assert [int(steps) for steps in lists] == [len(levels) for levels in lists.values()]
    assert all(levels == sorted(levels, reverse=True) for levels in lists.values())
    assert config["default"] == {"policy": "diagonal", "steps": 1}
    assert config["guidance"] == {"pose": 2.0, "view_behind": 2.0}


def test_every_output_was_compared_with_pytorch(bundle):
    parity = json.loads((bundle / "bundle.json").read_text())["provenance"]["parity"]
    runtimes = ("onnxruntime", "openvino")
    expected = {f"{g}/{r}" for g in STAGE1_GRAPHS | STAGE2_GRAPHS for r in runtimes}
    assert set(parity) == expected
    assert max(parity.values()) <= TOLERANCE


def test_graphs_run_in_the_runtimes_engine(bundle):
    """The gate's inputs are drawn by the export; these are another's."""
    stage = rounded_to_half(tiny_stage2())
    opened = open_bundle(bundle)
    engine = open_engine("openvino", threads=1, precision="fp32")
    rng = np.random.default_rng(2)
    render, normals = rng.random((2, 1, 3, 32, 32), np.float32)
    found = engine.load(opened.graph("conditioner")).run({"render": render, "normals": normals})
    latents = stage.autoencoder.encode(torch.from_numpy(render))
    condition = stage.denoiser.condition(latents[None], torch.from_numpy(normals)[None])[0]
    np.testing.assert_allclose(found["condition"], condition.numpy(), atol=1e-4)
    np.testing.assert_allclose(found["base"], latents.numpy(), atol=1e-4)
    z = rng.standard_normal((1, 4, 4, 4), np.float32)
    given = {"latents": z, "base": found["base"], "render": render}
    picture = engine.load(opened.graph("vae_decoder")).run(given)["picture"]
    whole = stage.picture_decoder(torch.from_numpy(z), latents, torch.from_numpy(render))
    np.testing.assert_allclose(picture, whole.numpy(), atol=1e-4)


def test_weights_lie_in_the_safetensors_file_once(bundle):
    stored = load_file(bundle / "weights.safetensors")
    size = (bundle / "weights.safetensors").stat().st_size
    owners: dict[int, int] = {}
    for name in STAGE1_GRAPHS | STAGE2_GRAPHS:
        outside = [t for t in graph_of(bundle, name).graph.initializer if t.external_data]
        assert outside
        for tensor in outside:
            entry = {e.key: e.value for e in tensor.external_data}
            assert entry["location"] == "weights.safetensors"
            assert int(entry["offset"]) + int(entry["length"]) <= size
            assert owners.setdefault(int(entry["offset"]), int(entry["length"])) == int(
                entry["length"]
            )
    assert len(owners) == len(stored)
    values = [value.tobytes() for value in stored.values()]
    assert len(set(values)) == len(values)
    nerf = tiny_nerf()
    expected = nerf.image_encoder.stem.weight.half().numpy()
    np.testing.assert_array_equal(stored["image_encoder.stem.weight"], expected)
    for name, weight in nerf.named_parameters():
        for key in (name, f"{name}.T"):
            assert key not in stored or stored[key].dtype == np.float16, weight.shape
    table = nerf.field.table.numpy()  # of constants, no digit is lost
    assert any(v.dtype == np.float32 and np.isin(table, v).all() for v in stored.values())


def test_stage_2_lies_there_in_half_precision_without_dead_weights(bundle):
    stored = load_file(bundle / "weights.safetensors")
    stage = tiny_stage2()
    models = stage.modules
    ours = {k: v for k, v in stored.items() if k.split(".")[0] in models}
    for name, value in ours.items():
        assert value.dtype == np.float16
        room, _, weight = name.removesuffix(".T").partition(".")
        wanted = models[room].state_dict()[weight].half().numpy()
        np.testing.assert_array_equal(value.ravel(), (wanted.T if ".T" in name else wanted).ravel())
    unused = (".attn2.to_q.", ".attn2.to_k.", ".norm2.")  # one token: attention is its value
    for room, model in models.items():
        for weight, value in model.state_dict().items():
            name = f"{room}.{weight}"
            dead = "transformer_blocks" in name and any(part in name for part in unused)
            there = name in ours or f"{name}.T" in ours
            assert there == (not dead and value.numel() >= 16), name
    for name in STAGE2_GRAPHS:
        for tensor in graph_of(bundle, name).graph.initializer:
            big = int(np.prod(tensor.dims)) >= 16
            constant = tensor.name.startswith("constant_")  # the unconditional branch's zeros
            assert constant or not big or tensor.data_type != onnx.TensorProto.FLOAT, tensor.name


def test_graphs_are_static_and_use_only_known_operators(bundle):
    """No scatter and no 5-D sampling: every runtime's ONNX parser reads these graphs."""
    for name in STAGE1_GRAPHS | STAGE2_GRAPHS:
        graph = graph_of(bundle, name)
        assert lint(graph) == []
        assert [entry.version for entry in graph.opset_import] == [18]
    used = operators(graph_of(bundle, "denoiser"))
    assert "Conv3d" in used  # along frames; TensorRT has it
    assert not {"Shape", "ConstantOfShape", "Constant"} & set(used)


def test_lint_finds_what_runtimes_cannot_read():
    value = onnx.helper.make_tensor_value_info
    nodes = [
        onnx.helper.make_node("GridSample", ["x", "grid"], ["y"], name="sample"),
        onnx.helper.make_node("NonZero", ["y"], ["z"], name="find"),
        onnx.helper.make_node("Hardmax", ["w"], ["h"], name="unknown"),
    ]
    outside = onnx.TensorProto(name="w", dims=[4], data_type=1)
    outside.data_location = onnx.TensorProto.EXTERNAL
    entry = outside.external_data.add()
    entry.key, entry.value = "location", "../weights.bin"
    graph = onnx.helper.make_graph(
        nodes,
        "bad",
        [value("x", 1, [1, 2, 3, 4, 5]), value("grid", 1, [1, 3, 4, 5, 3])],
        [value("z", 7, [5, "count"])],
        initializer=[outside],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    found = "; ".join(lint(model))
    for part in (
        "opset 17",
        "operator NonZero",
        "operator Hardmax",
        "GridSample of 5 axes",
        "not static",
        "'w' lies in '../weights.bin'",
    ):
        assert part in found


def test_the_same_models_give_the_same_bytes_and_keep_other_files(bundle, tmp_path):
    again = tmp_path / "gas-tiny"
    (again / "motions").mkdir(parents=True)
    (again / "motions" / "walk.npz").write_bytes(b"kept")
    (again / "stale.onnx").write_bytes(b"of an earlier export")
    manifest = export(again, tiny_stage2())
    assert not (again / "stale.onnx").exists()
    assert manifest["files"].pop("motions/walk.npz") == file_entry(again / "motions" / "walk.npz")
    assert manifest == json.loads((bundle / "bundle.json").read_text())
    for name in manifest["files"]:
        assert (again / name).read_bytes() == (bundle / name).read_bytes()
    assert [p.name for p in tmp_path.iterdir()] == ["gas-tiny"]  # nothing temporary is left


def test_the_gate_refuses_a_graph_that_differs_and_installs_nothing(bundle, monkeypatch, tmp_path):
    shutil.copytree(bundle, tmp_path / "gas-tiny")

    def damaged(graphs, folder, *, weights):
        move_weights(graphs, folder, weights=weights)
        data = bytearray((folder / weights).read_bytes())
        data[-4000:] = b"\x3c" * 4000
        (folder / weights).write_bytes(data)

    move_weights = exporting.move_weights
    monkeypatch.setattr(exporting, "move_weights", damaged)
    with pytest.raises(ValueError, match=r"differ from PyTorch.*Nothing was installed"):
        export(tmp_path / "gas-tiny")
    assert [p.name for p in tmp_path.iterdir()] == ["gas-tiny"]
    for path in bundle.iterdir():
        assert (tmp_path / "gas-tiny" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("name", "message"),
    [("enter.weight", r"weight field\.enter\.weight: holds nan"), ("plane_centre", "by inf in")],
)
def test_values_that_are_not_finite_are_found(tmp_path, name, message):
    nerf = tiny_nerf()
    nerf.field.state_dict()[name].view(-1)[0] = float("nan")
    with pytest.raises(ValueError, match=message):
        exporting.export_bundle(
            nerf,
            body_path=BODY,
            out=tmp_path / "gas-tiny",
            provenance={"stage1": FACTS},
            camera_ranges=RANGES,
            points=POINTS,
        )
    assert not (tmp_path / "gas-tiny").exists()


@pytest.mark.usefixtures("field_only")
def test_a_bundle_over_the_limit_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(exporting, "BYTES_MAX", 1_000_000)
    with pytest.raises(ValueError, match=r"at most 1,000,000 are allowed; the largest are weights"):
        export(tmp_path / "gas-tiny")
    assert not (tmp_path / "gas-tiny").exists()


@pytest.mark.usefixtures("field_only")
def test_a_bundle_without_stage_2_shows_the_field(bundle, tmp_path):
    """And one that had stage 2 loses its graphs."""
    shutil.copytree(bundle, tmp_path / "gas-tiny")
    export(tmp_path / "gas-tiny")
    opened = open_bundle(tmp_path / "gas-tiny")
    assert set(opened.graphs) == STAGE1_GRAPHS
    assert opened.policies == ("field",)
    assert not (tmp_path / "gas-tiny" / "denoiser.onnx").exists()


def test_the_card_tells_what_the_checkpoints_say(bundle):
    card = (bundle / "MODEL_CARD.md").read_text()
    for part in ("synthetic people only", "bring the authors' weights", "NOTICE", "lr 0.1"):
        assert part in card
    assert "| focal_over_side | 1 | 20 |" in card
    assert "| diagonal | 2 | 1: 10 |" in card


def test_weights_beyond_half_precision_are_named():
    stage = tiny_stage2()
    stage.denoiser.unet.conv_in.weight[0, 0, 0, 0] = 1e6
    with pytest.raises(ValueError, match=r"unet.conv_in.weight: holds 1e\+06"):
        rounded_to_half(stage)


def test_an_ablation_is_not_exported(tmp_path):
    stage = tiny_stage2(switcher=False)
    state = {"model_config": dataclasses.asdict(stage.denoiser.config), "step": 1, "train": {}}
    torch.save(state | {"mean": stage.denoiser.state_dict()}, tmp_path / "unet.pt")
    with pytest.raises(ValueError, match=r"unet\.pt: an ablation"):
        exporting.open_stage2(autoencoder=tmp_path / "none.pt", unet=tmp_path / "unet.pt")


def test_other_levels_are_as_many_as_were_trained(tmp_path):
    stage = tiny_stage2()
    unet = tmp_path / "unet.pt"
    windows = {"context": 1, "chunk": 1, "live_sigmas": [10.0, 1.0], "parity_frames": 3}
    state = {"model_config": dataclasses.asdict(stage.denoiser.config), "step": 1}
    state |= {"train": {"windows": windows}, "mean": stage.denoiser.state_dict()}
    torch.save(state, unet)
    autoencoder = tmp_path / "autoencoder.pt"
    config = dataclasses.asdict(stage.autoencoder.config)
    torch.save({"model_config": config, "mean": stage.autoencoder.state_dict()}, autoencoder)
    opened = exporting.open_stage2(autoencoder=autoencoder, unet=unet, sigmas=(20.0, 2.0))
    assert opened.live_sigmas == (20.0, 2.0)
    with pytest.raises(ValueError, match=r"3 levels, .* was trained in 2 steps"):
        exporting.open_stage2(autoencoder=autoencoder, unet=unet, sigmas=(20.0, 2.0, 1.0))


def test_models_of_different_latents_are_refused():
    stage = tiny_stage2()
    other = Autoencoder(dataclasses.replace(AUTOENCODERS["tiny"][0], latent_channels=8))
    with pytest.raises(ValueError, match="4 channels, this autoencoder makes 8"):
        dataclasses.replace(stage, autoencoder=other)


def test_the_released_parametrisation_has_no_base():
    """Its decoder takes latents alone."""
    stage = rounded_to_half(tiny_stage2(residual_std=None, latent_scale=0.5))
    cases = exporting.diffusion_cases(stage, side_px=32)
    assert list(cases["vae_decoder"].inputs) == ["latents"]
    assert cases["conditioner"].outputs == ("condition",)
    latents = cases["vae_decoder"].inputs["latents"]
    picture = cases["vae_decoder"].expected()["picture"]
    torch.testing.assert_close(picture, stage.autoencoder.decode(latents / 0.5).clamp(-1, 1))
