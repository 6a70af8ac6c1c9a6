"""The plan store at work: building, waiting, cancelling, the cap, timings, and no store at all."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

import gas_rt
from gas_rt.engine import PlanStore
from gas_rt.engine.plan_file import SECRET_NAME
from gas_rt.engine.plan_store import BuildSteps, default_folder
from gas_rt.errors import BackendError, BuildCancelledError, GasRtWarning, InputError, PlanError
from gas_rt.settings import plan_settings
from tests.engine.plans import Maker, a_key, built


@pytest.fixture
def store(tmp_path: Path) -> PlanStore:
    return PlanStore.open(tmp_path / "plans")


def kept(store: PlanStore) -> list[str]:
    """Graphs in the store, the one used longest ago first."""
    return [plan.key["graph"] for plan in store.entries()]


def test_what_is_built_is_found(store: PlanStore) -> None:
    key, maker = a_key(), Maker()
    assert store.find(key) is None
    plan = store.build(key, maker)
    assert (plan.outcome, plan.why) == ("built", "none of this graph was kept before")
    found = PlanStore.open(store.folder).find(key)
    assert found is not None
    assert (found.outcome, found.read()) == ("found", maker.data)
    assert store.build(key, maker).outcome == "found"
    assert maker.calls == 1
    assert store.find(a_key("decoder")) is None
    (listed,) = store.verify()
    assert listed.key == key.fields()
    assert listed.problem is None
    assert [p.outcome for p in store.recent] == ["built", "found"]


def test_one_plan_serves_one_key_only(store: PlanStore) -> None:
    built(store, a_key())
    for field, value in (("driver", "580.65.07"), ("cuda", "13.1"), ("os", "Linux aarch64")):
        other = a_key(**{field: value})
        assert store.find(other) is None
        assert store.why_missing(other) == f"the nearest one kept has other machine.{field}"


def test_a_refused_plan_is_replaced(store: PlanStore) -> None:
    key = a_key()
    built(store, key).write_bytes(b"not a plan at all")
    with pytest.raises(PlanError, match="begins with b'not a plan at ', which no plan file"):
        store.find(key)
    assert store.build(key, Maker(b"anew")).outcome == "built"
    found = store.find(key)
    assert found is not None
    assert found.read() == b"anew"


def test_a_lock_file_left_behind_blocks_nobody(store: PlanStore) -> None:
    key = a_key()
    (store.folder / f"{key.digest}.lock").write_text("12345")
    began = time.perf_counter()
    assert store.build(key, Maker()).outcome == "built"
    assert time.perf_counter() - began < 5


def test_progress_and_cancel(store: PlanStore) -> None:
    cancel, told = threading.Event(), []

    def make(steps: BuildSteps) -> bytes:
        steps.tell(0.25, "parsing")
        assert not steps.cancelled
        cancel.set()
        assert steps.cancelled
        steps.tell(0.5, "timing")
        return b"never"

    with pytest.raises(BuildCancelledError, match="cancelled while timing; nothing was kept"):
        store.build(a_key(), make, progress=lambda s, doing: told.append((s, doing)), cancel=cancel)
    assert told == [(0.0, "starting"), (0.25, "parsing")]
    assert store.entries() == []
    assert store.build(a_key(), Maker()).outcome == "built"  # its lock was let go of


def test_cancel_after_the_backend_returned(store: PlanStore) -> None:
    """A backend that cannot be interrupted has its plan thrown away."""
    cancel = threading.Event()

    def make(steps: BuildSteps) -> bytes:
        cancel.set()
        return b"too late"

    with pytest.raises(BuildCancelledError, match="while keeping the plan"):
        store.build(a_key(), make, cancel=cancel)
    assert store.find(a_key()) is None


def test_cancel_while_waiting_for_another_builder(store: PlanStore) -> None:
    key, begun, end = a_key(), threading.Event(), threading.Event()

    def make(steps: BuildSteps) -> bytes:
        begun.set()
        end.wait(30)
        return b"theirs"

    other = threading.Thread(target=store.build, args=(key, make))
    other.start()
    begun.wait(10)
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(BuildCancelledError, match="waiting for another process that builds"):
        store.build(key, Maker(), cancel=cancel)
    end.set()
    other.join()
    assert store.find(key) is not None


def test_a_failed_build_leaves_nothing(store: PlanStore) -> None:
    def make(steps: BuildSteps) -> bytes:
        raise BackendError("layer 17 has no implementation")

    with pytest.raises(BackendError, match="layer 17"):
        store.build(a_key(), make)
    with pytest.raises(BackendError, match="made an empty plan"):
        store.build(a_key(), Maker(b""))
    assert store.entries() == []


def test_the_cap_removes_what_was_used_longest_ago(tmp_path: Path) -> None:
    store = PlanStore.open(tmp_path / "plans", cap_bytes=10_000)
    keys = {name: a_key(name) for name in "abcd"}
    for name in "abc":
        built(store, keys[name], bytes(2500))
    assert store.find(keys["a"]) is not None
    built(store, keys["d"], bytes(2500))
    assert kept(store) == ["c", "a", "d"]
    assert not (store.folder / f"{keys['b'].digest}.lock").exists()
    with pytest.warns(GasRtWarning, match="it has 10001 bytes, the store's cap is 10000; raise"):
        plan = store.build(a_key("large"), Maker(bytes(10_001)))
    assert (plan.outcome, len(plan.read())) == ("not kept", 10_001)
    assert [plan.key["graph"] for plan in store.prune(cap_bytes=4000)] == ["c", "a"]
    assert kept(store) == ["d"]


def test_the_order_of_uses_needs_no_clock(
    store: PlanStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock set back and files with any dates leave the order alone."""
    clock = iter(range(10**6, 0, -1))
    monkeypatch.setattr(time, "time", lambda: float(next(clock)))
    monkeypatch.setattr(time, "time_ns", lambda: next(clock))
    for number, name in enumerate("abcd"):
        os.utime(built(store, a_key(name)), ns=(-number, 10**18 - number))
    store.find(a_key("b"))
    store.find(a_key("a"))
    assert kept(store) == ["c", "d", "b", "a"]
    assert kept(PlanStore.open(store.folder)) == ["c", "d", "b", "a"]


