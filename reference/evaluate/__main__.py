"""``python -m reference.evaluate --stage full --policy diagonal --seeds A:B --json``.

Each test person is photographed once and shown on the orbit that starts at the photo's camera,
whose own view is left out, and the first few in a motion. Means are over frames; every figure is
defined in docs/evaluation.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import torch

import gas_rt
from gas_rt.body import BodyModel
from gas_rt.diffusion import explicit_sigmas
from gas_rt.engine import Precision
from gas_rt.errors import GasRtError, InputError
from reference.autoencoder.checkpoint import open_checkpoint as open_autoencoder
from reference.diffusion.ablations import ABLATIONS
from reference.diffusion.checkpoint import open_checkpoint as open_denoiser
from reference.diffusion.picture import PictureDecoder
from reference.diffusion.windows import WindowConfig
from reference.evaluate import fields, stage2
from reference.evaluate.cases import PERIOD, SIZE, Case, loop_case, motion_case, view_case
from reference.evaluate.fvd import SEGMENT, open_detector
from reference.evaluate.judge import Measures, evaluate, over_time, speed, steadiness, summary
from reference.evaluate.live import Streamed
from reference.evaluate.lpips import open_lpips
from reference.evaluate.shown import Show
from reference.metrics import SEEN_DEG
from reference.people import FitNoise
from reference.people.mixture import KINDS

__all__ = ["main"]

SCHEMA_VERSION = 2
STAGES = ("field", "full", "no-nerf", "ceiling")
FIELD_RENDERERS = ("teacher", "exact", "baked", "fast", "runtime")
STAGE2_RENDERERS = ("runtime", "torch")
AUTOENCODER = Path("reference/checkpoints/autoencoder-mini.pt")


def _seeds(text: str) -> range:
    first, _, last = text.partition(":")
    try:
        seeds = range(int(first), int(last))
    except ValueError:
        seeds = range(0)
    if not seeds:
        raise argparse.ArgumentTypeError(
            f"expected FIRST:LAST with FIRST < LAST (LAST left out), got {text!r}"
        )
    return seeds


def _guidance(text: str) -> stage2.Strength:
    if text in ("on", "off"):
        return stage2.Strength() if text == "on" else stage2.Strength(1.0, 1.0)
    try:
        pose, behind = (float(value) for value in text.split(","))
        return stage2.Strength(pose, behind)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected on, off, or two numbers POSE,VIEW_BEHIND, got {text!r}"
        ) from None


def _sigmas(text: str) -> tuple[float, ...]:
    try:
        return explicit_sigmas([float(value) for value in text.split(",")])
    except (ValueError, GasRtError) as error:
        raise argparse.ArgumentTypeError(f"expected falling numbers: {error}") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m reference.evaluate", description=__doc__)
    parser.add_argument(
        "--stage",
        choices=STAGES,
        default="field",
        help="no-nerf: the full model given black renders; ceiling: the autoencoder's round trip "
        "of the truth",
    )
    parser.add_argument("--seeds", type=_seeds, default=range(950_000, 950_008))
    parser.add_argument("--views", type=int, default=20, help="frames of the orbit; 0 for none")
    parser.add_argument("--motions", type=int, default=4, metavar="N", help="people in motion")
    parser.add_argument(
        "--kind",
        choices=KINDS,
        default="scan",
        help="exact fits and calibrated cameras, or a hand-held camera and estimated fits",
    )
    parser.add_argument(
        "--fit-noise", type=float, default=1.0, metavar="LEVEL", help="of a video's fits (1)"
    )
    parser.add_argument("--size", type=int, default=SIZE, help="of the pictures (%(default)s)")
    parser.add_argument("--motion-frames", type=int, default=40, metavar="N")
    parser.add_argument(
        "--steady",
        type=int,
        default=0,
        metavar="N",
        help=f"also N frames of a motion that repeats every {PERIOD}, of the first person",
    )
    parser.add_argument(
        "--renderer",
        choices=[*FIELD_RENDERERS, "torch"],
        help="of the field all but torch, baked unless given; of stage 2 runtime, a session of the "
        "bundle, or torch, which is the one with a --checkpoint: that on the bundle's baked fields",
    )
    parser.add_argument("--bundle", default="engines/gas-mini", help="body and baked fields")
    parser.add_argument("--backend", default="auto", help="of the bundle (%(default)s)")
    parser.add_argument("--precision", choices=get_args(Precision), default="auto")
    parser.add_argument("--avatars", type=Path, metavar="DIR", help="keeps people once enrolled")
    parser.add_argument("--sheet", type=Path, help="PNG: truth above what was shown, per clip")
    parser.add_argument("--json", action="store_true", help="one document on stdout")
    parser.add_argument("--rows", action="store_true", help="every frame's figures in it")
    parser.add_argument("--policy", choices=stage2.POLICIES, help="of stage 2 (diagonal)")
    parser.add_argument("--steps", type=int, help="of stage 2 (the bundle's; as trained)")
    parser.add_argument("--noise-seed", type=int, default=0)
    parser.add_argument(
        "--half-field", action="store_true", help="a session renders the field at half resolution"
    )
    parser.add_argument(
        "--skip-below",
        type=float,
        default=0.0,
        metavar="RAD",
        help="a session poses the body anew only where a joint turned by more",
    )
    parser.add_argument("--checkpoint", type=Path, help="for torch: the UNet; teacher: stage 1")
    more = parser.add_argument_group("distances that need weights, and clips to measure elsewhere")
    more.add_argument(
        "--lpips",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="LPIPS by these weights: the lpips package's, and torchvision's AlexNet or VGG-16",
    )
    more.add_argument(
        "--fvd",
        type=Path,
        metavar="FILE",
        help="FVD by this TorchScript I3D (i3d_torchscript.pt); the code in the file is run",
    )
    more.add_argument("--clips", type=Path, metavar="DIR", help="keeps truth and what was shown")
    two = parser.add_argument_group("stage 2 in torch")
    two.add_argument("--autoencoder", type=Path, help=f"({AUTOENCODER})")
    two.add_argument("--sigmas", type=_sigmas, metavar="LIST", help="explicit levels, with the end")
    two.add_argument("--guidance", type=_guidance, help="on, off or POSE,VIEW_BEHIND (on: 2,2)")
    return parser


def _check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Complete the arguments, or exit with code 2."""
    allowed, usual = STAGE2_RENDERERS, "torch" if args.checkpoint else "runtime"
    if args.stage == "field":
        allowed, usual = FIELD_RENDERERS, "baked"
    elif args.stage == "ceiling":
        allowed, usual = ("torch",), "torch"
    args.renderer = args.renderer or usual
    if args.renderer not in allowed:
        parser.error(
            f"--renderer: stage {args.stage} is shown by {', '.join(allowed)}, got {args.renderer}"
        )
    if args.views == 1 or args.views < 0:
        parser.error(f"--views: expected 0 or at least 2, got {args.views}")
    if not 0 <= args.motions <= len(args.seeds) and args.motions != parser.get_default("motions"):
        parser.error(f"--motions: expected 0..{len(args.seeds)}, got {args.motions}")
    if args.fit_noise < 0:
        parser.error(f"--fit-noise: expected a level of at least 0, got {args.fit_noise:g}")
    if args.motion_frames < 1:
        parser.error(f"--motion-frames: expected at least 1, got {args.motion_frames}")
    if args.steady and (args.steady < 3 * PERIOD or args.steady % PERIOD):
        parser.error(f"--steady: expected {3 * PERIOD}, {4 * PERIOD}, …, got {args.steady}")
    if not (args.views or args.motions or args.steady):
        parser.error("nothing to show: --views, --motions and --steady are all 0")
    trained = args.renderer in ("teacher", "torch") and args.stage != "ceiling"
    if trained != (args.checkpoint is not None):
        parser.error("--checkpoint: give it with --renderer teacher or torch, and only then")
    if (args.half_field or args.skip_below) and (
        args.renderer != "runtime" or args.stage == "no-nerf"
    ):
        parser.error(
            "--half-field, --skip-below: are a session's, of the whole model or the field; add "
            "--renderer runtime"
        )
    if args.steps is not None and args.steps < 1:
        parser.error(f"--steps: expected at least 1, got {args.steps}")
    if args.stage in ("field", "ceiling") and (args.policy or args.steps):
        parser.error("--policy, --steps: are stage 2's; leave them out, or choose another --stage")
    for name in ("autoencoder", "sigmas", "guidance"):
        if args.renderer != "torch" and getattr(args, name) is not None:
            parser.error(f"--{name}: is for --renderer torch; a bundle has its own")
    if args.stage == "ceiling" and (args.sigmas or args.guidance):
        parser.error("--sigmas, --guidance: nothing is generated for the ceiling; leave them out")
    if args.fvd and max(_videos(args)) < 2:
        parser.error(
            f"--fvd: expected at least two videos of {SEGMENT} judged frames of a kind, got "
            "{} of views and {} of motions; show more people or longer clips".format(*_videos(args))
        )
    args.policy = args.policy or "diagonal"
    args.autoencoder = args.autoencoder or AUTOENCODER
    args.guidance = args.guidance or stage2.Strength()
    if args.sigmas and args.steps not in (None, len(args.sigmas) - 1):
        parser.error(f"--steps: --sigmas has {len(args.sigmas) - 1}, got {args.steps}")


