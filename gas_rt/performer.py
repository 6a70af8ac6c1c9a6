"""One avatar on one model: poses and renders single frames, with nothing in between."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from gas_rt.avatar import Avatar
from gas_rt.cameras import camera_problems
from gas_rt.core import F32, Camera, Pose
from gas_rt.enrollment import ModelParts, teacher_of
from gas_rt.errors import InputError
from gas_rt.field.render import RenderMode, check_mode, render_baked, render_exact, to_uint8
from gas_rt.field.rig import PosedRig, Rig
from gas_rt.kernels import PosedShell
from gas_rt.stream.stages import Picture

__all__ = ["Performer"]


class Performer:
    """One avatar on one model: poses and renders single frames, with nothing in between."""

    def __init__(
        self,
        parts: ModelParts,
        avatar: Avatar,
        *,
        mode: RenderMode = "fast",
        half_field: bool = False,
    ) -> None:
        """`half_field` renders the field at half the resolution and upsamples it."""
        avatar.check_bundle(parts.bundle)
        self._config = parts.bundle.config
        self._threads = parts.threads
        self.avatar = avatar
        self.rig = Rig(parts.body, avatar.betas, radius_m=avatar.radius_m, limits=parts.shell_range)
        self.mode = check_mode(mode)
        if half_field and mode == "exact":
            raise InputError(
                "half_field: the teacher renders at full resolution; use mode 'fast' or 'baked'"
            )
        self.half_field = half_field
        self.render = self._renderer(parts)

    def pose(self, pose: Pose) -> PosedRig:
        """The posed body and its shell."""
        return self.rig.pose(pose, threads=self._threads)

    def picture(self, pose: Pose, camera: Camera) -> Picture:
        """The frame a session would make of this pose and camera."""
        return Picture(*to_uint8(*self.render(self.pose(pose).shell, camera)), "field")

    @property
    def camera_ranges(self) -> Mapping[str, tuple[float, float]]:
        """By name, the lowest and highest value the model saw in training."""
        return self._config.camera_ranges

    def camera_problems(self, camera: Camera, pose: Pose) -> list[str]:
        """What about `camera` lies outside the bundle's ranges."""
        ranges = self._config.camera_ranges
        return camera_problems(camera, pose.translation, ranges=ranges, height_m=self.rig.height_m)

    def _renderer(self, parts: ModelParts) -> Callable[[PosedShell, Camera], tuple[F32, F32]]:
        avatar, samples = self.avatar, self._config.march_samples
        if self.mode == "exact":
            teacher = teacher_of(parts, avatar)
            return partial(render_exact, teacher, samples=samples, threads=parts.threads)
        return partial(
            render_baked,
            avatar.field,
            mode=self.mode,
            samples=samples,
            occupancy=avatar.occupancy,
            half_resolution=self.half_field,
            threads=parts.threads,
        )
