"""Warm-up: what is loaded, what is told of it, and that it can be ended without harm."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import gas_rt
from gas_rt import Avatar, BuildCancelledError, InputError, Model
from gas_rt.errors import SessionError
from tests.toy_person import NO_BAKE, ToyPerson

LIVE = {"conditioner", "vae_decoder", "denoiser", "denoiser_nocfg"}


@pytest.fixture
def cold(diffusion_folder: Path, tmp_path: Path) -> Iterator[Model]:
    """The toy bundle with stage 2, none of whose graphs is loaded or kept."""
    plans = tmp_path / "plans"
    with gas_rt.load(
        diffusion_folder, "openvino", threads=1, precision="fp32", plans=plans
    ) as model:
        yield model


class Told:
    """A progress that keeps what it is told, and may do something at a graph."""

    def __init__(self, at: str = "", do: Any = None) -> None:
        self.shares: list[float] = []
        self.doing: list[str] = []
        self._at, self._do = at, do

    def __call__(self, share: float, doing: str) -> None:
        self.shares.append(share)
        self.doing.append(doing)
        if self._at and self._at in doing:
            self._do()


def test_it_tells_what_it_does_and_how_far_it_is(cold: Model) -> None:
    told = Told()
    cold.warm_up(progress=told)
    assert set(cold.parts._graphs) == cold.parts._warm == LIVE
    assert told.shares == sorted(told.shares)
    assert (told.shares[0], told.shares[-1], told.doing[-1]) == (0.0, 1.0, "done")
    for name in LIVE:
        assert {f"loading {name}", f"compiling {name}", f"running {name} once"} <= set(told.doing)
    again = Told()
    cold.warm_up(progress=again)
    assert not [doing for doing in again.doing if "compiling" in doing]


def test_policies_and_enrolment_say_which_graphs(cold: Model) -> None:
    cold.warm_up(["field"])
    assert not cold.parts._graphs
    cold.warm_up(["field", "parity"], enroll=True)
    enrolment = {"nerf_encoder", "nerf_field", "vae_encoder", "image_encoder"}
    clip = {"conditioner", "vae_decoder", "denoiser_clip", "denoiser_nocfg_clip"}
    assert set(cold.parts._graphs) == enrolment | clip
    assert cold.parts._warm == clip  # the field's teacher takes thousands of points: not run
    with pytest.raises(InputError, match="policy 'magic'"):
        cold.warm_up(["magic"])


def test_a_bundle_without_stage_2_needs_nothing_for_a_session(toy_folder: Path) -> None:
    with gas_rt.load(toy_folder, "openvino", threads=1, precision="fp32", plans="off") as model:
        told = Told()
        model.warm_up(progress=told)
        assert told.doing == ["done"]
        model.warm_up(enroll=True)
        assert set(model.parts._graphs) == {"nerf_encoder", "nerf_field"}
    with pytest.raises(SessionError, match="the model is closed"):
        model.warm_up()


@pytest.mark.parametrize("at", ["loading denoiser", "compiling denoiser", "running conditioner"])
def test_a_cancelled_warm_up_leaves_the_model_usable(
    cold: Model, diffusion_avatar: Avatar, person: ToyPerson, at: str
) -> None:
    cancel = threading.Event()
    with pytest.raises(BuildCancelledError, match="cancelled"):
        cold.warm_up(progress=Told(at, cancel.set), cancel=cancel)
    assert len(cold.parts._graphs) < len(LIVE)
    with pytest.raises(BuildCancelledError, match="warm-up was cancelled before loading"):
        cold.warm_up(cancel=cancel)
    frames = list(cold.stream(diffusion_avatar, person.requests(2, side=128)))
    assert [frame.level for frame in frames] == ["full", "full"]


def test_it_can_be_cancelled_from_another_thread(cold: Model) -> None:
    cancel, loading = threading.Event(), threading.Event()
    go_on = threading.Event()

    def hold() -> None:
        loading.set()
        assert go_on.wait(20)

    found: list[BaseException] = []

    def warm() -> None:
        try:
            cold.warm_up(progress=Told("loading vae_decoder", hold), cancel=cancel)
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=warm)
    thread.start()
    assert loading.wait(20)
    cancel.set()
    go_on.set()
    thread.join(20)
    assert [type(error) for error in found] == [BuildCancelledError]
    cold.warm_up()  # nothing of the cancel is left


def test_another_threads_builds_are_not_cancelled_and_not_told(cold: Model) -> None:
    cancel = threading.Event()
    other: list[BaseException] = []

    def enrol() -> None:
        try:
            cold.warm_up(["field"], enroll=True)
        except BaseException as error:
            other.append(error)

    thread = threading.Thread(target=enrol)
    told = Told("loading denoiser", lambda: (cancel.set(), thread.start()))
    with pytest.raises(BuildCancelledError):
        cold.warm_up(progress=told, cancel=cancel)
    thread.join(20)
    assert not other
    assert {"nerf_encoder", "nerf_field"} <= set(cold.parts._graphs)
    assert not [doing for doing in told.doing if "nerf" in doing]


def test_a_session_opens_with_progress_and_can_be_cancelled(
    cold: Model, diffusion_avatar: Avatar
) -> None:
    cancel = threading.Event()
    before = threading.active_count()
    with pytest.raises(BuildCancelledError):
        cold.session(
            diffusion_avatar, progress=Told("loading vae_decoder", cancel.set), cancel=cancel
        )
    assert threading.active_count() == before
    assert not cold._sessions
    told = Told()
    with cold.session(diffusion_avatar, progress=told):
        assert told.shares[-1] == 1.0
    with pytest.raises(InputError, match=r"cancel: expected a threading\.Event, got True"):
        cold.session(diffusion_avatar, cancel=True)  # type: ignore[arg-type]


def test_an_avatar_can_be_enrolled_after_a_cancel(cold: Model, person: ToyPerson) -> None:
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(BuildCancelledError):
        cold.warm_up(enroll=True, cancel=cancel)
    assert cold.enroll(person.rgb, person.fit, person.mask, bake=NO_BAKE).latent is not None
