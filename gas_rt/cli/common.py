"""What the verbs share: model flags, the progress bar, the one JSON document."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from gas_rt.errors import InputError
from gas_rt.files import check_folder_of

if TYPE_CHECKING:
    from gas_rt.model import Model

__all__ = [
    "add_json_flag",
    "add_model_flags",
    "add_policy_flags",
    "add_trace_flag",
    "at_least",
    "bar",
    "check_folder_of",
    "emit",
    "open_model",
    "shown",
]


def add_model_flags(parser: argparse.ArgumentParser) -> None:
    """Which model runs, where, and with how many threads."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model", default="gas-mini", metavar="NAME", help="bundle name or folder (%(default)s)"
    )
    group.add_argument(
        "--backend",
        default="auto",
        metavar="B",
        help="auto, openvino, onnxruntime, onnxruntime-cuda, onnxruntime-tensorrt or tensorrt "
        "(%(default)s)",
    )
    group.add_argument(
        "--precision",
        default="auto",
        metavar="P",
        help="auto, fp32, bf16, fp16 or int8 (%(default)s)",
    )
    group.add_argument(
        "--strict", action="store_true", help="refuse any fallback of backend or device"
    )
    group.add_argument(
        "--threads", type=int, metavar="N", help="thread budget (default: all processors)"
    )


def add_policy_flags(parser: argparse._ActionsContainer) -> None:
    """What makes the frames."""
    parser.add_argument(
        "--policy", metavar="P", help="field, diagonal, sequential or parity (default: the model's)"
    )
    parser.add_argument(
        "--steps", type=int, metavar="N", help="of denoising per frame (default: the model's)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="(%(default)s)")


def add_json_flag(parser: argparse.ArgumentParser) -> None:
    """``--json``: one document on stdout."""
    parser.add_argument("--json", action="store_true", help="print one JSON document on stdout")


def add_trace_flag(parser: argparse._ActionsContainer) -> None:
    """``--trace``: what happened when."""
    parser.add_argument(
        "--trace", metavar="T.json", help="write what happened when, for ui.perfetto.dev"
    )


def open_model(args: argparse.Namespace) -> Model:
    """The model the flags ask for."""
    from gas_rt.model import load

    model = load(
        args.model,
        args.backend,
        args.threads,
        precision=args.precision,
        strict=args.strict,
    )
    for note in model.backend.notes:
        print(f"gas-rt: note: {note}", file=sys.stderr)
    return model


def emit(args: argparse.Namespace, document: dict[str, Any], text: str) -> None:
    """Print the result: the document with ``--json``, else the text."""
    print(json.dumps(document, indent=2) if args.json else text)


def shown(value: Any) -> str:
    """A value of a JSON document as one line of text."""
    if isinstance(value, dict):
        return ", ".join(f"{k} {shown(v)}" for k, v in value.items())
    if isinstance(value, list):
        return " ".join(str(v) for v in value)
    return str(value)


def at_least(value: int | float, low: int | float, *, flag: str) -> None:
    """Raise unless `value` reaches `low`."""
    if not value >= low:
        raise InputError(f"{flag}: expected at least {low}, got {value}")


@contextmanager
def bar(
    args: argparse.Namespace, title: str, *, total: int | None = None
) -> Iterator[Callable[[float, str], None]]:
    """A progress bar on stderr, off with ``--json`` and when stderr is no terminal.

    Yields a function of (share done, what is being done); with `total`, the share is shown as
    that many frames.
    """
    from tqdm import tqdm

    quiet = args.json or not sys.stderr.isatty()
    steps = total or 100
    layout = "{l_bar}{bar}| {elapsed}" if total is None else None
    with tqdm(
        total=steps, desc=title, disable=quiet, file=sys.stderr, leave=True, bar_format=layout
    ) as drawn:

        def update(share: float, doing: str) -> None:
            drawn.set_postfix_str(doing, refresh=False)
            if total is None:
                drawn.set_description_str(f"{title}: {doing}", refresh=False)
            drawn.update(max(0, round(share * steps) - drawn.n))

        yield update
