"""SMPL fits as an estimator finds them in a video: near the truth, and wrong in ways that last.

Scans know pose, shape and camera exactly. For a video they are estimated, and models that have only
seen exact ones take every offset of a limb for the person's own (GAS trains on both kinds for that
reason; its pipeline's fits are a single-image transformer's, HMR 2.0). What is modelled:

- Limbs swing further in depth than across the picture, where the estimator sees them. Errors of a
  joint carry the limb beyond it along.
- An error lasts: most of it is the same a quarter of a second later; a little flickers.
- Shape is pulled towards the mean person and is one per video. The focal length is a guess.
- The body is put where its joints fall on the picture's (the least squares of SPIN and HMR), so a
  wrong focal length or size ends up as a wrong distance, not as a person beside the person.

Level 1 is calibrated so that joints are about 33 mm from the truth after Procrustes alignment:
HMR 2.0 has 33.6 mm on Human3.6M, whose one fully visible person is what our clips show, and 44.4 mm
on 3DPW, outdoors (Goel et al. 2023); `tests/reference/people/test_fits.py` measures it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gas_rt.body import BodyModel, ShapedBody
from gas_rt.body.rotations import compose
from gas_rt.core import JOINT_COUNT, Camera, Pose

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

__all__ = ["FitNoise", "Fits", "estimated", "estimated_shape"]

JOINT_SHARE = np.ones(JOINT_COUNT)
"""Of the limb's error, per joint: trunk and hips are seen best, ankles and wrists worst."""

JOINT_SHARE[0] = 0.5
JOINT_SHARE[[1, 2, 12]] = 0.8
JOINT_SHARE[[3, 6, 9, 13, 14]] = 0.4
JOINT_SHARE[[7, 8, 20, 21]] = 1.5
JOINT_SHARE[[22, 23]] = 0.0  # the bundled bodies' fingers do not follow these


@dataclass(frozen=True)
class FitNoise:
    """Standard deviations of what an estimator gets wrong.

    Attributes
    ----------
    depth_deg, plane_deg : of a joint's rotation about axes across the line of sight, which swing a
        limb in depth, and about the line of sight, which swing it across the picture.
    shape_share : how far betas are drawn to zero; shape : what is added to each.
    focal_share : of the focal length, of which a video has one.
    place_m : of the body across the line of sight, distance_share of its distance along it.
    lasting_s : time after which an error has kept 0.6 of itself, 0.14 after twice that.
    flicker : share of the standard deviation that is new in every frame.
    """

    depth_deg: float = 7.2
    plane_deg: float = 2.4
    shape_share: float = 0.3
    shape: float = 0.35
    focal_share: float = 0.08
    place_m: float = 0.006
    distance_share: float = 0.01
    lasting_s: float = 0.4
    flicker: float = 0.08

    def scaled(self, level: float) -> FitNoise:
        """All errors `level` times as large, as long lasting."""
        names = ("depth_deg", "plane_deg", "shape", "focal_share", "place_m", "distance_share")
        sizes = {name: getattr(self, name) * level for name in names}
        return replace(self, shape_share=min(1.0, self.shape_share * level), **sizes)


@dataclass(frozen=True, eq=False)
class Fits:
    """What an estimator found for one person.

    betas [10]; per frame a pose, and the camera as it is believed to be, in the true world.
    """

    betas: F32
    poses: tuple[Pose, ...]
    cameras: tuple[Camera, ...]


def estimated(
    body: BodyModel,
    true: Fits,
    times_s: Sequence[float],
    noise: FitNoise,
    rng: np.random.Generator,
    *,
    betas: F32 | None = None,
) -> Fits:
    """What is found in a video taken at `times_s`, ascending; `betas` if the shape is known."""
    if betas is None:
        betas = estimated_shape(true.betas, noise, rng)
    focal = float(np.exp(rng.normal(0, noise.focal_share)))
    count = len(times_s)
    turned = _lasting(rng, times_s, (JOINT_COUNT, 3), noise)
    moved = _lasting(rng, times_s, (3,), noise)
    truth, found = body.shape(true.betas), body.shape(betas)
    sizes = np.radians([noise.depth_deg, noise.depth_deg, noise.plane_deg])
    poses, cameras = [], []
    for k in range(count):
        camera = _with_focal(true.cameras[k], focal)
        axis_angle = turned[k] * sizes * JOINT_SHARE[:, None]
        pose = _swung(body, truth, true.poses[k], camera, axis_angle)
        seen = body.pose(truth, true.poses[k]).joints
        poses.append(_placed(body, found, pose, camera, seen, true.cameras[k], moved[k], noise))
        cameras.append(camera)
    return Fits(betas, tuple(poses), tuple(cameras))


