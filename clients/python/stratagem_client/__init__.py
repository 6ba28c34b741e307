"""Asks a Stratagem gateway, from Python: decisions one by one, on a stream and in columns; feedback; profiles.

In: addresses, shopper ids, events. Out: messages of stratagem.v1, numpy columns, or one Refused. Needs grpcio,
protobuf, numpy and the generated stubs `stratagem.v1`; nothing of the gateway itself.
"""

from stratagem_client.access import Access, Tls, TokenSource
from stratagem_client.batches import Batch, Decisions, Row
from stratagem_client.client import Client, Deadlines, Sizes
from stratagem_client.columns import Columns, Terms
from stratagem_client.feedback import Recorded
from stratagem_client.refusals import Failure, Refused, WrongUse
from stratagem_client.retries import Clock, RetryPolicy
from stratagem_client.streams import DecideStream
from stratagem_client.words import action_in_words, decision_in_words

__all__ = [
    "Access",
    "Batch",
    "Client",
    "Clock",
    "Columns",
    "Deadlines",
    "DecideStream",
    "Decisions",
    "Failure",
    "Recorded",
    "Refused",
    "RetryPolicy",
    "Row",
    "Sizes",
    "Terms",
    "Tls",
    "TokenSource",
    "WrongUse",
    "action_in_words",
    "decision_in_words",
]
