"""What a bundle says of stage 2: latents, windows, noise levels, guidance, and its graphs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from gas_rt.core import Window
from gas_rt.diffusion import POLICIES, Schedule, last_sigma
from gas_rt.engine.json_reader import JsonReader
from gas_rt.engine.protocol import GraphSpec
from gas_rt.engine.rungs import derived_rungs, flight_of, read_rungs
from gas_rt.errors import BundleError, InputError

__all__ = [
    "DiffusionConfig",
    "DiffusionPolicy",
    "Guidance",
    "Profile",
    "check_diffusion_graphs",
    "read_diffusion",
]

FRAMES_MAX = 256  # of one window
STEPS_MAX = 1000
GUIDANCE_MAX = 100.0

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Guidance:
    """Scales of classifier-free guidance; 1 is none.

    Attributes
    ----------
    pose : of every pose frame.
    view_behind : of a view from behind; it falls to 1 where the reference shows the person.
    """

    pose: float
    view_behind: float

    @property
    def used(self) -> bool:
        """Whether any frame is guided."""
        return self.pose != 1 or self.view_behind != 1


@dataclass(frozen=True)
class Profile:
    """A static window: how many frames its two graphs take, and how they are laid out.

    Attributes
    ----------
    frames : slots of a call.
    anchor, context : of them, for the anchor and for clean neighbours (in `parity`, the frames
        that windows share).
    chunk : frames admitted together (in `parity`, by which the next window starts later).
    guided, unguided : names of the graphs with and without the second branch; one name where
        guidance is distilled into a graph without one, which then takes it as an input.
    """

    frames: int
    anchor: int
    context: int
    chunk: int
    guided: str
    unguided: str

    @property
    def distilled(self) -> bool:
        """Whether one graph serves guided frames and others, told of the guidance."""
        return self.guided == self.unguided


@dataclass(frozen=True)
class DiffusionPolicy:
    """A window policy the bundle was trained for; its schedules by their number of steps.

    `rungs` are what a late session falls back to: layouts of the same graph with fewer steps than
    `schedules` has, listed by the bundle or derived from its levels.
    """

    profile: Profile
    schedules: Mapping[int, Schedule]
    rungs: Mapping[int, Schedule] = field(default_factory=dict)


@dataclass(frozen=True)
class DiffusionConfig:
    """Stage 2 of a bundle.

    Attributes
    ----------
    latent_shape : (C, h, w).
    embedding_channels, condition_channels : D of the picture's token, C0 of a frame's condition.
    residual_std : None where latents are generated as they are. Else what is generated is what
        they have beyond the field render's, divided by this, and the decoder adds it to the render.
    latent_scale : latents are multiplied by this before either.
    context_gain : what a stream's finished latents are multiplied by where they become context.
    decoder_frames, decoder_overlap : frames of one call of the decoder, 1 if it has no layers
        along time, and how many neighbouring calls share.
    profiles, policies : by name.
    default_policy, default_steps : what a session uses that names neither.
    """

    latent_shape: tuple[int, int, int]
    embedding_channels: int
    condition_channels: int
    residual_std: float | None
    latent_scale: float
    profiles: Mapping[str, Profile]
    policies: Mapping[str, DiffusionPolicy]
    default_policy: str
    default_steps: int
    guidance: Guidance
    context_gain: float = 1.0
    decoder_frames: int = 1
    decoder_overlap: int = 0

    def steps(self, policy: str) -> tuple[int, ...]:
        """The numbers of steps `policy` can take, fewest first, its rungs among them."""
        found = self._policy(policy)
        return tuple(sorted({*found.schedules, *found.rungs}))

    def usual_steps(self, policy: str) -> int:
        """The bundle's default, or the fewest that are no rung where `policy` lacks it."""
        steps = sorted(self._policy(policy).schedules)
        return self.default_steps if self.default_steps in steps else steps[0]

    def schedule(self, policy: str, *, steps: int) -> Schedule:
        """How `policy` denoises in `steps` steps."""
        found = self._policy(policy)
        schedules = {**found.rungs, **found.schedules}
        if steps not in schedules:
            offered = ", ".join(map(str, sorted(schedules)))
            raise InputError(
                f"steps: policy {policy!r} of this bundle takes {offered}, got {steps!r}"
            )
        return schedules[steps]

    def _policy(self, name: str) -> DiffusionPolicy:
        if name not in self.policies:
            raise InputError(f"policy {name!r}: this bundle has {', '.join(sorted(self.policies))}")
        return self.policies[name]


