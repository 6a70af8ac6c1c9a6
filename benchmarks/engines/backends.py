"""Rows of one graph on several backends."""

from __future__ import annotations

from benchmarks.engines.setting import NO_BF16, Setting
from benchmarks.kernels.rows import Limit, Row, Skipped
from gas_rt.engine.availability import cpu_has_bf16

__all__ = ["decoder_bf16", "denoiser_bf16", "denoiser_int8"]

# SVD-type UNets of this size were 1.7 to 2.3 times as fast on two cores.
BF16_GAIN_MIN = 1.8
NO_INT8 = (
    "no int8 bundle; make one with `python -m export precision gas-mini --precision int8 -o DIR` "
    "and give it: --int8 DIR"
)


def denoiser_bf16(setting: Setting) -> Row:
    """The live denoiser in bf16 on OpenVINO, against ONNX Runtime in fp32."""
    return _bf16(setting, "denoiser_bf16", _live(setting), required=BF16_GAIN_MIN)


def decoder_bf16(setting: Setting) -> Row:
    """The decoder, likewise; it has to be faster."""
    return _bf16(setting, "decoder_bf16", "vae_decoder", required=1.0)


def _live(setting: Setting) -> str:
    denoiser = setting.bundle.denoiser
    assert denoiser is not None
    return denoiser.name


def _bf16(setting: Setting, row: str, graph: str, *, required: float) -> Row:
    if not cpu_has_bf16():
        raise Skipped(NO_BF16)
    times = setting.times(graph)
    ours, peer = times["openvino bf16"], times["onnxruntime fp32"]
    return Row(
        name=row,
        against="ONNX Runtime fp32",
        threads=setting.threads,
        speed=[Limit("times faster", peer.p50_ms / ours.p50_ms, required)],
        ours=ours,
        peer=peer,
        details={"graph": graph, "all": {k: v.as_dict() for k, v in times.items()}},
    )


def denoiser_int8(setting: Setting) -> Row:
    """The live denoiser in int8 on OpenVINO, against the faster of the backends in fp32."""
    if setting.int8 is None:
        raise Skipped(NO_INT8)
    graph = _live(setting)
    times = setting.times(graph)
    fp32 = {label: t for label, t in times.items() if label.endswith("fp32")}
    fastest = min(fp32, key=lambda label: fp32[label].p50_ms)
    ours, peer = times["openvino int8"], fp32[fastest]
    return Row(
        name="denoiser_int8",
        against=fastest,
        threads=setting.threads,
        speed=[Limit("times faster", peer.p50_ms / ours.p50_ms, 1.0)],
        ours=ours,
        peer=peer,
        details={"graph": graph, "all": {k: v.as_dict() for k, v in times.items()}},
    )
