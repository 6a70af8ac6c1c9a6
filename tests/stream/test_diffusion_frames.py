"""Every frame of a session is what a naive NumPy reference makes of the same requests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

import gas_rt
from gas_rt import Avatar, Model, Pose, Request
from gas_rt.core import F32, Camera
from gas_rt.diffusion import ANCHOR_INDEX, Anchor, FrameSpec, ParityPolicy, guidance_of
from gas_rt.field.render import as_bytes, to_uint8
from gas_rt.kernels import render_normals
from gas_rt.stream.conditioning import Conditioner
from gas_rt.stream.decoding import joined_alpha
from gas_rt.stream.denoising import WindowDenoiser
from tests.diffusion import naive
from tests.toy_diffusion import (
    CLIP,
    LATENT,
    SCALE,
    SIGMAS,
    STD,
    ToyDenoiser,
    add_diffusion,
    condition_of,
    decoded,
    latents_of,
)
from tests.toy_person import NO_BAKE, ToyPerson, toy_motion

SEED = 11
SIDE = 128
POLICIES = ("diagonal", "sequential", "parity")


@pytest.fixture(scope="module")
def whole_model(
    toy_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Model, None]]:
    """Generates whole latents, as released."""
    folder = Path(shutil.copytree(toy_folder, tmp_path_factory.mktemp("whole") / "toy"))
    add_diffusion(folder, residual_std=None)
    with gas_rt.load(folder, "openvino", threads=2, precision="fp32") as model:
        yield model, None


@pytest.fixture(params=["centred", "whole"])
def stage2(
    request: pytest.FixtureRequest, diffusion_model: Model, whole_model: tuple[Model, None]
) -> tuple[Model, float | None]:
    return (diffusion_model, STD) if request.param == "centred" else whole_model


def some_requests(person: ToyPerson, count: int) -> list[Request]:
    """A motion with a camera that swings, views among the poses."""
    views = person.requests(max(count, 5), side=SIDE)
    poses = [Pose(pose.rotations) for pose in toy_motion(max(count, 2))]  # it stays in view
    return [
        Request(poses[k], views[k].camera, task="view" if k % 3 == 1 else None)
        for k in range(count)
    ]


class Expected:
    """The naive reference of one avatar: plain loops over a clip that is wholly known."""

    def __init__(self, model: Model, avatar: Avatar, residual_std: float | None) -> None:
        self.model, self.avatar, self.std = model, avatar, residual_std
        self.performer = model.performer(avatar)
        picture = avatar.rgb.astype(np.float32) / 255 * 2 - 1
        self.latent = latents_of(picture)
        self.embedding = picture.mean((0, 1))

    def shown(self, pose: Pose, camera: Camera) -> tuple[F32, F32]:
        """Condition and render of a frame."""
        camera = camera.resized(width=SIDE, height=SIDE)
        posed = self.performer.pose(pose)
        rgb, _ = to_uint8(*self.performer.render(posed.shell, camera))
        normals, _ = render_normals(posed.body.vertices, posed.body.faces, camera)
        render = rgb.astype(np.float32) / 255 * 2 - 1
        return condition_of(render, normals), render

    def frames(
        self, requests: Sequence[Request], policy: str, *, steps: int = 3, seed: int = SEED
    ) -> list[F32]:
        """Pictures [S, S, 3] in [-1, 1]."""
        shown = [self.shown(r.pose, r.camera) for r in requests]
        conditions: dict[object, F32] = {k: condition for k, (condition, _) in enumerate(shown)}
        at_photo = self.shown(self.avatar.pose, self.avatar.camera)
        conditions["photo"] = at_photo[0]
        z = self.latent * SCALE
        if self.std is not None:
            z = (z - latents_of(at_photo[1]) * SCALE) / self.std
        anchor = Anchor(FrameSpec(ANCHOR_INDEX, "photo", "pose", seed, 1.0), z)
        specs = []
        for k, r in enumerate(requests):
            task = r.task or "pose"
            scale = guidance_of(task, r.camera, self.avatar.camera, pose=1.5, view_behind=2.0)
            specs.append(FrameSpec(k, k, task, seed, scale))
        denoiser = ToyDenoiser(conditions, self.latent, self.embedding)
        schedule = self.model.parts.bundle.config.diffusion.schedule(policy, steps=steps)  # type: ignore[union-attr]
        if policy == "parity":
            listed = [*(SIGMAS if steps == 3 else [20.0, 0.5]), 0.0]
            assert np.allclose(schedule.sigmas, listed)
            final = naive.parity(specs, listed, denoiser, tile=CLIP, overlap=2, shape=LATENT)
        else:
            assert schedule.sigmas[-1] == np.float32(0.002)
            run = naive.diagonal if policy == "diagonal" else naive.sequential
            final = run(specs, schedule, denoiser, anchor=anchor, shape=LATENT)
        return [decoded(final[k], render, self.std) for k, (_, render) in enumerate(shown)]


def enrolled(model: Model, person: ToyPerson) -> Avatar:
    return model.enroll(person.rgb, person.fit, person.mask, bake=NO_BAKE)


def assert_shows(rgb: np.ndarray, picture: F32) -> None:
    """Within a level of uint8; pixels below the alpha's floor may have become black."""
    expected = np.clip((picture + 1) / 2 * 255, 0, 255)
    difference = np.abs(rgb - expected).max(2)
    assert difference[expected.max(2) > 40].max(initial=0) < 1.01
    assert (rgb <= expected + 1.01).all()


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("count", [1, 2, 8])
def test_frames_are_the_naive_references(
    stage2: tuple[Model, float | None], person: ToyPerson, policy: str, count: int
) -> None:
    model, std = stage2
    avatar = enrolled(model, person)
    requests = some_requests(person, count)
    frames = list(model.stream(avatar, requests, policy=policy, seed=SEED))
    expected = Expected(model, avatar, std).frames(requests, policy)
    assert [frame.index for frame in frames] == list(range(count))
    for frame, picture, request in zip(frames, expected, requests, strict=True):
        assert frame.request is request
        assert frame.level == "full"
        assert frame.timings.captured_ns == frame.timings.pushed_ns
        assert_shows(frame.rgb, picture)


