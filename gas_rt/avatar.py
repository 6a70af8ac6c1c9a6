"""The avatar: everything of one person that does not change per frame, and its file.

An avatar file is one safetensors file. Its metadata name the format and the bundle it was enrolled
with; all of it is checked before a tensor is read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gas_rt.core import F32, U8, Camera, Pose, checked
from gas_rt.engine import Bundle
from gas_rt.errors import FileError, GasRtError, InputError
from gas_rt.field.teacher import FEATURES
from gas_rt.files import atomic_write
from gas_rt.kernels import HashField, HashGridConfig, Occupancy
from gas_rt.kernels.shell import checked_radius_m
from gas_rt.tensor_file import TensorHeader, read_tensor_header, read_tensors

__all__ = ["Avatar", "BundleMark"]

METADATA_KEY = "gas_rt_avatar"
FORMAT_VERSION = 3
WHAT = "a gas-rt avatar"
SIDE_MAX = 2048
TENSORS = {
    "field.table": "F16",
    "field.density_mlp": "F32",
    "field.colour_mlp": "F32",
    "field.box": "F32",
    "field.density_scale": "F32",
    "occupancy": "U8",
    "betas": "F32",
    "pose.rotations": "F32",
    "pose.translation": "F32",
    "camera.intrinsics": "F32",
    "camera.rotation": "F32",
    "camera.translation": "F32",
    "shell.radius_m": "F32",
    "reference.rgb": "U8",
    "reference.mask": "U8",
    **{f"teacher.{name}": "F16" for name in FEATURES},
}
# Of stage 2; in the file if, and only if, the bundle has it.
DIFFUSION_TENSORS = {"reference.latent": "F32", "reference.embedding": "F32"}


@dataclass(frozen=True)
class BundleMark:
    """Which bundle an avatar belongs to."""

    name: str
    version: str
    fingerprint: str

    @classmethod
    def of(cls, bundle: Bundle) -> BundleMark:
        """The mark of an open bundle."""
        return cls(bundle.name, bundle.version, bundle.fingerprint)

    def __str__(self) -> str:
        return f"{self.name} {self.version} ({self.fingerprint[:8]})"


@dataclass(frozen=True)
class FieldShape:
    """Sizes of a baked field: its hash grid, and its occupancy's cells per axis."""

    grid: HashGridConfig
    cells: int


