"""The parts of the soak, each in its own process: what they do and what they note."""

from __future__ import annotations

import ctypes
import itertools
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import gas_rt
from benchmarks.people import avatar_of, dance
from gas_rt.bench.rounds import back_and_forth

__all__ = ["PARTS", "SoakSettings", "run_part"]

LIMIT_MIB = 16.0  # that memory may grow
LEAKED_MIB = 2 * LIMIT_MIB  # by a control, over its run
LOOKS, LOOK_S = 20, 0.02
LOOK_EVERY = 10  # frames, at the yardstick
WARM_CYCLES = 2  # sessions opened before anything is noted: pools and allocators fill


@dataclass(frozen=True)
class SoakSettings:
    """What is soaked, and for how long.

    Attributes
    ----------
    frames, from_frame, block : of the long stream; notes are taken per block, after `from_frame`.
    cycles, cycle_block : sessions opened and closed.
    control_frames, control_cycles : of the controls, which leak.
    """

    model: str
    backend: str
    precision: Any
    avatar: str | None
    policy: str | None
    steps: int | None
    side_px: int | None
    frames: int = 10_000
    from_frame: int = 100
    block: int = 100
    cycles: int = 1000
    cycle_block: int = 20
    control_frames: int = 1000
    control_cycles: int = 60

    def quick(self) -> SoakSettings:
        """A run of seconds."""
        return replace(
            self,
            frames=60,
            from_frame=20,
            block=10,
            cycles=6,
            cycle_block=2,
            control_frames=50,
            control_cycles=6,
        )


@dataclass
class Notes:
    """Series of a part: at each count of frames or cycles, what the process used by then."""

    at: list[int]
    cpu_s: list[float]
    yardstick_ms: list[float]
    rss_mib: list[float]
    heap_mib: list[float]
    threads: list[int]
    descriptors: list[int]

    @classmethod
    def empty(cls) -> Notes:
        """Nothing noted yet."""
        return cls([], [], [], [], [], [], [])

    def take(self, at: int, yardstick: Yardstick | None = None) -> None:
        """Note what the process uses now, and what a yardstick took since the last note."""
        self.at.append(at)
        spent_s = 0.0 if yardstick is None else yardstick.spent_s
        self.cpu_s.append(round(time.process_time() - spent_s, 4))
        if yardstick is not None:
            self.yardstick_ms.append(yardstick.read_ms())
        self.rss_mib.append(rss_mib())
        if (heap := heap_mib()) is not None:
            self.heap_mib.append(heap)
        self.threads.append(thread_count())
        self.descriptors.append(descriptor_count())


class Yardstick:
    """A fixed piece of work, timed beside the frames: how fast the processor is just then.

    Shared machines change their speed by a tenth for minutes at a time, which is no change of what
    a frame costs. The work is NumPy's alone, so that nothing of ours is in it: arithmetic within
    the cache, and passes over arrays that exceed a core's own.
    """

    def __init__(self) -> None:
        self._small = np.full((2, 1 << 14), 0.5, np.float32)
        self._large = np.ones((2, 1 << 20), np.float32)
        self._looks_ms: list[float] = []
        self.spent_s = 0.0

    def look(self) -> None:
        """Do the work once; the processor time of this thread is what counts."""
        before = time.thread_time()
        for _ in range(32):
            np.exp(self._small[0], out=self._small[1])
        np.add(self._large[0], 1.0, out=self._large[1])
        passed_s = time.thread_time() - before
        self.spent_s += passed_s
        self._looks_ms.append(passed_s * 1e3)

    def read_ms(self) -> float:
        """Median of the looks since the last reading."""
        found, self._looks_ms = statistics.median(self._looks_ms), []
        return round(found, 4)


class Soak:
    """A model, an avatar and poses; opens the sessions that are soaked."""

    def __init__(self, settings: SoakSettings, model: gas_rt.Model) -> None:
        self.settings = settings
        self.model = model
        path = None if settings.avatar is None else Path(settings.avatar)
        self.avatar = avatar_of(model, path)
        self.poses = dance(model, self.avatar, settings.side_px or model.resolution)

    def session(self) -> gas_rt.Session:
        """A session of the settings' policy."""
        settings = self.settings
        return self.model.session(
            self.avatar, policy=settings.policy, steps=settings.steps, on_late="lossless"
        )

    def frames(self, session: gas_rt.Session, count: int) -> Iterator[gas_rt.Frame]:
        """The first `count` frames of a stream."""
        requests = back_and_forth(self.poses)
        got = 0
        while got < count:
            session.wait_to_push()
            if (frame := session.poll()) is not None:
                got += 1
                yield frame
            else:
                session.push_request(next(requests))

    def cycle(self) -> None:
        """Open a session, take its first frame, close it with others in flight."""
        with self.session() as session:
            for _ in self.frames(session, 1):
                pass


Leak = Callable[[], None]


