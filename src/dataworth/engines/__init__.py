"""Where shards run: supervised processes on this machine."""

from dataworth.engines.local import LocalEngine
from dataworth.engines.run import RunReport

__all__ = ["LocalEngine", "RunReport"]
