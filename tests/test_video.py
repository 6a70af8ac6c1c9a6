"""Films and sheets."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from gas_rt.errors import FileError, InputError
from gas_rt.video import VideoWriter, sheet, write_png


def frames(count: int, side: int = 32) -> list[np.ndarray]:
    return [np.full((side, side, 3), 20 * k, np.uint8) for k in range(count)]


@pytest.mark.parametrize("side", [32, 33])
def test_a_film_holds_its_frames(tmp_path: Path, side: int) -> None:
    with VideoWriter(tmp_path / "x.mp4", fps=25) as video:
        for frame in frames(7, side):
            video.write(frame)
    with av.open(str(tmp_path / "x.mp4")) as film:
        read = [f.to_ndarray(format="rgb24") for f in film.decode(video=0)]
        assert film.streams.video[0].average_rate == 25
    assert len(read) == 7
    assert read[0].shape == (side + side % 2, side + side % 2, 3)
    assert abs(int(read[5].mean()) - 100) < 8


def test_a_failing_film_leaves_no_file(tmp_path: Path) -> None:
    def fail() -> None:
        with VideoWriter(tmp_path / "x.mp4", fps=25) as video:
            video.write(frames(1)[0])
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_film_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least one frame"), VideoWriter(tmp_path / "x", fps=25):
        pass
    assert list(tmp_path.iterdir()) == []


def test_frames_of_two_sizes_are_refused(tmp_path: Path) -> None:
    def mix() -> None:
        with VideoWriter(tmp_path / "x.mp4", fps=25) as video:
            video.write(frames(1, 32)[0])
            video.write(frames(1, 48)[0])

    with pytest.raises(InputError, match="one film has one size"):
        mix()


def test_a_film_needs_its_folder(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="existing, writable folder"):
        VideoWriter(tmp_path / "none" / "x.mp4", fps=25)


def test_a_sheet_has_its_cells(tmp_path: Path) -> None:
    picture = sheet(("a", "b"), [("r", (frames(2)[1], frames(13)[12]))], cell_px=40)
    assert picture.dtype == np.uint8
    assert picture.shape[0] > 40
    assert picture[40, -20].tolist() == [240, 240, 240]
    write_png(tmp_path / "s.png", picture)
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InputError, match="has 1 of 2 pictures"):
        sheet(("a", "b"), [("r", (picture,))])
