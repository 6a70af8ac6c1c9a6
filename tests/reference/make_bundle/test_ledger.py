"""What a run remembers: decisions once, time added up, another run's folder refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gas_rt.errors import InputError
from reference.make_bundle.ledger import Ledger, machine
from reference.make_bundle.recipe import RECIPES, SHARES, on_gpu

ASKED = {"config": "tiny", "device": "cpu", "budget_minutes": None}


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_decisions_are_made_once_and_outlive_the_process(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, ASKED)
    assert not ledger.begun
    assert ledger.once("persons", lambda: 7) == 7

    def again() -> int:
        raise AssertionError("decided twice")

    later = Ledger(tmp_path, ASKED)
    assert later.begun
    assert later.once("persons", again) == 7
    assert later.decided == {"persons": 7}


def test_a_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    Ledger(tmp_path, ASKED)
    with pytest.raises(InputError, match="was begun with"):
        Ledger(tmp_path, ASKED | {"device": "cuda"})


def test_time_adds_up_over_runs_and_errors(tmp_path: Path) -> None:
    clock = Clock()
    ledger = Ledger(tmp_path, ASKED, clock=clock)

    def fail() -> None:
        with ledger.timed("people"):
            clock.now = 5
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        fail()
    later = Ledger(tmp_path, ASKED, clock=clock)
    with later.timed("people"):
        clock.now = 8
    assert later.wall_s == {"people": 8.0}
    assert json.loads((tmp_path / "making.json").read_text())["wall_s"]["people"] == 8.0


def test_what_a_step_leaves_over_goes_to_those_after_it(tmp_path: Path) -> None:
    clock = Clock()
    ledger = Ledger(tmp_path, ASKED, clock=clock)
    names = list(SHARES)
    assert sum(SHARES.values()) == pytest.approx(1)
    assert ledger.left_s(100, SHARES, names[0]) == pytest.approx(100 * SHARES[names[0]])
    with ledger.timed(names[0]):
        clock.now = 0.5
    second = ledger.left_s(100, SHARES, names[1])
    assert second > 100 * SHARES[names[1]]
    # A step that goes on after a kill keeps its share, whatever it spent already.
    with ledger.timed(names[1]):
        clock.now = 3.5
    assert ledger.left_s(100, SHARES, names[1]) == second
    assert ledger.left_s(100, SHARES, names[-1]) == pytest.approx(100 - 3.5)
    with ledger.timed(names[1]):
        clock.now = 500
    assert ledger.left_s(100, SHARES, names[-1]) == 0


def test_the_machine_is_told() -> None:
    told = machine("cpu")
    assert told["device"] == "cpu"
    assert told["processor"]
    assert told["cores"] >= 1


def test_recipes_hold_together() -> None:
    for config, recipe in RECIPES.items():
        assert recipe.name == f"gas-{config}"
        needed = max(recipe.unet.windows.parity_frames, recipe.unet.windows.live_frames)
        assert recipe.unet.played >= needed
        assert recipe.student.played >= needed
        assert recipe.student.windows == recipe.unet.windows
        assert recipe.model.unet.latent_channels == recipe.autoencoder.latent_channels
        side = recipe.size // 8
        assert side % recipe.model.unet.downsampling == 0
        assert max(recipe.unet.crops) >= min(side, 4)
        assert recipe.coding.crop <= recipe.size
        large = on_gpu(recipe)
        assert large.stage1.workers == large.unet.workers == large.student.workers == 1
        assert large.unet.live_batch > recipe.unet.live_batch
    assert RECIPES["mini-256"].size == 2 * RECIPES["mini"].size == 256
