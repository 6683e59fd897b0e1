"""An agent and an environment, for one episode."""

from __future__ import annotations

import numpy as np

from genrl.agents.agent import Agent
from genrl.agents.trajectory import Trajectory
from genrl.data.episode import Episode
from genrl.envs.environment import BodyEnv
from genrl.envs.external import ExternalEnv


def rollout(env: BodyEnv, agent: Agent, index: int, seed: tuple[int, ...], max_steps: int) -> Trajectory:
    """One episode.

    Args:
        env: An environment with states for observations that reports the rewards to keep.
        agent: Who acts.
        index: Which of the agent's episodes this is.
        seed: Of the start state.
        max_steps: Env steps after which it is cut off, if the time limit does not come first.
    """
    agent.begin_episode(index)
    observation, info = env.reset(seed=_seed(seed))
    rows = [(observation, np.zeros(env.action_space.shape or (), np.float32), info["rewards"], info["state"])]
    for _ in range(min(max_steps, env.episode_steps)):
        action = agent.act(observation)
        observation, _, _, _, info = env.step(action)
        rows.append((observation, action, info["rewards"], info["state"]))
    observations, actions, rewards, states = (np.stack(column) for column in zip(*rows, strict=True))
    return Trajectory(observations, actions, rewards.astype(np.float32), states)


def record(env: ExternalEnv, agent: Agent, index: int, seed: tuple[int, ...], max_steps: int) -> Episode:
    """One episode with its frames, for a store; the environment's own reward comes along.

    Args:
        env: Somebody's environment.
        agent: Who acts, without looking.
        index: Which of the agent's episodes this is.
        seed: Of the environment.
        max_steps: Env steps after which it is cut off, if it does not end before.
    """
    agent.begin_episode(index)
    frame, info = env.reset(seed=_seed(seed))
    rows = [(frame, np.zeros(env.action_space.shape or (), np.float32), 0.0, False)]
    over = False
    while not over and len(rows) <= max_steps:
        action = agent.act(info["state"])
        frame, reward, terminated, truncated, info = env.step(env.to_units(action))
        rows.append((frame, action, reward, terminated))
        over = terminated or truncated
    frames, actions, rewards, terminal = (np.stack(column) for column in zip(*rows, strict=True))
    return Episode(frames, actions, rewards.astype(np.float32), terminal)


def _seed(seed: tuple[int, ...]) -> int:
    return int(np.random.SeedSequence(seed).generate_state(1)[0])
