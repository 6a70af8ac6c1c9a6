"""A bundle's graphs on every backend that is here, and what fusing, folding and caching bring.

`python -m benchmarks.engines --help` lists the rows.
"""
