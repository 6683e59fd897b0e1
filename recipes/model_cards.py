"""Writes the tables of the model cards, and that of the tasks, from the measurements that are committed beside them.

    python recipes/model_cards.py [--check]

A card marks where a table stands by `<!-- table NAME -->` and `<!-- end -->`. With --check nothing is written and the
exit code is 1 where a card is out of date.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

from genrl.envs.tasks import TASKS
from genrl.run.vlm_list import HEAD, describe
from genrl.vlm.bodies import BODIES
from genrl.vlm.registry import ENTRIES

DOCS = Path(__file__).parents[1] / "docs"
GROUPS = ("own look", "random looks", "simulated")
KINDS = ("captions", "captions of attributes", "held-out wordings", "held-out wordings, unread")
BLOCK = re.compile(r"(<!-- table (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)

Json = dict[str, Any]


def retrieval_table(report: Json) -> str:
    """Share of wordings whose clip ranks first, by body, kind of wording and of clip."""
    rows = []
    for body in BODIES:
        for kind in KINDS:
            cells = [report.get(f"{body}: {kind}, {group}") for group in GROUPS]
            if any(cells):
                rows.append([body, kind, *(f"{cell['accuracy']:.2f}" if cell else "–" for cell in cells)])
        cells = [report.get(f"{body}: captions, {group}") for group in GROUPS]
        stayed = [cell.get("stayed") if cell else None for cell in cells]
        if any(stayed):
            rows.append([body, "cosine with `--start`", *(f"{share:.3f}" if share else "–" for share in stayed)])
        rows.append([body, "candidates", *(str(cell["candidates"]) if cell else "–" for cell in cells)])
    return table(["body", "wordings", *GROUPS], rows)


def retrieval_by_behaviour(body: str, report: Json) -> str:
    """The same for each behaviour of a body."""
    columns = [f"{kind}, {group}" for kind in ("captions", "held-out wordings") for group in GROUPS]
    columns = [column for column in columns if f"{body}: {column}" in report]
    found = [report[f"{body}: {column}"]["by_concept"] for column in columns]
    shares = [{name: f"{share:.2f}" for name, share in by_concept.items()} for by_concept in found]
    concepts = dict.fromkeys(name for share in shares for name in share)
    return table(["", *columns], [[f"`{name}`", *(share.get(name, "–") for share in shares)] for name in concepts])


def score_table(result: Json) -> str:
    """Scores of a model's tasks (`recipes/score_model.py`)."""
    seeds = " / ".join(str(seed) for seed in result["config"]["seeds"])
    head = ["task", "prompt", "score", f"seeds {seeds}", "nothing", "random", "z-score", "imagined", "seconds"]
    rows = []
    for row in result["tasks"]:
        scores = " / ".join(f"{seed['score']:.2f}" for seed in row["seeds"])
        imagined = mean(seed["imagined_reward"] for seed in row["seeds"])
        seconds = mean(seed["seconds"] for seed in row["seeds"])
        numbers = [f"{row['nothing']:.2f}", f"{row['random']:.2f}", f"{row['z_score']:+.1f}", f"{imagined:.2f}"]
        rows.append([f"`{row['task']}`", row["prompt"], f"{row['score']:.2f}", scores, *numbers, f"{seconds:.0f}"])
    references = [f"{mean(row[name] for row in result['tasks']):.2f}" for name in ("nothing", "random")]
    rows.append(["mean", "", f"{result['mean']:.2f}", "", *references, "", "", ""])
    return table(head, rows)


def prediction_table(report: Json) -> str:
    """Open-loop errors of a model (`recipes/predict_model.py`)."""
    names = [f"prediction/{name}" for name in ("error", "mean_error", "copy_error", "reconstruction_error")]
    rows = [
        [
            store,
            *(f"{row[name]:.4f}" for name in names),
            f"{row['prediction/relative_error']:.2f}",
            f"{row['prediction/relative_mean_error']:.2f}",
        ]
        for store, row in report.items()
    ]
    return table(
        ["data", "one future", "mean of 8", "copied", "reconstructed", "one future / copied", "mean of 8 / copied"],
        rows,
    )


def judged_table(report: Json) -> str:
    """What the clips are worth that a VLM finds to fit each task's prompt best (`recipes/judge_vlm.py`)."""
    numbers = ("fitting", "readable", "best", "all", "correlation")
    rows = [[f"`{task}`", *(f"{row[name]:.2f}" for name in numbers)] for task, row in report["tasks"].items()]
    rows.append(["mean", *(f"{mean(row[name] for row in report['tasks'].values()):.2f}" for name in numbers)])
    return table(["task", "fit best", "linear map", "best there are", "all", "correlation"], rows)


