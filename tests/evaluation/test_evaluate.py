from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from genrl.infra.errors import UserError
from genrl.infra.media import read_video
from genrl.run.evaluate import EvaluateConfig, evaluate, evaluate_policy
from tests.evaluation.tiny import SPEC, saved_policy, tiny_policy

# 100 control steps in each env step: 10 env steps an episode.
QUICK = dataclasses.replace(SPEC, action_repeat=100)


@pytest.mark.gl
def test_evaluation_writes_numbers_and_video_and_says_when_it_was_done_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = saved_policy(tmp_path / "run" / "policy", QUICK)
    config = EvaluateConfig(directory.parent, "walker_run", episodes=2, references=True, workers=1)
    result = evaluate(config)

    out = tmp_path / "run" / "evaluation-walker_run"
    numbers = json.loads((out / "evaluation.json").read_text())
    assert numbers["returns"] == list(result.returns) and len(result.returns) == 2
    assert numbers["lengths"] == [10, 10]
    assert set(numbers["summaries"]) == {"policy", "nothing", "random"}
    assert numbers["facts"]["prompt"] == "standing up straight"
    assert result.score == pytest.approx((np.mean(result.returns) - 30) / 740)
    assert read_video(out / "episode.mp4").shape == (11, 256, 256, 3)
    assert "walker_run, 2 episodes" in capsys.readouterr().out

    before = (out / "evaluation.json").stat().st_mtime_ns
    assert evaluate(config) == result
    assert "is finished" in capsys.readouterr().out
    assert (out / "evaluation.json").stat().st_mtime_ns == before

    more = dataclasses.replace(config, seed=1)
    with pytest.raises(UserError, match="seed was 0, now 1; use --fresh"):
        evaluate(more)
    assert (out / "evaluation.json").stat().st_mtime_ns == before
    assert evaluate(dataclasses.replace(more, fresh=True)).returns != result.returns


@pytest.mark.gl
def test_scoring_a_policy_object_repeats_itself() -> None:
    policy = tiny_policy(QUICK)
    first = evaluate_policy(policy, "walker_stand", episodes=1, seed=3)
    assert evaluate_policy(policy, "walker_stand", episodes=1, seed=3) == first
    assert 0 < first.mean_return < 1000


def test_a_missing_policy_and_a_task_of_another_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--policy .*nowhere: no policy there"):
        evaluate(EvaluateConfig(tmp_path / "nowhere", "walker_run"))
    directory = saved_policy(tmp_path / "policy", dataclasses.replace(SPEC, domain="stickman"))
    with pytest.raises(UserError, match="made for stickman"):
        evaluate(EvaluateConfig(directory, "walker_run"))
    with pytest.raises(UserError, match="did you mean walker_run"):
        evaluate(EvaluateConfig(directory, "walker_runn"))
    assert not (tmp_path / "evaluation-walker_run").exists()
