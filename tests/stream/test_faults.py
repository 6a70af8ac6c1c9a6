"""Faults at every seam: the right error or the right frame, nothing leaked, the next one works."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gas_rt import Avatar, Camera, Model, Pose, SessionError
from gas_rt.core import Frame, OnLate
from gas_rt.stream.session import Session
from tests.toy_person import ToyPerson

PATIENCE_S = 20.0
GRAPHS = ("conditioner", "denoiser", "vae_decoder")
# Where a failing graph shows itself.
STAGES = {"conditioner": "body+condition", "denoiser": "denoise", "vae_decoder": "decode"}


def handles() -> tuple[int, set[str]]:
    """Open descriptors, and the threads of sessions."""
    threads = {t.name for t in threading.enumerate() if t.name.startswith("gas-rt-")}
    return len(os.listdir("/proc/self/fd")), threads


class Faults:
    """Stands between a session and the model's graphs."""

    def __init__(self, model: Model) -> None:
        self._load = model.parts.warm_graph
        self.calls: dict[str, int] = {}
        self.happens: Callable[[str, int, dict[str, Any]], None] = lambda name, n, out: None

    def __call__(self, name: str) -> Any:
        graph, faults = self._load(name), self

        class Seam:
            spec, report = graph.spec, graph.report

            def run(self, inputs: dict[str, Any]) -> dict[str, Any]:
                out = graph.run(inputs)
                kind = name.partition("_nocfg")[0]
                faults.calls[kind] = faults.calls.get(kind, 0) + 1
                faults.happens(kind, faults.calls[kind], out)
                return out

        return Seam()


@pytest.fixture
def faults(diffusion_model: Model, monkeypatch: pytest.MonkeyPatch) -> Faults:
    found = Faults(diffusion_model)
    monkeypatch.setattr(diffusion_model.parts, "warm_graph", found)
    return found


def used(session: Session, requests: list[Any]) -> list[Frame]:
    """Frames of requests that are pushed one by one, each waited for a moment."""
    frames = []
    for request in requests:
        session.push_wait_request(request, timeout_s=PATIENCE_S)
        if (frame := session.wait(timeout_s=0.02)) is not None:
            frames.append(frame)
    session.finish()
    return frames + list(session)


@pytest.mark.parametrize("nth", [2, 5])  # 1 of the conditioner is the anchor's, before it opens
@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("on_late", ["freshest", "paced", "lossless"])
def test_the_nth_call_of_an_engine_fails(
    diffusion_model: Model,
    diffusion_avatar: Avatar,
    person: ToyPerson,
    faults: Faults,
    on_late: OnLate,
    graph: str,
    nth: int,
) -> None:
    requests = person.requests(12, side=128)
    before = handles()
    # A ladder would leave a slow machine's denoiser alone before the call that is to fail.
    options = {"on_late": on_late, "ladder": False}

    def out_of_order(name: str, n: int, out: dict[str, Any]) -> None:
        if (name, n) == (graph, nth):
            raise RuntimeError("out of order")

    def use() -> list[Frame]:
        with diffusion_model.session(diffusion_avatar, **options) as session:  # type: ignore[arg-type]
            return used(session, requests * 4)

    faults.happens = out_of_order
    match = rf"stage '{STAGES[graph].replace('+', '[+]')}' failed on .*RuntimeError: out of order"
    with pytest.raises(SessionError, match=match):
        use()
    assert handles() == before
    faults.happens = lambda name, n, out: None
    frames = use()  # the next session works
    assert frames
    assert handles() == before


@pytest.mark.parametrize("graph", ["denoiser", "vae_decoder"])
def test_nan_in_a_live_session_costs_frames_of_the_field_and_counts_stay_exact(
    diffusion_model: Model,
    diffusion_avatar: Avatar,
    person: ToyPerson,
    faults: Faults,
    graph: str,
) -> None:
    def spoil(name: str, n: int, out: dict[str, Any]) -> None:
        if (name, n) == (graph, 3):
            for array in out.values():
                array.reshape(-1)[0] = np.nan

    faults.happens = spoil
    with diffusion_model.session(diffusion_avatar, on_late="lossless") as session:
        frames = used(session, person.requests(10, side=128))
        stats = session.stats()
    assert [frame.index for frame in frames] == list(range(10))
    assert 1 <= stats.levels["field"] <= 3
    assert stats.levels["full"] == 10 - stats.levels["field"]
    assert stats.accepted == stats.delivered == 10


@pytest.mark.filterwarnings("ignore::gas_rt.GasRtWarning")
@pytest.mark.parametrize("policy", ["field", "diagonal"])
def test_a_camera_that_loses_the_body_shows_nothing_and_finds_it_again(
    diffusion_model: Model, diffusion_avatar: Avatar, person: ToyPerson, policy: str
) -> None:
    here = person.camera.resized(width=128, height=128)
    away = Camera(here.intrinsics, here.rotation, np.array([300, 0, 3], np.float32), 128, 128)
    cameras = [here, here, away, away, away, here, here, here]
    with diffusion_model.session(diffusion_avatar, policy=policy, on_late="lossless") as session:
        for camera in cameras:
            session.push_wait(person.pose, camera, timeout_s=PATIENCE_S)
        session.finish()
        frames = list(session)
    assert len(frames) == 8
    coverage = [float(frame.alpha.mean()) for frame in frames]
    if policy == "field":
        assert coverage[2:5] == [0.0] * 3
    assert min(coverage[0], coverage[7]) > 10


@pytest.mark.filterwarnings("ignore::gas_rt.GasRtWarning")
def test_a_pose_far_away_or_out_of_joint_makes_a_frame(
    diffusion_model: Model, diffusion_avatar: Avatar, person: ToyPerson
) -> None:
    wild = Pose(np.full((24, 3), 9.0), np.array([0, 0, 1e4]))
    camera = person.camera.resized(width=128, height=128)
    with diffusion_model.session(diffusion_avatar, on_late="lossless") as session:
        for pose in (person.pose, wild, person.pose):
            session.push_wait(pose, camera, timeout_s=PATIENCE_S)
        session.finish()
        assert [frame.index for frame in session] == [0, 1, 2]


def test_sessions_opened_and_closed_at_any_moment_leave_nothing(
    diffusion_model: Model, diffusion_avatar: Avatar, person: ToyPerson
) -> None:
    requests = person.requests(4, side=128)
    with diffusion_model.session(diffusion_avatar) as session:
        session.push_request(requests[0])
    before = handles()
    for k in range(12):
        session = diffusion_model.session(diffusion_avatar, resample=k % 2 == 1, fps=100)
        for request in requests[: k % 5]:
            session.push_request(request)
        if k % 3 == 1:
            session.wait(timeout_s=PATIENCE_S)
        if k % 4 == 2:
            session.reset()
        session.close()
        assert session.stats().in_flight == 0
    assert handles() == before
    assert diffusion_model._sessions == set()
