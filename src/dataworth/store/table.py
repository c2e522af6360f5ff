"""Reading the rows of an artefact in the order the caller asks for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataworth.errors import RequestError
from dataworth.store.part import Part

Positions = NDArray[np.int64]


class Table:
    """Columns of `N` asked rows, of which `M` have values.

    `scored_N` (bool) marks the rows with values; the other rows are in `unscored` with their reasons. `column` and
    `ragged` return the `M` rows with values, in the order of `ids`; `column(name, fill=...)` returns all `N` with a
    stated filler.
    """

    def __init__(
        self,
        ids: Sequence[str],
        row_N: Positions,
        unscored: Mapping[str, str],
        parts: Sequence[Part],
        starts: Positions,
    ) -> None:
        """`row_N` is the row over all `parts` (part i begins at `starts[i]`), -1 where a row is unscored."""
        self.ids = tuple(ids)
        self.scored_N: NDArray[np.bool_] = row_N >= 0
        self.unscored = dict(unscored)
        self._row_N = row_N
        self._parts = parts
        self._starts = starts

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def columns(self) -> dict[str, Mapping[str, Any]]:
        """Layout of each column: name -> {"dtype", "shape" of one row, "ragged"}."""
        return next((dict(part.layout) for part in self._parts if part.layout), {})

    def column(self, name: str, fill: Any = None) -> NDArray[Any]:
        """A fixed-width column in the order of `ids`.

        Args:
            name: The column.
            fill: Without it, the `M` scored rows are returned; with it (for example `np.nan`), all `N` rows, unscored
                ones holding `fill`.

        Returns:
            Array [M, ...] or [N, ...].

        Raises:
            RequestError: There is no such column, or it is ragged.
        """
        layout = self._layout(name, ragged=False)
        out = np.empty((len(self), *layout["shape"]), dtype=layout["dtype"])
        for part, positions, local in self._by_part():
            out[positions] = part.fixed(name)[_slice(local)]
        if fill is None:
            return out if self.scored_N.all() else out[self.scored_N]
        out[~self.scored_N] = fill
        return out

    def ragged(self, name: str) -> list[NDArray[Any]]:
        """A ragged column: the `M` scored rows' 1-D arrays in the order of `ids`.

        Raises:
            RequestError: There is no such column, or it is fixed-width.
        """
        self._layout(name, ragged=True)
        out: list[NDArray[Any] | None] = [None] * len(self)
        for part, positions, local in self._by_part():
            for position, row in zip(positions.tolist(), _ragged_rows(part, name, local), strict=True):
                out[position] = row
        return [row for row in out if row is not None]

    def blocks(self, name: str, rows: int = 65536) -> Iterator[tuple[Positions, NDArray[Any]]]:
        """Stream a fixed-width column without loading it whole, in storage order.

        Args:
            name: The column.
            rows: At most this many rows at a time.

        Yields:
            (positions, array): positions [B] in `ids`, and the values [B, ...] of those rows. Unscored rows never
                appear.

        Raises:
            RequestError: There is no such column, it is ragged, or `rows` is not positive.
        """
        if rows < 1:
            raise RequestError(f"blocks of {rows} rows: expected at least 1; correct the block size")
        self._layout(name, ragged=False)
        held: list[tuple[Positions, NDArray[Any]]] = []
        count = 0
        for part, positions, local in self._by_part():
            values, taken = part.fixed(name), 0
            while taken < len(local):
                take = min(rows - count, len(local) - taken)
                held.append((positions[taken : taken + take], values[_slice(local[taken : taken + take])]))
                count, taken = count + take, taken + take
                if count == rows:
                    yield _joined(held)
                    held, count = [], 0
        if held:
            yield _joined(held)

    def _layout(self, name: str, *, ragged: bool) -> Mapping[str, Any]:
        layout = self.columns.get(name)
        if layout is None:
            known = ", ".join(sorted(self.columns)) or "none: no row has values"
            raise RequestError(f"column {name!r} is not stored: expected one of {known}; check the probe")
        if layout["ragged"] != ragged:
            right = "ragged()" if layout["ragged"] else "column() or blocks()"
            raise RequestError(
                f"column {name!r} is {'ragged' if layout['ragged'] else 'fixed-width'}: read it with {right}"
            )
        return layout

    def _by_part(self) -> Iterator[tuple[Part, Positions, Positions]]:
        """(part, positions in `ids`, rows within the part), rows ascending, for parts that hold asked rows."""
        order = np.argsort(self._row_N, kind="stable")
        order = order[np.searchsorted(self._row_N[order], 0) :]
        rows = self._row_N[order]
        part_of = np.searchsorted(self._starts, rows, side="right") - 1
        cuts = np.flatnonzero(np.diff(part_of)) + 1
        for chunk, chunk_rows in zip(np.split(order, cuts), np.split(rows, cuts), strict=True):
            if len(chunk):
                index = int(np.searchsorted(self._starts, chunk_rows[0], side="right") - 1)
                yield self._parts[index], chunk, chunk_rows - self._starts[index]


def _slice(local: Positions) -> Any:
    """Ascending rows as a slice when they are consecutive (no copy from the map), else as they are."""
    consecutive = bool((np.diff(local) == 1).all())
    return slice(int(local[0]), int(local[-1]) + 1) if consecutive else local


def _ragged_rows(part: Part, name: str, local: Positions) -> list[NDArray[Any]]:
    flat, offsets = part.ragged(name)
    values = np.array(flat)  # one read per part; rows are views of it
    begins, ends = offsets[local].tolist(), offsets[local + 1].tolist()
    return [values[b:e] for b, e in zip(begins, ends, strict=True)]


def _joined(held: Sequence[tuple[Positions, NDArray[Any]]]) -> tuple[Positions, NDArray[Any]]:
    return np.concatenate([p for p, _ in held]), np.concatenate([a for _, a in held])
