from __future__ import annotations

import subprocess
import sys

import gymnasium
import pytest

import genrl.envs  # noqa: F401 - registers the tasks
from genrl.envs.domain import MODULES, get_domain
from genrl.envs.tasks import TASKS, domain_tasks, get_task, normalised_score
from genrl.infra.errors import UserError
from genrl.run.tasks import TasksConfig, tasks


def test_the_list_of_tasks_loads_neither_torch_nor_a_simulator() -> None:
    code = "import sys, genrl.envs, genrl.envs.tasks, genrl.run.tasks; print([m for m in ('torch', 'mujoco', 'dm_control') if m in sys.modules])"  # noqa: E501
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_every_task_has_a_reward_and_every_reward_a_task() -> None:
    for domain in MODULES:
        assert {task.name for task in domain_tasks(domain)} == set(get_domain(domain).rewards)


def test_every_task_is_registered_with_gymnasium() -> None:
    assert all(f"genrl/{name}-v0" in gymnasium.registry for name in TASKS)


def test_a_misspelt_task_is_answered_with_the_nearest_name() -> None:
    with pytest.raises(UserError, match="walker_stand"):
        get_task("walker_stnad")


def test_an_unknown_domain_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UserError, match="choose from .*walker"):
        domain_tasks("unicycle")
    with pytest.raises(UserError, match="choose from .*walker"):
        get_domain("unicycle")


def test_scores_are_linear_between_the_bounds_and_not_clipped() -> None:
    stand = get_task("walker_stand")  # 150 to 970
    assert normalised_score(stand, 150) == 0
    assert normalised_score(stand, 970) == 1
    assert normalised_score(stand, 560) == 0.5
    assert normalised_score(stand, 1380) == 1.5
    assert normalised_score(get_task("walker_headstand"), 500) is None


def test_the_verb_prints_every_task_with_prompt_and_bounds(capsys: pytest.CaptureFixture[str]) -> None:
    assert tasks(TasksConfig()) == list(TASKS.values())
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("walker_lunge_pose", "standing up straight", "970"))
    assert [task.domain for task in tasks(TasksConfig(domain="walker"))] == ["walker"] * 17
