"""A model bundle: a folder of ONNX graphs and weights, described and hashed by its bundle.json.

Nothing of a bundle is used before its size and SHA-256 have been compared with bundle.json, and
nothing outside its folder is ever read for it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from gas_rt.core import F32
from gas_rt.engine.diffusion import DiffusionConfig, check_diffusion_graphs, read_diffusion
from gas_rt.engine.json_reader import JsonReader
from gas_rt.engine.onnx_external import external_data_of
from gas_rt.engine.protocol import GraphSpec, TensorSpec
from gas_rt.errors import BundleError

__all__ = [
    "SCHEMA_VERSION",
    "Bundle",
    "BundleConfig",
    "FileEntry",
    "find_bundle",
    "open_bundle",
    "shipped_bundles",
]

SCHEMA_VERSION = 1
MANIFEST = "bundle.json"
MANIFEST_BYTES_MAX = 4 << 20
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
PART = re.compile(r"[A-Za-z0-9._-]{1,128}")
SHELL_MOST_M = 0.25  # `gas_rt.body.person_shell.MOST_M`, which this room may not import
DTYPES = ("float32", "float16", "int32", "int64", "uint8", "bool")
PACKAGE = Path(__file__).resolve().parent.parent
HOMES = (PACKAGE / "bundles", PACKAGE.parent / "engines")  # installed, checkout

# What the graphs of stage 1 must make, whatever else a bundle adds to them.
GRAPH_OUTPUTS = {
    "nerf_encoder": ("planes", "image_features", "vertex_features"),
    "nerf_field": ("sigma", "rgb"),
}


@dataclass(frozen=True)
class FileEntry:
    """What a bundle's file must be."""

    sha256: str
    bytes: int


@dataclass(frozen=True, eq=False)
class BundleConfig:
    """The numbers a bundle was trained with; see design §9.

    Attributes
    ----------
    resolution : side in pixels of the pictures the model was trained on.
    shell_radius_m, shell_radius_max_m : only points this close to a vertex have density; around
        hips, waist and legs it is as wide as a person's photo tells, within these two.
    box_lo, box_hi : [3] metres, the field's box in canonical space for the least radius.
    march_samples, box_margin_m : the lattice of a ray.
    vertex_count : of the body.
    field_points : rows of one nerf_field call.
    photo_side_px, visible_depth_tolerance_m : how a photo is prepared.
    camera_ranges : by name, the lowest and highest value seen in training.
    diffusion : stage 2; None in a bundle whose only picture is the field's.
    """

    resolution: int
    shell_radius_m: float
    shell_radius_max_m: float
    box_lo: F32
    box_hi: F32
    march_samples: int
    box_margin_m: float
    vertex_count: int
    field_points: int
    photo_side_px: int
    visible_depth_tolerance_m: float
    camera_ranges: Mapping[str, tuple[float, float]]
    diffusion: DiffusionConfig | None = None


@dataclass(frozen=True, eq=False)
class Bundle:
    """A verified bundle."""

    name: str
    version: str
    folder: Path
    sha256: str  # of bundle.json, and so of everything it lists
    fingerprint: str  # of what avatars depend on: graphs, weights, body, config
    files: Mapping[str, FileEntry]
    graphs: Mapping[str, GraphSpec]
    body: str
    config: BundleConfig
    policies: tuple[str, ...]
    manifest: Mapping[str, Any]

    @property
    def label(self) -> str:
        """Name and version, as messages show them."""
        return f"{self.name} {self.version}"

    def path(self, name: str) -> Path:
        """The path of a listed file."""
        if name not in self.files:
            raise BundleError(f"bundle {self.label}: has no file {name!r}; reinstall the bundle")
        return self.folder / name

    @property
    def denoiser(self) -> GraphSpec | None:
        """The graph that most of a stream's time goes into; None where only the field is shown."""
        diffusion = self.config.diffusion
        if diffusion is None:
            return None
        profile = diffusion.policies[diffusion.default_policy].profile
        return self.graph(profile.guided if diffusion.guidance.used else profile.unguided)

    def graph(self, name: str) -> GraphSpec:
        """A graph by name."""
        if name not in self.graphs:
            raise BundleError(
                f"bundle {self.label}: has no graph {name!r}; it has {sorted(self.graphs)}"
            )
        return self.graphs[name]


def find_bundle(name: str | Path) -> Path:
    """The folder of a bundle, by the name of a shipped one or by path.

    A name means the shipped bundle whatever lies in the working directory; write ``./name`` there.
    """
    if isinstance(name, str) and NAME.fullmatch(name):
        for home in HOMES:
            if (home / name / MANIFEST).is_file():
                return home / name
    path = Path(name)
    if (path / MANIFEST).is_file():
        return path.resolve()
    shipped = shipped_bundles()
    raise BundleError(
        f"bundle {str(name)!r}: neither a shipped bundle nor a folder with a {MANIFEST}; "
        f"shipped: {', '.join(shipped) or 'none'}"
    )


