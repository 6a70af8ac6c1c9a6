"""From checkpoints to the bundle, its card's figures and the table of what it reaches."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

from reference.make_bundle.ledger import machine
from reference.make_bundle.stages import Making, report
from reference.people import seeds

__all__ = ["export", "judge"]

TRAININGS = ("stage1", "autoencoder", "unet", "student")
CURVE_ROWS = 10
TEACHER_STEPS = 25


def export(making: Making, *, guidance: dict[str, float], command: str) -> Path:
    """Write the bundle, unless it is there, and return its folder."""
    from export.bundle import export_checkpoints

    out = making.out / "bundle" / making.recipe.name
    if (out / "bundle.json").exists():
        return out
    export_checkpoints(
        making.trained("stage1"),
        autoencoder=making.trained("autoencoder"),
        unet=making.trained("unet"),
        student=making.trained("student"),
        body_path=making.options.body,
        out=out,
        guidance=guidance,
        making=facts(making, command=command),
    )
    return out


def facts(making: Making, *, command: str) -> dict[str, Any]:
    """What the model card says of how the bundle came about."""
    decided = making.ledger.decided
    return {
        "command": command,
        "machine": machine(making.options.device),
        "workers": making.options.workers,
        "wall_s": {name: making.ledger.wall_s[name] for name in making.ledger.wall_s},
        "people": decided.get("persons"),
        "clips": decided.get("clips"),
        "seeds": {
            "train": [seeds.TRAIN.start, seeds.TRAIN.stop],
            "validation": [seeds.VALIDATION.start, seeds.VALIDATION.stop],
        },
        "curves": {name: curve(making.out / name / "curve.jsonl") for name in TRAININGS},
    }


def curve(path: Path) -> list[dict[str, float]]:
    """At most `CURVE_ROWS` rows of a curve, evenly, its last among them; validated ones first."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    judged = [row for row in rows if any(key.endswith("_db") for key in row)]
    rows = judged if len(judged) > 1 else rows
    count = min(CURVE_ROWS, len(rows))
    chosen = [rows[round((k + 1) * len(rows) / count) - 1] for k in range(count)]
    return [{k: float(f"{v:.4g}") for k, v in row.items()} for row in chosen]


def judge(making: Making, bundle: Path, *, guidance: dict[str, float], people: int) -> Path:
    """The table ``out/table.md`` of documents in ``out/judged``; documents that are there stay."""
    from reference.evaluate.__main__ import main as evaluate
    from reference.evaluate.table import main as tabulate

    folder = making.out / "judged"
    folder.mkdir(exist_ok=True)
    paths = []
    for name, options in _rows(making, guidance=guidance).items():
        path = folder / f"{name}.json"
        paths.append(path)
        if path.exists():
            continue
        report(f"judge: {name}")
        asked = [*options, *_shared(making, bundle, people=people), "--json"]
        path.with_suffix(".tmp").write_text(_printed(evaluate, asked))
        path.with_suffix(".tmp").replace(path)
    table = making.out / "table.md"
    table.write_text(_printed(tabulate, [str(path) for path in paths]))
    return table


def _rows(making: Making, *, guidance: dict[str, float]) -> dict[str, list[str]]:
    """What is shown by what, as options of `reference.evaluate`."""
    coder = ["--autoencoder", str(making.trained("autoencoder"))]
    rows = {"ceiling": ["--stage", "ceiling", *coder]}
    stage1 = str(making.trained("stage1"))
    if not making.recipe.streams:
        teacher = ["--renderer", "teacher", "--checkpoint", stage1]
        return rows | {"field": ["--stage", "field", *teacher]}
    rows["field"] = ["--stage", "field"]
    full = ["--stage", "full", "--policy"]
    strength = f"{guidance['pose']:g},{guidance['view_behind']:g}"
    rows[f"teacher-{TEACHER_STEPS}"] = [
        *full,
        "parity",
        *("--checkpoint", str(making.trained("unet")), *coder),
        *("--steps", str(TEACHER_STEPS), "--guidance", strength),
    ]
    for levels in making.recipe.student.sigmas:
        steps = str(len(levels))
        for policy in ("parity", "diagonal"):
            rows[f"{policy}-{steps}"] = [*full, policy, "--steps", steps]
    return rows


def _shared(making: Making, bundle: Path, *, people: int) -> list[str]:
    first = seeds.TEST.start
    options = ["--bundle", str(bundle), "--seeds", f"{first}:{first + people}"]
    options += ["--size", str(making.recipe.size)]
    if making.recipe.streams:
        return [*options, "--motions", str(people), "--avatars", str(making.out / "avatars")]
    return [*options, "--views", "3", "--motions", "1", "--motion-frames", "2"]


def _printed(command: Any, arguments: list[str]) -> str:
    """What a command prints; RuntimeError if it fails, which has said why."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        code = command(arguments)
    if code:
        raise RuntimeError(f"judging failed with exit status {code}: {' '.join(arguments)}")
    return printed.getvalue()
