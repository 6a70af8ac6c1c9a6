"""The plan store: compiled graphs of this machine, found by everything they depend on.

A plan is executable code. The store hands out only what this user sealed on this machine,
unchanged, under exactly the key that is asked for, from a folder nobody else can write; everything
else is refused with the field that differs, before a byte reaches a deserialiser. docs/engines.md
says what that protects from and what it doesn't.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from gas_rt.engine.plan_file import (
    Manifest,
    read_manifest,
    read_payload,
    secret_of,
    write_plan,
)
from gas_rt.engine.plan_key import PlanKey, differences, digest_of
from gas_rt.engine.private_folder import TEMPORARY, PrivateFolder
from gas_rt.errors import BackendError, BuildCancelledError, GasRtWarning, PlanError

__all__ = ["CAP_BYTES", "BuildSteps", "Plan", "PlanStore", "StoredPlan", "default_folder"]

CAP_BYTES = 16 << 30  # a full-size UNet in fp16 takes 3 GiB a profile; gas-mini 0.2 GiB in all
POLL_S = 0.05  # how often a builder that waits for another one looks again
USES_BYTES_MAX = 1 << 18  # of the log of uses; then it is rewritten, each plan once
RECENT_MAX = 256
PLAN, LOCK, USES, TIMING = ".plan", ".lock", "uses", "timing-"
NAME = re.compile(r"[0-9a-f]{64}")

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class Plan:
    """A verified plan, in memory.

    Attributes
    ----------
    outcome : ``found`` in the store, ``built`` and kept, or ``not kept``.
    why : for a build, what in the store came nearest and how it differs; for a plan that was not
        kept, also what kept it from being so.
    took_ms : to find or to build.
    """

    key: PlanKey
    data: bytes = field(repr=False)
    outcome: Literal["found", "built", "not kept"]
    why: str
    took_ms: int

    def read(self) -> bytes:
        """The plan as its backend made it."""
        return self.data


@dataclass(frozen=True)
class StoredPlan:
    """A plan file in the store; `problem` says why it is refused, if it is.

    `rank` is 0 for the plan used longest ago. `key` is empty where the manifest is refused.
    """

    name: str
    bytes: int
    rank: int
    key: Mapping[str, str] = field(default_factory=dict)
    build_ms: int = 0
    problem: PlanError | None = None


class BuildSteps:
    """What a build can tell and ask meanwhile."""

    def __init__(
        self, progress: Progress | None, cancel: threading.Event | None, timing: _TimingCache
    ) -> None:
        self._progress = progress
        self._cancel = cancel
        self._timing = timing

    @property
    def cancelled(self) -> bool:
        """Whether the build shall stop; for callbacks that may not raise."""
        return self._cancel is not None and self._cancel.is_set()

    def tell(self, share: float, doing: str) -> None:
        """Report how far the build is, 0 to 1; raises `BuildCancelledError` when it shall stop."""
        if self.cancelled:
            raise BuildCancelledError(f"building was cancelled while {doing}; nothing was kept")
        if self._progress is not None:
            self._progress(share, doing)

    def timing_cache(self) -> bytes:
        """What earlier builds on this machine measured; empty at first, or where it is refused."""
        return self._timing.read()

    def keep_timing_cache(self, data: bytes) -> None:
        """Keep it for the next build. Of two builds at once, the later one's stays."""
        self._timing.write(data)


