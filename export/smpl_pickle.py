"""Reads an original SMPL pickle without executing anything of it; a process of its own.

    python -I smpl_pickle.py MODEL.pkl OUT.npz

SMPL's files are Python 2 pickles of NumPy, SciPy and chumpy objects. A pickle is a program, so
every name it may call is one of the few below, and each stands for a class of this file that only
keeps what it is given. Neither chumpy nor SciPy is imported, and NumPy's own unpickling isn't used.

Run by `export.convert_smpl`. Prints {"error": …} and exits 1 where the file is refused.
"""

from __future__ import annotations

import json
import math
import os
import pickle
import resource
import sys
from typing import Any, ClassVar

import numpy as np

MEMORY_BYTES = 4 << 30  # address space: the largest model, of 300 shapes in doubles, takes 0.6 GB
SECONDS = 120  # of processor time
PICKLE_BYTES_MAX = 1 << 30
OUT_BYTES_MAX = 1 << 30
MEMO_MAX = 1 << 20  # entries: a model has some hundreds
ELEMENTS_MAX = 1 << 27
NESTING_MAX = 8  # of chumpy's views of views
KEYS = ("v_template", "shapedirs", "posedirs", "J_regressor", "weights", "kintree_table", "f")


class RefusedError(Exception):
    """What is wrong with the file."""


class StandIn:
    """Keeps the state that a pickle gives it."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class Array(StandIn):
    """numpy.ndarray."""


class DType(StandIn):
    """numpy.dtype."""


class Scalar(StandIn):
    """numpy's scalars."""


class Sparse(StandIn):
    """scipy.sparse's matrices by columns."""


class Ch(StandIn):
    """chumpy's array."""


class Select(StandIn):
    """chumpy's view of some elements of another."""


class Nothing(StandIn):
    """builtins.object, which only says what is reconstructed from what."""


def reconstruct(kind: Any, *_: Any) -> StandIn:
    """numpy's and copyreg's way to make an object that gets its state afterwards."""
    if not (isinstance(kind, type) and issubclass(kind, StandIn)):
        raise RefusedError(f"makes an object of {kind!r:.80}")
    return kind()


def encode(text: Any, encoding: Any) -> bytes:
    """How Python 3 writes bytes for Python 2."""
    if not isinstance(text, str) or encoding != "latin1":
        raise RefusedError(f"encodes {type(text).__name__} as {encoding!r:.40}")
    return text.encode("latin1")


NAMES: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): Array,
    ("numpy", "dtype"): DType,
    ("_codecs", "encode"): encode,
    ("chumpy.ch", "Ch"): Ch,
    ("chumpy.reordering", "Select"): Select,
}
for core in ("numpy.core.multiarray", "numpy._core.multiarray"):
    NAMES |= {(core, "_reconstruct"): reconstruct, (core, "scalar"): Scalar}
for room in ("scipy.sparse.csc", "scipy.sparse._csc"):
    NAMES[room, "csc_matrix"] = Sparse
for room in ("copy_reg", "copyreg"):
    NAMES[room, "_reconstructor"] = reconstruct
for room in ("__builtin__", "builtins"):
    NAMES[room, "object"] = Nothing


class Memo(dict[int, Any]):
    """What the pickle refers back to."""

    def __setitem__(self, key: int, value: Any) -> None:
        if key > MEMO_MAX:
            raise RefusedError(f"memo entry {key}, at most {MEMO_MAX} are expected")
        super().__setitem__(key, value)


