"""MODEL_CARD.md of a bundle made from the authors' weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["LICENSE", "release_card"]

LICENSE = "non-commercial: see MODEL_CARD.md"


def release_card(parts: Mapping[str, Any]) -> str:
    """The card; `parts` are those of bundle.json."""
    config, provenance = parts["config"], parts["provenance"]
    diffusion, release = config["diffusion"], provenance["release"]
    window = diffusion["profiles"]["parity"]
    rows = [
        f"| {part} | {facts['file']} | {facts['weights']:,} | `{facts['sha256'][:12]}` |"
        for part, facts in release.items()
    ]
    parity = provenance["parity"]
    return "\n".join(
        [
            f"# {parts['name']}",
            "",
            f"Stage 2 of GAS at {config['resolution']} × {config['resolution']} pixels, converted "
            "from the authors' weights by",
            "`python -m export convert-gas`; stage 1 is gas-rt's own, trained on synthetic people.",
            "",
            "| part | file | weights | SHA-256 |",
            "|---|---|---|---|",
            *rows,
            "",
            f"Windows of {window['frames']} frames that share {window['overlap']}, "
            f"{diffusion['default']['steps']} steps; decoded {diffusion['decoder']['frames']} "
            f"frames at a time. Weights",
            f"are stored in fp16; the UNet and the decoder compute in {provenance['precision']}, "
            "the encoders in fp32. The only policy is",
            "`parity`, since the weights know windows of one noise level.",
            "",
            "Compared with PyTorch, relative to an output's range: "
            + (", ".join(f"{name} {error:.1e}" for name, error in parity.items()) or "nothing")
            + ".",
            "",
            "## Licence",
            "",
            "**For yourself, and not commercial.** GAS's weights are CC BY-NC 4.0, SVD 1.1's are "
            "under Stability AI's",
            "licence: both hold for this bundle. gas-rt ships neither; don't pass it on.",
            "",
        ]
    )
