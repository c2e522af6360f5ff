"""What scores of training dynamics share: sums over epochs and nets of what was seen, one epoch at a time.

Rows are never summed together, and every row's numbers are added in the order of epochs: so a row's score depends
neither on its place nor on the other rows, and a memory-mapped recording of any length is read epoch by epoch.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dataworth.dynamics import mean_of
from dataworth.errors import RequestError


def one_of(option: str, value: str, allowed: tuple[str, ...]) -> str:
    """The value of an option that is one of a few words.

    Raises:
        RequestError: Another word.
    """
    if value not in allowed:
        raise RequestError(f"{option}={value!r}: expected {', '.join(allowed)}; correct --option {option}")
    return value


def first_epochs(recorded: int, wanted: int, usual: int) -> int:
    """How many epochs to look at: `wanted`, or for 0 the `usual` number as far as recorded.

    Raises:
        RequestError: More than were recorded, or a negative number.
    """
    if not 0 <= wanted <= recorded:
        raise RequestError(f"{wanted} epochs asked for: expected 0 to the {recorded} recorded; correct that --option")
    return wanted or min(usual, recorded)


def mean_and_spread(
    table_EN: NDArray[np.floating], *, sample: bool = False
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation `[N]` over the epochs in which a row was seen.

    The deviation is that of the population, or of a `sample` (divided by one less); NaN below two epochs.
    """
    mean_N = mean_of(table_EN)
    square_N = mean_of((np.asarray(values, dtype=np.float64) - mean_N) ** 2 for values in table_EN)
    seen_N = sum((~np.isnan(values)).astype(np.float64) for values in table_EN)
    square_N = np.where(seen_N > 1, square_N, np.nan)
    if sample:
        square_N = square_N * seen_N / np.where(seen_N > 1, seen_N - 1, 1)
    return mean_N, np.sqrt(square_N)


def forgotten(correct_EN: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """How often right became wrong from one epoch to the next that saw the row, and whether it was ever right.

    NaN where no epoch saw the row. Epochs that didn't see a row are passed over.
    """
    count_N = np.zeros(correct_EN.shape[1])
    learned_N = np.zeros(correct_EN.shape[1], dtype=bool)
    last_N = np.full(correct_EN.shape[1], np.nan)
    for each in correct_EN:
        now_N = np.asarray(each, dtype=np.float64)
        count_N += last_N > now_N  # comparisons with NaN are false
        learned_N |= now_N > 0
        last_N = np.where(np.isnan(now_N), last_N, now_N)
    return np.where(np.isnan(last_N), np.nan, count_N), learned_N