@pytest.mark.parametrize("count", [1, CLIP, 9])
def test_parity_through_a_session_is_the_offline_pipeline_bit_for_bit(
    diffusion_model: Model, diffusion_avatar: Avatar, person: ToyPerson, count: int
) -> None:
    """The same graphs called in plain loops, with no session, thread or queue."""
    model, avatar = diffusion_model, diffusion_avatar
    performer, parts = model.performer(avatar), model.parts
    requests = some_requests(person, count)
    conditioner = Conditioner(
        parts.graph("conditioner"), performer.render, side_px=SIDE, threads=parts.threads
    )
    shown = [conditioner(performer.pose(r.pose), r.camera)[0] for r in requests]
    assert avatar.latent is not None
    assert avatar.embedding is not None
    denoiser = WindowDenoiser(
        parts.graph("denoiser_nocfg_clip"),
        parts.graph("denoiser_clip"),
        avatar.latent[None],
        avatar.embedding[None],
    )
    schedule = parts.bundle.config.diffusion.schedule("parity", steps=3)  # type: ignore[union-attr]
    policy = ParityPolicy(schedule, latent_shape=LATENT)
    for k, r in enumerate(requests):
        task = r.task or "pose"
        scale = guidance_of(task, r.camera, avatar.camera, pose=1.5, view_behind=2.0)
        policy.admit(FrameSpec(k, k, task, SEED, scale))
    policy.end()
    pictures = []
    while (call := policy.next_call()) is not None:
        condition = np.stack([shown[int(i)].condition for i in call.indices])
        for final in policy.complete(call, *denoiser(call, condition)):
            at = shown[final.frame.index]
            assert at.base is not None
            inputs = {"latents": final.latent[None], "base": at.base[None], "render": at.render}
            pictures.append(parts.graph("vae_decoder").run(inputs)["picture"][0])
    frames = list(model.stream(avatar, requests, policy="parity", seed=SEED))
    assert len(frames) == len(pictures) == count
    for frame, picture, at in zip(frames, pictures, shown, strict=True):
        rgb = as_bytes(np.ascontiguousarray((picture.transpose(1, 2, 0) + 1) / 2))
        alpha = joined_alpha(rgb, at.alpha)
        np.testing.assert_array_equal(frame.rgb, np.minimum(rgb, alpha[..., None]))
        np.testing.assert_array_equal(frame.alpha, alpha)


@pytest.mark.parametrize(("policy", "steps"), [("sequential", 1), ("parity", 2)])
def test_another_number_of_steps(
    diffusion_model: Model, diffusion_avatar: Avatar, person: ToyPerson, policy: str, steps: int
) -> None:
    requests = some_requests(person, 4)
    frames = list(
        diffusion_model.stream(diffusion_avatar, requests, policy=policy, steps=steps, seed=SEED)
    )
    expected = Expected(diffusion_model, diffusion_avatar, STD)
    pictures = expected.frames(requests, policy, steps=steps)
    for frame, picture in zip(frames, pictures, strict=True):
        assert_shows(frame.rgb, picture)


def test_enrolment_encodes_the_masked_photo(
    diffusion_model: Model, diffusion_avatar: Avatar
) -> None:
    expected = Expected(diffusion_model, diffusion_avatar, STD)
    assert diffusion_avatar.latent is not None
    assert diffusion_avatar.embedding is not None
    np.testing.assert_allclose(diffusion_avatar.latent, expected.latent, atol=1e-5)
    np.testing.assert_allclose(diffusion_avatar.embedding, expected.embedding, atol=1e-5)


@pytest.mark.parametrize("policy", POLICIES)
def test_pipelined_or_not_the_frames_are_the_same(
    diffusion_model: Model, diffusion_avatar: Avatar, person: ToyPerson, policy: str
) -> None:
    requests = some_requests(person, 7)
    shown = []
    for pipelined in (True, False):
        with diffusion_model.session(
            diffusion_avatar, policy=policy, seed=3, on_late="lossless", pipelined=pipelined
        ) as session:
            frames = list(gas_rt.FrameStream(session, requests))
            shown.append([(f.index, f.rgb, f.alpha) for f in frames])
            steps = {"body", "field", "normals", "condition", "decode"}
            steps |= {"denoise 1", "denoise 2", "denoise 3"}
            assert all(set(f.timings.stages_ms) == steps for f in frames)
    for one, two in zip(*shown, strict=True):
        assert one[0] == two[0]
        np.testing.assert_array_equal(one[1], two[1])
        np.testing.assert_array_equal(one[2], two[2])


def test_the_seed_and_its_period_make_the_noise(
    diffusion_model: Model, diffusion_avatar: Avatar, person: ToyPerson
) -> None:
    request = Request(person.pose, person.camera)

    def stream(**options: int) -> list[np.ndarray]:
        requests = [request] * 7
        return [f.rgb for f in diffusion_model.stream(diffusion_avatar, requests, **options)]

    one, same, other = stream(seed=1), stream(seed=1), stream(seed=2)
    for a, b in zip(one, same, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for a, b in zip(one, other, strict=True))
    repeated = stream(seed=1, noise_period=1)
    assert any((a != b).any() for a, b in zip(one, repeated, strict=True))
