"""Bundles: found by name or folder, verified file by file, confined to their folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from gas_rt.engine import open_bundle
from gas_rt.engine.onnx_external import external_data
from gas_rt.errors import BundleError
from tests.toy_bundle import manifest_of, rewrite, write_bundle


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "toy", body=b"a body", vertices=10)


def test_a_good_bundle_opens(folder: Path) -> None:
    bundle = open_bundle(folder)
    assert bundle.label == "toy 0.0.1"
    assert bundle.policies == ("field",)
    assert bundle.config.field_points == bundle.graph("nerf_field").inputs["x_can"].shape[0]
    assert bundle.config.box_lo.dtype == np.float32
    assert bundle.path("body.npz").read_bytes() == b"a body"


@pytest.mark.parametrize("file", ["nerf_encoder.onnx", "nerf_field.onnx", "body.npz"])
def test_a_changed_byte_is_named(folder: Path, file: str) -> None:
    content = bytearray((folder / file).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / file).write_bytes(content)
    with pytest.raises(BundleError, match=rf"{file} was changed .*reinstall"):
        open_bundle(folder)


def test_a_truncated_file_is_named(folder: Path) -> None:
    (folder / "nerf_field.onnx").write_bytes((folder / "nerf_field.onnx").read_bytes()[:-1])
    with pytest.raises(BundleError, match=r"nerf_field\.onnx has \d+ bytes, expected \d+"):
        open_bundle(folder)


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "body.npz").unlink()
    with pytest.raises(BundleError, match=r"body\.npz is missing"):
        open_bundle(folder)


def test_a_symbolic_link_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "body.npz").rename(tmp_path / "elsewhere")
    (folder / "body.npz").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match=r"body\.npz is a symbolic link"):
        open_bundle(folder)


def test_a_linked_subfolder_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "photo.png").write_bytes(b"x")
    (folder / "demo").symlink_to(tmp_path / "outside")
    manifest = manifest_of(folder)
    manifest["files"]["demo/photo.png"] = {"sha256": "0" * 64, "bytes": 1}
    (folder / "bundle.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="symbolic link"):
        open_bundle(folder)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../b", "a\\b", "", "./x"])
def test_a_file_name_that_leaves_the_folder_is_refused(folder: Path, name: str) -> None:
    manifest = manifest_of(folder)
    manifest["files"][name] = {"sha256": "0" * 64, "bytes": 1}
    (folder / "bundle.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="leaves the bundle's folder"):
        open_bundle(folder)


def damage(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def apply(manifest: dict[str, Any]) -> None:
        *parents, last = key.split(".")
        target = manifest
        for parent in parents:
            target = target[parent]
        if value is None:
            del target[last]
        else:
            target[last] = value

    return apply


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (damage("schema_version", 2), "schema_version 2, this gas-rt reads 1; upgrade"),
        (damage("name", "../x"), "bundle name"),
        (damage("name", None), "lacks 'name'"),
        (damage("version", 3), "'version': expected a string"),
        (damage("body", "other.npz"), "not among its files"),
        (damage("graphs.nerf_field.file", "other.onnx"), "not among the bundle's files"),
        (damage("graphs.nerf_field.inputs", 4), "expected an object"),
        (damage("graphs.nerf_encoder.outputs.planes", None), "not planes; export it again"),
        (
            damage("graphs.nerf_field.inputs.uv", {"shape": [-1, 2], "dtype": "float32"}),
            "expected a static shape",
        ),
        (
            damage("graphs.nerf_field.inputs.uv", {"shape": [4, 2], "dtype": "object"}),
            "dtype 'object'",
        ),
        (damage("config.shell_radius_m", "wide"), "expected a number"),
        (damage("config.shell_radius_m", 1e9), "expected 0.001..0.25"),
        (damage("config.shell_radius_max_m", 0.01), "expected 0.0[68]..0.25"),
        (damage("config.shell_radius_max_m", 0.3), "expected 0.0[68]..0.25"),
        (damage("config.canonical_box_m.lo", [0, 0]), "expected 3 numbers"),
        (damage("config.canonical_box_m.lo", [9, 0, 0]), "is not below"),
        (damage("config.march.samples", True), "expected an integer"),
        (damage("policies", "field"), "expected names"),
        (damage("config", None), "lacks 'config'"),
        (damage("config", [1]), "'config': expected an object"),
        (damage("files", None), "lacks 'files'"),
    ],
)
def test_a_bad_description_is_named(
    folder: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    manifest = manifest_of(folder)
    change(manifest)
    (folder / "bundle.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=message):
        open_bundle(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, '{"schema_version": NaN}'])
def test_a_description_that_is_not_one(folder: Path, text: str) -> None:
    (folder / "bundle.json").write_text(text)
    with pytest.raises(BundleError):
        open_bundle(folder)


def test_an_unknown_name_lists_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="neither a shipped bundle nor a folder"):
        open_bundle("no-such-bundle")
    with pytest.raises(BundleError, match="neither a shipped bundle nor a folder"):
        open_bundle(tmp_path)


def external_model(location: str, *, offset: int = 0, length: int = 16) -> onnx.ModelProto:
    """A graph whose one weight lies in another file, inside a subgraph of an If node."""
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4])
    weight.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        entry = weight.external_data.add()
        entry.key, entry.value = key, str(value)
    out = helper.make_tensor_value_info("w", TensorProto.FLOAT, [4])
    branch = helper.make_graph([], "branch", [], [out], initializer=[weight])
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    graph = helper.make_graph(
        [node],
        "main",
        [helper.make_tensor_value_info("c", TensorProto.BOOL, [])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])],
    )
    return helper.make_model(graph)


def with_external(folder: Path, model: onnx.ModelProto) -> Path:
    (folder / "weights.bin").write_bytes(b"\0" * 64)
    (folder / "nerf_field.onnx").write_bytes(model.SerializeToString())
    rewrite(folder, manifest_of(folder))
    return folder


def test_external_data_inside_the_bundle_is_accepted(folder: Path) -> None:
    open_bundle(with_external(folder, external_model("weights.bin", offset=48)))


@pytest.mark.parametrize(
    ("location", "offset", "message"),
    [
        ("../weights.bin", 0, "leaves the bundle's folder"),
        ("/etc/passwd", 0, "leaves the bundle's folder"),
        ("", 0, "leaves the bundle's folder"),
        ("other.bin", 0, "doesn't list"),
        ("weights.bin", 49, "ends at byte 65"),
        ("weights.bin", 1 << 63, "external offset or length"),
        ("weights.bin", -1, "external offset or length"),
    ],
)
def test_external_data_outside_is_refused(
    folder: Path, location: str, offset: int, message: str
) -> None:
    with pytest.raises(BundleError, match=message):
        open_bundle(with_external(folder, external_model(location, offset=offset)))


def test_a_location_with_a_meaning_of_its_own_is_refused(folder: Path) -> None:
    """The runtimes read a pointer into their own memory from this one."""
    special = folder / "*" / "_ORT_MEM_ADDR_" / "*"
    special.parent.mkdir(parents=True)
    special.write_bytes(bytes(64))
    with_external(folder, external_model("*/_ORT_MEM_ADDR_/*"))
    with pytest.raises(BundleError, match="other characters"):
        open_bundle(folder)


@pytest.mark.parametrize("where", ["function", "training"])
def test_external_data_in_odd_places_is_found(folder: Path, where: str) -> None:
    hidden = external_model("/etc/passwd").graph.node[0]
    model = helper.make_model(helper.make_graph([], "main", [], []))
    if where == "function":
        model.functions.add().attribute_proto.add().CopyFrom(hidden.attribute[0])
    else:
        model.training_info.add().algorithm.node.add().CopyFrom(hidden)
    with pytest.raises(BundleError, match="leaves the bundle's folder"):
        open_bundle(with_external(folder, model))


def test_a_field_key_that_parsers_would_cut_is_refused() -> None:
    """Key 2^32 + 0x3a reads as field 7 of a model, its graph, where 32 bits are kept."""
    graph = external_model("/etc/passwd").graph.SerializeToString()
    assert len(graph) < 1 << 14
    length = bytes([len(graph) & 0x7F | 0x80, len(graph) >> 7])
    with pytest.raises(BundleError, match="field key"):
        external_data(b"\xba\x80\x80\x80\x10" + length + graph)


def test_a_name_means_the_shipped_bundle(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of that name in the working directory does not replace it."""
    shutil.copytree(folder, tmp_path / "here" / "toy")
    monkeypatch.setattr("gas_rt.engine.bundle.HOMES", (tmp_path,))
    monkeypatch.chdir(tmp_path / "here")
    assert open_bundle("toy").folder == folder
    assert open_bundle("./toy").folder == tmp_path / "here" / "toy"


@pytest.mark.parametrize("cut", [1, 7, 50])
def test_a_truncated_graph_with_a_matching_hash_is_refused(folder: Path, cut: int) -> None:
    content = (folder / "nerf_field.onnx").read_bytes()[:-cut]
    (folder / "nerf_field.onnx").write_bytes(content)
    rewrite(folder, manifest_of(folder))
    with pytest.raises(BundleError, match=r"truncated|damaged"):
        open_bundle(folder)
