"""From nothing to a bundle in one command: ``python -m reference.make_bundle --out DIR``.

`recipe` says what is trained on how much, `ledger` keeps what a run has decided and spent, so that
it can be killed and continued, `stages` are the steps, `filming` draws people on the processor
while models are trained on a GPU.
"""
