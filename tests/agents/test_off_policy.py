from __future__ import annotations

import numpy as np
import pytest
import torch

from genrl.behavior.off_policy import TD3, TD3Config
from genrl.behavior.replay import Replay, Transitions

TINY = TD3Config(hidden_dim=16, batch_size=8)


def random_batch(seed: int, size: int = 8) -> Transitions:
    generator = torch.Generator().manual_seed(seed)
    observation, next_observation = torch.randn(2, size, 3, generator=generator)
    action = torch.rand(size, 2, generator=generator) * 2 - 1
    reward, discount = torch.rand(2, size, generator=generator)
    return Transitions(observation, action, reward, discount, next_observation)


def test_targets_are_reward_plus_the_discounted_lesser_value() -> None:
    td3 = TD3(3, 2, TINY)
    for net, value in zip(td3.target_critic.nets, (5.0, 7.0), strict=True):
        torch.nn.init.zeros_(net.output.weight)
        torch.nn.init.constant_(net.output.bias, value)
    batch = random_batch(0)
    torch.testing.assert_close(td3.targets(batch), batch.reward + batch.discount * 5.0)


def test_target_actions_are_smoothed_within_the_clip_and_the_bounds() -> None:
    td3 = TD3(3, 2, TD3Config(hidden_dim=16, policy_noise=10.0, noise_clip=0.3))
    torch.nn.init.zeros_(td3.target_actor.net.output.weight)
    torch.nn.init.constant_(td3.target_actor.net.output.bias, torch.atanh(torch.tensor(0.9)).item())
    seen = []
    td3.target_critic.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[1]))
    td3.targets(random_batch(1, 500))
    assert seen[0].min().item() == pytest.approx(0.6, abs=1e-6) and seen[0].max() == 1.0


def test_the_actor_moves_at_every_second_update_and_targets_by_their_rate() -> None:
    td3 = TD3(3, 2, TINY)
    actor, critic = ([p.clone() for p in module.parameters()] for module in (td3.actor, td3.critic))
    assert "actor/loss" not in td3.update(random_batch(0))
    assert all(torch.equal(old, new) for old, new in zip(actor, td3.actor.parameters(), strict=True))
    for old, new, slow in zip(critic, td3.critic.parameters(), td3.target_critic.parameters(), strict=True):
        torch.testing.assert_close(slow, old + TINY.target_rate * (new - old))
    assert "actor/loss" in td3.update(random_batch(1))
    assert not all(torch.equal(old, new) for old, new in zip(actor, td3.actor.parameters(), strict=True))


def test_the_actors_loss_does_not_train_the_critic() -> None:
    td3 = TD3(3, 2, TINY)
    td3.update(random_batch(0))
    gradients: list[bool] = []
    td3.actor_optimizer.register_step_pre_hook(
        lambda *_: gradients.append(any(p.grad is not None and p.grad.ne(0).any() for p in td3.actor.parameters()))
    )
    before = [p.grad.clone() for p in td3.critic.parameters() if p.grad is not None]
    td3.critic_optimizer.register_step_post_hook(
        lambda *_: before.__setitem__(slice(None), [p.grad.clone() for p in td3.critic.parameters()])
    )
    td3.update(random_batch(1))
    assert gradients == [True]
    assert all(torch.equal(old, new.grad) for old, new in zip(before, td3.critic.parameters(), strict=True))
    assert all(p.requires_grad for p in td3.critic.parameters())


def test_a_restored_learner_goes_on_like_an_uninterrupted_one() -> None:
    straight, first, second = (TD3(3, 2, TINY, seed) for seed in (0, 0, 9))
    for step in range(3):
        straight.update(random_batch(step))
        first.update(random_batch(step))
    second.load_state({name: tensor.clone() for name, tensor in first.state_tensors().items()}, first.state_meta())
    for step in range(3, 7):
        one, other = straight.update(random_batch(step)), second.update(random_batch(step))
        assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_bad_options_are_named() -> None:
    with pytest.raises(ValueError, match="n_step"):
        TD3Config(n_step=0)
    with pytest.raises(ValueError, match="discount"):
        TD3Config(discount=1.5)


@pytest.mark.slow
def test_it_learns_to_reach_a_point_from_random_moves() -> None:
    """A point on a line moves by a tenth of the action; the reward is minus its distance from 0.5."""
    random = np.random.default_rng(0)
    td3 = TD3(1, 1, TD3Config(hidden_dim=64, batch_size=64, actor_lr=1e-4, critic_lr=1e-3))
    replay = Replay(1, 1)

    def move(position: float, action: float) -> float:
        return float(np.clip(position + 0.1 * action, -1, 1))

    for _ in range(60):
        rows = [(random.uniform(-1, 1), 0.0, 0.0)]
        for action in random.uniform(-1, 1, 30):
            position = move(rows[-1][0], action)
            rows.append((position, action, -abs(position - 0.5)))
        columns = np.array(rows, np.float32)
        replay.add_episode(columns[:, :1], columns[:, 1:2], columns[:, 2])
    for _ in range(1500):
        td3.update(replay.sample(random, 64, 1, 0.9))

    def distance_after(position: float) -> float:
        for _ in range(30):
            position = move(position, float(td3.act(torch.tensor([position]))))
        return abs(position - 0.5)

    assert max(distance_after(start) for start in (-1.0, -0.3, 0.2, 0.5, 0.9, 1.0)) < 0.15
