"""The parts of the soak, each in its own process: what they do and what they note."""

from __future__ import annotations

import ctypes
import itertools
import os
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

__all__ = ["FRESH", "PARTS", "SoakSettings", "run_part"]

LIMIT_MIB = 16.0  # that memory may grow
LEAKED_MIB = 2 * LIMIT_MIB  # by a control, over its run
LOOKS, LOOK_S = 20, 0.02
WARM_CYCLES = 2  # sessions opened before anything is noted: pools and allocators fill


@dataclass(frozen=True)
class SoakSettings:
    """What is soaked, and for how long.

    Attributes
    ----------
    frames, from_frame, block : of the long stream; notes are taken per block, after `from_frame`.
    fresh_every, fresh_from, fresh_frames : how often a new process does the same, of which frames.
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
    fresh_every: int = 300
    fresh_from: int = 20
    fresh_frames: int = 60
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
            fresh_every=20,
            fresh_from=2,
            fresh_frames=8,
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
    rss_mib: list[float]
    heap_mib: list[float]
    threads: list[int]
    descriptors: list[int]

    @classmethod
    def empty(cls) -> Notes:
        """Nothing noted yet."""
        return cls([], [], [], [], [], [])

    def take(self, at: int) -> None:
        """Note what the process uses now."""
        self.at.append(at)
        self.cpu_s.append(round(time.process_time(), 4))
        self.rss_mib.append(rss_mib())
        if (heap := heap_mib()) is not None:
            self.heap_mib.append(heap)
        self.threads.append(thread_count())
        self.descriptors.append(descriptor_count())


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


def stream(
    soak: Soak,
    frames: int,
    leak: Leak = lambda: None,
    *,
    meanwhile: Callable[[int], None] = lambda at: None,
) -> Notes:
    """One long session; `meanwhile` is called at each note, and the session waits for it."""
    settings = soak.settings
    notes = Notes.empty()
    with soak.session() as session:
        for number, _ in enumerate(soak.frames(session, frames), start=1):
            leak()
            past = number - settings.from_frame
            if past >= 0 and past % settings.block == 0:
                notes.take(number)
                meanwhile(number)
    return notes


def short(soak: Soak) -> Notes:
    """A session of which two notes are taken: what a frame costs when nothing is old yet."""
    settings = soak.settings
    notes = Notes.empty()
    with soak.session() as session:
        stop = settings.fresh_from + settings.fresh_frames
        for number, _ in enumerate(soak.frames(session, stop), start=1):
            if number in (settings.fresh_from, stop):
                notes.take(number)
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
FRESH = "fresh"  # not a part of its own: what the stream of frames is compared with
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


def run_part(
    name: str, settings: SoakSettings, *, fresh: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """Do a part in this process; its notes, and threads and descriptors before and after.

    `fresh` does the part `FRESH` in a new one.
    """
    leaks = Leaks()
    began = time.monotonic()
    compared: list[dict[str, float]] = []

    def compare(at: int) -> None:
        if (at - settings.from_frame) % settings.fresh_every == 0:
            (cost,) = pairs_per_frame(*(fresh()[key] for key in ("at", "cpu_s")))[1]
            compared.append({"at": at, "core_s_per_frame": round(cost, 6)})

    with gas_rt.load(settings.model, settings.backend, precision=settings.precision) as model:
        soak = Soak(settings, model)
        for _ in range(WARM_CYCLES):
            soak.cycle()
        before = at_rest()
        if name == "frames":
            notes = stream(soak, settings.frames, meanwhile=compare)
        else:
            notes = short(soak) if name == FRESH else PARTS[name](soak, leaks)
        after = at_rest()
        stats = {"before": before, "after": after, "info": model.info()}
    leaks.close()
    stats |= {"fresh": compared} if compared else {}
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
