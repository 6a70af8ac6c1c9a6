"""Twelve ways to hand the plan store something that it must not hand on."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from gas_rt.engine import PlanStore, open_bundle
from gas_rt.engine.openvino import OpenVinoEngine
from gas_rt.engine.plan_key import PlanKey
from gas_rt.errors import GasRtWarning, PlanError
from tests.engine.plans import ROOT, Maker, a_key, built, python
from tests.toy_bundle import write_bundle

OF_THE_FILE = {"format", "signature", "length", "contents"}


@pytest.fixture
def store(tmp_path: Path) -> PlanStore:
    return PlanStore.open(tmp_path / "plans")


def refused(store: PlanStore, key: PlanKey, field: str) -> str:
    """The refusal of a plan; it leaves the store as refused in `verify`, too."""
    with pytest.raises(PlanError) as caught:
        store.find(key)
    assert caught.value.field == field, caught.value
    return str(caught.value)


def test_1_a_flipped_byte_anywhere(store: PlanStore) -> None:
    key = a_key()
    file = built(store, key)
    content = file.read_bytes()
    for at in range(len(content)):
        changed = bytearray(content)
        changed[at] ^= 1
        file.write_bytes(changed)
        with pytest.raises(PlanError) as caught:
            store.find(key)
        assert caught.value.field in OF_THE_FILE, at
    file.write_bytes(bytes([*content[:-1], content[-1] ^ 1]))
    assert "the plan was changed (SHA-256" in refused(store, key, "contents")
    (listed,) = store.verify()
    assert listed.problem is not None
    assert listed.problem.field == "contents"
    file.write_bytes(content)
    assert store.find(key) is not None


def test_2_truncated_anywhere_and_longer(store: PlanStore) -> None:
    key = a_key()
    file = built(store, key)
    content = file.read_bytes()
    for length in range(len(content)):
        file.write_bytes(content[:length])
        with pytest.raises(PlanError) as caught:
            store.find(key)
        assert caught.value.field in OF_THE_FILE, length
    file.write_bytes(content + b"!")
    assert "the plan has 25 bytes, its manifest says 24" in refused(store, key, "length")


def test_3_a_plan_of_another_gpu(store: PlanStore) -> None:
    theirs, ours = a_key(gpu="NVIDIA A100-SXM4-80GB", sm="8.0"), a_key()
    file = built(store, theirs)
    assert store.find(ours) is None
    assert store.why_missing(ours) == "the nearest one kept has other machine.gpu, machine.sm"
    file.rename(store.folder / f"{ours.digest}.plan")
    message = refused(store, ours, "machine.gpu")
    assert "machine.gpu is NVIDIA A100-SXM4-80GB, wanted NVIDIA H200" in message


def test_4_a_plan_of_another_version(store: PlanStore) -> None:
    theirs, ours = a_key(tensorrt="11.4.0.105"), a_key()
    shutil.copy(built(store, theirs), store.folder / f"{ours.digest}.plan")
    message = refused(store, ours, "machine.tensorrt")
    assert "machine.tensorrt is 11.4.0.105, wanted 11.4.0.106" in message


def test_5_a_foreign_manifest(
    store: PlanStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "somebody"))
    theirs = PlanStore.open(tmp_path / "downloaded")
    monkeypatch.undo()
    key = a_key()
    file = built(theirs, key)
    # The whole folder from elsewhere, and one file of it among ours.
    assert "not written by this user on this machine" in refused(
        PlanStore.open(theirs.folder), key, "signature"
    )
    shutil.copy(file, store.folder / file.name)
    refused(store, key, "signature")
    # What it holds is as it was made: only the manifest is not ours.
    assert theirs.find(key) is not None


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o707, 0o1777])
def test_6_a_folder_others_can_write(store: PlanStore, mode: int) -> None:
    key = a_key()
    built(store, key)
    store.folder.chmod(mode)
    assert f"run 'chmod 700 {store.folder}'" in refused(store, key, "mode")
    with pytest.raises(PlanError, match="others can write it"):
        PlanStore.open(store.folder)
    store.folder.chmod(0o700)
    assert store.find(key) is not None


def test_6_a_file_others_can_write_and_a_folder_of_others(
    store: PlanStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = a_key()
    file = built(store, key)
    assert file.stat().st_mode & 0o777 == 0o600
    assert store.folder.stat().st_mode & 0o777 == 0o700
    file.chmod(0o666)
    refused(store, key, "mode")
    file.chmod(0o600)
    monkeypatch.setattr(os, "geteuid", lambda: os.stat(file).st_uid + 1)
    assert "belongs to user" in refused(store, key, "owner")


def test_7_symbolic_links(store: PlanStore, tmp_path: Path) -> None:
    key = a_key()
    file = built(store, key)
    moved = file.rename(tmp_path / "moved.plan")
    file.symlink_to(moved)  # to a plan that is ours in every other way
    assert "is a symbolic link; refused" in refused(store, key, "symlink")
    file.unlink()
    file.symlink_to(tmp_path / "nowhere")
    refused(store, key, "symlink")
    link = tmp_path / "link"
    link.symlink_to(store.folder)
    with pytest.raises(PlanError, match="is a symbolic link; refused, name the folder") as caught:
        PlanStore.open(link)
    assert caught.value.field == "symlink"


def test_7_no_plain_file(store: PlanStore) -> None:
    key = a_key()
    file = store.folder / f"{key.digest}.plan"
    os.mkfifo(file, 0o600)
    refused(store, key, "kind")  # and does not wait for somebody to write into it
    file.unlink()
    file.mkdir(0o700)
    refused(store, key, "kind")


def test_7_links_where_the_store_writes(store: PlanStore, tmp_path: Path) -> None:
    """A link in place of a lock, of the log or of the plan is never written through."""
    key = a_key()
    precious = tmp_path / "precious"
    precious.write_bytes(b"keep me")
    for name in ("uses", f"{key.digest}.plan"):
        (store.folder / name).symlink_to(precious)
    assert store.build(key, Maker()).outcome == "built"
    assert store.find(key) is not None
    other = a_key("decoder")
    (store.folder / f"{other.digest}.lock").symlink_to(precious)
    with pytest.warns(GasRtWarning, match="not kept: its lock cannot be taken"):
        plan = store.build(other, Maker())
    assert (plan.outcome, plan.read()) == ("not kept", Maker().data)
    assert precious.read_bytes() == b"keep me"


def test_8_swapped_files(store: PlanStore) -> None:
    one, two = a_key("denoiser"), a_key("vae_decoder")
    files = [built(store, one, b"one"), built(store, two, b"two")]
    contents = [file.read_bytes() for file in files]
    for file, content in zip(files, reversed(contents), strict=True):
        file.write_bytes(content)
    assert "graph is vae_decoder, wanted denoiser" in refused(store, one, "graph")
    refused(store, two, "graph")
    assert {plan.problem.field for plan in store.entries() if plan.problem} == {"name"}


TWO_BUILDERS = """
import sys, time
from pathlib import Path
from gas_rt.engine import PlanStore
from tests.engine.plans import a_key
folder, calls = map(Path, sys.argv[1:])
def make(steps):
    with calls.open("a") as log:
        log.write("made\\n")
    time.sleep(0.5)
    return b"made once"
