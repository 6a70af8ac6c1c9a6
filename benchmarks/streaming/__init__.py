"""Sessions under load: what pipelining brings, overload, a consumer that stops, a slow engine.

``python -m benchmarks.streaming --json`` runs every row; ``--quick`` in seconds, where counts are
judged and speed is not.
"""
