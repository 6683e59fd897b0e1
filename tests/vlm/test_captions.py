"""The mini VLM is not taught the test."""

from __future__ import annotations

import re

import pytest

from genrl.envs.tasks import TASKS
from genrl.vlm.bodies import BODIES, CONCEPTS
from genrl.vlm.captions import load_captions, load_held_out_wordings, subjects_of

BENCHMARK_PROMPTS = {
    "run fast clean",
    "walk fast clean",
    "standing up straight",
    "stand on one foot",
    "stand up and kick",
    "lying down horizontally",
    "praying",
    "lunge_pose",
    "doing backflips",
    "doing flips",
    "arabesque position",
    "lying down with feet up",
    "headstand",
    "robot run fast clean",
    "robot walk fast clean",
    "standing up",
    "standing",
    "lifting legs up while lying down",
    "punch",
    "standing with the hands up",
    "running like a quadruped",
    "standing like a human",
    "lying down",
    "quadruped rotating flips",
    "spider running fast",
    "spider walking fast",
    "spider standing",
    "spider jumping",
    "on two legs",
    "opening the microwave fully open",
    "switch light on",
    "activate the light",
    "switch on red burner",
    "the burner becomes red",
    "slide cabinet above the knobs",
    "pushing up the kettle",
    "robot grasp the red cube",
}
"""Of every body, in the wordings of both versions of the release."""

LONG_PROMPTS = {prompt for prompt in BENCHMARK_PROMPTS if " " in prompt and prompt != "on two legs"} - {"lying down"}
RARE_PROMPTS = {"headstand", "praying", "punch", "lunge_pose"}
"""These do not even occur within a caption; words that nobody can avoid, such as `standing`, do."""

CAPTIONS = [(concept, wording) for concept, wordings in load_captions().items() for wording in wordings]
TRAINING_TEXTS = [
    text
    for concept, wording in CAPTIONS
    for text in (
        wording,
        *(f"{subject} {wording}" for subject in subjects_of(concept) if wording.split()[0].endswith("ing")),
    )
]


def words(text: str) -> str:
    return f" {' '.join(re.findall(r'[a-z]+', text.lower()))} "


def test_the_list_of_prompts_covers_every_task_there_is() -> None:
    assert {words(task.prompt) for task in TASKS.values() if task.prompt} <= set(map(words, BENCHMARK_PROMPTS))


def test_no_training_text_is_a_benchmark_prompt() -> None:
    assert not set(map(words, TRAINING_TEXTS)) & set(map(words, BENCHMARK_PROMPTS))


@pytest.mark.parametrize("prompt", sorted(LONG_PROMPTS | RARE_PROMPTS))
def test_no_training_text_contains_the_prompt(prompt) -> None:
    assert [text for text in TRAINING_TEXTS if words(prompt) in words(text)] == []


def test_no_held_out_wording_occurs_in_a_training_text() -> None:
    held_out = [wording for wordings in load_held_out_wordings().values() for wording in wordings]
    texts = [words(text) for text in TRAINING_TEXTS]
    assert [(wording, text) for wording in map(words, held_out) for text in texts if wording in text] == []


def test_at_least_forty_wordings_are_held_out_over_all_retrieval_classes() -> None:
    held_out = load_held_out_wordings()
    assert sum(map(len, held_out.values())) >= 40
    assert {name for body in BODIES.values() for name in body.classes} <= set(held_out) <= set(CONCEPTS)


def test_no_wording_is_used_for_two_concepts() -> None:
    all_wordings = [words(wording) for _, wording in CAPTIONS]
    assert sorted({w for w in all_wordings if all_wordings.count(w) > 1}) == []


def test_every_concept_has_several_wordings() -> None:
    assert {concept for concept, wordings in load_captions().items() if len(wordings) < 4} == set()