def read_diffusion(reader: JsonReader) -> DiffusionConfig:
    """``config.diffusion`` of a bundle.json, checked."""
    shape = reader.numbers("latent_shape", 3)
    if not all(n == int(n) and 1 <= n <= 1 << 16 for n in shape):
        raise BundleError(f"{reader.where}: 'latent_shape' is {shape}, expected three sizes")
    profiles_at = reader.at("profiles")
    profiles = {name: _profile(profiles_at.at(name)) for name in profiles_at.value}
    policies_at = reader.at("policies")
    policies = {name: _policy(policies_at.at(name), name, profiles) for name in policies_at.value}
    default, guidance = reader.at("default"), reader.at("guidance")
    residual = reader.value.get("residual_std", 0)
    decoder_frames, decoder_overlap = _decoder(reader)
    config = DiffusionConfig(
        latent_shape=(int(shape[0]), int(shape[1]), int(shape[2])),
        embedding_channels=reader.integer("embedding_channels", high=1 << 16),
        condition_channels=reader.integer("condition_channels", high=1 << 16),
        residual_std=(
            None if residual is None else reader.number("residual_std", low=1e-6, high=1e6)
        ),
        latent_scale=reader.number("latent_scale", low=1e-6, high=1e6),
        profiles=profiles,
        policies=policies,
        default_policy=default.text("policy"),
        default_steps=default.integer("steps", high=STEPS_MAX),
        guidance=Guidance(
            pose=guidance.number("pose", low=0, high=GUIDANCE_MAX),
            view_behind=guidance.number("view_behind", low=0, high=GUIDANCE_MAX),
        ),
        context_gain=(
            reader.number("context_gain", low=0, high=1) if "context_gain" in reader.value else 1.0
        ),
        decoder_frames=decoder_frames,
        decoder_overlap=decoder_overlap,
    )
    usual = config.policies.get(config.default_policy)
    if usual is None or config.default_steps not in usual.schedules:
        raise BundleError(
            f"{default.where}: policy {config.default_policy!r} in {config.default_steps} steps "
            "is not among 'policies'; export the bundle again"
        )
    return config


def _decoder(reader: JsonReader) -> tuple[int, int]:
    """Frames of the decoder's calls, and how many they share."""
    if "decoder" not in reader.value:
        return 1, 0
    decoder = reader.at("decoder")
    frames = decoder.integer("frames", low=1, high=FRAMES_MAX)
    if frames > 1 and reader.value.get("residual_std") is not None:
        raise BundleError(
            f"{decoder.where}: takes {frames} frames, and latents that are centred on the field's "
            "are decoded one at a time; export the bundle again"
        )
    return frames, decoder.integer("overlap", low=0, high=frames - 1)


def _profile(reader: JsonReader) -> Profile:
    frames = reader.integer("frames", low=1, high=FRAMES_MAX)
    if "overlap" in reader.value:  # the release's: windows over a clip share frame 0 and others
        overlap = reader.integer("overlap", low=1, high=frames - 1)
        anchor, context, chunk = 1, overlap - 1, frames - overlap
    else:
        anchor = reader.integer("anchor", low=0, high=1)
        context = reader.integer("context", low=0, high=FRAMES_MAX)
        chunk = reader.integer("chunk", high=FRAMES_MAX)
    return Profile(frames, anchor, context, chunk, reader.text("guided"), reader.text("unguided"))


