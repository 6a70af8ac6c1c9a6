"""The examples run as their users run them: as scripts, without a screen."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import av
import pytest
from PIL import Image

from gas_rt import Avatar
from tests.toy_person import QUICK_BAKE, ToyPerson, toy_motion

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def files(
    person: ToyPerson, diffusion_avatar: Avatar, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("example")
    Image.fromarray(person.rgb).save(folder / "photo.png")
    person.fit.save(folder / "fit.npz")
    toy_motion(12).save(folder / "motion.npz")
    diffusion_avatar.save(folder / "a.avatar")
    return folder


def run(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    headless = {"SDL_VIDEODRIVER": "dummy", "PYTHONPATH": str(EXAMPLES.parent)}
    return subprocess.run(
        [sys.executable, EXAMPLES / script, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
        cwd=EXAMPLES.parent,
        env={**os.environ, **headless},
    )


def test_the_short_script_is_short() -> None:
    lines = (EXAMPLES / "photo_to_film.py").read_text().splitlines()
    assert len(lines) <= 22


def test_a_photo_becomes_a_film(
    files: Path,
    diffusion_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    film = tmp_path / "film.mp4"
    given = (files / "photo.png", files / "fit.npz", files / "motion.npz", film, diffusion_folder)
    monkeypatch.setattr(sys, "argv", ["photo_to_film.py", *map(str, given)])
    monkeypatch.setattr("gas_rt.model.BakeConfig", lambda: QUICK_BAKE)  # a minute less
    runpy.run_path(str(EXAMPLES / "photo_to_film.py"), run_name="__main__")
    assert "12 frames" in capsys.readouterr().out
    with av.open(str(film)) as video:
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    assert len(frames) == 12
    assert all(frame.shape == (256, 256, 3) and frame.mean() > 1 for frame in frames)


@pytest.mark.parametrize("policy", ["field", "diagonal"])
def test_the_game_shows_the_avatar_and_is_not_held_up(
    files: Path, diffusion_folder: Path, policy: str
) -> None:
    done = run(
        "game_loop.py",
        files / "a.avatar",
        *("--motion", files / "motion.npz", "--model", diffusion_folder),
        *("--policy", policy, "--frames", 60),
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["ticks"] == 60
    assert 1 <= said["shown"] <= 60
    assert said["age_ms_p50"] > 0


def test_the_game_says_what_it_cannot_load(files: Path, diffusion_folder: Path) -> None:
    done = run(
        "game_loop.py",
        files / "photo.png",
        *("--motion", files / "motion.npz", "--model", diffusion_folder, "--frames", 3),
    )
    assert done.returncode == 1
    assert "not a gas-rt avatar" in done.stderr
