"""``python -m export convert-smpl``: an original SMPL pickle to the file that gas_rt.body reads.

SMPL's model files may be used for non-commercial research only and may not be passed on; what is
written here is the same model, under the same licence. gas-rt ships none.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from export import smpl_pickle
from gas_rt.body import BodyModel
from gas_rt.errors import FileError
from gas_rt.files import read_npz

__all__ = ["convert"]

TIMEOUT_S = 300


def convert(source: Path, out: Path) -> dict[str, Any]:
    """Write `out`; returns what it holds.

    The pickle is read by a process of its own, which knows only the few names an SMPL model is
    made of and is limited in memory, time and what it may write. Raises `FileError` for a file
    that is missing, asks for anything else, or holds no SMPL body.
    """
    if not source.is_file():
        raise FileError(f"{source}: no such file; download SMPL's model from its own site")
    with tempfile.TemporaryDirectory(prefix="gas-rt-smpl-") as folder:
        arrays = Path(folder) / "arrays.npz"
        _read_apart(source, arrays)
        body = BodyModel.from_arrays(read_npz(arrays), name=str(source))
    out.parent.mkdir(parents=True, exist_ok=True)
    body.save(out)
    return {
        "file": str(out),
        "bytes": out.stat().st_size,
        "vertices": body.vertex_count,
        "faces": len(body.faces),
        "shapes": body.shape_count,
        "licence": "SMPL's own: non-commercial research; don't pass it on",
    }


def _read_apart(source: Path, target: Path) -> None:
    """Run `smpl_pickle` on a file."""
    command = [sys.executable, "-I", smpl_pickle.__file__, str(source.resolve()), str(target)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False, env={}
        )
    except subprocess.TimeoutExpired as error:
        raise FileError(
            f"{source}: still not read after {TIMEOUT_S} s; it is no SMPL model"
        ) from error
    if done.returncode == 0:
        return
    try:
        told = json.loads(done.stdout)["error"]
    except (ValueError, KeyError):
        last = done.stderr.strip().splitlines()[-1:] or [f"status {done.returncode}"]
        told = f"its reader ended early ({last[0]})"
    raise FileError(f"{source}: {told}. Refused; give the .pkl that SMPL's own site offers")
