"""MODEL_CARD.md: what a bundle is, from what bundle.json says of it."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

__all__ = ["CARD", "model_card"]

CARD = "MODEL_CARD.md"
PARTS = {
    "stage1": "stage 1: the field, a human NeRF that reads one photo",
    "autoencoder": "the picture autoencoder",
    "unet": "stage 2: the video diffusion, with its condition and image encoders",
    "student": "stage 2 in few steps and one branch, distilled from the UNet, which is not in here",
}
UNITS = {
    "focal_over_side": "focal length over the picture's side",
    "elevation_deg": "degrees above the horizon",
    "fill": "height of the person over the picture's side",
}
# Facts that are told elsewhere on the card, or that nobody can read.
UNTOLD = ("checkpoint", "sha256", "weights", "step", "camera_ranges", "final")


def model_card(manifest: Mapping[str, Any]) -> str:
    """The card of a bundle; `manifest` may still lack its files."""
    config = manifest["config"]
    sections = [
        _head(manifest),
        _parts(manifest["provenance"]),
        _use(manifest["policies"], config),
        _limits(config),
        _training(manifest["provenance"]),
        *(
            [_making(manifest["provenance"]["making"])]
            if "making" in manifest["provenance"]
            else []
        ),
        _licence(manifest),
    ]
    return "\n".join(sections)


def _head(manifest: Mapping[str, Any]) -> str:
    side = manifest["config"]["resolution"]
    makes = "generated frames" if "diffusion" in manifest["config"] else "renders of the field"
    return f"""# {manifest["name"]} {manifest["version"]}

One picture of a person and the body fitted to it in, {makes} of {side} × {side} pixels out: that
person in other poses and from other sides. A bundle of gas-rt; written by `python -m export`, every
figure from the checkpoints and bundle.json.

**Trained on synthetic people only**, which this project draws from seeds. It exists so that every
part of the runtime runs and is tested on pictures that mean something. For photographs of real
people bring the authors' weights.
"""


def _parts(provenance: Mapping[str, Any]) -> str:
    rows = [
        f"| {told} | {provenance[part]['weights']:,} | {provenance[part]['step']:,} "
        f"| {_final(provenance[part])} | `{provenance[part]['sha256'][:12]}` |"
        for part, told in PARTS.items()
        if part in provenance
    ]
    table = [
        "| part | weights | training steps | at their end | checkpoint (SHA-256) |",
        "|---|---|---|---|---|",
        *rows,
    ]
    worst = max(provenance["parity"].values())
    return "\n".join(
        [
            "## Parts",
            "",
            *table,
            "",
            _paragraph(
                "Weights are running means over training, stored in fp16 and computed with in "
                "fp32 or, but for stage 1 and where the processor has it, bf16. In fp32 every "
                f"output of every graph is within {worst:.1e} of PyTorch's, relative to its range, "
                "in ONNX Runtime and OpenVINO."
            ),
            "",
        ]
    )


def _final(facts: Mapping[str, Any]) -> str:
    final = {k: v for k, v in facts.get("final", {}).items() if k != "step"}
    return ", ".join(f"{k} {v:.3g}" for k, v in final.items()) or "–"


def _use(policies: list[str], config: Mapping[str, Any]) -> str:
    lines = ["## Use", "", f"Policies: {', '.join(policies)}.", ""]
    if "diffusion" in config:
        diffusion = config["diffusion"]
        lines += ["| policy | frames of a window | steps: noise levels σ |", "|---|---|---|"]
        for name, policy in diffusion["policies"].items():
            frames = diffusion["profiles"][policy["profile"]]["frames"]
            steps = "; ".join(
                f"{count}: {', '.join(f'{level:g}' for level in levels)}"
                for count, levels in policy["sigmas"].items()
            )
            lines.append(f"| {name} | {frames} | {steps} |")
        default, guidance = diffusion["default"], diffusion["guidance"]
        lines += [
            "",
            _paragraph(
                f"By default {default['policy']} in {default['steps']} steps. Guidance is "
                f"{guidance['pose']:g} for poses; for views it goes from 1 in front to "
                f"{guidance['view_behind']:g} behind."
            ),
            "",
        ]
    return "\n".join(lines)


def _limits(config: Mapping[str, Any]) -> str:
    rows = [
        f"| {name} | {low:g} | {high:g} | {UNITS.get(name, '')} |"
        for name, (low, high) in config["camera_ranges"].items()
    ]
    return "\n".join(
        [
            "## Limits",
            "",
            "Cameras it was trained on; the runtime warns outside:",
            "",
            "| | from | to | |",
            "|---|---|---|---|",
            *rows,
            "",
            _paragraph(
                "The field shows only what lies within "
                f"{config['shell_radius_m'] * 100:g} cm of the fitted body, up to "
                f"{config['shell_radius_max_m'] * 100:g} cm of hips, waist and legs where "
                "the picture shows clothes that stand off as far. What the picture does not show "
                "is invented. The body fit and the mask are taken as given: errors in them show. "
                "It knows the project's synthetic people, their clothes, motions and light, and no "
                f"others; faces and hands are as small as {config['resolution']} pixels make them."
            ),
            "",
        ]
    )


def _training(provenance: Mapping[str, Any]) -> str:
    lines = ["## Training", ""]
    for part, told in PARTS.items():
        if part not in provenance:
            continue
        lines += [f"### {told[0].upper()}{told[1:]}", ""]
        facts = {k: v for k, v in provenance[part].items() if k not in UNTOLD}
        lines += [f"- {key}: {_told(value)}" for key, value in facts.items()]
        lines.append("")
    return "\n".join(lines)


def _making(making: Mapping[str, Any]) -> str:
    """How long it took, on what, and how the errors fell."""
    told = {k: v for k, v in making.items() if k not in ("wall_s", "curves", "command")}
    lines = ["## Making", "", f"`{making['command']}`", ""]
    lines += [f"- {key}: {_told(value)}" for key, value in told.items()]
    lines += ["", "| step | wall-clock, s |", "|---|---|"]
    lines += [f"| {name} | {seconds:,.0f} |" for name, seconds in making["wall_s"].items()]
    for name, rows in making["curves"].items():
        keys = [k for k in rows[-1] if k not in ("step", "grad", "steps_per_s")] if rows else []
        lines += ["", f"### Curve of {name}", "", f"| step | {' | '.join(keys)} |"]
        lines.append("|---" * (len(keys) + 1) + "|")
        for row in rows:
            cells = (f"{row[key]:.4g}" if key in row else "–" for key in keys)
            lines.append(f"| {row['step']:,.0f} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _paragraph(text: str) -> str:
    return textwrap.fill(text, 100)


def _told(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(
            f"{key} ({_told(item)})" if isinstance(item, Mapping) else f"{key} {_told(item)}"
            for key, item in value.items()
        )
    if isinstance(value, list):
        return " ".join(map(_told, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _licence(manifest: Mapping[str, Any]) -> str:
    return f"""## Licence

{manifest["license"]}, weights and graphs alike. The body in `{manifest["body"]}` is derived from
others' work: see the attribution in NOTICE at the root of gas-rt.
"""
