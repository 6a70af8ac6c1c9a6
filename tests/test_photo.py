"""Photos: limits, masks, and the way onto the model's pixel grid."""

from __future__ import annotations

import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gas_rt.core import Camera
from gas_rt.errors import FileError, GasRtWarning, InputError, ShapeError
from gas_rt.photo import FILL_AIM, Photo, fit_to_model, read_photo


def camera(width: int, height: int) -> Camera:
    k = np.array([[200, 0, width / 2], [0, 200, height / 2], [0, 0, 1]], np.float32)
    return Camera(k, np.eye(3, dtype=np.float32), np.array([0, 0, 3], np.float32), width, height)


def person(width: int = 64, height: int = 64, *, rows: slice = slice(4, 60)) -> np.ndarray:
    picture = np.zeros((height, width, 3), np.uint8)
    picture[rows, width // 3 : 2 * width // 3] = [200, 100, 50]
    return picture


def test_a_black_background_is_the_default_mask() -> None:
    photo = read_photo(person())
    assert photo.mask_source == "background"
    np.testing.assert_array_equal(photo.mask > 0, person().max(2) > 0)
    np.testing.assert_array_equal(photo.rgb, person())


def test_alpha_is_the_mask_and_premultiplies() -> None:
    picture = np.dstack([np.full((64, 64, 3), 200, np.uint8), np.zeros((64, 64), np.uint8)])
    picture[10:50, 20:40, 3] = 255
    picture[50, 20:40, 3] = 128
    photo = read_photo(Image.fromarray(picture))
    assert photo.mask_source == "alpha"
    assert photo.rgb[0, 0].tolist() == [0, 0, 0]
    assert photo.rgb[20, 30].tolist() == [200, 200, 200]
    assert abs(int(photo.rgb[50, 30, 0]) - 100) <= 1


def test_a_given_mask_cuts_out_but_does_not_darken_a_black_edge_twice() -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[4:60, 21:42] = 255
    mask[4, 21:42] = 128
    blended = person()
    blended[4] //= 2
    photo = read_photo(blended, mask)
    np.testing.assert_array_equal(photo.rgb, blended)
    bright = np.maximum(blended, 90)
    cut = read_photo(bright, mask)
    assert cut.rgb[mask == 0].max() == 0
    assert cut.rgb[4, 30, 1] == (int(bright[4, 30, 1]) * 128 + 127) // 255


def test_a_boolean_mask_and_a_mask_file_agree(tmp_path: Path) -> None:
    mask = person().max(2) > 0
    Image.fromarray(mask).convert("L").save(tmp_path / "m.png")
    one, two = read_photo(person(), mask), read_photo(person(), tmp_path / "m.png")
    np.testing.assert_array_equal(one.mask, two.mask)


def test_mask_of_another_size() -> None:
    with pytest.raises(InputError, match="mask: is 32×64, the photo 64×64"):
        read_photo(person(), np.ones((64, 32), bool))


@pytest.mark.parametrize("mask", [np.zeros((64, 64), bool), np.full((64, 64), 90, np.uint8)])
def test_empty_mask(mask: np.ndarray) -> None:
    with pytest.raises(InputError, match="shows no person"):
        read_photo(person(), mask)
    with pytest.raises(InputError, match=r"mask \(background\): shows no person"):
        read_photo(np.zeros((64, 64, 3), np.uint8))


def test_a_full_picture_without_mask_warns() -> None:
    with pytest.warns(GasRtWarning, match="the whole picture counts as the person"):
        read_photo(np.full((64, 64, 3), 99, np.uint8))


def test_a_file_that_is_not_a_picture(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_text("hello, I am text")
    with pytest.raises(FileError, match=r"x\.png: cannot be read as a photo: not a PNG, JPEG"):
        read_photo(tmp_path / "x.png")
    with pytest.raises(FileError, match="No such file"):
        read_photo(tmp_path / "none.png")
    with pytest.raises(FileError, match="cannot be read as a photo"):
        read_photo(tmp_path)


@pytest.mark.parametrize("keep", [30, 0.3, 0.9])
def test_a_truncated_picture(tmp_path: Path, keep: float) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (64, 64, 3), np.uint8)).save(tmp_path / "x.png")
    content = (tmp_path / "x.png").read_bytes()
    (tmp_path / "x.png").write_bytes(content[: int(keep if keep > 1 else keep * len(content))])
    with pytest.raises(FileError, match=r"x\.png: (is a damaged|cannot be read)"):
        read_photo(tmp_path / "x.png")


def chunk(kind: bytes, data: bytes) -> bytes:
    body = kind + data
    return len(data).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")


@pytest.mark.parametrize("side", [9_000, 40_000, 2_000_000])
def test_a_pixel_bomb_is_refused_before_it_is_decoded(tmp_path: Path, side: int) -> None:
    size = side.to_bytes(4, "big")
    head = chunk(b"IHDR", size + size + bytes([8, 2, 0, 0, 0]))
    data = chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + head + data + chunk(b"IEND", b""))
    with pytest.raises(InputError, match=r"million pixels|damaged picture"):
        read_photo(tmp_path / "bomb.png")


