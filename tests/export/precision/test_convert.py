"""A tiny bundle in fp32 to bf16 and int8; what a gate refuses is not installed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from export import __main__ as commands
from export.diffusion import diffusion_cases, rounded_to_half
from export.errors import GateError
from export.precision import convert as converting
from export.precision import gates
from export.precision.convert import Source, convert, spread
from export.precision.gates import Bar
from export.precision.source import open_source
from export.torch_engine import TorchEngine
from gas_rt.engine import open_bundle, open_engine
from gas_rt.errors import BackendError, InputError
from tests.export.test_compare import conditions
from tests.export.tiny_models import tiny_stage2

LOOSE = Bar(relative=10.0, cosine=-1.0)


@pytest.fixture(scope="module")
def source(bundle) -> Source:
    stage = tiny_stage2()
    cases = diffusion_cases(rounded_to_half(stage), side_px=32)
    given = conditions()
    return Source(open_bundle(bundle), stage, TorchEngine(cases), [given], given, {}, threads=1)


@pytest.fixture
def loose(monkeypatch):
    """Random weights lose more to a narrow type than trained ones."""
    monkeypatch.setattr(gates, "BARS", dict.fromkeys(gates.BARS, LOOSE))
    monkeypatch.setattr(converting, "judged", judged_as_good)


@pytest.fixture
def quick(monkeypatch, loose, source):
    """The decoder alone, and no stream: compiling every graph is most of a conversion."""
    rng = np.random.default_rng(0)
    inputs = source.bundle.graph("vae_decoder").inputs
    samples = [
        {name: rng.uniform(-1, 1, t.shape).astype(np.float32) for name, t in inputs.items()}
        for _ in range(4)
    ]
    monkeypatch.setattr(converting, "_samples", lambda source: {"vae_decoder": samples})
    pictures = np.zeros((6, 3, 32, 32), np.float32)
    monkeypatch.setattr(converting, "bundle_pictures", lambda *_, **__: pictures)
    monkeypatch.setattr(converting, "pytorch_pictures", lambda *_, **__: pictures)


def judged_as_good(found, wanted, given, *, precision):
    assert np.isfinite(found).all()
    return {
        "frames": len(found),
        "psnr_db": 50.0,
        "required_db": 32.0,
        "loss_db": 0.0,
        "loss_db_max": 0.4,
    }


def converted(source: Source, out: Path, precision: str, **how) -> dict:
    return convert(source, precision, out=out, components=("decoder",), **how)


def test_int8_of_the_decoder(source, tmp_path, quick):
    out = tmp_path / "gas-tiny-int8"
    told = converted(source, out, "int8", budget=1.0)["precision"]
    opened = open_bundle(out)
    assert told["name"] == "int8"
    assert {g for g, kind in told["graphs"].items() if kind == "int8"} == {"vae_decoder"}
    assert told["recipes"]["vae_decoder"]["narrow"] == told["layers"]["vae_decoder"]["file"]["int8"]
    assert told["layers"]["vae_decoder"]["openvino"]["int8"] > 0
    assert told["layers"]["denoiser"]["file"].keys() == {"fp32"}
    assert set(told["parity"]["vae_decoder"]) == {"as written", "openvino"}
    assert opened.manifest["provenance"]["from"] == source.bundle.sha256
    assert opened.name == "gas-tiny-int8"
    card = (out / "MODEL_CARD.md").read_text()
    assert card.startswith("# gas-tiny-int8")
    assert "## Precision" in card
    for file, entry in opened.files.items():
        assert hashlib.sha256((out / file).read_bytes()).hexdigest() == entry.sha256
    size = (source.bundle.folder / "weights.safetensors").stat().st_size
    assert (out / "weights.safetensors").stat().st_size < size


def test_backends_take_an_int8_bundle_and_say_so(source, tmp_path, quick):
    out = tmp_path / "gas-tiny-int8"
    converted(source, out, "int8", budget=1.0)
    opened = open_bundle(out)
    decoder, denoiser = opened.graph("vae_decoder"), opened.graph("denoiser")
    for backend in ("openvino", "onnxruntime"):
        for precision in ("auto", "int8"):
            engine = open_engine(backend, threads=1, precision=precision)
            assert engine.load(decoder).report.precision == "int8"
            # The recipe left it in fp32, which is no reason to refuse the bundle.
            assert engine.load(denoiser).report.precision in ("fp32", "bf16")
        with pytest.raises(BackendError, match=r"vae_decoder\.onnx computes in int8"):
            open_engine(backend, threads=1, precision="fp32").load(decoder)
    of_source = source.bundle.graph("denoiser")
    engine = open_engine("onnxruntime", threads=1, precision="int8")
    with pytest.raises(BackendError, match="computes in fp32"):
        engine.load(of_source)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_all_of_a_conversion(source, tmp_path, loose, precision):
    out = tmp_path / "narrow"
    told = convert(source, precision, out=out, components=("denoiser",), budget=1.0)["precision"]
    names = {g for g in told["graphs"] if g.startswith("denoiser")}
    assert {g for g, kind in told["graphs"].items() if kind == precision} == names
    layers = {tuple(told["layers"][g]["file"].items()) for g in names}
    assert len(layers) == 1, "all four follow one recipe"
    assert set(told["parity"]) == set(told["graphs"]) - {"nerf_encoder", "nerf_field"}
    error = told["parity"]["denoiser"]["as written"]["x0"]
    assert 0 < error["rms"] < 0.2
    assert told["stream"]["as written"]["frames"] == 6


@pytest.mark.parametrize(
    ("gate", "patch"),
    [
        ("lint", lambda m: m.setattr(gates, "lint", lambda graph: ["operator Odd"])),
        ("parity", lambda m: m.setattr(gates, "BARS", dict.fromkeys(gates.BARS, Bar(0, 1)))),
        (
            "stream",
            lambda m: m.setattr(
                converting,
                "judged",
                lambda *a, **k: judged_as_good(*a, **k) | {"psnr_db": 12.0},
            ),
        ),
        (
            "layer types",
            lambda m: m.setattr(gates, "layer_types", lambda model: {"odd": "bf16"}),
        ),
    ],
)
def test_what_a_gate_refuses_is_not_installed(source, tmp_path, quick, monkeypatch, gate, patch):
    patch(monkeypatch)
    with pytest.raises(GateError, match=f"gate {gate}: .*Nothing was installed"):
        converted(source, tmp_path / "never", "bf16", budget=1.0)
    assert list(tmp_path.iterdir()) == []


def test_a_planted_nan_is_refused(source, tmp_path, quick, monkeypatch):
    original = converting.errors_of

    def poisoned(graph, given, wanted):
        given = [{name: value.copy() for name, value in sample.items()} for sample in given]
        given[1]["latents"][0, 0, 1, 2] = np.nan
        return original(graph, given, wanted)

    monkeypatch.setattr(converting, "errors_of", poisoned)
    with pytest.raises(GateError, match=r"vae_decoder\.picture in as written has NaN"):
        converted(source, tmp_path / "never", "bf16", budget=1.0)
    assert list(tmp_path.iterdir()) == []


def test_a_refused_conversion_leaves_what_was_there(source, tmp_path, quick, monkeypatch):
    out = tmp_path / "kept"
    out.mkdir()
    (out / "bundle.json").write_text("before")
    monkeypatch.setattr(gates, "lint", lambda graph: ["operator Odd"])
    with pytest.raises(GateError):
        converted(source, out, "bf16", budget=1.0)
    assert (out / "bundle.json").read_text() == "before"
    assert list(tmp_path.iterdir()) == [out]


def test_sources_that_do_not_suit(source, bundle, tmp_path, quick):
    with pytest.raises(ValueError, match="no 'sound'; choose of denoiser, decoder"):
        convert(source, "bf16", out=tmp_path / "x", components=("sound",))
    with pytest.raises(ValueError, match="is the bundle that is converted"):
        convert(source, "bf16", out=bundle, components=("decoder",))
    out = tmp_path / "once"
    converted(source, out, "bf16", budget=1.0)
    twice = Source(open_bundle(out), source.stage, source.torch, [], source.judged, {})
    with pytest.raises(ValueError, match=r"vae_decoder\.onnx computes in bf16 already"):
        converted(twice, tmp_path / "twice", "int8")


def test_checkpoints_must_be_those_it_was_exported_from(bundle, tmp_path):
    with pytest.raises(InputError, match=r"x\.pt: no such file"):
        open_source(bundle, checkpoints=tmp_path, frames=3)
    (tmp_path / "x.pt").write_bytes(b"others")
    with pytest.raises(InputError, match=r"x\.pt: is not what gas-tiny 0\.1\.0 was exported from"):
        open_source(bundle, checkpoints=tmp_path, frames=3)
    with pytest.raises(InputError, match="frames: at least one window of 3, got 2"):
        open_source(bundle, checkpoints=tmp_path, frames=2)


def test_the_command_ends_with_3_at_a_gate_and_1_at_a_users_error(monkeypatch, bundle, capsys):
    arguments = ["precision", str(bundle), "--precision", "bf16", "-o", "never"]
    assert commands.main([*arguments, "--checkpoints", "no-such"]) == 1
    assert "no-such" in capsys.readouterr().err

    def refused(*_, **__):
        raise GateError("parity", ["x0 differs"])

    monkeypatch.setattr("export.precision.source.open_source", lambda *_, **__: None)
    monkeypatch.setattr("export.precision.convert.convert", refused)
    assert commands.main(arguments) == 3
    assert "gate parity: x0 differs" in capsys.readouterr().err


def test_samples_are_spread_over_a_stream():
    values = [{"k": np.array(k)} for k in range(10)]
    assert [int(v["k"]) for v in spread(values, 4)] == [1, 3, 6, 8]
    assert spread(values, 20) == values
