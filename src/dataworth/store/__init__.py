"""The cache, keyed by content, and the run folder: what is written here survives a crash at any moment."""

from dataworth.store.artefact import Artefact, Shard
from dataworth.store.cache import Cache, is_done, mark_done
from dataworth.store.fingerprint import canonical_json, fingerprint
from dataworth.store.lock import EntryLock
from dataworth.store.run import DEFAULT_RUNS, RunFolder, digests
from dataworth.store.table import Table

__all__ = [
    "DEFAULT_RUNS",
    "Artefact",
    "Cache",
    "EntryLock",
    "RunFolder",
    "Shard",
    "Table",
    "canonical_json",
    "digests",
    "fingerprint",
    "is_done",
    "mark_done",
]
