"""Identities are integers; train, validation and test people never share one."""

from __future__ import annotations

import hashlib

import numpy as np

from gas_rt.errors import InputError

__all__ = ["TEST", "TRAIN", "VALIDATION", "generator"]

TRAIN = range(900_000)
VALIDATION = range(900_000, 950_000)
TEST = range(950_000, 1_000_000)


def generator(seed: int, stream: str) -> np.random.Generator:
    """The random numbers of one aspect of one identity.

    Every aspect (shape, outfit, motion, …) draws from its own counter-based stream, so adding a
    draw to one of them leaves the others as they were.
    """
    if not 0 <= seed < TEST.stop:
        raise InputError(f"seed: expected 0..{TEST.stop - 1}, got {seed}; pick one in that range")
    digest = hashlib.blake2b(stream.encode(), digest_size=8).digest()
    key = np.array([seed, int.from_bytes(digest, "little")], np.uint64)
    return np.random.Generator(np.random.Philox(key=key))
