"""Forward skinning against smplx."""

from __future__ import annotations

import contextlib
import io
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.kernels.people import Setting, smpl_size
from benchmarks.kernels.rows import Limit, Row, Skipped
from benchmarks.kernels.timing import Call, interleave
from gas_rt.body import BodyModel, procedural_motion
from gas_rt.kernels import vertex_normals

__all__ = ["lbs_forward"]

RATIO, SHARE = 2.5, 0.8
TOLERANCE_M = 1e-5


def lbs_forward(setting: Setting) -> Row:
    """Shape, joints, pose offsets, transforms and skinning of one pose of an SMPL-size body."""
    torch = require_torch(setting.threads)
    arrays = smpl_size(setting.body)
    model, peer = BodyModel.from_arrays(arrays), smplx_model(arrays)
    pose = procedural_motion("dance", 40).pose(17)
    betas = np.linspace(-1.5, 1.5, 10, dtype=np.float32)
    shaped = model.shape(betas)
    rotations = torch.from_numpy(pose.rotations.reshape(1, -1).copy())
    given = {
        "betas": torch.from_numpy(betas[None].copy()),
        "global_orient": rotations[:, :3].contiguous(),
        "body_pose": rotations[:, 3:].contiguous(),
        "transl": torch.from_numpy(pose.translation[None].copy()),
    }

    def run_peer() -> Any:
        with torch.inference_mode():
            return peer(**given).vertices

    def normals_too() -> None:
        posed = model.pose(betas, pose, threads=setting.threads)
        vertex_normals(posed.vertices, posed.faces, threads=setting.threads)

    calls = {
        "ours": Call(lambda: model.pose(betas, pose, threads=setting.threads), 5, warm_up=10),
        "peer": Call(run_peer, 5, warm_up=10),
        "shape_kept": Call(lambda: model.pose(shaped, pose, threads=setting.threads), 5, 5),
        "with_normals": Call(normals_too, 5, 5),
    }
    took = interleave(calls, rounds=3 if setting.quick else 60)
    error = np.abs(model.pose(betas, pose).vertices - run_peer()[0].numpy()).max()
    # Not the regressor: a shape's joints come from what each beta adds to them.
    arrays_read = (model.posedirs, model.shapedirs, model.template)
    read = sum(a.nbytes for a in (*arrays_read, model.bone_ids, model.bone_weights))
    peak = setting.peaks.share_of_reading(read, took["ours"].p50_ms, setting.threads)
    return Row(
        name="lbs_forward",
        against=f"smplx {version('smplx')} on torch {torch.__version__}",
        threads=setting.threads,
        speed=[
            Limit("times faster", took["peer"].p50_ms / took["ours"].p50_ms, RATIO),
            Limit("share of the bandwidth of cached reads", peak["share_of_cached"], SHARE),
        ],
        any_of=True,
        correct=[Limit("metres apart at most", float(error), TOLERANCE_M, at_least=False)],
        ours=took["ours"],
        peer=took["peer"],
        peak={**peak, "bytes": read},
        details={
            "vertices": model.vertex_count,
            "pose_features": model.posedirs.shape[2],
            "batch": 1,
            "shape_kept_ms": took["shape_kept"].as_dict(),
            "with_normals_ms": took["with_normals"].as_dict(),
        },
    )


def smplx_model(arrays: dict[str, NDArray[Any]]) -> Any:
    """smplx's own SMPL on these arrays; it takes the struct its files unpickle to."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import smplx
            from smplx.utils import Struct
        except ImportError as error:
            raise Skipped(f"smplx is not installed ({error}); see requirements/dev.txt") from error
        # It announces on stdout, where the report goes, that there are ten shape directions.
        with contextlib.redirect_stdout(io.StringIO()):
            return smplx.SMPL("", data_struct=Struct(**arrays)).eval()


def require_torch(threads: int) -> Any:
    """torch, with that many threads."""
    try:
        import torch
    except ImportError as error:
        raise Skipped(f"torch is not installed ({error}); see requirements/dev.txt") from error
    torch.set_num_threads(threads)
    return torch


def version(package: str) -> str:
    """Of an installed package."""
    from importlib import metadata

    return metadata.version(package)
