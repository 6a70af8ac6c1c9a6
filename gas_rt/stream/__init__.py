"""Streaming: bounded queues, pacing, stages, the session and its report."""

from gas_rt.stream.assembly import DiffusionRun, diffusion_stages
from gas_rt.stream.config import SessionConfig
from gas_rt.stream.frames import FrameStream
from gas_rt.stream.ladder import LadderConfig
from gas_rt.stream.session import Session, SessionStats
from gas_rt.stream.starvation import Starvation
from gas_rt.stream.tracing import Tracer

__all__ = [
    "DiffusionRun",
    "FrameStream",
    "LadderConfig",
    "Session",
    "SessionConfig",
    "SessionStats",
    "Starvation",
    "Tracer",
    "diffusion_stages",
]