@dataclass(frozen=True, eq=False)
class Avatar:
    """One enrolled person.

    Attributes
    ----------
    bundle : what it was enrolled with, and can be shown with.
    betas : [10] shape.
    pose, camera : of the photo, on the model's pixel grid.
    radius_m : of the person's shell: only points this close to a vertex of hips, waist or legs have
        density, and elsewhere those as close as the bundle's least radius.
    rgb, mask : [S, S, 3] premultiplied and [S, S], the photo on that grid.
    field : the baked field; occupancy : which of its cells hold anything.
    features : the encoder's outputs, from which the exact field can be evaluated.
    latent, embedding : [C, h, w] and [D], the photo as stage 2 reads it, unscaled; None if the
        bundle has no stage 2.
    """

    bundle: BundleMark
    betas: F32
    pose: Pose
    camera: Camera
    radius_m: float
    rgb: U8
    mask: U8
    field: HashField
    occupancy: Occupancy
    features: Mapping[str, F32]
    latent: F32 | None = None
    embedding: F32 | None = None

    @classmethod
    def open(cls, path: str | Path, *, bundle: Bundle | None = None) -> Avatar:
        """Read an avatar file; with `bundle`, refuse one that was enrolled with another."""
        header = read_tensor_header(path, what=WHAT)
        mark, shape = _check_header(header)
        if bundle is not None:
            check_mark(mark, bundle, source=str(path))
            shapes = {name: entry.shape for name, entry in header.tensors.items()}
            _check_features(shapes, bundle, source=str(path))
            _check_reference(shapes, bundle, source=str(path))
        arrays = read_tensors(header)
        try:
            return cls._from_arrays(mark, shape, arrays)
        except GasRtError as error:
            raise FileError(f"{path}: damaged: {error}; enroll the photo again") from error

    def save(self, path: str | Path) -> None:
        """Write the avatar, replacing the file in one step."""
        from safetensors.numpy import save

        arrays = self._arrays()
        assert set(arrays) in _allowed_tensors()
        description = {
            "format_version": FORMAT_VERSION,
            "bundle": [self.bundle.name, self.bundle.version, self.bundle.fingerprint],
            "grid": self.field.config.as_dict(),
            "occupancy_resolution": self.occupancy.resolution,
        }
        # One entry: safetensors writes several in an order that changes from run to run.
        metadata = {METADATA_KEY: json.dumps(description, sort_keys=True)}
        contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        with atomic_write(path) as stream:
            stream.write(save(contiguous, metadata))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of what its file holds, by which a recording knows whom it shows."""
        digest = hashlib.sha256()
        for name, array in sorted(self._arrays().items()):
            digest.update(f"{name} {array.dtype.str} {array.shape};".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def check_bundle(self, bundle: Bundle) -> None:
        """Raise unless `bundle` is the one the avatar was enrolled with, and its sizes fit it."""
        check_mark(self.bundle, bundle, source="avatar")
        config = bundle.config
        if not config.shell_radius_m <= self.radius_m <= config.shell_radius_max_m:
            raise FileError(
                f"avatar: damaged: its shell is {self.radius_m:g} m wide, bundle {bundle.label} "
                f"makes {config.shell_radius_m:g} to {config.shell_radius_max_m:g}; enroll the "
                "photo again"
            )
        features = {f"teacher.{name}": array.shape for name, array in self.features.items()}
        _check_features(features, bundle, source="avatar")
        photo = {"reference.latent": self.latent, "reference.embedding": self.embedding}
        shapes = {name: array.shape for name, array in photo.items() if array is not None}
        _check_reference(shapes, bundle, source="avatar")

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {
            **{f"field.{name}": array for name, array in self.field.halved().arrays().items()},
            "occupancy": self.occupancy.bits,
            "betas": self.betas,
            "pose.rotations": self.pose.rotations,
            "pose.translation": self.pose.translation,
            "camera.intrinsics": self.camera.intrinsics,
            "camera.rotation": self.camera.rotation,
            "camera.translation": self.camera.translation,
            "shell.radius_m": np.array([self.radius_m], np.float32),
            "reference.rgb": self.rgb,
            "reference.mask": self.mask,
            **{f"teacher.{name}": self.features[name].astype(np.float16) for name in FEATURES},
            **({} if self.latent is None else {"reference.latent": self.latent}),
            **({} if self.embedding is None else {"reference.embedding": self.embedding}),
        }

    @classmethod
    def _from_arrays(
        cls, mark: BundleMark, shape: FieldShape, arrays: dict[str, NDArray[Any]]
    ) -> Avatar:
        rgb = arrays["reference.rgb"]
        side = rgb.shape[0] if rgb.ndim == 3 else 0
        if not 1 <= side <= SIDE_MAX or rgb.shape != (side, side, 3):
            raise InputError(f"reference.rgb: expected a square picture, got {list(rgb.shape)}")
        field = HashField.from_arrays(
            shape.grid,
            {name[6:]: array for name, array in arrays.items() if name.startswith("field.")},
        )
        return cls(
            bundle=mark,
            betas=checked(arrays["betas"], "betas", shape=(None,)),
            pose=Pose(arrays["pose.rotations"], arrays["pose.translation"]),
            camera=Camera(
                arrays["camera.intrinsics"],
                arrays["camera.rotation"],
                arrays["camera.translation"],
                side,
                side,
            ),
            radius_m=_radius_m(arrays["shell.radius_m"]),
            rgb=rgb,
            mask=checked(
                arrays["reference.mask"], "reference.mask", shape=(side, side), dtype=np.uint8
            ),
            field=field,
            occupancy=Occupancy(arrays["occupancy"], shape.cells),
            features={name: arrays[f"teacher.{name}"].astype(np.float32) for name in FEATURES},
            latent=_optional(arrays, "reference.latent", ndim=3),
            embedding=_optional(arrays, "reference.embedding", ndim=1),
        )


def _radius_m(stored: NDArray[Any]) -> float:
    # As enrolment had it, which no float32 is.
    value = round(float(checked(stored, "shell.radius_m", shape=(1,))[0]), 6)
    return checked_radius_m(value, "shell.radius_m")


def _optional(arrays: dict[str, NDArray[Any]], name: str, *, ndim: int) -> F32 | None:
    return checked(arrays[name], name, shape=(None,) * ndim) if name in arrays else None


def _allowed_tensors() -> tuple[set[str], set[str]]:
    return set(TENSORS), {*TENSORS, *DIFFUSION_TENSORS}


def check_mark(mark: BundleMark, bundle: Bundle, *, source: str) -> None:
    """Raise a `FileError` unless `mark` is that of `bundle`."""
    loaded = BundleMark.of(bundle)
    if mark != loaded:
        raise FileError(
            f"{source}: was enrolled with bundle {mark}, the one loaded is {loaded}; "
            "load that bundle or enroll the photo again"
        )


def _check_header(header: TensorHeader) -> tuple[BundleMark, FieldShape]:
    path = header.path
    if METADATA_KEY not in header.metadata:
        raise FileError(f"{path}: not {WHAT}: its metadata lack {METADATA_KEY!r}")
    try:
        description = json.loads(header.metadata[METADATA_KEY])
        version = description["format_version"]
        if version != FORMAT_VERSION:
            raise FileError(
                f"{path}: avatar format {version!r}, this gas-rt reads {FORMAT_VERSION}; "
                "enroll the photo again"
            )
        name, bundle_version, fingerprint = map(str, description["bundle"])
        grid = HashGridConfig(**description["grid"])
        cells = int(description["occupancy_resolution"])
    except FileError:
        raise
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise FileError(f"{path}: damaged: its metadata cannot be read: {error}") from error
    mark = BundleMark(name, bundle_version, fingerprint)
    found = set(header.tensors)
    if found not in _allowed_tensors():
        expected = _allowed_tensors()[bool(found & set(DIFFUSION_TENSORS))]
        odd = sorted(found ^ expected)
        raise FileError(
            f"{path}: damaged: expected {len(expected)} known tensors; "
            f"missing or unknown: {', '.join(odd[:4])}"
        )
    for name in found:
        code = TENSORS.get(name) or DIFFUSION_TENSORS[name]
        if header.tensors[name].dtype != np.dtype(NUMPY_OF[code]):
            raise FileError(
                f"{path}: damaged: tensor {name!r} is {header.tensors[name].dtype}, expected {code}"
            )
    for name, size in (("field.table", grid.n_params), ("occupancy", (cells**3 + 7) // 8)):
        if header.tensors[name].shape != (size,):
            raise FileError(
                f"{path}: damaged: tensor {name!r} has shape {list(header.tensors[name].shape)}, "
                f"its metadata describe {size} values"
            )
    return mark, FieldShape(grid, cells)


NUMPY_OF = {"F32": "<f4", "F16": "<f2", "U8": "u1"}


Shapes = Mapping[str, tuple[int, ...]]  # of tensors, by their names in the file


def _check_features(shapes: Shapes, bundle: Bundle, *, source: str) -> None:
    outputs = bundle.graph("nerf_encoder").outputs
    for name in FEATURES:
        have, want = shapes[f"teacher.{name}"], outputs[name].shape
        if have != want:
            raise FileError(
                f"{source}: damaged: teacher.{name} has shape {list(have)}, "
                f"bundle {bundle.label} makes {list(want)}"
            )


def _check_reference(shapes: Shapes, bundle: Bundle, *, source: str) -> None:
    """The tensors of stage 2 are there if the bundle has it, in its sizes."""
    diffusion = bundle.config.diffusion
    expected: dict[str, tuple[int, ...]] = {}
    if diffusion is not None:
        expected["reference.latent"] = diffusion.latent_shape
        expected["reference.embedding"] = (diffusion.embedding_channels,)
    for name in DIFFUSION_TENSORS:
        have, want = shapes.get(name), expected.get(name)
        if have != want:
            raise FileError(
                f"{source}: damaged: {name} has shape {have and list(have)}, bundle "
                f"{bundle.label} makes {want and list(want)}; enroll the photo again"
            )
