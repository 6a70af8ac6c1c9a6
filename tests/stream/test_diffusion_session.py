"""The streaming contract where a policy holds frames back: end, reset, late rules, errors."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import gas_rt
from gas_rt import Avatar, Camera, FrameStream, GasRtWarning, Model, Pose, Request
from gas_rt.cameras import framing_camera
from gas_rt.errors import InputError, SessionError
from gas_rt.stream import DiffusionRun, Session, SessionConfig, diffusion_stages
from gas_rt.stream.assembly import frames_at_once
from gas_rt.stream.play import play, recorder_for
from tests.toy_diffusion import CLIP
from tests.toy_person import ToyPerson

POLICIES = ("diagonal", "sequential", "parity")
PATIENCE_S = 20.0
STEPS = 3


@pytest.fixture
def requests(person: ToyPerson) -> list[Request]:
    return person.requests(9, side=128)


class CountedGraphs:
    """The model's graphs, counting their calls; `spoil` may change an answer."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.calls: dict[str, int] = {}
        self.spoil: Callable[[str, dict[str, Any]], None] = lambda name, out: None
        self.hold: threading.Semaphore | None = None

    def __call__(self, name: str) -> Any:
        graph = self._model.parts.graph(name)
        counts = self

        class Counted:
            spec, report = graph.spec, graph.report

            def run(self, inputs: dict[str, Any]) -> dict[str, Any]:
                if counts.hold is not None and name.startswith("denoiser"):
                    assert counts.hold.acquire(timeout=PATIENCE_S)
                counts.calls[name] = counts.calls.get(name, 0) + 1
                out = graph.run(inputs)
                counts.spoil(name, out)
                return out

        return Counted()

    def session(
        self, avatar: Avatar, policy: str, *, render: Any = None, bundle: Any = None, **config: Any
    ) -> Session:
        performer = self._model.performer(avatar)
        run = DiffusionRun(policy, STEPS, seed=2)
        stages = diffusion_stages(
            avatar,
            performer.rig,
            render or performer.render,
            config=bundle or self._model.parts.bundle.config,
            graph=self,
            run=run,
            threads=1,
        )
        self.calls.clear()
        settings = SessionConfig(policy=policy, steps=STEPS, on_late="lossless", **config)
        return Session(stages, settings, backend=self._model.backend)


@pytest.fixture
def graphs(diffusion_model: Model) -> CountedGraphs:
    return CountedGraphs(diffusion_model)


# ---- what makes the frames ------------------------------------------------------------------


def test_the_bundle_says_what_there_is(diffusion_model: Model, diffusion_avatar: Avatar) -> None:
    assert diffusion_model.policies == ("field", *POLICIES)
    assert diffusion_model.default_policy == "diagonal"
    assert diffusion_model.steps() == (1, 3)  # 1 is a rung
    assert diffusion_model.steps("parity") == (2, 3)
    assert diffusion_model.steps("field") == ()
    with diffusion_model.session(diffusion_avatar, seed=5) as session:
        config = session.config
        assert (config.policy, config.steps, config.seed) == ("diagonal", 3, 5)


