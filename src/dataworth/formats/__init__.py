"""Pools and goals in, rows back, the picked rows out in the user's own format."""

from dataworth.formats.detection import Detection, detect, preview
from dataworth.formats.goal import open_goal, protect
from dataworth.formats.goal_split import split_goal
from dataworth.formats.pool import open_pool, take_rows
from dataworth.formats.sidecar import ORIGIN, sidecar_of, write_sidecar
from dataworth.formats.subset import write_subset

__all__ = [
    "ORIGIN",
    "Detection",
    "detect",
    "open_goal",
    "open_pool",
    "preview",
    "protect",
    "sidecar_of",
    "split_goal",
    "take_rows",
    "write_sidecar",
    "write_subset",
]
