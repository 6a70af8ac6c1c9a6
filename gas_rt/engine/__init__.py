"""Bundles, the Engine protocol and its backends."""

from __future__ import annotations

import importlib.util
from typing import get_args

from gas_rt.engine.bundle import Bundle, BundleConfig, find_bundle, open_bundle, shipped_bundles
from gas_rt.engine.diffusion import DiffusionConfig
from gas_rt.engine.plan_store import PlanStore
from gas_rt.engine.protocol import Engine, Graph, GraphSpec, Precision, TensorSpec
from gas_rt.errors import BackendError

__all__ = [
    "BACKENDS",
    "Bundle",
    "BundleConfig",
    "DiffusionConfig",
    "Engine",
    "Graph",
    "GraphSpec",
    "PlanStore",
    "Precision",
    "TensorSpec",
    "find_bundle",
    "open_bundle",
    "open_engine",
    "shipped_bundles",
]

BACKENDS = ("auto", "openvino")


def open_engine(
    backend: str = "auto",
    *,
    threads: int,
    precision: Precision = "auto",
    store: PlanStore | None = None,
) -> Engine:
    """Open a backend; ``auto`` takes the only one there is, OpenVINO.

    With a `store`, graphs compiled before are taken from it, and those compiled now are kept.
    """
    if backend not in BACKENDS:
        raise BackendError(f"backend {backend!r}: unknown; choose one of {', '.join(BACKENDS)}")
    if precision not in get_args(Precision):
        raise BackendError(
            f"precision {precision!r}: unknown; choose one of {', '.join(get_args(Precision))}"
        )
    if importlib.util.find_spec("openvino") is None:
        raise BackendError("backend openvino: not installed; run 'pip install openvino'")
    from gas_rt.engine.openvino import OpenVinoEngine

    return OpenVinoEngine(threads=threads, precision=precision, requested=backend, store=store)