plan = PlanStore.open(folder).build(a_key(), make)
print(plan.outcome, plan.read().decode())
"""


def test_9_two_builders_at_once(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    builders = [python(TWO_BUILDERS, tmp_path / "plans", calls) for _ in range(3)]
    outputs = [builder.communicate(timeout=60) for builder in builders]
    assert sorted(out for out, _ in outputs) == [
        "built made once\n",
        "found made once\n",
        "found made once\n",
    ], outputs
    assert calls.read_text() == "made\n"


def test_9_two_threads_at_once(store: PlanStore) -> None:
    key, maker, begun = a_key(), Maker(), threading.Event()

    def make(steps: object) -> bytes:
        begun.set()
        time.sleep(0.2)
        return maker.data

    first = threading.Thread(target=store.build, args=(key, make))
    first.start()
    begun.wait(10)
    doing: list[str] = []
    plan = store.build(key, maker, progress=lambda share, what: doing.append(what))
    first.join()
    assert (plan.outcome, maker.calls) == ("found", 0)
    assert doing[0] == "waiting for another process that builds denoiser"


KILLED = """
import os, signal, sys, time
from pathlib import Path
from gas_rt.engine import PlanStore
from tests.engine.plans import Maker, a_key
folder, when = Path(sys.argv[1]), sys.argv[2]
def make(steps):
    print("building", flush=True)
    if when == "making":
        time.sleep(60)
    return b"x" * 1_000_000
if when == "writing":  # dies between the last byte and the name
    os.rename = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)
