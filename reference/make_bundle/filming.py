"""People filmed by worker processes while something else is trained."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import threading
from collections.abc import Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

from gas_rt.body import BodyModel
from reference.diffusion.films import Film, film_path, shoot_film, write_film
from reference.people.mixture import Mixture

__all__ = ["Filming", "discard"]

BYTES_MAX = 8_000_000_000  # of films that wait; they are removed when clips have been made of them
NICE = 10  # behind whoever feeds the GPU


@lru_cache(maxsize=1)
def _body(path: str) -> BodyModel:
    return BodyModel.open(path)


def _film(seed: int, *, folder: Path, body: Path, frames: int, size: int, mixture: Mixture) -> int:
    """The size of the film of a person, drawn unless it is there."""
    path = film_path(folder, seed)
    if not path.exists():
        clip = shoot_film(seed, _body(str(body)), frames=frames, size=size, mixture=mixture)
        write_film(path, Film.of(clip))
    return path.stat().st_size


class Filming:
    """Films people in order until it is closed or the folder is full; what is there stays.

    Clips are the same whether a person was filmed here or is filmed when the clip is made.
    """

    def __init__(
        self,
        folder: Path,
        seeds: Iterable[int],
        *,
        body: Path,
        frames: int,
        size: int,
        mixture: Mixture,
        workers: int,
        bytes_max: int = BYTES_MAX,
    ) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        # Not forked, since a fork copies the locks of torch's threads but not the threads.
        server = multiprocessing.get_context("forkserver")
        self._pool = ProcessPoolExecutor(
            workers, mp_context=server, initializer=os.nice, initargs=(NICE,)
        )
        self._options = {
            "folder": folder,
            "body": body,
            "frames": frames,
            "size": size,
            "mixture": mixture,
        }
        self._seeds, self._bytes, self._bytes_max = iter(seeds), 0, bytes_max
        self._closed = False
        self.error: BaseException | None = None
        self._lock = threading.Lock()  # people are handed out by this thread and by the pool's
        for _ in range(2 * workers):
            self._next(None)

    def _next(self, done: Future[Any] | None) -> None:
        """Hand out a person more when one is done: no long queue that a close would wait for."""
        with self._lock:
            if done is not None and not done.cancelled():
                if error := done.exception():
                    self.error = error
                    return
                self._bytes += done.result()
            if self._closed or self._bytes >= self._bytes_max:
                return
            seed = next(self._seeds, None)
            if seed is None:
                return
            task = self._pool.submit(_film, seed, **self._options)
        task.add_done_callback(self._next)

    def close(self) -> None:
        """Stop; whoever is being filmed is finished."""
        with self._lock:
            self._closed = True
        self._pool.shutdown(cancel_futures=True)
        if self.error is not None:
            raise self.error

    def __enter__(self) -> Filming:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def discard(folder: Path) -> None:
    """Remove all films."""
    shutil.rmtree(folder, ignore_errors=True)
