"""The machine's load: parsing what the kernel tells, and what is too much."""

from __future__ import annotations

import pytest

from gas_rt.bench.load import (
    CpuTimes,
    Limits,
    Load,
    load_between,
    parse_cpu_times,
    read_cpu_times,
    spread,
)


def test_fields_of_the_kernel() -> None:
    text = "cpu  9 9 9 9\ncpu0 100 20 30 4000 50 6 7 80 9 1\ncpu1 1 2 3 4\ncpu10 7 7 7 7\nintr 5\n"
    assert parse_cpu_times(text, cpus={0}, ticks_per_s=10) == CpuTimes(16.3, 405.0, 8.0)
    assert parse_cpu_times(text, cpus={1}, ticks_per_s=1) == CpuTimes(6.0, 4.0, 0.0)
    assert parse_cpu_times(text, cpus={0, 1}, ticks_per_s=1) == CpuTimes(169.0, 4054.0, 80.0)


def test_this_machine_is_read() -> None:
    found = read_cpu_times()
    assert found is not None
    assert found.busy_s > 0


@pytest.mark.parametrize(
    "text", ["", "intr 5", "cpu0", "cpu0 a b c d", "cpu0 1 2 3", "cpu0 1 2 3 -4", "cpu 1 2 3 4"]
)
def test_what_is_no_such_line(text: str) -> None:
    assert parse_cpu_times(text, cpus={0}, ticks_per_s=100) is None


def test_what_was_not_ours() -> None:
    before, after = CpuTimes(10, 10, 1), CpuTimes(16, 13, 2)
    found = load_between(before, after, own_cpu_s=5)
    assert found.other_share == pytest.approx(0.1)
    assert found.steal_share == pytest.approx(0.1)
    assert load_between(before, after, own_cpu_s=7).other_share == 0  # rounding of ticks
    assert load_between(before, before, own_cpu_s=0) == Load(None, None)
    assert load_between(None, after, own_cpu_s=0) == Load(None, None)


def test_problems_name_the_share_and_the_limit() -> None:
    limits = Limits(other_share=0.05, steal_share=0.02)
    assert Load(0.05, 0.02).problems(limits) == []
    assert Load(None, None).problems(limits) == []
    found = Load(0.061, 0.5).problems(limits)
    assert found == [
        "other processes took 6.1% of the processors, limit 5%",
        "the host took 50.0% of the processors, limit 2%",
    ]


def test_spread() -> None:
    assert spread([30, 33, 36]) == pytest.approx(6 / 33)
    assert spread([10, 30]) == 1.0
    assert spread([30]) is None
    assert spread([0, 0]) is None
