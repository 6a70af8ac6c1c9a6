"""Each ablation lacks one thing, is like the full model in all else, and says so."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from reference import train as command
from reference.diffusion import Denoiser
from reference.diffusion.ablations import ABLATIONS, BUDGET, ablated
from reference.diffusion.batches import draw
from reference.diffusion.checkpoint import open_checkpoint
from reference.diffusion.clips import Clip, Clips, read_clips, write_clips
from reference.diffusion.config import DiffusionConfig
from reference.diffusion.training import PRESETS, losses, train, validate
from tests.reference.diffusion.conftest import CHANNELS, LENGTH, SIDE, toy_clip

MODEL, CONFIG = PRESETS["tiny"]
BLACK = np.zeros((CHANNELS, SIDE, SIDE), np.float16)


def clip(seed: int) -> Clip:
    video = seed % 4 < 2
    return replace(toy_clip(seed, "view" if seed % 2 else "pose"), video=video, fit_noise=video / 2)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scans and videos, views and motions; two shards for training, one for validation."""
    folder = tmp_path_factory.mktemp("mixed")
    for name, seeds in (
        ("train-00000", range(4)),
        ("train-00001", range(4, 7)),
        ("val-00000", range(4)),
    ):
        write_clips(folder / f"{name}.npz", [clip(s) for s in seeds], black_latent=BLACK)
    return folder


def inputs(seed: int = 0) -> dict[str, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=rng)

    return {
        "x": normal(1, 2, CHANNELS, SIDE, SIDE),
        "reference": normal(1, CHANNELS, SIDE, SIDE),
        "embedding": normal(1, 16),
        "nerf": normal(1, 2, CHANNELS, SIDE, SIDE),
        "normals": normal(1, 2, 3, 8 * SIDE, 8 * SIDE),
        "switcher": torch.tensor([[[1.0, 0], [1, 0]]]),
    }


