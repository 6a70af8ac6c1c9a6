"""What ``gas-rt bench`` is made of: arrivals, drivers, figures, a viewer, promises, comparison.

Everything but `gas_rt.bench.drive` and `gas_rt.bench.rounds` is pure; those take their clocks.
"""
