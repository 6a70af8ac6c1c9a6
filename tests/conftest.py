"""Shared fixtures and the switches of the test run."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from gas_rt import Avatar, Model
    from tests.toy_person import ToyPerson


# The same examples in every run: a test that fails must fail again.
settings.register_profile("gas-rt", derandomize=True, deadline=None)
settings.load_profile("gas-rt")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run tests marked slow")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    has_gpu = shutil.which("nvidia-smi") is not None and (
        subprocess.run(["nvidia-smi", "-L"], capture_output=True, check=False).returncode == 0
    )
    for item in items:
        if "slow" in item.keywords and not config.getoption("--slow"):
            item.add_marker(pytest.mark.skip(reason="slow: run with --slow"))
        if "gpu" in item.keywords and not has_gpu:
            item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU, none is visible"))


@pytest.fixture(scope="session", autouse=True)
def plans_of_this_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep what the tests compile, and the secret that seals it, out of the user's home."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(home / "cache"))
        patch.setenv("XDG_STATE_HOME", str(home / "state"))
        patch.delenv("GAS_RT_PLANS", raising=False)
        patch.delenv("GAS_RT_PLANS_GIB", raising=False)
        yield home


@pytest.fixture(scope="session")
def toy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete bundle with tiny graphs; tests that damage it copy it first."""
    from tests.toy_person import toy_bundle_folder

    return toy_bundle_folder(tmp_path_factory.mktemp("bundles") / "toy")


@pytest.fixture(scope="session")
def toy_model(toy_folder: Path) -> Iterator[Model]:
    """The toy bundle, loaded in fp32."""
    import gas_rt

    with gas_rt.load(toy_folder, threads=2, precision="fp32") as model:
        yield model


@pytest.fixture(scope="session")
def person() -> ToyPerson:
    """Somebody to enrol."""
    from tests.toy_person import toy_person

    return toy_person()


@pytest.fixture(scope="session")
def avatar(toy_model: Model, person: ToyPerson) -> Avatar:
    """The toy person, enrolled in about a second."""
    from tests.toy_person import QUICK_BAKE

    return toy_model.enroll(person.rgb, person.fit, person.mask, bake=QUICK_BAKE)


@pytest.fixture(scope="session")
def diffusion_folder(toy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy bundle with stage 2, which generates what the field's render lacks."""
    from tests.toy_diffusion import add_diffusion

    return add_diffusion(
        Path(shutil.copytree(toy_folder, tmp_path_factory.mktemp("bundles") / "toy2"))
    )


@pytest.fixture(scope="session")
def diffusion_model(diffusion_folder: Path) -> Iterator[Model]:
    """That bundle, loaded in fp32."""
    import gas_rt

    # Named, since `auto` would measure, and a test that fails must fail again.
    with gas_rt.load(diffusion_folder, "openvino", threads=2, precision="fp32") as model:
        yield model


@pytest.fixture(scope="session")
def diffusion_avatar(diffusion_model: Model, person: ToyPerson) -> Avatar:
    """The toy person, enrolled with it."""
    from tests.toy_person import QUICK_BAKE

    return diffusion_model.enroll(person.rgb, person.fit, person.mask, bake=QUICK_BAKE)
