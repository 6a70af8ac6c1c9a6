"""The streaming benchmark: its judgement on a virtual clock, its parts on the toy bundle."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import reporting
from benchmarks.reporting import NEVER, row
from benchmarks.streaming import trouble
from benchmarks.streaming.__main__ import PARTS, main
from benchmarks.streaming.brake import Brake
from benchmarks.streaming.setting import Times, still_with_noise
from gas_rt import Avatar, Request
from gas_rt.bench.drive import Clocks, Sample
from gas_rt.stream.session import SessionStats
from tests.bench.toys import MS, QueueingSession, VirtualTime, request


class ToySetting:
    """What the rows about trouble ask of a setting, on a virtual clock."""

    quick = False
    warm_up = 2
    first_stage = ("work",)
    fps = 25.0
    sustained_fps = 40.0
    times = Times(overload_s=4.0, calm_s=2.0, trouble_s=2.0, after_s=6.0)

    def __init__(self, session: type[QueueingSession] = QueueingSession) -> None:
        self.time = VirtualTime()
        self.kind = session
        self.brake = Brake(clock=lambda: self.time.now)
        self.clocks: Clocks = self.time.clocks

    def session(self, *, on_late: str, fps: float) -> QueueingSession:
        lossless = on_late == "lossless"
        session = self.kind(
            self.time, service_ms=25, slots=4 if lossless else 1, drop_oldest=not lossless
        )
        session.brake = self.brake  # type: ignore[attr-defined]
        session.age_bound_ms = None if lossless else 420.0  # type: ignore[attr-defined]
        return session

    def requests(self) -> Iterator[Request]:
        return itertools.repeat(request())


def judged(part: Any, session: type[QueueingSession] = QueueingSession) -> dict[str, Any]:
    return {r["name"]: r for r in part(ToySetting(session))}


# ---- rows -----------------------------------------------------------------------------------


def test_a_row_is_ok_from_its_ratio_on() -> None:
    assert row("r", 30, 20, "fps", required=1.5, more_is_better=True)["ok"]
    assert not row("r", 29.9, 20, "fps", required=1.5, more_is_better=True)["ok"]
    assert row("r", 100, 250, "ms", required=1, more_is_better=False)["ratio"] == 2.5
    assert row("r", 0, 0, "stalls", required=1, more_is_better=False)["ok"]
    assert not row("r", 1, 0, "stalls", required=1, more_is_better=False)["ok"]
    assert row("r", 5, 0, "frames", required=1, more_is_better=True)["ratio"] == NEVER
    assert row("r", 1, 9, "fps", required=1, more_is_better=True, judged=False)["ok"]
    wrong = row("r", 9, 9, "", required=1, more_is_better=True, judged=False, correct=False)
    assert not wrong["ok"]


# ---- trouble, on a virtual clock ------------------------------------------------------------


def test_overload_is_bounded_and_accounted_for() -> None:
    rows = judged(trouble.overload)
    assert all(r["ok"] for r in rows.values()), rows
    for on_late in ("freshest", "paced"):
        age = rows[f"overload_{on_late}_age"]
        assert age["ours"] < 60
        assert age["peer"] == 420 + 25  # what the session promises, and its first stage
        assert age["periods"] == pytest.approx(age["ours"] / 40, abs=0.01)
    assert "overload_lossless_age" not in rows  # which promises none
    fresh = rows["overload_freshest_dropped"]
    assert fresh["ours"] == fresh["peer"] > 200  # two of three poses
    lossless = rows["overload_lossless_refused"]
    assert lossless["ours"] > 200
    assert rows["overload_lossless_dropped"]["ours"] == 0


class Forgetful(QueueingSession):
    """Loses count of one pose."""

    def stats(self) -> SessionStats:
        stats = super().stats()
        return replace(stats, dropped=max(0, stats.dropped - 1))


class Hoarder(QueueingSession):
    """Queues poses without end."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **{**more, "slots": 10**9})


def test_a_pose_that_is_lost_is_caught() -> None:
    rows = judged(trouble.overload, Forgetful)
    assert not rows["overload_freshest_dropped"]["ok"]
    assert rows["overload_freshest_age"]["ok"]


def test_a_queue_without_end_is_caught() -> None:
    rows = judged(trouble.overload, Hoarder)
    assert not rows["overload_freshest_age"]["ok"]
    assert not rows["overload_lossless_refused"]["ok"]


class OneFrame(QueueingSession):
    """Keeps one frame for who does not poll, as a session does."""

    def _advance(self) -> None:
        super()._advance()
        while len(self.ready) > 1:
            self.ready.popleft()
            self.dropped += 1


