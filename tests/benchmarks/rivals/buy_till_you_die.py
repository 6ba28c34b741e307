"""BG/NBD with gamma-gamma spend, fitted by maximum likelihood: the rival of the lifetime benchmark.

In: repeat purchases, recency and age of each customer, and the mean value of repeat purchases. Out: expected purchases
and spend. Called by tests/benchmarks/published/lifetime.py.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import betaln, gammaln, hyp2f1

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Customers:
    """One row per customer; weeks or any one unit of time.

    repeats  (n,) purchases after the first, those of one day counted once
    recency  (n,) age at the last of them, 0 without any
    age      (n,) time since the first purchase
    value    (n,) mean spend of the repeat purchases, 0 without any
    """

    repeats: Floats
    recency: Floats
    age: Floats
    value: Floats


@dataclass(frozen=True)
class BgNbd:
    """Rates are gamma(r, alpha) over customers, drop-out after a purchase is beta(a, b).

    source  Fader, Hardie and Lee 2005, "Counting your customers" the easy way, eq. 6 and 10
    """

    r: float
    alpha: float
    a: float
    b: float

    def log_likelihood(self, known: Customers) -> float:
        """Of all customers."""
        r, alpha, a, b = self.r, self.alpha, self.a, self.b
        x, last, age = known.repeats, known.recency, known.age
        common = gammaln(r + x) - gammaln(r) + r * np.log(alpha) - betaln(a, b)
        stayed = betaln(a, b + x) - (r + x) * np.log(alpha + age)
        left = betaln(a + 1.0, b + np.maximum(x, 1.0) - 1.0) - (r + x) * np.log(alpha + last)
        return float((common + np.logaddexp(stayed, np.where(x > 0, left, -np.inf))).sum())

    def expected(self, known: Customers, ahead: float) -> Floats:
        """Purchases expected in the time ahead.

        returns  (n,) float64
        """
        r, alpha, a, b = self.r, self.alpha, self.a, self.b
        x, last, age = known.repeats, known.recency, known.age
        shrunk = ((alpha + age) / (alpha + age + ahead)) ** (r + x)
        series = hyp2f1(r + x, b + x, a + b + x - 1.0, ahead / (alpha + age + ahead))
        before = (a + b + x - 1.0) / (a - 1.0) * (1.0 - shrunk * series)
        left = np.where(x > 0, a / (b + np.maximum(x, 1.0) - 1.0) * ((alpha + age) / (alpha + last)) ** (r + x), 0.0)
        return np.asarray(before / (1.0 + left))


@dataclass(frozen=True)
class GammaGamma:
    """Spend per purchase is gamma(p, nu), nu is gamma(q, gamma) over customers.

    source  Fader and Hardie 2013, "The Gamma-Gamma model of monetary value", eq. 1a and 5
    """

    p: float
    q: float
    gamma: float

    def log_likelihood(self, known: Customers) -> float:
        """Of customers with repeat purchases."""
        p, q, gamma = self.p, self.q, self.gamma
        x, value = known.repeats, known.value
        return float(
            (
                gammaln(p * x + q) - gammaln(p * x) - gammaln(q) + q * np.log(gamma)
                + (p * x - 1.0) * np.log(value) + p * x * np.log(x) - (p * x + q) * np.log(gamma + x * value)
            ).sum()
        )  # fmt: skip

    def expected(self, known: Customers) -> Floats:
        """Spend per future purchase.

        returns  (n,) float64
        """
        p, q, gamma = self.p, self.q, self.gamma
        return np.asarray(p * (gamma + known.repeats * known.value) / (p * known.repeats + q - 1.0))


def fit_purchases(known: Customers) -> BgNbd:
    """Maximum likelihood from a few starts."""
    starts = np.log([(1.0, 1.0, 1.0, 1.0), (0.3, 5.0, 0.8, 2.5), (0.8, 10.0, 0.3, 3.0)])
    return BgNbd(*_likeliest(lambda logs: BgNbd(*np.exp(logs)).log_likelihood(known), starts))


def fit_value(known: Customers) -> GammaGamma:
    """Maximum likelihood over customers whose repeat purchases cost something."""
    again = (known.repeats > 0) & (known.value > 0)
    some = Customers(*(column[again] for column in (known.repeats, known.recency, known.age, known.value)))
    mean = float(some.value.mean())
    starts = np.log([(1.0, 2.0, mean), (6.0, 4.0, mean / 2.0), (2.0, 3.0, mean)])
    return GammaGamma(*_likeliest(lambda logs: GammaGamma(*np.exp(logs)).log_likelihood(some), starts))


def _likeliest(log_likelihood, starts):  # type: ignore[no-untyped-def]
    found = [
        minimize(
            lambda logs: -log_likelihood(np.clip(logs, -12.0, 12.0)), start, method="Nelder-Mead",
            options={"maxiter": 4_000, "maxfev": 8_000, "xatol": 1e-6, "fatol": 1e-6},
        )
        for start in starts
    ]  # fmt: skip
    return np.exp(min(found, key=lambda one: one.fun).x).tolist()
