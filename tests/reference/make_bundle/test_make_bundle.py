"""From nothing to a bundle on the tiny recipe, and what a run that is given again does."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import gas_rt
from reference.make_bundle.__main__ import main
from reference.make_bundle.ledger import Ledger
from reference.make_bundle.recipe import RECIPES
from reference.make_bundle.stages import Making, Options, _shortened, _whole
from reference.training import Schedule

BODY = Path(__file__).parents[3] / "engines" / "gas-mini" / "body.npz"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_one_command_makes_a_bundle_and_resumes(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    command = ["--out", str(tmp_path), "--config", "tiny", "--device", "cpu", "--workers", "1"]
    assert main(command) == 0, capsys.readouterr().err
    with gas_rt.load(tmp_path / "bundle" / "gas-tiny", "openvino", threads=1) as model:
        assert model.policies == ("field", "diagonal", "sequential", "parity")
        assert model.steps("diagonal") == (1, 2)
        assert model.resolution == RECIPES["tiny"].size
    card = (tmp_path / "bundle" / "gas-tiny" / "MODEL_CARD.md").read_text()
    for part in ("## Making", "### Curve of student", "| unet |", "people: 2"):
        assert part in card
    assert str(tmp_path) not in card
    assert "ceiling" in (tmp_path / "table.md").read_text()
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*t")}
    assert main(command) == 1
    assert "give --resume" in capsys.readouterr().err
    (tmp_path / "checkpoints" / "student.pt").unlink()  # killed just before it was put there
    assert main([*command, "--resume"]) == 0
    again = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*t")}
    changed = {p.name for p, when in again.items() if written.get(p) != when}
    assert changed == {"student.pt", "checkpoint.pt"}  # saved again at its last step


def making(tmp_path: Path, budget_s: float | None, **asked: object) -> Making:
    options = Options(tmp_path, BODY, workers=4, budget_s=budget_s)
    return Making(RECIPES["tiny"], options, Ledger(tmp_path, dict(asked)))


def test_a_budget_buys_people_by_what_they_cost(tmp_path: Path) -> None:
    run = making(tmp_path, 1000.0)
    bought = run._affordable("people", 10_000, lambda: 0.5)
    assert bought == int(0.9 * 80 * 4 / 0.5)
    assert run._affordable("people", 10, lambda: 0.5) == 10
    assert run._affordable("people", 10, lambda: 1e9) == 1
    assert run._affordable("people", 10_000, lambda: 0.5, done=50) == bought + 50
    free = making(tmp_path / "free", None)
    assert free._affordable("people", 10_000, lambda: 1e9) == 10_000


def test_a_budget_buys_steps_by_their_rate(tmp_path: Path) -> None:
    run, config = making(tmp_path, 1000.0), Schedule(steps=100_000, warmup=10)
    tried: list[tuple[int, int]] = []

    def train(trial: Schedule, out: Path, stop_at: int) -> None:
        tried.append((trial.steps, stop_at))
        out.mkdir(parents=True)
        (out / "curve.jsonl").write_text('{"step": 16, "steps_per_s": 2.0}\n')

    found = run._steps("unet", config, train)
    # All of the time is still there for it and those after it.
    assert found.steps == int(0.9 * 1000 * 0.24 / 0.44 * 2)
    assert tried == [(16, 16)]
    assert not (tmp_path / ".rate" / "unet").exists()
    assert run._steps("unet", config, train) == found
    assert len(tried) == 1  # decided
    slow = making(tmp_path / "slow", 1.0)._steps("unet", config, train)
    assert slow.steps == 2 * config.warmup
    assert making(tmp_path / "free", None)._steps("unet", config, train).steps == 100_000


def test_a_shorter_run_keeps_the_share_of_its_opening() -> None:
    unet = RECIPES["mini"].unet
    short = _shortened(unet, unet.steps // 2)
    assert short.opening_steps == unet.opening_steps // 2
    assert short == replace(unet, steps=unet.steps // 2, opening_steps=unet.opening_steps // 2)


def test_clips_come_in_whole_files() -> None:
    assert [_whole(n, 100) for n in (1, 40, 70, 100)] == [1, 32, 64, 100]


@pytest.mark.parametrize(
    ("more", "message"),
    [(["--workers", "0"], "--workers"), (["--budget-minutes", "0"], "--budget-minutes")],
)
def test_impossible_options_are_usage_errors(
    tmp_path: Path, capsys: pytest.CaptureFixture, more: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as error:
        main(["--out", str(tmp_path / "x"), *more])
    assert error.value.code == 2
    assert message in capsys.readouterr().err


def test_curves_are_thinned_to_validated_rows(tmp_path: Path) -> None:
    from reference.make_bundle.finish import CURVE_ROWS, curve

    rows = [{"step": k, "loss": 1 / k} for k in range(1, 101)]
    path = tmp_path / "curve.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = curve(path)
    assert len(found) == CURVE_ROWS
    assert found[-1]["step"] == 100
    rows[49] |= {"box_db": 3.0}
    rows[99] |= {"box_db": 4.0}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [row["step"] for row in curve(path)] == [50, 100]
