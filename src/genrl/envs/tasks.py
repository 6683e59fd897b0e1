"""The task suite: one entry per task, with its prompt, its group and the bounds of its score.

The names, prompts and bounds are those of the paper's benchmark (GenRL, arXiv 2406.18043) and of its release. This
module loads no simulator; what a task rewards is defined in the module of its body (`genrl.envs.walker` and so on).
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Literal

from genrl.infra.errors import UserError

Group = Literal["behaviour", "generalisation", "extra"]


@dataclass(frozen=True)
class Task:
    """One task of the suite.

    Attributes:
        name: Such as `walker_stand`; the environment is `genrl/walker_stand-v0`.
        domain: The body, such as `walker`.
        prompt: Text that describes the task, or None when the benchmark has no prompt for it.
        group: `behaviour` (data are collected for it), `generalisation` (no data of its own), or `extra` (on neither
            list of the benchmark).
        score_min: Return that scores 0, about that of a random agent; None when the task has no scale.
        score_max: Return that scores 1, about that of a specialist.
        video_prompt: What the benchmark's video shows that describes the task, or None; the videos are not shipped.
    """

    name: str
    domain: str
    prompt: str | None
    group: Group
    score_min: float | None = None
    score_max: float | None = None
    video_prompt: str | None = None


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task("walker_run", "walker", "run fast clean", "behaviour", 30, 770),
        Task("walker_walk", "walker", "walk fast clean", "behaviour", 45, 960),
        Task("walker_stand", "walker", "standing up straight", "behaviour", 150, 970),
        Task("walker_one_foot", "walker", "stand on one foot", "generalisation", 20, 955),
        Task("walker_high_kick", "walker", "stand up and kick", "generalisation", 25, 960),
        Task("walker_lying_down", "walker", "lying down horizontally", "generalisation", 170, 975),
        Task("walker_sit_knees", "walker", "praying", "generalisation", 100, 945),
        Task("walker_lunge_pose", "walker", "lunge_pose", "generalisation", 150, 945),
        Task("walker_flipping", "walker", "doing backflips", "generalisation", 20, 720),
        Task("walker_urlb_flip", "walker", "doing backflips", "extra", 20, 720),
        Task("walker_flip", "walker", "doing flips", "extra"),
        Task("walker_backflip", "walker", "doing backflips", "extra"),
        Task("walker_arabesque", "walker", "arabesque position", "extra"),
        Task("walker_legs_up", "walker", "lying down with feet up", "extra"),
        Task("walker_headstand", "walker", "headstand", "extra"),
        Task("walker_walk_backwards", "walker", None, "extra"),
        Task("walker_run_backwards", "walker", None, "extra"),
        Task("stickman_run", "stickman", "robot run fast clean", "behaviour", 25, 830),
        Task("stickman_walk", "stickman", "robot walk fast clean", "behaviour", 35, 960, "a man walking"),
        Task("stickman_stand", "stickman", "standing up", "behaviour", 70, 970),
        Task("stickman_flipping", "stickman", "doing flips", "generalisation", 45, 790),
        Task("stickman_one_foot", "stickman", "stand on one foot", "generalisation", 20, 865),
        Task("stickman_high_kick", "stickman", "stand up and kick", "generalisation", 55, 920, "a karate kick"),
        Task("stickman_lying_down", "stickman", "lying down horizontally", "generalisation", 380, 965),
        Task("stickman_legs_up", "stickman", "lifting legs up while lying down", "generalisation", 115, 935),
        Task("stickman_sit_knees", "stickman", "praying", "generalisation", 40, 966),
        Task("stickman_lunge_pose", "stickman", "lunge_pose", "generalisation", 100, 950),
        Task("stickman_headstand", "stickman", "headstand", "generalisation", 180, 955),
        Task("stickman_boxing", "stickman", "punch", "generalisation", 80, 920),
        Task("stickman_hands_up", "stickman", "standing with the hands up", "generalisation", 5, 830),
        Task("stickman_urlb_flip", "stickman", "doing flips", "extra"),
        Task("stickman_flip", "stickman", "doing flips", "extra"),
        Task("stickman_backflip", "stickman", "doing backflips", "extra"),
        Task("stickman_arabesque", "stickman", None, "extra"),
        Task("cheetah_run", "cheetah", "running like a quadruped", "behaviour", 9, 890, "a dog running, from the side"),
        Task(
            "cheetah_standing",
            "cheetah",
            "standing like a human",
            "generalisation",
            5,
            930,
            "a person standing with hands up, from the side",
        ),
        Task("cheetah_lying_down", "cheetah", "lying down", "generalisation", 430, 920),
        Task("cheetah_flipping", "cheetah", "quadruped rotating flips", "extra"),
        Task("cheetah_run_backward", "cheetah", None, "extra"),
        Task("cheetah_flip", "cheetah", None, "extra"),
        Task("cheetah_flip_backward", "cheetah", None, "extra"),
        Task("quadruped_run", "quadruped", "spider running fast", "behaviour", 10, 930),
        Task("quadruped_walk", "quadruped", "spider walking fast", "behaviour", 10, 960, "a drawn spider"),
        Task("quadruped_stand", "quadruped", "spider standing", "behaviour", 15, 990),
        Task("quadruped_jump", "quadruped", "spider jumping", "generalisation", 15, 875),
        Task("quadruped_two_legs", "quadruped", "on two legs", "generalisation", 14, 875),
        Task("quadruped_lie_down", "quadruped", "lying down", "generalisation", 750, 965),
        Task("quadruped_roll", "quadruped", None, "extra"),
        Task("quadruped_roll_fast", "quadruped", None, "extra"),
        Task(
            "kitchen_microwave",
            "kitchen",
            "opening the microwave fully open",
            "behaviour",
            0,
            1,
            "a microwave being opened",
        ),
        Task("kitchen_light", "kitchen", "switch light on", "behaviour", 0, 1),
        Task("kitchen_burner", "kitchen", "switch on red burner", "behaviour", 0, 1),
        Task("kitchen_slide", "kitchen", "slide cabinet above the knobs", "behaviour", 0, 1),
        Task("kitchen_kettle", "kitchen", "pushing up the kettle", "extra"),
        Task("kitchen_hinge", "kitchen", None, "extra"),
        Task("kitchen_top_burner", "kitchen", None, "extra"),
        Task("jaco_reach_top_left", "jaco", "robot grasp the red cube", "extra", 0, 230),
        Task("jaco_reach_top_right", "jaco", "robot grasp the red cube", "extra", 0, 230),
        Task("jaco_reach_bottom_left", "jaco", "robot grasp the red cube", "extra", 0, 230),
        Task("jaco_reach_bottom_right", "jaco", "robot grasp the red cube", "extra", 0, 230),
    )
}


def is_external(name: str) -> bool:
    """Whether a name is an id of Gymnasium's, such as `Pendulum-v1` or `my_package:MyEnv-v0`, and no task of ours."""
    return ":" in name or re.search(r"-v\d+$", name) is not None


def get_task(name: str) -> Task:
    """The task of that name; the id of another Gymnasium environment is one task without prompt and scale.

    Raises:
        UserError: If there is none; the message names the nearest ones.
    """
    if name in TASKS:
        return TASKS[name]
    if is_external(name):
        return Task(name, name, None, "extra")
    near = difflib.get_close_matches(name, TASKS, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "`genrl tasks` lists them"
    raise UserError(f"unknown task {name!r}: {hint}")


def domain_tasks(domain: str) -> list[Task]:
    """All tasks of one body.

    Raises:
        UserError: If no task has that body.
    """
    tasks = [task for task in TASKS.values() if task.domain == domain]
    if not tasks:
        known = ", ".join(sorted({task.domain for task in TASKS.values()}))
        raise UserError(f"unknown domain {domain!r}: choose from {known}")
    return tasks


def normalised_score(task: Task, episode_return: float) -> float | None:
    """Return on the benchmark's scale, `(R - min) / (max - min)`, not clipped; None for a task without a scale."""
    if task.score_min is None or task.score_max is None:
        return None
    return (episode_return - task.score_min) / (task.score_max - task.score_min)
