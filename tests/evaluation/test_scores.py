from __future__ import annotations

import math

import pytest

from genrl.envs.tasks import get_task
from genrl.evaluation.scores import summarise


def test_summary_of_three_returns_by_hand() -> None:
    # walker_run scores 0 at 30 and 1 at 770.
    summary = summarise([200.0, 400.0, 600.0], get_task("walker_run"))
    assert (summary.num_episodes, summary.mean, summary.minimum, summary.maximum) == (3, 400.0, 200.0, 600.0)
    assert summary.std == pytest.approx(200.0)
    assert summary.score == pytest.approx(370 / 740)
    assert summary.score_error == pytest.approx(200 / math.sqrt(3) / 740)
    assert summary.score_text == "0.50 ± 0.16"
    assert summary.return_text == "400.0 ± 200.0"


def test_a_single_episode_has_no_spread() -> None:
    summary = summarise([770.0], get_task("walker_run"))
    assert (summary.std, summary.score_error) == (None, None)
    assert summary.score_text == "1.00"
    assert summary.return_text == "770.0"


def test_a_task_without_bounds_has_no_score_and_says_so() -> None:
    summary = summarise([1.0, 3.0], get_task("walker_headstand"))
    assert (summary.score, summary.score_error) == (None, None)
    assert "no bounds" in summary.score_text
    assert summary.return_text == "2.0 ± 1.4"


def test_scores_are_not_clipped() -> None:
    assert summarise([20.0, 20.0], get_task("walker_run")).score == pytest.approx(-10 / 740)