def stream(soak: Soak, frames: int, leak: Leak = lambda: None) -> Notes:
    """One long session."""
    settings = soak.settings
    notes, yardstick = Notes.empty(), Yardstick()
    with soak.session() as session:
        for number, _ in enumerate(soak.frames(session, frames), start=1):
            leak()
            if number % LOOK_EVERY == 0:
                yardstick.look()
            past = number - settings.from_frame
            if past >= 0 and past % settings.block == 0:
                notes.take(number, yardstick)
    return notes


def cycles(soak: Soak, count: int, leak: Leak = lambda: None) -> Notes:
    """Many short sessions."""
    block = soak.settings.cycle_block
    notes = Notes.empty()
    notes.take(0)
    for number in range(1, count + 1):
        soak.cycle()
        leak()
        if number % block == 0:
            notes.take(number)
    return notes


class Leaks:
    """What is leaked on purpose; `close` takes it back, since a test runs in its own process."""

    def __init__(self) -> None:
        self.memory: list[np.ndarray] = []
        self.files: list[int] = []
        self.gate = threading.Event()

    def leak_memory(self, frames: int) -> Leak:
        """Keeps an array per frame, `LEAKED_MIB` after `frames`."""
        size = round(LEAKED_MIB * 2**20 / frames)
        return lambda: self.memory.append(np.ones(size, np.uint8))

    def leak_descriptor(self) -> None:
        """Forgets to close a file."""
        self.files.append(os.open(os.devnull, os.O_RDONLY))

    def leak_thread(self) -> None:
        """Leaves a thread waiting."""
        threading.Thread(target=self.gate.wait, daemon=True).start()

    def close(self) -> None:
        """Let go of everything."""
        self.memory.clear()
        self.gate.set()
        for descriptor in self.files:
            os.close(descriptor)
        self.files.clear()


# By name: what is done, given the soak and what can be leaked.
PARTS: dict[str, Callable[[Soak, Leaks], Notes]] = {
    "frames": lambda soak, _: stream(soak, soak.settings.frames),
    "cycles": lambda soak, _: cycles(soak, soak.settings.cycles),
    "leaking_memory": lambda soak, leaks: stream(
        soak,
        soak.settings.control_frames,
        leaks.leak_memory(soak.settings.control_frames - soak.settings.from_frame),
    ),
    "leaking_descriptors": lambda soak, leaks: cycles(
        soak, soak.settings.control_cycles, leaks.leak_descriptor
    ),
    "leaking_threads": lambda soak, leaks: cycles(
        soak, soak.settings.control_cycles, leaks.leak_thread
    ),
}


def run_part(name: str, settings: SoakSettings) -> dict[str, Any]:
    """Do a part in this process; its notes, and threads and descriptors before and after."""
    leaks = Leaks()
    began = time.monotonic()
    with gas_rt.load(settings.model, settings.backend, precision=settings.precision) as model:
        soak = Soak(settings, model)
        for _ in range(WARM_CYCLES):
            soak.cycle()
        before = at_rest()
        notes = PARTS[name](soak, leaks)
        after = at_rest()
        stats = {"before": before, "after": after, "info": model.info()}
    leaks.close()
    return {**vars(notes), **stats, "seconds": round(time.monotonic() - began, 1)}


def at_rest() -> dict[str, int]:
    """Threads and descriptors, the fewest of some looks: a thread that was joined may still end."""
    looks = []
    for _ in range(LOOKS):
        looks.append((thread_count(), descriptor_count()))
        time.sleep(LOOK_S)
    threads, descriptors = zip(*looks, strict=True)
    return {"threads": min(threads), "descriptors": min(descriptors)}


def rss_mib() -> float:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 3)


class _MallInfo2(ctypes.Structure):
    """glibc's ``struct mallinfo2``."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )


def heap_mib() -> float | None:
    """What malloc has handed out and not got back, in all arenas and mapped apart.

    Resident memory does not see a leak that fills heap which was free before; this does. None where
    the C library does not tell (glibc does from 2.33 on).
    """
    try:
        told = ctypes.CDLL(None).mallinfo2
    except AttributeError:
        return None
    told.restype = _MallInfo2
    found = told()
    return round((found.uordblks + found.hblkhd) / 2**20, 3)


def thread_count() -> int:
    """Threads of this process, the backend's too."""
    return len(os.listdir("/proc/self/task"))


def descriptor_count() -> int:
    """Open files of this process, without the one that counts them."""
    return len(os.listdir("/proc/self/fd")) - 1


def pairs_per_frame(at: list[int], cpu_s: list[float]) -> tuple[list[float], list[float]]:
    """The middle of each block, and processor seconds per frame in it."""
    blocks = itertools.pairwise(zip(at, cpu_s, strict=True))
    middles, costs = [], []
    for (from_frame, from_s), (to_frame, to_s) in blocks:
        middles.append((from_frame + to_frame) / 2)
        costs.append((to_s - from_s) / (to_frame - from_frame))
    return middles, costs