def shipped_bundles() -> list[str]:
    """Names of the bundles that came with the package or lie in its checkout."""
    return sorted({path.parent.name for home in HOMES for path in home.glob(f"*/{MANIFEST}")})


def open_bundle(name: str | Path) -> Bundle:
    """Find a bundle, check its description and every file it lists."""
    folder = find_bundle(name)
    raw = _read_manifest(folder / MANIFEST)
    where = f"bundle {folder.name}: {MANIFEST}"
    try:
        manifest = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{where} is not JSON ({error}); reinstall the bundle") from error
    bundle = _parse(JsonReader(manifest, where), folder, hashlib.sha256(raw).hexdigest())
    for file, entry in bundle.files.items():
        _verify(bundle, file, entry)
    for graph in bundle.graphs.values():
        _verify_external_data(bundle, graph)
    return bundle


def _read_manifest(path: Path) -> bytes:
    size = path.stat().st_size
    if path.is_symlink() or size > MANIFEST_BYTES_MAX:
        raise BundleError(
            f"{path}: expected a plain file of at most {MANIFEST_BYTES_MAX} bytes, got "
            f"{'a symbolic link' if path.is_symlink() else f'{size} bytes'}; reinstall the bundle"
        )
    return path.read_bytes()


def _parse(root: JsonReader, folder: Path, sha256: str) -> Bundle:
    schema = root.integer("schema_version", low=0)
    if schema != SCHEMA_VERSION:
        raise BundleError(
            f"{root.where}: schema_version {schema}, this gas-rt reads {SCHEMA_VERSION}; "
            f"{'upgrade gas-rt' if schema > SCHEMA_VERSION else 'export the bundle again'}"
        )
    name = root.text("name")
    if not NAME.fullmatch(name):
        raise BundleError(f"{root.where}: bundle name {name!r}; expected {NAME.pattern}")
    listing = root.at("files")
    files = {}
    for file in listing.value:
        _check_relative(file, root.where)
        entry = listing.at(file)
        files[file] = FileEntry(entry.text("sha256"), entry.integer("bytes", low=0, high=1 << 40))
    graphs = {
        graph: _graph(root.at("graphs").at(graph), graph, folder, files)
        for graph in root.at("graphs").value
    }
    body = root.text("body")
    if body not in files:
        raise BundleError(f"{root.where}: the body {body!r} is not among its files")
    config = root.at("config")
    policies = root.value.get("policies", ["field"])
    if not isinstance(policies, list) or not all(isinstance(p, str) for p in policies):
        raise BundleError(f"{root.where}: 'policies': expected names, got {policies!r:.80}")
    parsed = _config(config)
    if parsed.diffusion is not None:
        _check_diffusion(parsed, graphs, policies, root.where)
    return Bundle(
        name=name,
        version=root.text("version"),
        folder=folder,
        sha256=sha256,
        fingerprint=_fingerprint(files, config.value),
        files=files,
        graphs=graphs,
        body=body,
        config=parsed,
        policies=tuple(policies),
        manifest=root.value,
    )


