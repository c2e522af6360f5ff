"""Every way of running gives the same bytes, whatever goes wrong with single rows on the way."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from dataworth.engines import LocalEngine
from dataworth.store import digests

sys.path.insert(0, str(Path(__file__).parents[1] / "engines"))

from engine_toys import artefact_at, row_ids

IDS = row_ids(60)


@pytest.mark.parametrize("runner", ["make", "whole"])
@pytest.mark.parametrize("config", [{}, {"raise": [IDS[5], IDS[6]]}])
def test_zero_one_and_two_workers_write_the_same_bytes(tmp_path, runner, config):
    found = []
    for n, workers in enumerate((0, 1, 2)):
        ids = IDS[n:] + IDS[:n]
        root = tmp_path / str(workers)
        LocalEngine(workers).run(artefact_at(root), ids, runner=f"engine_toys:{runner}", config=config, shard_rows=16)
        found.append(digests(root))
    assert len(found[0]) > 4 and found[0] == found[1] == found[2]


def test_a_row_that_kills_its_process_gives_the_same_bytes_with_one_and_two_workers(tmp_path):
    found = []
    for workers in (1, 2):
        root = tmp_path / str(workers)
        engine = LocalEngine(workers, retries=workers - 1)  # the path of the search does not matter either
        engine.run(artefact_at(root), IDS, runner="engine_toys:whole", config={"die": [IDS[7]]}, shard_rows=16)
        found.append(digests(root))
    assert found[0] == found[1]
