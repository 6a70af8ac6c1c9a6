"""``gas-rt engines``: results, --json, exit status, and one clear line for bad input."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from gas_rt.cli import main
from gas_rt.engine import PlanStore, open_bundle
from tests.engine.plans import a_key, built, python

Capture = pytest.CaptureFixture[str]


def engines(*arguments: object) -> int:
    return main(["engines", *(str(a) for a in arguments)])


def document(capsys: Capture, *arguments: object, status: int = 0) -> dict[str, Any]:
    assert engines(*arguments, "--json") == status
    captured = capsys.readouterr()
    assert captured.err == ""
    found: dict[str, Any] = json.loads(captured.out)
    return found


def refused(capsys: Capture, *arguments: object) -> str:
    assert engines(*arguments) == 1
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.strip().splitlines()
    assert line.startswith("gas-rt: error: ")
    return line


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "plans"


def test_build_ls_verify_prune(toy_folder: Path, folder: Path, capsys: Capture) -> None:
    graphs = sorted(open_bundle(toy_folder).graphs)
    flags = ("--model", toy_folder, "--threads", 1, "--precision", "fp32", "--store", folder)
    first = document(capsys, "build", *flags)
    assert sorted(plan["graph"] for plan in first["plans"]) == graphs
    assert {plan["outcome"] for plan in first["plans"]} == {"built"}
    assert first["backend"]["plans"] == "on"
    assert first["command"][:3] == ["gas-rt", "engines", "build"]
    again = document(capsys, "build", *flags)
    assert {plan["outcome"] for plan in again["plans"]} == {"found"}
    assert engines("build", *flags) == 0
    text = capsys.readouterr().out.splitlines()
    assert len(text) == len(graphs)
    assert all(line.startswith("found") for line in text)

    listed = document(capsys, "ls", "--store", folder)
    assert sorted(plan["graph"] for plan in listed["plans"]) == graphs
    assert {plan["elsewhere"] for plan in listed["plans"]} == {""}
    assert listed["bytes"] == sum(file.stat().st_size for file in folder.glob("*.plan"))
    assert document(capsys, "verify", "--store", folder)["plans"] == listed["plans"]

    victim = folder / listed["plans"][0]["file"]
    victim.write_bytes(victim.read_bytes()[:-1])
    checked = document(capsys, "verify", "--store", folder, status=1)
    assert [p["field"] for p in checked["plans"] if p["problem"]] == ["length"]
    assert engines("verify", "--store", folder) == 1
    assert f"{len(graphs)} plans, 1 refused" in capsys.readouterr().out
    assert engines("ls", "--store", folder) == 0  # telling is no failure
    assert "its manifest says" in capsys.readouterr().out

    pruned = document(capsys, "prune", "--store", folder)
    assert [plan["file"] for plan in pruned["plans"]] == [victim.name]
    assert not victim.exists()
    assert len(document(capsys, "prune", "--all", "--store", folder)["plans"]) == len(graphs) - 1
    assert document(capsys, "ls", "--store", folder)["plans"] == []


def test_stale_plans_are_told_and_removed_on_request(
    toy_folder: Path, folder: Path, capsys: Capture
) -> None:
    store = PlanStore.open(folder)
    flags = ("--model", toy_folder, "--threads", 1, "--precision", "fp32", "--store", folder)
    document(capsys, "build", *flags)
    built(store, a_key(os="Plan9 mips"))
    rows = {plan["graph"]: plan for plan in document(capsys, "ls", "--store", folder)["plans"]}
    assert "os: Plan9 mips, wanted" in rows["denoiser"]["elsewhere"]
    assert rows["nerf_field"]["elsewhere"] == ""
    assert document(capsys, "prune", "--store", folder)["plans"] == []
    (gone,) = document(capsys, "prune", "--stale", "--store", folder)["plans"]
    assert gone["graph"] == "denoiser"
    assert len(store.entries()) == 2


def test_prune_to_a_cap(folder: Path, capsys: Capture) -> None:
    store = PlanStore.open(folder)
    for name in ("a", "b", "c"):
        built(store, a_key(name), bytes(1 << 20))
    removed = document(capsys, "prune", "--cap-gib", 1.5 / 1024, "--store", folder)["plans"]
    assert [plan["graph"] for plan in removed] == ["a", "b"]
    assert "expected a number from 0" in refused(
        capsys, "prune", "--cap-gib", "nan", "--store", folder
    )


def test_where_the_store_is(
    folder: Path, toy_folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GAS_RT_PLANS", str(folder))
    assert document(capsys, "ls")["store"] == str(folder)
    monkeypatch.setenv("GAS_RT_PLANS", "off")
    assert "the plan store is off (GAS_RT_PLANS)" in refused(capsys, "ls")
    assert document(capsys, "ls", "--store", folder)["store"] == str(folder)
    folder.chmod(0o777)
    assert "others can write it" in refused(capsys, "ls", "--store", folder)
    assert "neither a shipped bundle" in refused(
        capsys, "build", "--model", "nobody", "--store", folder.parent / "other"
    )
    with pytest.raises(SystemExit) as usage:
        engines()
    assert usage.value.code == 2
    capsys.readouterr()


def test_a_plan_that_cannot_be_kept_is_a_failure(
    toy_folder: Path, folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GAS_RT_PLANS_GIB", "1e-6")
    flags = ("--model", toy_folder, "--threads", 1, "--precision", "fp32", "--store", folder)
    assert engines("build", *flags, "--json") == 1
    captured = capsys.readouterr()
    assert {plan["outcome"] for plan in json.loads(captured.out)["plans"]} == {"not kept"}
    assert "the store's cap is 1074; raise the cap" in captured.err


INTERRUPTED = """
import sys, time
import gas_rt.engine.openvino as backend
from gas_rt.cli import main
compiled = backend.OpenVinoEngine._compile
def slowly(self, spec):
    print("compiling", flush=True)
    time.sleep(1)
    return compiled(self, spec)
backend.OpenVinoEngine._compile = slowly
sys.exit(main(sys.argv[1:]))
"""


def test_ctrl_c_ends_a_build_in_order(toy_folder: Path, folder: Path) -> None:
    with python(INTERRUPTED, "engines", "build", "--model", toy_folder, "--store", folder) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        assert run.stdout.readline() == "compiling\n"
        os.kill(run.pid, signal.SIGINT)
        began = time.perf_counter()
        assert run.wait(60) == 130
        assert time.perf_counter() - began < 30
        assert run.stdout.read() == ""  # the second graph was not begun
        assert run.stderr.read() == "gas-rt: interrupted\n"
    assert PlanStore.open(folder).entries() == []
