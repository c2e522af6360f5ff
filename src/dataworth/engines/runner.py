"""Loading a runner by name and trying it on rows: the same code in a worker process and in the calling one."""

from __future__ import annotations

import ctypes
import gc
import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from dataworth.errors import DataworthError, RequestError

Work = Callable[[tuple[str, ...], Any], tuple[Mapping[str, Any], Mapping[str, str]]]
"""`work(ids, payload) -> (columns, unscored)`."""


@dataclass(frozen=True)
class Answer:
    """What a runner returned for some rows."""

    columns: Mapping[str, Any]
    unscored: Mapping[str, str]


@dataclass(frozen=True)
class Failure:
    """Why some rows have no answer: their process died, their code raised, or memory ran out."""

    kind: Literal["death", "error", "memory"]
    reason: str


def load_work(runner: str, config: Mapping[str, Any], device: str) -> Work:
    """Import `package.module:function` and call `function(config, device)`.

    Raises:
        RequestError: There is no such function.
    """
    module, _, name = runner.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise RequestError(f"runner {runner!r}: expected an importable package.module:function ({error})") from error
    work: Work = function(dict(config), device)
    return work


def attempt(work: Work, ids: tuple[str, ...], payload: Any) -> Answer | Failure:
    """Run `work`, turning what a row can cause into a `Failure`.

    Raises:
        DataworthError: The runner raised one: it is about the request, not about a row.
    """
    try:
        columns, unscored = work(ids, payload)
    except DataworthError:
        raise
    except Exception as error:
        words = " ".join(str(error).split())[:300]
        kind: Literal["memory", "error"] = "memory" if _out_of_memory(error) else "error"
        return Failure(kind, f"{type(error).__name__}: {words}" if words else type(error).__name__)
    return Answer(dict(columns), dict(unscored))


@contextmanager
def one_thread(device: str) -> Iterator[None]:
    """Hold torch, if it is loaded, to one thread on the CPU, so that bytes don't depend on the number of workers."""
    torch = sys.modules.get("torch")
    if torch is None or not device.startswith("cpu"):
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def release_memory() -> None:
    """Give back what a dropped work function held, so that the next model finds room."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    # glibc keeps freed blocks for this process; a resting worker would hold half a model's size of them.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _out_of_memory(error: Exception) -> bool:
    torch = sys.modules.get("torch")
    on_gpu = type(error).__name__ == "OutOfMemoryError"
    if on_gpu and torch is not None:
        torch.cuda.empty_cache()
    return on_gpu or isinstance(error, MemoryError) or "DefaultCPUAllocator: can't allocate" in str(error)
