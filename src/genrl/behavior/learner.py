"""Behaviour learning: one update of actor and critic towards a target trajectory."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from genrl.behavior.actor_critic import ActorCritic, ActorCriticConfig
from genrl.behavior.alignment import AlignmentName, aligned_reward, best_offset
from genrl.behavior.imagination import ActsOnFeatures, Trajectory, follow, imagine
from genrl.behavior.rewards import RewardName, pairwise_reward
from genrl.behavior.shown import ShownConfig, ShownReward
from genrl.infra.captured import Captured, Compilation, Compiled, captures, compiles
from genrl.infra.compute import Precision, Rounded, autocast, chosen_precision
from genrl.infra.finite import MOVED, all_finite, check_moved
from genrl.infra.optim import Optimizer, step_together
from genrl.models.foundation import FoundationModel
from genrl.models.learner import select
from genrl.models.state import LatentState
from genrl.nn.returns import lambda_returns


@dataclass(frozen=True)
class BehaviorConfig:
    """How a policy learns to follow a target."""

    actor_critic: ActorCriticConfig = field(default_factory=ActorCriticConfig)
    reward: RewardName = "max_cosine"
    alignment: AlignmentName = "best_window"
    window: int = 8
    """Steps b compared in the search for the best window."""
    drop_last_window: bool = False
    """Leave out the last full window, as the original does."""
    shown: ShownConfig = field(default_factory=ShownConfig)
    doubt: float = 0.0
    """Weight of the ensemble's disagreement, in nats a variable, that is taken off the reward; 0 as the original."""
    anchor: float = 0.0
    """Weight of the distance from the policy that learning goes on from (`warm_start`), in imagined states: the model
    knows what that one does. 0 as the original, which starts from random weights."""
    average: float = 0.0
    """Decay per update of a running average of the actor's weights, which acts in the end, such as 0.99; with 0 the
    last weights act, as in the original."""
    precision: Precision = "float32"
    """bfloat16 is autocast: parameters, states, rewards, values and losses stay float32. auto takes it where the
    hardware multiplies it."""
    compile: Compilation = "auto"
    """Compile imagination and losses, and replay whole updates as one CUDA graph; auto does where there is a GPU. With
    a share of what imagination shows, which asks the VLM, neither is done."""

    def __post_init__(self) -> None:
        longest = self.actor_critic.horizon + 1 - self.drop_last_window
        if self.alignment == "best_window" and not 1 <= self.window <= longest:
            raise ValueError(
                f"behavior.window must lie in 1 ... {longest} (behavior.actor-critic.horizon), got {self.window}"
            )
        if not 0.0 <= self.average < 1.0:
            raise ValueError(f"behavior.average must lie in [0, 1), got {self.average}")
        if min(self.doubt, self.anchor) < 0:
            raise ValueError(f"behavior.doubt and anchor must be 0 or more, got {self.doubt} and {self.anchor}")


