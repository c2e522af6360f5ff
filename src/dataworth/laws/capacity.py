"""What fits into a model: bits of a dataset against bits that parameters hold (Morris et al. 2025, arXiv 2505.24832).

A language model trained to its limit on random bits holds about 3.6 bits a parameter: 2.86 to 4.23 over their sixteen
configurations in two precisions, and less where training is short. So a capacity here is a band, and a zone is named
only as far as the band lies in it. For adapters (LoRA) the figure is an extrapolation that nobody tested. None of this
is an optimal dataset size.

Bits are counted by sequence, in base 2. What repeats is counted once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

from dataworth.errors import RequestError
from dataworth.numerics.ranks import Estimate, mean_interval

LOW, USUAL, HIGH = 2.5, 3.6, 4.2
"""Bits a parameter: the lower and the upper end of the band, and the paper's headline."""
_HELD, _BEYOND = 0.5, 2.0
_NATS_A_BIT = math.log(2.0)
# Membership: F1 = (1 + 1.34 sigma(-33.14 (|D| / P - 0.034))) / 2. The paper prints the two constants the other way
# round and divides by capacity, which rises with data and contradicts its own table; this gives that table's values.
_MEMBERSHIP = (1.34, 33.14, 0.034)

Zone = Literal["can hold all", "threshold", "cannot hold all"]
ZONES: tuple[Zone, ...] = ("can hold all", "threshold", "cannot hold all")
_SAID: dict[Zone, str] = {
    "can hold all": "the model can hold all of it by heart",
    "threshold": "near the threshold, where the test loss may rise with data: read curves with care",
    "cannot hold all": "the model can't hold all of it by heart, whatever else it learns",
}


