"""The compiled kernels. Arrays are C-contiguous and of the exact dtype; results go to `out`."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]

isa: str

class Camera:
    def __init__(
        self, intrinsics: F32, rotation: F32, translation: F32, width: int, height: int
    ) -> None: ...

def rodrigues(rotvec: F32, out: F32) -> None: ...
def joint_transforms(
    rotations: F32, joints: F32, parents: I32, transforms: F32, posed_joints: F32
) -> None: ...
def pose_offsets(rotations: F32, posedirs: F32, threads: int, out: F32) -> None: ...
def shape_offsets(betas: F32, shapedirs: F32, out: F32) -> None: ...
def skin(
    vertices: F32, transforms: F32, bone_ids: I32, bone_weights: F32, threads: int, out: F32
) -> None: ...
def inverse_maps(
    target: F32,
    offsets_target: F32,
    canonical: F32,
    offsets_canonical: F32,
    bone_ids: I32,
    bone_weights: F32,
    threads: int,
    out: F32,
) -> None: ...
def vertex_normals(vertices: F32, faces: I32, threads: int, out: F32) -> None: ...
def rasterize(
    camera: Camera,
    vertices: F32,
    faces: I32,
    threads: int,
    face_id: I32,
    barycentric: F32,
    depth: F32,
) -> None: ...
def interpolate(
    face_id: I32, barycentric: F32, faces: I32, attributes: F32, threads: int, out: F32
) -> None: ...
def sample_texture_f32(
    face_id: I32,
    barycentric: F32,
    uv: F32,
    uv_faces: I32,
    texture: NDArray[Any],
    threads: int,
    out: F32,
) -> None: ...
def sample_texture_u8(
    face_id: I32,
    barycentric: F32,
    uv: F32,
    uv_faces: I32,
    texture: NDArray[Any],
    threads: int,
    out: F32,
) -> None: ...
def render_normals(
    camera: Camera,
    vertices: F32,
    faces: I32,
    threads: int,
    out: F32,
    mask: NDArray[np.bool_],
) -> None: ...

class Field:
    def __init__(
        self,
        scales: list[float],
        resolutions: list[int],
        sizes: list[int],
        features: int,
        table: NDArray[Any],
        nets: F32,
        lo: list[float],
        hi: list[float],
        density_scale: float,
    ) -> None: ...
    def forward(self, x: F32, d: F32, threads: int, sigma: F32, rgb: F32) -> None: ...
    def density(self, x: F32, threads: int, sigma: F32) -> None: ...

class Trainer:
    def __init__(self, initial: Field) -> None: ...
    def run(
        self,
        x: F32,
        d: F32,
        sigma: F32,
        rgb: F32,
        weight: F32,
        step_m: float,
        colour_weight: float,
        lr: float,
        beta1: float,
        beta2: float,
        epsilon: float,
        threads: int,
    ) -> float: ...
    def read(self, gradients: bool, table: F32, nets: F32) -> None: ...

class Shell:
    def __init__(
        self,
        vertices: F32,
        maps: F32,
        radius_m: float,
        beyond_ids: I32,
        beyond_radius_m: float,
        threads: int,
    ) -> None: ...
    def query(self, points: F32, threads: int, vertex_id: I32, canonical: F32) -> None: ...

def march(
    shell: Shell,
    field: Field,
    camera: Camera,
    occupancy: NDArray[np.uint8] | None,
    resolution: int,
    samples: int,
    early_stop: float,
    threads: int,
    rgb: F32,
    alpha: F32,
) -> None: ...
def composite(
    offsets: NDArray[np.int64],
    delta: F32,
    sigma: F32,
    colour: F32,
    threads: int,
    rgb: F32,
    alpha: F32,
) -> None: ...
def upsample(picture: F32, threads: int, out: F32) -> None: ...

class SampleList:
    def __init__(
        self, shell: Shell, camera: Camera, pixels: I32 | None, samples: int, threads: int
    ) -> None: ...
    @property
    def count(self) -> int: ...
    def fill(
        self,
        shell: Shell,
        offsets: NDArray[np.int64],
        ray: I32,
        delta: F32,
        canonical: F32,
        direction: F32,
        vertex_id: I32,
    ) -> None: ...