class BehaviorLearner:
    """Actor-critic in imagination over a frozen foundation model. Paper: GenRL, section 4.

    Args:
        model: Frozen model.
        target: (1 or B, T, ...) target trajectory, T at least horizon + 1.
        actor_critic: Networks to go on from, which are trained in place; fresh ones of the configured sizes if None.
        shown: Reward for what imagination shows, where the configuration gives it a share.

    Attributes:
        actor: Who is to act in the end: the average of the actors so far, or the last one.
        captures: Whether updates, and what draws their starts, are captured as graphs.
    """

    optimizer = Optimizer

    def __init__(
        self,
        model: FoundationModel,
        target: LatentState,
        config: BehaviorConfig,
        actor_critic: ActorCritic | None = None,
        shown: ShownReward | None = None,
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.config = config
        if config.doubt and model.world_model.rssm.ensemble is None:
            raise ValueError("behavior.doubt needs a model with an ensemble (--model.world-model.rssm.ensemble 5)")
        steps = config.actor_critic.horizon + 1
        if config.shown.share and shown is None:
            raise ValueError("behavior.shown.share needs a ShownReward, which asks the VLM what imagination shows")
        if config.shown.share and steps < model.spec.frames_per_clip:
            raise ValueError(
                f"behavior.shown.share needs a whole clip of {model.spec.frames_per_clip} frames in every imagined "
                f"trajectory; horizon + 1 is {steps}"
            )
        self.shown = shown if config.shown.share else None
        if target.stoch.shape[1] < steps:
            raise ValueError(f"the target has {target.stoch.shape[1]} steps; horizon + 1 = {steps} are needed")
        self.target = target.map(lambda x: x[:, :steps]).detach()
        anchored = config.anchor and actor_critic is not None
        if actor_critic is None:
            feature_dim, spec = model.config.world_model.rssm.feature_dim, model.spec
            actor_critic = ActorCritic(config.actor_critic, feature_dim, spec.action_dim, spec.discrete)
        self.actor_critic = actor_critic.to(self.target.stoch.device)
        self.actor = self.actor_critic.actor
        # Not part of the state: whoever resumes begins from the same networks.
        self.anchor = copy.deepcopy(self.actor).requires_grad_(False) if anchored else None
        if config.average:
            self.actor = copy.deepcopy(self.actor).requires_grad_(False)
        self.actor_optimizer = self.optimizer(self.actor_critic.actor.parameters(), config.actor_critic.actor)
        self.critic_optimizer = self.optimizer(self.actor_critic.critic.parameters(), config.actor_critic.critic)
        self.num_updates = 0
        device, alone = self.target.deter.device, self.shown is None
        self._dynamics = Rounded(model.world_model.rssm.dynamics, chosen_precision(device, config.precision))
        self.captures = alone and captures(config.compile)
        compiled = alone and compiles(device, config.compile)
        self._follow = Compiled(follow, compiled)
        self._losses = Compiled(self.losses, compiled)
        self._captured = self._capture()

    def _capture(self) -> Captured:
        return Captured(self._work, self.target.deter.device, self._clear_gradients, self.captures)

    def _clear_gradients(self) -> None:
        self.actor_critic.zero_grad(set_to_none=True)

    def reward(self, states: LatentState) -> Tensor:
        """(B, H+1, ...) imagined states -> (B, H+1) temporally aligned reward. Paper: GenRL, section 4."""
        pairs = self.pairs(states)
        offset = best_offset(pairs, self.config.alignment, self.config.window, self.config.drop_last_window)
        return aligned_reward(pairs, offset)

    def pairs(self, states: LatentState) -> Tensor:
        """(B, H+1, ...) imagined states -> (B, H+1, H+1) reward of every step against every step of the target."""
        return pairwise_reward(self.config.reward, self.model.world_model.decoder, states, self.target)

    def mean(self, x: Tensor) -> Tensor:
        """() mean of a loss or metric over a batch; of each policy where there are several."""
        return x.mean()

    def update(self, start: LatentState) -> dict[str, Tensor]:
        """One update from (B, ...) starts.

        Returns:
            () metrics by name, still on the device.

        Raises:
            NonFiniteError: If a loss is not finite; nothing has moved then.
        """
        return self._finish(self._captured(start))

    def _work(self, start: LatentState) -> dict[str, Tensor]:
        """All of an update that happens on the device."""
        self._dynamics.refresh()
        with autocast(start.deter.device, self.config.precision):
            trajectory = self.imagine(start)
            seen = {} if self.shown is None else self.shown.learn(trajectory.states.stoch)
            losses, metrics = self._losses(trajectory)
        return self._descend(losses) | metrics | seen

    def step(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Backward, both optimisers, then the copy to the target critic when it is due."""
        return self._finish(self._descend(losses))

    def _descend(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Backward and both optimisers; nothing moves where a loss is not finite (`MOVED`)."""
        means = {name: self.mean(value) for name, value in losses.items()}
        finite = all_finite(means)
        # The critic's loss reads detached features and returns: one backward pass serves both optimisers.
        (means["loss/actor"] + means["loss/critic"]).sum().backward()
        results = {name: value.detach() for name, value in means.items()}
        norms, moved = step_together({"actor": self.actor_optimizer, "critic": self.critic_optimizer}, finite)
        return results | {f"{name}/grad_norm": norm for name, norm in norms.items()} | {MOVED: moved}

    def _finish(self, results: dict[str, Tensor]) -> dict[str, Tensor]:
        """The rest, which asks how many updates were done."""
        check_moved(results)
        if self.num_updates % self.config.actor_critic.target_update_every == 0:
            self.actor_critic.update_target()
        self.num_updates += 1
        if self.config.average:
            self._average()
        return results

    @torch.no_grad()
    def _average(self) -> None:
        """Moves the average towards the actor; a plain mean at first, so that no actor counts more than another."""
        rate = max(1.0 - self.config.average, 1.0 / (self.num_updates + 1))
        torch._foreach_lerp_(list(self.actor.parameters()), list(self.actor_critic.actor.parameters()), rate)

    def imagine(self, start: LatentState) -> Trajectory:
        """The actor's trajectories from (B, ...) starts."""
        config = self.config.actor_critic
        with torch.set_grad_enabled(torch.is_grad_enabled() and config.gradient == "dynamics"):
            return imagine(self._dynamics.module, self.policy(), start, config.horizon, follow=self._follow)

    def policy(self) -> ActsOnFeatures:
        """Who acts in imagination."""
        return self.actor_critic.actor

    def inputs(self, states: LatentState) -> Tensor:
        """(B, H+1, ...) imagined states -> (B, H+1, F) what actor and critic read."""
        return states.features

    def losses(self, trajectory: Trajectory) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Losses (B, H-1) and (B, H) of an imagined trajectory, and () metrics. Updates the return quantiles."""
        config = self.config.actor_critic
        features = self.inputs(trajectory.states)  # (B, H+1, F)
        reward = aligned = self.reward(trajectory.states)
        ensemble, metrics = self.model.world_model.rssm.ensemble, {}
        if self.shown is not None:
            cosine = self.shown.reward(trajectory.states.stoch)
            reward = torch.lerp(aligned, cosine, self.shown.share(self.num_updates))
            metrics["imagined/shown"] = self.mean(cosine.detach())
        if self.config.doubt:
            assert ensemble is not None, "checked when the learner was made"
            disagreement = ensemble.disagreement(trajectory.states.deter)
            reward = reward - self.config.doubt * disagreement
            metrics["imagined/disagreement"] = self.mean(disagreement.detach())
        values = self.actor_critic.target_value(features)
        returns = lambda_returns(reward[:, :-1], values[:, 1:], config.discount, config.lambda_)
        offset, scale = self.actor_critic.normalizer.update(returns)

        states = features.detach()
        actions = trajectory.actions[:, :-1]
        losses = {
            "loss/actor": self.actor_critic.actor_loss(
                states[:, :-2], actions, returns[:, 1:], values[:, :-2].detach(), offset, scale
            ),
            "loss/critic": self.actor_critic.critic_loss(states[:, :-1], returns),
        }
        if self.anchor is not None:
            distance = self.actor_critic.actor.distance(self.anchor, states[:, :-2])
            losses["loss/actor"] = losses["loss/actor"] + self.config.anchor * distance
            metrics["actor/distance"] = self.mean(distance.detach())
        with torch.no_grad():
            metrics |= {
                "imagined/reward": self.mean(aligned),
                "imagined/return": self.mean(returns),
                "imagined/value": self.mean(values),
                "imagined/return_scale": self.mean(scale),
                "actor/saturation": self.mean((trajectory.actions.abs() > 0.99).float()),
            }
        return losses, metrics

    def state_tensors(self) -> dict[str, Tensor]:
        """Networks, their average, quantiles and optimiser states."""
        tensors = {f"actor_critic.{name}": value for name, value in self.actor_critic.state_dict().items()}
        if self.config.average:
            tensors |= {f"average.{name}": value for name, value in self.actor.state_dict().items()}
        if self.shown is not None:
            tensors |= {f"shown.{name}": value for name, value in self.shown.state_tensors().items()}
        tensors |= {f"actor_optimizer.{name}": value for name, value in self.actor_optimizer.state_tensors().items()}
        return tensors | {f"critic_optimizer.{n}": value for n, value in self.critic_optimizer.state_tensors().items()}

    def state_meta(self) -> dict[str, Any]:
        """The update counter, which times the copies to the target critic."""
        return {"num_updates": self.num_updates}

    def load_state(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Takes back what `state_tensors` and `state_meta` gave."""
        self._captured = self._capture()  # A graph would hold the moments of before.
        self.actor_critic.load_state_dict(select(tensors, "actor_critic."))
        if self.config.average:
            self.actor.load_state_dict(select(tensors, "average."))
        if self.shown is not None:
            self.shown.load_state(select(tensors, "shown."))
        self.actor_optimizer.load_state(select(tensors, "actor_optimizer."))
        self.critic_optimizer.load_state(select(tensors, "critic_optimizer."))
        self.num_updates = int(meta["num_updates"])
