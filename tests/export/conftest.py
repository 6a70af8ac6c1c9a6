"""One export for all tests that only look at it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.export.tiny_models import export, tiny_stage2


@pytest.fixture(scope="session")
def bundle(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "gas-tiny"
    export(folder, tiny_stage2())
    return folder
