"""The table of rooms: what each may import, what nobody may call, and that importing is cheap."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from setuptools import find_packages

ROOT = Path(__file__).parents[1]
ALWAYS = {"gas_rt.core", "gas_rt.errors"}

# Room → the gas_rt rooms it may import, beside itself, core and errors.
ROOMS: dict[str, set[str]] = {
    "gas_rt.core": set(),
    "gas_rt.errors": set(),
    "gas_rt.files": set(),
    "gas_rt.kernels": set(),
    "gas_rt.body": {"gas_rt.kernels", "gas_rt.files"},
    "gas_rt.cameras": {"gas_rt.body"},
    "gas_rt.field": {"gas_rt.kernels", "gas_rt.body", "gas_rt.files"},
    "gas_rt.diffusion": set(),
    "gas_rt.engine": {"gas_rt.files", "gas_rt.diffusion"},
    "gas_rt.avatar": {
        "gas_rt.kernels",
        "gas_rt.body",
        "gas_rt.field",
        "gas_rt.diffusion",
        "gas_rt.engine",
        "gas_rt.files",
    },
}
ROOMS["gas_rt.photo"] = set()
ROOMS["gas_rt.settings"] = set()
ROOMS["gas_rt.walks"] = {"gas_rt.cameras"}
ROOMS["gas_rt.tensor_file"] = set()
ROOMS["gas_rt.avatar"] |= {"gas_rt.tensor_file"}
ROOMS["gas_rt.enrollment"] = ROOMS["gas_rt.avatar"] | {"gas_rt.avatar", "gas_rt.photo"}
ROOMS["gas_rt.warming"] = {"gas_rt.engine", "gas_rt.enrollment"}
ROOMS["gas_rt.stream"] = ROOMS["gas_rt.avatar"] | {"gas_rt.avatar", "gas_rt.cameras"}
ROOMS["gas_rt.performer"] = (
    ROOMS["gas_rt.stream"] | ROOMS["gas_rt.enrollment"] | {"gas_rt.stream", "gas_rt.enrollment"}
)
ROOMS["gas_rt.model"] = ROOMS["gas_rt.performer"] | {
    "gas_rt.performer",
    "gas_rt.settings",
    "gas_rt.warming",
}
ROOMS["gas_rt.bench"] = {"gas_rt.stream"}
ROOMS["gas_rt.video"] = {"gas_rt.files"}
REFERENCE_MAY = {"gas_rt.kernels", "gas_rt.body", "gas_rt.diffusion"}

NEVER_IN_RUNTIME = {"torch", "diffusers", "transformers", "pickle", "dill", "joblib", "cloudpickle"}
BANNED_CALLS = {"eval", "exec", "torch.load"}
BANNED_WORDS = ("allow_pickle=True", "shell=True", "engine_host_code_allowed")


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; name the module in full"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(module: str, rooms: set[str]) -> str | None:
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        if (name := ".".join(parts[:length])) in rooms:
            return name
    return None


@pytest.mark.parametrize("path", modules("gas_rt"), ids=module_name)
def test_runtime_rooms_import_only_what_the_table_allows(path: Path) -> None:
    module = module_name(path)
    names = set(imports(path))
    heavy = {name.split(".")[0] for name in names} & NEVER_IN_RUNTIME
    assert not heavy, f"{module} imports {heavy}"
    outside = {n for n in names if n.split(".")[0] in {"reference", "export", "benchmarks"}}
    assert not outside, f"{module} imports {outside}"
    if module == "gas_rt" or module.startswith("gas_rt.cli"):
        return
    own = room_of(module, set(ROOMS))
    assert own is not None, f"{module} is in no room of the table; add it to design and test"
    used = {room_of(n, set(ROOMS)) for n in names if n.startswith("gas_rt.")} - {None, own}
    assert used <= ROOMS[own] | ALWAYS, f"{module} imports {used - ROOMS[own] - ALWAYS}"


@pytest.mark.parametrize("path", modules("reference"), ids=module_name)
def test_reference_uses_only_the_runtimes_foundations(path: Path) -> None:
    if path.is_relative_to(ROOT / "reference" / "evaluate"):
        return  # it measures the runtime beside the teacher, so it sees both
    used = {n for n in imports(path) if n.startswith("gas_rt.")}
    rooms = {room_of(n, set(ROOMS)) for n in used} - {None}
    assert rooms <= REFERENCE_MAY | ALWAYS | {"gas_rt.files", "gas_rt.cameras"}


@pytest.mark.parametrize(
    "path", modules("gas_rt") + modules("reference") + modules("export"), ids=module_name
)
def test_nothing_dangerous_is_called(path: Path) -> None:
    text = path.read_text()
    found = [word for word in BANNED_WORDS if word in text]
    assert not found, f"{path}: {found}"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call):
            call = ast.unparse(node.func)
            safe = call == "torch.load" and any(
                k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in node.keywords
            )
            allowed = safe and not path.is_relative_to(ROOT / "gas_rt")
            assert call not in BANNED_CALLS or allowed, f"{path}:{node.lineno}: {call}"


@pytest.mark.parametrize("path", modules("examples"), ids=module_name)
def test_examples_use_what_a_user_has(path: Path) -> None:
    rooms = {name.split(".")[0] for name in imports(path)}
    assert rooms <= {"gas_rt", "numpy", "pygame"} | sys.stdlib_module_names


def test_cpp_core_sees_no_python_and_no_torch() -> None:
    for path in [*(ROOT / "cpp_ext").rglob("*.h"), *(ROOT / "cpp_ext").rglob("*.cpp")]:
        text = path.read_text()
        assert "torch" not in text, path
        if "bindings" not in path.parts:
            assert "Python.h" not in text, path
            assert "nanobind" not in text, path


def test_importing_gas_rt_loads_nothing_heavy() -> None:
    script = (
        "import sys, gas_rt, gas_rt.cli\n"
        "heavy = {'torch', 'openvino', 'onnxruntime', 'av', 'PIL', 'scipy', 'cupy', 'tensorrt'}\n"
        "print(sorted(heavy & {m.split('.')[0] for m in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "[]"


def test_every_folder_of_the_runtime_is_installed() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    found = settings["packages"]["find"]
    assert not found["namespaces"]
    installed = set(find_packages(str(ROOT), include=found["include"]))
    assert installed == {module_name(path.parent / "__init__.py") for path in modules("gas_rt")}


def test_runtime_requirements_hold_no_torch() -> None:
    text = (ROOT / "requirements" / "runtime.txt").read_text() + (
        ROOT / "pyproject.toml"
    ).read_text()
    assert '"torch' not in text
    assert "torch==" not in text
