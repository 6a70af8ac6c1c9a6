"""One person's body, ready to be posed: vertices for the raster, the shell for the march."""

from __future__ import annotations

from dataclasses import dataclass

from gas_rt.body import BodyModel, PosedBody
from gas_rt.body.person_shell import ShellRange, person_shell
from gas_rt.core import F32, Pose
from gas_rt.kernels import PosedShell

__all__ = ["PosedRig", "Rig"]


@dataclass(frozen=True, eq=False)
class PosedRig:
    """A pose of the body and the shell of samples around it."""

    body: PosedBody
    shell: PosedShell


class Rig:
    """A body model with one person's shape."""

    def __init__(
        self, model: BodyModel, betas: F32, *, radius_m: float, limits: ShellRange
    ) -> None:
        self.model = model
        self.shaped = model.shape(betas)
        self.radius_m, self.limits = radius_m, limits

    @property
    def height_m(self) -> float:
        """The person's height at rest."""
        vertical = self.shaped.vertices[:, 1]
        return float(vertical.max() - vertical.min())

    def pose(self, pose: Pose, *, threads: int) -> PosedRig:
        """Pose the body and build its shell."""
        body = self.model.pose(self.shaped, pose, threads=threads)
        shell = person_shell(self.model, body, self.radius_m, limits=self.limits, threads=threads)
        return PosedRig(body, shell)
