"""How fast a session streams the field, against the rates the project promises.

``python -m benchmarks.field_stream --json`` enrols the bundled person (or takes --avatar) and
streams a motion, and an orbit, as fast as they go. `ours` is the median time between frames,
`peer` the time the promised rate allows. Exit status 3 if a pipelined row is too slow.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

import gas_rt
from gas_rt.body import procedural_motion
from gas_rt.cli.demo import person_folder
from gas_rt.cli.requests import orbit_requests, walked
from gas_rt.stream.play import play, recorder_for

PROMISED_FPS = {128: 40.0, 256: 15.0}
FRAMES = 120
WARM_UP = 10


def main(argv: list[str] | None = None) -> int:
    """Run and print; 0 if every rate is reached, else 3."""
    args = _parser().parse_args(argv)
    with gas_rt.load(args.model, threads=args.threads) as model:
        if args.avatar:
            avatar = model.open_avatar(args.avatar)
        else:
            person = person_folder(model, args.person)
            avatar = model.enroll(person / "photo.png", person / "fit.npz", person / "mask.png")
        performer = model.performer(avatar)
        motion = procedural_motion("dance", FRAMES, fps=25.0, seed=0)
        rows = [
            measure(model, avatar, kind, requests, promised, pipelined=pipelined)
            for side, promised in PROMISED_FPS.items()
            for kind, requests in (
                ("motion", walked(performer, list(motion), side)),
                ("orbit", orbit_requests(performer, side, FRAMES)),
            )
            for pipelined in (True, False)
        ]
        document = {
            "schema_version": 1,
            "command": ["python", "-m", "benchmarks.field_stream", *(argv or sys.argv[1:])],
            "environment": gas_rt.info(),
            "model": model.info(),
            "rows": rows,
        }
    if args.json:
        print(json.dumps(document, indent=2))
    else:
        for row in rows:
            print(
                f"{row['name']:26} {row['ours']:7.2f} ms a frame, allowed {row['peer']:.1f}; "
                f"age p50 {row['age_ms']['p50']:.1f} ms {'ok' if row['ok'] else 'TOO SLOW'}"
            )
    return 0 if all(row["ok"] for row in rows) else 3


def measure(
    model: gas_rt.Model,
    avatar: gas_rt.Avatar,
    kind: str,
    requests: list[gas_rt.Request],
    promised_fps: float,
    *,
    pipelined: bool,
) -> dict[str, Any]:
    """One row. Only the pipelined session has promised anything."""
    side = requests[0].camera.width
    with model.session(
        avatar, policy="field", fps=promised_fps, on_late="lossless", pipelined=pipelined
    ) as session:
        recorder = recorder_for(session, kind)
        for _ in play(session, requests, recorder=recorder, live=False):
            pass
    gaps_ms = np.diff(np.array(recorder.ready_ns[WARM_UP:])) / 1e6
    ours, allowed = float(np.median(gaps_ms)), 1000 / promised_fps
    figures = recorder.row(dropped=0)
    return {
        "name": f"{kind} {side} {'pipelined' if pipelined else 'one thread'}",
        "ours": round(ours, 3),
        "peer": round(allowed, 3),
        "unit": "ms",
        "ratio": round(allowed / ours, 3),
        "required": 1.0 if pipelined else 0.0,
        "ok": not pipelined or ours <= allowed,
        "p90": round(float(np.percentile(gaps_ms, 90)), 3),
        "p99": round(float(np.percentile(gaps_ms, 99)), 3),
        "fps": figures["fps"],
        "age_ms": figures["age_ms"],
        "stages_ms": {stage: values["p50"] for stage, values in figures["stages_ms"].items()},
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.field_stream")
    parser.add_argument("--model", default="gas-mini", help="bundle name or folder")
    parser.add_argument("--threads", type=int)
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--avatar", type=Path)
    source.add_argument("--person", help="folder with photo.png, mask.png and fit.npz")
    parser.add_argument("--json", action="store_true")
    return parser


if __name__ == "__main__":
    sys.exit(main())
