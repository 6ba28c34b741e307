"""Models on public data sets, each beside its simple rivals and the published number with its protocol.

One module for each protocol: `fit` trains every seed and keeps weights and scores in CACHE, `measure` scores the whole
test set from what is kept. Run by `python -m tests.benchmarks models`.
"""
