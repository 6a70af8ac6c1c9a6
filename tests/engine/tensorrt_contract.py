"""A pytest plugin: TensorRT's stand-in with every access checked against the real bindings.

`test_tensorrt_contract` runs `test_tensorrt` with it in a process of its own, where the bindings
can be imported. Each attribute of TensorRT's that the backend touches must be in the real class,
each call must bind to one of the signatures in the real docstring, and each line of the backend
must have run, or something was touched that nobody looked at.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import os
import re
import sys
import threading
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

__all__ = ["OUT", "Contract", "signatures"]

OUT = "TENSORRT_CONTRACT_OUT"  # the file that gets what was touched; also switches the plugin on
PACKAGE = Path(__file__).parents[2] / "gas_rt" / "engine" / "tensorrt"
BASES = ("ILogger", "IProgressMonitor")  # which the backend derives from: the real ones
HEADER = re.compile(r"^(?:\d+\. )?\w+\((.*)\) -> ", re.MULTILINE)


class Contract:
    """What was touched of the real module."""

    def __init__(self, real: Any) -> None:
        self.real = real
        self.touched: set[str] = set()
        self.kinds: set[str] = set()

    def wrap_module(self, fake: Any) -> Any:
        """The stand-in's module, checked."""
        self.kinds |= {name for name, value in vars(fake).items() if isinstance(value, type)}
        return CheckedModule(self, fake)

    def wrap(self, value: Any) -> Any:
        """A stand-in's object, checked; anything else as it is."""
        name = type(value).__name__
        plain = name not in self.kinds or isinstance(value, int | bytes)
        return value if plain else Checked(self, value, getattr(self.real, name))

    def touch(self, owner: Any, name: str) -> Any:
        """The real attribute; AssertionError if there is none."""
        label = f"{getattr(owner, '__name__', owner)}.{name}"
        found = inspect.getattr_static(owner, name, None)
        assert found is not None, f"TensorRT {self.real.__version__} has no {label}"
        self.touched.add(label)
        return found

    def check_call(self, owner: Any, name: str, arguments: tuple[Any, ...], keywords: Any) -> None:
        """AssertionError unless the call binds to a real signature."""
        known = list(signatures(getattr(owner, name).__doc__ or ""))
        assert known, f"{owner.__name__}.{name}: its docstring gives no signature"
        for signature in known:
            try:
                signature.bind(None, *arguments, **keywords)
            except TypeError:
                continue
            self.touched |= {f"{owner.__name__}.{name}({key})" for key in keywords}
            for value in (*arguments, *keywords.values()):
                self.check_overrides(value)
            return
        raise AssertionError(
            f"TensorRT {self.real.__version__}: {owner.__name__}.{name} takes {known}, was given "
            f"{len(arguments)} and {sorted(keywords)}"
        )

    def check_overrides(self, value: Any) -> None:
        """AssertionError unless a derived object overrides all of its base, as that is called."""
        for base in (getattr(self.real, name) for name in BASES):
            if not isinstance(value, base):
                continue
            for name, method in vars(base).items():
                if name.startswith("_") or not callable(method):
                    continue
                if isinstance(method, type):  # Severity
                    continue
                (wanted,) = signatures(method.__doc__ or "")
                own = vars(type(value)).get(name)
                assert own is not None, f"{base.__name__}.{name} is not overridden"
                assert len(inspect.signature(own).parameters) == len(wanted.parameters), name
                self.touched.add(f"{base.__name__}.{name}")


class CheckedModule(types.ModuleType):
    """``tensorrt``."""

    def __init__(self, contract: Contract, fake: Any) -> None:
        super().__init__("tensorrt")
        self.__dict__.update(_contract=contract, _fake=fake)

    def __getattribute__(self, name: str) -> Any:
        if name in ("__dict__", "__class__"):
            return super().__getattribute__(name)
        own = self.__dict__
        contract, fake = own["_contract"], own["_fake"]
        if name in own and name not in ("__version__", "__name__", "__doc__"):
            return own[name]  # what a test has put there
        if name == "__version__":
            return fake.__version__
        if name.startswith("__"):
            return super().__getattribute__(name)
        contract.touch(contract.real, name)
        real, value = getattr(contract.real, name), getattr(fake, name)
        if name in BASES:
            return real
        return (
            CheckedEnum(contract, value, real)
            if hasattr(value, "__members__")
            else CheckedClass(contract, value, real)
        )


class CheckedClass:
    """A class that the backend makes objects of."""

    def __init__(self, contract: Contract, fake: Any, real: Any) -> None:
        self._contract, self._fake, self._real = contract, fake, real

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        self._contract.check_call(self._real, "__init__", arguments, keywords)
        return self._contract.wrap(self._fake(*map(_bare, arguments), **keywords))


