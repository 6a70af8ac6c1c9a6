"""Streams of a bundle's graphs on given conditions, without a person and without a session.

What a graph is given in them is real conditioning: what precision is chosen and judged by.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gas_rt.core import Task
from gas_rt.diffusion import (
    ANCHOR_INDEX,
    POSE_GUIDANCE,
    Anchor,
    FinalFrame,
    FrameSpec,
    Schedule,
    WindowPolicy,
    frame_noise,
    open_policy,
)
from gas_rt.engine import Bundle, Engine, Graph, GraphSpec
from gas_rt.engine.diffusion import DiffusionConfig
from gas_rt.errors import BundleError

__all__ = [
    "NOISE_SEED",
    "Conditions",
    "bundle_pictures",
    "diffusion_of",
    "recorded",
    "unit_range",
]

NOISE_SEED = 0
F32 = NDArray[np.float32]
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Conditions:
    """What a stream is given. Pictures are [..., 3, S, S] in [0, 1].

    Attributes
    ----------
    photo : [3, S, S], masked.
    renders, normals : [N, 3, S, S], the field's, and of the fitted body.
    guidance : [N].
    truth, mask : [N, 3, S, S] and [N, S, S], the frames as they should be.
    """

    task: Task
    photo: F32
    renders: F32
    normals: F32
    guidance: F32
    truth: F32
    mask: NDArray[np.bool_]

    def noise(self, shape: tuple[int, ...]) -> F32:
        """[N, C, h, w], the runtime's for these frames."""
        return np.stack([frame_noise(NOISE_SEED, i, shape=shape) for i in range(len(self.renders))])


def diffusion_of(bundle: Bundle) -> DiffusionConfig:
    """Stage 2 of a bundle; BundleError if it has no `parity`."""
    config = bundle.config.diffusion
    if config is None or "parity" not in config.policies:
        raise BundleError(f"bundle {bundle.label}: has no `parity`; export it with stage 2")
    return config


def bundle_pictures(
    bundle: Bundle, conditions: Conditions, *, schedule: Schedule, engine: Engine
) -> F32:
    """[N, 3, S, S] in [0, 1]: the bundle's graphs under `parity`; the engine stays open."""
    return _Run(bundle, conditions, engine).pictures("parity", schedule)


def recorded(bundle: Bundle, conditions: Conditions, *, engine: Engine) -> dict[str, list[Arrays]]:
    """By graph of stage 2, what every policy's stream gave it, in order.

    A profile's graph with guidance, where these conditions have none, gets what its twin was
    given, and scales from 1, none, to the paper's; a graph without, where they have some, the same
    less the scales.
    """
    config = diffusion_of(bundle)
    tape = _Tape(engine)
    for name in sorted(config.policies):
        schedule = config.schedule(name, steps=config.usual_steps(name))
        _Run(bundle, conditions, tape).pictures(name, schedule)
    samples = tape.samples
    for profile in (policy.profile for policy in config.policies.values()):
        guided, plain = profile.guided, profile.unguided
        if guided in bundle.graphs and guided not in samples:
            rng = np.random.default_rng(0)
            scales = rng.uniform(1, POSE_GUIDANCE, (len(samples[plain]), profile.frames)).astype(
                np.float32
            )
            samples[guided] = [
                {**given, "guidance": scale}
                for given, scale in zip(samples[plain], scales, strict=True)
            ]
        elif plain in bundle.graphs and plain not in samples:
            samples[plain] = [
                {name: value for name, value in given.items() if name != "guidance"}
                for given in samples[guided]
            ]
    return samples


