"""Servers that the gateway is measured against: bare echoes, a naive server, Ray Serve and a bare Triton ensemble.

In: the same protos, models, TLS and tokens as the gateway's. Out: addresses on 127.0.0.1 (starting.py), and requests/s
by h2load (driver.py). `python -m tests.benchmarks.rivals.gateway` prints them all; tests.benchmarks gateway calls both.
"""
