"""The kernels against what a user would take in their place, and against the machine's peak.

``python -m benchmarks.kernels --json`` runs every row; ``--quick`` runs them at small sizes, where
only correctness is judged.
"""
