"""``python -m reference.diffusion.build``: clip shards, what stage 2 is trained on.

View and pose clips of synthetic people in turn, with the real stage 1's renders as condition, in
files of 32 people. Files appear atomically; one that is complete is skipped, so an interrupted run
resumes. A clip depends on its seed, its number of frames, the mixture of scans and videos and the
checkpoints alone.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from gas_rt.errors import GasRtError, InputError
from gas_rt.files import read_npz
from reference.diffusion.clips import Clip, same_latents, write_clips
from reference.diffusion.config import PRESETS
from reference.diffusion.films import film_path, read_film
from reference.diffusion.studio import Studio
from reference.people import seeds
from reference.people.mixture import STAGE2, Mixture, add_mixture, mixture_of

__all__ = ["Plan", "build", "main"]

PEOPLE_PER_SHARD = 32
BODY = Path(__file__).parents[2] / "engines" / "gas-mini" / "body.npz"
SPLITS = {"train": seeds.TRAIN, "val": seeds.VALIDATION}


@dataclass(frozen=True)
class Plan:
    """What to build, with which models.

    Attributes
    ----------
    chosen : seeds of the people, in order.
    frames : of a clip, each kept once; training plays clips of fewer than its `played` forth and
        back.
    twins : whether everybody's mirror image has a clip too, right after theirs.
    first : number of the first shard.
    mixture : who is scanned and who is filmed, and how well videos are fitted.
    device : where the field is rendered and pictures are encoded, by every process on its own.
    films : a folder of people filmed before, who are not filmed again.
    """

    split: str
    chosen: range
    frames: int
    stage1: Path
    autoencoder: Path
    out: Path
    twins: bool = False
    first: int = 0
    mixture: Mixture = STAGE2
    body: Path = BODY
    workers: int = 1
    people_per_shard: int = PEOPLE_PER_SHARD
    device: str = "cpu"
    films: Path | None = None

    @property
    def shards(self) -> Iterator[tuple[Path, range]]:
        """Files and the seeds that belong in them."""
        for start in range(0, len(self.chosen), self.people_per_shard):
            number = self.first + start // self.people_per_shard
            path = self.out / f"{self.split}-{number:05d}.npz"
            yield path, self.chosen[start : start + self.people_per_shard]


@lru_cache(maxsize=1)
def _studio(stage1: Path, autoencoder: Path, body: Path, device: str) -> Studio:
    """A process's own models; all of its parallelism is the other processes."""
    torch.set_num_threads(1)
    return Studio.open(stage1=stage1, autoencoder=autoencoder, body=body, device=device)


def _shoot(seed: int, *, plan: Plan) -> tuple[list[Clip], float]:
    """A person's clips, and the seconds of one core they took."""
    studio = _studio(plan.stage1, plan.autoencoder, plan.body, plan.device)
    path = None if plan.films is None else film_path(plan.films, seed)
    film = None if path is None or not path.exists() else read_film(path)
    started = time.process_time()
    clips = studio.clips(seed, frames=plan.frames, twin=plan.twins, mixture=plan.mixture, film=film)
    return clips, time.process_time() - started


@contextmanager
def _mapper(workers: int) -> Iterator[Callable]:
    if workers <= 1:
        yield map
        return
    # Not forked from here, since a fork copies the locks of torch's threads but not the threads.
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload([Studio.__module__])  # torch is imported once, not per worker
    pool = ProcessPoolExecutor(workers, mp_context=server)
    try:
        yield pool.map
    finally:
        pool.shutdown(cancel_futures=True)  # else an interrupted run films to its end


def build(plan: Plan, *, channels: int) -> list[float]:
    """Write the shards that are not there yet; seconds of one core per person filmed.

    `channels` is how many latent channels the model to be trained takes.
    """
    studio = _studio(plan.stage1, plan.autoencoder, plan.body, plan.device)
    black = studio.black_latent()
    if len(black) != channels:
        raise InputError(
            f"{plan.autoencoder}: has {len(black)} latent channels, the model to be trained takes "
            f"{channels}; choose an autoencoder or a --config that agree"
        )
    missing = [(path, want) for path, want in plan.shards if not _finished(path, want, plan, black)]
    total = sum(len(want) for _, want in missing)
    costs: list[float] = []
    started = time.monotonic()
    with _mapper(plan.workers) as mapped:
        made = mapped(partial(_shoot, plan=plan), [seed for _, want in missing for seed in want])
        for path, want in missing:
            clips: list[Clip] = []
            for _ in want:
                more, cost_s = next(made)
                clips += more
                costs.append(cost_s)
                left_s = (time.monotonic() - started) / len(costs) * (total - len(costs))
                _report(f"{path.name}: {len(costs)}/{total} people, {left_s / 60:.0f} min left")
            write_clips(path, clips, black_latent=black)
    return costs