PlanStore.open(folder).build(a_key(), make)
"""


@pytest.mark.parametrize("when", ["making", "writing"])
def test_10_killed_during_a_build(store: PlanStore, when: str) -> None:
    with python(KILLED, store.folder, when) as builder:
        assert builder.stdout is not None
        assert builder.stdout.readline() == "building\n"
        if when == "making":
            builder.kill()
        assert builder.wait(60) == -signal.SIGKILL
    left = {path.suffix for path in store.folder.iterdir()}
    assert left == ({".lock"} if when == "making" else {".lock", ".tmp"})
    assert store.find(a_key()) is None
    began = time.perf_counter()
    assert store.build(a_key(), Maker()).outcome == "built"  # the lock died with its holder
    assert time.perf_counter() - began < 5
    assert {path.suffix for path in store.folder.iterdir()} == {".lock", ".plan", ""}


def test_11_a_full_disk(store: PlanStore) -> None:
    """No byte more than 4096 fits; what was built is still good for this run."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    key, maker = a_key(), Maker(bytes(100_000))
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.warns(GasRtWarning, match="graph denoiser: its plan was not kept: .*plans"):
            plan = store.build(key, maker)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (plan.outcome, plan.read()) == ("not kept", maker.data)
    assert store.status.startswith("on, but not kept: ")
    assert {path.suffix for path in store.folder.iterdir()} == {".lock"}
    assert store.find(key) is None


MOUNTED = """
import sys, warnings
from pathlib import Path
from gas_rt.engine import PlanStore
from tests.engine.plans import Maker, a_key
store = PlanStore.open(Path(sys.argv[1]))
small = store.build(a_key("small"), Maker())
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    large = store.build(a_key("large"), Maker(bytes(1_000_000)))
print(small.outcome, large.outcome, len(large.read()), [str(w.message) for w in caught])
import subprocess
subprocess.run(["mount", "-o", "remount,ro", sys.argv[1]], check=True)
store = PlanStore.open(Path(sys.argv[1]))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    large = store.build(a_key("large"), Maker(bytes(1_000_000)))
print(store.find(a_key("small")).read(), large.outcome, store.status, len(caught))
"""


def test_11_a_disk_that_is_really_full_and_then_read_only(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f"mount -t tmpfs -o size=256k,mode=700 none '{disk}'"
    if not shutil.which("unshare") or (
        subprocess.run(["unshare", "-rm", "sh", "-c", mount], capture_output=True).returncode
    ):
        pytest.skip("needs 'unshare -rm' to mount a small disk, which this system does not allow")
    (tmp_path / "run.py").write_text(MOUNTED)
    command = f"{mount} && '{sys.executable}' '{tmp_path}/run.py' '{disk}'"
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", command],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
    )
    full, read_only = done.stdout.splitlines() or [done.stderr]
    assert full.startswith("built not kept 1000000 ['graph large: its plan was not kept: ")
    assert "No space left on device" in full
    plan = "b'a plan, 24 bytes of code'"
    assert read_only == f"{plan} not kept on, but not kept: the store is read only 0"


def test_12_garbage_with_a_valid_hash(store: PlanStore, tmp_path: Path) -> None:
    """Sealed as ours: only the deserialiser can tell, and must not be the end of it."""
    bundle = open_bundle(write_bundle(tmp_path / "toy", body=b"a body", vertices=10))
    engine = OpenVinoEngine(threads=1, precision="fp32", requested="openvino", store=store)
    spec = bundle.graph("nerf_encoder")
    key = engine.plan_key(spec)
    inputs = {name: np.ones(t.shape, t.dtype) for name, t in spec.inputs.items()}
    expected = engine.load(spec).run(inputs)
    file = store.folder / f"{key.digest}.plan"
    genuine = file.stat().st_size
    for garbage in (b"garbage" * 1000, b"\0" * 100_000):
        file.unlink()
        built(store, key, garbage)
        assert store.find(key) is not None  # the store itself has nothing against it
        with pytest.warns(GasRtWarning, match=r"OpenVINO cannot read its plan .*compiled anew"):
            graph = engine.load(spec)
        for name, array in graph.run(inputs).items():
            np.testing.assert_array_equal(array, expected[name])
        assert abs(file.stat().st_size - genuine) < 1000  # and is replaced


def test_12_garbage_under_a_manifest_with_its_hash(store: PlanStore) -> None:
    """Who can compute SHA-256 still cannot sign."""
    import hashlib
    import json

    key, garbage = a_key(), b"garbage"
    line = json.dumps(
        {
            "bytes": len(garbage),
            "build_ms": 0,
            "key": key.fields(),
            "sha256": hashlib.sha256(garbage).hexdigest(),
        },
        sort_keys=True,
    ).encode()
    for signature in (hashlib.sha256(line).hexdigest().encode(), b"", b"0" * 64):
        file = store.folder / f"{key.digest}.plan"
        file.write_bytes(b"gas-rt plan 1\n" + signature + b"\n" + line + b"\n" + garbage)
        file.chmod(0o600)
        refused(store, key, "signature")
