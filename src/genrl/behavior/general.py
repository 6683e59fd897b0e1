"""One policy for every prompt: actor and critic that read a prompt's embedding beside the state."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from genrl.behavior.actor_critic import Actor, ActorCritic, ActorCriticConfig
from genrl.behavior.learner import BehaviorConfig, BehaviorLearner
from genrl.behavior.shown import EmbedVideo, ShownReward
from genrl.infra.checkpoint import load_checkpoint, save_checkpoint
from genrl.infra.config import from_dict, to_dict
from genrl.infra.errors import UserError
from genrl.models.encoder import normalise_frames
from genrl.models.foundation import FoundationModel
from genrl.models.state import LatentState
from genrl.nn.layers import MLP

FORMAT = "genrl-general-policy"
SLOW_COPY = "target_critic."
"""Prefix of the tensors that a file leaves out: it is the critic when it is read."""


class GeneralPolicy(nn.Module):
    """Actor and critic over (state, embedding), trained towards embeddings of whatever the data hold.

    A prompt's embedding is constant, so that binding it folds its share of the first layer into the bias: what comes
    out is an ordinary actor-critic, to act with at once or to go on learning from.

    Args:
        config: Sizes of the networks, and how they are trained.
        feature_dim: F of the states.
        embed_dim: E of the embeddings.
        action_dim: A.
        discrete: Whether actions are one-hot.
    """

    def __init__(
        self, config: ActorCriticConfig, feature_dim: int, embed_dim: int, action_dim: int, discrete: bool
    ) -> None:
        super().__init__()
        self.config = config
        self.feature_dim, self.embed_dim = feature_dim, embed_dim
        self.action_dim, self.discrete = action_dim, discrete
        self.networks = ActorCritic(config, feature_dim + embed_dim, action_dim, discrete)

    @classmethod
    def for_model(cls, model: FoundationModel, config: ActorCriticConfig) -> GeneralPolicy:
        """Fresh networks for a model's states and embeddings, on its device."""
        spec = model.spec
        feature_dim = model.config.world_model.rssm.feature_dim
        policy = cls(config, feature_dim, spec.embed_dim, spec.action_dim, spec.discrete)
        return policy.to(next(model.parameters()).device)

    def context(self, embedding: Tensor) -> Tensor:
        """(..., E) unit embeddings -> (..., E) with unit root mean square, as the networks read them."""
        return embedding * math.sqrt(self.embed_dim)

    def actor(self, embedding: Tensor) -> GoalActor:
        """The actor with (B, E) embeddings, one for each row that it will act for."""
        return GoalActor(self.networks.actor, self.context(embedding))

    def bind(self, embedding: Tensor) -> ActorCritic:
        """(E,) embedding -> actor-critic over features alone, with parameters of its own."""
        context = self.context(embedding)
        networks = ActorCritic(self.config, self.feature_dim, self.action_dim, self.discrete).to(context.device)
        networks.normalizer.load_state_dict(self.networks.normalizer.state_dict())
        bind_first_layer(self.networks.actor.network, networks.actor.network, context)
        bind_first_layer(self.networks.critic, networks.critic, context)
        bind_first_layer(self.networks.target_critic, networks.target_critic, context)
        return networks

    def save(self, directory: Path, dtype: torch.dtype = torch.float32) -> None:
        """Writes a directory; float16 halves the size."""
        tensors = {k: v.to(dtype) for k, v in self.networks.state_dict().items() if not k.startswith(SLOW_COPY)}
        save_checkpoint(directory, tensors, {"format": FORMAT, "config": to_dict(self.config)})

    @classmethod
    def load(cls, directory: Path, model: FoundationModel) -> GeneralPolicy:
        """Reads what `save` wrote, for the model it was trained in.

        Raises:
            UserError: If the directory holds something else, or a damaged file.
        """
        tensors, meta = load_checkpoint(directory)
        if meta.get("format") != FORMAT:
            raise UserError(f"{directory} holds no general policy; `genrl practice` writes one beside its model")
        policy = cls.for_model(model, from_dict(ActorCriticConfig, meta["config"], where=f"{directory} config"))
        tensors = {name: value.float() for name, value in tensors.items()}
        slow = {k.replace("critic.", SLOW_COPY, 1): v for k, v in tensors.items() if k.startswith("critic.")}
        try:
            policy.networks.load_state_dict(tensors | slow)
        except RuntimeError as error:
            raise UserError(f"{directory}: its tensors do not fit the model beside it ({error})") from error
        return policy


