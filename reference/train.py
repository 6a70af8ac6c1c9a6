"""Training: ``python -m reference.train STAGE --data SHARDS --out DIR``.

Progress goes to stderr, the curve to ``DIR/curve.jsonl``, checkpoints to ``DIR/checkpoint.pt``
(weights of the run and their running mean, optimiser, step). A run that finds a checkpoint
continues from it; the result does not depend on where it was interrupted.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch

__all__ = ["main"]

# Keys of reference.diffusion.ablations.ABLATIONS, which takes seconds to import.
ABLATIONS = ("full", "no-nerf", "no-switcher", "scans-only", "view-only", "pose-only")
CONFIGS = ("mini", "mini-256", "tiny")
DEFAULT_BODY = Path("engines/gas-mini/body.npz")


def _stage1(arguments: argparse.Namespace) -> None:
    from gas_rt.body import BodyModel
    from reference.nerf import PRESETS
    from reference.nerf.training import train

    torch.set_num_threads(1)  # the workers of a step have one each
    field, config = PRESETS[arguments.config]
    half = config.bf16 and not arguments.fp32
    config = replace(config, steps=arguments.steps or config.steps, bf16=half)
    config = replace(config, **_given(arguments))
    body = BodyModel.open(arguments.body)
    train(
        field,
        config,
        data=arguments.data,
        body=body,
        out=arguments.out,
        device=arguments.device,
        start=arguments.start,
    )


def _given(arguments: argparse.Namespace) -> dict[str, float]:
    """What of a schedule the command line says."""
    told = {name: getattr(arguments, name) for name in ("lr", "seed")}
    return {name: value for name, value in told.items() if value is not None}


def _autoencoder(arguments: argparse.Namespace) -> None:
    from reference.autoencoder.training import PRESETS, train

    model, config = PRESETS[arguments.config]
    config = replace(config, steps=arguments.steps or config.steps)
    train(model, config, data=arguments.data, out=arguments.out, device=arguments.device)


def _unet(arguments: argparse.Namespace) -> None:
    from reference.diffusion.ablations import ablated
    from reference.diffusion.training import PRESETS, train

    torch.set_num_threads(1)  # the workers of a step have one each
    model, config = PRESETS[arguments.config]
    if arguments.ablation is None:
        config = replace(config, steps=arguments.steps or config.steps)
    else:
        model, config = ablated(arguments.ablation, model, config, steps=arguments.steps)
    train(
        model,
        replace(
            config,
            half=config.half and not arguments.fp32,
            **_given(arguments),
        ),
        data=arguments.data,
        out=arguments.out,
        device=arguments.device,
        autoencoder=arguments.autoencoder,
        start=arguments.start,
        ablation=arguments.ablation,
    )


def _student(arguments: argparse.Namespace) -> None:
    from reference.diffusion.distill import PRESETS, for_teacher, train

    torch.set_num_threads(1)  # the workers of a step have one each
    config = for_teacher(PRESETS[arguments.config], arguments.teacher)
    config = replace(
        config,
        steps=arguments.steps or config.steps,
        sigmas=tuple(arguments.sigmas or config.sigmas),
    )
    device = arguments.device
    train(config, teacher=arguments.teacher, data=arguments.data, out=arguments.out, device=device)


def _levels(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(level) for level in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected 40,10,3,1 say, got {text!r}") from None


def _compact(arguments: argparse.Namespace) -> None:
    from reference.training import compact

    compact(arguments.checkpoint, arguments.out, half=arguments.half)


def _average(arguments: argparse.Namespace) -> None:
    from reference.training import average

    average(arguments.checkpoints, arguments.out, half=arguments.half)


def main(argv: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m reference.train", description=__doc__)
    stages = parser.add_subparsers(dest="stage", required=True)
    stage1 = stages.add_parser("stage1", help="the generalizable human NeRF")
    stage1.add_argument("--body", type=Path, default=DEFAULT_BODY)
    stage1.set_defaults(run=_stage1)
    autoencoder = stages.add_parser("autoencoder", help="the small model's picture autoencoder")
    autoencoder.set_defaults(run=_autoencoder)
    unet = stages.add_parser("unet", help="stage 2, the video diffusion, on clip shards")
    unet.add_argument(
        "--ablation",
        choices=ABLATIONS,
        help="what to leave out, on the budget that all of them share, the full model's included",
    )
    unet.add_argument(
        "--autoencoder",
        type=Path,
        default=Path("reference/checkpoints/autoencoder-mini.pt"),
        help="checkpoint that encoded the clips: errors count as they are in the picture",
    )
    unet.set_defaults(run=_unet)
    student = stages.add_parser("student", help="stage 2 in 4, 2 and 1 steps and one branch")
    student.add_argument("--teacher", type=Path, required=True, help="checkpoint of the unet")
    student.add_argument(
        "--sigmas",
        type=_levels,
        action="append",
        metavar="LIST",
        help="levels where the steps start, 40,10,3,1 say; one list per number of steps",
    )
    student.set_defaults(run=_student)
    for stage in (stage1, unet):
        stage.add_argument(
            "--start", type=Path, help="checkpoint whose weights a new run begins with"
        )
        stage.add_argument(
            "--fp32",
            action="store_true",
            help="no bfloat16, which some processors have and are slower with",
        )
        stage.add_argument("--lr", type=float, help="the learning rate's peak")
        stage.add_argument("--seed", type=int, help="of the order of people and of the noise")
    for stage in (stage1, autoencoder, unet, student):
        stage.add_argument("--config", choices=CONFIGS, default="mini")
        stage.add_argument("--data", type=Path, required=True, help="folder of shards")
        stage.add_argument("--out", type=Path, required=True, help="checkpoints and curve")
        stage.add_argument("--steps", type=int, help="length of the schedule")
        stage.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    small = stages.add_parser("compact", help="a checkpoint's averaged weights alone, to keep")
    small.add_argument("checkpoint", type=Path)
    small.add_argument("-o", "--out", type=Path, required=True)
    small.set_defaults(run=_compact)
    both = stages.add_parser("average", help="the mean of runs that started from one another")
    both.add_argument("checkpoints", type=Path, nargs="+")
    both.add_argument("-o", "--out", type=Path, required=True)
    both.set_defaults(run=_average)
    for stage in (small, both):
        stage.add_argument("--half", action="store_true", help="in 16 bits, as a bundle holds them")
    arguments = parser.parse_args(argv)
    arguments.run(arguments)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
