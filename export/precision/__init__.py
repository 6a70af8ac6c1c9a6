"""Bundles in less than fp32: types written into the graphs, layer by layer, behind gates."""

from __future__ import annotations

__all__ = ["COMPONENTS", "DEFAULT_COMPONENTS", "PRECISIONS"]

PRECISIONS = ("fp32", "fp16", "bf16", "int8")
COMPONENTS = ("denoiser", "decoder", "conditioner", "encoders")
# The encoders run once per avatar: there is nothing to gain in them.
DEFAULT_COMPONENTS = ("denoiser", "decoder", "conditioner")
