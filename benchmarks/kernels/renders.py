"""Pictures of the avatar's field, against its teacher in torch."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.kernels.fields import flop_per_point
from benchmarks.kernels.people import Setting
from benchmarks.kernels.rows import Limit, Row, Skipped
from benchmarks.kernels.skinning import require_torch
from benchmarks.kernels.timing import Call, interleave
from gas_rt.body.photo import carry_to_photo, inverse_affine
from gas_rt.core import F32, Camera
from gas_rt.kernels import PosedShell, field_forward, march, march_samples
from gas_rt.kernels.march import EARLY_STOP, PackedSamples
from gas_rt.kernels.twins.field import normalised
from gas_rt.kernels.twins.march import occupied

__all__ = ["fast_db", "field_128", "field_512", "psnr_db"]

MIN_FPS_512, MAX_MS_128, MIN_DB = 20.0, 4.0, 40.0
VIEWS = 20
CHUNK = 1 << 13  # points the teacher is given at a time; the fastest of 2^11 to 2^16
CHECKPOINT = Path(__file__).parents[2] / "reference" / "checkpoints" / "stage1-mini.pt"


def field_512(setting: Setting) -> Row:
    """A picture of 512 x 512 on one core, the shell built."""
    fps = 1000.0 / MIN_FPS_512
    return _render_row(setting, "field_512", 512, fps)


def field_128(setting: Setting) -> Row:
    """A picture of 128 x 128 on one core, the shell built."""
    return _render_row(setting, "field_128", 128, MAX_MS_128)


def fast_db(setting: Setting) -> Row:
    """How far skipping and early stop are from evaluating every sample."""
    shell = setting.shell(threads=setting.threads)
    side, count = (64, 3) if setting.quick else (512, VIEWS)
    whole, person, worst = [], [], 0.0
    for camera in setting.views(side, count):
        fast, baked = (_march(setting, shell, camera, mode) for mode in ("fast", "baked"))
        seen = (fast[1] > 0) | (baked[1] > 0)
        whole.append(psnr_db(fast[0], baked[0]))
        person.append(psnr_db(fast[0][seen], baked[0][seen]))
        worst = max(worst, float(np.abs(fast[1] - baked[1]).max()))
    return Row(
        name="fast_db",
        against="our baked mode, which evaluates every sample of the lattice",
        threads=setting.threads,
        speed=[Limit("dB over the person's pixels, worst view", min(person), MIN_DB)],
        correct=[Limit("opacity apart at most", worst, 0.1, at_least=False)],
        details={
            "views": count,
            "side_px": side,
            "whole_picture_db": _spread(whole),
            "person_db": _spread(person),
        },
    )


def psnr_db(a: F32, b: F32) -> float:
    """Of values in [0, 1]; equal ones count as 120 dB."""
    return float(-10 * np.log10(np.mean((a.astype(np.float64) - b) ** 2) + 1e-12))


def _render_row(setting: Setting, name: str, side_px: int, allowed_ms: float) -> Row:
    torch = require_torch(1)
    if setting.quick:
        side_px = 64
    shell, cameras = setting.shell(threads=1), setting.views(side_px, VIEWS)
    evaluated = [samples_of_fast(setting, shell, camera) for camera in cameras[:: VIEWS // 4]]
    teacher = Teacher.of(setting, torch)
    turns = {mode: itertools.cycle(cameras) for mode in ("fast", "baked", "posed")}
    asked: Iterator[Any] = itertools.cycle([teacher.inputs(found.packed) for found in evaluated])

    def posed() -> None:
        _march(setting, setting.shell(threads=1), next(turns["posed"]), "fast", threads=1)

    def renderer(mode: Literal["fast", "baked"]) -> Callable[[], object]:
        return lambda: _march(setting, shell, next(turns[mode]), mode, threads=1)

    calls = {
        "ours": Call(renderer("fast"), VIEWS // 2, warm_up=VIEWS // 2),
        "baked": Call(renderer("baked"), VIEWS // 4),
        "posed": Call(posed, VIEWS // 4, warm_up=2),
        "peer": Call(lambda: teacher.query(next(asked)), 1 if side_px > 128 else 4),
    }
    took = interleave(calls, rounds=1 if setting.quick else 8)
    ours_ms = took["ours"].p50_ms
    samples = float(np.mean([found.evaluated for found in evaluated]))
    in_shell = float(np.mean([len(found.packed.ray) for found in evaluated]))
    per_point = flop_per_point(setting.avatar.field.config)
    return Row(
        name=name,
        against=f"the teacher in torch {torch.__version__} at the samples in the shell, one core",
        threads=1,
        speed=[Limit("ms a picture", ours_ms, allowed_ms, at_least=False)],
        correct=[Limit("teacher's samples", float(len(evaluated[0].packed.ray)), 1)],
        ours=took["ours"],
        peer=took["peer"],
        peak=setting.peaks.share_of_flops(per_point * samples, ours_ms, 1),
        details={
            "side_px": side_px,
            "fps": round(1000 / ours_ms, 1),
            "views": VIEWS,
            "baked_ms": took["baked"].as_dict(),
            "with_pose_and_shell_ms": took["posed"].as_dict(),
            "samples_in_shell": round(in_shell),
            "samples_evaluated_by_fast": round(samples),
            "ratio_at_samples_fast_evaluates": round(
                took["peer"].p50_ms / ours_ms * samples / in_shell, 1
            ),
            "rays_with_samples": round(float(np.mean([f.rays for f in evaluated]))),
        },
    )


def _march(
    setting: Setting,
    shell: PosedShell,
    camera: Camera,
    mode: Literal["fast", "baked"],
    *,
    threads: int | None = None,
) -> tuple[F32, F32]:
    return march(
        shell,
        setting.avatar.field,
        camera,
        samples=setting.model.parts.bundle.config.march_samples,
        mode=mode,
        occupancy=setting.avatar.occupancy if mode == "fast" else None,
        threads=threads or setting.threads,
    )


@dataclass(frozen=True, eq=False)
class Found:
    """The samples of a view: in the shell, and how many of them `fast` has to evaluate."""

    packed: PackedSamples
    evaluated: int
    rays: int


def samples_of_fast(setting: Setting, shell: PosedShell, camera: Camera) -> Found:
    """What culling and early stop leave of a view's samples."""
    avatar, samples = setting.avatar, setting.model.parts.bundle.config.march_samples
    packed = march_samples(shell, camera, samples=samples, threads=setting.threads)
    kept = occupied(avatar.occupancy, normalised(avatar.field, packed.canonical))
    sigma, _ = field_forward(
        avatar.field, packed.canonical, packed.direction_canonical, threads=setting.threads
    )
    depth = np.where(kept, sigma * packed.delta, 0).astype(np.float64)
    before = np.cumsum(depth) - depth
    counts = np.diff(packed.offsets)
    begin = packed.offsets[:-1][counts > 0]
    before -= np.repeat(before[begin], counts[counts > 0])
    return Found(packed, int((kept & (np.exp(-before) >= EARLY_STOP)).sum()), len(begin))


