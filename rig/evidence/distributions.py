"""Tail probabilities of the distributions that a result is described by (GUM annex G, JCGM 106)."""

import math

#: Above so many degrees of freedom Student's distribution is the normal one.
MANY = 10_000
_TOLERANCE = 1e-14
_MOST_TERMS = 500


def upper_tail(t: float, degrees_of_freedom: float = math.inf) -> float:
    """Return the probability that a standardised variable exceeds *t*.

    Normal for infinitely many degrees of freedom, else Student's t, whose tail is half a regularised incomplete beta
    function (Abramowitz and Stegun 26.7.1).
    """
    if degrees_of_freedom >= MANY:
        return 0.5 * math.erfc(t / math.sqrt(2))
    whole = degrees_of_freedom + t * t
    half = 0.5 * _incomplete_beta(degrees_of_freedom / whole, t * t / whole, degrees_of_freedom / 2, 0.5)
    return half if t >= 0 else 1 - half


def _incomplete_beta(x: float, rest: float, a: float, b: float) -> float:
    """Return I_x(a, b) by its continued fraction (Abramowitz and Stegun 26.5.8), on the side where it converges.

    *rest* is 1 - x, which has no digits left where x is all but 1.
    """
    if x <= 0 or rest <= 0:
        return 0.0 if x <= 0 else 1.0
    front = math.exp(a * math.log(x) + b * math.log(rest) + math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b))
    if x > (a + 1) / (a + b + 2):
        return 1 - front * _continued_fraction(rest, b, a) / b
    return front * _continued_fraction(x, a, b) / a


def _continued_fraction(x: float, a: float, b: float) -> float:
    """Evaluate by Lentz's method; its numerators alternate between two forms."""
    value, c, d = 1.0, 1.0, 0.0
    for term in range(_MOST_TERMS):
        m = term // 2
        if term == 0:
            numerator = 1.0
        elif term % 2:
            numerator = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            numerator = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d = 1 / (1 + numerator * d)
        c = 1 + numerator / c
        value *= c * d
        if abs(c * d - 1) < _TOLERANCE and term:
            break
    return value - 1