class GoalActor:
    """An actor with a goal for every row; to whoever asks it, it acts on features alone.

    Args:
        actor: Over (F + E) inputs.
        context: (B, E) scaled embeddings.
    """

    def __init__(self, actor: Actor, context: Tensor) -> None:
        self._actor, self._context = actor, context

    def inputs(self, features: Tensor) -> Tensor:
        """(B, F) or (B, T, F) features -> the same with the context beside them."""
        context = self._context if features.ndim == 2 else self._context[:, None]
        return torch.cat([features, context.expand(*features.shape[:-1], -1)], dim=-1)

    def sample(self, features: Tensor, noise: Tensor | None = None) -> Tensor:
        """(B, F) -> (B, A), as `Actor.sample`."""
        return self._actor.sample(self.inputs(features), noise)

    def best(self, features: Tensor) -> Tensor:
        """(B, F) -> (B, A), as `Actor.best`."""
        return self._actor.best(self.inputs(features))


class GoalPolicy:
    """A general policy that acts on frames, for N episodes at once, each towards a goal of its own.

    Args:
        model: Gives the states.
        general: Acts on them.

    Attributes:
        action: (N, A) what was really done last; whoever changes an action says so here.
    """

    def __init__(self, model: FoundationModel, general: GeneralPolicy) -> None:
        self._world_model, self._general = model.world_model, general
        self.action_dim = general.action_dim

    def reset(self, num_episodes: int) -> None:
        """Forgets the past."""
        device = next(self._general.parameters()).device
        self._state = self._world_model.rssm.dynamics.zero_state(num_episodes, device)
        self.action = torch.zeros(num_episodes, self.action_dim, device=device)

    @torch.no_grad()
    def act(self, frames: NDArray[np.uint8], goals: Tensor) -> tuple[Tensor, Tensor]:
        """(N, h, w, 3) uint8 frames, (N, E) goals -> (N, A) actions, (N, S, K) posterior logits of the frames."""
        images = normalise_frames(torch.from_numpy(frames).to(self.action.device))
        embed = self._world_model.encoder(images)
        self._state = self._world_model.rssm.filter(self._state, self.action, embed)
        self.action = self._general.actor(goals).best(self._state.features)
        return self.action, self._state.logits


class GeneralLearner(BehaviorLearner):
    """Behaviour learning in which every row of a batch has a goal of its own.

    Args:
        model: Frozen model.
        policy: Trained in place.
        config: As for a single prompt; the networks' sizes are the policy's.
        embed_video: The VLM, where what imagination shows has a share in the reward.
    """

    def __init__(
        self,
        model: FoundationModel,
        policy: GeneralPolicy,
        config: BehaviorConfig,
        embed_video: EmbedVideo | None = None,
    ) -> None:
        self.general = policy
        nowhere = torch.zeros(1, policy.embed_dim, device=next(policy.parameters()).device)
        self.goals = nowhere
        shown = None if embed_video is None else ShownReward(model, nowhere, embed_video, config.shown)
        super().__init__(model, self._target(model, nowhere, config), config, policy.networks, shown)

    def update_towards(self, start: LatentState, embedding: Tensor) -> dict[str, Tensor]:
        """One update from (B, ...) starts, each towards its own of (B, E) video embeddings."""
        return self._finish(self._captured(start, embedding))

    def _work(self, start: LatentState, embedding: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        self.goals = embedding
        if self.shown is not None:
            self.shown.goals = embedding
        self.target = self._target(self.model, embedding, self.config)
        return super()._work(start)

    def averaged(self) -> GeneralPolicy:
        """A copy whose actor is the one that is to act (`BehaviorConfig.average`)."""
        general = copy.deepcopy(self.general)
        general.networks.actor.load_state_dict(self.actor.state_dict())
        return general

    def policy(self) -> GoalActor:
        """The actor with the goals of the present batch."""
        return self.general.actor(self.goals)

    def inputs(self, states: LatentState) -> Tensor:
        """(B, H+1, ...) -> (B, H+1, F+E)."""
        return self.policy().inputs(states.features)

    @staticmethod
    def _target(model: FoundationModel, embedding: Tensor, config: BehaviorConfig) -> LatentState:
        return model.target(embedding, config.actor_critic.horizon + 1, align=False)


@torch.no_grad()
def bind_first_layer(source: MLP, bound: MLP, context: Tensor) -> None:
    """Gives `bound` the function of `source` at a constant (E,) end of its input."""
    tensors = dict(source.state_dict())
    weight = tensors["hidden.0.weight"]
    features = weight.shape[1] - len(context)
    tensors["hidden.0.bias"] = tensors["hidden.0.bias"] + weight[:, features:] @ context
    tensors["hidden.0.weight"] = weight[:, :features]
    bound.load_state_dict(tensors)
