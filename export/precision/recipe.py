"""How one kind of graph is made narrow: which layers, and the graphs that follow from that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from export.precision.choose import Choice, choose, culprits
from export.precision.graphs import heavy_nodes
from export.precision.measure import (
    OutputError,
    Session,
    openvino_outputs,
    relative_error,
)
from export.precision.quantised import Scales, calibrated, int8_narrowing, quantised
from export.precision.switched import SWITCH, switched, typed_narrowing
from export.precision.typed import lowered

__all__ = ["BUDGETS", "Recipe", "recipe_for"]

# Root mean square of an output's error over that of the output, worst output, by which layers are
# chosen. Pictures are judged by the streams; these keep the parts well below what shows there.
BUDGETS = {"fp16": 2e-3, "bf16": 2e-2, "int8": 5e-2}
# OpenVINO may round otherwise than is written: by this share of int8's own error, and this much.
APART_SHARE, APART = 0.5, 1e-3
Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Recipe:
    """What was found out on one graph, for it and its siblings, whose layers have its names.

    Attributes
    ----------
    distrusted : layers that were kept wide because OpenVINO does not compute them as written, and
        how far off it is.
    """

    precision: str
    choice: Choice
    scales: Scales
    distrusted: Mapping[str, float] = field(default_factory=dict)

    def apply(self, model: onnx.ModelProto) -> onnx.ModelProto:
        """A widened graph in this precision; the same graph where every layer was kept wide."""
        layers = [name for name in self.choice.narrow if name in heavy_nodes(model)]
        if not layers:
            return model
        if self.precision == "int8":
            return quantised(model, self.scales, layers)
        return lowered(model, layers, self.precision)

    def as_dict(self) -> dict[str, Any]:
        """For bundle.json."""
        choice = self.choice
        return {
            "precision": self.precision,
            "layers": len(choice.narrow) + len(choice.kept) + len(self.distrusted),
            "narrow": len(choice.narrow),
            "error": _short(choice.error),
            "error_of_all": _short(choice.error_of_all),
            "budget": choice.budget,
            "kept": {name: _short(error) for name, error in choice.kept.items()},
            "distrusted": {name: _short(error) for name, error in self.distrusted.items()},
        }


def recipe_for(
    model: onnx.ModelProto,
    precision: str,
    *,
    samples: Sequence[Arrays],
    wanted: Sequence[Arrays],
    calibration: Sequence[Arrays] = (),
    budget: float | None = None,
    threads: int = 2,
) -> Recipe:
    """Choose a widened graph's layers by the error they make on `samples`.

    wanted : PyTorch's outputs of each sample.
    calibration : inputs from which int8 takes its ranges.
    """
    scales: Scales = {}
    distrusted: dict[str, float] = {}
    if precision == "int8":
        scales = calibrated(model, calibration)
        distrusted = _distrusted(model, scales, samples[0], wanted[0], threads=threads)
        layers = [name for name in scales if name not in distrusted]
        narrowing = int8_narrowing(model, scales)
    else:
        outputs = {value.name for value in model.graph.output}
        layers = [n for n, node in heavy_nodes(model).items() if node.output[0] not in outputs]
        narrowing = typed_narrowing(precision)
    if not layers:
        raise ValueError(f"no layer of the graph can compute in {precision}; leave it in fp32")
    session = Session(
        switched(model, layers, narrowing, outputs=precision != "int8"), threads=threads
    )

    def error_of(flags: Sequence[bool]) -> float:
        switch = np.array(flags)
        found = [session.run({**sample, SWITCH: switch}) for sample in samples]
        return _error(found, wanted)

    choice = choose(layers, error_of, budget=BUDGETS[precision] if budget is None else budget)
    return Recipe(precision, choice, scales, distrusted)


def _distrusted(
    model: onnx.ModelProto, scales: Scales, sample: Arrays, wanted: Arrays, *, threads: int
) -> dict[str, float]:
    """Layers for which OpenVINO differs from what is written, and by how much each alone.

    It moves additions past quantisers, also where a convolution pads with zeros afterwards.
    """
    off: dict[str, float] = {}

    def guilty(names: Sequence[str]) -> bool:
        graph = quantised(model, scales, names)
        written = Session(graph, threads=threads).run(sample)
        found = openvino_outputs(graph, sample, threads=threads)
        apart = _error([found], [written])
        off[names[0]] = apart
        return apart > APART_SHARE * _error([written], [wanted]) + APART

    return {name: off[name] for name in culprits(list(scales), guilty)}


def _error(found: Sequence[Arrays], wanted: Sequence[Arrays]) -> float:
    return relative_error(
        {
            name: OutputError.between(
                np.stack([f[name] for f in found]), np.stack([w[name] for w in wanted])
            )
            for name in wanted[0]
        }
    )


def _short(error: float) -> float | None:
    """JSON has no infinity: what is not finite is null."""
    return float(f"{error:.3g}") if np.isfinite(error) else None
