"""The authors' layout to a bundle: every tensor mapped or listed, every graph as PyTorch."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from safetensors.numpy import load_file, save_file

from export import convert_gas
from export.__main__ import main
from export.convert_gas import convert
from export.lint import lint, operators
from export.onnx_files import INLINE_ELEMENTS
from export.release import open_files
from export.release_graphs import Geometry
from gas_rt.engine import open_bundle
from gas_rt.errors import FileError
from tests.export.release_files import UNET, write_release
from tests.export.tiny_models import BODY, FACTS, POINTS, RANGES, tiny_nerf

GEOMETRY = Geometry(
    side_px=64, frames=3, overlap=1, decoder_frames=2, decoder_overlap=1, steps=2
)  # twice stage 1's photo
GRAPHS = {
    "nerf_encoder",
    "nerf_field",
    "image_encoder",
    "vae_encoder",
    "conditioner",
    "vae_decoder",
    "denoiser_3",
    "denoiser_nocfg_3",
}


@pytest.fixture(scope="module")
def release(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("release")
    write_release(folder)
    return folder


@pytest.fixture
def files(release, tmp_path) -> Path:
    """A copy of one's own."""
    return Path(shutil.copytree(release, tmp_path / "files"))


@pytest.fixture(scope="module", autouse=True)
def _tiny_stage1():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            convert_gas, "open_stage1", lambda path, mesh: (tiny_nerf(), {"camera_ranges": RANGES})
        )
        patch.setattr(convert_gas, "checkpoint_facts", lambda path, stage: FACTS)
        yield


def run(files: Path, out: Path, **changed) -> dict:
    arguments = {
        "stage1": Path("stage1.pt"),
        "body": BODY,
        "out": out,
        "geometry": GEOMETRY,
        "precision": "fp32",
        "points": POINTS,
        "runtimes": ("onnxruntime",),
    }
    return convert(files / "svd", files / "gas", **arguments | changed)


@pytest.fixture(scope="module")
def bundle(release, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("bundles") / "gas-svd"
    run(release, out)
    return out


def graph_of(bundle: Path, name: str) -> onnx.ModelProto:
    return onnx.load(bundle / f"{name}.onnx", load_external_data=False)


def test_the_bundle_opens_and_says_what_it_is(bundle):
    opened = open_bundle(bundle)
    assert set(opened.graphs) == GRAPHS
    assert opened.policies == ("field", "parity")
    diffusion = opened.config.diffusion
    assert diffusion.latent_shape == (4, 8, 8)
    assert (diffusion.latent_scale, diffusion.residual_std) == (0.18215, None)
    assert (diffusion.decoder_frames, diffusion.decoder_overlap) == (2, 1)
    schedule = diffusion.schedule("parity", steps=2)
    np.testing.assert_allclose(schedule.sigmas, (700, 0.002, 0), rtol=1e-6)
    assert opened.config.photo_side_px == 64
    assert opened.graph("vae_decoder").inputs["latents"].shape == (2, 4, 8, 8)
    assert "non-commercial" in opened.manifest["license"]
    assert "don't pass it on" in (bundle / "MODEL_CARD.md").read_text()


def test_every_graph_was_compared_with_pytorch(bundle):
    provenance = json.loads((bundle / "bundle.json").read_text())["provenance"]
    compared = {name.partition("/")[0] for name in provenance["parity"]}
    assert compared == GRAPHS
    assert max(provenance["parity"].values()) <= 1e-4
    assert set(provenance["release"]) == {
        "diffusion.unet",
        "diffusion.pose_net",
        "diffusion.nerf_net",
        "autoencoder.vae",
        "image_encoder",
    }


def test_graphs_are_static_and_read_by_every_runtime(bundle):
    for name in GRAPHS:
        graph = graph_of(bundle, name)
        assert lint(graph) == []
        assert not {"Shape", "ConstantOfShape", "If", "Range"} & set(operators(graph))


def test_every_weight_is_stored_once_in_half_precision(bundle, release):
    sources = open_files(release / "svd", release / "gas").sources
    stored = load_file(bundle / "weights.safetensors")
    ours = {
        k: v
        for k, v in stored.items()
        if k.startswith(("diffusion.", "autoencoder.", "image_encoder.vi"))
    }
    for name, value in ours.items():
        source = sources[name.removesuffix(".T")].read().half().numpy()
        assert value.dtype == np.float16
        np.testing.assert_array_equal(value, source.T if name.endswith(".T") else source)
    unused = (".attn2.to_q.", ".attn2.to_k.", ".norm2.")  # one token: attention is its value
    absent = {
        name
        for name, source in sources.items()
        if np.prod(source.shape) >= INLINE_ELEMENTS and not {name, f"{name}.T"} & ours.keys()
    }
    assert absent == {
        name
        for name in sources
        if "transformer_blocks" in name and any(part in name for part in unused)
    }
    both = [name for name in ours if f"{name}.T" in ours]
    assert both == []


def test_half_precision_computes_in_it_and_scales_in_full(release):
    models = convert_gas.in_precision(open_files(release / "svd", release / "gas").models, "fp16")
    case = convert_gas.release_cases(models, GEOMETRY)["denoiser_nocfg_3"]
    graph = convert_gas.trace(case, convert_gas._names(models))
    inferred = onnx.shape_inference.infer_shapes(graph, check_type=True, strict_mode=True)
    types = {v.name: v.type.tensor_type.elem_type for v in inferred.graph.value_info}
    half = onnx.TensorProto.FLOAT16
    by_kind = {
        kind: {types.get(node.output[0]) for node in graph.graph.node if node.op_type == kind}
        for kind in ("Conv", "MatMul", "Softmax", "LayerNormalization", "Log", "Sqrt")
    }
    assert all(by_kind[kind] == {half} for kind in ("Conv", "MatMul", "Softmax"))
    assert by_kind["Log"] == by_kind["Sqrt"] == {onnx.TensorProto.FLOAT}
    assert {o.type.tensor_type.elem_type for o in graph.graph.output} == {onnx.TensorProto.FLOAT}


def test_tensors_that_do_not_fit_are_listed_in_one_error(files, tmp_path):
    state = torch.load(files / "gas" / "unet.pth", weights_only=True)
    del state["conv_in.bias"]
    state["class_embedding.linear_1.weight"] = torch.zeros(7, 7)
    state["ema.decay"] = torch.zeros(1)
    torch.save(state, files / "gas" / "unet.pth")
    path = files / "svd" / "vae" / "diffusion_pytorch_model.safetensors"
    vae = load_file(path)
    del vae["decoder.time_conv_out.weight"]
    save_file(vae, path)
    with pytest.raises(FileError) as caught:
        run(files, tmp_path / "gas-svd")
    told = str(caught.value)
    for part in (
        "2 missing: vae/diffusion_pytorch_model.safetensors decoder.time_conv_out.weight, "
        "gas/unet.pth conv_in.bias",
        "1 unexpected: gas/unet.pth ema.decay",
        "1 of another shape: gas/unet.pth class_embedding.linear_1.weight (is [7, 7], not "
        f"[128, {2 * UNET.id_channels}])",
        "Nothing was written",
    ):
        assert part in told
    assert not (tmp_path / "gas-svd").exists()


class Command:
    def __reduce__(self):
        return os.system, ("touch executed",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: torch.save({"conv_in.weight": Command()}, p), "cannot be read as plain tensors"),
        (lambda p: torch.save({"state_dict": {}}, p), "is no plain state dict: state_dict"),
        (lambda p: torch.save({"a": torch.zeros(2, dtype=torch.int64)}, p), "is no tensor of"),
        (lambda p: p.write_bytes(b"PK\x03\x04" + b"x" * 100), "cannot be read as plain tensors"),
        (lambda p: p.write_bytes(p.read_bytes()[:5000]), "cannot be read as plain tensors"),
        (lambda p: p.unlink(), r"pose_net.pth: no such file"),
    ],
)
def test_files_that_are_none_are_refused(change, message, files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    change(files / "gas" / "pose_net.pth")
    with pytest.raises(FileError, match=message):
        open_files(files / "svd", files / "gas")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("scheduler/scheduler_config.json", {"prediction_type": "epsilon"}, "'epsilon'"),
        ("unet/config.json", {"layers_per_block": [1, 2]}, "expected one number"),
        ("unet/config.json", {"in_channels": 9}, "in_channels is 9, expected 8"),
        ("vae/config.json", {"latent_channels": 16}, "latent_channels is 16, the UNet takes 4"),
        ("image_encoder/config.json", {"projection_dim": 8}, "projection_dim is 8"),
        (
            "feature_extractor/preprocessor_config.json",
            {"image_mean": [0.5, 0.5, 0.5]},
            "image_mean",
        ),
    ],
)
def test_another_models_configuration_is_refused(file, change, message, files):
    path = files / "svd" / file
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(FileError, match=message):
        open_files(files / "svd", files / "gas")


