"""What one direction of the network does to packets, in netem's own words.

Shared by the rig, which asks for it, and by the virtual bench's relay, which carries it out. Figures quoted in the
refusals were measured against the kernel's netem.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from rig.errors import BenchError

Distribution = Literal["uniform", "normal", "pareto", "paretonormal"]

# The packet rate for which `limit` must be able to hold the delay. A board that speaks DTLS stays far below it.
LIMIT_RATE_PACKETS_S = 1000

# netem's tables end at 4 sigma.
TABLE_REACH = 4.0

_REFUSED_WORDS = {
    "loss_correlation": "netem's correlated loss is broken (loss 20% 50% loses 3 %): use GilbertElliott for bursts",
    "loss_state": "the four-state model is not supported: use GilbertElliott for bursts",
    "delay_correlation": "netem's correlated delay does not keep the distribution: leave it out",
    "duplicate_correlation": "netem's correlations shift the rate: leave it out",
    "reorder_correlation": "netem's correlations shift the rate: leave it out",
    "corrupt_correlation": "netem's correlations shift the rate: leave it out",
    "ecn": "ecn marks instead of dropping, and a UDP board answers no mark: leave it out",
    "slot": "slots are not supported: use delay_s and rate_bit_s",
}


class ImpairmentError(BenchError):
    """An impairment that netem cannot carry out, or carries out wrongly. The message names the alternative."""


@dataclass(frozen=True)
class GilbertElliott:
    """Loss in bursts: netem's ``loss gemodel``, all four in percent per packet.

    ``p`` good to bad, ``r`` bad to good, ``one_minus_h`` loss in the bad state, ``one_minus_k`` in the good one.
    """

    p: float
    r: float
    one_minus_h: float = 100.0
    one_minus_k: float = 0.0

    def __post_init__(self) -> None:
        for name in ("p", "r", "one_minus_h", "one_minus_k"):
            _check_percent(f"gemodel {name}", getattr(self, name))
        if self.p == 0 or self.r == 0:
            raise ImpairmentError("gemodel with p or r of 0 never changes its state: use a plain loss percentage")

    @property
    def rate(self) -> float:
        """The long-run share of packets lost, 0 to 1: p/(p+r) (1-h) + r/(p+r) (1-k)."""
        return (self.p * self.one_minus_h + self.r * self.one_minus_k) / (self.p + self.r) / 100

    def __str__(self) -> str:
        return f"gemodel {self.p:g}% {self.r:g}% {self.one_minus_h:g}% {self.one_minus_k:g}%"


@dataclass(frozen=True)
class Impairment:
    """One netem setting of one direction. Percentages are 0 to 100, times seconds.

    loss: independent loss in percent, or a `GilbertElliott`
    delay_s, jitter_s, distribution: one-way delay; jitter is the half width of ``uniform`` and the sigma of the
        tables. Jitter reorders packets, as netem does, unless ``rate_bit_s`` keeps them in line.
    duplicate, corrupt: percent; corrupt flips one bit
    reorder, gap: this percentage of every ``gap``-th packet is sent at once, past those in delay
    rate_bit_s: link rate in bit/s, 0 for none; Ethernet frames are counted, as netem does (payload + 42 bytes)
    limit: packets held at most; one more is dropped
    seed: of the random draws; None lets the router draw one, which its read-back shows
    """

    loss: float | GilbertElliott = 0.0
    delay_s: float = 0.0
    jitter_s: float = 0.0
    distribution: Distribution = "uniform"
    duplicate: float = 0.0
    reorder: float = 0.0
    gap: int = 1
    corrupt: float = 0.0
    rate_bit_s: int = 0
    limit: int = 1000
    seed: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.loss, GilbertElliott):
            _check_percent("loss", self.loss)
        for name in ("duplicate", "reorder", "corrupt"):
            _check_percent(name, getattr(self, name))
        for name in ("delay_s", "jitter_s"):
            _check_number(name, getattr(self, name), 3600)
        for name in ("gap", "limit"):
            _check_integer(name, getattr(self, name), 1, 2**32 - 1)
        _check_integer("rate_bit_s", self.rate_bit_s, 0, 2**40)
        if self.seed is not None:
            _check_integer("seed", self.seed, 0, 2**64 - 1)
        self._check_jitter()
        self._check_reorder()
        self._check_rate_and_limit()

    def _check_jitter(self) -> None:
        if self.distribution not in get_args(Distribution):
            names = ", ".join(get_args(Distribution))
            raise ImpairmentError(f"distribution {self.distribution!r} is unknown: netem has {names}")
        if self.distribution != "uniform" and not self.jitter_s:
            raise ImpairmentError(f"distribution {self.distribution} shapes the jitter, and jitter_s is 0: give it")
        if self.jitter_s > self.delay_s:
            raise ImpairmentError(
                f"jitter_s {self.jitter_s:g} exceeds delay_s {self.delay_s:g}: netem cuts negative delays off at 0, "
                "which shifts the mean. Raise delay_s or lower jitter_s"
            )

    def _check_reorder(self) -> None:
        if self.reorder and not self.delay_s:
            raise ImpairmentError("reorder sends packets past those in delay, and delay_s is 0: give delay_s")
        if self.gap != 1 and not self.reorder:
            raise ImpairmentError(
                f"gap {self.gap} without reorder makes netem reorder every packet of it: give reorder"
            )

    def _check_rate_and_limit(self) -> None:
        if 0 < self.rate_bit_s < 8:
            raise ImpairmentError(f"rate_bit_s {self.rate_bit_s} is less than the byte a second that netem counts in")
        reach = 1.0 if self.distribution == "uniform" else TABLE_REACH
        needed = math.ceil(LIMIT_RATE_PACKETS_S * (self.delay_s + reach * self.jitter_s) - 1e-9)
        if self.limit < needed:
            raise ImpairmentError(
                f"limit {self.limit} is too small for the delay: netem drops what exceeds it, and "
                f"{LIMIT_RATE_PACKETS_S} packets/s keep {needed} packets in delay. Give limit {needed} or more"
            )

    @classmethod
    def none(cls) -> "Impairment":
        """Return the setting that changes nothing."""
        return cls()

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Impairment":
        """Build from what `to_dict` gave, or a person wrote. An unknown key raises `ImpairmentError`."""
        _check_keys(cls, values)
        loss = values.get("loss", 0.0)
        if isinstance(loss, Mapping):
            _check_keys(GilbertElliott, loss)
            if missing := {"p", "r"} - set(loss):
                raise ImpairmentError(f"gemodel needs p and r, in percent; missing: {', '.join(sorted(missing))}")
            loss = GilbertElliott(**loss)
        return cls(**{**values, "loss": loss})

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; a `GilbertElliott` becomes an object under ``loss``."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        """Return the equivalent ``tc`` words, without those that are at rest."""
        loss = self.loss if isinstance(self.loss, GilbertElliott) else f"random {self.loss:g}%"
        words = [
            ("netem", f"limit {self.limit}", True),
            ("delay", _delay_words(self), self.delay_s),
            ("loss", loss, self.loss),
            ("duplicate", f"{self.duplicate:g}%", self.duplicate),
            ("reorder", f"{self.reorder:g}% gap {self.gap}", self.reorder),
            ("corrupt", f"{self.corrupt:g}%", self.corrupt),
            ("rate", f"{self.rate_bit_s}bit", self.rate_bit_s),
            ("seed", self.seed, self.seed is not None),
        ]
        return " ".join(f"{word} {value}" for word, value, present in words if present)


def _delay_words(impairment: Impairment) -> str:
    words = f"{impairment.delay_s * 1e3:g}ms"
    if impairment.jitter_s:
        words += f" {impairment.jitter_s * 1e3:g}ms"
    if impairment.distribution != "uniform":
        words += f" distribution {impairment.distribution}"
    return words


def _check_keys(kind: type, values: Mapping[str, Any]) -> None:
    known = [field.name for field in dataclasses.fields(kind)]
    for key in values:
        if key in _REFUSED_WORDS:
            raise ImpairmentError(f"{key}: {_REFUSED_WORDS[key]}")
        if key not in known:
            raise ImpairmentError(f"unknown key {key!r} in {kind.__name__}: it has {', '.join(known)}")


def _check_number(name: str, value: object, maximum: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ImpairmentError(f"{name} {value!r} is not a number")
    if not 0 <= value <= maximum:
        raise ImpairmentError(f"{name} {value!r} is outside 0 to {maximum:g}")


def _check_percent(name: str, value: object) -> None:
    _check_number(f"{name} (percent)", value, 100)


def _check_integer(name: str, value: object, minimum: int, maximum: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ImpairmentError(f"{name} {value!r} is not an integer")
    if not minimum <= value <= maximum:
        raise ImpairmentError(f"{name} {value!r} is outside {minimum} to {maximum}")