# The one in Python: the one in C allocates its memo for the largest index that the file names.
class Unpickler(pickle._Unpickler):  # type: ignore[name-defined,misc]
    """Knows `NAMES` and nothing else."""

    dispatch: ClassVar[dict[int, Any]] = dict(
        pickle._Unpickler.dispatch  # type: ignore[attr-defined]
    )

    def __init__(self, stream: Any) -> None:
        super().__init__(stream, encoding="latin1")
        self.memo = Memo()

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in of a name; anything else is refused."""
        if (module, name) not in NAMES:
            raise RefusedError(f"asks for {module}.{name}, for which a body model has no use")
        return NAMES[module, name]

    def persistent_load(self, pid: Any) -> Any:
        """Objects from elsewhere."""
        raise RefusedError("refers to objects outside of itself")

    def get_extension(self, code: int) -> Any:
        """Names by number."""
        raise RefusedError(f"asks for extension {code}")

    def load_build(self) -> None:
        """Give an object its state: one of ours, never a class or a function."""
        state = self.stack.pop()
        if not isinstance(self.stack[-1], StandIn):
            raise RefusedError(f"gives a state to {type(self.stack[-1]).__name__}")
        self.stack[-1].__setstate__(state)

    dispatch[pickle.BUILD[0]] = load_build


def number_type(given: Any) -> np.dtype[Any]:
    """The NumPy type that a stand-in means; numbers only."""
    if not isinstance(given, DType) or not given.arguments:
        raise RefusedError("an array without a type")
    code = given.arguments[0]
    if code not in ("f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"):
        raise RefusedError(f"an array of {code!r:.40}, expected numbers")
    order = given.state[1] if isinstance(given.state, tuple) and len(given.state) > 1 else "|"
    if order not in ("<", ">", "|", "="):
        raise RefusedError(f"an array in byte order {order!r:.40}")
    return np.dtype(order + code)


def array(given: Array) -> np.ndarray[Any, Any]:
    """The numbers of an array; its bytes must be as many as its shape says."""
    if not isinstance(given.state, tuple) or len(given.state) != 5:
        raise RefusedError("an array without contents")
    _, shape, kind, fortran, data = given.state
    sizes = isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape)
    if not sizes or math.prod(shape) > ELEMENTS_MAX:
        raise RefusedError(f"an array of shape {shape!r:.80}")
    dtype = number_type(kind)
    raw = data.encode("latin1") if isinstance(data, str) else data
    if not isinstance(raw, bytes) or len(raw) != math.prod(shape) * dtype.itemsize:
        held = f"{len(raw)} bytes" if isinstance(raw, bytes) else type(raw).__name__
        raise RefusedError(f"an array of {dtype} {list(shape)} that holds {held}")
    return np.frombuffer(raw, dtype).reshape(shape, order="F" if fortran else "C")


def dense(given: Sparse) -> np.ndarray[Any, Any]:
    """A sparse matrix by columns, written out."""
    state = given.state if isinstance(given.state, dict) else {}
    shape = state.get("_shape")
    if (
        not isinstance(shape, tuple)
        or len(shape) != 2
        or not all(type(n) is int and 0 < n <= 1 << 20 for n in shape)
        or math.prod(shape) > ELEMENTS_MAX
    ):
        raise RefusedError(f"a sparse matrix of shape {shape!r:.80}")
    data, rows, starts = (numbers(state.get(key)) for key in ("data", "indices", "indptr"))
    if (
        any(part.ndim != 1 for part in (data, rows, starts))
        or any(part.dtype.kind not in "iu" for part in (rows, starts))
        or len(starts) != shape[1] + 1
        or len(rows) != len(data)
        or starts[0] != 0
        or starts[-1] != len(data)
        or (np.diff(starts.astype(np.int64)) < 0).any()
        or (len(rows) and not (rows.min() >= 0 and rows.max() < shape[0]))
    ):
        raise RefusedError(f"a sparse matrix of {list(shape)} whose indices leave it")
    columns = np.repeat(np.arange(shape[1]), np.diff(starts.astype(np.int64)))
    out = np.zeros(shape, np.float64)
    np.add.at(out, (rows.astype(np.int64), columns), data)
    return out


def numbers(given: Any, *, depth: int = 0) -> np.ndarray[Any, Any]:
    """The array that an object of the pickle means."""
    if depth > NESTING_MAX:
        raise RefusedError(f"views of views, more than {NESTING_MAX} deep")
    if isinstance(given, Array):
        return array(given)
    if isinstance(given, Sparse):
        return dense(given)
    state = given.state if isinstance(given, Ch | Select) else None
    if isinstance(given, Ch) and isinstance(state, dict):
        return numbers(state.get("x"), depth=depth + 1)
    if isinstance(given, Select) and isinstance(state, dict):
        source = numbers(state.get("a"), depth=depth + 1).ravel()
        chosen = numbers(state.get("idxs"), depth=depth + 1)
        shape = state.get("preferred_shape")
        if (
            chosen.dtype.kind not in "iu"
            or not (chosen.size == 0 or (chosen.min() >= 0 and chosen.max() < source.size))
            or not (isinstance(shape, tuple) and math.prod(shape) == chosen.size)
        ):
            raise RefusedError("a view of elements that its array doesn't have")
        return source[chosen.ravel()].reshape(shape)
    raise RefusedError(f"{type(given).__name__} where an array belongs")


def read(path: str) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays of a model."""
    size = os.stat(path).st_size
    if size > PICKLE_BYTES_MAX:
        raise RefusedError(f"has {size} bytes, at most {PICKLE_BYTES_MAX} are read")
    with open(path, "rb") as stream:
        model = Unpickler(stream).load()
    if not isinstance(model, dict):
        raise RefusedError(f"holds {type(model).__name__}, expected a dictionary")
    if missing := [key for key in KEYS if key not in model]:
        raise RefusedError(f"is no SMPL model: {', '.join(missing)} missing")
    found = {}
    for key in KEYS:
        try:
            found[key] = numbers(model[key])
        except RefusedError as error:
            raise RefusedError(f"{key}: {error}") from error
    return found


def main(source: str, target: str) -> int:
    """Entry point of the process."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_FSIZE, (OUT_BYTES_MAX, OUT_BYTES_MAX))
    try:
        np.savez(target, **read(source))
    except Exception as error:
        sys.stdout.write(json.dumps({"error": told(error)}))
        return 1
    return 0


def told(error: Exception) -> str:
    """What is wrong with a file that could not be read."""
    if isinstance(error, RefusedError):
        return str(error)
    return f"cannot be unpickled ({type(error).__name__}: {str(error)[:200]})"


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
