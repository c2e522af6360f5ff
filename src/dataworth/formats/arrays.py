"""NumPy archives (`.npz`) as tables: one column per array, one row per place on the first axis."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataworth.errors import FormatError

_BROKEN = (ValueError, OSError, zipfile.BadZipFile, zlib.error, EOFError, KeyError, NotImplementedError)


class ArrayFile:
    """An `.npz` of arrays that share their first axis `N`; pickled objects are refused.

    Arrays are held in memory, as an archive can't be mapped.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """Name -> array `[N, ...]`, in the archive's order.

        Raises:
            FormatError: No archive of plain arrays, or arrays of different lengths.
        """
        try:
            with np.load(self.path, allow_pickle=False) as archive:
                found = {name: archive[name] for name in archive.files}
        except _BROKEN as error:
            why = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise FormatError(
                f"{self.path} can't be read as arrays ({why}); expected an .npz of plain arrays; save it again with "
                "numpy.savez"
            ) from None
        others = [name for name, array in found.items() if not isinstance(array, np.ndarray)]
        if others:
            raise FormatError(f"{self.path} holds {others[0]!r}, no array: expected arrays only; save it again")
        lengths = {name: array.shape[0] if array.ndim else None for name, array in found.items()}
        if len(set(lengths.values())) != 1 or None in lengths.values():
            shown = ", ".join(f"{name} {array.shape}" for name, array in found.items()) or "none"
            raise FormatError(f"{self.path} holds arrays {shown}: expected one length along the first axis; split it")
        return found

    def rows(self) -> Iterator[dict[str, Any]]:
        """Every row in order."""
        count = len(next(iter(self.arrays.values())))
        return (self.row(n) for n in range(count))

    def row(self, number: int) -> dict[str, Any]:
        """One row by number: Python values, and arrays where a column has more axes."""
        values = {name: array[number] for name, array in self.arrays.items()}
        return {name: v if isinstance(v, np.ndarray) and v.ndim else v.item() for name, v in values.items()}

    def write(self, rows: NDArray[np.int64], target: Path) -> None:
        """Write the rows as an archive of the same arrays, compressed as this one is."""
        with zipfile.ZipFile(self.path) as archive:
            packing = max(member.compress_type for member in archive.infolist())
        with zipfile.ZipFile(target, "w") as archive:  # numpy.savez has no room for an array called `file`
            for name, array in self.arrays.items():
                member = zipfile.ZipInfo(f"{name}.npy")
                member.compress_type = packing
                with archive.open(member, "w", force_zip64=True) as file:
                    np.lib.format.write_array(file, array[rows], allow_pickle=False)
        with target.open("rb") as written:
            os.fsync(written.fileno())