def velocity(model: Denoiser, given: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        return model.velocity(
            given["x"],
            torch.ones(1, 2),
            reference=given["reference"],
            embedding=given["embedding"],
            condition=model.condition(given["nerf"], given["normals"]),
            switcher=given["switcher"],
        )


def model_of(name: str) -> Denoiser:
    torch.manual_seed(0)
    return Denoiser(ablated(name, MODEL, CONFIG)[0]).eval()


@pytest.mark.parametrize(
    ("name", "ignored"), [("no-nerf", "nerf"), ("no-switcher", "switcher"), ("full", None)]
)
def test_a_model_ignores_what_is_left_out_and_nothing_else(name: str, ignored: str | None) -> None:
    model, given = model_of(name), inputs()
    before = velocity(model, given)
    for key in ("nerf", "switcher", "normals", "reference", "embedding"):
        changed = velocity(model, given | {key: 1 - given[key]})
        assert torch.equal(changed, before) == (key == ignored), key


def test_without_the_field_the_whole_latent_is_generated() -> None:
    model, latents, nerf = (
        model_of("no-nerf"),
        torch.randn(1, 2, 4, 4, 4),
        torch.randn(1, 2, 4, 4, 4),
    )
    assert torch.equal(model.centre(latents, nerf), latents)
    assert torch.equal(model.latents(latents, nerf), latents)
    with pytest.raises(ValueError, match="set residual_std to None"):
        DiffusionConfig(nerf=False, residual_std=0.5)


def test_all_ablations_have_the_full_ones_budget_and_size() -> None:
    model, config = PRESETS["mini"]
    made = {name: ablated(name, model, config) for name in ABLATIONS}
    full_model, full = made["full"]
    assert full == replace(config, steps=round(BUDGET * config.steps), opening_steps=1500)
    assert full_model == model
    for name, (other_model, other) in made.items():
        assert (other.steps, other.opening_steps, other.lr) == (2100, 1500, config.lr)
        assert other_model.unet == model.unet
        assert (other_model, other) != made["full"] or name == "full"
    assert ablated("full", model, config, steps=700)[1].opening_steps == 500


@pytest.mark.parametrize(
    ("name", "seeds"),
    [
        ("full", range(7)),
        ("scans-only", (2, 3, 6)),
        ("view-only", (1, 3, 5)),
        ("pose-only", (0, 2, 4, 6)),
    ],
)
def test_clips_are_chosen_by_task_and_kind(mixed: Path, name: str, seeds) -> None:
    _, config = ablated(name, MODEL, CONFIG)
    clips = Clips(mixed, split="train", tasks=config.tasks, kinds=config.kinds)
    assert clips.arrays["seed"].tolist() == list(seeds)
    assert clips.left_out == 7 - len(seeds)
    for row, seed in enumerate(seeds):
        np.testing.assert_array_equal(
            clips.arrays["target_latents"][row], clip(seed).target_latents
        )
    assert set(clips.of_task) == set(config.tasks)
    for step in range(3):
        draw(clips, MODEL, config, step)


def test_a_limit_counts_what_is_chosen(mixed: Path) -> None:
    clips = Clips(mixed, split="train", kinds=("scan",), limit=3)
    assert clips.arrays["seed"].tolist() == [2, 3, 6]
    assert len(Clips(mixed, split="train", limit=2)) == 2


def test_shards_of_schema_1_hold_scans(mixed: Path, tmp_path: Path) -> None:
    arrays = read_clips(mixed / "train-00000.npz")
    assert arrays["video"].tolist() == [1, 1, 0, 0]
    del arrays["video"], arrays["fit_noise"]
    np.savez(tmp_path / "train-00000.npz", **arrays | {"schema": np.array(1)})
    old = read_clips(tmp_path / "train-00000.npz")
    assert old["video"].tolist() == old["fit_noise"].tolist() == [0] * 4
    with pytest.raises(ValueError, match="none of its 4 train clips is of task pose or view and"):
        Clips(tmp_path, split="train", kinds=("video",))


def test_leaving_nothing_out_is_no_ablation(shards: Path, tmp_path: Path) -> None:
    model, config = ablated("scans-only", MODEL, CONFIG, steps=1)
    with pytest.raises(ValueError, match="kind scan, so nothing would be left out"):
        train(model, config, data=shards, out=tmp_path)


@pytest.mark.parametrize("name", ABLATIONS)
def test_every_ablation_trains_and_is_validated_alike(
    mixed: Path, tmp_path: Path, name: str
) -> None:
    steps = ["--steps", "1", "--ablation", name, "--config", "tiny"]
    command.main(["unet", "--data", str(mixed), "--out", str(tmp_path), *steps])
    model, about = open_checkpoint(tmp_path / "checkpoint.pt")
    assert (about["ablation"], about["step"]) == (name, 1)
    assert asdict(model.config) == asdict(ablated(name, MODEL, CONFIG)[0])
    _, config = ablated(name, MODEL, CONFIG)
    held_out = Clips(mixed, split="val")
    assert np.isfinite(list(validate(model, held_out, config).values())).all()
    assert held_out.length == LENGTH


def test_only_the_layers_that_see_the_field_are_left_untrained(mixed: Path) -> None:
    untrained = {}
    for name in ("full", "no-nerf"):
        model, config = model_of(name), ablated(name, MODEL, CONFIG)[1]
        loss, _ = losses(model, draw(Clips(mixed, split="train"), model.config, config, 3))
        loss.backward()
        untrained[name] = {n for n, p in model.named_parameters() if p.grad is None}
    more = {name.split(".")[0] for name in untrained["no-nerf"] - untrained["full"]}
    assert more == {"nerf_net"}
    assert untrained["full"] <= untrained["no-nerf"]


def test_the_command_knows_the_ablations() -> None:
    assert tuple(ABLATIONS) == command.ABLATIONS
