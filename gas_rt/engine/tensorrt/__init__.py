"""TensorRT 10.16 and 11, through its own Python API; device memory and streams through CuPy.

No plan has been built and no engine has been run with this backend yet: it was written where
there is no GPU. What is tested is its control flow, over stand-ins for TensorRT and CuPy, and that
every class, method, keyword and enum member it uses is in the real bindings of both versions.
"""

from gas_rt.engine.tensorrt.engine import TensorRtEngine
from gas_rt.engine.tensorrt.graph import DeviceRun, TensorRtGraph

__all__ = ["DeviceRun", "TensorRtEngine", "TensorRtGraph"]
