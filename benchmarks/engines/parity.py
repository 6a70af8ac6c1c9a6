"""Every graph of stage 2 on every backend and precision that is here, beside PyTorch in fp32."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.engines.setting import NO_BF16, Arrays, Setting
from export.diffusion import diffusion_cases
from export.precision.gates import BARS
from export.precision.measure import OutputError, errors_of
from export.torch_engine import TorchEngine
from gas_rt.engine.availability import cpu_has_bf16

__all__ = ["parity_table"]


def parity_table(
    setting: Setting, samples: Mapping[str, Sequence[Arrays]]
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Rows by graph, backend and output, and what was left out and why.

    samples : by graph, what it is given; of a recorded stream, else the figures mean little.
    """
    cases = diffusion_cases(setting.models(), side_px=setting.bundle.config.resolution)
    torch = TorchEngine(cases)
    rows = []
    for name, given in samples.items():
        wanted = [torch.load(setting.bundle.graph(name)).run(sample) for sample in given]
        for label, (_, _, bundle) in setting.backends.items():
            graph = setting.graph(label, bundle.graph(name))
            for output, error in errors_of(graph, given, wanted).items():
                rows.append(_row(name, label, graph.report.precision, output, error))
    skipped = {} if cpu_has_bf16() else {"openvino bf16": NO_BF16}
    if setting.int8 is None:
        skipped["openvino int8"] = "no int8 bundle was given"
    return rows, skipped


def _row(graph: str, label: str, precision: str, output: str, error: OutputError) -> dict[str, Any]:
    bar = BARS[precision]
    ok = error.finite and error.relative <= bar.relative and error.cosine >= bar.cosine
    return {
        "graph": graph,
        "backend": label,
        "precision": precision,
        "output": output,
        **error.as_dict(),
        "required": bar.relative,
        "ok": bool(ok),
    }
