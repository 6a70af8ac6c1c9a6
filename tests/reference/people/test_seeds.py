from __future__ import annotations

import numpy as np
import pytest

from gas_rt.errors import InputError
from reference.people import seeds


def test_splits_are_disjoint_and_cover_everyone() -> None:
    assert list(seeds.TRAIN)[-1] + 1 == seeds.VALIDATION.start
    assert seeds.VALIDATION.stop == seeds.TEST.start
    assert len(seeds.TRAIN) + len(seeds.VALIDATION) + len(seeds.TEST) == 1_000_000


def test_streams_differ_by_name_and_seed_and_repeat() -> None:
    first = seeds.generator(3, "hair").random(4)
    assert np.array_equal(first, seeds.generator(3, "hair").random(4))
    assert not np.array_equal(first, seeds.generator(3, "face").random(4))
    assert not np.array_equal(first, seeds.generator(4, "hair").random(4))


@pytest.mark.parametrize("seed", [-1, 1_000_000])
def test_a_seed_outside_the_ranges_is_refused(seed: int) -> None:
    with pytest.raises(InputError, match=r"expected 0\.\.999999"):
        seeds.generator(seed, "hair")
