"""Compiles the CUDA kernels and their bindings for the CPU; see cuda_emulator.h."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import shutil
import subprocess
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[3]
HERE = Path(__file__).parent
SANITIZE = os.environ.get("GAS_RT_SANITIZE", "")  # as `make sanitize` builds the CPU kernels
BUILT = ROOT / "build" / ("emulated-sanitized" if SANITIZE else "emulated")
NOT_FUSED = {"skinning", "raster", "shell"}  # as setup.py compiles them


def compiler() -> str | None:
    """The C++ compiler, if there is one."""
    return shutil.which("c++") or shutil.which("g++")


def emulated_module() -> ModuleType:
    """The `_cuda` module that runs its kernels on the CPU, built if it is not up to date."""
    BUILT.mkdir(parents=True, exist_ok=True)
    target = BUILT / "_cuda.so"
    with (BUILT / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # test workers build it once
        sources = [p for folder in (ROOT / "cpp_ext", HERE) for p in folder.rglob("*.*")]
        newest = max(p.stat().st_mtime for p in sources)
        if not target.exists() or target.stat().st_mtime < newest:
            _build(target)
    spec = importlib.util.spec_from_file_location("_cuda", target)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _build(target: Path) -> None:
    import nanobind

    core = Path(nanobind.source_dir())
    include = [ROOT / "cpp_ext" / "include", ROOT / "cpp_ext" / "cuda", HERE]
    include += [Path(nanobind.include_dir()), core, core.parent / "ext" / "robin_map" / "include"]
    include.append(Path(sysconfig.get_paths()["include"]))
    # A domain of its own: on a machine with a GPU the real module may be loaded too.
    flags = ["-std=c++17", "-fPIC", "-fvisibility=hidden", "-w", "-Wno-psabi"]
    flags += ["-DGAS_RT_EMULATED=1", "-DGAS_RT_NO_LANES", "-DNB_DOMAIN=emulated", "-DNDEBUG"]
    flags += [f"-I{path}" for path in include]
    if SANITIZE:
        flags += [f"-fsanitize={SANITIZE}", "-fno-sanitize-recover=all", "-g1"]
    kernels = [p for p in (ROOT / "cpp_ext" / "cuda").glob("*.cu") if p.stem != "runtime"]
    others = [HERE / "runtime.cpp", core / "nb_combined.cpp"]
    others += (ROOT / "cpp_ext" / "bindings" / "cuda").glob("*.cpp")

    def compile_one(source: Path) -> str:
        made = BUILT / f"{source.stem}.o"
        contract = "off" if source.stem in NOT_FUSED else "fast"
        # Only kernels take time; the rest compiles in half of it without optimisation.
        level = ["-O1"] if source in kernels else ["-O0", "-fno-strict-aliasing"]
        command = [str(compiler()), *flags, *level, f"-ffp-contract={contract}"]
        command += ["-x", "c++", "-c", str(source), "-o", str(made)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return str(made)

    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(compile_one, [*kernels, *others]))
    subprocess.run([str(compiler()), "-shared", *objects, "-o", str(target)], check=True)
