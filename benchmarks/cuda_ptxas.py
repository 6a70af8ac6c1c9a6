"""What each CUDA kernel takes on each GPU, as ptxas reports it.

    GAS_RT_CUDA=1 python setup.py build_ext --inplace --force
    python -m benchmarks.cuda_ptxas > benchmarks/results/cuda-ptxas.txt

Exit status 3 if a kernel spills registers. A stack frame without a spill is memory for arguments
out of a function's fast range (the double-precision sine of a huge angle).
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
KERNEL = re.compile(r"Compiling entry function '(\w+)' for 'sm_(\d+)a?'")
# A template's instance: how many features it loads at once, and of which type (float or half).
INSTANCE = re.compile(r"\d+([a-z]+_kernel)(?:ILi(\d)E([ft])E)?")
ENTRIES = {"f": "float", "t": "half"}


@dataclass(frozen=True)
class Use:
    """One kernel on one GPU: registers of a thread, bytes of everything else."""

    file: str
    kernel: str
    arch: int
    registers: int
    stack: int
    spill_stores: int
    spill_loads: int
    shared: int


def read_log(path: Path) -> list[Use]:
    """The kernels in what nvcc said of one file."""
    found, entry, memory = [], None, (0, 0, 0)
    for line in path.read_text().splitlines():
        if match := KERNEL.search(line):
            entry = (short_name(match[1]), int(match[2]))
        elif "bytes stack frame" in line and entry:
            stack, stores, loads = map(int, re.findall(r"(\d+) bytes", line))
            memory = (stack, stores, loads)
        elif (match := re.search(r"Used (\d+) registers", line)) and entry:
            shared = re.search(r"(\d+) bytes smem", line)
            size = int(shared[1]) if shared else 0
            found.append(Use(path.stem, *entry, int(match[1]), *memory, size))
            entry = None
    return found


def short_name(mangled: str) -> str:
    """``march_kernel<4, half>`` of a mangled name."""
    match = INSTANCE.search(mangled)
    if match is None:
        return mangled
    kernel, features, entry = match.groups()
    return str(kernel) if features is None else f"{kernel}<{features}, {ENTRIES[entry]}>"


def main() -> int:
    """Print the table; 0 if nothing spills, else 3."""
    uses = [u for log in sorted(ROOT.glob("build/temp*/cuda/*.ptxas")) for u in read_log(log)]
    if not uses:
        sys.exit("no CUDA build found; run GAS_RT_CUDA=1 python setup.py build_ext --inplace")
    print("What each CUDA kernel takes on each GPU, as ptxas reports it:")
    print("registers of a thread, bytes of everything else.\n")
    print("kernel                      arch  registers  stack  spill stores  spill loads  shared")
    for u in sorted(uses, key=lambda u: (u.file, u.kernel, u.arch)):
        print(
            f"{u.kernel:27} sm_{u.arch:<4}{u.registers:7} {u.stack:6} {u.spill_stores:13} "
            f"{u.spill_loads:12} {u.shared:7}"
        )
    spilled = [u for u in uses if u.spill_stores or u.spill_loads]
    print(f"\n{len(uses)} kernels, {len(spilled)} spill")
    return 3 if spilled else 0


if __name__ == "__main__":
    sys.exit(main())
