"""What bundle.json says of stage 2: read, or refused with one clear error where malformed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gas_rt.core import Window
from gas_rt.engine import open_bundle
from gas_rt.engine.diffusion import Guidance
from gas_rt.errors import BundleError, InputError
from tests.toy_bundle import manifest_of, write_bundle
from tests.toy_diffusion import LATENT, SCALE, SIGMAS, STD, add_diffusion


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_bundle(tmp_path_factory.mktemp("toy"), body=b"a body", vertices=10)
    return add_diffusion(folder)


@pytest.fixture
def damaged(folder: Path) -> Any:
    """Writes a changed bundle.json and puts the good one back."""
    good = (folder / "bundle.json").read_text()

    def write(change: Callable[[dict[str, Any]], None]) -> Path:
        manifest = manifest_of(folder)
        change(manifest)
        (folder / "bundle.json").write_text(json.dumps(manifest))
        return folder

    yield write
    (folder / "bundle.json").write_text(good)


def test_a_good_description_is_read(folder: Path) -> None:
    config = open_bundle(folder).config.diffusion
    assert config is not None
    assert (config.latent_shape, config.residual_std, config.latent_scale) == (LATENT, STD, SCALE)
    assert (config.default_policy, config.default_steps) == ("diagonal", 3)
    assert config.guidance == Guidance(pose=1.5, view_behind=2.0)
    assert set(config.policies) == {"diagonal", "sequential", "parity"}
    live = config.profiles["live"]
    assert (live.frames, live.anchor, live.context, live.chunk) == (5, 1, 1, 1)
    clip = config.profiles["parity"]
    assert (clip.frames, clip.anchor, clip.context, clip.chunk) == (6, 1, 1, 4)
    assert config.steps("sequential") == (1, 3)
    assert (config.usual_steps("sequential"), config.usual_steps("parity")) == (3, 3)
    assert config.schedule("sequential", steps=3).window.chunk == 3


def test_live_frames_end_clean_and_parity_at_zero(folder: Path) -> None:
    config = open_bundle(folder).config.diffusion
    assert config is not None
    for policy, last in (("diagonal", 0.002), ("sequential", 0.002), ("parity", 0.0)):
        sigmas = config.schedule(policy, steps=3).sigmas
        np.testing.assert_allclose(sigmas, [*SIGMAS, last], rtol=1e-6)


def test_what_it_lacks_is_named(folder: Path) -> None:
    config = open_bundle(folder).config.diffusion
    assert config is not None
    with pytest.raises(InputError, match="steps: policy 'parity' of this bundle takes 2, 3, got 7"):
        config.schedule("parity", steps=7)
    with pytest.raises(InputError, match="policy 'magic': this bundle has diagonal, parity, seq"):
        config.steps("magic")


def rung(steps: int, chunk: int, sigmas: list[float]) -> dict[str, Any]:
    return {"steps": steps, "chunk": chunk, "sigmas": sigmas}


def test_rungs_are_derived_from_the_levels_of_a_bundle_that_lists_none(folder: Path) -> None:
    config = open_bundle(folder).config.diffusion
    assert config is not None
    (one,) = config.policies["diagonal"].rungs.values()
    assert one.window == Window(anchor=1, context=1, chunk=3, steps=1)
    np.testing.assert_allclose(one.sigmas, [SIGMAS[0], 0.002], rtol=1e-6)
    assert config.steps("diagonal") == (1, 3)
    assert config.schedule("diagonal", steps=1) == one
    assert config.usual_steps("diagonal") == 3
    assert config.policies["parity"].rungs == config.policies["sequential"].rungs == {}
    mini = open_bundle("gas-mini").config.diffusion
    assert mini is not None
    rungs = mini.policies["diagonal"].rungs
    assert {n: (s.window.chunk, s.sigmas[:-1]) for n, s in rungs.items()} == {
        1: (4, (40.0,)),
        2: (2, (40.0, 28.0)),
    }
    assert {s.window.length for s in rungs.values()} == {8}


def test_a_bundle_may_list_its_rungs_or_none(damaged: Any, folder: Path) -> None:
    listed = put("policies.diagonal.rungs", [rung(1, 3, [12.0])])
    before = open_bundle(folder).fingerprint
    bundle = open_bundle(damaged(listed))
    assert bundle.config.diffusion is not None
    (one,) = bundle.config.diffusion.policies["diagonal"].rungs.values()
    np.testing.assert_allclose(one.sigmas, [12.0, 0.002], rtol=1e-6)
    assert bundle.fingerprint == before  # avatars outlive another ladder
    config = open_bundle(damaged(put("policies.diagonal.rungs", []))).config.diffusion
    assert config is not None
    assert config.policies["diagonal"].rungs == {}
    assert config.steps("diagonal") == (3,)


def test_a_bundle_without_stage_2_has_none(tmp_path: Path) -> None:
    bundle = open_bundle(write_bundle(tmp_path / "toy", body=b"a body", vertices=10))
    assert bundle.config.diffusion is None


def put(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """Set what lies at `key` below config.diffusion."""

    def apply(manifest: dict[str, Any]) -> None:
        target = manifest["config"]["diffusion"]
        *parents, last = key.split(".")
        for parent in parents:
            target = target[parent]
        target[last] = value

    return apply


def drop(key: str) -> Callable[[dict[str, Any]], None]:
    def apply(manifest: dict[str, Any]) -> None:
        target = manifest
        *parents, last = key.split("/")
        for parent in parents:
            target = target[parent]
        del target[last]

    return apply


def reshape(graph: str, kind: str, name: str, shape: list[int]) -> Callable[[dict[str, Any]], None]:
    def apply(manifest: dict[str, Any]) -> None:
        manifest["graphs"][graph][kind][name] = {"shape": shape, "dtype": "float32"}

    return apply


def in_half(manifest: dict[str, Any]) -> None:
    manifest["graphs"]["denoiser"]["inputs"]["x"]["dtype"] = "float16"


def photo_of_another_size(manifest: dict[str, Any]) -> None:
    manifest["config"]["photo"]["side_px"] = 256


def unlisted(manifest: dict[str, Any]) -> None:
    manifest["policies"] = ["field", "diagonal", "parity"]


def parity_without_anchor(manifest: dict[str, Any]) -> None:
    diffusion = manifest["config"]["diffusion"]
    diffusion["profiles"]["bare"] = {
        **diffusion["profiles"]["live"],
        "anchor": 0,
        "chunk": 4,
    }
    diffusion["policies"]["parity"]["profile"] = "bare"


D = "config/diffusion"
STEPS_3 = "policies.diagonal.sigmas.3"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        # values
        (lambda m: m["config"].update(diffusion=7), "'diffusion': expected an object, got int"),
        (drop(f"{D}/latent_shape"), "'diffusion': lacks 'latent_shape'"),
        (put("latent_shape", [4, 8]), "'latent_shape': expected 3 numbers"),
        (put("latent_shape", [4, 8, 0]), "'latent_shape' is .* expected three sizes"),
        (put("latent_shape", [4, 8, 8.5]), "expected three sizes"),
        (put("latent_shape", [4, 8, 2**70]), "expected three sizes"),
        (put("latent_shape", [4, 8, 10**400]), "'latent_shape': expected 3 numbers"),
        (put("latent_scale", 10**400), "'latent_scale' is 1000"),
        (put("embedding_channels", 0), "'embedding_channels' is 0"),
        (put("condition_channels", "many"), "'condition_channels': expected an integer"),
        (drop(f"{D}/residual_std"), "lacks 'residual_std'"),
        (put("residual_std", 0), "'residual_std' is 0"),
        (put("residual_std", float("nan")), "'residual_std' is nan"),
        (put("latent_scale", -1), "'latent_scale' is -1"),
        (put("context_gain", 1.5), "'context_gain' is 1.5"),
        (put("guidance.pose", -0.5), "'pose' is -0.5"),
        (drop(f"{D}/guidance/view_behind"), "lacks 'view_behind'"),
        # profiles
        (put("profiles.live.frames", 0), "'live': 'frames' is 0"),
        (put("profiles.live.anchor", 2), "'anchor' is 2, expected 0..1"),
        (drop(f"{D}/profiles/live/context"), "lacks 'context'"),
        (put("profiles.parity.overlap", 6), "'overlap' is 6, expected 1..5"),
        (put("profiles.live.guided", 4), "'guided': expected a string"),
        # policies
        (put("policies.magic", {}), "'magic': unknown policy; this gas-rt knows parity, seq"),
        (put("policies.diagonal.profile", "none"), "its profile 'none' is not among"),
        (put("policies.diagonal.sigmas", {}), "'sigmas': is empty"),
        (put("policies.diagonal.chunk", 2), r"1 anchor \+ 1 context \+ 6 in flight = 8 frames"),
        (put("policies.sequential.chunk", 4), r"4 in flight = 6 frames, its profile has 5"),
        (put("profiles.live.frames", 8), "in flight = 5 frames, its profile has 8"),
        (put("profiles.live.context", 3), "= 7 frames, its profile has 5"),
        (put("policies.diagonal.sigmas.2", [9, 1]), "diagonal in 2 steps needs windows of"),
        (put(STEPS_3, [40, 6]), "'3' has 2 levels"),
        (put(STEPS_3, [40, 6, 6]), "must descend strictly"),
        (put(STEPS_3, [0.35, 6, 40]), "must descend strictly"),
        (put(STEPS_3, [40, 6, 0.002]), "must descend strictly"),
        (put(STEPS_3, [40, 6, -1]), "must be above 0"),
        (put(STEPS_3, [40, 6, float("inf")]), "expected a list of numbers"),
        (put(STEPS_3, [40, 6, True]), "expected a list of numbers"),
        (put(STEPS_3, [10**400, 6, 1]), "expected a list of numbers"),
        (put(STEPS_3, [2**200, 6, 1]), "fit"),
        (put(STEPS_3, "40 6 1"), "expected a list of numbers"),
        (put("policies.parity.sigmas.3", [9, 1, 0.0]), "must (be above 0|descend)"),
        (put("policies.parity.sigmas.three", [9, 1, 0.5]), "'three' has 3 levels"),
        (put("policies.parity.sigmas.03", [9, 1, 0.5]), "'03' has 3 levels"),
        (put("policies.parity.sigmas.-1", []), "'-1' has 0 levels"),
        (parity_without_anchor, "parity's windows share frame 0, its profile has no anchor"),
        # rungs
        (put("policies.diagonal.rungs", {}), "'rungs': expected a list of at most 8"),
        (put("policies.diagonal.rungs", [{}] * 9), "expected a list of at most 8 objects"),
        (put("policies.diagonal.rungs", [7]), r"'rungs'\[0\]: expected an object, got int"),
        (put("policies.diagonal.rungs", [{"steps": 1}]), r"'rungs'\[0\]: lacks 'chunk'"),
        (put("policies.diagonal.rungs", [rung(0, 3, [])]), "'steps' is 0"),
        (put("policies.diagonal.rungs", [rung(1, 2, [9])]), "put 2 frames in flight, .* has 3"),
        (put("policies.diagonal.rungs", [rung(3, 1, SIGMAS)]), "fewer steps than .* 3, got 3"),
        (put("policies.diagonal.rungs", [rung(1, 3, [9, 1])]), "'sigmas': expected 1 numbers"),
        (put("policies.diagonal.rungs", [rung(1, 3, [0.002])]), "must descend strictly"),
        (put("policies.diagonal.rungs", [rung(1, 3, [9])] * 2), r"\[1\]: 1 steps are listed twi"),
        (put("policies.parity.rungs", [rung(1, 3, [9])]), "parity is offline and has no ladder"),
        (put("default.policy", "field"), "policy 'field' in 3 steps is not among 'policies'"),
        (put("default.steps", 4), "policy 'diagonal' in 4 steps is not among"),
        (unlisted, "lack 'sequential', which 'diffusion' configures"),
        # graphs
        (drop("graphs/conditioner"), "'diffusion' needs the graph 'conditioner'"),
        (drop("graphs/denoiser_nocfg_clip"), "needs the graph 'denoiser_nocfg_clip'"),
        (put("profiles.live.unguided", "other"), "needs the graph 'other'"),
        (put("profiles.live.guided", "denoiser_nocfg"), "'denoiser_nocfg'.* it lacks 'guidance'"),
        (put("profiles.live.unguided", "vae_decoder"), "the graph 'vae_decoder' two tasks"),
        (put("profiles.parity.guided", "denoiser"), "the graph 'denoiser' two tasks"),
        (drop("graphs/vae_decoder/inputs/base"), "'vae_decoder'.* it lacks 'base'"),
        (drop("graphs/vae_decoder/inputs/render"), "'vae_decoder'.* it lacks 'render'"),
        (put("residual_std", None), "'conditioner': expected the outputs .* it has also 'base'"),
        (drop("graphs/denoiser/inputs/guidance"), "'denoiser': .* it lacks 'guidance'"),
        (drop("graphs/denoiser/outputs/x0"), "'denoiser': .* it lacks 'x0'"),
        (
            reshape("denoiser", "inputs", "x", [6, *LATENT]),
            r"'denoiser', input 'x': is float32 \[6, 4, 8, 8\], .* says float32 \[5, 4, 8, 8\]",
        ),
        (in_half, r"input 'x': is float16 \[5, 4, 8, 8\]"),
        (put("condition_channels", 7), r"output 'condition': is float32 \[1, 6, 8, 8\]"),
        (put("embedding_channels", 4), r"output 'embedding': is float32 \[1, 3\]"),
        (reshape("vae_encoder", "inputs", "picture", [1, 3, 64, 64]), "input 'picture': is"),
        (photo_of_another_size, "'photo' has a side of 256 px, .* stage 2 have 128"),
    ],
)
def test_a_malformed_description_is_named(
    damaged: Any, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    with pytest.raises(BundleError, match=message):
        open_bundle(damaged(change))


def test_without_guidance_the_guided_graphs_may_be_missing(damaged: Any) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["config"]["diffusion"]["guidance"] = {"pose": 1, "view_behind": 1.0}
        del manifest["graphs"]["denoiser"]

    config = open_bundle(damaged(change)).config.diffusion
    assert config is not None
    assert not config.guidance.used


def distilled(manifest: dict[str, Any]) -> None:
    """The graphs that take guidance serve every frame."""
    for profile in manifest["config"]["diffusion"]["profiles"].values():
        del manifest["graphs"][profile["unguided"]]
        profile["unguided"] = profile["guided"]


def test_distilled_guidance_needs_one_graph_that_takes_it(damaged: Any) -> None:
    opened = open_bundle(damaged(distilled))
    assert opened.config.diffusion is not None
    assert all(p.distilled for p in opened.config.diffusion.profiles.values())
    assert opened.config.diffusion.guidance.used
    assert opened.denoiser is opened.graph("denoiser")


def test_fewer_levels_are_chunks_of_more_frames_where_none_is_said(damaged: Any) -> None:
    lists = {"3": SIGMAS, "1": [9.0]}
    policy = {"profile": "live", "sigmas": lists}
    config = open_bundle(damaged(put("policies.diagonal", policy))).config.diffusion
    assert config is not None
    assert config.steps("diagonal") == (1, 3)
    for steps, chunk in ((3, 1), (1, 3)):
        window = config.schedule("diagonal", steps=steps).window
        assert (window.steps, window.chunk, window.length) == (steps, chunk, 5)


def test_levels_that_do_not_fill_the_window_are_refused(damaged: Any) -> None:
    policy = {"profile": "live", "sigmas": {"2": [9.0, 1.0]}}
    with pytest.raises(BundleError, match="2 in flight = 4 frames, its profile has 5"):
        open_bundle(damaged(put("policies.diagonal", policy)))
