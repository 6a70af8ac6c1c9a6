"""Which layers may be narrow: the worst stay wide, and no more of them than the budget asks."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from export.precision.choose import choose, culprits

NAMES = [f"layer {k}" for k in range(12)]


def additive(errors):
    """An error that is the root of the sum of squares of those of the narrow layers."""

    def error_of(flags):
        return math.sqrt(sum(e * e for e, on in zip(errors, flags, strict=True) if on))

    return error_of


def test_all_layers_if_the_budget_lets():
    choice = choose(NAMES, additive([0.1] * 12), budget=1.0)
    assert choice.narrow == tuple(NAMES)
    assert choice.kept == {}
    assert choice.error == choice.error_of_all


def test_the_one_that_hurts_is_kept():
    errors = [0.01] * 12
    errors[7] = 3.0
    choice = choose(NAMES, additive(errors), budget=0.1)
    assert choice.kept == {"layer 7": 3.0}
    assert choice.error <= 0.1 < choice.error_of_all


def test_what_is_not_finite_is_worse_than_anything():
    def error_of(flags):
        return float("nan") if flags[3] else 0.0

    choice = choose(NAMES, error_of, budget=0.1)
    assert list(choice.kept) == ["layer 3"]


def test_nothing_is_narrow_if_every_layer_is_too_much():
    choice = choose(NAMES, additive([1.0] * 12), budget=0.5)
    assert choice.narrow == ()
    assert choice.error == 0.0


@given(
    errors=st.lists(st.floats(0, 10), min_size=1, max_size=12),
    budget=st.floats(1e-3, 20),
)
def test_the_budget_holds_and_one_fewer_kept_would_break_it(errors, budget):
    names = NAMES[: len(errors)]
    error_of = additive(errors)
    choice = choose(names, error_of, budget=budget)
    assert set(choice.narrow) | set(choice.kept) == set(names)
    assert choice.error == error_of([name in choice.narrow for name in names])
    assert choice.error <= budget
    if choice.kept:
        again = list(choice.kept)[-1]  # the least of those kept
        narrow = {*choice.narrow, again}
        assert error_of([name in narrow for name in names]) > budget


@given(guilty=st.sets(st.sampled_from(NAMES)))
def test_culprits_are_those_that_are_guilty(guilty):
    asked = []

    def is_guilty(names):
        asked.append(names)
        return bool(guilty.intersection(names))

    assert set(culprits(NAMES, is_guilty)) == guilty
    assert len(asked) <= 1 + 2 * len(guilty) * math.ceil(math.log2(len(NAMES)))
