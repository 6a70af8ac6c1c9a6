"""The kernels' math is plain C++17: what is GCC's alone is kept in two headers, by a switch."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INCLUDE = ROOT / "cpp_ext" / "include"
HEADERS = sorted(INCLUDE.rglob("*.h"))
# Those that look which compiler it is; the others use what they define.
PORTING = {"host_device.h", "lanes.h"}
GNU_ONLY = re.compile(r"__attribute__|__builtin_|__extension__|typeof|\?:|unsigned __int128")


@pytest.mark.parametrize("path", HEADERS, ids=lambda p: p.name)
def test_headers_leave_compilers_to_the_porting_ones(path: Path) -> None:
    text = path.read_text()
    assert text.startswith("//"), "it begins by saying what it is"
    assert "#pragma once" in text
    if path.name not in PORTING:
        assert not GNU_ONLY.findall(text)


@pytest.mark.parametrize("lanes", ["vectors", "loops"])
def test_headers_compile_as_standard_cpp(lanes: str, tmp_path: Path) -> None:
    """With loops in place of vectors they are standard C++, as every compiler takes it."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("there is no C++ compiler")
    source = tmp_path / "all.cpp"
    source.write_text("".join(f'#include "{p.relative_to(INCLUDE)}"\n' for p in HEADERS))
    command = [compiler, "-std=c++17", "-fsyntax-only", f"-I{INCLUDE}", "-Wall", "-Wextra"]
    command += ["-Werror", "-Wno-psabi"]
    if lanes == "loops":
        command += ["-DGAS_RT_NO_LANES", "-pedantic-errors"]
    done = subprocess.run([*command, str(source)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
