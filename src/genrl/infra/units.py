"""Actions in -1 ... 1 and in an environment's own units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def to_units(action: NDArray[Any], low: Sequence[float], high: Sequence[float]) -> NDArray[Any]:
    """(..., A) actions in -1 ... 1, clipped, to those between `low` and `high`, in the precision of `action`."""
    lowest, highest = np.asarray(low, action.dtype), np.asarray(high, action.dtype)
    return lowest + (action.clip(-1, 1) + 1) / 2 * (highest - lowest)
