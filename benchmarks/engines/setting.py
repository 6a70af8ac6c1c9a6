"""What the rows share: bundles, engines, inputs, and graphs that no bundle holds."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.kernels.rows import Skipped
from benchmarks.kernels.timing import Call, Timing, interleave
from export.diffusion import Stage2, rounded_to_half
from export.onnx_files import Case, export_graph
from gas_rt.engine import Bundle, Engine, Graph, GraphSpec, TensorSpec, open_engine
from gas_rt.engine.availability import cpu_has_bf16
from reference.diffusion.denoiser import Denoiser

__all__ = ["NO_BF16", "Arrays", "Setting", "UNetGraph", "inputs_of", "tensors_of"]

NO_BF16 = "not measurable here: no bf16 on this processor"
WARM_UP = 3
ROUNDS, QUICK_ROUNDS = 30, 2
Arrays = dict[str, NDArray[Any]]


@dataclass
class Setting:
    """Bundles and how they are run; graphs are loaded when first wanted.

    Attributes
    ----------
    bundle, int8 : in fp32, and the same converted; without the second its rows are skipped.
    stage : PyTorch's models of the bundle, or why there are none.
    """

    bundle: Bundle
    threads: int
    quick: bool
    stage: Stage2 | str
    int8: Bundle | None = None
    _engines: dict[str, Engine] = field(default_factory=dict)
    _graphs: dict[tuple[str, str], Graph] = field(default_factory=dict)
    _times: dict[str, dict[str, Timing]] = field(default_factory=dict)

    @cached_property
    def folder(self) -> tempfile.TemporaryDirectory[str]:
        """Where graphs are written that no bundle holds."""
        return tempfile.TemporaryDirectory(prefix="gas-rt-engines-")

    @property
    def backends(self) -> dict[str, tuple[str, str, Bundle]]:
        """What is here: by label, backend, precision and the bundle it runs."""
        found = {
            "onnxruntime fp32": ("onnxruntime", "fp32", self.bundle),
            "openvino fp32": ("openvino", "fp32", self.bundle),
        }
        if cpu_has_bf16():
            found["openvino bf16"] = ("openvino", "bf16", self.bundle)
        if self.int8 is not None:
            found["openvino int8"] = ("openvino", "auto", self.int8)
        return found

    def models(self) -> Stage2:
        """PyTorch's models with weights as the bundle stores them; or Skipped."""
        if isinstance(self.stage, str):
            raise Skipped(self.stage)
        return rounded_to_half(self.stage)

    def graph(self, label: str, spec: GraphSpec) -> Graph:
        """A graph on a backend, compiled once."""
        backend, precision, _ = self.backends[label]
        if label not in self._engines:
            self._engines[label] = open_engine(
                backend,
                threads=self.threads,
                precision=precision,  # type: ignore[arg-type]
            )
        key = (label, str(spec.path))
        if key not in self._graphs:
            self._graphs[key] = self._engines[label].load(spec)
        return self._graphs[key]

    def times(self, name: str) -> dict[str, Timing]:
        """A graph of the bundle on every backend that is here, in turns; measured once."""
        if name not in self._times:
            calls = {}
            for label, (_, _, bundle) in self.backends.items():
                graph = self.graph(label, bundle.graph(name))
                given = inputs_of(graph.spec)
                calls[label] = lambda g=graph, x=given: g.run(x)
            self._times[name] = self.measured(calls)
        return self._times[name]

    def measured(self, calls: Mapping[str, Callable[[], object]]) -> dict[str, Timing]:
        """Every call warmed up three times, then all in turns with pauses between."""
        rounds = QUICK_ROUNDS if self.quick else ROUNDS
        return interleave(
            {name: Call(run, warm_up=WARM_UP) for name, run in calls.items()}, rounds=rounds
        )

    def exported(self, name: str, case: Case) -> GraphSpec:
        """A module's graph as a file of its own."""
        path = Path(self.folder.name) / f"{name}.onnx"
        model = export_graph(case)
        onnx.save(model, path)
        outputs = {
            value.name: TensorSpec(
                tuple(d.dim_value for d in value.type.tensor_type.shape.dim), "float32"
            )
            for value in model.graph.output
        }
        inputs = {k: TensorSpec(tuple(v.shape), "float32") for k, v in case.inputs.items()}
        return GraphSpec(name, path, inputs, outputs)

    def close(self) -> None:
        """Free graphs and files."""
        self._graphs.clear()
        for engine in self._engines.values():
            engine.close()
        if "folder" in vars(self):
            self.folder.cleanup()


class UNetGraph(nn.Module):
    """The UNet alone, as a pipeline calls it that scales, guides and steps outside of it."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(
        self,
        sample: Tensor,  # [B, F, 2C, h, w], scaled and beside the reference
        noise_level: Tensor,  # [B, F]
        embedding: Tensor,  # [B, D]
        condition: Tensor,  # [B, F, C0, h, w]
        switcher: Tensor,  # [B, F, 2]
    ) -> Tensor:
        """v [B, F, C, h, w]."""
        ids = sample.new_tensor(self.denoiser.config.added_ids)
        ids = ids.expand(*noise_level.shape, -1)
        out: Tensor = self.denoiser.unet(
            sample, noise_level, embedding[:, None], ids, switcher, condition
        )
        return out


def inputs_of(spec: GraphSpec) -> Arrays:
    """Random inputs above 0, as noise levels must be, so that values stay finite."""
    rng = np.random.default_rng(0)
    return {
        name: rng.uniform(0.5, 1.5, tensor.shape).astype(tensor.dtype)
        for name, tensor in spec.inputs.items()
    }


def tensors_of(arrays: Arrays) -> dict[str, Tensor]:
    """The same for PyTorch."""
    return {name: torch.from_numpy(value) for name, value in arrays.items()}
