"""The denoise stage alone, on arrays: arrival, resets, failures, what is kept, what is charged."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gas_rt.core import F32, Camera, Request, Task, Window
from gas_rt.diffusion import ANCHOR_INDEX, Anchor, FrameSpec, Schedule, open_policy
from gas_rt.stream.conditioning import Conditioning
from gas_rt.stream.denoising import Denoised, DenoiseStage, WindowDenoiser
from gas_rt.stream.stages import Chain, Job
from tests.stream.conftest import pose

LATENT = (2, 2, 2)
SIGMAS = (20.0, 3.0, 0.5, 0.002)
WINDOWS = {
    "diagonal": Window(anchor=1, context=2, chunk=1, steps=3),
    "sequential": Window(anchor=1, context=1, chunk=3, steps=3),
    "parity": Window(anchor=1, context=1, chunk=3, steps=3),
}
POLICIES = tuple(WINDOWS)
CAMERA = Camera(
    np.array([[100, 0, 32], [0, 100, 32], [0, 0, 1]], np.float32),
    np.eye(3, dtype=np.float32),
    np.array([0, 0, 3], np.float32),
    64,
    64,
)


@dataclass
class ToyGraph:
    """A denoiser whose answer depends on all it is given; poisoned calls answer NaN."""

    guided: bool = False
    poisoned: set[int] = field(default_factory=set)
    calls: list[dict[str, Any]] = field(default_factory=list)

    def run(self, inputs: dict[str, F32]) -> dict[str, F32]:
        self.calls.append(inputs)
        s, after = (inputs[k].reshape(-1, 1, 1, 1) for k in ("sigma", "sigma_next"))
        x = inputs["x"]
        mixed = x / (s + 1) + inputs["condition"][:, :1]
        task = (inputs["switcher"] @ np.array([1, -1], np.float32)).reshape(-1, 1, 1, 1)
        x0 = np.tanh(mixed + mixed.mean(0) + task + inputs["reference"])
        if self.guided:
            x0 = x0 * inputs["guidance"].reshape(-1, 1, 1, 1)
        x_next = (x0 + after / s * (x - x0)).astype(np.float32)
        if len(self.calls) - 1 in self.poisoned:
            x_next[-1, 0, 0, 0] = np.nan
        return {"x_next": x_next, "x0": x0.astype(np.float32)}


def stage_of(
    policy: str, *, scale: float = 1.0, poisoned: Iterable[int] = ()
) -> tuple[DenoiseStage, ToyGraph, ToyGraph]:
    schedule = Schedule(WINDOWS[policy], (*SIGMAS[:3], 0.0) if policy == "parity" else SIGMAS)
    anchor = None
    if policy != "parity":
        latent = np.random.default_rng(5).normal(size=LATENT).astype(np.float32)
        anchor = Anchor(FrameSpec(ANCHOR_INDEX, ANCHOR_INDEX, "pose", 4, 1.0), latent)
    plain = ToyGraph(poisoned=set(poisoned))
    guided = ToyGraph(guided=True, poisoned=set(poisoned))
    denoiser = WindowDenoiser(
        plain,  # type: ignore[arg-type]
        guided,  # type: ignore[arg-type]
        np.full((1, *LATENT), 0.1, np.float32),
        np.zeros((1, 3), np.float32),
    )
    stage = DenoiseStage(
        open_policy(policy, schedule, latent_shape=LATENT, anchor=anchor),
        denoiser,
        pinned={} if anchor is None else {ANCHOR_INDEX: np.full((3, 2, 2), 0.5, np.float32)},
        guidance_of=lambda task, request: scale if task == "pose" else 1.0,
        task="pose",
        seed=4,
    )
    return stage, plain, guided


def job(index: int, *, task: Task | None = None, generation: int = 0) -> Job:
    shown = np.full((3, 2, 2), np.cos(index), np.float32)
    grey = np.full((4, 4, 3), index % 200, np.uint8)
    return Job(
        index,
        generation,
        Request(pose(index), CAMERA, None, task),
        captured_ns=100 + index,
        pushed_ns=200 + index,
        payload=Conditioning(shown, None, grey, grey[..., 0]),
        stages_ms={"field": 1.5},
    )


def fed(stage: DenoiseStage, jobs: Sequence[Job], *, end: bool = True) -> list[Job]:
    out = [made for given in jobs for made in stage.process(given)]
    out += list(stage.finish()) if end else []
    return [made for made in out if made is not None]


def denoised_ms(made: Job) -> float:
    return sum(ms for name, ms in made.stages_ms.items() if name.startswith("denoise "))


def latents(jobs: Sequence[Job]) -> dict[int, F32]:
    found = {}
    for made in jobs:
        assert isinstance(made.payload, Denoised)
        assert made.payload.latent is not None
        found[made.index] = made.payload.latent
    assert list(found) == sorted(found)
    return found


@pytest.mark.parametrize("policy", POLICIES)
@settings(max_examples=25)
@given(
    gaps=st.lists(st.integers(1, 4), min_size=1, max_size=14),
    dropped=st.lists(st.integers(0, 9), max_size=6),
    tasks=st.lists(st.sampled_from(["view", "pose", None]), min_size=1, max_size=4),
)
def test_every_frame_comes_once_in_order_and_a_reset_leaves_no_trace(
    policy: str, gaps: list[int], dropped: list[int], tasks: list[Task | None]
) -> None:
    """Whatever was admitted and abandoned before a reset, the stream after it is the same."""
    indices = np.cumsum(gaps).tolist()
    jobs = [job(i, task=tasks[k % len(tasks)]) for k, i in enumerate(indices)]
    fresh = fed(stage_of(policy, scale=1.5)[0], jobs)
    assert [made.index for made in fresh] == indices
    used, _, _ = stage_of(policy, scale=1.5)
    for k, calls in enumerate(dropped):
        for number, _ in enumerate(used.process(job(100 + k))):
            if number == calls:  # whoever iterated has given up
                break
    used.reset()
    again = fed(used, jobs)
    expected = latents(fresh)
    for index, latent in latents(again).items():
        np.testing.assert_array_equal(latent, expected[index])
    for made, given_job in zip(fresh, jobs, strict=True):
        assert made.request is given_job.request
        assert (made.captured_ns, made.pushed_ns) == (given_job.captured_ns, given_job.pushed_ns)
        assert made.stages_ms["field"] == 1.5
        assert denoised_ms(made) > 0
        assert made.payload.conditioning is given_job.payload


@pytest.mark.parametrize("policy", POLICIES)
def test_every_window_has_the_graphs_static_length(policy: str) -> None:
    for count in (1, 2, 3, 4, 9, 10):
        stage, plain, guided = stage_of(policy, scale=2.0)
        assert len(fed(stage, [job(k) for k in range(count)])) == count
        window = WINDOWS[policy]
        slots = window.length if policy == "diagonal" else window.anchor + window.context + 3
        assert {len(call["x"]) for call in plain.calls + guided.calls} == {slots}


@pytest.mark.parametrize("policy", POLICIES)
def test_the_second_branch_runs_only_where_a_frame_is_guided(policy: str) -> None:
    stage, plain, guided = stage_of(policy, scale=2.0)
    fed(stage, [job(k, task="view") for k in range(6)])
    assert plain.calls
    assert not guided.calls
    stage, plain, guided = stage_of(policy, scale=2.0)
    fed(stage, [job(k) for k in range(6)])
    assert guided.calls
    assert not plain.calls
    stage, plain, guided = stage_of(policy, scale=1.0)
    fed(stage, [job(k) for k in range(6)])
    assert not guided.calls


@pytest.mark.parametrize("policy", ["diagonal", "sequential"])
def test_a_live_policy_keeps_no_more_than_a_window(policy: str) -> None:
    stage, _, _ = stage_of(policy)
    for k in range(40):
        list(stage.process(job(k)))
        assert len(stage._conditions) <= 2 * WINDOWS[policy].length
        assert len(stage._jobs) <= WINDOWS[policy].length
    list(stage.finish())
    assert set(stage._conditions) == {ANCHOR_INDEX}
    assert not stage._jobs


def test_diagonal_gives_one_frame_per_pose_once_it_is_full() -> None:
    stage, _, _ = stage_of("diagonal")
    counts = [len(fed(stage, [job(k)], end=False)) for k in range(6)]
    assert counts == [0, 0, 1, 1, 1, 1]


def test_the_shares_of_the_calls_add_up_to_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10**9, 1_000_000))  # every reading is a millisecond later
    monkeypatch.setattr("gas_rt.stream.denoising.time.monotonic_ns", lambda: next(clock))
    for policy in POLICIES:
        stage, plain, guided = stage_of(policy)
        made = fed(stage, [job(k) for k in range(7)])
        total = sum(map(denoised_ms, made))
        assert total == pytest.approx(len(plain.calls + guided.calls), abs=1e-4)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("poisoned", [0, 1, 3, 8])
def test_an_answer_that_is_not_finite_shows_the_field_and_starts_anew(
    policy: str, poisoned: int, caplog: pytest.LogCaptureFixture
) -> None:
    stage, _, _ = stage_of(policy, poisoned={poisoned})
    jobs = [job(k) for k in range(9)]
    with caplog.at_level(logging.WARNING, logger="gas_rt"):
        made = fed(stage, jobs)
    assert [m.index for m in made] == list(range(9))
    lost = [m.index for m in made if m.payload.latent is None]
    assert stage.restarts == 1
    assert len(caplog.records) == 1
    assert lost == list(range(lost[0], lost[0] + len(lost)))
    for m in made:
        assert m.payload.conditioning is jobs[m.index].payload
    if policy == "parity":
        assert lost == list(range(9))
        return
    assert 1 <= len(lost) <= 3  # what was in flight
    after = fed(stage_of(policy)[0], jobs[lost[-1] + 1 :])
    expected = latents(after)
    for m in made[lost[-1] + 1 :]:
        np.testing.assert_array_equal(m.payload.latent, expected[m.index])


def test_a_denoiser_that_never_works_gives_the_field_and_says_it_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stage, _, _ = stage_of("diagonal", poisoned=range(1000))
    made = fed(stage, [job(k) for k in range(12)])
    assert [m.payload.latent for m in made] == [None] * 12
    assert stage.restarts == 12
    assert len(caplog.records) == 1


def test_no_frames_no_calls() -> None:
    for policy in POLICIES:
        stage, plain, _ = stage_of(policy)
        assert list(stage.finish()) == []
        assert not plain.calls


def test_a_chain_passes_on_what_a_stage_held_back() -> None:
    class Marker:
        name = "mark"

        def process(self, job: Job) -> list[Job]:
            return [job.after(self.name, job.payload, elapsed_ns=0)]

        def finish(self) -> list[Job]:
            return []

        def reset(self) -> None: ...

        def close(self) -> None: ...

    stage, _, _ = stage_of("parity")
    chain = Chain([Marker(), Chain([stage, Marker()])])
    assert [made for k in range(3) for made in chain.process(job(k))] == []
    made = [m for m in chain.finish() if m is not None]
    assert [m.index for m in made] == [0, 1, 2]
    assert all({"mark", "denoise 1"} <= set(m.stages_ms) for m in made)
