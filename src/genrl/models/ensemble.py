"""How sure the dynamics are: several small heads that agree where there were data, and nowhere else."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genrl.nn.distributions import kl_divergence, mixed_probs
from genrl.nn.noise import uniform


class DynamicsEnsemble(nn.Module):
    """M independent heads from the recurrent state to the next sample's distribution.

    A policy that learns in imagination finds the states in which the dynamics are wrong in its favour. There the
    members, each fitted to a random half of the data, disagree; a reward less their disagreement keeps the policy where
    the model knows. Sources: Sekar et al. 2020 (Plan2Explore, arXiv 2005.05960) seeks the disagreement, Rafailov et al.
    2021 (LOMPO, arXiv 2012.11547) shuns it.

    Args:
        deter_dim: Size D of the recurrent state.
        num_members: Heads M.
        num_variables: Categorical variables S.
        num_classes: Classes K of each.
        hidden_dim: Hidden units of each head.
    """

    KEPT_SHARE = 0.5
    """Share of the data that a member learns from, drawn anew at every step."""

    def __init__(
        self, deter_dim: int, num_members: int, num_variables: int, num_classes: int, hidden_dim: int = 64
    ) -> None:
        super().__init__()
        self.num_members, self.hidden_dim = num_members, hidden_dim
        self.shape = (num_variables, num_classes)
        self.hidden = nn.Linear(deter_dim, num_members * hidden_dim)
        outputs = num_variables * num_classes
        bound = 1 / math.sqrt(hidden_dim)
        self.weight = nn.Parameter(torch.empty(num_members, hidden_dim, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(num_members, 1, outputs))

    def forward(self, deter: Tensor) -> Tensor:
        """(..., D) -> (M, ..., S, K) logits."""
        hidden = self.hidden(deter.flatten(0, -2)).unflatten(-1, (self.num_members, self.hidden_dim))
        hidden = F.silu(F.layer_norm(hidden, (self.hidden_dim,))).transpose(0, 1)  # (M, N, hidden)
        logits = torch.baddbmm(self.bias, hidden, self.weight)
        return logits.unflatten(1, deter.shape[:-1]).unflatten(-1, self.shape)

    def loss(self, deter: Tensor, posterior_logits: Tensor) -> Tensor:
        """(...,) KL(posterior || member), the mean over the members that see the element; constant in its inputs.

        Args:
            deter: (..., D) recurrent states.
            posterior_logits: (..., S, K) of the posterior at the same steps.
        """
        kl = kl_divergence(posterior_logits.detach()[None], self(deter.detach()))
        kept = uniform(kl.shape, kl.device, dim=1) < self.KEPT_SHARE
        return (kl * kept).sum(0) / (self.KEPT_SHARE * self.num_members)

    def disagreement(self, deter: Tensor) -> Tensor:
        """(..., D) -> (...,) entropy of the mean less mean entropy, in nats a variable; from 0 to log M."""
        probs = mixed_probs(self(deter))
        mean = probs.mean(0)
        gain = (probs * probs.log()).sum(-1).mean(0) - (mean * mean.log()).sum(-1)
        return gain.mean(-1)