def test_the_log_of_uses_stays_small(store: PlanStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gas_rt.engine.plan_store.USES_BYTES_MAX", 1000)
    for name in "abc":
        built(store, a_key(name))
    for _ in range(40):
        store.find(a_key("b"))
    assert (store.folder / "uses").stat().st_size <= 1000
    assert kept(store) == ["a", "c", "b"]
    (store.folder / "uses").write_bytes(b"\xff\0 nonsense\n" * 50)
    assert sorted(kept(store)) == ["a", "b", "c"]  # order is lost, nothing else


def test_prune_leaves_what_is_being_built_and_what_is_not_ours(store: PlanStore) -> None:
    for name in "ab":
        built(store, a_key(name))
    damaged = built(store, a_key("c"))
    damaged.write_bytes(b"?")
    (store.folder / f".{a_key('gone').digest}.plan.0123.tmp").write_bytes(b"half")
    (store.folder / f"{a_key('gone').digest}.lock").touch()
    (store.folder / "notes.txt").write_text("somebody's")
    with store._folder.locked(f"{a_key('a').digest}.lock", wait=None) as free:
        assert free
        removed = store.prune(drop=lambda plan: True)
    assert {plan.key.get("graph", "refused") for plan in removed} == {"b", "refused"}
    assert kept(store) == ["a"]
    left = {path.name for path in store.folder.iterdir()}
    digest = a_key("a").digest
    assert left == {f"{digest}.plan", f"{digest}.lock", "uses", "notes.txt"}


def test_a_build_leaves_the_plans_of_others_alone(
    store: PlanStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two machines may share a folder: each refuses the other's plans, neither removes them."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "other machine"))
    theirs = PlanStore.open(store.folder)
    monkeypatch.undo()
    built(theirs, a_key("a"))
    built(store, a_key("b"))
    assert theirs.find(a_key("a")) is not None
    assert store.find(a_key("b")) is not None
    assert [bool(plan.problem) for plan in store.entries()] == [True, False]
    assert len(store.prune()) == 1  # asked for, they go


@pytest.mark.parametrize("what", ["writable", "link", "fifo", "folder"])
def test_a_log_of_uses_that_is_not_ours_is_no_reason_to_refuse(
    store: PlanStore, tmp_path: Path, what: str
) -> None:
    built(store, a_key())
    log = store.folder / "uses"
    if what == "writable":
        log.chmod(0o666)
    else:
        log.unlink()
        make = {"link": lambda: log.symlink_to(tmp_path / "x"), "fifo": lambda: os.mkfifo(log)}
        make.get(what, log.mkdir)()
    assert store.find(a_key()) is not None
    built(store, a_key("decoder"))
    assert len(store.entries()) == 2
    assert not (tmp_path / "x").exists()


def test_the_timing_cache_is_kept_and_guarded(store: PlanStore) -> None:
    seen = []

    def make(steps: BuildSteps) -> bytes:
        seen.append(steps.timing_cache())
        steps.keep_timing_cache(b"measured")
        return b"plan"

    store.build(a_key("a"), make)
    store.build(a_key("b"), make)
    store.build(a_key("c", driver="581.1"), make)  # what another driver measured is another's
    assert seen == [b"", b"measured", b""]
    for file in store.folder.glob("timing-*"):
        assert file.stat().st_mode & 0o777 == 0o600
        file.write_bytes(file.read_bytes()[:-1] + b"!")
    with pytest.warns(GasRtWarning, match=r"timing cache .* was changed .*; measured anew"):
        store.build(a_key("d"), make)
    assert seen[-1] == b""


def test_a_file_that_changes_during_the_build(store: PlanStore, tmp_path: Path) -> None:
    """The plan of half-replaced weights must not be kept as that of the old ones."""
    from gas_rt.engine.plan_key import plan_key
    from tests.engine.test_plan_key import a_graph, flags_and_machine

    spec = a_graph(tmp_path)
    key = plan_key(spec, **flags_and_machine())

    def make(steps: BuildSteps) -> bytes:
        weights = tmp_path / "weights.bin"
        weights.write_bytes(weights.read_bytes())  # the same bytes: nobody knows what was read
        return b"a plan of we don't know what"

    with pytest.warns(GasRtWarning, match=r"weights\.bin was changed during the build"):
        assert store.build(key, make).outcome == "not kept"
    assert store.find(key) is None


# ---- where there can be no store ------------------------------------------------------------


def test_the_secret_is_guarded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    key = a_key()
    built(PlanStore.open(tmp_path / "plans"), key)
    secret = tmp_path / "state" / "gas-rt" / SECRET_NAME
    assert secret.stat().st_mode & 0o777 == 0o600
    assert secret.stat().st_size == 32
    for mode, message in ((0o640, "others can read it"), (0o602, "others can write it")):
        secret.chmod(mode)
        with pytest.raises(PlanError, match=message):
            PlanStore.open(tmp_path / "plans")
    secret.chmod(0o600)
    secret.write_bytes(b"short")
    with pytest.raises(PlanError, match="has 5 bytes, expected 32; remove it"):
        PlanStore.open(tmp_path / "plans")
    secret.unlink()
    with pytest.raises(PlanError) as caught:  # with a new secret, old plans are strangers'
        PlanStore.open(tmp_path / "plans").find(key)
    assert caught.value.field == "signature"


def test_an_unreadable_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    for variable in ("XDG_CACHE_HOME", "XDG_STATE_HOME"):
        with monkeypatch.context() as patch:
            patch.setenv(variable, str(tmp_path / "file" / "below"))
            with pytest.raises(PlanError, match="cannot be used as a folder") as caught:
                PlanStore.open()
            assert caught.value.field == "unavailable"


def test_no_home_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")

    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nobody)
    with pytest.raises(PlanError, match="no home folder; set XDG_CACHE_HOME"):
        default_folder()
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # the specification says to ignore it
    with pytest.raises(PlanError, match="no home folder"):
        default_folder()


def test_a_system_without_owners_and_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gas_rt.engine.private_folder.fcntl", None)
    with pytest.raises(PlanError, match="no POSIX owners and locks") as caught:
        PlanStore.open(tmp_path / "plans")
    assert caught.value.field == "unavailable"


def test_a_read_only_disk_still_gives(store: PlanStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real one is in test_plan_tampering; here on every system, with access() answering no."""
    built(store, a_key())
    monkeypatch.setattr(os, "access", lambda *args, **kwargs: False)
    before = sorted(path.name for path in store.folder.iterdir())
    closed = PlanStore.open(store.folder)
    assert closed.status == "on, but not kept: the store is read only"
    assert closed.find(a_key()) is not None
    plan = closed.build(a_key("decoder"), Maker())
    assert (plan.outcome, plan.why) == ("not kept", "not kept: the store is read only")
    assert sorted(path.name for path in store.folder.iterdir()) == before


def test_load_works_without_a_store_and_says_so(
    toy_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.warns(GasRtWarning, match="no plan store, graphs are compiled at every start") as w:
        model = gas_rt.load(toy_folder, threads=1, precision="fp32")
    assert len(w) == 1
    with model:
        assert model.backend.plans.startswith(f"none: {tmp_path}/file/gas-rt/plans: cannot be used")
        assert model.info()["backend"]["plans"] == model.backend.plans
        model.parts.graph("nerf_encoder")


def test_load_refuses_a_folder_that_was_asked_for(toy_folder: Path, tmp_path: Path) -> None:
    open_to_all = tmp_path / "plans"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    with pytest.raises(PlanError, match="others can write it"):
        gas_rt.load(toy_folder, threads=1, plans=open_to_all)
    assert list(open_to_all.iterdir()) == []


def test_load_with_a_default_folder_that_others_can_write(
    toy_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "gas-rt" / "plans"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with (
        pytest.warns(GasRtWarning, match="others can write it"),
        gas_rt.load(toy_folder, threads=1) as model,
    ):
        assert "others can write it" in model.backend.plans
    assert list(folder.iterdir()) == []


# ---- settings -------------------------------------------------------------------------------


def test_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, toy_folder: Path) -> None:
    assert plan_settings() == plan_settings(None)
    assert (plan_settings().on, plan_settings().folder, plan_settings().cap_bytes) == (
        True,
        None,
        None,
    )
    monkeypatch.setenv("GAS_RT_PLANS", "off")
    assert not plan_settings().on
    assert plan_settings(tmp_path).folder == tmp_path  # the caller knows better
    with gas_rt.load(toy_folder, threads=1) as model:
        assert model.backend.plans == "off"
        model.parts.graph("nerf_encoder")
    monkeypatch.setenv("GAS_RT_PLANS", "")
    with pytest.raises(InputError, match="GAS_RT_PLANS: empty"):
        plan_settings()
    monkeypatch.setenv("GAS_RT_PLANS", str(tmp_path / "here"))
    monkeypatch.setenv("GAS_RT_PLANS_GIB", "0.5")
    assert plan_settings().folder == tmp_path / "here"
    assert plan_settings().cap_bytes == 1 << 29
    with gas_rt.load(toy_folder, threads=1) as model:
        model.parts.graph("nerf_encoder")
    assert len(list((tmp_path / "here").glob("*.plan"))) == 1
    for bad in ("0", "-1", "many", "nan", "inf", ""):
        monkeypatch.setenv("GAS_RT_PLANS_GIB", bad)
        with pytest.raises(InputError, match="GAS_RT_PLANS_GIB: expected a number above 0"):
            plan_settings()
    with pytest.raises(BackendError, match="a cap of 0 bytes"):
        PlanStore.open(tmp_path / "plans", cap_bytes=0)
