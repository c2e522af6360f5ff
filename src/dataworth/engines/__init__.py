"""Where shards run: supervised processes on this machine."""

from dataworth.engines.local import LocalEngine, RunReport

__all__ = ["LocalEngine", "RunReport"]
