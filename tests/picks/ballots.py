"""What picks are handed, small enough to read."""

import numpy as np

from dataworth.dynamics import Dynamics
from dataworth.results import Scored


def row_ids(n):
    return [f"{(i * 2654435761) % 2**64:032x}" for i in range(n)]


def scored(values, higher="keep", **more):
    """Rows with these scores; NaN is unscored."""
    values = np.asarray(values, dtype=np.float64)
    ids = row_ids(len(values))
    missing = {ids[i]: "spoiled" for i in np.flatnonzero(np.isnan(values))}
    return {"ids": ids, "score:x": Scored(values, missing), "higher": higher, **more}


def trained(p_EN):
    """Dynamics of one net with these probabilities of the label."""
    p_SEN = np.asarray(p_EN, dtype=np.float32)[None]
    return Dynamics(p_SEN, p_SEN, p_SEN, p_SEN, p_SEN)


def kept(selection):
    return np.flatnonzero(selection.kept_N).tolist()


def why(selection, i):
    return selection.reasons[selection.reason_code_N[i]]
