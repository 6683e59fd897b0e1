"""Which prompts a demo scores by which task, and against which the mini VLM cautions, beside what a person meant.

    python recipes/judge_prompts.py

Reads `recipes/labelled_prompts.json` and prints the tables of docs/prompting.md: of the prompts that mean a task of the
body, and of those that mean none, how many are scored rightly and wrongly (`genrl.run.judge`), for several thresholds;
and how many texts of each kind are cautioned against (`MiniVLM.caution`).
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import torch

from genrl.envs.tasks import TASKS, domain_tasks
from genrl.run import judge
from genrl.run.prompting import REFERENCE_PROMPTS
from genrl.vlm.captions import load_held_out_wordings
from genrl.vlm.mini import MINI_VLM_DIRECTORY, MiniVLM

HERE = Path(__file__).parent
DOMAINS = ("walker", "stickman")
THRESHOLDS = (0.84, 0.88, 0.9, 0.92, 0.94)


def main() -> None:
    """Prints both tables."""
    torch.set_num_threads(1)
    labelled = json.loads((HERE / "labelled_prompts.json").read_text())
    vlm = MiniVLM.load(MINI_VLM_DIRECTORY)
    # Thousands of captions are embedded once, and not for every prompt.
    vlm.embed_unread = cache(vlm.embed_unread)  # type: ignore[method-assign]
    judge.MiniVLM.load = lambda directory: vlm  # type: ignore[method-assign, assignment]
    print("| cosine | right | wrong | scored though none is meant | scored though no movement is meant |")
    print("| --- | --- | --- | --- | --- |")
    for threshold in THRESHOLDS:
        judge.SURE = threshold
        print(f"| {threshold:.2f} | " + " | ".join(scored(labelled)) + " |")
    print("\n| texts | how many | cautioned against |\n| --- | --- | --- |")
    for kind, texts in kinds(labelled).items():
        unlike = [text for text in texts if vlm.caution(text) is not None]
        print(f"| {kind} | {len(texts)} | {len(unlike)}: {', '.join(unlike[:6])} |")


def scored(labelled: dict[str, dict[str, list[str]]]) -> list[str]:
    """Counts over both bodies: right and wrong of those that mean a task of the body, scored of the others."""
    right = wrong = with_task = without = of_none = senseless = 0
    for domain in DOMAINS:
        own = {task.name.removeprefix(f"{domain}_") for task in domain_tasks(domain) if task.score_max is not None}
        for meant, prompts in labelled["tasks"].items():
            judges = [judge.find_judge(domain, prompt) for prompt in prompts]
            chosen = [found.task.name.removeprefix(f"{domain}_") for found in judges if found.scores]
            if meant in own:
                with_task += len(prompts)
                right += chosen.count(meant)
                wrong += len(chosen) - chosen.count(meant)
            else:
                without += len(prompts)
                of_none += len(chosen)
        senseless += sum(judge.find_judge(domain, text).scores for text in labelled["no movement"])
    total = len(DOMAINS) * len(labelled["no movement"])
    return [f"{right} of {with_task}", str(wrong), f"{of_none} of {without}", f"{senseless} of {total}"]


def kinds(labelled: dict[str, dict[str, list[str]]]) -> dict[str, list[str]]:
    """Texts by what they are."""
    bench = {str(task.prompt) for task in TASKS.values() if task.prompt and task.domain not in ("kitchen", "jaco")}
    other = json.loads((HERE / "other_wordings.json").read_text()).values()
    reference = json.loads(REFERENCE_PROMPTS.read_text())["prompts"]
    return {
        "no movement": list(labelled["no movement"]),
        "the benchmark's, other wordings, reference prompts": sorted(bench.union(*other, reference)),
        "labelled prompts": [text for texts in labelled["tasks"].values() for text in texts],
        "wordings that training kept away from": [x for texts in load_held_out_wordings().values() for x in texts],
    }


if __name__ == "__main__":
    main()
