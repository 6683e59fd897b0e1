"""Rewards against their definitions, pair by pair."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from genrl.behavior.rewards import REWARDS, pairwise_reward
from genrl.models.decoder import Decoder
from genrl.models.state import LatentState
from genrl.nn.distributions import kl_divergence, straight_through

S, K = 3, 4


def states(batch: int, steps: int, requires_grad: bool = False) -> LatentState:
    logits = torch.randn(batch, steps, S, K, requires_grad=requires_grad)
    return LatentState(torch.zeros(batch, steps, 2), straight_through(logits), logits)


@pytest.fixture
def decoder() -> Decoder:
    return Decoder(S * K, depth=2)


def at(state: LatentState, row: int, step: int) -> LatentState:
    return state.map(lambda x: x[row, step])


def definition(name: str, decoder: Decoder, agent: LatentState, target: LatentState) -> float:
    """One agent state against one target state, written out."""
    x, y = decoder.state_features(agent.stoch), decoder.state_features(target.stoch)
    cosine = F.cosine_similarity(x, y, dim=-1)
    rms = (x - y).square().mean().sqrt()
    neg_kl = -kl_divergence(agent.logits, target.logits) / (S * math.log(K))
    log_probs = (0.99 * agent.logits.softmax(-1) + 0.01 / K).log()
    values = {
        "cosine": cosine,
        "max_cosine": x @ y / max(x.norm(), y.norm()) ** 2,
        "neg_mse": -rms,
        "exp_neg_mse": (-rms).exp(),
        "neg_kl": neg_kl,
        "max_like": (log_probs * target.stoch).sum(),
        "combo": cosine + neg_kl,
    }
    return float(values[name].detach())


@pytest.mark.parametrize("name", list(REWARDS))
@pytest.mark.parametrize("target_batch", [1, 2])
def test_every_pair_has_the_reward_of_the_definition(name: str, target_batch: int, decoder: Decoder) -> None:
    agent, target = states(2, 3), states(target_batch, 4)
    rewards = pairwise_reward(name, decoder, agent, target)  # type: ignore[arg-type]
    assert rewards.shape == (2, 3, 4)
    for b, t, k in ((0, 0, 0), (1, 2, 3), (1, 0, 1)):
        expected = definition(name, decoder, at(agent, b, t), at(target, min(b, target_batch - 1), k))
        assert rewards[b, t, k].item() == pytest.approx(expected, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("name", list(REWARDS))
def test_rewards_are_not_rounded_to_bfloat16(name: str, decoder: Decoder) -> None:
    agent, target = states(2, 3), states(1, 4)
    exact = pairwise_reward(name, decoder, agent, target)  # type: ignore[arg-type]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert pairwise_reward(name, decoder, agent, target).equal(exact)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["cosine", "max_cosine"])
def test_a_state_resembles_itself_with_reward_one(name: str, decoder: Decoder) -> None:
    agent = states(1, 3)
    rewards = pairwise_reward(name, decoder, agent, agent)  # type: ignore[arg-type]
    torch.testing.assert_close(rewards.diagonal(dim1=1, dim2=2), torch.ones(1, 3))


@pytest.mark.parametrize("name", list(REWARDS))
def test_gradients_reach_the_agent_are_finite_and_never_reach_the_target(name: str, decoder: Decoder) -> None:
    agent, target = states(2, 3, requires_grad=True), states(1, 3, requires_grad=True)
    # Equal states: where a distance of zero would have no gradient.
    target = LatentState(target.deter, agent.stoch[:1].detach().clone().requires_grad_(), target.logits)
    pairwise_reward(name, decoder, agent, target).sum().backward()  # type: ignore[arg-type]
    assert agent.logits.grad is not None and agent.logits.grad.isfinite().all()
    assert target.stoch.grad is None and target.logits.grad is None


@pytest.mark.parametrize("name", ["cosine", "max_cosine"])
def test_gradients_of_cosines_are_those_of_finite_differences(name: str, decoder: Decoder) -> None:
    agent, target = states(2, 3).map(torch.Tensor.double), states(1, 4).map(torch.Tensor.double)

    def rewards(stoch: torch.Tensor) -> torch.Tensor:
        own = LatentState(agent.deter, stoch, agent.logits)
        return pairwise_reward(name, decoder.double(), own, target)  # type: ignore[arg-type]

    assert torch.autograd.gradcheck(rewards, torch.rand(2, 3, S, K, dtype=torch.float64, requires_grad=True))
