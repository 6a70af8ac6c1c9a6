"""Frames' memory: used again when nothing refers to it, and never before."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gas_rt import Avatar, Frame, Model
from gas_rt.core import Camera, Request
from gas_rt.errors import SessionError
from gas_rt.stream.session import Session
from gas_rt.stream.slots import FramePool, lease_of
from gas_rt.stream.stages import Job, Picture
from gas_rt.stream.standby import Standby
from tests.stream.conftest import PATIENCE_S, ToyStage, pose
from tests.toy_person import ToyPerson

OpenSession = Callable[..., Session]


class PooledStage(ToyStage):
    """Writes the pose's x into the memory that a session gives its frames."""

    def process(self, job: Job) -> list[Job]:
        rgb, alpha = job.pixels()
        value = int(job.request.pose.translation[0]) % 251
        rgb[...], alpha[...] = value, 255 - value
        return [job.after(self.name, Picture(rgb, alpha, "full"), elapsed_ns=0)]


def shown(session: Session, camera: Camera, value: int) -> Frame:
    assert session.push(pose(value), camera)
    frame = session.wait(timeout_s=PATIENCE_S)
    assert frame is not None
    assert frame.index == value
    return frame


def untouched(frame: Frame) -> bool:
    value = frame.index % 251
    return bool((frame.rgb == value).all() and (frame.alpha == 255 - value).all())


@pytest.fixture
def session(open_session: OpenSession) -> Session:
    return open_session([PooledStage()], on_late="lossless")


def test_a_stream_whose_frames_are_let_go_of_takes_no_new_memory(
    session: Session, camera: Camera
) -> None:
    for value in range(4):
        shown(session, camera, value)
    made, held = session._pipeline.pool.made, session.frames_held
    for value in range(4, 300):
        assert untouched(shown(session, camera, value))
    assert session._pipeline.pool.made == made <= 3
    assert session.frames_held == held <= 2


def test_frames_that_are_kept_keep_their_pixels_and_it_shows(
    session: Session, camera: Camera
) -> None:
    frames = [shown(session, camera, value) for value in range(100)]
    assert all(untouched(frame) for frame in frames)
    assert 100 <= session.frames_held <= 102
    del frames
    gc.collect()
    assert session.frames_held <= 2
    assert len(session._pipeline.pool._free) <= 16


KEEPERS: dict[str, Callable[[np.ndarray], object]] = {
    "view": lambda rgb: rgb[1:, :, 2],
    "numpy": np.from_dlpack,
    "torch": torch.from_dlpack,
}


@pytest.mark.parametrize("keep", KEEPERS)
def test_what_was_made_of_a_frame_keeps_its_memory(
    session: Session, camera: Camera, keep: str
) -> None:
    frame = shown(session, camera, 0)
    kept = KEEPERS[keep](frame.rgb)
    del frame
    for value in range(1, 40):
        shown(session, camera, value)
    assert (np.asarray(kept) == 0).all()
    held = session.frames_held
    del kept
    gc.collect()
    assert session.frames_held == held - 1


def test_pixels_are_read_only_for_every_consumer(session: Session, camera: Camera) -> None:
    frame = shown(session, camera, 0)
    with pytest.raises(ValueError, match="read-only"):
        frame.rgb[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        frame.alpha[0] = 1
    other = np.from_dlpack(frame.rgb)
    assert other.ctypes.data == frame.rgb.ctypes.data  # no copy
    assert not other.flags.writeable
    tensor = torch.from_dlpack(frame.alpha)
    assert tensor.data_ptr() == frame.alpha.ctypes.data
    assert (frame.rgb.dtype, frame.rgb.shape) == (np.uint8, (64, 64, 3))
    assert frame.rgb.flags.c_contiguous
    assert frame.alpha.flags.c_contiguous


def test_a_copy_is_the_takers_own(session: Session, camera: Camera) -> None:
    frame = shown(session, camera, 0)
    copy = frame.copy()
    frame.release()
    copy.rgb[...] = 9
    for value in range(1, 20):
        shown(session, camera, value)
    assert (copy.rgb == 9).all()
    assert copy.valid
    assert lease_of(copy.rgb) is None


def test_a_released_frame_says_so_and_its_memory_is_used_next(
    session: Session, camera: Camera
) -> None:
    frame = shown(session, camera, 0)
    view, held = frame.rgb, session.frames_held
    assert frame.valid
    frame.release()
    frame.release()
    assert session.frames_held == held - 1
    assert not frame.valid
    for name in ("rgb", "alpha"):
        with pytest.raises(SessionError, match=f"frame 0: was released, its {name} is gone"):
            getattr(frame, name)
    with pytest.raises(AttributeError, match="no attribute 'depth'"):
        frame.depth  # type: ignore[attr-defined]  # noqa: B018
    assert (frame.index, frame.level) == (0, "full")
    seen = set()
    for value in range(1, 9):
        shown(session, camera, value)
        seen.add(int(view[0, 0, 0]))
    assert seen - {0}, "its slot was never used again"


def test_a_frame_outlives_its_session(open_session: OpenSession, camera: Camera) -> None:
    session = open_session([PooledStage()], on_late="lossless")
    frame = shown(session, camera, 0)
    session.close()
    del session
    gc.collect()
    assert untouched(frame)


def test_another_size_takes_other_memory(session: Session, camera: Camera) -> None:
    big = shown(session, camera, 0)
    small = shown(session, camera.resized(width=8, height=6), 1)
    assert (big.rgb.shape, small.rgb.shape) == ((64, 64, 3), (6, 8, 3))
    assert untouched(big)
    assert untouched(small)


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from([(4, 3), (2, 2)])), max_size=60))
def test_no_two_frames_that_live_share_memory(actions: list[tuple[int, tuple[int, int]]]) -> None:
    """Whatever is taken and let go of, in any order."""
    pool, live = FramePool(kept=3), []
    for number, (action, (width, height)) in enumerate(actions):
        if action < 3 or not live:
            live.append((number % 251, *pool.pixels(width, height)))
            live[-1][1][...] = live[-1][2][...] = number % 251
        else:
            live.pop(action % len(live))
        assert pool.held == len(live)
        assert all((rgb == n).all() and (alpha == n).all() for n, rgb, alpha in live)
        assert len(pool._free) <= 3
        assert pool.made <= number + 1