def estimated_shape(betas: F32, noise: FitNoise, rng: np.random.Generator) -> F32:
    """Betas [10] nearer to the mean person's, and off."""
    pulled = (1 - noise.shape_share) * betas + rng.normal(0, noise.shape, len(betas))
    return np.asarray(pulled, np.float32)


def _lasting(
    rng: np.random.Generator, times_s: Sequence[float], shape: tuple[int, ...], noise: FitNoise
) -> F64:
    """Unit noise that changes smoothly in `lasting_s`, and flickers. [T, *shape]."""
    times = np.asarray(times_s, np.float64)
    apart = (times[:, None] - times[None]) / noise.lasting_s
    # A Gaussian process; the small diagonal keeps its factor real.
    factor = np.linalg.cholesky(np.exp(-0.5 * apart**2) + 1e-6 * np.eye(len(times)))
    smooth = np.tensordot(factor, rng.normal(size=(len(times), *shape)), 1)
    fresh = rng.normal(size=smooth.shape)
    return np.asarray(np.sqrt(1 - noise.flicker**2) * smooth + noise.flicker * fresh)


def _with_focal(camera: Camera, factor: float) -> Camera:
    intrinsics = camera.intrinsics.copy()
    intrinsics[[0, 1], [0, 1]] *= np.float32(factor)
    return replace(camera, intrinsics=intrinsics)


def _swung(body: BodyModel, truth: ShapedBody, pose: Pose, camera: Camera, axis_angle: F64) -> Pose:
    """The pose with each joint turned by `axis_angle` [24,3], radians, in the camera's axes."""
    turns = body.pose(truth, pose).transforms[:, :, :3].astype(np.float64)
    world = axis_angle @ camera.rotation.astype(np.float64)
    # A joint's rotation is in its parent's axes; the root's are the world's.
    parents = np.concatenate([np.eye(3)[None], turns[body.parents[1:]]])
    local = np.einsum("jba,jb->ja", parents, world)
    return Pose(compose(local, pose.rotations).astype(np.float32), pose.translation)


def _placed(
    body: BodyModel,
    found: ShapedBody,
    pose: Pose,
    believed: Camera,
    joints: F32,
    true_camera: Camera,
    moved: F64,
    noise: FitNoise,
) -> Pose:
    """The pose moved to where its joints fall on those seen, and then off by `moved` [3]."""
    seen = joints @ true_camera.rotation.T + true_camera.translation
    focal = np.diag(true_camera.intrinsics)[:2] / np.diag(believed.intrinsics)[:2]
    # Where the believed camera has the joints seen, in units of depth. [24,2].
    slope = (seen[:, :2] / seen[:, 2:] * focal).astype(np.float64)
    own = body.pose(found, pose).joints @ believed.rotation.T + believed.translation
    own = own.astype(np.float64)
    # own_xy + d_xy = slope (own_z + d_z) for every joint: three unknowns, least squares.
    rows = np.zeros((2, len(own), 3))
    rows[0, :, 0] = rows[1, :, 1] = 1
    rows[..., 2] = -slope.T
    wanted = slope.T * own[:, 2] - own[:, :2].T
    offset, *_ = np.linalg.lstsq(rows.reshape(-1, 3), wanted.reshape(-1), rcond=None)
    distance = own[0, 2] + offset[2]
    offset += moved * [noise.place_m, noise.place_m, 0]
    # Along the line of sight, which leaves the person where it is in the picture.
    offset += moved[2] * noise.distance_share * distance * np.append(slope[0], 1.0)
    carried = believed.rotation.T.astype(np.float64) @ offset
    return Pose(pose.rotations, (pose.translation + carried).astype(np.float32))
