"""A learnt behaviour as something that maps frames to actions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from genrl.behavior.actor_critic import Actor
from genrl.infra.checkpoint import load_checkpoint, save_checkpoint
from genrl.infra.config import from_dict, to_dict
from genrl.infra.errors import UserError
from genrl.infra.units import to_units
from genrl.models.encoder import Encoder, normalise_frames
from genrl.models.foundation import FoundationModel, ModelSpec
from genrl.models.rssm import RSSM, RssmConfig

FORMAT = "genrl-policy"


class Policy(nn.Module):
    """Encoder, recurrent state and actor; self-contained on disk.

    The posterior is sampled, the action is the actor's mean (as in the original's evaluation). Several episodes can
    be driven at once: `reset` takes their number, `act` then takes and gives one row each.

    Args:
        spec: What the model was made for.
        rssm: Sizes of the state.
        cnn_depth: Of the encoder.
        actor_layers: Hidden layers of the actor.
        actor_dim: Their width.
    """

    def __init__(self, spec: ModelSpec, rssm: RssmConfig, cnn_depth: int, actor_layers: int, actor_dim: int) -> None:
        super().__init__()
        self.spec = spec
        self.sizes: dict[str, Any] = {
            "rssm": rssm, "cnn_depth": cnn_depth, "actor_layers": actor_layers, "actor_dim": actor_dim
        }  # fmt: skip
        self.info: dict[str, Any] = {}
        self.encoder = Encoder(cnn_depth)
        self.rssm = RSSM(rssm, self.encoder.output_dim, spec.action_dim)
        self.actor = Actor(rssm.feature_dim, spec.action_dim, spec.discrete, actor_layers, actor_dim)
        self.reset()

    @classmethod
    def build(cls, model: FoundationModel, actor: Actor, actor_layers: int, actor_dim: int) -> Policy:
        """The policy of an actor trained over `model`; parameters are copied."""
        config = model.config.world_model
        policy = cls(model.spec, config.rssm, config.cnn_depth, actor_layers, actor_dim)
        policy.encoder.load_state_dict(model.world_model.encoder.state_dict())
        policy.rssm.load_state_dict(model.world_model.rssm.state_dict())
        policy.actor.load_state_dict(actor.state_dict())
        return policy.to(next(actor.parameters()).device).eval().requires_grad_(False)

    def reset(self, seed: int = 0, num_episodes: int | None = None) -> None:
        """Forgets the past.

        Args:
            seed: Of the posterior samples.
            num_episodes: Drive so many episodes at once; None for one, without a leading axis.
        """
        self.single = num_episodes is None
        device = next(self.parameters()).device
        count = num_episodes or 1
        self.state = self.rssm.dynamics.zero_state(count, device)
        self.action = torch.zeros(count, self.spec.action_dim, device=device)
        # A source of its own: episodes neither disturb nor follow anybody else's draws.
        self.generator = torch.Generator(device).manual_seed(seed)

    @torch.no_grad()
    def act(self, frame: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(h, w, 3) uint8 frame -> (A,) action in the environment's own units; (N, ...) for N episodes at once."""
        frames = torch.as_tensor(np.ascontiguousarray(frame), device=self.action.device)
        frames = frames[None] if self.single else frames
        embed = self.encoder(normalise_frames(frames))
        # At an episode's first frame code, action and recurrent state are zero, and the step is taken all the same.
        self.state = self.rssm.filter(self.state, self.action, embed, self.generator)
        self.action = self.actor.best(self.state.features)
        action = self.to_units(self.action.cpu().numpy())
        return action[0] if self.single else action

    def to_units(self, action: NDArray[np.float32]) -> NDArray[np.float32]:
        """Actions in -1 ... 1, clipped, to the environment's own units; one-hot actions stay."""
        return action if self.spec.discrete else to_units(action, self.spec.action_low, self.spec.action_high)

    def save(self, directory: Path, **info: Any) -> None:
        """Writes a policy directory; `info` (prompt, model, training) is kept beside the sizes."""
        meta = {"format": FORMAT, "spec": to_dict(self.spec), "info": self.info | info}
        sizes = {name: to_dict(value) if name == "rssm" else value for name, value in self.sizes.items()}
        save_checkpoint(directory, self.state_dict(), meta | {"sizes": sizes})

    @classmethod
    def load(cls, directory: Path, device: torch.device | str = "cpu") -> Policy:
        """Reads what `save` wrote.

        Raises:
            UserError: If the directory holds no policy, or a damaged one.
        """
        tensors, meta = load_checkpoint(directory)
        if meta.get("format") != FORMAT:
            raise UserError(f"{directory} holds no policy; give a directory that `genrl learn` wrote")
        sizes = dict(meta["sizes"])
        rssm = from_dict(RssmConfig, sizes.pop("rssm"), where=f"{directory} sizes")
        policy = cls(from_dict(ModelSpec, meta["spec"], where=f"{directory} spec"), rssm, **sizes)
        policy.load_state_dict(tensors)
        policy.info = meta["info"]
        policy.to(device).eval().requires_grad_(False)
        policy.reset()
        return policy
