"""Shopper tags as of a query: what FEATURES say of a shopper beside limits that were fitted on the training window.

In: rows of FEATURES, contacts by channel, TagLimits. Out: one row of TAGS for each. Called by training/features/tags.py
for many rows and by server/gateway/profile.py for one; both go through the same loop.
"""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.checks import check, check_array, plain
from kernels.compiled import entry
from kernels.features import N_CATEGORIES, N_FEATURES, columns
from kernels.tag_limits import (
    CHANNELS,
    LIFECYCLES,
    N_AFFINITIES,
    N_CHURN_INPUTS,
    N_SCORES,
    N_TAGS,
    TagLimits,
    tag_columns,
)

# Evidence below which a tag stays unknown: two recent lines of a category, five lines ever, two answers in a channel.
FEWEST_CATEGORY_LINES, FEWEST_LINES, FEWEST_ANSWERS = 2.0, 5.0, 2.0
LEAST_LIFT = 1.2
# What the shop's habit is worth beside the shopper's own: lines of a category, gaps between orders, contacts.
PRIOR_LINES, PRIOR_GAPS, PRIOR_CONTACTS = 5.0, 2.0, 10.0

_NEVER, _NEW, _ACTIVE, _AT_RISK, _LAPSED, _WON_BACK = range(len(LIFECYCLES))
# float32 keeps 6e-8 of a sum of orders; a remainder below this is mostly rounding.
_LEAST_REMAINDER = 4e-6
_NAMES = columns()
_RECENCY, _HAS_ORDERED, _N_ORDERS = (_NAMES.index(name) for name in ("order_recency_days", "has_ordered", "n_orders"))
_ORDERS_7, _ORDERS_28, _ORDERS_91 = (_NAMES.index(f"orders_hl{days}d") for days in (7, 28, 91))
_GAP, _SPEND_91, _BASKET = (_NAMES.index(name) for name in ("order_gap_mean_days", "spend_hl91d", "basket_lines_mean"))
_DISCOUNTED, _COUPON, _LINE_PRICE = (
    _NAMES.index(name) for name in ("discounted_line_share_hl91d", "coupon_line_share_hl91d", "line_price_hl91d")
)
_CATEGORY_LINES = _NAMES.index("category_lines_hl91d[0]")
_SLOTS, _LIFTS, _PRICE, _RHYTHM, _CHANNEL, _LIFECYCLE = (
    tag_columns().index(name)
    for name in (
        "affinity_slot[0]", "affinity_lift[0]", "promoted_line_share", "expected_gap_days", "channel", "lifecycle"
    )
)  # fmt: skip


def tags(features: NDArray[np.float32], contacts: NDArray[np.float32], limits: TagLimits) -> NDArray[np.float32]:
    """Return every tag of each row of features; NaN where a tag is a number that is not known.

    features  (n, N_FEATURES) float32       as `kernels.features.features_at` gives them, as of any query
    contacts  (n, 2 * n_channels) float32   contacts in each of CHANNELS, then answers; zeros where they are not known
    limits    fitted on the training window
    returns   (n, N_TAGS) float32           columns of TAGS
    raises    InvalidInput                  if a shape or type is wrong
    source    reference.tags
    """
    _check_rows(features)
    check_array("contacts", contacts, np.float32, n_dims=2)
    wanted = (features.shape[0], 2 * len(CHANNELS))
    check(contacts.shape == wanted, f"contacts must have shape {wanted}, got {contacts.shape}")
    out = np.empty((features.shape[0], N_TAGS), np.float32)
    _tags(plain(features), plain(contacts), _packed(limits), out)
    return out


def churn_inputs(features: NDArray[np.float32], typical_gap_days: float) -> NDArray[np.float64]:
    """Return what the probability of churn is read from, for fitting it.

    features          (n, N_FEATURES) float32
    typical_gap_days  > 0
    returns           (n, N_CHURN_INPUTS) float64  logarithms of recency, due, orders ever and lately, and expected gap
    raises            InvalidInput  if a shape or type is wrong
    source            reference.churn_inputs
    """
    _check_rows(features)
    check(typical_gap_days > 0, f"typical_gap_days must be > 0, got {typical_gap_days}")
    inputs = np.empty((features.shape[0], N_CHURN_INPUTS))
    _churn_inputs(plain(features), float(typical_gap_days), inputs)
    return inputs


