"""Temporal alignment on rewards one can do by hand."""

from __future__ import annotations

import pytest
import torch

from genrl.behavior.alignment import aligned_reward, best_offset, window_scores


def delayed_match(horizon: int, delay: int) -> torch.Tensor:
    """(1, H, H) rewards of an agent that stands still for `delay` steps, then does what the target does."""
    agent_step = torch.arange(horizon).sub(delay).clamp(min=-1)
    return (agent_step[:, None] == torch.arange(horizon)).float()[None]


@pytest.mark.parametrize("delay", [0, 1, 5, 8])
def test_a_delayed_start_is_found_even_in_the_last_window(delay: int) -> None:
    assert best_offset(delayed_match(12, delay), "best_window", window=4).tolist() == [delay]


def test_the_original_leaves_out_the_last_window() -> None:
    rewards = delayed_match(12, 8)
    assert best_offset(rewards, "best_window", window=4, drop_last_window=True).item() != 8
    assert window_scores(rewards, 4).shape == (1, 9)


def test_window_scores_are_means_along_diagonals() -> None:
    rewards = torch.randn(3, 6, 7)
    scores = window_scores(rewards, 3)
    assert scores[2, 1].item() == pytest.approx((rewards[2, 1, 0] + rewards[2, 2, 1] + rewards[2, 3, 2]).item() / 3)


def test_best_initial_compares_the_first_target_state_alone_and_none_does_not_search() -> None:
    rewards = torch.zeros(1, 5, 5)
    rewards[0, 3, 0] = 1.0
    assert best_offset(rewards, "best_initial", window=4).item() == 3
    assert best_offset(rewards, "none", window=4).item() == 0


def test_ties_go_to_the_earliest_step() -> None:
    assert best_offset(torch.ones(2, 6, 6), "best_window", window=2).tolist() == [0, 0]


def test_before_the_offset_the_first_target_state_counts_and_after_it_the_following_ones() -> None:
    rewards = torch.arange(16.0).reshape(1, 4, 4)
    # Offset 2: agent steps 0, 1, 2 against target 0; step 3 against target 1.
    assert aligned_reward(rewards, torch.tensor([2])).tolist() == [[0.0, 4.0, 8.0, 13.0]]


def test_a_window_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\[1, 4\]"):
        window_scores(torch.zeros(1, 4, 6), 5)
