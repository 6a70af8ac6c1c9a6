"""The noise of a frame: what it is made of, and what it does not depend on."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from gas_rt.diffusion import ANCHOR_INDEX, NOISE_GENERATOR, frame_noise
from gas_rt.errors import InputError

WORD = 2**64


def philox(key: tuple[int, int], counter: int) -> list[int]:
    """Philox4x64-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3")."""
    c = [counter % WORD, 0, 0, 0]
    k = list(key)
    for _ in range(10):
        high_0, low_0 = divmod(0xD2E7470EE14C6C93 * c[0], WORD)
        high_1, low_1 = divmod(0xCA5A826395121157 * c[2], WORD)
        c = [high_1 ^ c[1] ^ k[0], low_1, high_0 ^ c[3] ^ k[1], low_0]
        k = [(k[0] + 0x9E3779B97F4A7C15) % WORD, (k[1] + 0xBB67AE8584CAA73B) % WORD]
    return c


def by_hand(seed: int, index: int, count: int) -> list[float]:
    words: list[int] = []
    while len(words) < count + 1:
        # NumPy advances the counter before it draws.
        words += philox((seed, index % WORD), len(words) // 4 + 1)
    normals: list[float] = []
    for a, b in zip(words[0::2], words[1::2], strict=True):
        u, turn = ((a >> 11) + 1) / 2**53, ((b >> 11) + 1) / 2**53
        radius = math.sqrt(-2 * math.log(u))
        normals += [radius * math.cos(2 * math.pi * turn), radius * math.sin(2 * math.pi * turn)]
    return normals[:count]


@pytest.mark.parametrize(("seed", "index"), [(0, 0), (42, 17), (2**64 - 1, 5), (3, ANCHOR_INDEX)])
def test_it_is_philox_and_box_muller(seed: int, index: int) -> None:
    found = frame_noise(seed, index, shape=(1, 3, 5))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.reshape(-1), by_hand(seed, index, 15), rtol=1e-6, atol=1e-7)


def test_golden_values_of_recordings() -> None:
    """A change here breaks replay of recordings: give the generator another name."""
    assert NOISE_GENERATOR == "philox4x64-10/box-muller-1"
    expected = [0.696520059, -0.614988461, 1.040143240, -0.316613259]
    np.testing.assert_allclose(frame_noise(42, 7, shape=(4,)), expected, rtol=1e-6)


def test_frames_and_seeds_differ_and_calls_do_not() -> None:
    one = frame_noise(1, 5, shape=(4, 4))
    np.testing.assert_array_equal(one, frame_noise(1, 5, shape=(4, 4)))
    assert not np.array_equal(one, frame_noise(1, 6, shape=(4, 4)))
    assert not np.array_equal(one, frame_noise(2, 5, shape=(4, 4)))


def test_a_period_of_20_repeats_the_releases_tile() -> None:
    for index in (0, 7, 19):
        tile = frame_noise(9, index, shape=(2, 3))
        for later in (index + 20, index + 140):
            np.testing.assert_array_equal(tile, frame_noise(9, later, shape=(2, 3), period=20))


def test_it_is_normal() -> None:
    values = frame_noise(5, 0, shape=(16, 32, 32))
    assert abs(values.mean()) < 4 / math.sqrt(values.size)
    assert abs(values.std() - 1) < 0.02
    assert abs((np.abs(values) < 1).mean() - 0.6827) < 0.01
    frames = np.stack([frame_noise(5, i, shape=(64,)) for i in range(64)])
    assert np.abs(np.corrcoef(frames) - np.eye(64)).max() < 0.6


@pytest.mark.parametrize(
    ("seed", "index", "period"),
    [
        (-1, 0, None),
        (2**64, 0, None),
        (0, 2**63, None),
        (0.5, 0, None),
        (0, True, None),
        (0, 0, 0),
        (0, 0, 2.0),
    ],
)
def test_bad_input(seed: Any, index: Any, period: Any) -> None:
    with pytest.raises(InputError, match="frame_noise"):
        frame_noise(seed, index, shape=(2,), period=period)
