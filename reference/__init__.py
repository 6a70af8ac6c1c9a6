"""GAS in PyTorch: the models, synthetic people, training and evaluation."""

import os

# Everything here shares the processors out by itself, and OpenBLAS's threads, which NumPy starts
# unless told before it is loaded, go on spinning after every product of many points: two processes
# that made clips took 1.7 times as long.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
