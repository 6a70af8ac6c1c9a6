"""NumPy twins of the compiled kernels: slow, plain, and the oracle their tests compare with.

They take arguments that the faces in `gas_rt.kernels` have checked.
"""

from gas_rt.kernels.twins.field import field_density, field_forward, hash_encode
from gas_rt.kernels.twins.march import composite, march, march_samples
from gas_rt.kernels.twins.normals import shade_normals, vertex_normals
from gas_rt.kernels.twins.raster import interpolate, rasterize, sample_texture
from gas_rt.kernels.twins.shell import query_shell
from gas_rt.kernels.twins.skinning import (
    inverse_maps,
    joint_transforms,
    pose_offsets,
    rodrigues,
    shape_offsets,
    skin,
)
from gas_rt.kernels.twins.trainer import Trainer, adam_step, loss_and_gradients
from gas_rt.kernels.twins.upsample import upsample

__all__ = [
    "Trainer",
    "adam_step",
    "composite",
    "field_density",
    "field_forward",
    "hash_encode",
    "interpolate",
    "inverse_maps",
    "joint_transforms",
    "loss_and_gradients",
    "march",
    "march_samples",
    "pose_offsets",
    "query_shell",
    "rasterize",
    "rodrigues",
    "sample_texture",
    "shade_normals",
    "shape_offsets",
    "skin",
    "upsample",
    "vertex_normals",
]
