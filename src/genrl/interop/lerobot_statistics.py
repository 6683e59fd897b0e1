"""Statistics of a LeRobot data set, by which its policies normalise.

An episode's are in its row of `meta/episodes`, those of all episodes in `meta/stats.json`: least, largest, mean,
standard deviation, number of rows and, since LeRobot 0.4, quantiles. As there, a quantile is the smallest value that so
many rows do not exceed, and that of all episodes is the mean of the episodes', weighted by their rows. Images count by
channel, with pixels in 0 ... 1 and shape (3, 1, 1); every pixel of every frame counts, where LeRobot takes a sample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from genrl.data.episode import Array
from genrl.interop.lerobot import episode_files

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
LEVELS = np.arange(256)


def episode_statistics(table: pa.Table, frames: Array, camera: str) -> dict[str, Any]:
    """Statistics of an episode as columns of its row.

    Args:
        table: Its rows.
        frames: (N, h, w, 3) uint8.
        camera: Feature that the frames are.
    """
    found = {camera: _of_images(frames)}
    for name in table.column_names:
        column = table[name].combine_chunks()
        values = column.flatten() if pa.types.is_nested(column.type) else column
        rows = values.to_numpy(zero_copy_only=False).reshape(len(table), -1)
        found[name] = _of_rows(rows.astype(np.int64 if rows.dtype.kind in "bi" else np.float64))
    columns: dict[str, Any] = {}
    for name, measures in found.items():
        columns |= {f"stats/{name}/{measure}": values.tolist() for measure, values in measures.items()}
        columns[f"stats/{name}/count"] = [len(frames)]
    return columns


class Statistics:
    """Statistics of all episodes, kept up as episodes are added.

    Args:
        root: Data set whose episodes they begin with.
    """

    def __init__(self, root: Path) -> None:
        self._features: dict[str, dict[str, Array]] = {}
        for file in episode_files(root):
            names = [name for name in pq.read_schema(file).names if name.startswith("stats/")]
            self._fold(pq.read_table(file, columns=names).to_pydict())

    def add(self, columns: Mapping[str, Any]) -> None:
        """Take in an episode; `columns` as `episode_statistics` gives them."""
        self._fold({name: [value] for name, value in columns.items()})

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """The contents of `meta/stats.json`."""
        return {
            feature: {measure: values.tolist() for measure, values in measures.items()}
            for feature, measures in self._features.items()
        }

    def _fold(self, columns: Mapping[str, Sequence[Any]]) -> None:
        features: dict[str, dict[str, Array]] = {}
        for name, values in columns.items():
            _, feature, measure = name.split("/")
            features.setdefault(feature, {})[measure] = np.array(values)
        if not self._features:
            self._features = {feature: _combined(measures) for feature, measures in features.items()}
            return
        # Episodes that an earlier version of ours wrote have fewer features and measures: what all have is kept.
        self._features = {
            feature: _combined(
                {
                    measure: np.concatenate([before[None], features[feature][measure]])
                    for measure, before in measures.items()
                    if measure in features[feature]
                }
            )
            for feature, measures in self._features.items()
            if feature in features
        }


def _of_rows(rows: Array) -> dict[str, Array]:
    """Of (N, size) numbers, each (size,)."""
    measures = {name: getattr(rows, name)(axis=0) for name in ("min", "max", "mean", "std")}
    values = np.quantile(rows, list(QUANTILES.values()), axis=0, method="inverted_cdf").astype(np.float64)
    return measures | dict(zip(QUANTILES, values, strict=True))


def _of_images(frames: Array) -> dict[str, Array]:
    """Of (N, h, w, 3) uint8, each (3, 1, 1); pixels are counted, which is exact and takes no memory."""
    counts = np.stack([np.bincount(frames[..., channel].reshape(-1), minlength=256) for channel in range(3)])
    total = counts[0].sum()
    mean = counts @ LEVELS / total
    measures = {
        "min": (counts > 0).argmax(axis=1),
        "max": 255 - (counts[:, ::-1] > 0).argmax(axis=1),
        "mean": mean,
        "std": np.sqrt((counts * (LEVELS - mean[:, None]) ** 2).sum(axis=1) / total),
    }
    reached = counts.cumsum(axis=1)
    measures |= {name: (reached >= share * total).argmax(axis=1) for name, share in QUANTILES.items()}
    return {name: (values / 255.0).reshape(3, 1, 1) for name, values in measures.items()}


def _combined(measures: dict[str, Array]) -> dict[str, Array]:
    """Of all episodes, from (episodes, ...) of each."""
    count, means = measures["count"], measures["mean"]
    weight = (count / count.sum()).reshape(-1, *[1] * (means.ndim - 1))
    mean = (weight * means).sum(axis=0)
    variance = (weight * (measures["std"] ** 2 + (means - mean) ** 2)).sum(axis=0)
    combined = {
        "min": measures["min"].min(axis=0),
        "max": measures["max"].max(axis=0),
        "mean": mean,
        "std": np.sqrt(variance),
        "count": count.sum(axis=0),
    }
    return combined | {name: (weight * measures[name]).sum(axis=0) for name in QUANTILES if name in measures}
