"""Build of gas-rt: the native CPU kernels, and the bundles as package data.

Every file of ``cpp_ext/cpu`` is compiled once per instruction set into its own namespace
(``GAS_RT_ISA``); the extension picks one when it is loaded, so one build runs on any x86-64
machine and uses what the machine has.
"""

from __future__ import annotations

import platform
import shutil
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
CPP = Path("cpp_ext")
BUNDLES = ("gas-mini",)
COMMON_FLAGS = ["-std=c++17", "-O3", "-fvisibility=hidden", "-Wall", "-Wextra", "-pthread"]
ISAS_X86 = {
    "base": [],
    "avx2": ["-march=x86-64-v3"],
    "avx512": ["-march=x86-64-v4", "-mprefer-vector-width=512"],
}


def isas() -> dict[str, list[str]]:
    """Instruction sets to compile for on this machine's architecture."""
    if platform.machine().lower() in {"x86_64", "amd64"}:
        return ISAS_X86
    return {"base": []}


class BuildNative(build_ext):
    """Compiles the CPU drivers per instruction set and links them with the bindings."""

    def build_extension(self, ext: Extension) -> None:
        import nanobind

        build_temp = Path(self.build_temp)
        include = [str(CPP / "include"), nanobind.include_dir()]
        robin_map = Path(nanobind.source_dir()).parent / "ext" / "robin_map" / "include"
        include += [str(robin_map), nanobind.source_dir(), *ext.include_dirs]
        objects: list[str] = []
        for isa, flags in isas().items():
            objects += self._compile(
                sorted(map(str, (CPP / "cpu").glob("*.cpp"))),
                build_temp / isa,
                include,
                [("GAS_RT_ISA", isa)],
                [*COMMON_FLAGS, *flags],
            )
        macros = [(f"GAS_RT_HAVE_{isa.upper()}", "1") for isa in isas()]
        objects += self._compile(
            ext.sources, build_temp / "bindings", include, macros, COMMON_FLAGS
        )
        nanobind_core = str(Path(nanobind.source_dir()) / "nb_combined.cpp")
        objects += self._compile(
            [nanobind_core],
            build_temp / "nanobind",
            include,
            [("NDEBUG", "1")],
            ["-std=c++17", "-O2", "-fvisibility=hidden", "-fno-strict-aliasing"],
        )
        target = Path(self.get_ext_fullpath(ext.name))
        target.parent.mkdir(parents=True, exist_ok=True)
        self.compiler.link_shared_object(
            objects, str(target), extra_postargs=["-pthread"], target_lang="c++"
        )

    def _compile(
        self,
        sources: list[str],
        build_temp: Path,
        include: list[str],
        macros: list[tuple[str, str]],
        flags: list[str],
    ) -> list[str]:
        depends = [str(p) for p in sorted(CPP.rglob("*.h"))]
        objects: list[str] = []
        for source in sources:
            target = build_temp / (Path(source).stem + ".o")
            newest = max(Path(p).stat().st_mtime for p in [source, "setup.py", *depends])
            if not (target.exists() and target.stat().st_mtime > newest):
                target.parent.mkdir(parents=True, exist_ok=True)
                command = [*self.compiler.compiler_so_cxx, *flags]
                command += [f"-D{name}={value}" for name, value in macros]
                command += [f"-I{path}" for path in include] + [
                    "-I" + path for path in self.include_dirs
                ]
                self.compiler.spawn([*command, "-c", source, "-o", str(target)])
            objects.append(str(target))
        return objects


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
                shutil.copytree(source, target, dirs_exist_ok=True)


if sys.platform == "win32":
    sys.exit("gas-rt builds on Linux and macOS; on Windows use WSL.")

setup(
    ext_modules=[
        Extension("gas_rt.kernels._native", sorted(map(str, (CPP / "bindings").glob("*.cpp"))))
    ],
    cmdclass={"build_ext": BuildNative, "build_py": BuildPy},
)
