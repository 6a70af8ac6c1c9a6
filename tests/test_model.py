"""The model: load, policies, sessions and streams of a real (toy) avatar."""

from __future__ import annotations

import asyncio
import gc
import json
import shutil
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest

import gas_rt
from gas_rt import Avatar, Camera, GasRtWarning, Model, Pose, Request
from gas_rt.cameras import framing_camera
from gas_rt.errors import BackendError, BundleError, InputError, SessionError, ShapeError
from tests.toy_bundle import manifest_of, rewrite
from tests.toy_person import ToyPerson


def test_every_public_name_is_there() -> None:
    for name in gas_rt.__all__:
        assert getattr(gas_rt, name) is not None
    assert set(dir(gas_rt)) == set(gas_rt.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        gas_rt.nothing  # noqa: B018


def test_info_tells_requested_from_actual(toy_model: Model) -> None:
    info = json.loads(json.dumps(toy_model.info()))
    assert info["backend"] == {
        "requested": "auto",
        "actual": "openvino",
        "device": "cpu",
        "precision": "fp32",
        "plans": "on",
        "notes": [],
    }
    assert (info["bundle"], info["policies"], info["threads"]) == ("toy", ["field"], 2)
    assert gas_rt.info()["cpus"] >= 1


def test_unknown_policy_names_what_is_supported(toy_model: Model, avatar: Avatar) -> None:
    with pytest.raises(InputError, match=r"policy 'diagonal': bundle toy 0\.0\.1 supports field"):
        toy_model.session(avatar, policy="diagonal")


def test_a_bundle_may_name_policies_this_version_lacks(toy_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(toy_folder, tmp_path / "later")
    manifest = manifest_of(folder)
    manifest["policies"] = ["sequential"]
    rewrite(folder, manifest)
    with gas_rt.load(folder, threads=1) as model:
        assert model.policies == ()


@pytest.mark.parametrize("threads", [0, -1, 1.5, True, 10**6])
def test_bad_thread_budgets(toy_folder: Path, threads: int) -> None:
    with pytest.raises(InputError, match=r"threads: expected 1\.\.1024"):
        gas_rt.load(toy_folder, threads=threads)


def test_unknown_names(tmp_path: Path, toy_folder: Path) -> None:
    with pytest.raises(BundleError, match="'nobody': neither a shipped bundle"):
        gas_rt.load("nobody")
    with pytest.raises(BackendError, match="backend 'abacus': unknown"):
        gas_rt.load(toy_folder, "abacus")


def test_an_unknown_switch_is_named(monkeypatch: pytest.MonkeyPatch, toy_folder: Path) -> None:
    monkeypatch.setenv("GAS_RT_KERNEL", "numpy")
    with pytest.raises(InputError, match=r"GAS_RT_KERNEL: unknown; did you mean GAS_RT_KERNELS\?"):
        gas_rt.load(toy_folder)


def test_a_body_of_another_size_is_refused(toy_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(toy_folder, tmp_path / "wrong")
    manifest = manifest_of(folder)
    manifest["config"]["vertex_count"] = 6890
    rewrite(folder, manifest)
    with pytest.raises(BundleError, match="its body has 920 vertices, its graphs take 6890"):
        gas_rt.load(folder)


@pytest.mark.parametrize("mode", ["fast", "baked", "exact"])
def test_stream_gives_the_performers_pictures_in_order(
    toy_model: Model, avatar: Avatar, person: ToyPerson, mode: str
) -> None:
    requests = person.requests(5)
    frames = list(toy_model.stream(avatar, requests, mode=mode))  # type: ignore[arg-type]
    performer = toy_model.performer(avatar, mode=mode)  # type: ignore[arg-type]
    assert [frame.index for frame in frames] == list(range(5))
    for frame, request in zip(frames, requests, strict=True):
        expected = performer.picture(request.pose, request.camera)
        np.testing.assert_array_equal(frame.rgb, expected.rgb)
        np.testing.assert_array_equal(frame.alpha, expected.alpha)
        assert frame.request is request
        assert frame.level == "field"
        assert set(frame.timings.stages_ms) == {"body", "field"}
        assert frame.timings.age_ms > 0


def test_the_async_stream_gives_the_same(
    toy_model: Model, avatar: Avatar, person: ToyPerson
) -> None:
    requests = person.requests(4)

    async def collect() -> list[np.ndarray]:
        return [frame.rgb async for frame in toy_model.stream(avatar, requests)]

    frames = asyncio.run(collect())
    for rgb, frame in zip(frames, toy_model.stream(avatar, requests), strict=True):
        np.testing.assert_array_equal(rgb, frame.rgb)


def test_fast_is_close_to_baked(toy_model: Model, avatar: Avatar, person: ToyPerson) -> None:
    one = toy_model.performer(avatar, mode="fast").picture(person.pose, person.camera)
    two = toy_model.performer(avatar, mode="baked").picture(person.pose, person.camera)
    assert np.abs(one.rgb.astype(int) - two.rgb).max() <= 3


def test_frames_speak_dlpack(toy_model: Model, avatar: Avatar, person: ToyPerson) -> None:
    frame = next(iter(toy_model.stream(avatar, person.requests(1))))
    for array in (frame.rgb, frame.alpha):
        np.testing.assert_array_equal(np.from_dlpack(array), array)
        assert array.dtype == np.uint8
        assert array.flags.c_contiguous
    assert frame.rgb[frame.alpha == 0].max(initial=0) == 0


def test_a_live_session_pushes_and_polls(
    toy_model: Model, avatar: Avatar, person: ToyPerson
) -> None:
    with toy_model.session(avatar, fps=200) as session:
        assert session.poll() is None
        assert session.push(person.pose, person.camera)
        frame = session.wait(timeout_s=20)
        assert frame is not None
        assert frame.rgb.shape == (128, 128, 3)
        assert session.poll() is None
        assert session.stats().in_flight == 0
    with pytest.raises(SessionError, match="closed"):
        session.push(person.pose, person.camera)


def blind_cameras(person: ToyPerson) -> list[Camera]:
    """Inside the body, with it behind, and far to the side."""
    view = person.camera
    k, r = view.intrinsics, view.rotation
    return [
        Camera(k, r, np.array(t, np.float32), 48, 48) for t in ([0, 0, -4], [300, 0, 3], [0, 0, -1])
    ]


def test_a_body_out_of_view_is_an_empty_frame(
    toy_model: Model, avatar: Avatar, person: ToyPerson
) -> None:
    for mode in ("fast", "exact"):
        performer = toy_model.performer(avatar, mode=mode)  # type: ignore[arg-type]
        for camera in blind_cameras(person):
            picture = performer.picture(person.pose, camera)
            assert picture.alpha.max() == 0
            assert picture.rgb.max() == 0


def test_a_camera_inside_the_body_renders_something_finite(
    toy_model: Model, avatar: Avatar, person: ToyPerson
) -> None:
    inside = Camera(
        person.camera.intrinsics, person.camera.rotation, np.zeros(3, np.float32), 48, 48
    )
    for mode in ("fast", "baked", "exact"):
        picture = toy_model.performer(avatar, mode=mode).picture(person.pose, inside)  # type: ignore[arg-type]
        assert picture.rgb.shape == (48, 48, 3)


def test_an_untrained_camera_warns_once(
    toy_model: Model, avatar: Avatar, person: ToyPerson
) -> None:
    far = framing_camera(
        toy_model.performer(avatar).pose(person.pose).body.vertices, side_px=48, fill=0.1
    )
    with toy_model.session(avatar) as session:
        with pytest.warns(GasRtWarning, match="fill of the camera is 0.1"):
            session.push(person.pose, far)
        session.push(person.pose, far)


def test_bad_arguments_are_named(toy_model: Model, avatar: Avatar, person: ToyPerson) -> None:
    with pytest.raises(InputError, match="mode: expected one of"):
        toy_model.session(avatar, mode="pretty")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="steps: expected a whole number of at least 1, got 0"):
        toy_model.stream(avatar, [], steps=0)
    with pytest.raises(InputError, match="requests: expected an iterable"):
        toy_model.stream(avatar, 7)  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="NaN"):
        Request(Pose(np.full((24, 3), np.nan)), person.camera)
    assert list(toy_model.stream(avatar, [])) == []


def test_closing_the_model_closes_its_sessions(toy_folder: Path, avatar: Avatar) -> None:
    model = gas_rt.load(toy_folder, threads=1, precision="fp32")
    session = model.session(avatar)
    model.close()
    model.close()
    assert session.closed
    with pytest.raises(SessionError, match="the model is closed"):
        model.session(avatar)


def test_a_session_that_cannot_write_its_trace_keeps_nothing_open(
    toy_folder: Path, avatar: Avatar, tmp_path: Path
) -> None:
    model = gas_rt.load(toy_folder, threads=1, precision="fp32")
    folders = [tmp_path / name for name in "abc"]
    for folder in folders:
        folder.mkdir()
    graph = weakref.ref(model.parts.warm_graph("nerf_encoder"))
    sessions = [model.session(avatar, trace=folder / "t.json") for folder in folders]
    for folder in folders:
        folder.rmdir()
    with pytest.raises(gas_rt.FileError, match=r"t\.json: cannot write"):
        model.close()
    assert all(session.closed for session in sessions)
    assert not model._sessions
    gc.collect()
    assert graph() is None


def test_a_session_that_fails_to_close_masks_no_error_of_the_with_block(
    toy_folder: Path, avatar: Avatar, monkeypatch: pytest.MonkeyPatch
) -> None:
    def use(trouble: Exception | None) -> None:
        with gas_rt.load(toy_folder, threads=1, precision="fp32") as model:
            session = model.session(avatar)
            monkeypatch.setattr(session._pipeline._lanes.stage(0), "close", lambda: 1 / 0)
            if trouble is not None:
                raise trouble

    with pytest.raises(SessionError, match="failed to close: ZeroDivisionError"):
        use(None)
    with (
        pytest.warns(GasRtWarning, match="closing failed too: SessionError: .*ZeroDivision"),
        pytest.raises(KeyError, match="of the user"),
    ):
        use(KeyError("of the user"))


def test_a_model_that_is_closed_while_a_session_loads_keeps_none(
    toy_folder: Path, avatar: Avatar, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = gas_rt.load(toy_folder, threads=1, precision="fp32")
    before = threading.active_count()
    monkeypatch.setattr(model, "_warm", lambda *args, **options: model.close())
    with pytest.raises(SessionError, match="the model is closed"):
        model.session(avatar)
    assert threading.active_count() == before
    assert not model._sessions


def test_a_closed_model_holds_no_graph(toy_folder: Path, person: ToyPerson) -> None:
    with gas_rt.load(toy_folder, threads=1, precision="fp32") as model:
        graph = weakref.ref(model.parts.warm_graph("nerf_encoder"))
        assert graph() is not None
    gc.collect()
    assert graph() is None
