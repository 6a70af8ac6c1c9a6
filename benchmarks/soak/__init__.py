"""Hours in minutes: a long stream, many sessions, and leaks made on purpose that must be caught.

``python -m benchmarks.soak --json``; each part is a process of its own, ``--state FILE`` goes on
where an interrupted run ended, ``--quick`` runs all of it in seconds.
"""
