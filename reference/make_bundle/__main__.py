"""``python -m reference.make_bundle --out DIR``: people, both stages, the student, the bundle.

Everything is made from seeds, on the processor and, with ``--device cuda``, on a GPU. Progress goes
to stderr. A run that was killed goes on with ``--resume``. What was decided and spent is in
``DIR/making.json``, averaged weights are in ``DIR/checkpoints``, the bundle is in ``DIR/bundle``
and what it reaches in ``DIR/table.md``.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from gas_rt.errors import GasRtError, InputError
from reference.devices import usual
from reference.make_bundle.ledger import Ledger
from reference.make_bundle.recipe import RECIPES, Recipe, on_gpu
from reference.make_bundle.stages import Making, Options, report

__all__ = ["main"]

BODY = Path(__file__).parents[2] / "engines" / "gas-mini" / "body.npz"
PERSON_S = 30.0  # of judging, on all workers together, at most


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m reference.make_bundle", description=__doc__)
    add = parser.add_argument
    add("--out", type=Path, required=True, help="everything that is made")
    add("--config", choices=tuple(RECIPES), default="mini", help="(%(default)s)")
    add("--device", choices=("cpu", "cuda"), default=usual(), help="of the models (%(default)s)")
    add(
        "--budget-minutes",
        type=float,
        metavar="M",
        help="time to make do with; without it the recipe takes what it takes",
    )
    add("--workers", type=int, default=os.cpu_count() or 1, help="processes that draw people")
    add("--resume", action="store_true", help="go on with what --out holds")
    add("--body", type=Path, default=BODY)
    # On people not seen, guidance brought our models nothing: docs/training.md has the figures.
    add("--guidance-pose", type=float, default=1.0, help="of the bundle, 1 is none (%(default)s)")
    add("--guidance-view-behind", type=float, default=1.0, help="(%(default)s)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.workers < 1:
        parser.error(f"--workers: expected at least 1, got {arguments.workers}")
    if arguments.budget_minutes is not None and not arguments.budget_minutes > 0:
        parser.error(f"--budget-minutes: expected more than 0, got {arguments.budget_minutes:g}")
    try:
        make(arguments, RECIPES[arguments.config])
    except (GasRtError, OSError, ValueError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def make(arguments: argparse.Namespace, recipe: Recipe) -> None:
    """The whole way; what is done already is not done again."""
    from reference.make_bundle.finish import export, judge

    if arguments.device == "cuda":
        recipe = on_gpu(recipe)
    budget_s = None if arguments.budget_minutes is None else 60 * arguments.budget_minutes
    guidance = {"pose": arguments.guidance_pose, "view_behind": arguments.guidance_view_behind}
    asked = {
        "config": arguments.config,
        "device": arguments.device,
        "budget_minutes": arguments.budget_minutes,
        "guidance": guidance,
    }
    ledger = Ledger(arguments.out, asked)
    if ledger.begun and not arguments.resume:
        raise InputError(f"{arguments.out}: holds a run; give --resume to go on, or another --out")
    options = Options(
        out=arguments.out,
        body=arguments.body,
        device=arguments.device,
        workers=arguments.workers,
        budget_s=budget_s,
    )
    making = Making(recipe, options, ledger)
    making.run()
    with ledger.timed("judge"):
        bundle = export(making, guidance=guidance, command=_command(arguments))
        people = recipe.judged if budget_s is None else _people(making)
        table = judge(making, bundle, guidance=guidance, people=people)
    report(f"{bundle}\n{table}")


def _command(arguments: argparse.Namespace) -> str:
    """The command that makes the same again, but for where to and in how many processes."""
    words = ["python -m reference.make_bundle", "--config", arguments.config]
    words += ["--device", arguments.device]
    if arguments.budget_minutes is not None:
        words += ["--budget-minutes", f"{arguments.budget_minutes:g}"]
    words += ["--guidance-pose", f"{arguments.guidance_pose:g}"]
    return " ".join([*words, "--guidance-view-behind", f"{arguments.guidance_view_behind:g}"])


def _people(making: Making) -> int:
    """How many people there is time to judge on; at least two, or one where no more are meant."""
    options, most = making.options, making.recipe.judged
    assert options.budget_s is not None
    left_s = options.budget_s - sum(making.ledger.wall_s.values())
    afford = int(left_s * options.workers / PERSON_S)
    return making.ledger.once("judged", lambda: max(min(2, most), min(most, afford)))


if __name__ == "__main__":
    raise SystemExit(main())
