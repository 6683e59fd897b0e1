"""`recipes/judge_vlm.py` tells apart whether a VLM's texts or its embeddings of videos miss a task."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest

TASK = "stickman_stand"


@pytest.fixture
def judge_vlm(recipe: Callable[[str], ModuleType]) -> ModuleType:
    return recipe("judge_vlm")


@pytest.fixture
def clips() -> tuple[np.ndarray, np.ndarray]:
    """(4096, 8) unit embeddings, and rewards that lie along the first axis alone."""
    drawn = np.random.default_rng(0).standard_normal((4096, 8))
    embeddings = (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)
    return embeddings, (0.5 + 0.5 * embeddings[:, 0]).astype(np.float64)


def test_a_text_that_points_where_the_reward_is_finds_the_best_clips(judge_vlm, clips) -> None:
    row = judge_vlm.judged(TASK, *clips[:1], np.eye(8, dtype=np.float32)[0], clips[1], 50)
    assert row["fitting"] == pytest.approx(row["best"]) and row["correlation"] == pytest.approx(1, abs=1e-5)
    assert row["all"] < row["best"] - 0.3


def test_a_text_that_points_elsewhere_does_not_but_the_embeddings_are_read(judge_vlm, clips) -> None:
    row = judge_vlm.judged(TASK, *clips[:1], np.eye(8, dtype=np.float32)[1], clips[1], 50)
    assert abs(row["fitting"] - row["all"]) < 0.05 and abs(row["correlation"]) < 0.05
    assert row["readable"] == pytest.approx(row["best"], abs=0.06)  # of half the clips


def test_what_embeddings_do_not_hold_is_not_read(judge_vlm, clips) -> None:
    rewards = np.random.default_rng(1).random(len(clips[1]))
    row = judge_vlm.judged(TASK, *clips[:1], np.eye(8, dtype=np.float32)[0], rewards, 50)
    assert abs(row["readable"] - row["all"]) < 0.15 < row["best"] - row["all"]


def test_the_linear_map_is_that_of_least_squares(judge_vlm, clips) -> None:
    embeddings, rewards = clips
    with_one = np.c_[embeddings, np.ones(len(embeddings))]
    known = np.linalg.lstsq(with_one, rewards, rcond=None)[0][:-1]
    assert judge_vlm.linear_map(embeddings, rewards) == pytest.approx(known, abs=1e-3)
