"""Noise levels, guidance and window policies: pure functions and state machines."""

from gas_rt.diffusion.diagonal import DiagonalPolicy
from gas_rt.diffusion.guidance import (
    BEHIND_GUIDANCE,
    POSE_GUIDANCE,
    azimuth_between,
    guidance_of,
    switcher,
)
from gas_rt.diffusion.noise import ANCHOR_INDEX, NOISE_GENERATOR, SEED_MAX, frame_noise
from gas_rt.diffusion.opening import POLICIES, last_sigma, open_policy
from gas_rt.diffusion.parity import ParityPolicy, fusion_weights, tiles
from gas_rt.diffusion.policy import WindowPolicy
from gas_rt.diffusion.sequential import SequentialPolicy
from gas_rt.diffusion.sigmas import (
    SIGMA_MAX,
    SIGMA_MIN,
    Coefficients,
    coefficients,
    denoised,
    euler_step,
    explicit_sigmas,
    initial_std,
    karras_sigmas,
)
from gas_rt.diffusion.windows import (
    RELEASE_WINDOW,
    Anchor,
    Call,
    FinalFrame,
    FrameSpec,
    Role,
    Schedule,
)

__all__ = [
    "ANCHOR_INDEX",
    "BEHIND_GUIDANCE",
    "NOISE_GENERATOR",
    "POLICIES",
    "POSE_GUIDANCE",
    "RELEASE_WINDOW",
    "SEED_MAX",
    "SIGMA_MAX",
    "SIGMA_MIN",
    "Anchor",
    "Call",
    "Coefficients",
    "DiagonalPolicy",
    "FinalFrame",
    "FrameSpec",
    "ParityPolicy",
    "Role",
    "Schedule",
    "SequentialPolicy",
    "WindowPolicy",
    "azimuth_between",
    "coefficients",
    "denoised",
    "euler_step",
    "explicit_sigmas",
    "frame_noise",
    "fusion_weights",
    "guidance_of",
    "initial_std",
    "karras_sigmas",
    "last_sigma",
    "open_policy",
    "switcher",
    "tiles",
]
