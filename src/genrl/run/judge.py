"""Which task a prompt means, so that its true reward may score what was learnt."""

from __future__ import annotations

from dataclasses import dataclass

from genrl.envs.tasks import Task, domain_tasks
from genrl.vlm.captions import load_captions
from genrl.vlm.mini import MINI_VLM_DIRECTORY, MiniVLM

SURE, APART = 0.92, 0.01
"""Cosine with a wording from which its task scores a prompt, and how far any other behaviour must be behind: what
`recipes/judge_prompts.py` counts for this and other values is in docs/prompting.md."""
REWARDED_CONCEPTS: dict[str, tuple[str, ...]] = {
    "run": ("run",),
    "walk": ("walk_forward", "brisk_walk"),
    "stand": ("stand",),
    "one_foot": ("one_leg_stand",),
    "high_kick": ("kick",),
    "lying_down": ("lie", "lie_back", "lie_front"),
    "legs_up": ("legs_up",),
    "sit_knees": ("kneel",),
    "lunge_pose": ("lunge",),
    "flipping": ("flip", "flip_forward", "flip_backward"),
    "headstand": ("inverted",),
    "boxing": ("strike",),
    "hands_up": ("arms_raised",),
    "cheetah_run": ("four_run", "run"),
    "cheetah_standing": ("rear",),
    "cheetah_lying_down": ("four_lie", "lie"),
    "quadruped_run": ("four_run", "run"),
    "quadruped_walk": ("four_walk", "walk_forward", "brisk_walk"),
    "quadruped_stand": ("four_stand",),  # "Stand" is said of two legs, too.
    "quadruped_jump": ("four_jump", "jump"),
    "quadruped_two_legs": ("rear",),
    "quadruped_lie_down": ("four_lie", "lie"),
}
"""What the mini VLM's captions call that which a task rewards, by the task's name or, of two legs, what follows the
body's."""


@dataclass(frozen=True)
class Judge:
    """What scores a demo.

    Attributes:
        task: The task; where it does not score, the behaviour is run in its simulation all the same: a body's tasks
            differ in their rewards alone.
        scores: Whether it is surely meant.
        why: In words.
    """

    task: Task
    scores: bool
    why: str


def find_judge(domain: str, prompt: str) -> Judge:
    """The task of a body that a prompt means, or comes nearest to, and whether that is sure.

    A task's own prompt means the task. Other prompts are compared with everything that the shipped mini VLM knows words
    for, whichever VLM the model has: captions of what tasks reward, and of what none does. Texts are not read as
    mixtures of concepts here, which makes near ties of different behaviours. Only tasks with score bounds are
    considered then.
    """
    prompted = [task for task in domain_tasks(domain) if task.prompt]
    bounded = [task for task in prompted if task.score_max is not None]
    for task in [*bounded, *prompted]:
        if _same_words(task.prompt or "", prompt):
            return Judge(task, True, "whose prompt this is")
    # Of tasks with the same prompt the first.
    scored = list({task.prompt: task for task in reversed(bounded)}.values())[::-1]
    mini = MiniVLM.load(MINI_VLM_DIRECTORY)
    best = _nearest_wordings(mini, prompt, scored)
    first, second = sorted(best, key=best.__getitem__, reverse=True)[:2]
    task = max(scored, key=lambda task: best[task.name])
    cosine, text = best[task.name]
    like = f"like {text!r}, cosine {cosine:.2f}"
    rival = second if first == task.name else first
    apart = cosine - best[rival][0] >= APART
    if cosine >= SURE and apart and mini.caution(prompt) is None:
        return Judge(task, True, f"the task that rewards what is {like}; choose another with --task")
    doubt = "which is not near enough" if apart else f"but {best[rival][1]!r} has {best[rival][0]:.2f}"
    why = f"since none is surely meant: the nearest is {task.name}, {like}, {doubt}"
    return Judge(task, False, f"{why}\n{' ' * 15}--task NAME scores it: {', '.join(task.name for task in bounded)}")


def _nearest_wordings(mini: MiniVLM, prompt: str, tasks: list[Task]) -> dict[str, tuple[float, str]]:
    """Each behaviour's wording that is nearest to a prompt, with their cosine."""
    behaviours, texts = zip(*_wordings(tasks), strict=True)
    cosines = (mini.embed_unread(texts) @ mini.embed_unread((prompt,))[0]).tolist()
    # The last of each behaviour, the nearest, stays.
    return {
        behaviour: (cosine, text) for cosine, text, behaviour in sorted(zip(cosines, texts, behaviours, strict=True))
    }


def _wordings(tasks: list[Task]) -> list[tuple[str, str]]:
    """Behaviours with words for them: tasks by their names, and concepts of captions that no task rewards."""
    owners = {}
    for task in tasks:
        suffix = task.name.removeprefix(f"{task.domain}_")
        for concept in REWARDED_CONCEPTS.get(task.name, REWARDED_CONCEPTS.get(suffix, ())):
            owners[concept] = task.name
    captions = [(owners.get(concept, concept), text) for concept, texts in load_captions().items() for text in texts]
    return [(task.name, task.prompt or "") for task in tasks] + captions


def _same_words(first: str, second: str) -> bool:
    return first.casefold().split() == second.casefold().split()