def _finished(path: Path, want: Sequence[int], plan: Plan, black: NDArray[np.float16]) -> bool:
    """Whether a shard is there with all that belongs in it; not if a run wanted fewer clips."""
    if not path.exists():
        return False
    keys = ("seed", "azimuth", "black_latent", "video", "fit_noise")
    found = read_npz(path, keys=keys)
    if missing := set(keys) - set(found):
        raise InputError(f"{path}: no clip shard, {sorted(missing)} missing; choose another --out")
    frames, latent = found["azimuth"].shape[1], found["black_latent"]
    if frames != plan.frames:
        raise InputError(
            f"{path}: its clips hold {frames} frames, {plan.frames} were asked for; "
            "choose another --out"
        )
    if not same_latents(latent, black):
        raise InputError(
            f"{path}: was encoded by another autoencoder (latents {list(latent.shape)}, ours "
            f"{list(black.shape)}); choose another --out"
        )
    kept = found["seed"].tolist()
    wanted = [seed for seed in want for _ in range(1 + plan.twins)]
    videos = [plan.mixture.kind_of(seed) == "video" for seed in kept]
    levels = np.float32([plan.mixture.level_of(seed) for seed in kept])
    if found["video"].tolist() != videos or found["fit_noise"].tolist() != levels.tolist():
        raise InputError(
            f"{path}: holds {int(found['video'].sum())} videos, fits of level "
            f"{found['fit_noise'].max():g}; {sum(videos)} of level {levels.max():g} were asked "
            "for; choose another --out, --videos or --fit-noise"
        )
    if kept[: len(wanted)] == wanted:
        return True
    if kept != wanted[: len(kept)]:
        twins = " and their twins" if plan.twins else ""
        raise InputError(
            f"{path}: holds the clips {kept[0]}..{kept[-1]}, {want[0]}..{want[-1]}{twins} belong "
            "there; choose another --out"
        )
    return False


def _report(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, got {text!r}")
    return int(text)


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m reference.diffusion.build", description=__doc__
    )
    add = parser.add_argument
    add("--split", choices=tuple(SPLITS), required=True)
    add("--clips", type=_positive, required=True, help="people, one clip each, with --twins two")
    add(
        "--skip", type=int, default=0, help=f"people to leave out, a multiple of {PEOPLE_PER_SHARD}"
    )
    add(
        "--frames",
        type=_positive,
        default=24,
        help="of a clip, each kept once; training plays fewer than it needs forth and back",
    )
    add("--twins", action="store_true", help="a second clip of everybody's mirror image")
    add("--stage1", type=Path, required=True, help="checkpoint of the field")
    add("--autoencoder", type=Path, required=True, help="checkpoint of the autoencoder")
    add("--out", type=Path, required=True, help="folder of the shards")
    add("--config", choices=tuple(PRESETS), default="mini", help="the model to be trained")
    add("--body", type=Path, default=BODY)
    add("--workers", type=_positive, default=1, help="processes, one core each")
    add_mixture(parser, STAGE2)
    arguments = parser.parse_args(argv)
    everyone = len(SPLITS[arguments.split])
    if arguments.skip < 0 or arguments.skip % PEOPLE_PER_SHARD:
        parser.error(f"--skip: expected a multiple of {PEOPLE_PER_SHARD}, got {arguments.skip}")
    try:
        arguments.mixture = mixture_of(arguments)
    except InputError as error:
        parser.error(str(error))
    if arguments.skip + arguments.clips > everyone:
        parser.error(f"--clips: {arguments.split} has {everyone} people; ask for fewer")
    return arguments


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    arguments = _arguments(argv)
    skip = arguments.skip
    plan = Plan(
        split=arguments.split,
        chosen=SPLITS[arguments.split][skip : skip + arguments.clips],
        frames=arguments.frames,
        twins=arguments.twins,
        stage1=arguments.stage1,
        autoencoder=arguments.autoencoder,
        out=arguments.out,
        first=skip // PEOPLE_PER_SHARD,
        mixture=arguments.mixture,
        body=arguments.body,
        workers=arguments.workers,
    )
    try:
        plan.out.mkdir(parents=True, exist_ok=True)
        costs = build(plan, channels=PRESETS[arguments.config].unet.latent_channels)
    except (GasRtError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if costs:
        _report(f"{len(costs)} people, {np.mean(costs):.2f} s of one core each")
    else:
        _report("every shard is there already")
    return 0


if __name__ == "__main__":
    sys.exit(main())