def test_a_consumer_that_stops_costs_its_own_frames() -> None:
    rows = judged(trouble.stopped_consumer, OneFrame)
    assert all(r["ok"] for r in rows.values()), rows
    assert rows["stopped_consumer_frames_lost"]["ours"] == pytest.approx(2 * 25, abs=3)
    # One that keeps all of them hands out two seconds of old ones first.
    assert not judged(trouble.stopped_consumer)["stopped_consumer_age_after"]["ok"]


class Slowed(QueueingSession):
    """Four times slower while braked, with no ladder."""

    lesser = "full"

    def _advance(self) -> None:
        braked = self.brake.from_ns <= self.time.now < self.brake.until_ns  # type: ignore[attr-defined]
        self.level = self.lesser if braked else "full"
        self.service_ns = (100 if braked and self.lesser == "full" else 25) * MS
        super()._advance()


class Laddered(Slowed):
    """Shows the field instead, which is as fast as ever."""

    lesser = "field"


def test_a_slow_engine_with_a_ladder() -> None:
    rows = judged(trouble.slow_engine, Laddered)
    assert all(r["ok"] for r in rows.values()), rows
    assert rows["slow_engine_steps_down"]["ours"] == pytest.approx(50, abs=2)
    assert rows["slow_engine_steps_down"]["levels"]["after"].keys() == {"full", "field"} or (
        rows["slow_engine_full_again"]["ours"] == 0
    )


def test_a_slow_engine_without_a_ladder_stalls() -> None:
    rows = judged(trouble.slow_engine, Slowed)
    assert not rows["slow_engine_steps_down"]["ok"]
    assert not rows["slow_engine_stalls"]["ok"]


def samples(levels: str) -> list[Sample]:
    name = {"f": "full", "-": "field"}
    return [Sample(k, 0, k * 1000 * MS, 0, name[c], {}) for k, c in enumerate(levels)]


@pytest.mark.parametrize(
    ("levels", "seconds"),
    [
        ("ffff", 0.0),
        ("---fff", 3.0),
        ("---fff-fffffffffff", 3.0),  # one of fifteen is taken back
        ("---ff-ff", 6.0),
        ("-----", None),
        ("fff-", None),
        ("", None),
    ],
)
def test_when_all_is_in_full_again(levels: str, seconds: float | None) -> None:
    assert trouble.full_again_s(samples(levels)) == seconds


# ---- the brake ------------------------------------------------------------------------------


def test_the_brake_multiplies_a_calls_time_while_it_is_on() -> None:
    time = VirtualTime()

    def call() -> str:
        time.now += 10 * MS
        return "made"

    brake = Brake(clock=lambda: time.now, sleep_s=time.sleep, factor=4.0)
    start = time.now
    brake.from_ns, brake.until_ns = start + 10 * MS, start + 50 * MS
    took = []
    for _ in range(3):
        before = time.now
        assert brake.run(call) == "made"
        took.append((time.now - before) / MS)
    assert took == [10.0, 40.0, 10.0]


# ---- the command on the toy bundle ----------------------------------------------------------


def test_a_still_person_trembles_by_what_was_asked() -> None:
    poses = list(itertools.islice(still_with_noise([request()], 0.01), 50))
    most = max(abs(p.pose.rotations).max() for p in poses)
    assert 0.005 < most <= 0.01


@pytest.fixture(scope="module")
def avatar_path(diffusion_avatar: Avatar, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("avatar") / "a.avatar"
    diffusion_avatar.save(path)
    return path


def test_quick_runs_every_part(
    diffusion_folder: Path,
    avatar_path: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "r.json"
    call = ["--quick", "--json", "--out", str(out), "--model", str(diffusion_folder)]
    call += ["--backend", "openvino", "--precision", "fp32", "--avatar", str(avatar_path)]
    assert main([*call, "--side", "48"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == json.loads(out.read_text())
    assert document["command"][:3] == ["python", "-m", "benchmarks.streaming"]
    assert {"name", "ours", "peer", "unit", "ratio", "required", "ok"} <= set(document["rows"][0])
    ran = {r["name"] for r in document["rows"]}
    assert {"pipelining_on_off", "pipelining_use_of_cores"} <= ran
    for on_late in ("freshest", "paced", "lossless"):
        assert f"overload_{on_late}_dropped" in ran
    assert set(document["skipped"]) <= {"cheap_wins", "slow_engine"}
    assert document["environment"]["load_average"]
    assert set(document["noise"]) == {"other_share", "steal_share", "problems"}


def test_an_unknown_part_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--parts", "nothing"])
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert all(name in said for name in PARTS)


def test_a_row_that_fails_fails_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    args = reporting.argparse.Namespace(json=True, out=None)
    good = row("g", 2, 1, "", required=1, more_is_better=True)
    bad = row("b", 1, 2, "", required=1, more_is_better=True)
    for rows, status in (([good], 0), ([good, bad], 3)):
        done = reporting.finish(args, module="m", command=[], rows=rows, skipped={})
        assert done == status
    capsys.readouterr()
