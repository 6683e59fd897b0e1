"""Actions in -1 ... 1 and in an environment's own units."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def to_units(action: NDArray[np.float32], low: Sequence[float], high: Sequence[float]) -> NDArray[np.float32]:
    """(..., A) actions in -1 ... 1, clipped, to those between `low` and `high`."""
    lowest, highest = np.asarray(low, np.float32), np.asarray(high, np.float32)
    return lowest + (action.clip(-1, 1) + 1) / 2 * (highest - lowest)
