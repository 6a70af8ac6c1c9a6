"""``python -m benchmarks.engines``: run the rows, print them, judge them."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.engines.backends import decoder_bf16, denoiser_bf16, denoiser_int8
from benchmarks.engines.fusions import attn_folded, conditioner_cached, denoiser_fused
from benchmarks.engines.parity import parity_table
from benchmarks.engines.setting import Arrays, Setting
from benchmarks.engines.table import markdown
from benchmarks.kernels.machine import describe
from benchmarks.kernels.rows import Row, Skipped, measured
from benchmarks.reporting import MISSED, add_choice, tell
from export.bundle import open_stage2
from export.compare import film
from export.diffusion import Stage2, diffusion_cases
from export.streams import recorded
from gas_rt.engine import Bundle, find_bundle, open_bundle, open_engine
from reference.people.seeds import TEST

ROWS: dict[str, Callable[[Setting], Row]] = {
    row.__name__: row
    for row in (
        denoiser_bf16,
        denoiser_int8,
        denoiser_fused,
        conditioner_cached,
        decoder_bf16,
        attn_folded,
    )
}
CHECKPOINTS = Path(__file__).parents[2] / "reference" / "checkpoints"
SAMPLES, FRAMES = 3, 24  # of each graph for the table of parity, and of the stream they are from


def main(argv: Sequence[str] | None = None) -> int:
    """Run and print; 0 if every row passes, else 3."""
    given = list(sys.argv[1:] if argv is None else argv)
    args = _parser().parse_args(given)
    document = json.loads(args.show.read_text()) if args.show else _run(args, given)
    text = json.dumps(document, indent=2)
    if args.out:
        args.out.write_text(text + "\n")
    print(text if args.json else markdown(document))
    judged = (*document["rows"], *document["parity"])
    return 0 if all(row["ok"] for row in judged) else MISSED


def _run(args: argparse.Namespace, command: Sequence[str]) -> dict[str, Any]:
    bundle = open_bundle(find_bundle(args.bundle))
    setting = Setting(
        bundle,
        args.threads,
        args.quick,
        _stage(bundle, args.checkpoints),
        None if args.int8 is None else open_bundle(args.int8),
    )
    try:
        return run(setting, args.rows, command=command, parity=not args.no_parity)
    finally:
        setting.close()


def run(
    setting: Setting,
    names: Sequence[str],
    *,
    command: Sequence[str],
    parity: bool = True,
    samples: Mapping[str, Sequence[Arrays]] | None = None,
) -> dict[str, Any]:
    """The report of the named rows; `samples` as of `parity_table`."""
    environment = describe()
    rows, skipped = measured(ROWS, names, setting, quick=setting.quick)
    table: list[dict[str, Any]] = []
    if parity:
        tell("parity of every graph with PyTorch")
        try:
            table, left_out = parity_table(setting, samples or _samples(setting))
            skipped |= {f"parity: {name}": why for name, why in left_out.items()}
        except Skipped as reason:
            skipped["parity"] = str(reason)
    return {
        "schema_version": 1,
        "command": ["python", "-m", "benchmarks.engines", *command],
        "environment": environment,
        "bundle": {"label": setting.bundle.label, "sha256": setting.bundle.sha256},
        "backends": list(setting.backends),
        "quick": setting.quick,
        "rows": rows,
        "parity": table,
        "skipped": skipped,
    }


def _samples(setting: Setting) -> dict[str, list[Arrays]]:
    """Of a test person's stream; with --quick random, which saves enrolling one."""
    if setting.quick:
        cases = diffusion_cases(setting.models(), side_px=setting.bundle.config.resolution)
        return {k: [{n: v.numpy() for n, v in c.inputs.items()}] for k, c in cases.items()}
    conditions = film(
        setting.bundle.folder,
        seed=TEST.start,
        task="pose",
        frames=FRAMES,
        threads=setting.threads,
    )
    engine = open_engine("openvino", threads=setting.threads, precision="fp32")
    found = recorded(setting.bundle, conditions, engine=engine)
    engine.close()
    return {name: given[:: max(1, len(given) // SAMPLES)] for name, given in found.items()}


def _stage(bundle: Bundle, folder: Path) -> Stage2 | str:
    """PyTorch's models, or what has to be given for the rows that need them."""
    from export.precision.source import checkpoint_of
    from gas_rt.errors import InputError

    try:
        paths = {part: checkpoint_of(bundle, part, folder) for part in ("autoencoder", "unet")}
    except InputError as error:
        return str(error)
    return open_stage2(**paths)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engines", description=__doc__)
    add = parser.add_argument
    add("--json", action="store_true", help="print the report, not tables")
    add("--out", type=Path, metavar="FILE", help="write the report there too")
    add("--show", type=Path, metavar="FILE", help="print such a report; run nothing")
    add("--quick", action="store_true", help="few runs on random inputs; speed is not judged")
    add("--bundle", default="gas-mini", help="in fp32 (%(default)s)")
    add("--int8", type=Path, metavar="DIR", help="the same bundle converted to int8")
    add("--checkpoints", type=Path, default=CHECKPOINTS, help="what the bundle was made from")
    add("--no-parity", action="store_true", help="leave the comparison with PyTorch out")
    add("--threads", type=int, default=2, metavar="N", help="(%(default)s)")
    add_choice(parser, "row", ROWS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
