"""What a shipped bundle is converted from: its checkpoints, and streams of synthetic people."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from export.bundle import open_stage2
from export.compare import film
from export.precision.convert import Source
from export.streams import Conditions, diffusion_of
from export.torch_engine import TorchEngine
from gas_rt.core import Task
from gas_rt.engine import Bundle, open_bundle
from gas_rt.errors import InputError
from reference.people.seeds import TEST, VALIDATION

__all__ = ["checkpoint_of", "open_source"]

PARTS = ("stage1", "autoencoder", "unet")
# Ranges and layers are chosen on people that neither training nor any judgement sees.
RECORDED: tuple[tuple[int, Task], ...] = (
    (VALIDATION.start + 40_000, "pose"),
    (VALIDATION.start + 40_001, "view"),
)
RECORDED_FRAMES = 24
JUDGED_SEED = TEST.start


def open_source(
    folder: Path,
    *,
    checkpoints: Path,
    frames: int = 40,
    seed: int = JUDGED_SEED,
    task: Task = "pose",
    threads: int = 2,
    progress: Callable[[str], None] = lambda text: None,
) -> Source:
    """A bundle with the models it was exported from and the people it is measured on.

    checkpoints : a folder of the three files that bundle.json names.
    frames, seed, task : of the stream whose pictures are judged.
    """
    bundle = open_bundle(folder)
    window = diffusion_of(bundle).policies["parity"].profile.frames
    if frames < window:
        raise InputError(f"frames: at least one window of {window}, got {frames}")
    stage1, autoencoder, unet = (checkpoint_of(bundle, part, checkpoints) for part in PARTS)

    def filmed(seed: int, task: Task, count: int) -> Conditions:
        progress(f"enrolling person {seed}, a {task} clip of {count} frames")
        return film(bundle.folder, seed=seed, task=task, frames=count, threads=threads)

    recorded = max(RECORDED_FRAMES, window)
    return Source(
        bundle=bundle,
        stage=open_stage2(autoencoder=autoencoder, unet=unet),
        torch=TorchEngine.from_checkpoints(
            stage1,
            autoencoder,
            unet,
            body=bundle.path(bundle.body),
            points=bundle.config.field_points,
        ),
        recording=[filmed(person, kind, recorded) for person, kind in RECORDED],
        judged=filmed(seed, task, frames),
        people={
            "recorded": [{"seed": s, "task": t, "frames": recorded} for s, t in RECORDED],
            "judged": {"seed": seed, "task": task, "frames": frames},
        },
        threads=threads,
    )


def checkpoint_of(bundle: Bundle, part: str, folder: Path) -> Path:
    """The file that bundle.json says this part was exported from."""
    facts = bundle.manifest.get("provenance", {}).get(part, {})
    name, wanted = facts.get("checkpoint"), facts.get("sha256")
    if not isinstance(name, str) or Path(name).name != name:
        raise InputError(
            f"bundle {bundle.label}: bundle.json names no checkpoint of its {part}, and what is "
            "not known cannot be compared with PyTorch; give a bundle of `python -m export gas`"
        )
    path = folder / name
    if not path.is_file():
        raise InputError(f"{path}: no such file; give the checkpoints' folder: --checkpoints")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != wanted:
        raise InputError(
            f"{path}: is not what {bundle.label} was exported from (SHA-256 {found[:12]}…, "
            f"bundle.json says {str(wanted)[:12]}…); give that file, or export the bundle again"
        )
    return path
