"""The command line: ``gas-rt VERB``. One file per verb; nothing heavy is imported for ``--help``.

Exit status: 0 ok, 1 the user's error (one line, no traceback), 2 usage, 3 unstable or a threshold
missed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any, TextIO

from gas_rt.cli import bench, demo, doctor, engines, enroll, inspect, render
from gas_rt.errors import GasRtError, GasRtWarning

__all__ = ["main"]

VERBS = (demo, enroll, render, bench, inspect, engines, doctor)


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
            return _fail(args, type(error).__name__, str(error))
        except BrokenPipeError:  # whoever read our output has seen enough, as `head` does
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except OSError as error:  # of a full disk, of permissions
            name = f"{error.filename}: " if error.filename else ""
            remedy = "check the path, its permissions and the disk's free space"
            return _fail(args, "OSError", f"{name}{error.strerror or error}; {remedy}")
        except MemoryError:
            return _fail(args, "MemoryError", "out of memory; use a smaller picture or motion")
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


def _fail(args: argparse.Namespace, kind: str, message: str) -> int:
    # One line, and no escape sequence that a file's name or contents brought along.
    message = "".join(c if c.isprintable() else "?" for c in " ".join(message.split()))
    print(f"gas-rt: error: {message}", file=sys.stderr)
    if getattr(args, "json", False):
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
