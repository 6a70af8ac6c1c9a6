"""Build of gas-rt: the native CPU kernels, and the bundles as package data.

Every file of ``cpp_ext/cpu`` is compiled once per instruction set into its own namespace
(``GAS_RT_ISA``); the extension picks one when it is loaded, so one build runs on any x86-64
machine and uses what the machine has. ``cpp_ext/cpu/shared`` is compiled once.

The CUDA kernels are an extension of their own, which the package works without. ``GAS_RT_CUDA``
says when it is built: ``auto`` (the default) where nvcc and an NVIDIA driver are, so that nobody
compiles for a GPU that is not there; ``1`` always, failing without nvcc; ``0`` never.
"""

from __future__ import annotations

import ctypes
import logging
import os
import platform
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.errors import CompileError, SetupError

log = logging.getLogger(__name__)

ROOT = Path(__file__).parent
CPP = Path("cpp_ext")
BUNDLES = ("gas-mini",)
CUDA_MODULE = "gas_rt.kernels._cuda"
WARNINGS = ["-Wall", "-Wextra", "-Wno-psabi"]  # psabi: vectors only pass inside one object
COMMON_FLAGS = ["-std=c++17", "-O3", "-g0", "-fvisibility=hidden", "-pthread", *WARNINGS]
CORE_FLAGS = ["-std=c++17", "-O2", "-g0", "-fvisibility=hidden", "-fno-strict-aliasing"]
# Files whose multiplications and additions may be fused. Elsewhere they stay separate: geometry
# then returns the same bits on every instruction set, and the raster has no holes.
FUSED_PREFIXES = ("field", "march")
# g++ 11 and clang 13 are the first with all of these levels and the vector extensions.
LOWEST_GCC, LOWEST_CLANG = 11, 13
ISAS_X86 = {
    "base": [],
    "avx2": ["-march=x86-64-v3"],
    "avx512": ["-march=x86-64-v4", "-mprefer-vector-width=512"],
}


# The GPUs there is machine code for: A100, H100 and H200, B200, RTX 50; later ones compile the PTX
# of the newest when the kernels are first loaded.
CUDA_ARCHS = ("80", "90", "100", "120")
CUDA_FLAGS = ["-std=c++17", "-O3", "-Xptxas=-v", "-Xcompiler=-fPIC,-fvisibility=hidden"]


def find_nvcc() -> Path | None:
    """nvcc of the path, of CUDA_HOME, or of the usual place."""
    home = os.environ.get("CUDA_HOME") or "/usr/local/cuda"
    found = shutil.which("nvcc") or shutil.which("nvcc", path=f"{home}/bin")
    return None if found is None else Path(found)


