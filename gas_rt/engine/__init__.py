"""Bundles, the Engine protocol and its backends."""

from __future__ import annotations

from gas_rt.engine.availability import BACKENDS, BackendStatus, backend_status
from gas_rt.engine.bundle import Bundle, BundleConfig, find_bundle, open_bundle, shipped_bundles
from gas_rt.engine.choose import open_engine
from gas_rt.engine.diffusion import DiffusionConfig
from gas_rt.engine.plan_store import PlanStore
from gas_rt.engine.protocol import Engine, Graph, GraphSpec, Precision, TensorSpec

__all__ = [
    "BACKENDS",
    "BackendStatus",
    "Bundle",
    "BundleConfig",
    "DiffusionConfig",
    "Engine",
    "Graph",
    "GraphSpec",
    "PlanStore",
    "Precision",
    "TensorSpec",
    "backend_status",
    "find_bundle",
    "open_bundle",
    "open_engine",
    "shipped_bundles",
]
