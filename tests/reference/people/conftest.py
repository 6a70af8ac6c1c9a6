"""One body and a few people, made once: they are what is slow here."""

from __future__ import annotations

from functools import lru_cache

import pytest

from gas_rt.body import BodyModel
from reference.people import Person
from reference.people.shards import BODY


@lru_cache(maxsize=1)
def _body() -> BodyModel:
    return BodyModel.open(BODY)


@lru_cache(maxsize=8)
def _person(seed: int) -> Person:
    return Person.from_seed(seed, _body())


@pytest.fixture(scope="session")
def body() -> BodyModel:
    return _body()


@pytest.fixture(scope="session")
def person():
    """Person by seed, shared by the tests: people are immutable."""
    return _person
