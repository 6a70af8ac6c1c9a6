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
    for name, found in document["backends"].items():
        lines += _backend_lines(name, found)
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
            "backends": {},
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
        "backends": _backends(),
        "missing": missing,
    }


def _backends() -> dict[str, Any]:
    """By name, whether a backend can run here, and what it lacks and how to add it.

    Only the one that every installation has is needed, so nothing that is missing here makes the
    status 1.
    """
    from gas_rt.engine import BACKENDS, backend_status

    found = {}
    for name in BACKENDS:
        if name == "auto":
            continue
        status = backend_status(name)
        found[name] = {
            "usable": status.usable,
            "device": status.device,
            "versions": status.versions,
            "missing": [{"what": m.what, "remedy": m.remedy} for m in status.missing],
            "notes": list(status.notes),
        }
    return found


def _backend_lines(name: str, found: dict[str, Any]) -> list[str]:
    """A backend for people, every line with its name so that it can be searched for."""
    state = "can run" if found["usable"] else "cannot run here"
    versions = f" ({shown(found['versions'])})" if found["versions"] else ""
    where = f" on {found['device']}" if found["usable"] else ""
    lines = [f"backend      {name}: {state}{where}{versions}"]
    lines += [f"  {name} lacks {m['what']}; {m['remedy']}" for m in found["missing"]]
    return [*lines, *(f"  {name}: {note}" for note in found["notes"])]


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
