"""Training: ``python -m reference.train stage1|autoencoder --data SHARDS --out DIR``.

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

DEFAULT_BODY = Path("engines/gas-mini/body.npz")
CONFIGS = ("mini", "tiny")


def _stage1(args: argparse.Namespace) -> None:
    from gas_rt.body import BodyModel
    from reference.nerf.config import PRESETS
    from reference.nerf.training import train

    field, config = PRESETS[args.config]
    if args.steps:
        config = replace(config, steps=args.steps)
    torch.set_num_threads(1)  # its steps are divided among workers instead
    train(field, config, data=args.data, body=BodyModel.open(args.body), out=args.out)


def _autoencoder(args: argparse.Namespace) -> None:
    from reference.autoencoder.training import PRESETS, train

    model, config = PRESETS[args.config]
    if args.steps:
        config = replace(config, steps=args.steps)
    torch.set_num_threads(args.threads)
    train(model, config, data=args.data, out=args.out)


def main(argv: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m reference.train", description=__doc__)
    stages = parser.add_subparsers(dest="stage", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--config", choices=CONFIGS, default="mini")
    common.add_argument("--data", type=Path, required=True, help="folder of shards")
    common.add_argument("--out", type=Path, required=True, help="checkpoints and curve")
    common.add_argument("--steps", type=int, help="length of the schedule")
    stage1 = stages.add_parser(
        "stage1", parents=[common], help="the generalizable human NeRF (two threads)"
    )
    stage1.add_argument("--body", type=Path, default=DEFAULT_BODY)
    stage1.set_defaults(run=_stage1)
    autoencoder = stages.add_parser("autoencoder", parents=[common], help="stage 2's latents")
    autoencoder.add_argument("--threads", type=int, default=2)
    autoencoder.set_defaults(run=_autoencoder)
    args = parser.parse_args(argv)
    args.run(args)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
