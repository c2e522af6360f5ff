"""The guard of law 6 that every opened model passes: a padded row has the numbers it has alone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.lm

from dataworth.errors import NonsenseRefused  # noqa: E402
from dataworth.learners.render import Encoded  # noqa: E402
from dataworth.probes.opening import ShardWork  # noqa: E402


def encoded(name: str, length: int) -> Encoded:
    supervised = np.ones(length, dtype=bool)
    supervised[0] = False
    return Encoded(name, np.arange(1, length + 1, dtype=np.int32), supervised)


def work(of_row: Any, dtype: Any = torch.float32) -> tuple[ShardWork, list[int]]:
    """A shard's work over a model that counts its batches; `of_row(ids, padded_length)` gives a row's number."""
    sizes: list[int] = []
    model = SimpleNamespace(decoder=SimpleNamespace(head_VD=torch.zeros(1, 1, dtype=dtype)))

    def of_batch(_: Any, batch: Any) -> dict[str, np.ndarray]:
        sizes.append(len(batch.rows))
        width = batch.ids_BT.shape[1]
        return {"value": np.array([of_row(row, width) for row in batch.ids_BT.tolist()], dtype=np.float32)}

    return ShardWork(lambda _: model, of_batch, {"value": np.zeros(0, np.float32)}, 1000), sizes


def test_a_model_that_ignores_padding_passes_and_is_checked_once() -> None:
    shard, sizes = work(lambda row, width: float(sum(row)))
    rows = [encoded("a", 5), encoded("b", 9)]
    columns, unscored = shard(["a", "b"], rows)
    assert columns["value"].tolist() == [15.0, 45.0]
    assert unscored == {}
    assert sizes == [1, 2, 2]
    shard(["a", "b"], rows)
    assert sizes == [1, 2, 2, 2]


def test_a_model_that_mixes_padding_in_is_refused_by_name() -> None:
    shard, _ = work(lambda row, width: float(sum(row) + width))
    with pytest.raises(NonsenseRefused, match=r"value of row a .* padded to 9 tokens"):
        shard(["a", "b"], [encoded("a", 5), encoded("b", 9)])


def test_the_noise_of_bf16_is_allowed_and_that_of_fp32_is_not() -> None:
    def noisy(row: list[int], width: int) -> float:
        return float(sum(row)) * (1.0 + 0.001 * width)

    shard, _ = work(noisy, torch.bfloat16)
    assert len(shard(["a", "b"], [encoded("a", 5), encoded("b", 9)])[0]["value"]) == 2
    shard, _ = work(noisy)
    with pytest.raises(NonsenseRefused):
        shard(["a", "b"], [encoded("a", 5), encoded("b", 9)])


def test_rows_of_one_length_have_nothing_to_compare() -> None:
    shard, sizes = work(lambda row, width: float(sum(row) + width))
    shard(["a", "b"], [encoded("a", 7), encoded("b", 7)])
    assert sizes == [2]