@dataclass(frozen=True)
class Ratio:
    """Bits over capacity at the usual bits a parameter, and at the ends of what bits and capacity may be."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Fill:
    """How full a dataset makes a model; `zones` are those that the band of its ratio touches.

    `threshold` is the zone in which the test loss may peak (double descent), so that curves through it mislead.
    """

    bits: float
    parameters: int
    adapter: bool
    ratio: Ratio
    zones: tuple[Zone, ...]

    def __str__(self) -> str:
        held = f"{self.bits:,.0f} bits for {self.parameters:,} parameters: {self.ratio.value:.2g} times what they hold"
        band = f"{held} [{self.ratio.low:.2g} .. {self.ratio.high:.2g}, at {HIGH} to {LOW} bits each]"
        apart = f"between {self.zones[0]!r} and {self.zones[-1]!r}: the band doesn't tell"
        said = _SAID[self.zones[0]] if len(self.zones) == 1 else apart
        return f"{band}: {said}" + ("; for adapters this is an untested extrapolation" if self.adapter else "")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "bits": self.bits,
            "parameters": self.parameters,
            "adapter": self.adapter,
            "ratio": vars(self.ratio),
            "zones": list(self.zones),
        }


def fill(
    bits: float, parameters: int, *, adapter: bool = False, low: float | None = None, high: float | None = None
) -> Fill:
    """A dataset's bits against what so many trained parameters can hold.

    Args:
        bits: As `bits_of` or `compressed_bits` count them.
        parameters: All that are trained, embeddings included.
        adapter: Whether they are an adapter's.
        low: Fewest bits that it may be, if that isn't `bits`: 0 where they are an upper bound.
        high: The most.

    Raises:
        RequestError: Numbers that aren't positive.
    """
    if not (0 < bits < math.inf and parameters > 0):
        raise RequestError(f"{bits} bits for {parameters} parameters: expected positive numbers; correct them")
    least, most = bits if low is None else low, bits if high is None else high
    ratio = Ratio(bits / (USUAL * parameters), least / (HIGH * parameters), most / (LOW * parameters))
    touched = tuple(
        zone
        for zone, low, high in zip(ZONES, (0.0, _HELD, _BEYOND), (_HELD, _BEYOND, math.inf), strict=True)
        if ratio.low < high and ratio.high >= low
    )
    return Fill(float(bits), parameters, adapter, ratio, touched)


def bits_of(nats_R: Sequence[float] | NDArray[np.float64], rows: int, level: float = 0.9) -> Estimate:
    """Bits of a pool by a reference model's -log p of whole sampled rows, scaled to `rows` distinct ones.

    Args:
        nats_R: Negative log-probability of each sampled row, distinct from one another, `[R]`, in nats.
        rows: How many distinct rows the pool has.
        level: Of the interval, which is that of sampling alone.

    Raises:
        RequestError: Fewer than two sampled rows, more than there are, or a number that isn't finite and positive.
    """
    found_R = np.asarray(nats_R, dtype=np.float64)
    if not 2 <= len(found_R) <= rows or not (np.isfinite(found_R) & (found_R >= 0)).all():
        raise RequestError(
            f"{len(found_R)} sampled rows of {rows}: expected 2 to {rows} finite negative log-probabilities; correct "
            "the sample"
        )
    mean = mean_interval(found_R, level=level)
    # A sample without replacement of most of the pool knows most of the pool.
    left = math.sqrt(1.0 - len(found_R) / rows)
    half, scale = (mean.high - mean.value) * left, rows / _NATS_A_BIT
    low, high = max(0.0, mean.value - half), mean.value + half
    return Estimate(scale * mean.value, scale * low, scale * high, len(found_R), level)


def compressed_bits(texts: Iterable[str]) -> int:
    """An upper bound of a pool's bits without a model: its distinct texts compressed one behind another (LZMA).

    English costs a strong language model about one bit a character, and this compressor two or more.
    """
    import lzma

    # A dictionary of 64 MiB, so that what repeats far away is still found.
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 1 << 26}]
    packer, total = lzma.LZMACompressor(lzma.FORMAT_RAW, filters=filters), 0
    for text in dict.fromkeys(texts):
        total += len(packer.compress(text.encode("utf-8", "surrogatepass") + b"\n"))
    return 8 * (total + len(packer.flush()))


def memorised_bits(target_nats_N: NDArray[np.floating], reference_nats_N: NDArray[np.floating]) -> NDArray[np.float64]:
    """Bits of each row that a model holds beyond what a reference knows of it, `[N]`: max(0, log2 p - log2 p_ref).

    Args:
        target_nats_N: Negative log-probability of whole rows under the model, in nats.
        reference_nats_N: The same under a reference that never saw them: a larger model, or one trained on other rows.

    Source: Morris et al. 2025, section 2 (unintended memorisation). Taken by sequence: per token it would count every
    lucky token and none of the unlucky ones.
    """
    difference_N = np.asarray(reference_nats_N, np.float64) - np.asarray(target_nats_N, np.float64)
    # With fmax a row without a number would hold no bits instead of an unknown number of them.
    return np.asarray(np.maximum(difference_N, 0.0) / _NATS_A_BIT)


def most_memorised(sequences: int, length: int, vocabulary: int) -> float:
    """The most bits that can be held of so many random sequences: N (S log2 V - log2 N).

    Without an index a model can't know which of them comes, so log2 N bits of each stay unknown. The oracle for an
    estimator of memorised bits.

    Raises:
        RequestError: More sequences than there can be, or none.
    """
    raw = length * math.log2(vocabulary)
    if sequences < 1 or math.log2(sequences) > raw:
        raise RequestError(
            f"{sequences} sequences of {length} out of {vocabulary}: expected 1 to {vocabulary}^{length}; correct them"
        )
    return sequences * (raw - math.log2(sequences))


def membership_f1(samples: float, parameters: float) -> float:
    """F1 of a balanced loss-threshold attack that asks whether a sample was trained on, 0.5 (chance) to 1.

    Args:
        samples: Distinct training samples of 64 tokens.
        parameters: All of the model.

    Source: Morris et al. 2025, section 5, with the constants where their own table has them. Their worst observed miss
    is 9 points in mid-curve. No guarantee of privacy: samples can be told while nothing can be extracted, and an
    average says nothing of the rarest.

    Raises:
        RequestError: Numbers that aren't positive.
    """
    if not (samples > 0 and parameters > 0):
        raise RequestError(f"{samples} samples, {parameters} parameters: expected positive numbers; correct them")
    height, steepness, middle = _MEMBERSHIP
    return float(min(1.0, 0.5 * (1.0 + height * special.expit(-steepness * (samples / parameters - middle)))))
