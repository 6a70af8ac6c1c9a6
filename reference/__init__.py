"""GAS in PyTorch: the models, synthetic people, training and evaluation."""

import os

# Everything here shares the processors out by itself, and OpenBLAS's threads, which NumPy starts
# unless told before it is loaded, go on spinning after every product of many points: a clip's
# renders took 1.6 times the processor time.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