class PlanStore:
    """A folder of plans. Many threads and processes may use one at once; it holds nothing open."""

    def __init__(
        self,
        folder: PrivateFolder,
        secret: bytes,
        *,
        cap_bytes: int,
        progress: Progress | None,
        cancel: threading.Event | None,
    ) -> None:
        self._folder = folder
        self._secret = secret
        self._cap_bytes = cap_bytes
        self._progress = progress
        self._cancel = cancel
        self._told = threading.local()  # progress and cancel of this thread's builds
        self._writable = folder.writable()
        self._problem = "" if self._writable else "not kept: the store is read only"
        self.recent: deque[Plan] = deque(maxlen=RECENT_MAX)  # without their data

    @classmethod
    def open(
        cls,
        folder: Path | None = None,
        *,
        cap_bytes: int | None = None,
        progress: Progress | None = None,
        cancel: threading.Event | None = None,
    ) -> PlanStore:
        """Open the store, making it if need be.

        Parameters
        ----------
        folder : where plans lie; by default ``gas-rt/plans`` in the user's cache folder.
        cap_bytes : what they may take together, `CAP_BYTES` unless given.
        progress, cancel : for builds that name none of their own.

        Raises `PlanError`: with the field ``unavailable`` where there can be no store (no home,
        a read-only disk, no POSIX system), else with what makes the folder unfit.
        """
        if cap_bytes is not None and cap_bytes < 1:
            raise BackendError(f"plan store: a cap of {cap_bytes} bytes; expected at least 1")
        place = PrivateFolder((folder or default_folder()).absolute())
        secret = secret_of(PrivateFolder(_home("XDG_STATE_HOME", ".local/state") / "gas-rt"))
        return cls(
            place, secret, cap_bytes=cap_bytes or CAP_BYTES, progress=progress, cancel=cancel
        )

    @property
    def folder(self) -> Path:
        """Where the plans lie."""
        return self._folder.path

    @property
    def status(self) -> str:
        """``on``, with what keeps the store from keeping plans, if anything does."""
        return f"on, but {self._problem}" if self._problem else "on"

    def find(self, key: PlanKey) -> Plan | None:
        """The plan of this key, or None; raises `PlanError` for one that may not be used."""
        began = time.perf_counter()
        name = key.digest + PLAN
        where = f"graph {key.graph}: plan {self.folder / name}"
        data = self._read(name, key.fields(), where=where)
        if data is None:
            return None
        self._note_use(key.digest)
        plan = Plan(key, data, "found", "", _since_ms(began))
        self.recent.append(replace(plan, data=b""))
        return plan

    def build(
        self,
        key: PlanKey,
        make: Callable[[BuildSteps], bytes],
        *,
        progress: Progress | None = None,
        cancel: threading.Event | None = None,
    ) -> Plan:
        """Make the plan of this key and keep it; a refused one in its place is replaced.

        One builder works at a time: others of the same key, in this process or another, wait and
        are handed its plan. A plan that cannot be kept (a full or read-only disk, larger than the
        cap, sources that changed meanwhile) is returned all the same, its `outcome` says so.

        Raises `BuildCancelledError` when `cancel` was set, and whatever `make` raises; then
        nothing is kept.
        """
        told = getattr(self._told, "pair", (None, None))
        steps = BuildSteps(
            progress or told[0] or self._progress,
            cancel or told[1] or self._cancel,
            _TimingCache(self, key),
        )

        def wait() -> None:
            steps.tell(0.0, f"waiting for another process that builds {key.graph}")
            time.sleep(POLL_S)

        with contextlib.ExitStack() as held:
            problem = "" if self._writable else self._problem
            if not problem:
                try:
                    held.enter_context(self._folder.locked(key.digest + LOCK, wait=wait))
                except (OSError, PlanError) as error:
                    problem = f"not kept: its lock cannot be taken ({error})"
            with contextlib.suppress(PlanError):  # what is refused gets replaced
                if found := self.find(key):
                    return found
            plan = self._make(key, make, steps, problem)
        self.recent.append(replace(plan, data=b""))
        if plan.outcome == "built":
            self._note_use(key.digest)
            with contextlib.suppress(OSError, PlanError):  # the plan is kept; the next build prunes
                self.prune(keep=key.digest, refused=False)
        elif plan.why != self._problem:
            self._problem = plan.why
            warnings.warn(f"graph {key.graph}: its plan was {plan.why}", GasRtWarning, stacklevel=3)
        return plan

    @contextlib.contextmanager
    def telling(self, progress: Progress | None, cancel: threading.Event | None) -> Iterator[None]:
        """Builds of the calling thread that name none of their own use these meanwhile."""
        before = getattr(self._told, "pair", (None, None))
        self._told.pair = (progress, cancel)
        try:
            yield
        finally:
            self._told.pair = before

    def _make(
        self, key: PlanKey, make: Callable[[BuildSteps], bytes], steps: BuildSteps, problem: str
    ) -> Plan:
        """Build, and keep what was built unless there is a problem."""
        why = self.why_missing(key)
        steps.tell(0.0, "starting")
        began = time.perf_counter()
        data = make(steps)
        took_ms = _since_ms(began)
        steps.tell(1.0, "keeping the plan")
        if not data:
            raise BackendError(f"graph {key.graph}: {key.backend} made an empty plan")
        if not problem:
            problem = self._keep(key, data, took_ms)
        if problem:
            return Plan(key, data, "not kept", problem, took_ms)
        return Plan(key, data, "built", why, took_ms)

    def _keep(self, key: PlanKey, data: bytes, build_ms: int) -> str:
        """Write a plan; what kept it from being written, or nothing."""
        if changed := [s.path.name for s in key.sources if not s.unchanged()]:
            return f"not kept: {changed[0]} was changed during the build; load the bundle again"
        if len(data) > self._cap_bytes:
            return (
                f"not kept: it has {len(data)} bytes, the store's cap is {self._cap_bytes}; "
                "raise the cap"
            )
        try:
            self._sweep(key.digest)
            write_plan(
                self._folder,
                key.digest + PLAN,
                self._secret,
                key=key.fields(),
                data=data,
                build_ms=build_ms,
            )
        except (OSError, PlanError) as error:
            return f"not kept: {self.folder}: {error}; free some space or name another folder"
        return ""

    def _read(self, name: str, key: Mapping[str, str], *, where: str) -> bytes | None:
        """The contents of a sealed file whose manifest has exactly this key."""
        try:
            with self._folder.reading(name) as (stream, size):
                manifest = read_manifest(stream, size, self._secret, where=where)
                for differing, how in differences(manifest.key, key):
                    raise PlanError(f"{where}: {differing} is {how}; refused", field=differing)
                return read_payload(stream, manifest, where=where)
        except FileNotFoundError:
            return None
        except OSError as error:  # of the disk
            raise PlanError(f"{where}: cannot be read ({error})", field="unavailable") from error

    def discard(self, key: PlanKey) -> None:
        """Remove a plan that its backend could not read, so that it is built anew."""
        with contextlib.suppress(OSError):
            self._folder.remove(key.digest + PLAN)

    def why_missing(self, key: PlanKey) -> str:
        """Why a key has no plan: the fields in which the nearest plan of its graph differs."""
        wanted = key.fields()
        try:
            entries = self.entries()
        except (OSError, PlanError) as error:
            return f"the store cannot be read ({error})"
        others = [
            [name for name, _ in differences(plan.key, wanted)]
            for plan in entries
            if (plan.key.get("graph"), plan.key.get("backend")) == (key.graph, key.backend)
        ]
        if not others:
            return "none of this graph was kept before"
        nearest = min(others, key=lambda names: len(names))
        return f"the nearest one kept has other {', '.join(nearest) or 'contents'}"

    def entries(self) -> list[StoredPlan]:
        """Every plan file, the one used longest ago first; contents are not read."""
        return self._entries(contents=False)

    def verify(self) -> list[StoredPlan]:
        """Every plan file, with its contents compared with its manifest."""
        return self._entries(contents=True)

    def prune(
        self,
        *,
        cap_bytes: int | None = None,
        drop: Callable[[StoredPlan], bool] = lambda plan: False,
        keep: str = "",
        refused: bool = True,
    ) -> list[StoredPlan]:
        """Remove what is refused, what `drop` says, and then the plans used longest ago.

        A build goes without the first (`refused` False): what is foreign to one machine may be
        another one's that shares the folder.
        Plans are removed until the rest takes at most `cap_bytes`, by default the store's cap; the
        plan named `keep` stays, and so does one that is being built. The order comes from a log of
        uses, so no clock that is wrong can change it. Returns what was removed.
        """
        cap = self._cap_bytes if cap_bytes is None else cap_bytes
        removed, plans = [], self.entries()
        left = sum(plan.bytes for plan in plans)
        doomed = [plan for plan in plans if (refused and plan.problem) or drop(plan)]
        for plan in [*doomed, *(p for p in plans if p not in doomed)]:
            if plan not in doomed and left <= cap:
                break
            digest = plan.name.removesuffix(PLAN)
            if digest != keep and self._remove(plan.name, digest):
                removed.append(plan)
                left -= plan.bytes
        self._sweep_all()
        return removed

    def _remove(self, name: str, digest: str) -> bool:
        """Remove a plan and its lock's file, unless somebody builds it just now."""
        try:
            with self._folder.locked(digest + LOCK, wait=None) as free:
                if free:
                    self._folder.remove(name)
                    self._folder.remove(digest + LOCK)
                return free
        except OSError:
            return False

    def _entries(self, *, contents: bool) -> list[StoredPlan]:
        ranks = {digest: rank for rank, digest in enumerate(self._uses(), start=1)}
        plans = []
        for name in self._folder.names():
            if name.endswith(PLAN):
                digest = name.removesuffix(PLAN)
                with contextlib.suppress(FileNotFoundError):  # pruned meanwhile
                    plans.append(self._stored(name, digest, ranks.get(digest, 0), contents))
        return sorted(plans, key=lambda plan: (plan.rank, plan.name))

    def _stored(self, name: str, digest: str, rank: int, contents: bool) -> StoredPlan:
        where = str(self.folder / name)
        size, manifest = 0, None
        try:
            with self._folder.reading(name) as (stream, size):
                manifest = read_manifest(stream, size, self._secret, where=where)
                _check_name(manifest, digest, where=where)
                if contents:
                    read_payload(stream, manifest, where=where)
        except PlanError as problem:
            return StoredPlan(name, size, rank, problem=problem)
        return StoredPlan(name, size, rank, manifest.key, manifest.build_ms)

    def _uses(self) -> list[str]:
        """Digests in the order of their last uses."""
        try:
            with self._folder.reading(USES) as (stream, _):
                lines = stream.read(4 * USES_BYTES_MAX).decode("ascii", "replace").split("\n")
        except (FileNotFoundError, PlanError):
            return []
        last = {line: place for place, line in enumerate(lines) if NAME.fullmatch(line)}
        return sorted(last, key=last.__getitem__)

    def _note_use(self, digest: str) -> None:
        """Say in the log of uses that a plan was used; only the order of pruning hangs on it."""
        if not self._writable:
            return
        with contextlib.suppress(OSError, PlanError):
            self._folder.append(USES, f"{digest}\n".encode())
            with self._folder.reading(USES) as (_, size):
                full = size > USES_BYTES_MAX
            if full:
                self._folder.write(USES, "".join(f"{d}\n" for d in self._uses()).encode())

    def _sweep(self, digest: str) -> None:
        """Remove what a build of this plan left that was killed; its lock is held."""
        for name in self._folder.names():
            if name.startswith(f".{digest}") and name.endswith(TEMPORARY):
                self._folder.remove(name)

    def _sweep_all(self) -> None:
        """Remove what killed builds left, of all plans that nobody builds now."""
        names = self._folder.names()
        halves = {n[1:65] for n in names if n.endswith(TEMPORARY) and NAME.match(n[1:])}
        locks = {n.removesuffix(LOCK) for n in names if n.endswith(LOCK)}
        plans = {n.removesuffix(PLAN) for n in names if n.endswith(PLAN)}
        for digest in sorted(halves | (locks - plans)):
            with (
                contextlib.suppress(OSError),
                self._folder.locked(digest + LOCK, wait=None) as free,
            ):
                if free:
                    self._sweep(digest)
                    self._folder.remove(digest + LOCK)


