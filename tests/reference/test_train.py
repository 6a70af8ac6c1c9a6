"""Training: the loss falls, and a run that was interrupted ends where the others do."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from reference.data import Geometry, Sampler, Shards, batches, camera_ranges
from reference.nerf import PRESETS, HumanNerf
from reference.nerf.checkpoint import mesh_of, open_checkpoint
from reference.nerf.render import encode_photo, render_view
from reference.nerf.training import train
from reference.nerf.widen import widen
from reference.train import main

FIELD, TRAIN = PRESETS["tiny"]


def weights(run):
    return {name: value.clone() for name, value in run.mean.state_dict().items()}


def test_an_interrupted_run_ends_with_the_same_weights(body, shards, tmp_path):
    options = {"data": shards, "body": body, "validate_every": 0}
    whole = train(FIELD, TRAIN, out=tmp_path / "whole", **options)
    train(FIELD, TRAIN, out=tmp_path / "parts", stop_at=3, **options)
    resumed = train(FIELD, TRAIN, out=tmp_path / "parts", **options)
    assert resumed.step == whole.step == TRAIN.steps
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(resumed)[name]), name


def test_the_loss_falls_and_the_curve_is_kept(body, shards, tmp_path):
    config = replace(TRAIN, steps=16, lr=5e-3)
    options = {"data": shards, "body": body, "out": tmp_path, "validate_every": 16}
    train(FIELD, config, stop_at=2, **options)
    train(FIELD, config, **options)
    rows = [json.loads(line) for line in (tmp_path / "curve.jsonl").read_text().splitlines()]
    assert [r["step"] for r in rows] == [2, 16]
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert rows[-1]["seen_db"] > 5
    model, about = open_checkpoint(tmp_path / "checkpoint.pt", mesh_of(body))
    assert about["step"] == 16
    assert set(about["camera_ranges"]) == {"focal_over_side", "elevation_deg", "fill"}
    assert not any(p.requires_grad for p in model.parameters())
    main(["compact", str(tmp_path / "checkpoint.pt"), "-o", str(tmp_path / "small.pt")])
    kept, about_kept = open_checkpoint(tmp_path / "small.pt", mesh_of(body))
    assert about_kept == about
    for name, value in model.state_dict().items():
        assert torch.equal(value, kept.state_dict()[name]), name
    main(["compact", str(tmp_path / "checkpoint.pt"), "-o", str(tmp_path / "half.pt"), "--half"])
    halved, _ = open_checkpoint(tmp_path / "half.pt", mesh_of(body))
    for name, value in model.state_dict().items():
        assert torch.equal(value.half(), halved.state_dict()[name].half()), name
        assert halved.state_dict()[name].dtype == value.dtype
    assert (tmp_path / "small.pt").stat().st_size < (tmp_path / "checkpoint.pt").stat().st_size / 2


def test_a_checkpoint_of_another_configuration_is_refused(body, shards, tmp_path):
    options = {"data": shards, "body": body, "out": tmp_path, "validate_every": 0}
    train(FIELD, TRAIN, stop_at=1, **options)
    with pytest.raises(ValueError, match="another configuration"):
        train(FIELD, replace(TRAIN, lr=1.0), **options)


def test_a_run_may_start_from_another_checkpoint(body, shards, tmp_path):
    options = {"data": shards, "body": body, "validate_every": 0}
    first = train(FIELD, TRAIN, out=tmp_path / "first", stop_at=2, **options)
    start = tmp_path / "first" / "checkpoint.pt"
    other = replace(TRAIN, seed=3)
    begun = train(FIELD, other, out=tmp_path / "second", start=start, stop_at=1, **options)
    # One step of warm-up from the averaged weights: nearer to them than to fresh ones.
    fresh = train(FIELD, other, out=tmp_path / "fresh", stop_at=1, **options)
    assert distance(first, begun) < 0.1 * distance(first, fresh)
    state = torch.load(tmp_path / "second" / "checkpoint.pt", weights_only=True)
    assert state["started_from"]["step"] == 2
    for wider, message in (
        (
            replace(FIELD, hidden=2 * FIELD.hidden),
            "is of another model configuration, and not only",
        ),
        (replace(FIELD, deeper=0), "has layers that the new model lacks"),
        (replace(FIELD, plane_widths=(16, 32, 32)), r"its plane_net\..* groups"),
        (replace(FIELD, plane_widths=(8, 16, 32)), "plane_widths that do not all grow by the same"),
        (
            replace(FIELD, encoder_widths=(12, 12, 24, 24)),
            r"its image_encoder\..* (groups|factors)",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            train(wider, TRAIN, out=tmp_path / "third", start=start, **options)


def test_a_larger_model_begins_with_what_a_smaller_one_computes(body, shards, tmp_path):
    options = {"data": shards, "body": body, "validate_every": 0}
    field = replace(FIELD, encoder_widths=(16, 16, 16, 24), plane_widths=(16, 16, 16))
    train(field, TRAIN, out=tmp_path / "first", **options)
    start = tmp_path / "first" / "checkpoint.pt"
    mesh = mesh_of(body)
    small = open_checkpoint(start, mesh)[0]
    larger = replace(
        field, encoder_widths=(32, 32, 32, 48), plane_widths=(48, 48, 48), deeper=FIELD.deeper + 2
    )
    large = HumanNerf(larger, mesh)
    widen(large, small)
    person = Shards(shards, split="val")[0]
    geometry = Geometry(body, FIELD)
    photo = geometry.photo(person.betas, person.photo)
    shell = geometry.shell(person.betas, person.photo.pose, radius_m=photo.radius_m)
    pictures = []
    for model in (small, large.eval()):
        features = encode_photo(model, photo)
        camera = person.targets[0].camera
        pictures.append(render_view(model, features, geometry, photo, shell, camera)[0])
    np.testing.assert_allclose(pictures[0], pictures[1], atol=1e-5)
    assert pictures[0].max() > 0.1
    # Copies learn different things: what reads them does not share its weights evenly.
    begun = train(larger, TRAIN, out=tmp_path / "second", start=start, **options)
    weight = begun.model.image_encoder.down2.conv1.weight  # [out, in, 3, 3]
    assert (weight[0::2] - weight[1::2]).abs().max() > 1e-4


def test_runs_are_averaged(body, shards, tmp_path):
    options = {"data": shards, "body": body, "validate_every": 0}
    first = train(FIELD, TRAIN, out=tmp_path / "first", stop_at=2, **options)
    paths = [tmp_path / name / "checkpoint.pt" for name in ("first", "second")]
    second = train(FIELD, replace(TRAIN, seed=3), out=paths[1].parent, start=paths[0], **options)
    out = tmp_path / "mean.pt"
    main(["average", *map(str, paths), "-o", str(out)])
    found, about = open_checkpoint(out, mesh_of(body))
    for name, value in found.named_parameters():
        one, two = (run.mean.get_parameter(name) for run in (first, second))
        torch.testing.assert_close(value, (one + two) / 2)
    assert about["step"] == second.step
    assert torch.load(out, weights_only=True)["averaged"] == 2
    main(["average", *map(str, paths), "-o", str(tmp_path / "half.pt"), "--half"])
    halved = torch.load(tmp_path / "half.pt", weights_only=True)["mean"]
    assert {v.dtype for v in halved.values() if v.is_floating_point()} == {torch.float16}
    train(replace(FIELD, hidden=FIELD.hidden + 8), TRAIN, out=tmp_path / "other", **options)
    with pytest.raises(ValueError, match="is of another model"):
        main(["average", str(tmp_path / "other" / "checkpoint.pt"), str(paths[0]), "-o", str(out)])


def distance(one, other):
    pairs = zip(one.mean.parameters(), other.mean.parameters(), strict=True)
    return sum(float((a - b).square().sum()) for a, b in pairs)


def test_batches_depend_on_the_step_alone(body, shards):
    sampler = Sampler(Shards(shards, split="train"), Geometry(body, FIELD), TRAIN)
    ahead = list(batches(sampler, start=0, stop=4))[3]
    direct = sampler.batch(3)
    assert torch.equal(ahead.rgb, direct.rgb)
    assert torch.equal(ahead.points[0].x_can, direct.points[0].x_can)
    assert ahead.rgb.shape == (TRAIN.persons, TRAIN.rays, 3)
    seen = np.concatenate([sampler.order(step) for step in range(3)])
    assert sorted(seen) == [0, 0, 1, 1, 2, 2]  # two passes over three people


def test_photos_that_are_kept_change_no_batch(body, shards):
    people, geometry = Shards(shards, split="train"), Geometry(body, FIELD)
    plain, keeping = (Sampler(people, geometry, TRAIN, keep=keep) for keep in (False, True))
    for step in range(4):  # every person more than once
        one, two = plain.batch(step), keeping.batch(step)
        for a, b in zip(one[:3], two[:3], strict=True):
            assert torch.equal(a, b)
        for a, b in zip(one.points, two.points, strict=True):
            assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_camera_ranges_are_those_of_the_pictures(body, shards):
    ranges = camera_ranges(Shards(shards, split="train"), body)
    assert ranges["focal_over_side"] == [2.0, 2.0]
    low, high = ranges["fill"]
    assert 0.6 < low <= high < 1.3


def test_an_error_of_the_batch_thread_reaches_the_caller(body, shards):
    sampler = Sampler(Shards(shards, split="train"), Geometry(body, FIELD), TRAIN)
    sampler.shards = None
    with pytest.raises(TypeError):
        list(batches(sampler, start=0, stop=2))


def test_a_folder_without_shards_is_named(body, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no train-\*.npz"):
        train(FIELD, TRAIN, data=tmp_path, body=body, out=tmp_path / "out")


def test_unknown_configuration_is_a_usage_error(capsys):
    with pytest.raises(SystemExit) as error:
        main(["stage1", "--config", "huge", "--data", ".", "--out", "."])
    assert error.value.code == 2
    assert "huge" in capsys.readouterr().err
