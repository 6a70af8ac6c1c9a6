"""Judging what the models show of people they were not trained on, against the truth."""