def _videos(args: argparse.Namespace) -> tuple[int, int]:
    """How many of views and of motions FVD gets."""
    people = len(args.seeds)
    views = people * ((args.views - 1) // SEGMENT) if args.views else 0
    return views, min(args.motions, people) * (args.motion_frames // SEGMENT)


def _cases(args: argparse.Namespace, body: BodyModel) -> Iterator[Case]:
    """Each person's orbit and, of the first few, motion."""
    filmed: dict[str, Any] = (
        {} if args.kind == "scan" else {"noise": FitNoise().scaled(args.fit_noise)}
    )
    shown = {"size": args.size, **filmed}
    for k, seed in enumerate(args.seeds):
        if args.views:
            yield view_case(seed, body, frames=args.views, **shown)
        if k < args.motions:
            yield motion_case(seed, body, frames=args.motion_frames, **shown)


def _show(args: argparse.Namespace, body: BodyModel) -> tuple[Show, dict[str, Any]]:
    """What shows the cases, and how it describes itself."""
    threads = torch.get_num_threads()
    in_torch = {"backend": {"actual": "torch", "precision": "fp32", "threads": threads}}
    if args.stage == "ceiling":
        show = stage2.round_trip(open_autoencoder(args.autoencoder))
        return show, in_torch | {"policy": "round trip"}
    if args.renderer == "teacher":
        return fields.shown_by(fields.teacher(args.checkpoint, body)), in_torch
    if args.stage == "no-nerf" and args.renderer == "torch":
        return _stage2(args, body, None, in_torch)
    model = gas_rt.load(args.bundle, args.backend, threads, precision=args.precision)
    avatars = fields.Avatars(model, args.avatars)
    if args.renderer == "runtime":
        return _streamed(args, avatars, threads)
    if args.renderer == "torch":
        # What the runtime renders live, and so what stage 2 will be given there.
        return _stage2(args, body, fields.runtime(avatars, "fast"), in_torch)
    enrol = fields.runtime(avatars, args.renderer)
    return fields.shown_by(enrol), {"backend": vars(model.backend) | {"threads": threads}}


def _streamed(
    args: argparse.Namespace, avatars: fields.Avatars, threads: int
) -> tuple[Show, dict[str, Any]]:
    model = avatars.model
    policy, steps = "field" if args.stage == "field" else args.policy, 0
    if known := model.steps(policy):
        steps = args.steps or model.parts.bundle.config.diffusion.usual_steps(policy)
        if steps not in known:
            raise InputError(
                f"--steps: policy {policy} takes {', '.join(map(str, known))} steps in bundle "
                f"{model.name}, got {steps}"
            )
    show = Streamed(
        avatars,
        policy,
        steps,
        seed=args.noise_seed,
        nerf=args.stage != "no-nerf",
        half_field=args.half_field,
        skip_below_rad=args.skip_below,
    )
    backend = vars(model.backend) | {"threads": threads}
    saved = {"half_field": args.half_field, "skip_below_rad": args.skip_below}
    told = {name: value for name, value in saved.items() if value}
    return show, {"backend": backend, "policy": policy, "steps": steps, **told}


def _stage2(
    args: argparse.Namespace, body: BodyModel, field: fields.Enrol | None, about: dict[str, Any]
) -> tuple[Show, dict[str, Any]]:
    model, trained = open_denoiser(args.checkpoint)
    values = trained["train"]["windows"]
    windows = WindowConfig(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
    autoencoder = open_autoencoder(args.autoencoder)
    channels, wanted = autoencoder.config.latent_channels, model.config.unet.latent_channels
    if channels != wanted:
        raise ValueError(
            f"{args.autoencoder}: makes latents of {channels} channels, {args.checkpoint} takes "
            f"{wanted}; give the autoencoder that the UNet's clips were encoded with"
        )
    few = trained["train"]["sigmas"] if model.told else None
    usual = max(map(len, few)) if few else len(windows.live_sigmas)
    sigmas = args.sigmas or stage2.levels(windows, args.steps or usual, policy=args.policy, few=few)
    show = stage2.Generator(
        model=model,
        decoder=PictureDecoder(autoencoder, model.config).eval(),
        body=body,
        field=field if model.config.nerf else None,
        windows=windows,
        policy=args.policy,
        sigmas=sigmas,
        strength=args.guidance,
        seed=args.noise_seed,
    )
    return show, about | {
        "policy": args.policy,
        "steps": len(sigmas) - 1,
        "sigmas": [round(value, 6) for value in sigmas],
        "guidance": vars(args.guidance),
        "trained_steps": trained["step"],
        **_ablation(trained),
        **({"shown_as": "student"} if model.told else {}),
    }


def _ablation(trained: dict[str, Any]) -> dict[str, str]:
    name = trained.get("ablation")
    return {} if name is None else {"ablation": name, "shown_as": ABLATIONS[name].shown_as}


def main(argv: list[str] | None = None) -> int:
    """Entry point: 0 on success, 1 on the caller's error."""
    parser = _parser()
    args = parser.parse_args(argv)
    _check(parser, args)
    command = " ".join(["python -m reference.evaluate", *(sys.argv[1:] if argv is None else argv)])
    try:
        document = _document(args, command)
    except (GasRtError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if args.json:
        print(json.dumps(document))
    else:
        _print(document)
    return 0


def _document(args: argparse.Namespace, command: str) -> dict[str, Any]:
    measures = Measures(
        lpips=open_lpips(args.lpips) if args.lpips else None,
        fvd=open_detector(args.fvd) if args.fvd else None,
        clips=args.clips,
    )
    body = BodyModel.open(Path(args.bundle) / "body.npz")
    show, about = _show(args, body)
    document: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "command": command,
        "stage": args.stage,
        "renderer": args.renderer,
        "policy": "field",
        "steps": 0,
        **about,
        "seeds": [args.seeds.start, args.seeds.stop],
        "kind": args.kind,
        "fit_noise": args.fit_noise if args.kind == "video" else 0.0,
        "views": args.views,
        **({"size": args.size} if args.size != SIZE else {}),
        "motions": [min(args.motions, len(args.seeds)), args.motion_frames],
        "seen_deg": SEEN_DEG,
    }
    if args.views or args.motions:
        found = evaluate(show, _cases(args, body), sheet=args.sheet, measures=measures)
        document |= {"summary": summary(found.rows), **over_time(found), **speed(found.shown)}
        document |= {"rows": found.rows} if args.rows else {}
    if args.steady:
        case = loop_case(args.seeds.start, body, frames=args.steady, size=args.size)
        document["steady"] = steadiness(case, show(case))
    return document


def _print(document: dict[str, Any]) -> None:
    found = document.get("summary", {})
    lines = {f"view {side}": part for side, part in found.get("view", {}).items()}
    lines |= {"motion": found["motion"]} if "motion" in found else {}
    rounds = document.get("steady", {}).get("rounds", [])
    lines |= {f"round {k}": part for k, part in enumerate(rounds)}
    for name, part in lines.items():
        print(f"{name:12s}" + "  ".join(f"{key} {value}" for key, value in part.items()))
    for name in ("multiview", "flicker", "fvd"):
        if name in document:
            print(f"{name:12s}{document[name]}")
    if "fps" in document:
        first = document["first_frame"]
        print(
            f"{document['fps']} fps, first frame after {first['ms']} ms and {first['poses']} poses"
        )
    if "steady" in document:
        steady = document["steady"]
        print(
            f"from the second round to the last {steady['change_db']:+} dB, from the third "
            f"{steady['since_third']['box_psnr_db']:+} dB"
        )


if __name__ == "__main__":
    raise SystemExit(main())