class CheckedEnum:
    """An enum; its members are the stand-in's."""

    def __init__(self, contract: Contract, fake: Any, real: Any) -> None:
        self._contract, self._fake, self._real = contract, fake, real

    def __getattr__(self, name: str) -> Any:
        contract, real = self._contract, self._real
        contract.touch(real, name)
        member = getattr(real, name)
        assert name in real.__members__
        assert isinstance(int(member), int)
        assert hash(member) == hash(getattr(real, name))  # members are put in sets
        return getattr(self._fake, name)


class Checked:
    """An object of TensorRT's."""

    def __init__(self, contract: Contract, fake: Any, real: Any) -> None:
        self.__dict__.update(_contract=contract, _fake=fake, _real=real)

    def __getattr__(self, name: str) -> Any:
        contract, real = self._contract, self._real
        found = contract.touch(real, name)
        value = getattr(self._fake, name)
        called = callable(value) and not isinstance(value, type)
        is_property = isinstance(found, property)
        assert is_property != called, f"{real.__name__}.{name}: a property in one, a method in one"
        if is_property:
            return contract.wrap(value)

        def call(*arguments: Any, **keywords: Any) -> Any:
            contract.check_call(real, name, arguments, keywords)
            bare = {key: _bare(given) for key, given in keywords.items()}
            return contract.wrap(value(*map(_bare, arguments), **bare))

        return call

    def __setattr__(self, name: str, value: Any) -> None:
        found = self._contract.touch(self._real, name)
        assert isinstance(found, property), name
        assert found.fset is not None, f"{self._real.__name__}.{name} cannot be set"
        self._contract.check_overrides(value)
        setattr(self._fake, name, _bare(value))


def _bare(value: Any) -> Any:
    return value._fake if isinstance(value, Checked) else value


def signatures(docstring: str) -> Iterator[inspect.Signature]:
    """Of a function of pybind11's, by its docstring: names and which have defaults."""
    for header in HEADER.findall(docstring):
        parameters = []
        for part in _split(header):
            if part.startswith("*"):  # "name(*args, **kwargs)" above the overloads
                break
            name, default = part.split(":")[0].strip(), "=" in part
            parameters.append(
                inspect.Parameter(
                    name,
                    inspect.Parameter.POSITIONAL_OR_KEYWORD,
                    default=None if default else inspect.Parameter.empty,
                )
            )
        else:
            yield inspect.Signature(parameters)


def _split(header: str) -> Iterator[str]:
    """At commas that no bracket holds."""
    depth, part = 0, ""
    for character in header:
        depth += (character in "[(<") - (character in "])>")
        if character == "," and depth == 0:
            yield part.strip()
            part = ""
        else:
            part += character
    if part.strip():
        yield part.strip()


class Lines:
    """Which lines of the backend ran."""

    def __init__(self) -> None:
        self.ran: dict[str, set[int]] = {}

    def start(self) -> None:
        """Watch every thread from here on."""
        threading.settrace(self._call)
        sys.settrace(self._call)

    def _call(self, frame: Any, event: str, argument: Any) -> Any:
        return self._line if frame.f_code.co_filename.startswith(str(PACKAGE)) else None

    def _line(self, frame: Any, event: str, argument: Any) -> Any:
        if event == "line":
            self.ran.setdefault(frame.f_code.co_filename, set()).add(frame.f_lineno)
        return self._line

    def missing(self) -> list[str]:
        """Statements inside functions that did not run, as "file:line: text"."""
        found = []
        for path in sorted(PACKAGE.glob("*.py")):
            text = path.read_text()
            ran = self.ran.get(str(path), set())
            for statement in _statements(ast.parse(text)):
                lines = range(statement.lineno, (statement.end_lineno or statement.lineno) + 1)
                if ran.isdisjoint(lines):
                    found.append(
                        f"{path.name}:{statement.lineno}: "
                        f"{text.splitlines()[statement.lineno - 1].strip()}"
                    )
        return found


def _statements(tree: ast.Module) -> Iterator[ast.stmt]:
    """Every simple statement of a function's body, but for docstrings and ``...``."""
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef):
            continue
        for node in ast.walk(function):
            if not isinstance(node, ast.stmt) or hasattr(node, "body"):
                continue
            constant = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            silent = isinstance(node, ast.Pass | ast.Nonlocal | ast.Global)
            if not constant and not silent:
                yield node


if OUT in os.environ:
    LINES = Lines()
    LINES.start()
    CONTRACT = Contract(importlib.import_module("tensorrt_bindings"))

    from tests.engine import fake_tensorrt

    fake_tensorrt.WRAP = CONTRACT.wrap_module
    fake_tensorrt.LOGGER = CONTRACT.real.ILogger

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(session: pytest.Session) -> None:
        """Say what was touched and what was not run."""
        sys.settrace(None)
        found = {
            "version": CONTRACT.real.__version__,
            "touched": sorted(CONTRACT.touched),
            "missing": LINES.missing(),
            "passed": session.testscollected - session.testsfailed,
        }
        Path(os.environ[OUT]).write_text(json.dumps(found))