def _policy(reader: JsonReader, name: str, profiles: Mapping[str, Profile]) -> DiffusionPolicy:
    if name not in POLICIES:
        raise BundleError(
            f"{reader.where}: unknown policy; this gas-rt knows {', '.join(POLICIES)}"
        )
    profile = profiles.get(reader.text("profile"))
    if profile is None:
        raise BundleError(
            f"{reader.where}: its profile {reader.text('profile')!r} is not among {list(profiles)}"
        )
    fixed = reader.integer("chunk", high=FRAMES_MAX) if "chunk" in reader.value else None
    lists = reader.at("sigmas")
    if not lists.value:
        raise BundleError(f"{lists.where}: is empty; list the noise levels of each step count")
    schedules = {}
    for key in lists.value:
        plain = key.isascii() and key.isdigit() and len(key) < 5 and not key.startswith("0")
        steps = int(key) if plain else 0
        chunk = profile.chunk if fixed is None else fixed
        if fixed is None and name == "diagonal" and steps:
            # Fewer levels at once are chunks of more frames: the window is as long for all lists.
            chunk = max(1, (profile.frames - profile.anchor - profile.context) // steps)
        window = Window(anchor=profile.anchor, context=profile.context, chunk=chunk, steps=steps)
        schedules[steps] = _schedule(lists, key, name, window)
        _check_layout(lists.where, name, window, profile)
    best = schedules[max(schedules)]
    if "rungs" in reader.value:
        rungs = read_rungs(reader, name, best)
    else:
        rungs = derived_rungs(name, schedules)
    return DiffusionPolicy(profile, schedules, rungs)


def _schedule(lists: JsonReader, key: str, policy: str, window: Window) -> Schedule:
    """The listed levels, and where the last step ends."""
    sigmas = lists.numbers(key)
    if not 1 <= window.steps <= STEPS_MAX or len(sigmas) != window.steps:
        raise BundleError(
            f"{lists.where}: {key!r} has {len(sigmas)} levels; expected a number of steps in "
            f"1..{STEPS_MAX} and as many levels, one for the start of each"
        )
    try:
        return Schedule(window, (*sigmas, last_sigma(policy)))
    except InputError as error:
        raise BundleError(f"{lists.where}: {key!r}: {error}") from error


def _check_layout(where: str, policy: str, window: Window, profile: Profile) -> None:
    if policy == "parity" and window.anchor != 1:
        raise BundleError(
            f"{where}: parity's windows share frame 0, its profile has no anchor; give the "
            "profile an 'overlap' and export the bundle again"
        )
    flight = flight_of(policy, window)
    slots = window.anchor + window.context + flight
    if slots != profile.frames:
        raise BundleError(
            f"{where}: {policy} in {window.steps} steps needs windows of {window.anchor} anchor + "
            f"{window.context} context + {flight} in flight = {slots} frames, its profile has "
            f"{profile.frames}; export the bundle again"
        )


def check_diffusion_graphs(
    config: DiffusionConfig, graphs: Mapping[str, GraphSpec], *, side_px: int, where: str
) -> None:
    """Raise unless every graph of stage 2 is there, with the tensors `config` asks for."""
    wanted: dict[str, tuple[Shapes, Shapes]] = {}
    for name, shapes in _graph_shapes(config, side_px):
        if wanted.setdefault(name, shapes) != shapes:
            raise BundleError(
                f"{where}: 'diffusion' gives the graph {name!r} two tasks of different shapes; "
                "name a graph for each and export it again"
            )
    for name, (inputs, outputs) in wanted.items():
        if name not in graphs:
            raise BundleError(f"{where}: 'diffusion' needs the graph {name!r}; export it again")
        spec = graphs[name]
        for kind, want, have in (
            ("input", inputs, spec.inputs),
            ("output", outputs, spec.outputs),
        ):
            if odd := sorted(set(want) ^ set(have)):
                raise BundleError(
                    f"{where}: graph {name!r}: expected the {kind}s {sorted(want)}, it "
                    f"{'lacks' if odd[0] in want else 'has also'} {odd[0]!r}; export it again"
                )
            for tensor, shape in want.items():
                if (have[tensor].shape, have[tensor].dtype) != (shape, "float32"):
                    raise BundleError(
                        f"{where}: graph {name!r}, {kind} {tensor!r}: is {have[tensor].dtype} "
                        f"{list(have[tensor].shape)}, 'diffusion' says float32 {list(shape)}; "
                        "export it again"
                    )


def _graph_shapes(
    config: DiffusionConfig, side_px: int
) -> Iterator[tuple[str, tuple[Shapes, Shapes]]]:
    """Each graph that is used, with the shapes of its inputs and outputs."""
    picture, latents = (1, 3, side_px, side_px), (1, *config.latent_shape)
    embedding = (1, config.embedding_channels)
    h, w = config.latent_shape[1:]
    centred = config.residual_std is not None
    base: Shapes = {"base": latents} if centred else {}
    render: Shapes = {"render": picture} if centred else {}
    condition = (1, config.condition_channels, h, w)
    yield "image_encoder", ({"picture": picture}, {"embedding": embedding})
    yield "vae_encoder", ({"picture": picture}, {"latents": latents})
    conditions: Shapes = {"render": picture, "normals": picture}
    yield "conditioner", (conditions, {"condition": condition, **base})
    n = config.decoder_frames
    decoded: Shapes = {"latents": (n, *config.latent_shape), **base, **render}
    yield "vae_decoder", (decoded, {"picture": (n, *picture[1:])})
    for profile in {id(p.profile): p.profile for p in config.policies.values()}.values():
        f = profile.frames
        stepped = (f, *config.latent_shape)
        inputs: Shapes = {
            "x": stepped,
            "sigma": (f,),
            "sigma_next": (f,),
            "reference": latents,
            "embedding": embedding,
            "condition": (f, *condition[1:]),
            "switcher": (f, 2),
        }
        outputs: Shapes = {"x_next": stepped, "x0": stepped}
        if profile.distilled:
            yield profile.unguided, ({**inputs, "guidance": (f,)}, outputs)
            continue
        yield profile.unguided, (inputs, outputs)
        if config.guidance.used:
            yield profile.guided, ({**inputs, "guidance": (f,)}, outputs)
