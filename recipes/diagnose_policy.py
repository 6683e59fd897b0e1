"""What a policy's model expects of it, beside what happens: how far the policy exploits the model.

    python recipes/diagnose_policy.py --policy runs/scores/walker_walk-walk-fast-clean-seed0/policy --task walker_walk

The policy acts in the simulator. From states on its way, the model imagines what the same policy does next. Both are
rewarded as in learning, by their latent states alone. Where imagination is rewarded and reality is not, the world model
is what limits; so it is where what happens surprises it more (`surprise_real`, the divergence in nats of each frame's
posterior from what the dynamics expected) than it does on the general policy's way (`genrl learn --updates 0`). Writes
OUT/diagnosis.json, and OUT/diagnosis.png: what happened above what was imagined, window by window, and the prompt's
target in the last row.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from numpy.typing import NDArray

from genrl.behavior.actor_critic import Actor
from genrl.behavior.alignment import aligned_reward, best_offset
from genrl.behavior.imagination import imagine
from genrl.behavior.policy import Policy
from genrl.behavior.rewards import pairwise_reward
from genrl.envs.environment import make_env
from genrl.infra.checkpoint import atomic_write
from genrl.infra.media import write_png
from genrl.models.state import LatentState, cat_states, stack_states
from genrl.nn.distributions import kl_divergence
from genrl.run.prompting import TARGET_CANDIDATES, load_model

HORIZON = 16
WINDOW = 8


@dataclass(frozen=True)
class DiagnoseConfig:
    """Which policy."""

    policy: Path
    task: str
    """Task whose episodes are run; its reward is reported beside."""
    out: Path = Path("diagnosis")
    episodes: int = 3
    steps: int = 255
    """Env steps of an episode."""
    shown: int = 4
    """Windows in the picture."""
    target_candidates: int = TARGET_CANDIDATES
    """As the policy was learnt with."""
    seed: int = 0


class MeanActor:
    """An actor that imagination asks for the action that acting takes."""

    def __init__(self, actor: Actor) -> None:
        self.sample = lambda features, noise=None: actor.best(features)


@torch.no_grad()
def main(config: DiagnoseConfig) -> None:
    """Acts, imagines, compares."""
    policy = Policy.load(config.policy)
    prompted = load_model(policy.info["model"])
    world_model = prompted.model.world_model
    target = prompted.target(prompted.prompt(policy.info["prompt"]), HORIZON + 1, config.target_candidates)
    episodes = [act(policy, config, config.seed + index) for index in range(config.episodes)]
    states = cat_states([episode[0] for episode in episodes])
    firsts = range(0, config.steps - HORIZON, HORIZON + 1)
    real = cat_states([states.map(lambda x, t=first: x[:, t : t + HORIZON + 1]) for first in firsts])
    torch.manual_seed(config.seed)
    starts = real.map(lambda x: x[:, 0])
    imagined = imagine(world_model.rssm.dynamics, MeanActor(policy.actor), starts, HORIZON).states

    def reward(trajectories: LatentState) -> torch.Tensor:
        pairs = pairwise_reward("max_cosine", world_model.decoder, trajectories, target)
        return aligned_reward(pairs, best_offset(pairs, "best_window", WINDOW))

    ensemble = world_model.rssm.ensemble
    expected = world_model.rssm.dynamics.head(states.deter)
    result = {
        "prompt": policy.info["prompt"],
        "task_reward": float(np.mean([episode[2] for episode in episodes])),
        "latent_reward_real": float(reward(real).mean()),
        "latent_reward_imagined": float(reward(imagined).mean()),
        "surprise_real": float(kl_divergence(states.logits, expected).mean()),
        "disagreement_real": None if ensemble is None else float(ensemble.disagreement(real.deter).mean()),
        "disagreement_imagined": None if ensemble is None else float(ensemble.disagreement(imagined.deter).mean()),
    }
    rows = []
    for index in np.linspace(0, len(firsts) * config.episodes - 1, config.shown).astype(int):
        number, episode = divmod(int(index), config.episodes)
        happened = episodes[episode][1][firsts[number] : firsts[number] + HORIZON + 1]
        rows += [strip(happened), strip(prompted.model.decode(imagined.stoch[index]).numpy())]
    rows.append(strip(prompted.model.decode(target.stoch[0]).numpy()))
    atomic_write(config.out / "diagnosis.json", json.dumps(result, indent=2) + "\n")
    write_png(config.out / "diagnosis.png", np.concatenate(rows))
    print(json.dumps(result, indent=2))


def act(policy: Policy, config: DiagnoseConfig, seed: int) -> tuple[LatentState, NDArray[np.uint8], float]:
    """One episode: (1, T, ...) posterior states, (T, h, w, 3) frames, mean reward of a control step."""
    spec = policy.spec
    env = make_env(config.task, "paper" if spec.look == "paper" else "fast", spec.action_repeat)
    frame = env.reset(seed=seed)[0]
    policy.reset(seed)
    states, frames, rewards = [], [], []
    for _ in range(config.steps):
        action = policy.act(frame)
        states.append(policy.state)
        frames.append(frame)
        frame, reward, *_ = env.step(action)
        rewards.append(reward)
    return stack_states(states), np.stack(frames), float(np.mean(rewards)) / spec.action_repeat


def strip(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(T, h, w, 3) -> (h, T w, 3)."""
    return np.concatenate(list(frames), axis=1)


if __name__ == "__main__":
    main(tyro.cli(DiagnoseConfig))
