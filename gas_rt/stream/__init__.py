"""Streaming: bounded queues, pacing, stages, the session and its report."""

from gas_rt.stream.frames import FrameStream
from gas_rt.stream.session import Session, SessionConfig, SessionStats

__all__ = ["FrameStream", "Session", "SessionConfig", "SessionStats"]
