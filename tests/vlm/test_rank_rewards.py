"""`recipes/rank_rewards.py` says how well latent rewards order what really happened."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
import torch

from genrl.models.decoder import Decoder
from genrl.models.state import LatentState

TASK = "stickman_stand"


@pytest.fixture
def rank_rewards(recipe: Callable[[str], ModuleType]) -> ModuleType:
    return recipe("rank_rewards")


def one_hot(classes: torch.Tensor) -> LatentState:
    """(N, T) class of the first of two variables, of 20 -> states."""
    stoch = torch.nn.functional.one_hot(torch.stack([classes, torch.zeros_like(classes)], -1), 20).float()
    return LatentState(torch.zeros(*classes.shape, 1), stoch, 10 * stoch)


@pytest.fixture
def decoder() -> Decoder:
    torch.manual_seed(0)
    return Decoder(40, 4)


def test_equal_values_share_their_mean_rank(rank_rewards) -> None:
    assert rank_rewards.ranks(np.array([3.0, 1.0, 3.0, 7.0])).tolist() == [2.5, 1.0, 2.5, 4.0]


def test_a_reward_that_orders_as_the_task_does_finds_the_best_windows(rank_rewards) -> None:
    true = np.random.default_rng(0).random(1000)
    good = rank_rewards.judged(TASK, np.exp(true), true)
    bad = rank_rewards.judged(TASK, -true, true)
    assert good["correlation"] == pytest.approx(1) and bad["correlation"] == pytest.approx(-1)
    # Ten windows of reward 0.995 on average, of an episode's 1,000 control steps.
    assert good["best"] == pytest.approx(np.sort(true)[-10:].mean(), abs=0.1) and bad["best"] < 0.1


def test_who_does_as_the_target_is_worth_one_in_any_form_of_the_cosine(rank_rewards, decoder) -> None:
    walk = torch.arange(17)[None]
    target = one_hot(walk)
    windows = one_hot(torch.cat([walk, torch.full_like(walk, 18)]))
    for name in ("max_cosine", "cosine"):
        same, other = rank_rewards.aligned(name, decoder, windows, target)
        assert same == pytest.approx(1, abs=1e-5) and other < 0.9


def test_doing_and_holding_are_told_of_the_windows_that_do_the_task_best(rank_rewards, decoder) -> None:
    walk = torch.arange(17)[None]
    windows = one_hot(torch.cat([walk, 19 - walk]))
    latent = rank_rewards.aligned("max_cosine", decoder, windows, one_hot(walk))
    own = rank_rewards.done_and_held(np.array([1.0, 0.0]), latent, decoder, windows, one_hot(walk))
    assert own["done"] == pytest.approx(1, abs=1e-5) and own["held"] < 0.95
    other = rank_rewards.done_and_held(np.array([0.0, 1.0]), latent, decoder, windows, one_hot(walk))
    assert other["done"] == pytest.approx(latent[1], abs=1e-5) and other["held"] <= own["held"] + 1e-5
