"""gas-rt: one picture of a person in, a live avatar out.

    model = gas_rt.load("gas-mini")
    avatar = model.enroll("photo.png", "fit.npz")
    with model.session(avatar) as session:
        session.push(pose, camera)
        frame = session.poll()

Everything public is named here; it is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gas_rt.avatar import Avatar
    from gas_rt.body import BodyFit, BodyModel, Motion
    from gas_rt.cameras import framing_camera, orbit
    from gas_rt.core import (
        BackendReport,
        Camera,
        Frame,
        FrameTimings,
        Pose,
        Request,
        Window,
    )
    from gas_rt.errors import (
        BackendError,
        BuildCancelledError,
        BundleError,
        FileError,
        GasRtError,
        GasRtWarning,
        InputError,
        PlanError,
        SessionError,
        ShapeError,
    )
    from gas_rt.field.bake import BakeConfig
    from gas_rt.model import Model, load
    from gas_rt.performer import Performer
    from gas_rt.stream import (
        FrameStream,
        LadderConfig,
        Session,
        SessionConfig,
        SessionStats,
        Starvation,
    )
    from gas_rt.stream.recording import Recording
    from gas_rt.stream.replay import Replay
    from gas_rt.stream.report import environment as info
    from gas_rt.stream.tracing import Tracer
    from gas_rt.walks import FollowCamera, root_locked

__version__ = "0.1.0"

__all__ = [
    "Avatar",
    "BackendError",
    "BackendReport",
    "BakeConfig",
    "BodyFit",
    "BodyModel",
    "BuildCancelledError",
    "BundleError",
    "Camera",
    "FileError",
    "FollowCamera",
    "Frame",
    "FrameStream",
    "FrameTimings",
    "GasRtError",
    "GasRtWarning",
    "InputError",
    "LadderConfig",
    "Model",
    "Motion",
    "Performer",
    "PlanError",
    "Pose",
    "Recording",
    "Replay",
    "Request",
    "Session",
    "SessionConfig",
    "SessionError",
    "SessionStats",
    "ShapeError",
    "Starvation",
    "Tracer",
    "Window",
    "__version__",
    "framing_camera",
    "info",
    "load",
    "orbit",
    "root_locked",
]

_HOMES = {
    "gas_rt.avatar": ("Avatar",),
    "gas_rt.body": ("BodyFit", "BodyModel", "Motion"),
    "gas_rt.cameras": ("framing_camera", "orbit"),
    "gas_rt.core": (
        "BackendReport",
        "Camera",
        "Frame",
        "FrameTimings",
        "Pose",
        "Request",
        "Window",
    ),
    "gas_rt.errors": (
        "BackendError",
        "BuildCancelledError",
        "BundleError",
        "FileError",
        "GasRtError",
        "GasRtWarning",
        "InputError",
        "PlanError",
        "SessionError",
        "ShapeError",
    ),
    "gas_rt.field.bake": ("BakeConfig",),
    "gas_rt.model": ("Model", "load"),
    "gas_rt.performer": ("Performer",),
    "gas_rt.stream": (
        "FrameStream",
        "LadderConfig",
        "Session",
        "SessionConfig",
        "SessionStats",
        "Starvation",
    ),
    "gas_rt.stream.recording": ("Recording",),
    "gas_rt.stream.replay": ("Replay",),
    "gas_rt.stream.tracing": ("Tracer",),
    "gas_rt.walks": ("FollowCamera", "root_locked"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name == "info":
        value = importlib.import_module("gas_rt.stream.report").environment
    elif name in _HOME_OF:
        value = getattr(importlib.import_module(_HOME_OF[name]), name)
    else:
        raise AttributeError(f"module 'gas_rt' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