def test_a_picture_that_is_too_long_is_refused() -> None:
    with pytest.raises(InputError, match=r"is 20000×16; .* at most 16384 pixels a side"):
        read_photo(np.zeros((16, 20_000, 3), np.uint8))


def test_wrong_types_are_named() -> None:
    with pytest.raises(ShapeError, match="expected a uint8 array"):
        read_photo(np.zeros((64, 64, 3), np.float32))
    with pytest.raises(ShapeError, match="expected a uint8 array"):
        read_photo(np.zeros((3, 64, 64), np.uint8))
    with pytest.raises(InputError, match="got int"):
        read_photo(3)
    with pytest.raises(InputError, match="is 8×8; expected at least 16×16"):
        read_photo(np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(ShapeError, match="mask: expected a bool or uint8"):
        read_photo(person(), np.ones((64, 64), np.float32))


def test_grey_palette_and_sideways_pictures_are_read(tmp_path: Path) -> None:
    for mode in ("L", "P", "1"):
        Image.fromarray(person()).convert(mode).save(tmp_path / f"{mode}.png")
        assert read_photo(tmp_path / f"{mode}.png").rgb.shape == (64, 64, 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # lying on its side
    Image.fromarray(person(96, 64)).save(tmp_path / "x.jpg", exif=exif)
    assert read_photo(tmp_path / "x.jpg").rgb.shape == (96, 64, 3)


def test_a_picture_of_the_models_size_is_used_bit_for_bit() -> None:
    photo = read_photo(person())
    fitted = fit_to_model(photo, camera(64, 64), side_px=64)
    np.testing.assert_array_equal(fitted.rgb, photo.rgb)
    np.testing.assert_array_equal(fitted.camera.intrinsics, camera(64, 64).intrinsics)
    assert fitted.tensor.shape == (1, 4, 64, 64)
    assert fitted.tensor.dtype == np.float32
    assert fitted.tensor.max() <= 1


@pytest.mark.parametrize(("width", "height"), [(300, 200), (200, 300), (640, 640)])
def test_cropping_adapts_the_camera(width: int, height: int) -> None:
    """A marked pixel must be where the adapted camera projects its world point."""
    picture = np.zeros((height, width, 3), np.uint8)
    x, y = width // 2 + 20, height // 2 - 31
    picture[height // 2 - 60 : height // 2 + 60, width // 2 - 30 : width // 2 + 40, 2] = 60
    picture[y - 3 : y + 4, x - 3 : x + 4, 0] = 255
    view = camera(width, height)
    ray = np.linalg.inv(view.intrinsics) @ [x + 0.5, y + 0.5, 1]
    fitted = fit_to_model(read_photo(picture), view, side_px=128)
    mapped = fitted.camera.intrinsics @ ray
    rows, columns = np.mgrid[0:128, 0:128] + 0.5
    weight = fitted.rgb[..., 0].astype(float)
    centre = [(columns * weight).sum() / weight.sum(), (rows * weight).sum() / weight.sum()]
    np.testing.assert_allclose(centre, mapped[:2] / mapped[2], atol=0.05)
    share = (fitted.mask > 127).any(1).mean()
    assert 0.7 <= share <= 0.98


def test_a_large_photo_takes_little_more_memory_than_its_pixels() -> None:
    width, height = 3000, 64
    picture = np.full((height, width, 3), 90, np.uint8)
    tracemalloc.start()
    photo = Photo(picture, np.full((height, width), 255, np.uint8), "given")
    fitted = fit_to_model(photo, camera(width, height), side_px=64)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert fitted.camera.width == 64
    side = round(width / FILL_AIM)
    assert fitted.camera.intrinsics[0, 0] == pytest.approx(200 * 64 / side, rel=1e-3)
    assert peak < 3 * side**2 * 4


def test_shrinking_averages_areas() -> None:
    """Against the same picture enlarged until a part is whole pixels."""
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (30, 30, 3), dtype=np.uint8)
    mask = np.pad(np.full((28, 28), 255, np.uint8), 1)  # fills the picture: it is used whole
    fitted = fit_to_model(Photo(picture, mask, "given"), camera(30, 30), side_px=16)
    large = np.repeat(np.repeat(picture.astype(float), 16, 0), 16, 1)
    want = large.reshape(16, 30, 16, 30, 3).mean((1, 3))
    assert np.abs(fitted.rgb - want).max() <= 0.5 + 1e-9


def test_a_person_at_the_border_is_padded_with_black() -> None:
    picture = np.zeros((100, 200, 3), np.uint8)
    picture[0:100, 0:30] = 150
    fitted = fit_to_model(read_photo(picture), camera(200, 100), side_px=64)
    assert fitted.rgb.shape == (64, 64, 3)
    assert fitted.mask[:2].max() == 0


def test_a_fit_of_another_picture() -> None:
    with pytest.raises(InputError, match="was made for a 100×50 picture, the photo is 64×64"):
        fit_to_model(read_photo(person()), camera(100, 50), side_px=64)
    scaled = fit_to_model(read_photo(person()), camera(128, 128), side_px=64)
    assert scaled.camera.intrinsics[0, 0] == 100
