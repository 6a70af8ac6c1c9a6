"""``gas-rt inspect``: what a bundle, avatar, motion, body fit or body file holds."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gas_rt.cli.common import add_json_flag, emit, shown
from gas_rt.errors import FileError

if TYPE_CHECKING:
    from gas_rt.engine import DiffusionConfig

__all__ = ["add_parser"]


def add_parser(verbs: Any) -> None:
    """Add the verb's flags."""
    parser = verbs.add_parser("inspect", help="tell what a file holds", description=__doc__)
    parser.add_argument("file", metavar="FILE", help="bundle folder, .avatar, .npz or .bvh")
    add_json_flag(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print what the file is."""
    found = {"schema_version": 1, "file": args.file, **describe(Path(args.file))}
    rows = list(_rows(found))
    width = max(len(key) for key, _ in rows)
    emit(args, found, "\n".join(f"{key:{width}}  {text}" for key, text in rows[1:]))
    return 0


def _rows(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """One line of text per value; one per entry where a value holds objects."""
    for key, value in found.items():
        if isinstance(value, dict) and any(isinstance(v, dict) for v in value.values()):
            yield from ((f"{key} {name}", shown(entry)) for name, entry in value.items())
        elif value is not None:
            yield key, shown(value)


def describe(path: Path) -> dict[str, Any]:
    """Kind and contents of a file, validated by its own reader."""
    if not path.exists():
        raise FileError(f"{path}: no such file; check the path")
    if path.is_dir() or path.name == "bundle.json":
        return _bundle(path if path.is_dir() else path.parent)
    if path.suffix.lower() == ".bvh":
        return _motion(path)
    if path.suffix.lower() == ".npz":
        return _npz(path)
    return _avatar(path)


def _bundle(path: Path) -> dict[str, Any]:
    from gas_rt.engine import open_bundle

    bundle = open_bundle(path)
    return {
        "kind": "bundle",
        "name": bundle.name,
        "version": bundle.version,
        "fingerprint": bundle.fingerprint,
        "policies": list(bundle.policies),
        **_diffusion(bundle.config.diffusion),
        "resolution": bundle.config.resolution,
        "shell_radius_m": [bundle.config.shell_radius_m, bundle.config.shell_radius_max_m],
        "camera_ranges": {k: list(v) for k, v in bundle.config.camera_ranges.items()},
        "graphs": {name: graph.path.name for name, graph in bundle.graphs.items()},
        "files": {name: entry.bytes for name, entry in bundle.files.items()},
    }


def _diffusion(config: DiffusionConfig | None) -> dict[str, Any]:
    """Policies with their noise levels by step count, their ladders and their windows."""
    if config is None:
        return {}
    return {
        "default": {"policy": config.default_policy, "steps": config.default_steps},
        "sigmas": {
            name: {
                f"{steps} steps": [round(sigma, 6) for sigma in schedule.sigmas]
                for steps, schedule in sorted(policy.schedules.items())
            }
            for name, policy in config.policies.items()
        },
        "rungs": {
            name: {
                f"{steps} steps × {rung.window.chunk}": [round(sigma, 6) for sigma in rung.sigmas]
                for steps, rung in sorted(policy.rungs.items())
            }
            for name, policy in config.policies.items()
            if policy.rungs
        },
        "profiles": {name: asdict(profile) for name, profile in config.profiles.items()},
        "guidance": asdict(config.guidance),
        "latents": {
            "shape": list(config.latent_shape),
            "scale": config.latent_scale,
            "residual_std": config.residual_std,
        },
    }


def _avatar(path: Path) -> dict[str, Any]:
    from gas_rt.avatar import Avatar

    avatar = Avatar.open(path)
    config = avatar.field.config
    return {
        "kind": "avatar",
        "bundle": str(avatar.bundle),
        "bytes": path.stat().st_size,
        "betas": [round(float(b), 4) for b in avatar.betas],
        "photo_px": avatar.rgb.shape[0],
        "shell_radius_m": avatar.radius_m,
        "latent": None if avatar.latent is None else list(avatar.latent.shape),
        "grid": config.as_dict(),
        "occupied_share": round(float(avatar.occupancy.cells().mean()), 4),
    }


def _npz(path: Path) -> dict[str, Any]:
    from gas_rt.files import npz_names

    keys = set(npz_names(path))  # each reader checks the rest
    if "v_template" in keys:
        return _body(path)
    if "intrinsics" in keys:
        return _fit(path)
    if keys & {"poses", "root_orient"}:
        return _motion(path)
    raise FileError(
        f"{path}: neither a body (v_template), a body fit (intrinsics) nor a motion (poses); "
        f"it holds {', '.join(sorted(keys)[:8]) or 'nothing'}"
    )


def _body(path: Path) -> dict[str, Any]:
    from gas_rt.body import BodyModel

    body = BodyModel.open(path)
    return {
        "kind": "body",
        "vertices": body.vertex_count,
        "faces": len(body.faces),
        "joints": 24,
        "shape_directions": body.shape_count,
    }


def _fit(path: Path) -> dict[str, Any]:
    from gas_rt.body import BodyFit

    fit = BodyFit.load(path)
    camera = fit.camera
    return {
        "kind": "body fit",
        "betas": [round(float(b), 4) for b in fit.betas],
        "picture": [camera.width, camera.height],
        "focal_px": [float(camera.intrinsics[0, 0]), float(camera.intrinsics[1, 1])],
    }


def _motion(path: Path) -> dict[str, Any]:
    from gas_rt.body import Motion

    motion = Motion.load(path)
    return {
        "kind": "motion",
        "frames": len(motion),
        "fps": motion.fps,
        "seconds": round(motion.duration_s, 3),
    }
