"""How well each latent reward orders what really happened: the true score of the windows that it likes best.

    python recipes/rank_rewards.py --model stickman-mini --data DATA --out docs/stickman_mini_training/rewards.json

A policy learns what its reward knows. Windows of the data, as long as an imagined trajectory, are given the
temporally aligned reward of each task's prompt, in each of its forms (`genrl.behavior.rewards`), and the cosine that
their clips' own embeddings have with the prompt, before the aligner. For each way two figures: what the best hundredth
of the windows would score if it lasted, and the rank correlation with the true reward, which says whether there is a
way up. Rewards of the task are read for this measurement alone.

`done` and `held` tell whether a reward wants motion: what the windows are worth to `max_cosine` that do the task best,
and what it would be worth to stand still in the best of their poses.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from judge_vlm import lasting_score
from model_cards import held_table, ranked_table
from numpy.typing import NDArray
from score_model import ScoreConfig, chosen_prompts
from torch import Tensor

from genrl.behavior.alignment import aligned_reward, best_offset
from genrl.behavior.rewards import REWARDS, RewardName, pairwise_reward
from genrl.data.sampler import WindowSampler
from genrl.data.store import find_stores, open_stores
from genrl.envs.environment import state_rewards
from genrl.infra.checkpoint import atomic_write
from genrl.infra.errors import UserError
from genrl.infra.progress import ProgressReport
from genrl.models.decoder import Decoder
from genrl.models.state import LatentState
from genrl.run.prompting import TARGET_CANDIDATES, PromptedModel, load_model

LENGTH = 17
"""Steps of a window: the horizon of presets `mini` and `paper`, and one more."""
ALIGNED_OVER = 8
"""Steps in the search for the best window, as `behavior.window`."""
CHUNK = 500
"""Windows that are compared at once."""
TEXT = "clip and text"
"""The cosine of a window's clips with the prompt."""
BOTH = "max_cosine and text"
"""Both, each less its mean and divided by its deviation."""


@dataclass(frozen=True)
class RankConfig:
    """What to look at."""

    data: tuple[Path, ...]
    """Stores with embeddings of the model's VLM and simulator states, or directories of stores."""
    model: str = "stickman-mini"
    windows: int = 4000
    """Windows drawn from them."""
    target_candidates: int = TARGET_CANDIDATES
    """Trajectories among which the VLM chooses each target, as in `genrl learn`."""
    seed: int = 0
    out: Path | None = None
    """JSON file to write."""


@dataclass(frozen=True)
class Windows:
    """What happened.

    Attributes:
        states: (N, LENGTH, ...) latent states, without recurrent state, which no reward reads.
        embeddings: (N, C, E) unit embeddings of their C whole clips.
        simulator: (N, LENGTH, S) states of the simulator.
    """

    states: LatentState
    embeddings: Tensor
    simulator: NDArray[np.float64]


def main(config: RankConfig) -> dict[str, Any]:
    """Prints both tables; returns `rewards`, task -> way -> `judged`, and `poses`, task -> `done_and_held`."""
    torch.manual_seed(config.seed)
    model = load_model(config.model)
    windows, decoder = draw_windows(model, config), model.model.world_model.decoder
    flat = windows.simulator.reshape(-1, windows.simulator.shape[-1])
    rewards, poses = {}, {}
    prompts = chosen_prompts(ScoreConfig(model=config.model), model.model.spec.domain)
    with ProgressReport(len(prompts), 0, "rewards", "task") as progress:
        for done, (task, prompt) in enumerate(prompts, 1):
            true = state_rewards(task, flat).reshape(len(windows.simulator), -1).mean(1)
            meant = model.prompt(prompt)
            target = model.target(meant, LENGTH, config.target_candidates)
            values = rewards_of(target, meant.embedding, decoder, windows)
            rewards[task] = {name: judged(task, value, true) for name, value in values.items()}
            poses[task] = done_and_held(true, values["max_cosine"], decoder, windows.states, target)
            progress.advance(done, task)
    count = len(windows.simulator)
    result = {"windows": count, "best": num_best(windows.simulator), "rewards": rewards, "poses": poses}
    if config.out is not None:
        atomic_write(config.out, json.dumps(result, indent=2) + "\n")
    print(ranked_table(result))
    print(held_table(result))
    return result