def knows_targets(nvcc: Path) -> bool:
    """Whether nvcc is recent enough for every GPU there is machine code for."""
    try:
        done = subprocess.run([nvcc, "--list-gpu-code"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return False
    return {f"sm_{arch}" for arch in CUDA_ARCHS} <= set(done.stdout.split())


def has_driver() -> bool:
    """Whether this machine has an NVIDIA driver."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def wants_cuda() -> bool:
    """Whether GAS_RT_CUDA and this machine ask for the CUDA kernels."""
    choice = os.environ.get("GAS_RT_CUDA") or "auto"
    if choice not in {"auto", "0", "1"}:
        raise SetupError(f"GAS_RT_CUDA: expected auto, 0 or 1, got {choice!r}; unset or correct it")
    nvcc = find_nvcc()
    usable = nvcc is not None and knows_targets(nvcc)
    if choice == "1" and not usable:
        where = "no nvcc on the path, in CUDA_HOME/bin or in /usr/local/cuda/bin"
        found = where if nvcc is None else f"{nvcc} does not know sm_{CUDA_ARCHS[-1]}"
        raise SetupError(
            f"GAS_RT_CUDA=1: {found}; install the CUDA toolkit 13 or newer, or set GAS_RT_CUDA=0"
        )
    return usable and (choice == "1" or (choice == "auto" and has_driver()))


# A checked build, for the tests: the names of GCC's sanitizers, such as address,undefined. It needs
# their runtimes preloaded, see the Makefile's `sanitize`.
SANITIZE = os.environ.get("GAS_RT_SANITIZE", "")


def sanitizer_flags() -> list[str]:
    """What to add when compiling and linking; a finding ends the process."""
    if not SANITIZE:
        return []
    return [f"-fsanitize={SANITIZE}", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g1"]


def check_compiler(command: list[str]) -> None:
    """Raises unless the compiler is new enough: its own words would be a page of errors."""
    probe = [*command, "-E", "-P", "-x", "c++", "-"]
    names = "__GNUC__ __clang_major__"
    try:
        done = subprocess.run(probe, input=names, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise CompileError(f"gas-rt needs a C++ compiler: {command[0]}: {error}") from error
    gcc, clang = done.stdout.split()[-2:]
    is_clang = clang.isdigit()
    name, version = ("clang", int(clang)) if is_clang else ("g++", int(gcc))
    if version < (LOWEST_CLANG if is_clang else LOWEST_GCC):
        raise CompileError(
            f"gas-rt needs g++ {LOWEST_GCC} or clang {LOWEST_CLANG} or newer; {command[0]} is "
            f"{name} {version}; name another one by the environment variables CC and CXX"
        )


def isas() -> dict[str, list[str]]:
    """Instruction sets to compile for on this machine's architecture."""
    if platform.machine().lower() in {"x86_64", "amd64"}:
        return ISAS_X86
    return {"base": []}


class BuildNative(build_ext):
    """Compiles the CPU drivers per instruction set, or the CUDA ones, and links the bindings."""

    def build_extension(self, ext: Extension) -> None:
        import nanobind

        check_compiler(self.compiler.compiler_so_cxx)
        core = Path(nanobind.source_dir())
        include = [CPP / "include", nanobind.include_dir(), core, *self.include_dirs]
        include.append(core.parent / "ext" / "robin_map" / "include")
        if ext.name == CUDA_MODULE:
            self._build_cuda(ext, core, include)
            return
        have = [f"GAS_RT_HAVE_{isa.upper()}=1" for isa in isas()]
        # The linker keeps the first of the inline functions that several objects define. So the
        # objects go from the narrowest instruction set to the widest, and none of them can end up
        # calling code that the machine it was chosen for does not run.
        jobs = [self._job(core / "nb_combined.cpp", "nanobind", include, ["NDEBUG=1"], CORE_FLAGS)]
        for source in [*map(Path, ext.sources), *sorted((CPP / "cpu" / "shared").glob("*.cpp"))]:
            flags = [*COMMON_FLAGS, *sanitizer_flags()]
            jobs.append(self._job(source, source.parent.name, include, have, flags))
        for isa, isa_flags in isas().items():
            macros = [*have, f"GAS_RT_ISA={isa}"]
            for source in sorted((CPP / "cpu").glob("*.cpp")):
                fast = source.stem.startswith(FUSED_PREFIXES)
                contract = "-ffp-contract=" + ("fast" if fast else "off")
                options = [*COMMON_FLAGS, *isa_flags, contract, *sanitizer_flags()]
                jobs.append(self._job(source, isa, include, macros, options))
        self.compiler.link_shared_object(
            self._compile_all(jobs),
            str(self._target(ext)),
            extra_postargs=["-pthread", *sanitizer_flags()],
            target_lang="c++",
        )

    def _build_cuda(self, ext: Extension, core: Path, include: list[Any]) -> None:
        nvcc = find_nvcc()
        assert nvcc is not None, "wants_cuda() looked"
        kernels = [CPP / "include", CPP / "cuda"]
        jobs = [self._job(core / "nb_combined.cpp", "nanobind", include, ["NDEBUG=1"], CORE_FLAGS)]
        for source in map(Path, ext.sources):
            jobs.append(self._job(source, "cuda", [*include, *kernels], [], COMMON_FLAGS))
        for source in sorted((CPP / "cuda").glob("*.cu")):
            flags = [*CUDA_FLAGS, "--fmad=" + str(source.stem.startswith(FUSED_PREFIXES)).lower()]
            flags += [f"-gencode=arch=compute_{a},code=sm_{a}" for a in CUDA_ARCHS]
            newest = CUDA_ARCHS[-1]
            flags.append(f"-gencode=arch=compute_{newest},code=compute_{newest}")
            jobs.append(self._job(source, "cuda", kernels, [], flags, compiler=[str(nvcc)]))
        target = self._target(ext)
        # nvcc knows where its runtime is. Static, so that no CUDA library is needed to load the
        # module: it finds the driver itself.
        link = [str(nvcc), "-shared", "-cudart=static", "--no-device-link", "-Xcompiler=-pthread"]
        self.spawn([*link, *self._compile_all(jobs), "-o", str(target)])

    def _compile_all(self, jobs: list[Any]) -> list[str]:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return list(pool.map(self._compile, jobs))

    def _target(self, ext: Extension) -> Path:
        target = Path(self.get_ext_fullpath(ext.name))
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def _job(
        self,
        source: Path,
        folder: str,
        include: list[Any],
        macros: list[str],
        flags: list[str],
        *,
        compiler: list[str] | None = None,
    ) -> tuple[Path, Path, list[str]]:
        target = Path(self.build_temp) / folder / f"{source.stem}.o"
        command = [*(compiler or self.compiler.compiler_so_cxx), *flags]
        command += (f"-D{macro}" for macro in macros)
        command += [
            *(f"-I{path}" for path in include),
            "-MMD",
            "-c",
            str(source),
            "-o",
            str(target),
        ]
        return source, target, command

    def _compile(self, job: tuple[Path, Path, list[str]]) -> str:
        """Runs a job, unless its object is up to date."""
        source, target, command = job
        recipe = target.with_suffix(".command")
        if not self.force and up_to_date(target, recipe, command):
            return str(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        recipe.unlink(missing_ok=True)
        log.info("compiling %s into %s", source, target)
        try:
            if source.suffix == ".cu":  # ptxas says what each kernel takes; kept for the report
                done = subprocess.run(command, check=False, stderr=subprocess.PIPE, text=True)
                target.with_suffix(".ptxas").write_text(done.stderr)
                if done.returncode != 0:
                    raise CompileError(f"{source}: {done.stderr}")
            else:
                subprocess.run(command, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise CompileError(f"{source}: {error}") from error
        recipe.write_text("\0".join(command))
        return str(target)


def up_to_date(target: Path, recipe: Path, command: list[str]) -> bool:
    """Whether the object exists, was made by this command, and nothing it includes has changed."""
    depends = target.with_suffix(".d")
    if not (target.exists() and recipe.exists() and depends.exists()):
        return False
    if recipe.read_text() != "\0".join(command):
        return False
    files = depends.read_text().replace("\\\n", " ").split(":", 1)[1].split()
    made = target.stat().st_mtime
    return all(Path(file).exists() and Path(file).stat().st_mtime < made for file in files)


class BuildPy(build_py):
    """Copies the bundles into the package, so that ``gas_rt.load("gas-mini")`` works installed."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        for name in BUNDLES:
            source = ROOT / "engines" / name
            if source.is_dir():
                target = Path(self.build_lib) / "gas_rt" / "bundles" / name
                shutil.rmtree(target, ignore_errors=True)  # of an earlier build
                shutil.copytree(source, target)


if sys.platform == "win32":
    sys.exit("gas-rt builds on Linux and macOS; on Windows use WSL.")

modules = [Extension("gas_rt.kernels._native", sorted(map(str, (CPP / "bindings").glob("*.cpp"))))]
if wants_cuda():
    sources = sorted(map(str, (CPP / "bindings" / "cuda").glob("*.cpp")))
    # The package works without it, so only who asked for it sees a failure as an error.
    optional = os.environ.get("GAS_RT_CUDA") != "1"
    modules.append(Extension(CUDA_MODULE, sources, optional=optional))

setup(
    ext_modules=modules,
    cmdclass={"build_ext": BuildNative, "build_py": BuildPy},
)
