"""A non-finite loss stops the run before the optimiser moves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from genrl.infra.errors import NonFiniteError

if TYPE_CHECKING:
    from genrl.infra.rundir import Run


def all_finite(losses: Mapping[str, Tensor]) -> Tensor:
    """() bool on the losses' device, whether all of them are; `Optimizer.step` stands still where they are not."""
    return torch.stack([loss.detach().isfinite().all() for loss in losses.values()]).all()


MOVED = "moved"
"""Among an update's results, () bool on the device: whether losses and gradient norms were finite, so that parameters
moved."""


def check_moved(results: dict[str, Tensor]) -> dict[str, Tensor]:
    """The results of an update without `MOVED`, which is the one number read from the device.

    Raises:
        NonFiniteError: If nothing moved, naming the losses and gradient norms to blame.
    """
    if not results.pop(MOVED):
        blame = (name for name in results if name.startswith("loss/") or name.endswith("/grad_norm"))
        check_finite({name: results[name] for name in blame})
    return results


def check_finite(losses: Mapping[str, Tensor], update: int | None = None, run: Run | None = None) -> None:
    """Refuse NaN and infinity in losses of which no optimiser was moved (`all_finite`).

    Args:
        losses: Named losses of any shape.
        update: Index of the update they belong to; without it, a `Run` used as context manager adds the step.
        run: Where the last good checkpoint is.

    Raises:
        NonFiniteError: Naming the losses, and the update and the last good checkpoint where they are known.
    """
    if not losses:
        return
    # One transfer from the device for all of them.
    finite = torch.stack([loss.detach().isfinite().all() for loss in losses.values()]).tolist()
    bad = [name for name, good in zip(losses, finite, strict=True) if not good]
    if bad:
        message = f"{', '.join(bad)} became NaN or infinite"
        raise NonFiniteError(message if run is None or update is None else explain_non_finite(message, update, run))


def explain_non_finite(message: str, update: int, run: Run) -> str:
    """The complaint with the update (the first is 1, as in the metrics), the last good checkpoint and the mend."""
    last = run.last_checkpoint
    kept = f"the last good checkpoint is {last}" if last else "there is no checkpoint yet"
    return f"{message} at update {update + 1}; no parameter was changed by it, {kept}; try a lower learning rate"