def draw_windows(model: PromptedModel, config: RankConfig) -> Windows:
    """Windows of the data, encoded.

    Raises:
        UserError: If the data are of another body or VLM, or lack embeddings or states.
    """
    spec, stores = model.model.spec, open_stores(find_stores(config.data))
    if not all(store.spec.state_dim for store in stores):
        raise UserError("--data has stores without simulator states, from which rewards are computed")
    paths = [store.path for store in stores]
    sampler = WindowSampler(paths, LENGTH, config.windows, config.seed, spec.vlm, read_ahead=0)
    info = sampler.embedding_info
    assert info is not None, "asked for"
    model.model.check_spec("--data", domain=sampler.spec.domain, look=sampler.spec.look, vlm_checksum=info.checksum)
    batch, rows = sampler.batch(0), sampler.rows(0)
    assert batch.embedding is not None, "asked for"
    logits = []
    with torch.no_grad(), ProgressReport(len(rows), 0, "posteriors", "window") as progress:
        for some in batch.frames.split(32):
            logits.append(model.model.world_model.encode(some, mode=True)[0])
            progress.advance(sum(map(len, logits)))
    together = torch.cat(logits)
    code = model.model.world_model.rssm.dynamics.code(together)
    latent = LatentState(together.new_zeros(*together.shape[:2], 1), code, together)
    # Those of whole clips within the window, which are never missing.
    clips = F.normalize(batch.embedding[:, spec.frames_per_clip - 1 :: spec.frames_per_clip], dim=-1)
    states = np.concatenate([store.read("state", 0, store.num_frames) for store in stores])[rows.numpy()]
    return Windows(latent, clips, states.astype(np.float64))


def rewards_of(target: LatentState, text: Tensor, decoder: Decoder, windows: Windows) -> dict[str, NDArray[np.float32]]:
    """(N,) rewards of the windows, by the name of each way.

    Args:
        target: (1, LENGTH, ...) trajectory of a prompt.
        text: (E,) its embedding, before the aligner.
        decoder: Gives the features of some rewards.
        windows: N of them.
    """
    found = {name: aligned(name, decoder, windows.states, target) for name in REWARDS}
    found[TEXT] = (windows.embeddings @ text).mean(1).numpy()
    found[BOTH] = standardised(found["max_cosine"]) + standardised(found[TEXT])
    return found


@torch.no_grad()
def aligned(name: RewardName, decoder: Decoder, states: LatentState, target: LatentState) -> NDArray[np.float32]:
    """(N,) temporally aligned reward of (N, LENGTH, ...) states, the mean over their steps."""
    parts = []
    for rows in torch.arange(len(states.stoch)).split(CHUNK):
        pairs = pairwise_reward(name, decoder, states.map(itemgetter(rows)), target)
        parts.append(aligned_reward(pairs, best_offset(pairs, "best_window", ALIGNED_OVER)).mean(1))
    rewards: NDArray[np.float32] = torch.cat(parts).numpy()
    return rewards


def done_and_held(
    true: NDArray[np.float64], latent: NDArray[np.float32], decoder: Decoder, states: LatentState, target: LatentState
) -> dict[str, float]:
    """Latent reward (`max_cosine`) of the windows that do the task best, and of holding one of their poses.

    Args:
        true: (N,) rewards of the task.
        latent: (N,) latent rewards.
        decoder: As in `rewards_of`.
        states: (N, LENGTH, ...) of the windows.
        target: As in `rewards_of`.

    Returns:
        `done`, the mean over those windows; `held`, the best of their poses.
    """
    best = torch.from_numpy(np.argsort(-true)[: num_best(true)].copy())
    poses = states.map(lambda x: x[best].flatten(0, 1)[:, None].expand(-1, LENGTH, *x.shape[2:]))
    held = aligned("max_cosine", decoder, poses, target)
    return {"done": float(latent[best.numpy()].mean()), "held": float(held.max())}


def judged(task: str, values: NDArray[np.float32], true: NDArray[np.float64]) -> dict[str, float]:
    """What the windows would score that a reward likes best, and its rank correlation with the true one."""
    score = lasting_score(task, true[np.argsort(-values)[: num_best(true)]])
    return {"best": score, "correlation": float(np.corrcoef(ranks(values), ranks(true))[0, 1])}


def ranks(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """(N,) ranks; equal values share their mean."""
    _, which, count = np.unique(values, return_inverse=True, return_counts=True)
    shared: NDArray[np.float64] = (np.cumsum(count) - (count - 1) / 2)[which]
    return shared


def num_best(values: NDArray[np.float64]) -> int:
    """A hundredth of them, one at least."""
    return max(1, len(values) // 100)


def standardised(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Less their mean, divided by their deviation."""
    scaled: NDArray[np.float32] = (values - values.mean()) / values.std()
    return scaled


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(tyro.cli(RankConfig))
