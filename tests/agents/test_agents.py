from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from genrl.agents.expert import Expert, ExpertConfig
from genrl.agents.exploration import Exploration, ExplorationConfig, novelty
from genrl.agents.random import LONGEST_HOLD, HeldActions, RandomAgent
from genrl.agents.trajectory import Trajectory, TrajectoryLog
from genrl.behavior.off_policy import TD3Config
from genrl.infra.errors import UserError

TINY = ExpertConfig(td3=TD3Config(hidden_dim=16, batch_size=16), updates_per_step=0.5, prepare_updates=3)


def trajectory(seed: int, steps: int = 20) -> Trajectory:
    random = np.random.default_rng(seed)
    return Trajectory(
        observation=random.normal(size=(steps + 1, 4)).astype(np.float32),
        action=random.uniform(-1, 1, (steps + 1, 2)).astype(np.float32),
        rewards=np.stack([np.full(steps + 1, 1.0), np.full(steps + 1, 2.0)], axis=1).astype(np.float32),
        state=random.normal(size=(steps + 1, 6)),
    )


def test_novelty_is_the_log_of_the_mean_distance_to_the_nearest() -> None:
    sample = torch.tensor([[0.0], [1.0], [3.0]])
    states = torch.tensor([[0.0], [5.0]])
    # Nearest two of 0: 0 and 1 away; of 5: 2 and 4 away.
    torch.testing.assert_close(novelty(states, sample, 2), torch.log1p(torch.tensor([0.5, 3.0])))


def test_novelty_of_many_states_is_that_of_each() -> None:
    states, sample = torch.randn(5000, 3), torch.randn(64, 3)
    whole = novelty(states, sample, 4)
    torch.testing.assert_close(whole[4090:4100], novelty(states[4090:4100], sample, 4), atol=1e-5, rtol=1e-4)


def test_held_actions_stay_for_a_while_and_within_their_strength() -> None:
    actions = HeldActions(3, np.random.default_rng(0))
    rows = np.stack([actions() for _ in range(400)])
    changes = np.flatnonzero((np.diff(rows, axis=0) != 0).any(axis=1))
    assert 400 / LONGEST_HOLD - 1 <= len(changes) < 60
    assert np.abs(rows).max() <= 1


def test_random_actions_depend_on_seed_and_episode_alone() -> None:
    one, other = RandomAgent(2, seed=5), RandomAgent(2, seed=5)
    one.begin_episode(0)
    one.act(np.zeros(4))
    for agent in (one, other):
        agent.begin_episode(3)
    np.testing.assert_array_equal(one.act(np.zeros(4)), other.act(np.zeros(4)))


def test_a_held_agent_repeats_its_actions_and_depends_on_seed_and_episode_alone() -> None:
    one, other = RandomAgent(2, seed=5, kind=HeldActions), RandomAgent(2, seed=5, kind=HeldActions)
    one.act(np.zeros(4))
    for agent in (one, other):
        agent.begin_episode(3)
    rows = np.stack([one.act(np.zeros(4)) for _ in range(100)])
    np.testing.assert_array_equal(rows, np.stack([other.act(np.zeros(4)) for _ in range(100)]))
    assert (np.diff(rows, axis=0) == 0).all(axis=1).mean() > 0.8


def test_the_noise_of_an_expert_is_kept_as_long_as_asked_for() -> None:
    noisy = replace(TINY, noise=(0.1,), random_episodes=0, noise_steps=(5, 5))
    steady = replace(TINY, noise=(0.0,), random_episodes=0)
    expert, other = Expert(4, 2, reward=0, config=noisy, seed=0), Expert(4, 2, reward=0, config=steady, seed=0)
    state = np.random.default_rng(0).normal(size=4).astype(np.float32)
    noise = np.stack([expert.act(state) for _ in range(20)]) - other.act(state)
    changed = (np.diff(noise, axis=0) != 0).any(axis=1)
    np.testing.assert_array_equal(np.flatnonzero(changed), [4, 9, 14])


def test_noise_that_is_kept_for_no_time_is_refused() -> None:
    with pytest.raises(ValueError, match="noise-steps"):
        ExpertConfig(noise_steps=(0, 3))


def test_an_expert_learns_its_own_column_of_rewards() -> None:
    expert = Expert(4, 2, reward=1, config=TINY, seed=0)
    expert.remember(trajectory(0))
    batch = expert.replay.transitions(np.array([0]), n_step=1, discount=1.0)
    assert batch.reward.item() == 2.0


def test_an_expert_begins_with_random_actions_unless_it_has_been_given_experience() -> None:
    observation = np.zeros(4, np.float32)
    fresh = Expert(4, 2, 0, TINY, seed=0)
    fresh.prepare()
    fresh.begin_episode(0)
    assert fresh.td3.updates == 0
    first = [fresh.act(observation) for _ in range(50)]
    assert np.std(first) > 0.45, "uniform actions have a standard deviation of 0.58"

    pooled = Expert(4, 2, 0, TINY, seed=0)
    pooled.remember(trajectory(0))
    pooled.prepare()
    pooled.prepare()
    assert pooled.td3.updates == 3, "once"
    pooled.begin_episode(0)
    assert np.std([pooled.act(observation) for _ in range(50)]) < 0.45


def test_updates_follow_the_steps_of_an_episode() -> None:
    expert = Expert(4, 2, 0, TINY, seed=0)
    expert.remember(trajectory(0))
    metrics = expert.learn(20)
    assert expert.td3.updates == 10 and {"critic/loss", "actor/loss"} <= metrics.keys()


def test_exploration_is_rewarded_by_novelty_and_goes_on_after_a_restart() -> None:
    def agent() -> Exploration:
        return Exploration(4, 2, ExplorationConfig(expert=TINY, sample_size=30), seed=1)

    one, other = agent(), agent()
    one.remember(trajectory(0))
    metrics = one.learn(20)
    assert metrics["novelty/mean"] > 0 and np.isfinite(metrics["critic/loss"])
    other.remember(trajectory(0))
    other.load_state(one.state_tensors(), one.state_meta())
    for each in (one, other):
        each.remember(trajectory(1))
        each.begin_episode(1)
    assert one.learn(20) == other.learn(20)
    observation = np.ones(4, np.float32)
    np.testing.assert_array_equal(one.act(observation), other.act(observation))


def test_a_log_gives_back_what_was_written_and_sees_what_others_write(tmp_path: Path) -> None:
    writer, reader = (TrajectoryLog(tmp_path / "log", ("walk", "run")) for _ in range(2))
    for seed in range(3):
        writer.append(trajectory(seed, steps=10 + seed))
    assert reader.refresh() == range(3) and reader.refresh() == range(3, 3)
    assert reader.num_steps == 33 and reader.length(2) == 12
    np.testing.assert_array_equal(reader.read(1).state, trajectory(1, 11).state)


def test_a_damaged_or_foreign_trajectory_is_named(tmp_path: Path) -> None:
    log = TrajectoryLog(tmp_path, ("walk",))
    log.append(trajectory(0))
    with pytest.raises(UserError, match="other tasks"):
        TrajectoryLog(tmp_path, ("run",))
    file = next(tmp_path.glob("*.npz"))
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(UserError, match="trajectory_000000.npz is damaged"):
        TrajectoryLog(tmp_path, ("walk",))
