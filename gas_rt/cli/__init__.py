"""The command line: ``gas-rt VERB``. One file per verb; nothing heavy is imported for ``--help``.

Exit status: 0 ok, 1 the user's error (one line, no traceback), 2 usage, 3 unstable or a threshold
missed.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Sequence
from typing import Any, TextIO

from gas_rt.cli import demo, doctor, enroll, inspect, render
from gas_rt.errors import GasRtError, GasRtWarning

__all__ = ["main"]

VERBS = (demo, enroll, render, inspect, doctor)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    args = _parser().parse_args(arguments)
    args.command_line = ["gas-rt", *arguments]
    with warnings.catch_warnings():
        warnings.simplefilter("default", GasRtWarning)
        warnings.showwarning = _show_warning
        try:
            status: int = args.run(args)
            return status
        except GasRtError as error:
            return _fail(args, error)
        except KeyboardInterrupt:
            print("gas-rt: interrupted", file=sys.stderr)
            return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gas-rt", description="One picture of a person in, a live avatar out."
    )
    parser.add_argument("--version", action="version", version=_version())
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    for verb in VERBS:
        verb.add_parser(verbs)
    return parser


def _fail(args: argparse.Namespace, error: GasRtError) -> int:
    message = " ".join(str(error).split())
    print(f"gas-rt: error: {message}", file=sys.stderr)
    if getattr(args, "json", False):
        kind = type(error).__name__
        print(json.dumps({"schema_version": 1, "error": {"type": kind, "message": message}}))
    return 1


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> Any:
    text = f"{message}" if issubclass(category, GasRtWarning) else f"{category.__name__}: {message}"
    print(f"gas-rt: warning: {text}", file=sys.stderr)


def _version() -> str:
    from gas_rt import __version__

    return f"gas-rt {__version__}"
