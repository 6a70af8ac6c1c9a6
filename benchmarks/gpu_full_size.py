"""Times the full-size stage 2 on an NVIDIA GPU, with random weights.

    python -m benchmarks.gpu_full_size --json > benchmarks/results/gpu_full_size.json
    python -m benchmarks.gpu_full_size --bundle gas-full --json     # ONNX Runtime CUDA too

Every graph of the release's geometry (512×512, 20 frames, UNet and decoder in fp16) in PyTorch,
eager and as a CUDA graph; with ``--bundle``, the folder that `python -m export convert-gas` wrote,
also its ONNX files in ONNX Runtime's CUDA provider, where that is installed. A row is a graph: the
median and 95th percentile in ms, the memory it peaked at. `clips` says what follows from them:
frames per second of a 20-frame clip by number of steps, guided and not, everything included that
runs per clip. None of it is a claim about pictures: weights are noise.

``--cpu-half`` runs the same code on a tiny geometry on the CPU, where nothing is captured; a bundle
given with it runs in ONNX Runtime's CPU provider. Exit status 3 if a graph makes NaN, or a provider
fell back to another. The half that needs a GPU has not been run yet.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

import gas_rt
from benchmarks.full_size_parts import configs, fill
from export.onnx_files import Case
from export.release import Models, models_of
from export.release_graphs import Geometry, in_precision, release_cases

TINY = Geometry(side_px=64, frames=3, overlap=1, decoder_frames=3, decoder_overlap=1, steps=2)
STEPS = (1, 2, 4, 8, 25)
PER_FRAME = ("conditioner",)
WARM_UP = 3

Run = Callable[[], Mapping[str, Any]]


def main(argv: list[str] | None = None) -> int:
    """Run and print; 0 if all is well, else 3."""
    args = _parser().parse_args(argv)
    device = "cpu" if args.cpu_half else "cuda"
    if device == "cuda" and not torch.cuda.is_available():
        sys.exit("no CUDA device is visible to PyTorch; --cpu-half runs what needs none")
    geometry = TINY if args.cpu_half else Geometry()
    rows = list(torch_rows(geometry, device=device, small=args.cpu_half, repeats=args.repeats))
    if args.bundle is not None:
        rows += onnx_rows(args.bundle, device=device, repeats=args.repeats)
    document = {
        "schema_version": 1,
        "command": ["python", "-m", "benchmarks.gpu_full_size", *(argv or sys.argv[1:])],
        "environment": {**gas_rt.info(), "torch": torch.__version__, "device": _described(device)},
        "geometry": vars(geometry),
        "rows": rows,
        "clips": clips(rows, geometry),
    }
    print(json.dumps(document, indent=2) if args.json else _as_text(document))
    return 0 if all(row["ok"] for row in rows) else 3


# ---- PyTorch ------------------------------------------------------------------------------------


def torch_rows(
    geometry: Geometry, *, device: str, small: bool, repeats: int
) -> Iterator[dict[str, Any]]:
    """Every graph's row, eager and, on a GPU, captured."""
    # fp16 arithmetic on a CPU is emulated and far slower; the code is the same.
    models = in_precision(random_models(small=small), "fp32" if device == "cpu" else "fp16")
    materialise(models, device)
    for name, case in release_cases(models, geometry).items():
        module = case.module.to(device)
        inputs = {key: value.to(device) for key, value in case.inputs.items()}
        run = _in_torch(module, Case(module, inputs, case.outputs))
        with torch.inference_mode(), captureable():
            yield _row(name, "torch", run, device=device, repeats=repeats)
            if device == "cuda":
                yield _row(
                    name, "torch", captured(run), device=device, repeats=repeats, cuda_graph=True
                )
                torch.cuda.empty_cache()


def random_models(*, small: bool) -> Models:
    """The release's modules, on the meta device."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        for name, values in configs(small=small).items():
            (Path(folder) / name).mkdir()
            (Path(folder) / name / "config.json").write_text(json.dumps(values))
        return models_of(Path(folder))


def materialise(models: Models, device: str) -> None:
    """Random weights, made where they are used."""
    for module in models.modules.values():
        held = [
            (kind, leaf, value, f"{place}.{leaf}")
            for place, part in module.named_modules()
            for kind in (part._parameters, part._buffers)
            for leaf, value in kind.items()
            if value is not None
        ]
        for kind, leaf, value, name in held:
            if not value.is_meta:
                kind[leaf] = value.to(device)
                continue
            made = fill(torch.empty(value.shape), name).to(device, value.dtype)
            kind[leaf] = nn.Parameter(made, requires_grad=False)


def _in_torch(module: nn.Module, case: Case) -> Run:
    def run() -> Mapping[str, Tensor]:
        found = module(*case.inputs.values())
        return dict(zip(case.outputs, found if isinstance(found, tuple) else (found,), strict=True))

    return run


@contextmanager
def captureable() -> Iterator[None]:
    """While a stream is captured nothing can be copied from the host.

    The time ids are: they are a list in the configuration. Filled in on the device they are the
    same numbers.
    """

    def new_tensor(self: Tensor, values: Any) -> Tensor:
        return torch.stack([self.new_full((), float(value)) for value in values])

    with mock.patch.object(Tensor, "new_tensor", new_tensor):
        yield


def captured(run: Run) -> Run:
    """The same as a CUDA graph: one launch, and results in the same memory each time."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = run()

    def replay() -> Mapping[str, Tensor]:
        graph.replay()
        return found

    return replay


# ---- ONNX Runtime -------------------------------------------------------------------------------