def test_the_field_alone_stays(
    diffusion_model: Model, diffusion_avatar: Avatar, requests: list[Request]
) -> None:
    performer = diffusion_model.performer(diffusion_avatar)
    for frame in diffusion_model.stream(diffusion_avatar, requests[:2], policy="field"):
        expected = performer.picture(frame.request.pose, frame.request.camera)
        np.testing.assert_array_equal(frame.rgb, expected.rgb)
        assert frame.level == "field"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"policy": "magic"}, "policy 'magic': bundle toy 0.0.1 supports field, diagonal"),
        ({"policy": "diagonal", "steps": 4}, "steps: policy 'diagonal' .* takes 1, 3, got 4"),
        ({"policy": "parity", "steps": 0}, "steps: expected a whole number of at least 1, got 0"),
        ({"steps": 2.5}, "steps: expected a whole number"),
        ({"seed": -1}, r"seed: expected a whole number of at least 0 and at most 2\^64−1, got -1"),
        ({"seed": 2**64}, r"at most 2\^64−1, got 18446744073709551616"),
        ({"noise_period": 0}, "noise_period: expected a whole number of at least 1"),
        ({"policy": "parity"}, "policy 'parity': needs the whole clip, on_late 'freshest'"),
        ({"policy": "parity", "on_late": "paced"}, "on_late 'paced' drops poses; use 'lossless'"),
    ],
)
def test_what_the_bundle_lacks_is_named(
    diffusion_model: Model, diffusion_avatar: Avatar, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        diffusion_model.session(diffusion_avatar, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"policy": "magic"}, "policy 'magic': bundle toy 0.0.1 supports field, diagonal"),
        ({"policy": "sequential", "steps": 2}, "policy 'sequential' .* takes 1, 3, got 2"),
        ({"policy": "parity", "on_late": "freshest"}, "policy 'parity': needs the whole clip"),
        ({"task": "dance"}, "task: expected one of"),
    ],
)
def test_a_stream_names_it_before_it_reads_a_request(
    diffusion_model: Model,
    diffusion_avatar: Avatar,
    requests: list[Request],
    options: dict[str, Any],
    message: str,
) -> None:
    source = iter(requests)
    before = set(diffusion_model._sessions)
    with pytest.raises(InputError, match=message):
        diffusion_model.stream(diffusion_avatar, source, **options)
    assert next(source) is requests[0]
    assert diffusion_model._sessions == before


def test_an_avatar_without_stage_2_is_refused(diffusion_model: Model, avatar: Avatar) -> None:
    with pytest.raises(InputError, match="was enrolled with bundle"):
        diffusion_model.session(avatar)


# ---- what is asked for ------------------------------------------------------------------------


def test_a_camera_that_is_not_square_is_refused_at_the_push(
    diffusion_model: Model, diffusion_avatar: Avatar, person: ToyPerson
) -> None:
    wide = Camera(
        person.camera.intrinsics, person.camera.rotation, person.camera.translation, 160, 128
    )
    with diffusion_model.session(diffusion_avatar) as session:
        with pytest.raises(InputError, match=r"camera: is 160×128, policy 'diagonal' makes square"):
            session.push(person.pose, wide)
        assert session.push(person.pose, person.camera)
    with diffusion_model.session(diffusion_avatar, policy="field") as session:
        assert session.push(person.pose, wide)


def test_an_untrained_camera_warns(
    diffusion_model: Model, diffusion_avatar: Avatar, person: ToyPerson
) -> None:
    performer = diffusion_model.performer(diffusion_avatar)
    far = framing_camera(performer.pose(person.pose).body.vertices, side_px=48, fill=0.1)
    with (
        diffusion_model.session(diffusion_avatar) as session,
        pytest.warns(GasRtWarning, match="fill of the camera is 0.1"),
    ):
        session.push(person.pose, far)
    for policy in POLICIES:
        pair = [Request(person.pose, far)] * 2
        stream = diffusion_model.stream(diffusion_avatar, pair, policy=policy)
        with pytest.warns(GasRtWarning, match="fill of the camera is 0.1"):
            frames = list(stream)
        assert len(frames) == 2


@pytest.mark.parametrize("side", [48, 256])
def test_frames_have_the_requests_size(
    diffusion_model: Model, diffusion_avatar: Avatar, person: ToyPerson, side: int
) -> None:
    small = list(diffusion_model.stream(diffusion_avatar, person.requests(2, side=128)))
    other = list(diffusion_model.stream(diffusion_avatar, person.requests(2, side=side)))
    for one, two in zip(small, other, strict=True):
        assert two.rgb.shape == (side, side, 3)
        assert two.alpha.shape == (side, side)
        assert two.rgb.flags.c_contiguous
        assert abs(float(one.rgb.mean()) - float(two.rgb.mean())) < 2


