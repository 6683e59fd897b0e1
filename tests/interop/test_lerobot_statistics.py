"""Statistics of a LeRobot export, against plain sorting and summing, and against those that lerobot itself wrote."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from genrl.data.store import Store
from genrl.interop import lerobot_export
from genrl.run.data import ExportConfig, export
from tests.interop.test_lerobot import MADE
from tests.interop.travel import run_import, write_store

pa = pytest.importorskip("pyarrow", reason="the extra `data` is not installed")
pq = pytest.importorskip("pyarrow.parquet")

SHARES = {"q01": (1, 100), "q10": (1, 10), "q50": (1, 2), "q90": (9, 10), "q99": (99, 100)}
CAMERA = "observation.images.side"


def expected_of(values: list[float]) -> dict[str, float]:
    """By the definitions, a number at a time; a quantile is the smallest value that so many do not exceed."""
    count, ordered = len(values), sorted(values)
    mean = sum(values) / count
    measures = {"min": ordered[0], "max": ordered[-1], "mean": mean}
    measures["std"] = (sum((value - mean) ** 2 for value in values) / count) ** 0.5
    return measures | {name: ordered[-(-part * count // whole) - 1] for name, (part, whole) in SHARES.items()}


def columns_of(table: pa.Table, store: Store, episode: int) -> dict[str, np.ndarray]:
    """(rows, size) of each feature of an episode; images by channel."""
    rows = table.filter(pa.compute.equal(table["episode_index"], episode))
    columns = {name: np.array(rows[name].to_pylist(), float).reshape(len(rows), -1) for name in rows.column_names}
    return columns | {CAMERA: store.episode(episode).frames.reshape(-1, 3) / 255}


def test_they_are_those_of_the_exported_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lerobot_export, "FRAMES_PER_FILE", 12)  # several files, each with some episodes
    store = write_store(tmp_path / "walks", count=4)
    export(ExportConfig((store.path,), tmp_path / "out"))
    root = tmp_path / "out"
    table = pq.read_table(root / "data", partitioning=None)
    facts = pq.read_table(root / "meta/episodes", partitioning=None).sort_by("episode_index").to_pylist()
    stats = json.loads((root / "meta/stats.json").read_text())
    info = json.loads((root / "meta/info.json").read_text())
    assert set(stats) == set(info["features"])
    by_episode = [columns_of(table, store, index) for index in range(4)]
    lengths = np.array([len(columns["index"]) for columns in by_episode])
    for feature in stats:
        shape = (3, 1, 1) if feature == CAMERA else (by_episode[0][feature].shape[1],)
        expected = []
        for index, columns in enumerate(by_episode):
            expected.append([expected_of(column.tolist()) for column in columns[feature].T])
            for measure in expected[0][0]:
                found = np.array(facts[index][f"stats/{feature}/{measure}"])
                assert found.shape == shape
                assert np.allclose(found.ravel(), [of[measure] for of in expected[index]], atol=1e-7), (
                    feature,
                    measure,
                )
            assert facts[index][f"stats/{feature}/count"] == [lengths[index]]
        everything = np.concatenate([columns[feature] for columns in by_episode])
        whole = [expected_of(column.tolist()) for column in everything.T]
        for measure in ("min", "max", "mean", "std"):
            assert np.allclose(np.ravel(stats[feature][measure]), [of[measure] for of in whole], atol=1e-7)
        for measure in SHARES:
            means = [np.average([of[c][measure] for of in expected], weights=lengths) for c in range(len(whole))]
            assert np.allclose(np.ravel(stats[feature][measure]), means, atol=1e-7)
            assert np.array(stats[feature][measure]).shape == shape
        assert stats[feature]["count"] == [lengths.sum()]


def test_they_are_those_that_lerobot_wrote_of_the_same_numbers(tmp_path: Path) -> None:
    """LeRobot counts values in 5,000 bins between the least and the largest, so that its quantiles are a bin wide."""
    run_import(MADE, tmp_path / "store", frame_size=64)
    export(ExportConfig((tmp_path / "store",), tmp_path / "out"))
    ours, theirs = (json.loads((root / "meta/stats.json").read_text()) for root in (tmp_path / "out", MADE))
    # Not the last action, which a store leaves out, nor the standard deviation of images, which lerobot 0.4.4 squares
    # in eight bits.
    for feature in ("observation.state", "frame_index", "episode_index", "index", "task_index", "timestamp"):
        assert set(ours[feature]) == set(theirs[feature])
        for measure, values in theirs[feature].items():
            bin_width = (np.max(theirs[feature]["max"]) - np.min(theirs[feature]["min"])) / 5000
            assert np.allclose(ours[feature][measure], values, rtol=1e-6, atol=bin_width + 1e-6), (feature, measure)
    image = "observation.images.front"
    assert set(ours[image]) == set(theirs[image])
    for measure in set(theirs[image]) - {"std"}:
        found = np.array(ours[image][measure])
        assert found.shape == np.shape(theirs[image][measure])
        assert np.allclose(found, theirs[image][measure], atol=2 / 255), measure  # AV1 moves levels a little
