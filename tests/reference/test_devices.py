"""Training off the processor: nothing of a step stays where it was made.

No GPU is needed: on torch's "meta" device tensors have shapes alone, and operations on two devices
fail as they would on a GPU.
"""

from __future__ import annotations

import time

import pytest
import torch

from reference.autoencoder.training import PRESETS as AUTOENCODERS
from reference.autoencoder.training import _track_statistics
from reference.data import Geometry, PointSet, Sampler, Shards
from reference.devices import HALF_IN_HARDWARE, computes_half, feeders, moved, place_of, prepared
from reference.nerf import PRESETS as FIELDS
from reference.nerf import HumanNerf
from reference.nerf.checkpoint import mesh_of
from reference.nerf.training import predict

AWAY = torch.device("meta")


def test_the_check_finds_what_stays_behind() -> None:
    with pytest.raises(RuntimeError, match="meta"):
        moved(torch.zeros(3), AWAY) + torch.zeros(3)


def test_stage_1_steps_there(body, shards) -> None:
    field, config = FIELDS["tiny"]
    batch = Sampler(Shards(shards, split="train"), Geometry(body, field), config).batch(0)
    model = HumanNerf(field, mesh_of(body)).to(AWAY)
    # Counting samples per ray has no answer without values; all before it has run.
    with pytest.raises((NotImplementedError, RuntimeError), match="bincount"):
        predict(model, moved(batch, AWAY))


def test_the_autoencoder_steps_there() -> None:
    from reference.autoencoder import Autoencoder

    model = Autoencoder(AUTOENCODERS["tiny"][0]).to(AWAY)
    code = model.encoder(moved(torch.zeros(2, 3, 16, 16), AWAY))
    _track_statistics(model, code.float().detach())
    shown = model.decoder(code + model.latent_std)
    assert shown.device == AWAY
    shown.mean().backward()


def test_stage_2_and_the_student_step_there() -> None:
    from reference.diffusion.config import PRESETS
    from reference.diffusion.student import Student

    config = PRESETS["tiny"]
    model = Student(config).to(AWAY)
    shape = (2, 3, config.unet.latent_channels, 4, 4)
    given = [torch.zeros(shape), torch.zeros(2, 3, 3, 32, 32), torch.zeros(2, 3, 32, 32)]
    x, normals, picture = moved(given, AWAY)
    sigma, switcher = moved([torch.ones(2, 3), torch.zeros(2, 3, 2)], AWAY)
    conditions = {
        "reference": x[:, 0],
        "embedding": model.embed(picture),
        "condition": model.condition(x, normals),
        "switcher": switcher,
    }
    v = model.velocity(x, sigma, guidance=sigma, sigma_next=sigma / 2, **conditions)
    assert v.device == AWAY
    v.mean().backward()


def test_batches_come_in_order_whoever_made_them() -> None:
    def make(step: int) -> int:
        time.sleep(0.002 * (step % 3))
        return step

    assert list(prepared(make, range(20), workers=4)) == list(range(20))
    assert list(prepared(make, range(0))) == []


def test_a_loop_that_ends_early_stops_the_threads() -> None:
    made: list[int] = []

    def make(step: int) -> int:
        made.append(step)
        return step

    for step in prepared(make, range(10_000), workers=2):
        if step == 3:
            break
    count = len(made)
    assert count < 50
    assert len(made) == count


def test_what_moves_keeps_its_kind() -> None:
    points = PointSet(*(torch.zeros(2) for _ in range(6)))
    place = AWAY
    found = moved([points, (torch.ones(1), 3)], place)
    assert isinstance(found[0], PointSet)
    assert {value.device for value in found[0]} == {place}
    assert found[1][1] == 3
    assert place_of(torch.nn.Linear(1, 1, device="meta")) == place
    assert not computes_half(place)
    assert feeders(torch.device("cpu")) == 1


@pytest.mark.parametrize(
    ("found", "half"),
    [
        ({"architecture": "x86_64", "avx512_f": True, "avx512_bf16": False}, False),
        ({"architecture": "x86_64", "avx512_bf16": True, "amx_bf16": False}, True),
        ({"architecture": "aarch64", "bf16": True}, True),
        ({"architecture": "aarch64", "bf16": False}, False),
        ({}, False),
    ],
)
def test_half_is_for_processors_that_compute_in_it(
    found: dict[str, object], half: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found)
    assert computes_half(torch.device("cpu")) is half


def test_torch_has_this_processors_names_for_half() -> None:
    told = torch.cpu.get_capabilities()
    if told["architecture"] in ("x86_64", "aarch64"):
        assert any(name in told for name in HALF_IN_HARDWARE)
    assert computes_half(torch.device("cpu")) in (True, False)