def price_numbers(features: NDArray[np.float32], category_price: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what price sensitivity is read from, for fitting its quantiles.

    features        (n, N_FEATURES) float32
    category_price  (N_CATEGORIES,) float64  mean list price of a line, currency units; 0 where unknown
    returns         (n, 2) float64  promoted_line_share and price_position; NaN below evidence
    raises          InvalidInput  if a shape or type is wrong
    source          reference.price_numbers
    """
    _check_rows(features)
    check_array("category_price", category_price, np.float64)
    wanted = (N_CATEGORIES,)
    check(category_price.shape == wanted, f"category_price must have shape {wanted}, got {category_price.shape}")
    numbers = np.empty((features.shape[0], 2))
    _price_numbers(plain(features), plain(category_price), numbers)
    return numbers


def _check_rows(features: NDArray[np.float32]) -> None:
    check_array("features", features, np.float32, n_dims=2)
    check(features.shape[1] == N_FEATURES, f"features must have N_FEATURES {N_FEATURES} columns, got {features.shape}")


def _packed(limits: TagLimits) -> tuple[NDArray[np.float64], ...]:
    """Arrays for the loop, the single numbers last in one of their own."""
    return (
        np.array([limits.recency_days, limits.frequency, limits.monetary]),
        np.array([limits.category_share, limits.category_price]),
        np.array(limits.promoted_share, np.float64),
        np.array(limits.price_position, np.float64),
        np.array(limits.churn_coefficients, np.float64),
        np.array(limits.channel_rate, np.float64),
        np.array([*limits.sensitivity, limits.typical_gap_days, limits.at_risk_due, limits.lapsed_due]),
    )


@njit(nogil=True)
def _n_below(edges, value):
    n_below = 0
    for edge in edges:
        if edge < value:
            n_below += 1
    return n_below


@njit(nogil=True)
def _rank(knots, value):
    below = 0.0
    for knot in knots:
        if knot < value:
            below += 1.0
        elif knot == value:
            below += 0.5
    return below / max(knots.size, 1)


@njit(nogil=True)
def _tier(recency, frequency, monetary):
    tier = 7.0
    if recency >= 4 and frequency >= 4 and monetary >= 4:
        tier = 1.0
    elif recency >= 3 and frequency >= 4:
        tier = 2.0
    elif recency >= 3 and monetary >= 4:
        tier = 3.0
    elif recency >= 4:
        tier = 4.0
    elif recency <= 2 and (frequency >= 4 or monetary >= 4):
        tier = 5.0
    elif recency == 3:
        tier = 6.0
    return tier


@njit(nogil=True)
def _expected_gap(row, typical):
    n_gaps = max(row[_N_ORDERS] - 1.0, 0.0)
    return (row[_GAP] * n_gaps + PRIOR_GAPS * typical) / (n_gaps + PRIOR_GAPS)


@njit(nogil=True)
def _last_gap(row):
    # What the earlier orders are still worth says how near the latest of them can be: they are at least one order.
    recency = row[_RECENCY]
    gap = 0.0
    for column, half_life in ((_ORDERS_7, 7.0), (_ORDERS_28, 28.0), (_ORDERS_91, 91.0)):
        earlier = max(row[column] - 0.5 ** (recency / half_life), _LEAST_REMAINDER)
        gap = max(gap, -half_life * math.log2(earlier) - recency)
    return gap


@njit(nogil=True)
def _write_affinities(row, share, slots, lifts):
    n_lines = 0.0
    for slot in range(N_CATEGORIES):
        n_lines += row[_CATEGORY_LINES + slot]
    slots[:] = -1.0
    lifts[:] = np.nan
    n_found = 0
    for slot in range(N_CATEGORIES):
        own = row[_CATEGORY_LINES + slot]
        if share[slot] <= 0.0 or own < FEWEST_CATEGORY_LINES:
            continue
        lift = (own + PRIOR_LINES * share[slot]) / (n_lines + PRIOR_LINES) / share[slot]
        if lift < LEAST_LIFT:
            continue
        place = n_found
        while place > 0 and lifts[place - 1] < lift:
            place -= 1
        last = min(n_found, N_AFFINITIES - 1)
        for moved in range(last, place, -1):
            slots[moved] = slots[moved - 1]
            lifts[moved] = lifts[moved - 1]
        if place < N_AFFINITIES:
            slots[place] = slot
            lifts[place] = lift
        n_found = min(n_found + 1, N_AFFINITIES)


@njit(nogil=True)
def _write_price_numbers(row, price, out):
    out[0] = np.nan
    out[1] = np.nan
    if row[_N_ORDERS] * row[_BASKET] < FEWEST_LINES:
        return
    out[0] = 1.0 - (1.0 - row[_DISCOUNTED]) * (1.0 - row[_COUPON])
    expected, n_lines = 0.0, 0.0
    for slot in range(N_CATEGORIES):
        if price[slot] > 0.0:
            expected += row[_CATEGORY_LINES + slot] * price[slot]
            n_lines += row[_CATEGORY_LINES + slot]
    if expected > 0.0:
        out[1] = row[_LINE_PRICE] / (expected / n_lines)


@njit(nogil=True)
def _write_churn_inputs(row, typical, out):
    expected = _expected_gap(row, typical)
    recency = row[_RECENCY]
    out[0] = math.log1p(recency)
    out[1] = math.log1p(recency / expected)
    out[2] = math.log1p(row[_N_ORDERS])
    out[3] = math.log1p(row[_ORDERS_28])
    out[4] = math.log1p(row[_ORDERS_91])
    out[5] = math.log(expected)


@njit(nogil=True)
def _probability(inputs, coefficients):
    logit = coefficients[inputs.size]
    for place in range(inputs.size):
        logit += coefficients[place] * inputs[place]
    return 1.0 / (1.0 + math.exp(-min(max(logit, -30.0), 30.0)))


@njit(nogil=True)
def _write_sensitivity(out, promoted_share, price_position, low, high):
    out[2] = np.nan
    out[3] = 0.0
    if np.isnan(out[0]):
        return
    rank = _rank(promoted_share, out[0])
    if not np.isnan(out[1]):
        rank = 0.5 * (rank + 1.0 - _rank(price_position, out[1]))
    out[2] = rank
    out[3] = 2.0
    if rank < low:
        out[3] = 1.0
    elif rank > high:
        out[3] = 3.0


@njit(nogil=True)
def _lifecycle(row, typical, at_risk_due, lapsed_due):
    due = row[_RECENCY] / _expected_gap(row, typical)
    n_gaps = max(row[_N_ORDERS] - 1.0, 0.0)
    lifecycle = _ACTIVE
    if due > lapsed_due:
        lifecycle = _LAPSED
    elif due > at_risk_due:
        lifecycle = _AT_RISK
    elif n_gaps == 0.0:
        lifecycle = _NEW
    else:
        gap = _last_gap(row)
        before = (max(row[_GAP] * n_gaps - gap, 0.0) + PRIOR_GAPS * typical) / (n_gaps - 1.0 + PRIOR_GAPS)
        if gap > lapsed_due * before:
            lifecycle = _WON_BACK
    return lifecycle


@njit(nogil=True)
def _write_channel(contacts, rate, out):
    out[0] = 0.0
    out[1] = np.nan
    n_channels = rate.size
    for channel in range(n_channels):
        answered = contacts[n_channels + channel]
        if answered < FEWEST_ANSWERS:
            continue
        # An answer without a known contact still counts, over one contact for each answer.
        sent = max(contacts[channel], answered)
        own = (answered + PRIOR_CONTACTS * rate[channel]) / (sent + PRIOR_CONTACTS)
        if not own <= out[1]:
            out[0] = channel + 1.0
            out[1] = own


@entry
def _tags(features, contacts, limits, out):
    scores, shop, promoted_share, price_position, coefficients, channel_rate, numbers = limits
    low, high, typical, at_risk_due, lapsed_due = numbers
    # float64 throughout, so that compiled and interpreted loops round alike.
    row = np.empty(features.shape[1])
    own = np.empty(out.shape[1])
    inputs = np.empty(coefficients.size - 1)
    for query in range(features.shape[0]):
        row[:] = features[query]
        has_ordered = row[_HAS_ORDERED] > 0.0
        own[:_SLOTS] = 0.0
        _write_affinities(row, shop[0], own[_SLOTS:_LIFTS], own[_LIFTS:_PRICE])
        _write_price_numbers(row, shop[1], own[_PRICE : _PRICE + 2])
        _write_sensitivity(own[_PRICE:_RHYTHM], promoted_share, price_position, low, high)
        own[_RHYTHM] = np.nan
        own[_RHYTHM + 1] = np.nan
        own[_LIFECYCLE] = _NEVER
        if has_ordered:
            own[0] = N_SCORES - _n_below(scores[0], row[_RECENCY])
            own[1] = 1 + _n_below(scores[1], row[_ORDERS_91])
            own[2] = 1 + _n_below(scores[2], row[_SPEND_91])
            own[3] = _tier(own[0], own[1], own[2])
            own[_RHYTHM] = _expected_gap(row, typical)
            _write_churn_inputs(row, typical, inputs)
            own[_RHYTHM + 1] = _probability(inputs, coefficients)
            own[_LIFECYCLE] = _lifecycle(row, typical, at_risk_due, lapsed_due)
        _write_channel(contacts[query], channel_rate, own[_CHANNEL:_LIFECYCLE])
        out[query, :] = own


@entry
def _churn_inputs(features, typical, out):
    row = np.empty(features.shape[1])
    for query in range(features.shape[0]):
        row[:] = features[query]
        _write_churn_inputs(row, typical, out[query])


@entry
def _price_numbers(features, price, out):
    row = np.empty(features.shape[1])
    for query in range(features.shape[0]):
        row[:] = features[query]
        _write_price_numbers(row, price, out[query])
