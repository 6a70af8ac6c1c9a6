"""An export that is only checked: what would differ is said, nothing is written."""

from __future__ import annotations

import json
import shutil

import numpy as np
import onnx
import pytest
from safetensors.numpy import load_file, save_file

from export import __main__ as commands
from export import bundle as exporting
from export.rebuild import differences, summary


@pytest.fixture
def other(bundle, tmp_path):
    """A copy of the bundle to change."""
    return shutil.copytree(bundle, tmp_path / "gas-tiny")


def test_the_same_bytes_differ_in_nothing(bundle, other):
    assert differences(bundle, other) == {}
    told = summary({}, folder=bundle, files=12)
    assert told.endswith("gas-tiny: all 12 files are rebuilt byte for byte")


def test_files_that_come_and_go(bundle, other):
    (other / "vae_encoder.onnx").unlink()
    (other / "notes.md").write_text("new")
    found = differences(bundle, other)
    assert found == {"notes.md": ["would be new"], "vae_encoder.onnx": ["would go"]}


def test_a_tensor_is_named_with_its_difference(bundle, other):
    path = other / "weights.safetensors"
    tensors = load_file(path)
    name = "image_encoder.stem.weight"
    changed = tensors[name].copy()
    changed.flat[:2] += 0.5
    save_file({**tensors, name: changed, "added": np.zeros(3)}, path, metadata={"format": "pt"})
    told = differences(bundle, other)["weights.safetensors"]
    assert "tensor added: only exported" in told
    where = next(line for line in told if name in line)
    assert f"2 of {changed.size} values differ, by 0.5 at most" in where


def test_a_node_and_its_attribute_are_named(bundle, other):
    path = other / "conditioner.onnx"
    model = onnx.load(path, load_external_data=False)
    node = next(n for n in model.graph.node if n.op_type == "Conv")
    strides = next(a for a in node.attribute if a.name == "strides")
    strides.ints[0] += 1
    model.graph.node.append(onnx.helper.make_node("Neg", ["render"], ["extra"], "added"))
    model.opset_import[0].version = 22
    onnx.save(model, path)
    told = differences(bundle, other)["conditioner.onnx"]
    assert "node Neg added: only exported" in told
    assert "opset.: 18 here, 22 exported" in told
    assert any(line.startswith(f"node Conv {node.name}.strides[0]: ") for line in told)


def test_a_key_and_a_line_are_named(bundle, other):
    manifest = json.loads((other / "bundle.json").read_text())
    manifest["config"]["march"]["samples"] += 1
    del manifest["license"]
    (other / "bundle.json").write_text(json.dumps(manifest))
    (other / "MODEL_CARD.md").write_text("# other\n")
    found = differences(bundle, other)
    assert "license: only here" in found["bundle.json"]
    assert any(w.startswith("config.march.samples: ") for w in found["bundle.json"])
    assert "line +# other" in found["MODEL_CARD.md"]
    told = summary(found, folder=bundle, files=12)
    assert "2 of 12 files would differ" in told
    assert " more" in told, "a long list is cut"


def test_what_cannot_be_read_is_a_difference(bundle, other):
    for name in ("conditioner.onnx", "weights.safetensors", "bundle.json", "body.npz"):
        (other / name).write_bytes(b"\x01\x02 garbage")
        assert differences(bundle, other)[name][0].startswith("cannot be compared: ")


@pytest.mark.parametrize("changed", [False, True])
def test_the_command_checks_and_writes_nothing(bundle, other, monkeypatch, capsys, changed):
    def export(stage1, *, body_path, out, **_):
        assert body_path == other / "body.npz"
        assert out != other
        shutil.copytree(bundle, out, dirs_exist_ok=True)
        return {}

    monkeypatch.setattr(exporting, "export_checkpoints", export)
    if changed:
        (other / "MODEL_CARD.md").write_text("# edited by hand\n")
    before = {path: path.read_bytes() for path in other.rglob("*") if path.is_file()}
    arguments = ["gas", "s.pt", "a.pt", "u.pt", "-o", str(other), "--check"]
    assert commands.main(arguments) == (3 if changed else 0)
    told = capsys.readouterr().out
    assert ("line -# edited by hand" in told) == changed
    assert {path: path.read_bytes() for path in other.rglob("*") if path.is_file()} == before
