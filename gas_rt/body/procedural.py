"""Motions made from a seed: walk, run, turn, wave, dance, squat.

All of them stay on the spot (walking as on a treadmill). Feet are placed first and the legs
follow, so planted feet stay planted.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from gas_rt.body.limbs import Choreography, Clock, about, foot_target
from gas_rt.body.motion import MAX_FPS, MAX_FRAMES, Motion
from gas_rt.errors import InputError

__all__ = ["MOTION_NAMES", "procedural_motion"]

F64 = NDArray[np.float64]
Rng = np.random.Generator

SIDES = ("left", "right")


def procedural_motion(
    name: str, frames: int, *, fps: float = 25.0, seed: int = 0, loop: bool = True
) -> Motion:
    """A motion of one of `MOTION_NAMES`; the same arguments give the same motion.

    With `loop` the frame after the last is the first again, for which the tempo gives way: a clip
    shorter than a cycle (about a second, four for "turn") holds a whole one. Without, the tempo
    is kept and the clip starts anywhere in the cycle.
    """
    if name not in _MAKERS:
        raise InputError(f"motion: no {name!r}; choose from {', '.join(MOTION_NAMES)}")
    if not 1 <= frames <= MAX_FRAMES or not 0 < fps <= MAX_FPS:
        raise InputError(
            f"motion: expected 1..{MAX_FRAMES} frames at 0..{MAX_FPS:g} frames/s, "
            f"got {frames} at {fps}"
        )
    rng = np.random.default_rng([seed, MOTION_NAMES.index(name)])
    start_s = 0.0 if loop else rng.uniform(0, 10)
    body = Choreography(frames, clock=Clock(frames, fps, start_s=start_s, loop=loop))
    _MAKERS[name](body, rng)
    return body.motion(fps)


def _smooth(x: F64) -> F64:
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def _stand(body: Choreography, *, out: float = 0.14, yaw: float = 8.0) -> None:
    """Both feet flat on the floor, wherever the pelvis is."""
    still = np.zeros(body.frames)
    for side in SIDES:
        body.leg(side, *foot_target(side, ahead=still, out=out, lift=0, pitch=still, yaw=yaw))


def _breathe(body: Choreography, rng: Rng) -> None:
    phase = body.clock.phase(0.25) + rng.uniform(0, 2 * np.pi)
    body.bend_spine(pitch=1.2 * np.sin(phase))
    body.turn("head", about("y", rng.uniform(2, 6) * np.sin(phase + 1)))


def _walk(body: Choreography, rng: Rng) -> None:
    _gait(
        body,
        body.clock.phase(rng.uniform(0.85, 1.05)),
        stance=0.62,
        stride=rng.uniform(0.52, 0.7),
        lift=rng.uniform(0.07, 0.11),
        drop=0.035,
        bob=0.018,
        lean=rng.uniform(1, 5),
        arm=rng.uniform(18, 32),
        elbow=(rng.uniform(12, 25), 12),
        roll=(16, -34),
        rng=rng,
    )


def _run(body: Choreography, rng: Rng) -> None:
    _gait(
        body,
        body.clock.phase(rng.uniform(1.3, 1.5)),
        stance=0.38,
        stride=rng.uniform(0.6, 0.8),
        lift=rng.uniform(0.26, 0.36),
        drop=0.06,
        bob=0.045,
        lean=rng.uniform(8, 13),
        arm=rng.uniform(35, 48),
        elbow=(rng.uniform(80, 95), 15),
        roll=(4, -48),
        rng=rng,
    )


def _gait(
    body: Choreography,
    phase: F64,
    *,
    stance: float,
    stride: float,
    lift: float,
    drop: float,
    bob: float,
    lean: float,
    arm: float,
    elbow: tuple[float, float],
    roll: tuple[float, float],
    rng: Rng,
) -> None:
    """Alternating steps. stance: share of the cycle a foot is down; metres and degrees."""
    # The body is highest over the planted foot when walking, in flight when running.
    middle = np.pi * stance
    over = np.cos(2 * (phase - middle))
    body.pelvis[:, 1] += -drop + (bob if stance > 0.5 else -bob) * over
    body.pelvis[:, 0] += 0.018 * np.cos(phase - middle)
    twist = rng.uniform(4, 7) * np.cos(phase)
    body.turn("pelvis", about("y", -twist), about("z", 2.5 * np.cos(phase - middle)))
    body.bend_spine(pitch=lean, yaw=2.2 * twist, roll=-2.5 * np.cos(phase - middle))
    body.turn("neck", about("y", -1.2 * twist), about("x", -0.6 * lean))
    out = rng.uniform(0.09, 0.11)
    for side, offset in (("left", 0.0), ("right", np.pi)):
        share = ((phase + offset) / (2 * np.pi)) % 1
        _step(body, side, share, stance, stride, lift, roll, out)
        # An arm goes with the other side's leg.
        swing = np.cos(phase + offset + np.pi - 0.25)
        body.arm(
            side,
            down=rng.uniform(72, 76),
            swing=arm * swing + 4,
            elbow=elbow[0] + elbow[1] * (1 + swing),
            twist=-10,
        )


def _step(
    body: Choreography,
    side: str,
    share: F64,
    stance: float,
    stride: float,
    lift: float,
    roll: tuple[float, float],
    out: float,
) -> None:
    """One foot through its cycle: share 0 is touchdown, `stance` is toe-off."""
    down = share < stance
    u = np.where(down, share / stance, 0)
    v = np.where(down, 0, (share - stance) / (1 - stance))
    # The swing leaves and meets the floor at the floor's speed, so the foot doesn't skid.
    slope = -(1 - stance) / stance
    hermite = (
        (2 * v**3 - 3 * v**2 + 1) * -0.5
        + (v**3 - 2 * v**2 + v) * slope
        + (-2 * v**3 + 3 * v**2) * 0.5
        + (v**3 - v**2) * slope
    )
    ahead = stride * np.where(down, 0.5 - u, hermite)
    heel, toe = roll
    pitch_down = heel * (1 - _smooth(u / 0.18)) + toe * _smooth((u - 0.62) / 0.38)
    pitch_up = toe * (1 - _smooth(v / 0.7)) + heel * _smooth((v - 0.45) / 0.55)
    height = lift * np.sin(np.pi * v) ** 2 * (1 - 0.35 * v)
    body.leg(
        side,
        *foot_target(
            side,
            ahead=ahead,
            out=out,
            lift=height,
            pitch=np.where(down, pitch_down, pitch_up),
            yaw=7,
        ),
    )


def _turn(body: Choreography, rng: Rng) -> None:
    """Once around on the spot in four seconds or so, in small steps."""
    frames = body.frames
    steps = int(rng.integers(4, 6))
    direction = 1.0 if rng.random() < 0.5 else -1.0
    around = body.clock.phase(rng.uniform(0.22, 0.28))
    # A step per share of the way around: planted feet then turn under the body and no further.
    phase = around * steps
    heading = direction * np.rad2deg(around)
    stance = 0.65
    body.pelvis[:, 1] += -0.03 + 0.008 * np.cos(2 * phase)
    body.turn("pelvis", about("y", heading))
    body.bend_spine(pitch=rng.uniform(0, 4), yaw=direction * rng.uniform(3, 7))
    body.turn("neck", about("y", direction * 9))
    per_step = 360 / steps * stance
    height, swing_arm = rng.uniform(0.04, 0.07), rng.uniform(5, 11)
    for side, offset in (("left", 0.0), ("right", np.pi)):
        share = ((phase + offset) / (2 * np.pi)) % 1
        u = np.clip(share / stance, 0, 1)
        v = np.clip((share - stance) / (1 - stance), 0, 1)
        slope = -(1 - stance) / stance
        back = (v**3 - 2 * v**2 + v) * slope + (v**3 - v**2) * slope + (3 * v**2 - 2 * v**3) - 0.5
        relative = direction * per_step * np.where(share < stance, 0.5 - u, back)
        still = np.zeros(frames)
        lift = height * np.sin(np.pi * v) ** 2
        ankle, foot = foot_target(side, ahead=still, out=0.12, lift=lift, pitch=still, yaw=8)
        turned = about("y", heading + relative)
        body.leg(side, (turned @ ankle[..., None])[..., 0], turned @ foot)
        swing = swing_arm * np.cos(phase + offset + np.pi)
        body.arm(side, down=72, swing=swing + 3, elbow=18 + 0.3 * swing, twist=-10)


def _wave(body: Choreography, rng: Rng) -> None:
    side = SIDES[int(rng.integers(2))]
    other = SIDES[1 - SIDES.index(side)]
    s = 1.0 if side == "left" else -1.0
    sway = body.clock.phase(0.3)
    wave = body.clock.phase(rng.uniform(1.4, 2.0))
    body.pelvis[:, 0] += 0.02 * np.sin(sway) - 0.015 * s
    body.pelvis[:, 1] += -0.012
    body.turn("pelvis", about("z", 1.5 * np.sin(sway)))
    body.bend_spine(roll=-3 * s - 1.5 * np.sin(sway), yaw=3 * np.sin(sway))
    body.turn("head", about("z", 5 * s + 2 * np.sin(sway)), about("y", 5 * s))
    swing = rng.uniform(18, 26) * np.sin(wave)
    body.arm(
        side,
        down=rng.uniform(-8, 8),
        forward=rng.uniform(15, 25),
        twist=-85,
        elbow=88 + swing,
    )
    body.turn(side + "_wrist", about("y", -s * 0.4 * swing))
    body.arm(other, down=73, swing=3 + 2 * np.sin(sway), elbow=14, twist=-8)
    _breathe(body, rng)
    _stand(body)


def _dance(body: Choreography, rng: Rng) -> None:
    """Step and touch from side to side, arms from a few seeded waves."""
    beat = body.clock.phase(rng.uniform(0.8, 1.0))
    side_step = rng.uniform(0.1, 0.16)
    body.pelvis[:, 0] += side_step * np.sin(beat)
    body.pelvis[:, 1] += -0.055 + 0.022 * np.cos(2 * beat)
    hips = rng.uniform(6, 11)
    body.turn(
        "pelvis",
        about("y", rng.uniform(6, 14) * np.sin(beat)),
        about("z", -hips * np.sin(beat)),
    )
    body.bend_spine(
        pitch=5 + 4 * np.cos(2 * beat),
        yaw=rng.uniform(-25, -12) * np.sin(beat),
        roll=1.3 * hips * np.sin(beat),
    )
    body.turn("head", about("x", 6 * np.cos(2 * beat)), about("z", 6 * np.sin(beat)))
    raised, reach = rng.uniform(10, 55), rng.uniform(15, 40)
    late = rng.uniform(0, np.pi)
    for side, offset in (("left", 0.0), ("right", np.pi)):
        own = beat + offset
        body.arm(
            side,
            down=raised + 28 * np.sin(own + late),
            forward=reach + 20 * np.cos(own),
            twist=-40 + 25 * np.sin(own),
            elbow=75 + 35 * np.cos(own + late),
        )
        # The foot the weight leaves comes up and touches beside the other.
        free = _smooth((-np.sin(own) - 0.15) / 0.7)
        body.leg(
            side,
            *foot_target(
                side,
                ahead=0.03 * free,
                out=0.17 - 0.05 * free,
                lift=0.035 * free,
                pitch=-26 * free,
                yaw=12,
            ),
        )


def _squat(body: Choreography, rng: Rng) -> None:
    phase = body.clock.phase(rng.uniform(0.35, 0.5))
    down = _smooth((1 - np.cos(phase)) / 2)
    depth = rng.uniform(0.36, 0.46)
    body.pelvis[:, 1] += -0.012 - depth * down
    body.pelvis[:, 2] += -0.4 * depth * down
    lean = rng.uniform(26, 36) * down
    body.turn("pelvis", about("x", lean))
    body.bend_spine(pitch=0.35 * lean)
    body.turn("neck", about("x", -0.5 * lean))
    body.turn("head", about("x", -0.4 * lean))
    for side in SIDES:
        body.arm(side, down=74 - 66 * down, forward=74 * down, elbow=10 + 10 * down, twist=-8)
    _stand(body, out=rng.uniform(0.17, 0.21), yaw=18)


_MAKERS: dict[str, Callable[[Choreography, Rng], None]] = {
    "walk": _walk,
    "run": _run,
    "turn": _turn,
    "wave": _wave,
    "dance": _dance,
    "squat": _squat,
}
MOTION_NAMES = tuple(_MAKERS)