@pytest.mark.parametrize("policy", ["field", "diagonal"])
def test_a_tracker_may_fill_its_buffers_again(
    diffusion_model: Model, diffusion_avatar: Avatar, person: ToyPerson, policy: str
) -> None:
    views = [request.camera for request in person.requests(4, side=128)]
    turns = np.linspace(0, 0.9, len(views), dtype=np.float32)

    def posed(turn: float) -> np.ndarray:
        rotations = person.pose.rotations.copy()
        rotations[1:6] += turn
        return rotations

    def one_buffer() -> Iterator[Request]:
        buffers = np.empty((24, 3), np.float32), np.empty((3, 3), np.float32)
        for turn, view in zip(turns, views, strict=True):
            buffers[0][:], buffers[1][:] = posed(turn), view.rotation
            camera = Camera(view.intrinsics, buffers[1], view.translation, 128, 128)
            yield Request(Pose(buffers[0]), camera)

    kept = [Request(Pose(posed(turn)), view) for turn, view in zip(turns, views, strict=True)]
    for one, two in zip(
        diffusion_model.stream(diffusion_avatar, one_buffer(), policy=policy),
        diffusion_model.stream(diffusion_avatar, kept, policy=policy),
        strict=True,
    ):
        np.testing.assert_array_equal(one.rgb, two.rgb)


@pytest.mark.parametrize("policy", POLICIES)
def test_zero_frames_are_an_error_and_one_is_not(
    diffusion_model: Model, diffusion_avatar: Avatar, requests: list[Request], policy: str
) -> None:
    with pytest.raises(InputError, match=f"ended with zero frames, policy '{policy}' needs"):
        list(diffusion_model.stream(diffusion_avatar, [], policy=policy))

    async def collect() -> list[int]:
        async def none() -> Any:
            for request in requests[:0]:
                yield request

        stream = diffusion_model.stream(diffusion_avatar, none(), policy=policy)
        return [frame.index async for frame in stream]

    with pytest.raises(InputError, match="zero frames"):
        asyncio.run(collect())
    (frame,) = diffusion_model.stream(diffusion_avatar, requests[:1], policy=policy)
    assert (frame.index, frame.level) == (0, "full")


# ---- how many, in which order, when -----------------------------------------------------------


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("source", ["push", "async", "play", "bursts"])
def test_frames_do_not_depend_on_how_the_requests_came(
    diffusion_model: Model,
    diffusion_avatar: Avatar,
    requests: list[Request],
    policy: str,
    source: str,
) -> None:
    expected = list(diffusion_model.stream(diffusion_avatar, requests, policy=policy, seed=2))
    session = diffusion_model.session(
        diffusion_avatar, policy=policy, seed=2, task="pose", on_late="lossless"
    )

    async def live() -> Any:
        for request in requests:
            yield request
            await asyncio.sleep(0)

    async def collect() -> list[gas_rt.Frame]:
        return [frame async for frame in FrameStream(session, live())]

    def pushed(pause: int) -> Iterator[gas_rt.Frame]:
        with session:
            for k, request in enumerate(requests):
                while not session.push_request(request):
                    session.wait_to_push()
                    if (frame := session.poll()) is not None:
                        yield frame
                if k % pause == 0 and (frame := session.wait(timeout_s=0.05)) is not None:
                    yield frame
            session.finish()
            yield from session

    if source == "async":
        found = asyncio.run(collect())
    elif source == "play":
        with session:
            recorder = recorder_for(session, "clip")
            found = list(play(session, requests, recorder=recorder, live=False))
            row = recorder.row(dropped=0)
        assert (row["policy"], row["steps"], row["frames"]) == (policy, STEPS, len(requests))
        assert row["level"] == {"full": 9, "fewer_steps": 0, "field": 0, "held": 0}
        assert set(row["stages_ms"]) == {
            *("body", "field", "normals", "condition", "decode"),
            *("denoise 1", "denoise 2", "denoise 3"),
        }
    else:
        found = list(pushed(1 if source == "push" else 4))
    assert [frame.index for frame in found] == list(range(len(requests)))
    for one, two in zip(found, expected, strict=True):
        assert one.request is two.request
        np.testing.assert_array_equal(one.rgb, two.rgb)
    stats = session.stats()
    assert (stats.delivered, stats.in_flight, stats.levels) == (9, 0, {"full": 9})


