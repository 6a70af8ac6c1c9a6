"""Everything of TensorRT that the backend touches is in the real bindings of 10.16 and 11.4.

The bindings are imported over a libnvinfer that this test makes of a few lines of C, in which every
factory returns nothing: enough to see every class and signature, nothing to build or run with. So
this says that the calls exist, not that they work.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.engine.tensorrt_contract import OUT

ROOT = Path(__file__).parents[2]
BINDINGS = ROOT / "build" / "tensorrt"  # put there by `make test`
VERSIONS = {10: "10.16.1.11", 11: "11.4.0.106"}
LIBRARIES = ("nvinfer", "nvinfer_plugin", "nvonnxparser")
SYMBOLS = (
    "createInferBuilder_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "getBuilderPluginRegistry",
    "getPluginRegistry",
    "getNvOnnxParserVersion",
    "initLibNvInferPlugins",
)


@pytest.fixture(scope="module", params=sorted(VERSIONS))
def environment(request: pytest.FixtureRequest, tmp_path_factory: Any) -> dict[str, str]:
    """Where one version's bindings can be imported."""
    major: int = request.param
    bindings = BINDINGS / str(major)
    if not (bindings / "tensorrt_bindings").is_dir():
        pytest.skip(f"TensorRT {VERSIONS[major]}'s bindings are not in {bindings}: 'make test'")
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs Linux and a C compiler")
    folder = tmp_path_factory.mktemp(f"nvinfer{major}")
    source = folder / "standin.c"
    source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in SYMBOLS))
    for name in LIBRARIES:
        soname = f"lib{name}.so.{major}"
        command = [compiler, "-shared", "-fPIC", f"-Wl,-soname,{soname}", "-o", folder / soname]
        subprocess.run([*command, source], check=True, capture_output=True)
    return {
        **os.environ,
        "LD_LIBRARY_PATH": str(folder),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(bindings)]),
        "MAJOR": str(major),
        OUT: str(folder / "touched.json"),
    }


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_backend_touches_only_what_the_bindings_have(environment: dict[str, str]) -> None:
    plugins = ("-p", "no:xdist", "-p", "no:cacheprovider", "-p", "tests.engine.tensorrt_contract")
    done = run(environment, "-m", "pytest", "-q", *plugins, "tests/engine/test_tensorrt.py")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    found = json.loads(Path(environment[OUT]).read_text())
    assert found["version"] == VERSIONS[int(environment["MAJOR"])]
    assert found["missing"] == []  # a line that did not run may touch anything
    assert found["passed"] > 50
    # The recorder records: classes, methods, keywords, properties, members, overridden methods.
    assert {
        "tensorrt_bindings.Builder",
        "OnnxParser.parse_from_file",
        "IBuilderConfig.set_timing_cache(ignore_mismatch)",
        "ICudaEngine.device_memory_size_v2",
        "BuilderFlag.STRIP_PLAN",
        "IBuilderConfig.progress_monitor",
        "IProgressMonitor.step_complete",
        "ILogger.log",
    } <= set(found["touched"])


PROBE = """
import importlib, os, sys
from tests.engine.tensorrt_contract import Contract
from tests.engine.fake_cupy import FakeGpu
from tests.engine.fake_tensorrt import FakeTensorRt
from gas_rt.engine.tensorrt.build import PRECISION_OF_TYPE
from gas_rt.engine.tensorrt.refit import TYPES

real = importlib.import_module("tensorrt_bindings")
fake = FakeTensorRt(FakeGpu()).module()
trt = Contract(real).wrap_module(fake)
builder = trt.Builder(None)
config = builder.create_builder_config()

def refused(call):
    try:
        call()
    except AssertionError:
        return True
    except AttributeError:  # the stand-in does not have it either
        return True
    return False

eleven = real.__version__.startswith("11")
# The real classes decide, not the stand-in: both have these on 10, only the stand-in on 11.
fake.BuilderFlag.FP16 = 9
assert refused(lambda: trt.BuilderFlag.FP16) == eleven
type(config._fake).int8_calibrator = 1
assert refused(lambda: setattr(config, "int8_calibrator", None)) == eleven
assert refused(lambda: builder.create_network(flag=2))
assert refused(lambda: config.set_timing_cache(None))
assert refused(lambda: builder.build_engine)
assert refused(lambda: trt.Builder())
# Names that are compared as text, and a type that is unpacked.
for name in {*TYPES.values(), *PRECISION_OF_TYPE}:
    assert getattr(real.DataType, name).name == name
assert tuple(real.Dims([2, 3])) == (2, 3)
print("probed", real.__version__)
"""


def test_the_contract_notices_what_is_not_there(environment: dict[str, str]) -> None:
    quiet = {name: value for name, value in environment.items() if name != OUT}
    done = run(quiet, "-c", PROBE)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip() == f"probed {VERSIONS[int(environment['MAJOR'])]}"
