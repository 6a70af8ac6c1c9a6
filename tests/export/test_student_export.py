"""A bundle of a student: one branch that is told its guidance, lists of levels by steps."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

import gas_rt
from export import bundle as exporting
from export.diffusion import Stage2
from gas_rt.engine import open_bundle
from reference.diffusion.distill import PRESETS
from reference.diffusion.student import Student
from tests.export.tiny_models import BODY, FACTS, export, randomised, tiny_nerf, tiny_stage2

LISTS = {2: (10.0, 1.0), 1: (12.0,)}


def tiny_student() -> Stage2:
    stage = tiny_stage2()
    torch.manual_seed(2)
    student = randomised(Student(stage.denoiser.config))
    values = {"context": 1, "live_sigmas": (10.0, 1.0), "few": LISTS}
    return dataclasses.replace(stage, denoiser=student, **values)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "gas-student"
    facts = FACTS | {"teacher": {"checkpoint": "unet.pt", "sha256": "1" * 64, "step": 3}}
    parts = dict.fromkeys(("stage1", "autoencoder", "unet"), FACTS) | {"student": facts}
    export(folder, tiny_student(), provenance=parts)
    return folder


def test_it_ships_as_the_denoiser_without_a_second_branch(bundle: Path) -> None:
    opened = open_bundle(bundle)
    assert {name for name in opened.graphs if name.startswith("denoiser")} == {
        "denoiser_nocfg",
        "denoiser_nocfg_3",
    }
    assert opened.graph("denoiser_nocfg").inputs["guidance"].shape == (4,)
    diffusion = opened.config.diffusion
    assert diffusion is not None
    assert all(policy.profile.distilled for policy in diffusion.policies.values())
    assert diffusion.guidance.used  # and needs no second branch for it


def test_steps_are_an_option_of_every_policy(bundle: Path) -> None:
    with gas_rt.load(bundle, "openvino", threads=1, precision="fp32") as model:
        for policy in ("diagonal", "sequential", "parity"):
            assert model.steps(policy) == (1, 2)
        assert model.default_policy == "diagonal"
        diffusion = model.parts.bundle.config.diffusion
        assert diffusion is not None
        assert diffusion.default_steps == 2
        for steps, chunk in ((2, 1), (1, 2)):
            schedule = diffusion.schedule("diagonal", steps=steps)
            assert schedule.window.chunk == chunk
            assert schedule.sigmas[:-1] == LISTS[steps]
            assert diffusion.schedule("sequential", steps=steps).window.chunk == 2
    policies = json.loads((bundle / "bundle.json").read_text())["config"]["diffusion"]["policies"]
    for policy in policies.values():
        assert policy["sigmas"] == {"2": [10.0, 1.0], "1": [12.0]}


def test_guidance_and_the_end_of_a_step_reach_the_graph(bundle: Path) -> None:
    """The gate held it to PyTorch's; here that its answer depends on what it is told."""
    import numpy as np

    from export.diffusion import step_case
    from gas_rt.engine import open_engine

    stage = tiny_student()
    generator = torch.Generator().manual_seed(0)
    case = step_case(stage.denoiser, 4, guided=False, side_px=32, generator=generator)
    graph = open_engine("openvino", threads=1, precision="fp32").load(
        open_bundle(bundle).graph("denoiser_nocfg")
    )
    inputs = {name: value.numpy() for name, value in case.inputs.items()}
    plain = graph.run(inputs)["x0"]
    for name in ("guidance", "sigma_next"):
        other = graph.run(inputs | {name: inputs[name] * np.float32(0.7)})["x0"]
        assert np.abs(other - plain).max() > 1e-4, name
    ended = graph.run(inputs | {"sigma_next": np.zeros(4, np.float32)})["x0"]
    assert np.isfinite(ended).all()  # where parity's last step ends


def test_provenance_and_card_name_the_student(bundle: Path) -> None:
    facts = json.loads((bundle / "bundle.json").read_text())["provenance"]
    assert facts["student"]["teacher"]["checkpoint"] == "unet.pt"
    card = (bundle / "MODEL_CARD.md").read_text()
    assert "distilled from the UNet" in card
    assert "teacher: checkpoint unet.pt" in card
    assert "2: 10, 1; 1: 12" in card


def test_a_student_and_its_lists_go_together() -> None:
    for stage in (tiny_student(), tiny_stage2()):
        with pytest.raises(ValueError, match="lists of levels"):
            dataclasses.replace(stage, few=None if stage.few else LISTS)


def save(folder: Path, stage: Stage2, name: str, **more: object) -> Path:
    path = folder / f"{name}.pt"
    train = dataclasses.asdict(dataclasses.replace(PRESETS["tiny"], seed=0))
    train["sigmas"] = [list(levels) for levels in train["sigmas"]]
    state = {"model_config": dataclasses.asdict(stage.denoiser.config), "step": 1, "train": train}
    torch.save(state | {"mean": stage.denoiser.state_dict()} | more, path)
    return path


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("teacher", "was distilled from unet.pt 000000000000"),
        ("guidance", r"guidance pose: 4, .* was trained for 1 to 2.5"),
        ("swapped", "is a student; give its teacher"),
        ("none", "is no student"),
        ("sigmas", "was distilled for its own lists"),
    ],
)
def test_what_does_not_belong_together_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str, message: str
) -> None:
    import hashlib

    monkeypatch.setattr(exporting, "check_graphs", lambda folder, cases: {"gate": 0.0})
    nerf = tiny_nerf()
    monkeypatch.setattr(exporting, "open_stage1", lambda *_: (nerf, {"camera_ranges": {}}))
    facts = exporting.checkpoint_facts
    monkeypatch.setattr(
        exporting,
        "checkpoint_facts",
        lambda path, stage: FACTS if stage == "stage1" else facts(path, stage=stage),
    )
    unet = save(tmp_path, tiny_stage2(), "unet")
    taught = {"checkpoint": "unet.pt", "step": 1, "sha256": "0" * 64}
    if wrong != "teacher":
        taught["sha256"] = hashlib.sha256(unet.read_bytes()).hexdigest()
    student = save(tmp_path, tiny_student(), "student", teacher=taught)
    autoencoder = tmp_path / "autoencoder.pt"
    model = tiny_stage2().autoencoder
    about = {"model_config": dataclasses.asdict(model.config), "step": 1, "train": {}}
    torch.save(about | {"mean": model.state_dict()}, autoencoder)
    options = {"autoencoder": autoencoder, "body_path": BODY, "out": tmp_path / "out"}
    options |= {"unet": unet, "student": student}
    if wrong == "guidance":
        options["guidance"] = {"pose": 4.0, "view_behind": 2.0}
    elif wrong == "swapped":
        options |= {"unet": student, "student": None}
    elif wrong == "none":
        options["student"] = unet
    elif wrong == "sigmas":
        options["sigmas"] = (20.0, 2.0)
    with pytest.raises(ValueError, match=message):
        exporting.export_checkpoints(tmp_path / "stage1.pt", **options)
    assert not (tmp_path / "out").exists()