class _TimingCache:
    """What a backend measured on this machine, sealed like a plan: it can carry code, too."""

    def __init__(self, store: PlanStore, key: PlanKey) -> None:
        self._store = store
        self._key = {
            "backend": key.backend,
            **{f"machine.{name}": value for name, value in key.machine},
        }
        self._name = f"{TIMING}{digest_of(self._key)}"

    def read(self) -> bytes:
        where = f"timing cache {self._store.folder / self._name}"
        try:
            return self._store._read(self._name, self._key, where=where) or b""
        except PlanError as error:
            warnings.warn(f"{error}; measured anew", GasRtWarning, stacklevel=3)
            return b""

    def write(self, data: bytes) -> None:
        store = self._store
        if not store._writable:
            return
        try:
            write_plan(
                store._folder, self._name, store._secret, key=self._key, data=data, build_ms=0
            )
        except (OSError, PlanError) as error:
            warnings.warn(f"timing cache not kept: {error}", GasRtWarning, stacklevel=3)


def default_folder() -> Path:
    """``gas-rt/plans`` in the user's cache folder. Raises `PlanError` if there is no home."""
    return _home("XDG_CACHE_HOME", ".cache") / "gas-rt" / "plans"


def _home(variable: str, below: str) -> Path:
    """A folder of the XDG specification, which says to ignore a relative one."""
    named = Path(os.environ.get(variable, ""))
    if named.is_absolute():
        return named
    try:
        return Path.home() / below
    except RuntimeError as error:
        raise PlanError(
            f"plan store: this user has no home folder; set {variable}", field="unavailable"
        ) from error


def _check_name(manifest: Manifest, digest: str, *, where: str) -> None:
    if digest_of(manifest.key) != digest:
        raise PlanError(
            f"{where}: its manifest is that of plan {digest_of(manifest.key)[:12]}…, it was moved "
            "here; refused",
            field="name",
        )


def _since_ms(began: float) -> int:
    return round((time.perf_counter() - began) * 1e3)