class Teacher:
    """The released checkpoint's point network in torch, with the avatar's features."""

    def __init__(self, setting: Setting, torch: Any, net: Any) -> None:
        self._setting, self._torch, self._net = setting, torch, net
        avatar, body = setting.avatar, setting.body
        self._features = {name: torch.from_numpy(a.copy()) for name, a in avatar.features.items()}
        posed = body.pose(avatar.betas, avatar.pose)
        self._photo_maps = inverse_affine(body.inverse_maps(posed))

    @classmethod
    def of(cls, setting: Setting, torch: Any) -> Teacher:
        """Out of the checkpoint in this checkout."""
        if not CHECKPOINT.is_file():
            raise Skipped(f"{CHECKPOINT} is not in this checkout")
        from reference.nerf.checkpoint import mesh_of, open_checkpoint

        model, _ = open_checkpoint(CHECKPOINT, mesh_of(setting.body))
        return cls(setting, torch, model.field)

    def inputs(self, packed: PackedSamples) -> list[tuple[Any, ...]]:
        """Chunks of points, directions, places in the photo and vertices; made beforehand."""
        anchors = self._setting.model.parts.anchors(self._setting.avatar.radius_m)
        anchored, _ = anchors.query(packed.canonical)
        ids: NDArray[np.int32] = np.where(anchored < 0, packed.vertex_id, anchored)
        uv = carry_to_photo(packed.canonical, ids, self._photo_maps, self._setting.avatar.camera)
        rows = (packed.canonical, packed.direction_canonical, uv, ids.astype(np.int64))
        chunked = [self._torch.from_numpy(np.ascontiguousarray(a)).split(CHUNK) for a in rows]
        return list(zip(*chunked, strict=True))

    def query(self, chunks: list[tuple[Any, ...]]) -> list[Any]:
        """Density and colour at every point."""
        with self._torch.inference_mode():
            return [self._net(*chunk, **self._features) for chunk in chunks]


def _spread(values: list[float]) -> dict[str, float]:
    return {"min": round(min(values), 2), "median": round(float(np.median(values)), 2)}