class _Run:
    """One stream: conditions once per frame, calls as a policy asks for them, pictures."""

    def __init__(self, bundle: Bundle, conditions: Conditions, engine: Engine) -> None:
        self.bundle, self.given, self.engine = bundle, conditions, engine
        self.config = diffusion_of(bundle)
        photo = conditions.photo[None] * 2 - 1
        self.shared = {
            "reference": self._graph("vae_encoder").run({"picture": photo})["latents"],
            "embedding": self._graph("image_encoder").run({"picture": photo})["embedding"],
        }
        conditioner = self._graph("conditioner")
        self.frames = [
            conditioner.run({"render": render[None] * 2 - 1, "normals": normals[None]})
            for render, normals in zip(conditions.renders, conditions.normals, strict=True)
        ]

    def _graph(self, name: str) -> Graph:
        return self.engine.load(self.bundle.graph(name))

    def pictures(self, name: str, schedule: Schedule) -> F32:
        finals = list(self._finals(name, schedule))
        decoder = self._graph("vae_decoder")
        if self.config.decoder_frames > 1:
            raise BundleError(
                f"bundle {self.bundle.label}: its decoder takes {self.config.decoder_frames} "
                "frames at once, and streams of this kind decode single ones"
            )
        found = []
        for final in finals:
            index = final.frame.index
            inputs = {"latents": final.latent[None]}
            if self.config.residual_std is not None:
                inputs["base"] = self.frames[index]["base"]
                inputs["render"] = self.given.renders[index][None] * 2 - 1
            found.append(decoder.run(inputs)["picture"][0])
        return unit_range(np.stack(found))

    def _finals(self, name: str, schedule: Schedule) -> Iterator[FinalFrame]:
        policy = self._policy(name, schedule)
        for index, scale in enumerate(self.given.guidance):
            policy.admit(FrameSpec(index, index, self.given.task, NOISE_SEED, float(scale)))
        policy.end()
        profile = self.config.policies[name].profile
        guided = bool((self.given.guidance != 1).any())
        denoiser = self._graph(profile.guided if guided else profile.unguided)
        last = len(self.frames) - 1
        while (call := policy.next_call()) is not None:
            # The anchor is shown as the first frame is; ghosts hold the last one.
            at = [min(max(int(index), 0), last) for index in call.indices]
            inputs = {
                "x": call.x,
                "sigma": call.sigma,
                "sigma_next": call.sigma_next,
                "condition": np.concatenate([self.frames[k]["condition"] for k in at]),
                "switcher": call.switcher,
                **self.shared,
            }
            if guided or profile.distilled:
                inputs["guidance"] = call.guidance
            out = denoiser.run(inputs)
            yield from policy.complete(call, out["x_next"], out["x0"])

    def _policy(self, name: str, schedule: Schedule) -> WindowPolicy:
        config = self.config
        anchor = None
        if name != "parity" and schedule.window.anchor:
            frame = FrameSpec(ANCHOR_INDEX, ANCHOR_INDEX, self.given.task, NOISE_SEED, 1.0)
            latent = self.shared["reference"][0] * np.float32(config.latent_scale)
            if config.residual_std is not None:
                base = self.frames[0]["base"][0] * np.float32(config.latent_scale)
                latent = (latent - base) / np.float32(config.residual_std)
            anchor = Anchor(frame, latent)
        return open_policy(
            name,
            schedule,
            latent_shape=config.latent_shape,
            anchor=anchor,
            context_gain=config.context_gain,
        )


class _Tape:
    """An engine whose graphs keep what they are given."""

    def __init__(self, engine: Engine) -> None:
        self.report = engine.report
        self.samples: dict[str, list[Arrays]] = {}
        self._engine = engine
        self._loaded: dict[str, Graph] = {}

    def load(self, spec: GraphSpec) -> Graph:
        if spec.name not in self._loaded:
            self._loaded[spec.name] = self._engine.load(spec)
        return _TapedGraph(self._loaded[spec.name], self.samples.setdefault(spec.name, []))

    def close(self) -> None:
        """The engine is its opener's."""


class _TapedGraph:
    def __init__(self, graph: Graph, kept: list[Arrays]) -> None:
        self.spec, self.report = graph.spec, graph.report
        self._graph, self._kept = graph, kept

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        self._kept.append({name: np.array(value) for name, value in inputs.items()})
        return self._graph.run(inputs)


def unit_range(pictures: F32) -> F32:
    """[-1, 1] → [0, 1], clamped."""
    return np.clip((pictures + 1) / 2, 0, 1)