@pytest.fixture
def _one_graph(monkeypatch):
    """Only the conditioner is traced: what comes after it is the same for all."""
    cases = convert_gas.release_cases
    monkeypatch.setattr(
        convert_gas,
        "release_cases",
        lambda models, geometry: {"conditioner": cases(models, geometry)["conditioner"]},
    )


@pytest.mark.usefixtures("_one_graph")
@pytest.mark.parametrize(("value", "told"), [(1e6, r"holds 1e\+06"), (float("nan"), "holds nan")])
def test_weights_that_fp16_cannot_store_are_named_and_nothing_is_installed(
    value, told, files, tmp_path
):
    state = torch.load(files / "gas" / "nerf_net.pth", weights_only=True)
    state["conv_layers.4.weight"][0, 0, 0, 0] = value
    torch.save(state, files / "gas" / "nerf_net.pth")
    out = tmp_path / "bundles" / "gas-svd"
    with pytest.raises(ValueError, match=rf"diffusion\.nerf_net\.conv_layers\.4\.weight: {told}"):
        run(files, out)
    assert list(out.parent.iterdir()) == []


@pytest.mark.usefixtures("_one_graph")
def test_a_graph_that_differs_is_not_installed(release, tmp_path, monkeypatch):
    monkeypatch.setattr(convert_gas, "TOLERANCES", {"fp32": 1e-12})
    out = tmp_path / "bundles" / "gas-svd"
    with pytest.raises(ValueError, match=r"conditioner/onnxruntime by .*Nothing was installed"):
        run(release, out)
    assert list(out.parent.iterdir()) == []


def test_impossible_geometries_are_refused(release, tmp_path):
    with pytest.raises(ValueError, match="windows of 3 frames cannot share 3"):
        Geometry(frames=3, overlap=3)
    with pytest.raises(ValueError, match="stage 1 reads photos of 32 px"):
        run(release, tmp_path / "x", geometry=Geometry(side_px=40))


def test_the_command_names_a_folder_that_is_no_checkout(tmp_path, capsys):
    assert main(["convert-gas", str(tmp_path), str(tmp_path), "-o", str(tmp_path / "out")]) == 1
    assert "give a diffusers checkout of SVD-XT 1.1" in capsys.readouterr().err
