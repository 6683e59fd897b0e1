"""How well a VLM tells tasks apart in a body's own data: the true score of the clips that fit a prompt best.

    python recipes/judge_vlm.py --model stickman-mini --data DATA --out docs/stickman_mini_training/vlm.json

A policy that follows its prompt perfectly does what the VLM believes the prompt to mean. For each task of the benchmark
this looks at clips of the data with simulator states: how the reward of the state that ends a clip goes with the cosine
of clip and prompt, and what the clips that fit best are worth, beside the best there are. Where the first is low and
the second high, no policy learns the task from that VLM. Whether the text or the embeddings of clips are to blame says
what the clips are worth that a linear map of the embeddings finds, fitted to the rewards of every other block of clips
and judged on the rest: where that is high the embeddings tell the task apart, and the text points elsewhere. Rewards
are read for this measurement alone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from score_model import ScoreConfig, chosen_prompts

from genrl.data.store import find_stores, open_stores
from genrl.envs.environment import state_rewards
from genrl.envs.tasks import get_task, normalised_score
from genrl.infra.checkpoint import atomic_write
from genrl.infra.errors import UserError
from genrl.run.prompting import PromptedModel, load_model
from genrl.vlm.mini import MiniVLM

EPISODE_REWARDS = 1000
"""Control steps of an episode: a reward that lasted would give so many times itself."""
BLOCK_CLIPS = 128
"""Clips in a row that a linear map is either fitted to or judged on, of about two episodes: neighbours are alike."""
RIDGE = 0.1
"""Penalty of the linear map's weights."""


@dataclass(frozen=True)
class JudgeConfig:
    """What to look at."""

    data: tuple[Path, ...]
    """Stores with embeddings of the model's VLM and simulator states, or directories of stores."""
    model: str = "stickman-mini"
    every: int = 8
    """Looks at the clip that ends at every so-manieth frame."""
    best: int = 50
    """Clips that count as those that fit best."""
    unread: bool = False
    """Take texts as the text tower of the mini VLM has them, not as mixtures of concepts (`TextTower.read`)."""
    out: Path | None = None
    """JSON file to write."""


def main(config: JudgeConfig) -> dict[str, dict[str, float]]:
    """Prints and returns a row for each task."""
    model = load_model(config.model)
    if config.unread:
        if not isinstance(model.vlm, MiniVLM):
            raise UserError(f"--unread is for the mini VLM; {config.model} has {model.vlm.name}")
        model.vlm.text.concepts = None
    embeddings, states = clips(model, config)
    rows = {}
    for task, prompt in chosen_prompts(ScoreConfig(model=config.model), model.model.spec.domain):
        rewards = state_rewards(task, states)
        rows[task] = judged(task, embeddings, model.prompt(prompt).embedding.numpy(), rewards, config.best)
        print(task, {name: round(value, 2) for name, value in rows[task].items()}, flush=True)
    if config.out is not None:
        result = {"clips": len(states), "best": config.best, "tasks": rows}
        atomic_write(config.out, json.dumps(result, indent=2) + "\n")
    return rows


def judged(
    task: str, embeddings: NDArray[np.float32], text: NDArray[np.float32], rewards: NDArray[np.float64], best: int
) -> dict[str, float]:
    """Scores of clips that are chosen in several ways, and what fit has to do with reward.

    Args:
        task: Whose scale scores are on.
        embeddings: (N, E) of clips.
        text: (E,) of the prompt.
        rewards: (N,) of the states that end them.
        best: How many clips are chosen.
    """
    cosines = embeddings @ text
    apart = np.arange(len(rewards)) // BLOCK_CLIPS % 2 == 1
    reading = embeddings[apart] @ linear_map(embeddings[~apart], rewards[~apart])

    return {
        "all": lasting_score(task, rewards),
        "fitting": lasting_score(task, rewards[np.argsort(-cosines)[:best]]),
        "readable": lasting_score(task, rewards[apart][np.argsort(-reading)[:best]]),
        "best": lasting_score(task, np.sort(rewards)[-best:]),
        "correlation": float(np.corrcoef(cosines, rewards)[0, 1]),
    }


def lasting_score(task: str, rewards: NDArray[np.float64]) -> float:
    """Score of an episode that gets the mean of (N,) rewards at every control step."""
    score = normalised_score(get_task(task), float(rewards.mean()) * EPISODE_REWARDS)
    assert score is not None, "tasks of the benchmark have bounds"
    return score


def linear_map(embeddings: NDArray[np.float32], rewards: NDArray[np.float64]) -> NDArray[np.float64]:
    """(E,) weights of a ridge regression of rewards on embeddings, both less their mean."""
    centred = embeddings.astype(np.float64) - embeddings.mean(0)
    gram = centred.T @ centred + RIDGE * np.eye(embeddings.shape[1])
    weights: NDArray[np.float64] = np.linalg.solve(gram, centred.T @ (rewards - rewards.mean()))
    return weights


def clips(model: PromptedModel, config: JudgeConfig) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """(N, E) unit embeddings of clips and (N, S) states of the frames that end them.

    Raises:
        UserError: If the data are of another body or VLM, too few, or lack embeddings or states.
    """
    name, embeddings, states = model.model.spec.vlm, [], []
    for store in open_stores(find_stores(config.data)):
        checksum, rows = store.embedding_info(name).checksum, store.embedded_rows(name)
        model.model.check_spec(f"--data {store.path}", domain=store.spec.domain, vlm_checksum=checksum)
        if not store.spec.state_dim:
            raise UserError(f"{store.path} has no simulator states, from which rewards are computed")
        chosen = np.flatnonzero(store.present_rows(name))[:: config.every]
        embeddings.append(store.read(f"embedding/{name}", 0, rows)[chosen].astype(np.float32))
        states.append(store.read("state", 0, rows)[chosen])
    together = np.concatenate(embeddings)
    if len(together) < 2 * BLOCK_CLIPS:
        raise UserError(
            f"--data has {len(together)} clips; {2 * BLOCK_CLIPS} are needed: more data, or a smaller --every"
        )
    return together / np.linalg.norm(together, axis=1, keepdims=True), np.concatenate(states)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(tyro.cli(JudgeConfig))