def test_slots_come_back_from_any_thread() -> None:
    pool = FramePool(kept=4)

    def use() -> None:
        for number in range(2000):
            rgb, alpha = pool.pixels(4, 4)
            rgb[...] = number % 256
            assert (rgb == number % 256).all()
            assert alpha.shape == (4, 4)

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert pool.held == 0
    assert pool.made < 100


@pytest.mark.parametrize("policy", ["field", "diagonal", "sequential"])
def test_real_stages_write_into_slots(
    diffusion_model: Model, diffusion_avatar: Avatar, person: ToyPerson, policy: str
) -> None:
    with diffusion_model.session(diffusion_avatar, policy=policy, on_late="lossless") as session:
        for request in person.requests(12, side=96):
            while not session.push_request(request):
                frame = session.wait(timeout_s=PATIENCE_S)
                assert frame is not None
                assert lease_of(frame.rgb) is not None
                assert lease_of(frame.rgb) is lease_of(frame.alpha) is frame.lease
        session.finish()
        assert all(not frame.rgb.flags.writeable for frame in session)
        del frame
        gc.collect()
        assert session.frames_held == 0
        assert session._pipeline.pool.made <= 10


def test_a_held_frame_shows_its_pixels_though_its_taker_released_them(camera: Camera) -> None:
    pool = FramePool()
    standby = Standby(lambda job: None)

    def finished(value: int) -> Job:
        job = Job(value, 0, Request(pose(value), camera), 0, 0, pool=pool)
        return next(iter(PooledStage().process(job)))

    shown = finished(7)
    standby.handed(shown, 0, in_time=True)
    frame = shown.frame(0)
    del shown
    frame.release()
    other = finished(9).frame(0)  # in the memory that was released
    held = []
    for _ in range(3):
        job, is_new = standby.instead()
        assert job is not None
        assert not is_new
        standby.handed(job, 0, in_time=True)
        held.append(job.frame(0))
        del job
    assert all(f.level == "held" and (f.rgb == 7).all() for f in held)
    assert (other.rgb == 9).all()
    memory = {f.rgb.ctypes.data for f in [*held, other]}
    assert len(memory) == 4
    held[0].release()  # which must not touch what is held, nor the other repetitions
    finished(11)
    again, _ = standby.instead()
    assert again is not None
    assert (again.frame(0).rgb == 7).all()
    assert all((f.rgb == 7).all() for f in held[1:])
    made = []
    for _ in range(50):
        job, _ = standby.instead()
        assert job is not None
        standby.handed(job, 0, in_time=True)
        made.append(pool.made)
    assert made[3] == made[-1]


def test_a_frame_that_is_handed_out_is_held_without_a_copy(camera: Camera) -> None:
    pool = FramePool()
    standby = Standby(lambda job: None)

    def shown(value: int) -> Frame:
        job = Job(value, 0, Request(pose(value), camera), 0, 0, pool=pool)
        finished = next(iter(PooledStage().process(job)))
        standby.handed(finished, 0, in_time=True)
        return finished.frame(0)

    kept = shown(0)
    assert (pool.held, pool.made) == (1, 1)
    for value in range(1, 40):
        frame = shown(value)
        frame.release()
        frame.release()
        assert pool.held == 2  # the one that is kept, and the one that may have to be shown again
    assert pool.made == 3
    assert untouched(kept)
    again, _ = standby.instead()
    assert again is not None
    assert (again.frame(0).rgb == 39).all()
    del again
    standby.reset()
    assert pool.held == 1
    kept.release()
    assert pool.held == 0
