"""Fixtures of the reference's tests: the bundled body, and shards of small people."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from small_people import ROOT, shard

from gas_rt.body import BodyModel


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Small tensors: torch's threads would wait for each other more than they work."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def body() -> BodyModel:
    return BodyModel.open(ROOT / "engines" / "gas-mini" / "body.npz")


@pytest.fixture(scope="session")
def shards(body: BodyModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one training and one validation shard of three people each."""
    folder = tmp_path_factory.mktemp("shards")
    for split, first in (("train", 0), ("val", 900_000)):
        np.savez(folder / f"{split}-00000.npz", **shard(body, range(first, first + 3)))
    return folder