def _fingerprint(files: Mapping[str, FileEntry], config: Any) -> str:
    """Avatars outlive a changed demo picture, motion, text or ladder, not a changed weight."""
    kept = {
        name: entry.sha256
        for name, entry in files.items()
        if not (name.startswith(("demo/", "motions/")) or name.endswith(".md"))
    }
    text = json.dumps([kept, _without_rungs(config)], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _without_rungs(config: dict[str, Any]) -> dict[str, Any]:
    """Rungs say how poses are streamed, so avatars do not depend on them."""
    diffusion = config.get("diffusion")
    if not isinstance(diffusion, dict):
        return config
    policies = {
        name: {key: value for key, value in policy.items() if key != "rungs"}
        for name, policy in diffusion["policies"].items()
    }
    return {**config, "diffusion": {**diffusion, "policies": policies}}


def _graph(spec: JsonReader, name: str, folder: Path, files: Mapping[str, FileEntry]) -> GraphSpec:
    file = spec.text("file")
    if file not in files:
        raise BundleError(f"{spec.where}: its file {file!r} is not among the bundle's files")
    outputs = _tensors(spec.at("outputs"))
    if lacking := [output for output in GRAPH_OUTPUTS.get(name, ()) if output not in outputs]:
        raise BundleError(
            f"{spec.where}: makes {sorted(outputs)}, not {', '.join(lacking)}; export it again"
        )
    return GraphSpec(name, folder / file, _tensors(spec.at("inputs")), outputs)


def _tensors(specs: JsonReader) -> dict[str, TensorSpec]:
    tensors = {}
    for name in specs.value:
        tensor = specs.at(name)
        shape, dtype = tensor.value.get("shape"), tensor.text("dtype")
        if not isinstance(shape, list) or not all(
            type(n) is int and 0 < n < 1 << 31 for n in shape
        ):
            raise BundleError(f"{tensor.where}: expected a static shape, got {shape!r:.80}")
        if dtype not in DTYPES:
            raise BundleError(f"{tensor.where}: dtype {dtype!r}; known are {DTYPES}")
        tensors[name] = TensorSpec(tuple(shape), dtype)
    return tensors


def _config(config: JsonReader) -> BundleConfig:
    box, march, photo = config.at("canonical_box_m"), config.at("march"), config.at("photo")
    lo, hi = box.numbers("lo", 3), box.numbers("hi", 3)
    if not all(a < b for a, b in zip(lo, hi, strict=True)):
        raise BundleError(f"{box.where}: lo {lo} is not below hi {hi}")
    radius_m = config.number("shell_radius_m", low=1e-3, high=SHELL_MOST_M)
    ranges = config.at("camera_ranges")
    pairs = {name: ranges.numbers(name, 2) for name in ranges.value}
    return BundleConfig(
        resolution=config.integer("resolution", high=8192),
        shell_radius_m=radius_m,
        shell_radius_max_m=config.number("shell_radius_max_m", low=radius_m, high=SHELL_MOST_M),
        box_lo=np.array(lo, np.float32),
        box_hi=np.array(hi, np.float32),
        march_samples=march.integer("samples", low=2, high=4096),
        box_margin_m=march.number("box_margin_m", low=0.0, high=1.0),
        vertex_count=config.integer("vertex_count", high=1 << 20),
        field_points=config.integer("field_points", high=1 << 24),
        photo_side_px=photo.integer("side_px", high=8192),
        visible_depth_tolerance_m=photo.number("visible_depth_tolerance_m", low=0.0, high=1.0),
        camera_ranges={name: (pair[0], pair[1]) for name, pair in pairs.items()},
        diffusion=read_diffusion(config.at("diffusion")) if "diffusion" in config.value else None,
    )


def _check_diffusion(
    config: BundleConfig, graphs: Mapping[str, GraphSpec], policies: list[str], where: str
) -> None:
    diffusion = config.diffusion
    assert diffusion is not None
    if unlisted := sorted(set(diffusion.policies) - set(policies)):
        raise BundleError(
            f"{where}: its 'policies' {policies} lack {unlisted[0]!r}, which 'diffusion' "
            "configures; export the bundle again"
        )
    if config.photo_side_px != config.resolution:
        raise BundleError(
            f"{where}: 'photo' has a side of {config.photo_side_px} px, the pictures of stage 2 "
            f"have {config.resolution}; export the bundle again"
        )
    check_diffusion_graphs(diffusion, graphs, side_px=config.resolution, where=where)


def _check_relative(file: str, where: str) -> None:
    path = PurePosixPath(file)
    if (
        not file
        or path.is_absolute()
        or ".." in path.parts
        or "\\" in file
        or "\0" in file
        or str(path) != file
    ):
        raise BundleError(f"{where}: file name {file!r} leaves the bundle's folder; refused")
    # Some backends give a location like */_ORT_MEM_ADDR_/* a meaning of its own.
    if not all(PART.fullmatch(part) for part in path.parts):
        raise BundleError(
            f"{where}: file name {file!r} has other characters than letters, digits and ._-; "
            "refused"
        )


def _verify(bundle: Bundle, file: str, entry: FileEntry) -> None:
    """Compare a file with its entry; refuse symbolic links anywhere below the folder."""
    path = bundle.folder / file
    steps = [
        bundle.folder.joinpath(*path.parts[len(bundle.folder.parts) : k + 1])
        for k in range(len(bundle.folder.parts), len(path.parts))
    ]
    if any(step.is_symlink() for step in steps):
        raise BundleError(f"bundle {bundle.label}: {file} is a symbolic link; refused")
    if not path.is_file():
        raise BundleError(f"bundle {bundle.label}: {file} is missing; reinstall the bundle")
    size = path.stat().st_size
    if size != entry.bytes:
        raise BundleError(
            f"bundle {bundle.label}: {file} has {size} bytes, expected {entry.bytes}; "
            "reinstall the bundle"
        )
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != entry.sha256:
        raise BundleError(
            f"bundle {bundle.label}: {file} was changed (SHA-256 {digest.hexdigest()[:12]}…, "
            f"expected {entry.sha256[:12]}…); reinstall the bundle"
        )


def _verify_external_data(bundle: Bundle, graph: GraphSpec) -> None:
    """Weights may lie only in files the bundle lists, inside their bounds."""
    name = graph.path.relative_to(bundle.folder).as_posix()
    base = PurePosixPath(name).parent
    for data in external_data_of(graph.path, bundle.files[name].sha256):
        where = f"bundle {bundle.label}: graph {graph.name}, tensor {data.tensor!r}"
        _check_relative(data.location, where)
        file = (base / data.location).as_posix()
        if file not in bundle.files:
            raise BundleError(f"{where}: external data in {file!r}, which bundle.json doesn't list")
        end = data.offset + (data.length or 0)
        if end > bundle.files[file].bytes:
            raise BundleError(
                f"{where}: external data ends at byte {end} of {file}, "
                f"which has {bundle.files[file].bytes}; export the bundle again"
            )
