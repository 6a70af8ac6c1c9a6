"""People filmed ahead: the same films whoever draws them and whenever."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from gas_rt.body import BodyModel
from gas_rt.errors import FileError
from reference.diffusion.films import Film, film_path, read_film, shoot_film, write_film
from reference.make_bundle.filming import Filming, discard
from reference.people.mixture import STAGE2

BODY = Path(__file__).parents[3] / "engines" / "gas-mini" / "body.npz"
OPTIONS = {"frames": 2, "size": 32, "mixture": STAGE2}


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return BodyModel.open(BODY)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_film_comes_back_as_it_was(body: BodyModel, tmp_path: Path, seed: int) -> None:
    film = Film.of(shoot_film(seed, body, **OPTIONS))
    path = film_path(tmp_path, seed)
    write_film(path, film)
    found = read_film(path)
    assert (found.task, found.kind) == (film.task, film.kind)
    for name in ("rgb", "mask", "betas"):
        np.testing.assert_array_equal(getattr(found, name), getattr(film, name))
    for ours, theirs in zip(found.poses, film.poses, strict=True):
        np.testing.assert_array_equal(ours.rotations, theirs.rotations)
        np.testing.assert_array_equal(ours.translation, theirs.translation)
    for ours, theirs in zip(found.cameras, film.cameras, strict=True):
        np.testing.assert_array_equal(ours.intrinsics, theirs.intrinsics)
        np.testing.assert_array_equal(ours.rotation, theirs.rotation)
        assert (ours.width, ours.height) == (theirs.width, theirs.height)


def test_something_else_is_no_film(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", rgb=np.zeros(3))
    with pytest.raises(FileError, match="no film"):
        read_film(tmp_path / "x.npz")


@pytest.mark.timeout(300)
def test_people_are_filmed_beside_and_the_folder_has_a_limit(
    body: BodyModel, tmp_path: Path
) -> None:
    folder = tmp_path / "films"
    with Filming(folder, range(100), body=BODY, workers=1, bytes_max=1, **OPTIONS) as filming:
        while not any(folder.glob("*.npz")):
            time.sleep(0.01)
    assert filming.error is None
    made = sorted(folder.glob("*.npz"))
    assert 1 <= len(made) <= 2  # as many as were handed out before the first was weighed
    here = Film.of(shoot_film(0, body, **OPTIONS))
    np.testing.assert_array_equal(read_film(made[0]).rgb, here.rgb)
    discard(folder)
    assert not folder.exists()


@pytest.mark.timeout(300)
def test_an_error_of_a_worker_reaches_whoever_closes(tmp_path: Path) -> None:
    options = {"body": tmp_path / "none.npz", "workers": 1, **OPTIONS}
    filming = Filming(tmp_path / "films", range(4), **options)
    while filming.error is None:
        time.sleep(0.01)
    with pytest.raises(Exception, match=r"none\.npz"):
        filming.close()
