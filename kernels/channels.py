"""Contacts by channel as of a query: how many were sent through each, and how many were answered.

In: contacts and answers of all shoppers, sorted. Out: counts for each query. Called by training/features/tags.py, whose
tags name the channel that a shopper answers in.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kernels.checks import InvalidInput, check, check_array, check_each, is_ascending, plain
from kernels.compiled import entry
from kernels.tag_limits import CHANNELS


@dataclass(frozen=True)
class Contacts:
    """Every contact and every answer, those of a shopper ascending in time.

    offsets    (n_shoppers + 1,) int64  shopper i owns rows offsets[i] to offsets[i + 1]
    time_s     (n_contacts,) int64      seconds since the epoch, UTC
    channel    (n_contacts,) int8       place in CHANNELS
    is_answer  (n_contacts,) bool       an answer (a redemption), else a contact (an exposure)
    raises     InvalidInput             if a column has another type or length, a value out of range, or time descends
    """

    offsets: NDArray[np.int64]
    time_s: NDArray[np.int64]
    channel: NDArray[np.int8]
    is_answer: NDArray[np.bool_]

    def __post_init__(self) -> None:
        """Check every column once; the loop behind trusts them."""
        check_array("offsets", self.offsets, np.int64)
        check_array("time_s", self.time_s, np.int64)
        check_array("channel", self.channel, np.int8)
        check_array("is_answer", self.is_answer, np.bool_)
        n_rows = self.time_s.size
        check(self.channel.size == n_rows, f"channel must have {n_rows} values, got {self.channel.size}")
        check(self.is_answer.size == n_rows, f"is_answer must have {n_rows} values, got {self.is_answer.size}")
        check(self.offsets.size >= 1 and self.offsets[0] == 0, "offsets must begin with 0")
        check(is_ascending(self.offsets), "offsets must ascend")
        check(self.offsets[-1] == n_rows, f"offsets must end with {n_rows}, got {self.offsets[-1]}")
        is_place = (self.channel >= 0) & (self.channel < len(CHANNELS))
        check_each("channel", self.channel, is_place, f"in [0, {len(CHANNELS)})")
        descends = np.flatnonzero(self.time_s[1:] < self.time_s[:-1]) + 1
        inside = descends[~np.isin(descends, self.offsets)]
        if inside.size:
            raise InvalidInput(f"time_s must ascend within a shopper, got a descent (at [{int(inside[0])}])")


def channel_counts(contacts: Contacts, shopper: NDArray[np.int64], at_s: NDArray[np.int64]) -> NDArray[np.float32]:
    """Count contacts and answers in each channel as of each query: those at that very second count.

    contacts  of all shoppers
    shopper   (n_queries,) int64  shopper indexes, in any order
    at_s      (n_queries,) int64  seconds since the epoch
    returns   (n_queries, 2 * n_channels) float32  contacts in each of CHANNELS, then answers
    raises    InvalidInput        if a query names an unknown shopper or lengths differ
    source    reference.channel_counts
    """
    check_array("shopper", shopper, np.int64)
    check_array("at_s", at_s, np.int64)
    check(shopper.size == at_s.size, f"at_s must have n_queries {shopper.size} values, got {at_s.size}")
    n_shoppers = contacts.offsets.size - 1
    check_each("shopper", shopper, (shopper >= 0) & (shopper < n_shoppers), f"in [0, {n_shoppers})")
    counts = np.zeros((shopper.size, 2 * len(CHANNELS)), np.float32)
    columns = (plain(contacts.offsets), plain(contacts.time_s), plain(contacts.channel), plain(contacts.is_answer))
    _channel_counts(columns, plain(shopper), plain(at_s), counts)
    return counts


@entry
def _channel_counts(columns, shopper, at_s, counts):
    offsets, time_s, channel, is_answer = columns
    n_channels = counts.shape[1] // 2
    for query in range(shopper.size):
        for row in range(offsets[shopper[query]], offsets[shopper[query] + 1]):
            if time_s[row] > at_s[query]:
                break
            counts[query, channel[row] + n_channels * is_answer[row]] += 1.0
