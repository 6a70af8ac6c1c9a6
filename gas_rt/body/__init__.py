"""SMPL-format bodies, their poses and motions."""

from gas_rt.body.bvh import read_bvh
from gas_rt.body.fit import BodyFit
from gas_rt.body.motion import Motion
from gas_rt.body.procedural import MOTION_NAMES, procedural_motion
from gas_rt.body.skeleton import JOINT_NAMES, MIRROR, PARENTS, big_pose, joint_index
from gas_rt.body.smpl import BodyModel, PosedBody, ShapedBody

__all__ = [
    "JOINT_NAMES",
    "MIRROR",
    "MOTION_NAMES",
    "PARENTS",
    "BodyFit",
    "BodyModel",
    "Motion",
    "PosedBody",
    "ShapedBody",
    "big_pose",
    "joint_index",
    "procedural_motion",
    "read_bvh",
]