@pytest.mark.parametrize("count", [1, 2, CLIP - 1, CLIP, CLIP + 1])
def test_parity_gives_every_frame_of_a_clip_of_any_length(
    diffusion_model: Model, diffusion_avatar: Avatar, person: ToyPerson, count: int
) -> None:
    requests = person.requests(count, side=128)
    frames = list(diffusion_model.stream(diffusion_avatar, requests, policy="parity"))
    assert [frame.index for frame in frames] == list(range(count))


def test_parity_holds_a_stated_number_of_frames(
    diffusion_model: Model,
    diffusion_avatar: Avatar,
    requests: list[Request],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gas_rt.stream.assembly.CLIP_FRAMES_MAX", 4)
    message = r"policy 'parity': holds the clip until its end, at most 4 frames"
    shown = []
    with pytest.raises(InputError, match=message):
        shown.extend(diffusion_model.stream(diffusion_avatar, requests, policy="parity"))
    assert shown == []  # the error does not wait until what fits is denoised
    frames = list(diffusion_model.stream(diffusion_avatar, requests[:4], policy="parity"))
    assert len(frames) == 4


def test_a_first_window_without_an_anchor_has_room_as_a_whole(diffusion_model: Model) -> None:
    diffusion = diffusion_model.parts.bundle.config.diffusion
    assert diffusion is not None
    run = DiffusionRun("sequential", STEPS)
    assert frames_at_once(diffusion, run) == 3
    policy = diffusion.policies["sequential"]
    window = replace(policy.schedules[STEPS].window, anchor=0, context=2)
    schedules = {STEPS: replace(policy.schedules[STEPS], window=window)}
    bare = replace(diffusion, policies={"sequential": replace(policy, schedules=schedules)})
    assert frames_at_once(bare, run) == 5


def test_freshest_drops_poses_before_the_policy_and_never_inside(
    graphs: CountedGraphs, diffusion_model: Model, diffusion_avatar: Avatar, person: ToyPerson
) -> None:
    graphs.hold = threading.Semaphore(0)
    performer = diffusion_model.performer(diffusion_avatar)
    stages = diffusion_stages(
        diffusion_avatar,
        performer.rig,
        performer.render,
        config=diffusion_model.parts.bundle.config,
        graph=graphs,
        run=DiffusionRun("diagonal", STEPS),
        threads=1,
    )
    settings = SessionConfig(policy="diagonal", on_late="freshest")
    requests = person.requests(30, side=128)
    frames = []
    with Session(stages, settings, backend=diffusion_model.backend) as session:
        for request in requests:
            assert session.push_request(request)
        session.finish()
        graphs.hold.release(1000)
        frames = list(session)
        stats = session.stats()
    assert stats.accepted == 30
    assert stats.dropped_by_reason.get("stale_pose", 0) > 20
    assert stats.delivered == len(frames)
    assert stats.delivered + stats.dropped == 30
    indices = [frame.index for frame in frames]
    assert indices == sorted(indices)
    assert indices[-1] == 29


# ---- the end, and before it -------------------------------------------------------------------


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("pipelined", [True, False])
def test_a_reset_drops_what_the_policy_holds(
    diffusion_model: Model,
    diffusion_avatar: Avatar,
    requests: list[Request],
    policy: str,
    pipelined: bool,
) -> None:
    with diffusion_model.session(
        diffusion_avatar, policy=policy, on_late="lossless", pipelined=pipelined
    ) as session:
        for request in requests[:2]:  # fewer than any policy gives frames for
            assert session.push_wait_request(request, timeout_s=PATIENCE_S)
        session.reset()
        assert session.stats().dropped_by_reason == {"reset": 2}
        for request in requests[2:5]:
            assert session.push_wait_request(request, timeout_s=PATIENCE_S)
        session.finish()
        assert [frame.index for frame in session] == [2, 3, 4]


@pytest.mark.parametrize("policy", POLICIES)
def test_nothing_comes_after_a_reset_of_a_finished_stream(
    graphs: CountedGraphs, diffusion_avatar: Avatar, requests: list[Request], policy: str
) -> None:
    graphs.hold = threading.Semaphore(0)
    with graphs.session(diffusion_avatar, policy) as session:
        for request in requests[:3]:
            assert session.push_wait_request(request, timeout_s=PATIENCE_S)
        session.finish()
        session.reset()
        graphs.hold.release(1000)
        assert list(session) == []
        assert session.stats().dropped_by_reason == {"reset": 3}


def test_closing_does_not_wait_for_the_clip(
    graphs: CountedGraphs, diffusion_avatar: Avatar, person: ToyPerson
) -> None:
    graphs.hold = threading.Semaphore(0)
    session = graphs.session(diffusion_avatar, "parity")
    for request in person.requests(20, side=128):
        session.push_wait_request(request)
    session.finish()
    graphs.hold.release(2)
    closing = threading.Thread(target=session.close)
    closing.start()
    session._pipeline.wait(lambda: False, timeout_s=PATIENCE_S)  # until it is closing
    graphs.hold.release(1000)
    closing.join(PATIENCE_S)
    assert not closing.is_alive()
    assert sum(n for name, n in graphs.calls.items() if name.startswith("denoiser")) <= 4


def test_a_frame_is_conditioned_once_and_a_held_one_not_again(
    graphs: CountedGraphs, diffusion_avatar: Avatar, requests: list[Request]
) -> None:
    with graphs.session(diffusion_avatar, "diagonal") as session:
        held = [*requests[:4], requests[3], requests[3], requests[5]]
        assert len(list(FrameStream(session, held))) == 7
    assert graphs.calls["conditioner"] == 5
    assert graphs.calls["vae_decoder"] == 7
    denoised = graphs.calls.get("denoiser", 0) + graphs.calls.get("denoiser_nocfg", 0)
    assert denoised == 7 + STEPS - 1


def test_an_unguided_bundle_needs_no_second_branch(
    graphs: CountedGraphs, diffusion_avatar: Avatar, person: ToyPerson
) -> None:
    """A view from where the photo was taken has guidance 1."""
    with graphs.session(diffusion_avatar, "diagonal", task="view") as session:
        front = [Request(person.pose, diffusion_avatar.camera, task="view")] * 4
        assert len(list(FrameStream(session, front))) == 4
    assert "denoiser" not in graphs.calls
    assert graphs.calls["denoiser_nocfg"] == 4 + STEPS - 1


@pytest.mark.parametrize("policy", POLICIES)
def test_distilled_guidance_is_told_to_the_one_graph(
    diffusion_model: Model,
    graphs: CountedGraphs,
    diffusion_avatar: Avatar,
    requests: list[Request],
    person: ToyPerson,
    policy: str,
) -> None:
    """The toy's guided graph does what both do, so frames must not differ, guided or not."""
    config = diffusion_model.parts.bundle.config
    assert config.diffusion is not None
    policies = {
        name: replace(p, profile=replace(p.profile, unguided=p.profile.guided))
        for name, p in config.diffusion.policies.items()
    }
    told = replace(config, diffusion=replace(config.diffusion, policies=policies))
    front = [Request(person.pose, diffusion_avatar.camera, task="view")] * 2
    asked = [*front, *requests[:4]]
    with graphs.session(diffusion_avatar, policy) as session:
        expected = [frame.rgb.copy() for frame in FrameStream(session, asked)]
    with graphs.session(diffusion_avatar, policy, bundle=told) as session:
        found = [frame.rgb.copy() for frame in FrameStream(session, asked)]
    assert not any("nocfg" in name for name in graphs.calls)
    for one, two in zip(found, expected, strict=True):
        assert np.abs(one.astype(int) - two).max() <= 1


def test_without_the_field_the_picture_is_stage_2s_alone(
    graphs: CountedGraphs, diffusion_avatar: Avatar, requests: list[Request]
) -> None:
    seen: list[float] = []

    def black(shell: Any, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
        shape = (camera.height, camera.width)
        seen.append(camera.width)
        return np.zeros((*shape, 3), np.float32), np.zeros(shape, np.float32)

    with graphs.session(diffusion_avatar, "diagonal", render=black) as session:
        frames = list(FrameStream(session, requests[:3]))
    assert set(seen) == {128}
    assert {frame.level for frame in frames} == {"full"}


@pytest.mark.parametrize("broken", ["denoiser", "vae_decoder", "conditioner"])
@pytest.mark.parametrize("pipelined", [True, False])
def test_what_is_not_finite_becomes_the_fields_picture(
    graphs: CountedGraphs,
    diffusion_model: Model,
    diffusion_avatar: Avatar,
    requests: list[Request],
    broken: str,
    pipelined: bool,
) -> None:
    def spoil(name: str, out: dict[str, Any]) -> None:
        if name == broken and graphs.calls[name] == 4:
            for array in out.values():
                array.reshape(-1)[0] = np.nan

    graphs.spoil = spoil
    poses = [Request(r.pose, r.camera, task="pose") for r in requests]
    with graphs.session(diffusion_avatar, "diagonal", pipelined=pipelined) as session:
        frames = list(FrameStream(session, poses))
    assert [frame.index for frame in frames] == list(range(9))
    levels = [frame.level for frame in frames]
    assert session.stats().levels == {"field": levels.count("field"), "full": levels.count("full")}
    assert 1 <= levels.count("field") <= STEPS
    performer = diffusion_model.performer(diffusion_avatar)
    for frame in frames:
        if frame.level == "field":
            expected = performer.picture(frame.request.pose, frame.request.camera)
            np.testing.assert_array_equal(frame.rgb, expected.rgb)
            np.testing.assert_array_equal(frame.alpha, expected.alpha)


def test_a_graph_that_fails_ends_the_session_with_one_error(
    graphs: CountedGraphs, diffusion_avatar: Avatar, requests: list[Request]
) -> None:
    def spoil(name: str, out: dict[str, Any]) -> None:
        if name.startswith("denoiser"):
            raise RuntimeError("out of order")

    graphs.spoil = spoil
    with pytest.raises(SessionError, match=r"stage 'denoise' failed on frame 0: .*out of order"):
        list(FrameStream(graphs.session(diffusion_avatar, "diagonal"), requests))


def test_graphs_are_ready_when_the_session_is(
    diffusion_folder: Any, diffusion_avatar: Avatar, person: ToyPerson
) -> None:
    with (
        gas_rt.load(diffusion_folder, "openvino", threads=1, precision="fp32") as model,
        model.session(diffusion_avatar, policy="sequential", on_late="lossless"),
    ):
        needed = {"conditioner", "vae_decoder", "denoiser", "denoiser_nocfg"}
        assert set(model.parts._graphs) == model.parts._warm == needed


def test_a_body_out_of_view_still_makes_frames(
    graphs: CountedGraphs, diffusion_avatar: Avatar, person: ToyPerson
) -> None:
    """Its field is empty and its normal map shows no surface."""
    k, r = person.camera.intrinsics, person.camera.rotation
    aside = Camera(k, r, np.array([300, 0, 3], np.float32), 128, 128)
    requests = [Request(Pose.rest(), aside), Request(person.pose, person.camera)]
    with graphs.session(diffusion_avatar, "diagonal") as session:
        frames = list(FrameStream(session, requests))
    assert [frame.level for frame in frames] == ["full", "full"]
