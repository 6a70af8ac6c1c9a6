"""How much of everything a bundle is made of, and how a budget of time is shared."""

from __future__ import annotations

from dataclasses import dataclass, replace

from reference.autoencoder.model import AutoencoderConfig
from reference.autoencoder.training import PRESETS as AUTOENCODERS
from reference.autoencoder.training import AutoencoderTraining
from reference.diffusion.config import DiffusionConfig
from reference.diffusion.distill import PRESETS as STUDENTS
from reference.diffusion.distill import StudentTraining
from reference.diffusion.training import PRESETS as UNETS
from reference.diffusion.training import DiffusionTraining
from reference.nerf.config import PRESETS as FIELDS
from reference.nerf.config import FieldConfig, TrainConfig

__all__ = ["RECIPES", "SHARES", "Recipe", "on_gpu"]

SHARES = {
    "people": 0.08,
    "autoencoder": 0.08,
    "stage1": 0.2,
    "clips": 0.2,
    "unet": 0.24,
    "student": 0.1,
    "judge": 0.1,  # and export, which takes as long as it takes
}
"""Of the budget. What a step leaves over goes to those after it."""

GPU_BATCH = 4  # times as many examples per step, since a small step leaves a GPU idle


@dataclass(frozen=True)
class Recipe:
    """What a bundle is made of; numbers are the most that a budget may buy.

    Attributes
    ----------
    name : of the bundle.
    persons, val_persons : people of stage 1 and the autoencoder, 13 pictures each.
    clips, val_clips : people of stage 2, a clip each.
    frames, twins : of a clip; see `reference.diffusion.build.Plan`.
    judged : people that the table is of.
    streams : whether the bundle is judged as a user would run it; else parts of it alone.
    """

    name: str
    field: FieldConfig
    stage1: TrainConfig
    autoencoder: AutoencoderConfig
    coding: AutoencoderTraining
    model: DiffusionConfig
    unet: DiffusionTraining
    student: StudentTraining
    persons: int = 1536
    val_persons: int = 32
    clips: int = 4096
    val_clips: int = 64
    frames: int = 8
    twins: bool = True
    judged: int = 16
    streams: bool = True

    @property
    def size(self) -> int:
        """Side of all pictures, in pixels."""
        return self.field.resolution


def _recipe(config: str, name: str) -> Recipe:
    field, stage1 = FIELDS[config]
    autoencoder, coding = AUTOENCODERS[config]
    model, unet = UNETS[config]
    student = replace(STUDENTS[config], windows=unet.windows)
    return Recipe(name, field, stage1, autoencoder, coding, model, unet, student)


RECIPES = {
    "mini": _recipe("mini", "gas-mini"),
    "mini-256": replace(_recipe("mini-256", "gas-mini-256"), persons=1024, clips=2048),
    "tiny": replace(
        _recipe("tiny", "gas-tiny"),
        persons=2,
        val_persons=1,
        clips=2,
        val_clips=1,
        frames=2,
        twins=False,
        judged=1,
        streams=False,
    ),
}


def on_gpu(recipe: Recipe) -> Recipe:
    """The same with larger steps, each of one part: a GPU is not shared by threads."""
    stage1, coding, unet, student = recipe.stage1, recipe.coding, recipe.unet, recipe.student
    return replace(
        recipe,
        stage1=replace(stage1, persons=GPU_BATCH * stage1.persons, workers=1),
        coding=replace(coding, batch=GPU_BATCH * coding.batch),
        unet=replace(
            unet,
            opening_batch=GPU_BATCH * unet.opening_batch,
            parity_batch=GPU_BATCH * unet.parity_batch,
            live_batch=GPU_BATCH * unet.live_batch,
            workers=1,
        ),
        student=replace(
            student,
            parity_batch=GPU_BATCH * student.parity_batch,
            live_batch=GPU_BATCH * student.live_batch,
            workers=1,
        ),
    )
