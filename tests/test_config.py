"""Requests from plain values: YAML's ways of saying nothing, several or something odd."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataworth import config
from dataworth.cli import _spread
from dataworth.errors import RequestError


def test_a_list_may_be_one_value_several_or_none() -> None:
    built = config.build(config.SelectRequest, {"pool": Path("a"), "map": {"prompt": "q"}, "option": None})
    assert (built.pool, built.map, built.option) == (("a",), ("prompt=q",), ())
    assert config.build(config.SelectRequest, {"pool": ["a", "b"], "map": 5}).map == ("5",)
    with pytest.raises(RequestError, match="no pool"):
        config.build(config.SelectRequest, {"pool": None})


def test_a_config_file_that_is_no_text_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_bytes(b"pool: \xff")
    with pytest.raises(RequestError, match=r"c\.yaml isn't valid YAML"):
        config.load_yaml(tmp_path / "c.yaml")


def test_pairs_after_map_belong_to_it() -> None:
    words = ["select", "--map", "prompt=q", "completion=a+b", "pool.jsonl", "x=1.jsonl", "--goal-map", "a=b", "c=d"]
    assert _spread(words) == [
        *["select", "--map", "prompt=q", "--map", "completion=a+b", "pool.jsonl", "x=1.jsonl"],
        *["--goal-map", "a=b", "--goal-map", "c=d"],
    ]
