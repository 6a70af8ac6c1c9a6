"""PyTorch behind the runtime's Engine protocol: the modules that a bundle was exported from.

The reference that every other backend is compared with. It is no part of the runtime, which never
imports torch; whoever wants a stream of it gives the engine to a `gas_rt.model.Model`:

    engine = TorchEngine.from_checkpoints(stage1, autoencoder, unet, body=bundle.path(bundle.body))
    model = Model(ModelParts(bundle, engine, threads=2))
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from export.bundle import open_stage2
from export.diffusion import diffusion_cases, rounded_to_half
from export.nerf import FIELD_POINTS, nerf_cases
from export.onnx_files import Case
from gas_rt.body import BodyModel
from gas_rt.core import BackendReport
from gas_rt.engine import GraphSpec
from gas_rt.engine.protocol import checked_inputs
from gas_rt.errors import BackendError
from reference.nerf.checkpoint import mesh_of
from reference.nerf.checkpoint import open_checkpoint as open_stage1

__all__ = ["TorchEngine", "TorchGraph"]


class TorchGraph:
    """One module of the export's, in eager PyTorch."""

    def __init__(self, spec: GraphSpec, case: Case, report: BackendReport) -> None:
        self.spec = spec
        self.report = report
        self._module = case.module.eval()
        self._order = list(case.inputs)
        self._outputs = case.outputs
        self._device = torch.device(report.device)

    @torch.inference_mode()
    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run once; outputs are the caller's own."""
        given = checked_inputs(self.spec, inputs)
        tensors = [torch.from_numpy(given[name]).to(self._device) for name in self._order]
        found = self._module(*tensors)
        found = (found,) if isinstance(found, torch.Tensor) else found
        named = dict(zip(self._outputs, found, strict=True))
        # A module may return a view of its input, which is the caller's.
        return {name: named[name].cpu().numpy().copy() for name in self.spec.outputs}


class TorchEngine:
    """Runs the cases of an export, in fp32 unless their modules are of another type.

    Parameters
    ----------
    cases : by graph, the module that it was traced from.
    device : where they run, of torch's.
    """

    def __init__(self, cases: Mapping[str, Case], *, device: str = "cpu") -> None:
        self._cases = dict(cases)
        self._device = device
        for case in self._cases.values():
            case.module.to(device)
        self.report = BackendReport("torch", "torch", device, "fp32")

    @classmethod
    def from_checkpoints(
        cls,
        stage1: Path,
        autoencoder: Path,
        unet: Path,
        *,
        body: Path,
        points: int = FIELD_POINTS,
        device: str = "cpu",
    ) -> TorchEngine:
        """Of training checkpoints, with weights rounded as a bundle stores them.

        `points` are those of one nerf_field call.
        """
        nerf, _ = open_stage1(stage1, mesh_of(BodyModel.open(body)))
        stage2 = rounded_to_half(open_stage2(autoencoder=autoencoder, unet=unet))
        cases = nerf_cases(nerf, points=points)
        cases |= diffusion_cases(stage2, side_px=nerf.config.resolution)
        return cls(cases, device=device)

    def load(self, spec: GraphSpec) -> TorchGraph:
        """A graph's module; BackendError if it is not what the bundle describes."""
        if spec.name not in self._cases:
            raise BackendError(
                f"graph {spec.name}: these checkpoints have none of that name, they have "
                f"{sorted(self._cases)}"
            )
        case = self._cases[spec.name]
        made = {name: tuple(value.shape) for name, value in case.inputs.items()}
        said = {name: tensor.shape for name, tensor in spec.inputs.items()}
        if made != said or set(case.outputs) != set(spec.outputs):
            raise BackendError(
                f"graph {spec.name}: the bundle's takes {said} and makes {sorted(spec.outputs)}, "
                f"the checkpoints' takes {made} and makes {sorted(case.outputs)}; give those that "
                "it was exported from"
            )
        return TorchGraph(spec, case, self.report)

    def close(self) -> None:
        """Let go of the modules."""
        self._cases.clear()
