"""``gas-rt doctor``: what this machine offers, what is missing and how to add it."""

from __future__ import annotations

import argparse
import importlib.util
import os
from typing import Any

from gas_rt.cli.common import add_json_flag, emit, shown
from gas_rt.errors import GasRtError
from gas_rt.settings import VARIABLES

__all__ = ["add_parser"]

NEEDED = {
    "numpy": "numpy",
    "openvino": "openvino",
    "safetensors": "safetensors",
    "PIL": "pillow",
    "av": "av",
    "tqdm": "tqdm",
}


def add_parser(verbs: Any) -> None:
    """Add the verb's flags."""
    parser = verbs.add_parser("doctor", help="check this installation", description=__doc__)
    add_json_flag(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the findings; status 1 if something needed is missing."""
    document = examine()
    lines = [f"{key:12} {shown(value)}" for key, value in document["machine"].items()]
    lines += [f"{key:12} {shown(value)}" for key, value in document["packages"].items()]
    lines += [f"bundle       {shown(value)}" for value in document["bundles"]]
    lines += [f"missing: {m['what']}; {m['remedy']}" for m in document["missing"]]
    if not document["missing"]:
        lines.append("nothing is missing")
    emit(args, document, "\n".join(lines))
    return 1 if document["missing"] else 0


def examine() -> dict[str, Any]:
    """Everything `run` prints."""
    missing = [
        {"what": f"Python package {package}", "remedy": f"run 'pip install {package}'"}
        for module, package in NEEDED.items()
        if importlib.util.find_spec(module) is None
    ]
    if any("numpy" in m["what"] for m in missing):
        return {
            "schema_version": 1,
            "machine": {},
            "packages": {},
            "bundles": [],
            "missing": missing,
        }
    machine: dict[str, Any] = {}
    packages: dict[str, Any] = {}
    try:
        from gas_rt.stream.report import environment

        found = environment()
        packages = found.pop("packages")
        machine = found
    except GasRtError as error:  # the compiled kernels are missing
        missing.append({"what": "compiled kernels", "remedy": str(error)})
    if importlib.util.find_spec("openvino") is not None:
        machine["openvino"] = _openvino()
    machine["settings"] = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    bundles, broken = _bundles()
    missing += broken
    return {
        "schema_version": 1,
        "machine": machine,
        "packages": packages,
        "bundles": bundles,
        "missing": missing,
    }


def _openvino() -> dict[str, Any]:
    import openvino

    core = openvino.Core()
    capabilities = [str(c) for c in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")]
    return {
        "version": openvino.get_version(),
        "devices": list(core.available_devices),
        "bf16": "BF16" in capabilities,
        "capabilities": capabilities,
    }


def _bundles() -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    from gas_rt.engine import open_bundle, shipped_bundles

    bundles: list[dict[str, Any]] = []
    broken = []
    for name in shipped_bundles():
        try:
            bundle = open_bundle(name)
        except GasRtError as error:
            broken.append({"what": f"bundle {name}", "remedy": str(error)})
        else:
            bundles.append(
                {
                    "name": bundle.name,
                    "version": bundle.version,
                    "folder": str(bundle.folder),
                    "policies": list(bundle.policies),
                }
            )
    if not bundles and not broken:
        broken.append(
            {"what": "a model bundle", "remedy": "reinstall gas-rt, or pass --model FOLDER"}
        )
    return bundles, broken
