from __future__ import annotations

import numpy as np
import pytest
import torch

from genrl.behavior.replay import Replay


def counting_replay(lengths: list[int], terminal: bool = False) -> Replay:
    """Observation, action and reward of the k-th row of all are k, but for the zero action and reward of a reset."""
    replay, start = Replay(1, 1), 0
    for length in lengths:
        rows = np.arange(start, start + length, dtype=np.float32)
        led_here = np.where(np.arange(length) == 0, 0, rows)
        replay.add_episode(rows[:, None], led_here[:, None], led_here, terminal)
        start += length
    return replay


def test_n_step_transitions_add_discounted_rewards_by_hand() -> None:
    batch = counting_replay([6]).transitions(np.array([0, 2]), n_step=3, discount=0.5)
    assert batch.observation.flatten().tolist() == [0, 2]
    assert batch.action.flatten().tolist() == [1, 3]  # the action that led to the next row
    assert batch.reward.tolist() == [1 + 0.5 * 2 + 0.25 * 3, 3 + 0.5 * 4 + 0.25 * 5]
    assert batch.discount.tolist() == [0.125, 0.125]
    assert batch.next_observation.flatten().tolist() == [3, 5]


def test_near_a_time_limit_the_value_of_the_last_row_stands_in() -> None:
    batch = counting_replay([4, 4]).transitions(np.array([2, 1]), n_step=3, discount=0.5)
    assert batch.reward.tolist() == [3, 2 + 0.5 * 3]
    assert batch.discount.tolist() == [0.5, 0.25]
    assert batch.next_observation.flatten().tolist() == [3, 3]


def test_after_a_terminal_row_there_is_no_value() -> None:
    batch = counting_replay([4], terminal=True).transitions(np.array([0, 1, 2]), n_step=2, discount=0.5)
    assert batch.discount.tolist() == [0.25, 0, 0]


def test_samples_never_cross_episodes_and_reach_every_step() -> None:
    replay = counting_replay([3, 5, 2])
    assert replay.num_rows == 10 and replay.num_transitions == 7
    batch = replay.sample(np.random.default_rng(0), 2000, n_step=1, discount=1.0)
    pairs = set(zip(batch.observation.flatten().tolist(), batch.next_observation.flatten().tolist(), strict=True))
    assert pairs == {(0, 1), (1, 2), (3, 4), (4, 5), (5, 6), (6, 7), (8, 9)}


def test_growing_keeps_what_was_stored() -> None:
    replay = counting_replay([7] * 20)
    assert replay.observations.flatten().tolist() == list(range(140))


def test_relabelling_replaces_every_reward() -> None:
    replay = counting_replay([3, 3])
    replay.relabel(np.full(6, 2.0))
    batch = replay.transitions(np.array([0, 3]), n_step=2, discount=1.0)
    assert torch.equal(batch.reward, torch.tensor([4.0, 4.0]))


def test_an_empty_replay_is_not_sampled() -> None:
    with pytest.raises(AssertionError, match="empty"):
        Replay(1, 1).sample(np.random.default_rng(0), 1, 1, 0.9)
