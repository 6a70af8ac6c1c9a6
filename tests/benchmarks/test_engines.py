"""The engines' benchmark: rows are right on a tiny bundle, what cannot run says why."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks.engines import __main__ as command
from benchmarks.engines import backends, parity
from benchmarks.engines import setting as settings
from benchmarks.engines.setting import Setting, inputs_of
from benchmarks.engines.table import markdown
from benchmarks.kernels.rows import Skipped
from export.diffusion import diffusion_cases, rounded_to_half
from gas_rt.engine import open_bundle
from tests.export.conftest import bundle  # noqa: F401 - the tiny bundle, once per session
from tests.export.tiny_models import tiny_stage2


@pytest.fixture(scope="module")
def setting(bundle):  # noqa: F811
    made = Setting(open_bundle(bundle), 1, True, tiny_stage2())
    yield made
    made.close()


@pytest.fixture
def no_bf16(monkeypatch):
    for module in (backends, parity, settings):
        monkeypatch.setattr(module, "cpu_has_bf16", lambda: False)


@pytest.mark.parametrize("name", ["denoiser_fused", "attn_folded", "conditioner_cached"])
def test_a_row_is_correct_at_small_sizes(setting, name):
    row = command.ROWS[name](setting)
    assert [str(limit) for limit in row.correct if not limit.ok] == []
    told = json.loads(json.dumps(row.as_dict(quick=True)))
    assert {"name", "ours", "peer", "unit", "ratio", "required", "ok"} <= set(told)
    assert (told["name"], told["verdict"]) == (name, "correct")
    assert told["ours_ms"]["warm_up"] == 3


def test_a_row_that_cannot_run_says_why(setting, no_bf16):
    for name in ("denoiser_bf16", "decoder_bf16"):
        with pytest.raises(Skipped, match="not measurable here: no bf16"):
            command.ROWS[name](setting)
    with pytest.raises(Skipped, match=r"no int8 bundle; make one with .*--int8 DIR"):
        command.ROWS["denoiser_int8"](setting)


def test_without_checkpoints_the_rows_that_need_them_are_skipped(setting):
    without = Setting(setting.bundle, 1, True, "a.pt: no such file")
    with pytest.raises(Skipped, match=r"a\.pt: no such file"):
        command.ROWS["attn_folded"](without)
    without.close()


def test_backends_take_turns_and_are_measured_once(setting, no_bf16):
    times = setting.times("vae_decoder")
    assert set(times) == {"onnxruntime fp32", "openvino fp32"}
    assert setting.times("vae_decoder") is times


def test_an_int8_bundle_has_its_row(setting, no_bf16):
    """The same bundle in its place: what is judged here is which times are compared."""
    given = Setting(setting.bundle, 1, True, setting.stage, int8=setting.bundle)
    row = command.ROWS["denoiser_int8"](given)
    assert row.against in ("onnxruntime fp32", "openvino fp32")
    assert set(row.details["all"]) == {"onnxruntime fp32", "openvino fp32", "openvino int8"}
    given.close()


def test_the_report_has_rows_skips_and_parity(setting, no_bf16):
    cases = diffusion_cases(rounded_to_half(tiny_stage2()), side_px=32)
    samples = {
        name: [{k: v.numpy() for k, v in cases[name].inputs.items()}]
        for name in ("conditioner", "denoiser")
    }
    document = command.run(
        setting, ["conditioner_cached", "denoiser_bf16"], command=["--quick"], samples=samples
    )
    assert [row["name"] for row in document["rows"]] == ["conditioner_cached"]
    assert "no bf16" in document["skipped"]["denoiser_bf16"]
    assert "no bf16" in document["skipped"]["parity: openvino bf16"]
    table = document["parity"]
    assert {row["graph"] for row in table} == {"conditioner", "denoiser"}
    assert {row["backend"] for row in table} == {"onnxruntime fp32", "openvino fp32"}
    assert all(row["ok"] and row["relative"] <= 1e-4 for row in table)
    text = markdown(json.loads(json.dumps(document)))
    assert "| `conditioner_cached` | 1 |" in text
    assert "Skipped: `denoiser_bf16`: not measurable here" in text


def test_a_miss_ends_with_3(tmp_path, capsys):
    document = {"rows": [{"ok": True}], "parity": [{"ok": False}], "skipped": {}}
    path = tmp_path / "report.json"
    path.write_text(json.dumps(document))
    assert command.main(["--show", str(path), "--json"]) == command.MISSED
    document["parity"] = []
    path.write_text(json.dumps(document))
    assert command.main(["--show", str(path), "--json"]) == 0
    with pytest.raises(SystemExit, match="2"):
        command.main(["--rows", "nothing"])
    assert "no such row: ['nothing']" in capsys.readouterr().err


def test_inputs_are_above_zero(setting):
    given = inputs_of(setting.bundle.graph("denoiser"))
    assert all((value > 0).all() and np.isfinite(value).all() for value in given.values())
