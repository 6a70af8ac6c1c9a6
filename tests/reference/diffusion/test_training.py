"""Stage 2's data path and training."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from reference.autoencoder import Autoencoder
from reference.autoencoder.training import PRESETS as AUTOENCODERS
from reference.diffusion import edm
from reference.diffusion.batches import collate, draw
from reference.diffusion.checkpoint import open_checkpoint
from reference.diffusion.clips import Clips, Pictures, make_clip, read_clips, write_clips
from reference.diffusion.denoiser import Denoiser
from reference.diffusion.training import (
    PRESETS,
    losses,
    train,
    with_own_context,
)
from reference.diffusion.windows import ANCHOR, WindowConfig, live, parity
from tests.reference.diffusion.conftest import LENGTH, toy_clip

MODEL, CONFIG = PRESETS["tiny"]
BLACK = np.zeros((4, 4, 4), np.float16)


def test_parity_windows_share_one_level_and_are_anchored() -> None:
    config = WindowConfig()
    gaps, lone = set(), 0
    for seed in range(60):
        window = parity(config, np.random.default_rng(seed), length=64)
        steps = np.diff(window.frames)
        assert len(window.frames) == 20
        assert window.frames.min() >= 0
        assert window.frames.max() < 64
        assert len(np.unique(window.sigma)) == 1
        assert window.counts.all()
        gaps |= set(steps[1:].tolist())
        lone += steps[0] > 3
    assert gaps == {1, 2, 3}
    assert lone > 10  # windows later than the first
    assert parity(config, np.random.default_rng(0), length=20).frames.tolist() == list(range(20))


def test_live_windows_are_the_shipped_profile() -> None:
    config = WindowConfig()
    assert config.live_frames == 8
    starts, rolling = 0, 0
    for seed in range(80):
        window = live(config, np.random.default_rng(seed), length=24)
        anchors = int((window.frames == ANCHOR).sum())
        assert len(window.frames) == 8
        assert (window.frames[:anchors] == ANCHOR).all()
        assert (np.diff(window.frames[anchors:]) >= 1).all()
        assert window.frames.max() < 24
        assert window.counts.tolist() == [0] * 4 + [1] * 4
        assert window.sigma[0] == np.float32(edm.SIGMA_CLEAN)
        assert (window.sigma[1:4] <= 0.2).all()
        starts += anchors > 1
        flight = window.sigma[4:]
        if len(set(flight.tolist())) > 1:
            rolling += 1
            shipped = np.log(np.array(config.live_sigmas) / config.live_sigmas[0])
            drawn = np.log(flight[::-1] / flight[-1])
            stretch = drawn[-1] / shipped[-1]
            assert 0.1 <= stretch <= 1.25
            np.testing.assert_allclose(drawn, stretch * shipped, atol=1e-5)
        assert window.context.sum() == 4 - anchors
    assert 0 < starts < 25
    assert 45 < rolling < 75


def test_parity_windows_go_where_few_step_lists_start() -> None:
    config = replace(WindowConfig(), parity_live_share=1.0, live_jitter=0.0)
    rng = np.random.default_rng(0)
    drawn = [float(parity(config, rng, length=24).sigma[0]) for _ in range(80)]
    assert sum(sigma == pytest.approx(40) for sigma in drawn) > 10
    assert min(drawn) > 40 * (1 / 40) ** 1.25 * 0.999


def test_a_run_opens_on_short_windows_of_pure_noise(shards: Path) -> None:
    clips = Clips(shards, split="train")
    config = replace(CONFIG, opening_steps=3, opening_batch=6, single_share=0.0)
    for step in range(3):
        batch = draw(clips, MODEL, config, step)
        assert batch.x0.shape[:2] == (6, config.windows.opening_frames)
        assert (batch.sigma > 0.4 * config.windows.live_sigmas[0]).all()
        assert (batch.sigma == batch.sigma[:, :1]).all()
        assert not batch.own.any()
    assert draw(clips, MODEL, config, 3).x0.shape[0] < 6
    some = replace(config, single_share=0.5)
    later = [draw(clips, MODEL, some, step).x0.shape[0] == 6 for step in range(3, 23)]
    assert 4 < sum(later) < 16


def test_windows_that_no_clip_holds_are_named() -> None:
    with pytest.raises(ValueError, match="21 frames in a row, clips hold 20"):
        parity(replace(WindowConfig(), parity_frames=21), np.random.default_rng(0), length=20)


def test_anchor_frames_are_the_picture(shards: Path) -> None:
    clips = Clips(shards, split="train")
    found = clips.frames(1, np.array([ANCHOR, 2, ANCHOR, 0]))
    arrays = clips.arrays
    for name, anchor in (
        ("target_latents", "reference_latent"),
        ("nerf_latents", "reference_nerf_latent"),
        ("normals", "reference_normals"),
        ("person", "reference_person"),
    ):
        np.testing.assert_array_equal(found[name][0], arrays[anchor][1])
        np.testing.assert_array_equal(found[name][1], arrays[name][1, 2])


def test_batches_depend_on_seed_and_step_alone(shards: Path) -> None:
    clips = Clips(shards, split="train")
    kinds = set()
    for step in range(9):
        first, again = draw(clips, MODEL, CONFIG, step), draw(clips, MODEL, CONFIG, step)
        for a, b in zip(first, again, strict=True):
            assert torch.equal(a, b)
        kinds.add(first.x0.shape[:2])
    # The opening's single frames, then both windows of the tiny preset, which hold four.
    assert kinds == {(2, 1), (1, 4), (2, 4)}
    other = draw(clips, MODEL, replace(CONFIG, seed=1), 0)
    assert not torch.equal(other.noise, draw(clips, MODEL, CONFIG, 0).noise)


def test_dropped_conditions_are_gone_and_unused_frames_weigh_nothing(shards: Path) -> None:
    clips = Clips(shards, split="train")
    config = replace(CONFIG, drop_reference=1.0, drop_nerf=1.0)
    window = live(config.windows, np.random.default_rng(0), length=clips.length)
    batch = collate(clips, MODEL, [window], config, np.random.default_rng(0))
    assert batch.reference.abs().max() == 0
    assert batch.keep.tolist() == [0.0]
    assert batch.nerf.abs().max() == 0  # the toy shards' black
    assert batch.weight[0, :2].abs().max() == 0
    assert (batch.weight[0, 2:] > 0).all()
    assert MODEL.residual_std is not None
    torch.testing.assert_close(batch.weight.mean(), torch.tensor(MODEL.residual_std**2))
    model = Denoiser(MODEL)
    with torch.no_grad():
        before = losses(model, batch)[0]
        assert model.image_encoder is not None
        model.image_encoder.project.bias.add_(1)
        assert torch.equal(losses(model, batch)[0], before)


def test_own_context_is_the_models_and_nothing_else_changes(shards: Path) -> None:
    clips = Clips(shards, split="train")
    config = replace(
        CONFIG, opening_steps=0, single_share=0.0, live_share=1.0, own_context=1.0, drop_nerf=0.0
    )
    config = replace(config, windows=replace(config.windows, start_share=0.0))
    batch = draw(clips, MODEL, config, 0)
    assert batch.own[0].tolist() == [0, 10, 0, 0]
    model = Denoiser(MODEL)
    changed = with_own_context(model, batch)
    same = batch.own == 0
    assert torch.equal(changed.x0[same], batch.x0[same])
    assert not torch.equal(changed.x0[0, 1], batch.x0[0, 1])
    never = draw(clips, MODEL, replace(config, own_context=0.0), 0)
    assert not never.own.any()


def test_cuts_follow_the_person_in_every_array(shards: Path) -> None:
    clips = Clips(shards, split="train")
    arrays = clips.arrays
    arrays["person"][:] = 0
    arrays["person"][..., 1:3] = 255
    arrays["reference_person"][:] = 0
    arrays["reference_person"][..., 2:] = 255
    config = replace(CONFIG, crops=(2,), drop_reference=0.0, drop_nerf=0.0, live_share=0.0)
    config = replace(config, opening_steps=0, single_share=0.0, own_context=0.0)
    cut, whole = draw(clips, MODEL, config, 0), draw(clips, MODEL, replace(config, crops=(4,)), 0)
    assert cut.x0.shape == (1, 4, 4, 4, 2)
    for name in ("x0", "nerf"):
        assert torch.equal(getattr(cut, name), getattr(whole, name)[..., 1:3]), name
    assert torch.equal(cut.normals, whole.normals[..., 8:24])
    assert torch.equal(cut.reference, whole.reference[..., 2:])
    assert torch.equal(cut.picture, whole.picture)


def test_windows_weigh_by_what_the_field_leaves(shards: Path) -> None:
    clips = Clips(shards, split="train")
    easy = clips.of_task["view"][0]
    near = clips.arrays["target_latents"][easy].astype(np.float32) * 0.1
    clips.arrays["nerf_latents"][easy] = clips.arrays["target_latents"][easy] - near
    config = replace(CONFIG, single_share=0.0, live_share=1.0, live_batch=8)
    config = replace(config, drop_nerf=0.0, own_context=0.0)
    for step in range(1, 20):  # until one has both kinds
        batch = draw(clips, MODEL, config, step)
        left = (batch.x0**2).mean((1, 2, 3, 4))
        if (left < 3).any() and (left > 6).any():  # the anchor alone is as in any other
            break
    weight = batch.weight.mean((1, 2, 3))
    assert (left < 3).any()
    assert (left > 6).any()
    assert weight[left < 3].min() > 4 * weight[left > 6].max()
    even = draw(clips, MODEL, replace(config, balance=False), step)
    assert even.weight.mean((1, 2, 3)).std() < 0.2


def test_the_switcher_says_the_task(shards: Path) -> None:
    clips = Clips(shards, split="train")
    for share, one_hot in ((1.0, [0.0, 1.0]), (0.0, [1.0, 0.0])):
        batch = draw(clips, MODEL, replace(CONFIG, view_share=share), 0)
        assert batch.switcher[0, 0].tolist() == one_hot


def test_workers_share_a_batch(shards: Path) -> None:
    clips = Clips(shards, split="train")
    config = replace(CONFIG, live_share=1.0, drop_nerf=0.5, live_batch=4)
    batch = draw(clips, MODEL, config, 0)
    parts = batch.split(2)
    model = Denoiser(MODEL)
    with torch.no_grad():
        whole = losses(model, batch)[0]
        halves = [losses(model, part)[0] for part in parts]
    torch.testing.assert_close(sum(halves) / 2, whole)
    with pytest.raises(ValueError, match="live_batch = 3 windows"):
        replace(config, workers=2, parity_batch=2, live_batch=3)


def test_every_part_of_the_model_learns(shards: Path) -> None:
    clips = Clips(shards, split="train")
    torch.manual_seed(0)
    model = Denoiser(MODEL)
    for net in (model.nerf_net, model.pose_net):
        torch.nn.init.normal_(net.final_proj.weight, std=0.1)
    config = replace(CONFIG, drop_reference=0.0)
    losses(model, draw(clips, MODEL, config, 0))[0].backward()
    still = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    # One token: queries, keys and the norm before them have no effect, so no gradient.
    left = [n for n in still if ".attn2.to_q" not in n and ".attn2.to_k" not in n]
    assert [n for n in left if ".norm2." not in n] == []


def test_training_resumes_to_the_same_weights(shards: Path, tmp_path: Path) -> None:
    whole = train(MODEL, CONFIG, data=shards, out=tmp_path / "whole", validate_every=4)
    train(MODEL, CONFIG, data=shards, out=tmp_path / "cut", stop_at=2, validate_every=0)
    resumed = train(MODEL, CONFIG, data=shards, out=tmp_path / "cut", validate_every=0)
    assert resumed.step == whole.step == CONFIG.steps
    for name, value in whole.mean.state_dict().items():
        assert torch.equal(resumed.mean.state_dict()[name], value), name
    row = json.loads((tmp_path / "whole" / "curve.jsonl").read_text().splitlines()[-1])
    assert {"loss", "parity_db", "live_db", "blind_db"} <= set(row)

    model, about = open_checkpoint(tmp_path / "cut" / "checkpoint.pt")
    assert model.config == MODEL
    assert about["step"] == CONFIG.steps
    for name, value in model.state_dict().items():
        assert torch.equal(value, whole.mean.state_dict()[name]), name
    other = replace(CONFIG, lr=1.0)
    with pytest.raises(ValueError, match="another configuration"):
        train(MODEL, other, data=shards, out=tmp_path / "cut", validate_every=0)


def test_clips_that_do_not_fit_are_refused(shards: Path, tmp_path: Path) -> None:
    longer = replace(CONFIG, windows=WindowConfig(), played=LENGTH)
    with pytest.raises(ValueError, match="clips play 6 frames, windows need 20"):
        train(MODEL, longer, data=shards, out=tmp_path)
    with pytest.raises(ValueError, match="latents of 4 channels, the model has 16"):
        train(PRESETS["mini"][0], CONFIG, data=shards, out=tmp_path)


def test_a_clip_from_pictures_comes_back(tmp_path: Path) -> None:
    torch.manual_seed(0)
    autoencoder = Autoencoder(AUTOENCODERS["tiny"][0]).eval()
    toy = toy_clip(0, "view")
    mask = np.zeros((LENGTH, 32, 32), np.uint8)
    mask[:, :8, :4] = 255

    def with_first(first: np.ndarray, rest: np.ndarray) -> np.ndarray:
        return np.concatenate([first[None], rest])

    pictures = Pictures(
        rgb=with_first(toy.reference_rgb, toy.normals),
        mask=with_first(mask[0], mask),
        renders=with_first(toy.reference_normals, toy.normals[::-1]),
        normals=with_first(toy.reference_normals, toy.normals),
    )
    clip = make_clip(
        autoencoder, seed=7, task="view", fps=25.0, azimuth=toy.azimuth, pictures=pictures
    )
    assert clip.person[0].tolist() == [[128, 0, 0, 0], *[[0] * 4] * 3]
    path = tmp_path / "train-00000.npz"
    write_clips(path, [clip, clip], black_latent=BLACK)
    read = read_clips(path)
    np.testing.assert_array_equal(read["nerf_latents"][1, ::-1], read["target_latents"][0])
    assert read["seed"].tolist() == [7, 7]
    np.testing.assert_array_equal(read["reference_rgb"][0], toy.reference_rgb)
    played = Clips(tmp_path, split="train", length=2 * LENGTH + 1)
    assert played.length == 2 * LENGTH + 1
    assert played.arrays["azimuth"].shape == (2, LENGTH)  # each frame is kept once
    shown = played.frames(1, np.array([-1, 0, LENGTH - 1, LENGTH, LENGTH + 1, 2 * LENGTH]))
    frames = [0, LENGTH - 1, LENGTH - 1, LENGTH - 2, 0]  # forth, back, and forth again
    np.testing.assert_array_equal(shown["target_latents"][1:], clip.target_latents[frames])
    np.testing.assert_array_equal(shown["normals"][1:], clip.normals[frames])
    np.testing.assert_array_equal(shown["normals"][0], clip.reference_normals)
    assert Clips(tmp_path, split="train", length=2).length == LENGTH  # nothing is cut off


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("schema", np.array(1), "this code reads 2"),
        ("task", np.array([3], np.uint8), "expected 0 or 1"),
        ("fps", np.array([25.0]), "fps: expected float32"),
        ("person", np.zeros((1, LENGTH, 2, 2), np.uint8), "person: expected uint8"),
        ("black_latent", BLACK + np.float16(np.nan), "not finite"),
        ("surplus", np.zeros(1), "unknown keys"),
        ("schema", np.array(3), "this code reads 2"),
        ("video", np.array([2], np.uint8), "video: expected 0 or 1"),
        ("target_latents", np.zeros(3, np.float16), "target_latents: expected"),
    ],
)
def test_malformed_shards_are_named(
    tmp_path: Path, key: str, value: np.ndarray, message: str
) -> None:
    good = tmp_path / "good.npz"
    write_clips(good, [toy_clip(0, "pose")], black_latent=BLACK)
    bad = tmp_path / "bad.npz"
    np.savez(bad, **read_clips(good) | {key: value})
    with pytest.raises(ValueError, match=message):
        read_clips(bad)


def test_clips_of_one_shard_agree(tmp_path: Path) -> None:
    short = toy_clip(0, "pose")
    short = replace(short, azimuth=short.azimuth[:2])
    with pytest.raises(ValueError, match="differ in azimuth"):
        write_clips(tmp_path / "x.npz", [toy_clip(1, "pose"), short], black_latent=BLACK)
    with pytest.raises(ValueError, match="no clips"):
        write_clips(tmp_path / "x.npz", [], black_latent=BLACK)


def test_missing_shards_say_what_writes_them(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"reference\.diffusion\.build"):
        Clips(tmp_path, split="train")


def test_half_precision_computes_the_same_loss_and_gradients(shards: Path) -> None:
    batch = draw(Clips(shards, split="train"), MODEL, CONFIG, 0)
    torch.manual_seed(0)
    model = Denoiser(MODEL)
    weight = model.unet.conv_in.weight
    found = []
    for half in (False, True):
        loss, _ = losses(model, batch, half=half)
        assert loss.dtype is torch.float32
        found.append((loss, torch.autograd.grad(loss, weight)[0]))
    (loss, gradient), (rough, rough_gradient) = found
    assert 0 < (rough - loss).abs() < 0.02 * loss  # not at all would mean that nothing was halved
    assert (rough_gradient - gradient).norm() < 0.1 * gradient.norm()
