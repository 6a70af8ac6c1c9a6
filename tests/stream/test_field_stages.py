"""The field's stages: a pose that stays is posed once, and a new one is not missed."""

from __future__ import annotations

import numpy as np

from gas_rt.core import Camera, Pose, Request
from gas_rt.stream.field_stages import BodyStage
from gas_rt.stream.stages import Job
from tests.stream.conftest import pose


class CountingRig:
    """Counts how often it is posed."""

    def __init__(self) -> None:
        self.posed: list[Pose] = []

    def pose(self, pose: Pose, *, threads: int) -> int:
        self.posed.append(pose)
        return len(self.posed)


def payload(stage: BodyStage, value: Pose, camera: Camera) -> object:
    job = Job(0, 0, Request(value, camera), captured_ns=0, pushed_ns=0)
    (done,) = stage.process(job)
    assert set(done.stages_ms) == {"body"}
    return done.payload


def test_equal_poses_are_posed_once(camera: Camera) -> None:
    rig = CountingRig()
    stage = BodyStage(rig, threads=1)  # type: ignore[arg-type]
    assert [payload(stage, pose(v), camera) for v in (1, 1, 1)] == [1, 1, 1]
    assert payload(stage, pose(2), camera) == 2
    turned = np.zeros((24, 3), np.float32)
    turned[3, 1] = 1e-6
    assert payload(stage, Pose(turned, np.array([2, 0, 0], np.float32)), camera) == 3
    assert payload(stage, pose(1), camera) == 4
    stage.close()
    assert payload(stage, pose(1), camera) == 5
