"""The full-size scripts at a size for tests: every part runs, reports and judges itself."""

from __future__ import annotations

import json

import pytest

from benchmarks import full_size, gpu_full_size


def test_the_gpu_scripts_cpu_half_times_every_graph(capsys) -> None:
    assert gpu_full_size.main(["--cpu-half", "--repeats", "1", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    names = {row["name"] for row in document["rows"]}
    assert names == {
        "image_encoder",
        "vae_encoder",
        "conditioner",
        "vae_decoder",
        "denoiser_3",
        "denoiser_nocfg_3",
    }
    assert all(row["ok"] and row["ours"] > 0 for row in document["rows"])
    assert {(clip["steps"], clip["guided"]) for clip in document["clips"]} == {
        (steps, guided) for steps in gpu_full_size.STEPS for guided in (True, False)
    }


def test_a_clips_rate_counts_all_that_runs_per_clip() -> None:
    geometry = gpu_full_size.TINY  # 3 frames, decoded in one call
    ms = {"conditioner": 2.0, "vae_decoder": 4.0, "denoiser_3": 10.0, "denoiser_nocfg_3": 5.0}
    rows = [
        {"name": name, "backend": "torch", "cuda_graph": False, "ours": value}
        for name, value in ms.items()
    ]
    found = {(c["steps"], c["guided"]): c for c in gpu_full_size.clips(rows, geometry)}
    assert found[4, True]["clip_ms"] == 3 * 2 + 4 + 4 * 10
    assert found[4, True]["fps"] == pytest.approx(3 / 0.050)
    assert found[1, False]["clip_ms"] == 3 * 2 + 4 + 5


def test_rows_judge_what_a_part_measured() -> None:
    part = {"peak_rss_gib": 8.0, "differences": {"denoiser_4/onnxruntime": 0.03}}
    memory, step = full_size._rows("step", part)
    assert (memory["ok"], step["ok"]) == (True, False)
    (failed,) = full_size._rows("convert", {"error": "MemoryError: "})
    assert failed == {"name": "convert", "ok": False, "problem": "MemoryError: "}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_part_runs_at_a_small_size(tmp_path, capsys) -> None:
    arguments = ["--work", str(tmp_path / "work"), "--small", "--clean", "--json"]
    assert full_size.main(arguments) == 0
    document = json.loads(capsys.readouterr().out)
    assert set(document["parts"]) == {"make", "convert", "decoder", "step"}
    assert document["parts"]["convert"]["lint"] == "nothing found"
    assert not (tmp_path / "work").exists()
