"""What the parts of stage 2 bring: models and training data with one of them left out.

Full and ablations are trained on one budget, so that they compare:
``python -m reference.train unet --ablation NAME``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from reference.diffusion.config import DiffusionConfig
from reference.diffusion.training import DiffusionTraining

__all__ = ["ABLATIONS", "BUDGET", "Ablation", "ablated"]

BUDGET = 0.3  # of the full training's steps: six runs in the time of two


@dataclass(frozen=True)
class Ablation:
    """What differs from the full model.

    Attributes
    ----------
    shown_as : its name in tables.
    """

    shown_as: str
    nerf: bool = True
    switcher: bool = True
    tasks: tuple[str, ...] = DiffusionTraining.tasks
    kinds: tuple[str, ...] = DiffusionTraining.kinds


ABLATIONS: dict[str, Ablation] = {
    "full": Ablation("full"),
    "no-nerf": Ablation("normals only, as Animate Anyone and Champ condition", nerf=False),
    "no-switcher": Ablation("no switcher", switcher=False),
    "scans-only": Ablation("scans only", kinds=("scan",)),
    "view-only": Ablation("view only", tasks=("view",)),
    "pose-only": Ablation("pose only", tasks=("pose",)),
}


def ablated(
    name: str, model: DiffusionConfig, training: DiffusionTraining, *, steps: int | None = None
) -> tuple[DiffusionConfig, DiffusionTraining]:
    """The configurations of an ablation, trained for `steps` or else for `BUDGET` of the full's.

    The opening keeps its share of the steps.
    """
    change = ABLATIONS[name]
    total = steps or max(1, round(BUDGET * training.steps))
    return (
        replace(
            model,
            nerf=change.nerf,
            switcher=change.switcher,
            # Without the field there is nothing to centre latents on.
            residual_std=model.residual_std if change.nerf else None,
        ),
        replace(
            training,
            tasks=change.tasks,
            kinds=change.kinds,
            steps=total,
            opening_steps=round(training.opening_steps * total / training.steps),
        ),
    )
