"""Geometry and field kernels: Python faces over the compiled extension, NumPy twins beside them.

``GAS_RT_KERNELS=numpy`` runs the twins instead; ``GAS_RT_ISA=base|avx2|avx512`` fixes the
instruction set of the compiled kernels, which is otherwise the widest the machine has.
"""

from gas_rt.kernels._backend import kernel_isa
from gas_rt.kernels.field import field_density, field_forward
from gas_rt.kernels.hash_field import HashField
from gas_rt.kernels.hash_grid import HashGridConfig
from gas_rt.kernels.march import PackedSamples, composite, march, march_samples
from gas_rt.kernels.normals import render_normals, vertex_normals
from gas_rt.kernels.occupancy import Occupancy, occupancy
from gas_rt.kernels.raster import Raster, interpolate, rasterize, sample_texture
from gas_rt.kernels.shell import PosedShell, WideReach
from gas_rt.kernels.skinning import (
    inverse_maps,
    joint_transforms,
    pose_offsets,
    rodrigues,
    shape_offsets,
    skin,
)
from gas_rt.kernels.trainer import FieldGradients, FieldTrainer, learning_rate
from gas_rt.kernels.upsample import upsample

__all__ = [
    "FieldGradients",
    "FieldTrainer",
    "HashField",
    "HashGridConfig",
    "Occupancy",
    "PackedSamples",
    "PosedShell",
    "Raster",
    "WideReach",
    "composite",
    "field_density",
    "field_forward",
    "interpolate",
    "inverse_maps",
    "joint_transforms",
    "kernel_isa",
    "learning_rate",
    "march",
    "march_samples",
    "occupancy",
    "pose_offsets",
    "rasterize",
    "render_normals",
    "rodrigues",
    "sample_texture",
    "shape_offsets",
    "skin",
    "upsample",
    "vertex_normals",
]
