"""Which task scores a prompt."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest

from genrl.envs.tasks import TASKS, Task
from genrl.run.judge import REWARDED_CONCEPTS, find_judge
from genrl.vlm.captions import load_captions
from genrl.vlm.mini import MiniVLM


@pytest.fixture(scope="module")
def _captions_embedded_once() -> Iterator[None]:
    """Thousands of captions take a second a time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MiniVLM, "load", cache(MiniVLM.load))
        patch.setattr(MiniVLM, "embed_unread", cache(MiniVLM.embed_unread))
        yield


PROMPTED = [task for task in TASKS.values() if task.prompt]


@pytest.mark.parametrize("task", PROMPTED, ids=lambda task: task.name)
def test_a_tasks_own_prompt_is_scored_by_a_task_that_has_it(task: Task) -> None:
    judge = find_judge(task.domain, f"  {str(task.prompt).upper()} ")
    assert judge.scores and judge.why == "whose prompt this is"
    assert (judge.task.domain, judge.task.prompt) == (task.domain, task.prompt)
    # One with a scale comes first.
    assert judge.task == task or judge.task.score_max is not None or task.score_max is None


@pytest.mark.parametrize(
    ("prompt", "task"),
    [
        ("standing", "stickman_stand"),
        ("standing still", "stickman_stand"),
        ("standing up straight", "stickman_stand"),
        ("hands up", "stickman_hands_up"),
        ("kneeling", "stickman_sit_knees"),
        ("shadow boxing", "stickman_boxing"),
        ("standing", "walker_stand"),
        ("walking", "walker_walk"),
        ("running very fast", "walker_run"),
        ("step into a deep lunge", "walker_lunge_pose"),
        ("stretched out on the ground", "walker_lying_down"),
        ("somersault backward again and again", "walker_flipping"),
    ],
)
def test_another_wording_is_scored_by_the_task_that_rewards_it(
    prompt: str, task: str, _captions_embedded_once: None
) -> None:
    judge = find_judge(task.partition("_")[0], prompt)
    assert judge.scores and judge.task.name == task and "cosine" in judge.why and "--task" in judge.why


@pytest.mark.parametrize(
    "prompt", ["jumping", "crawling", "standing up", "walking backwards", "boxing", "asdfgh", "1234"]
)
def test_what_no_task_of_the_body_surely_means_is_not_scored(prompt: str, _captions_embedded_once: None) -> None:
    judge = find_judge("walker", prompt)
    assert not judge.scores
    assert f"the nearest is {judge.task.name}" in judge.why and "walker_flipping" in judge.why


def test_what_tasks_reward_is_known_by_concepts_of_the_captions() -> None:
    concepts = {concept for concepts in REWARDED_CONCEPTS.values() for concept in concepts}
    assert concepts <= set(load_captions())