def onnx_rows(bundle: Path, *, device: str, repeats: int) -> list[dict[str, Any]]:
    """The rows of a bundle's graphs of stage 2."""
    import onnxruntime

    provider = "CUDAExecutionProvider" if device == "cuda" else "CPUExecutionProvider"
    if provider not in onnxruntime.get_available_providers():
        return [{"name": "onnxruntime", "ok": True, "skipped": f"has no {provider} here"}]
    opened = gas_rt.engine.open_bundle(bundle)
    rows = []
    for name, spec in opened.graphs.items():
        if name.startswith("nerf_"):
            continue
        for cuda_graph in (False, True) if device == "cuda" else (False,):
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 3  # the CPU provider warns of every fp16 operator
            session = onnxruntime.InferenceSession(
                spec.path, options, providers=[(provider, _provider_options(device, cuda_graph))]
            )
            if session.get_providers()[0] != provider:
                rows.append({"name": name, "ok": False, "problem": session.get_providers()})
                continue
            run = _in_onnxruntime(session, spec, device)
            row = _row(name, "onnxruntime", run, device=device, repeats=repeats)
            rows.append(row | {"cuda_graph": cuda_graph})
            del session, run
    return rows


def _provider_options(device: str, cuda_graph: bool) -> dict[str, str]:
    return {"enable_cuda_graph": str(int(cuda_graph))} if device == "cuda" else {}


def _in_onnxruntime(session: Any, spec: Any, device: str) -> Run:
    """Inputs and outputs bound once, on the device: nothing is copied in a run."""
    import onnxruntime

    rng = np.random.default_rng(0)
    binding = session.io_binding()
    held = {}
    for name, tensor in spec.inputs.items():
        value = rng.random(tensor.shape, np.float32).astype(tensor.dtype)
        held[name] = onnxruntime.OrtValue.ortvalue_from_numpy(value, device, 0)
        binding.bind_ortvalue_input(name, held[name])
    for name, tensor in spec.outputs.items():
        shape, dtype = tensor.shape, np.dtype(tensor.dtype)
        held[name] = onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, dtype, device, 0)
        binding.bind_ortvalue_output(name, held[name])

    def run() -> Mapping[str, Any]:
        session.run_with_iobinding(binding)
        return {name: held[name] for name in spec.outputs}

    return run


# ---- timing -------------------------------------------------------------------------------------


def _row(
    name: str, backend: str, run: Run, *, device: str, repeats: int, cuda_graph: bool = False
) -> dict[str, Any]:
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    for _ in range(WARM_UP):
        found = run()
    finite = all(np.isfinite(_numpy(value)).all() for value in found.values())
    times = _times_ms(run, device=device, repeats=repeats)
    row = {
        "name": name,
        "backend": backend,
        "cuda_graph": cuda_graph,
        "ours": round(float(np.median(times)), 4),
        "p95": round(float(np.percentile(times, 95)), 4),
        "unit": "ms",
        "ok": finite,
    }
    if not finite:
        row["problem"] = "NaN or infinity"
    if device == "cuda":
        free, total = torch.cuda.mem_get_info()
        # What ONNX Runtime takes PyTorch doesn't count; the device counts both.
        row["torch_peak_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
        row["device_used_gib"] = round((total - free) / 2**30, 2)
    return row


def _times_ms(run: Run, *, device: str, repeats: int) -> list[float]:
    times = []
    for _ in range(repeats):
        if device == "cuda":
            torch.cuda.synchronize()
        started = time.perf_counter_ns()
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append((time.perf_counter_ns() - started) / 1e6)
    return times


def _numpy(value: Any) -> Any:
    return value.float().cpu().numpy() if isinstance(value, Tensor) else value.numpy()


def clips(rows: list[dict[str, Any]], geometry: Geometry) -> list[dict[str, Any]]:
    """Frames per second of one window's clip, by backend and steps, from the graphs' times."""
    found = []
    timed = [row for row in rows if "ours" in row]
    kinds = sorted({(row["backend"], row["cuda_graph"]) for row in timed})
    for backend, cuda_graph in kinds:
        ms = {
            row["name"]: row["ours"]
            for row in timed
            if (row["backend"], row["cuda_graph"]) == (backend, cuda_graph)
        }
        frames = geometry.frames
        if f"denoiser_{frames}" not in ms:  # a bundle of another geometry
            continue
        once = sum(ms[name] * frames for name in PER_FRAME)
        once += ms["vae_decoder"] * -(-frames // geometry.decoder_frames)
        for graph, guided in ((f"denoiser_{frames}", True), (f"denoiser_nocfg_{frames}", False)):
            for steps in STEPS:
                clip_ms = once + steps * ms[graph]
                found.append(
                    {
                        "backend": backend,
                        "cuda_graph": cuda_graph,
                        "guided": guided,
                        "steps": steps,
                        "clip_ms": round(clip_ms, 2),
                        "fps": round(frames / clip_ms * 1e3, 3),
                    }
                )
    return found


def _described(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else "cpu"


def _as_text(document: dict[str, Any]) -> str:
    lines = [
        f"{row['name']:20} {row.get('backend', ''):12} graph {row.get('cuda_graph', '-')!s:6}"
        + (f"{row['ours']:10.3f} ms" if "ours" in row else f" {row.get('skipped', 'FAILED')}")
        for row in document["rows"]
    ]
    lines += [
        f"{clip['backend']:12} graph {clip['cuda_graph']!s:6} guided {clip['guided']!s:6}"
        f"{clip['steps']:3} steps {clip['fps']:9.3f} fps"
        for clip in document["clips"]
    ]
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_full_size")
    parser.add_argument("--bundle", type=Path, help="converted bundle, for ONNX Runtime")
    parser.add_argument("--cpu-half", action="store_true", help="tiny, without a GPU")
    parser.add_argument("--repeats", type=int, default=20, help="timed runs of each graph")
    parser.add_argument("--json", action="store_true")
    return parser


if __name__ == "__main__":
    sys.exit(main())