def ranked_table(report: Json) -> str:
    """How well latent rewards order what happened, over a body's tasks (`recipes/rank_rewards.py`)."""
    of_tasks = list(report["rewards"].values())
    numbers = {
        name: [mean(row[name][key] for row in of_tasks) for key in ("best", "correlation")] for name in of_tasks[0]
    }
    rows = [[name, *(f"{number:.2f}" for number in row)] for name, row in numbers.items()]
    return table(["reward", "score of the best hundredth", "rank correlation"], rows)


def held_table(report: Json) -> str:
    """What doing a task is worth to the latent reward, and holding a pose of it (`recipes/rank_rewards.py`)."""
    names = ("done", "held")
    rows = [[f"`{task}`", *(f"{row[name]:.2f}" for name in names)] for task, row in report["poses"].items()]
    rows.append(["mean", *(f"{mean(row[name] for row in report['poses'].values()):.2f}" for name in names)])
    return table(["task", "doing it", "holding a pose"], rows)


def task_table(report: Json) -> str:
    """Every task with its prompt and bounds, and what doing nothing and random actions get (`reference_returns.py`)."""
    rows = []
    for task in TASKS.values():
        prompt = task.prompt or "–"
        if task.video_prompt is not None:
            prompt += f"; video of {task.video_prompt}"
        bounds = ["–" if bound is None else f"{bound:g}" for bound in (task.score_min, task.score_max)]
        measured = [returns(report["tasks"][task.name][agent]) for agent in ("nothing", "random")]
        rows.append([f"`{task.name}`", task.group, prompt, *bounds, *measured])
    return table(["task", "group", "prompt", "score 0", "score 1", "nothing", "random"], rows)


def vlm_table(_: Json) -> str:
    """The families of the registry with their default checkpoints."""
    rows = []
    for entry in ENTRIES.values():
        name, *facts, where = describe(entry)
        repository = where.split("@")[0]
        rows.append(
            [f"`{name}`", *facts, f"[{repository}](https://huggingface.co/{repository})" if entry.where else where]
        )
    return table(HEAD, rows)


def returns(row: Json) -> str:
    """Mean return and, where episodes differ, the least and the largest."""
    mean, low, high = (f"{row[name]:.0f}" for name in ("mean", "low", "high"))
    return mean if low == high else f"{mean} ({low} … {high})"


def table(head: list[str], rows: list[list[str]]) -> str:
    """Markdown."""
    return "".join(f"| {' | '.join(row)} |\n" for row in [head, ["---"] * len(head), *rows])


TABLES: dict[str, tuple[str, Callable[[Json], str]]] = {
    "retrieval": ("mini_vlm_retrieval.json", retrieval_table),
    **{f"retrieval-{body}": ("mini_vlm_retrieval.json", partial(retrieval_by_behaviour, body)) for body in BODIES},
    "tasks": ("task_returns.json", task_table),
    "vlms": ("", vlm_table),
    "stickman-vlm": ("stickman_mini_training/vlm.json", judged_table),
    "stickman-rewards": ("stickman_mini_training/rewards.json", ranked_table),
    "stickman-held": ("stickman_mini_training/rewards.json", held_table),
    **{f"{body}-scores": (f"{body}_mini_training/scores.json", score_table) for body in ("walker", "stickman")},
    **{
        f"{body}-prediction": (f"{body}_mini_training/prediction.json", prediction_table)
        for body in ("walker", "stickman")
    },
}
"""Table -> file of its measurements, where it has any, and what writes it."""


def filled(card: str) -> str:
    """A card's text with all its tables anew."""

    def replace(match: re.Match[str]) -> str:
        source, write = TABLES[match[2]]
        measured = json.loads((DOCS / source).read_text()) if source else {}
        return match[1] + write(measured) + match[3]

    return BLOCK.sub(replace, card)


def main(check: bool) -> int:
    """Writes or checks every card; returns the exit code."""
    stale = {path: new for path in sorted(DOCS.glob("*.md")) if (new := filled(path.read_text())) != path.read_text()}
    for path, new in stale.items():
        print(f"{path.name}: {'out of date' if check else 'written'}")
        if not check:
            path.write_text(new)
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
