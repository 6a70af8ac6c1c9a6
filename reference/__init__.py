"""GAS in PyTorch: the models, synthetic people, training and evaluation."""
