"""Compares our modules with arrays recorded from the original GenRL.

    python tests/parity/check_model.py FIXTURE.npz

Loads the original's parameters into our modules (sizes from `meta/config_json`, lengths from array shapes) and
compares every output, gradient and updated parameter: one line each (name, largest error, tolerance, ok), then a count.
Exits with 1 if one is off, or if an array of the file was neither used nor compared. The original's oddities that an
array needs are switched on: modes for samples, eight unused connector inputs, the last alignment window dropped, and
weight decay of the connector in the world model's step.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genrl.behavior.actor_critic import ActorCriticConfig
from genrl.behavior.alignment import aligned_reward, best_offset, window_scores
from genrl.behavior.imagination import Trajectory, imagine
from genrl.behavior.learner import BehaviorConfig, BehaviorLearner
from genrl.behavior.rewards import REWARDS, pairwise_reward
from genrl.infra.optim import Optimizer, OptimizerConfig
from genrl.interop.original_parameters import (
    critic_names,
    join_actor_output,
    mlp_names,
    model_parameter_names,
    rename,
    split_actor_output,
)
from genrl.models.aligner import AlignerConfig
from genrl.models.connector import ConnectorConfig, clip_embeddings
from genrl.models.foundation import FoundationConfig, FoundationModel, ModelSpec
from genrl.models.rssm import RssmConfig, balanced_kl
from genrl.models.state import LatentState
from genrl.models.world_model import WorldModelConfig
from genrl.nn.distributions import TwoHot, entropy, kl_divergence
from genrl.nn.returns import ReturnNormalizer, lambda_returns

FORWARD = (1e-4, 2e-5)
"""Relative and absolute tolerance of forward values (parity README)."""
GRADIENT = (1e-3, 1e-5)
"""Relative tolerance of gradients; the absolute one is relative to the array's largest entry."""
CHANGE = 1e-2
"""Relative tolerance of what an optimiser step changed."""
LEAST_GRADIENT = 1e-6
"""Adam's first step follows the sign of the gradient, and the sign of a smaller one is noise."""
FLOAT32_ULP = 2.0**-23


class Fixture:
    """Arrays of the original, with a record of which were used or compared."""

    def __init__(self, path: str) -> None:
        with np.load(path) as file:
            self.arrays = {name: file[name] for name in file.files}
        self.seen: set[str] = set()
        self.failed: list[str] = []
        self.num_compared = 0

    def __contains__(self, name: str) -> bool:
        return name in self.arrays

    def names(self, prefix: str) -> list[str]:
        """Names under a prefix, without it."""
        return [name.removeprefix(prefix) for name in self.arrays if name.startswith(prefix)]

    def get(self, name: str) -> Tensor:
        """An array to feed in; counts as used."""
        self.seen.add(name)
        return torch.from_numpy(np.ascontiguousarray(self.arrays[name]).reshape(self.arrays[name].shape))

    def get_string(self, name: str) -> str:
        """A string; counts as used."""
        self.seen.add(name)
        return str(self.arrays[name])

    def group(self, prefix: str) -> dict[str, Tensor]:
        """All arrays under a prefix."""
        return {name: self.get(prefix + name) for name in self.names(prefix)}

    def compare(self, name: str, ours: Tensor | float, kind: str = "forward") -> None:
        """Compares with an array of the file, to the tolerance of forward values or gradients."""
        ours = torch.as_tensor(ours).detach()
        theirs = self.get(name)
        if tuple(ours.shape) != tuple(theirs.shape):
            self.report(name, float("inf"), 0.0, False, f"shape {tuple(ours.shape)}, expected {tuple(theirs.shape)}")
            return
        if not theirs.is_floating_point():
            wrong = int((ours != theirs).sum())
            self.report(name, wrong, 0.0, wrong == 0)
            return
        relative, absolute = FORWARD if kind == "forward" else GRADIENT
        ours, theirs = ours.double(), theirs.double()
        if kind == "gradient":
            absolute *= float(theirs.abs().max()) if theirs.numel() else 0.0
        error = (ours - theirs).abs()
        excess = error - (absolute + relative * theirs.abs())
        self.report(
            name, float(error.max()), absolute + relative * float(theirs.abs().max()), bool((excess <= 0).all())
        )

    def compare_change(self, name: str, before: Tensor, ours: Tensor, gradient: Tensor | None) -> None:
        """Compares what a step changed.

        Args:
            name: Array of the parameter after the step.
            before: The original's parameter before the step.
            ours: Ours after it.
            gradient: Clipped gradient; entries whose gradient is tiny but not zero are left out.
        """
        theirs = self.get(name).double()
        before = before.double()
        change, expected = ours.detach().double() - before, theirs - before
        counted = torch.ones_like(before, dtype=torch.bool)
        if gradient is not None:
            counted = (gradient.abs() > LEAST_GRADIENT) | (gradient == 0)
        error = (change - expected).abs()[counted]
        # Parameters are stored in float32: a change is known to one unit in the last place of the parameter.
        allowed = (CHANGE * expected.abs() + FLOAT32_ULP * theirs.abs())[counted]
        ok = bool((error <= allowed).all())
        largest = float(error.max()) if error.numel() else 0.0
        skipped = int((~counted).sum())
        note = f"change; {skipped} entries of tiny gradient left out" if skipped else "change"
        self.report(name, largest, float(allowed.max()) if allowed.numel() else 0.0, ok, note)

    def report(self, name: str, error: float, tolerance: float, ok: bool, note: str = "") -> None:
        """One line; remembers failures."""
        self.seen.add(name)
        self.num_compared += 1
        if not ok:
            self.failed.append(name)
        print(f"{name:60s} error {error:9.2e}  tolerance {tolerance:9.2e}  {'ok' if ok else 'OFF'}  {note}".rstrip())

    def finish(self) -> int:
        """The count, and what was never looked at; gives the exit status."""
        unseen = sorted(set(self.arrays) - self.seen)
        for name in unseen:
            print(f"{name:60s} NEITHER USED NOR COMPARED")
        print(
            f"{self.num_compared} compared, {len(self.failed)} off, "
            f"{len(self.arrays) - self.num_compared - len(unseen)} used as input, {len(unseen)} not looked at"
        )
        return 1 if self.failed or unseen else 0


def main(path: str) -> int:
    """Runs every comparison; returns the exit status."""
    torch.manual_seed(0)
    fixture = Fixture(path)
    meta = SimpleNamespace(**json.loads(fixture.get_string("meta/config_json")))
    model = build_model(fixture, meta)
    batch = SimpleNamespace(**fixture.group("in/"))
    batch.reward = batch.reward.reshape(batch.reward.shape[:2])
    posterior = check_world_model(fixture, model, batch, meta)
    check_connector(fixture, model, batch, posterior, meta)
    check_prompt_imagination(fixture, model, meta)
    check_behavior(fixture, model, posterior, meta)
    check_pieces(fixture, meta)
    check_optimizer(fixture)
    check_model_steps(fixture, model, batch, meta)
    return fixture.finish()


def build_model(fixture: Fixture, meta: Any) -> FoundationModel:
    """Our model with the original's parameters; strict in both directions."""
    rssm = RssmConfig(meta.deter, meta.hidden, meta.stoch, meta.discrete)
    world_model = WorldModelConfig(
        rssm=rssm,
        cnn_depth=meta.cnn_depth,
        kl_scale=meta.kl_scale,
        kl_balance=meta.kl["balance"],
        free_nats=meta.kl["free"],
        reward_head=True,
        reward_head_layers=meta.mlp_layers,
        reward_head_units=meta.units,
    )
    # As many inputs that are always zero as the file's connector has; the original has one for each frame of a clip.
    connector_inputs = fixture.arrays["param/wm.connector._img_in.0.weight"].shape[1]
    unused_inputs = connector_inputs - rssm.stoch_dim - meta.E
    config = FoundationConfig(
        world_model,
        ConnectorConfig(kl_scale=meta.connector_kl["balance"], unused_inputs=unused_inputs),
        AlignerConfig(noise=meta.clip_lafite_noise),
    )
    bounds = ((-1.0,) * meta.A, (1.0,) * meta.A)
    spec = ModelSpec("fixture", "paper", "", meta.A, 1, 1.0, *bounds, False, "fixture", "", meta.E, meta.n_frames)
    model = FoundationModel(config, spec)
    names = model_parameter_names(meta.mlp_layers)
    model.load_state_dict(rename(fixture.group("param/wm."), {k.removeprefix("wm."): v for k, v in names.items()}))
    return model


def behavior_state(tensors: Mapping[str, Tensor], num_layers: int) -> dict[str, Tensor]:
    """The original's actor, critics and quantiles under our names."""
    names = mlp_names("actor", "actor.network", num_layers)
    names |= critic_names("critic", "critic", num_layers) | critic_names("_target_critic", "target_critic", num_layers)
    state = rename(tensors, names | {"ema_vals": "normalizer.quantiles"})
    for part in ("weight", "bias"):
        mean, std = tensors[f"actor._out._out.{part}"], tensors[f"actor._out._std.{part}"]
        state[f"actor.network.output.{part}"] = join_actor_output(mean, std)
    return state


def original_behavior_names(tensors: Mapping[str, Tensor], num_layers: int) -> dict[str, Tensor]:
    """Our actor, critics and quantiles (or their gradients) under the original's names."""
    names = mlp_names("actor", "actor.network", num_layers)
    names |= critic_names("critic", "critic", num_layers) | critic_names("_target_critic", "target_critic", num_layers)
    names |= {"ema_vals": "normalizer.quantiles"}
    result = rename(tensors, {ours: original for original, ours in names.items()})
    for part in ("weight", "bias"):
        if (value := tensors.get(f"actor.network.output.{part}")) is not None:
            result |= {f"actor.{name}": piece for name, piece in split_actor_output(part, value).items()}
    return result


def check_world_model(fixture: Fixture, model: FoundationModel, batch: Any, meta: Any) -> LatentState:
    """Encoder, posterior, dynamics, KL, decoder, reward head, total loss."""
    world_model = model.world_model
    frames = batch.observation.movedim(2, -1)
    losses, posterior, _ = world_model.losses(frames, batch.action, batch.is_first, batch.reward, mode=True)
    images = batch.observation / 255.0 - 0.5
    prior_logits = world_model.rssm.dynamics.head(posterior.deter)
    prior_mode = F.one_hot(prior_logits.argmax(-1), meta.discrete).float()
    kl = kl_divergence(posterior.logits, prior_logits)
    at_median = balanced_kl(posterior.logits, prior_logits, meta.kl["balance"], fixture.get("kl/free_at_median").item())
    decoded = world_model.decoder(posterior.stoch)
    assert world_model.reward_head is not None
    reward_logits = world_model.reward_head(posterior.features.detach())

    compare_all(
        fixture,
        {
            "enc/embed": world_model.encoder(images),
            "rssm/post_logit": posterior.logits,
            "rssm/post_stoch": posterior.stoch,
            "rssm/prior_logit": prior_logits,
            "rssm/prior_stoch": prior_mode,
            "rssm/deter": posterior.deter,
            "rssm/feat": posterior.features,
            "kl/value": kl,
            "kl/loss": losses["kl"].mean(),
            "kl/post_entropy_mean": entropy(posterior.logits).mean(),
            "kl/prior_entropy_mean": entropy(prior_logits).mean(),
            "kl/loss_free_at_median": at_median.mean(),
            "dec/mean": decoded,
            "dec/neg_log_prob": losses["reconstruction"],
            "dec/loss": losses["reconstruction"].mean(),
            "dec/conv_in_features": world_model.decoder.state_features(posterior.stoch),
            "rewhead/logits": reward_logits,
            "rewhead/mean": world_model.two_hot.mean(reward_logits)[..., None],
            "rewhead/log_prob": -losses["reward"],
            "rewhead/loss": losses["reward"].mean(),
            "wm/total_loss": world_model.total_loss(losses),
        },
    )
    return posterior.detach()


def check_connector(fixture: Fixture, model: FoundationModel, batch: Any, posterior: LatentState, meta: Any) -> None:
    """Noise, aligner, initial state, teacher-forced prior, losses, the metric of group starts."""
    clean = clip_embeddings(batch.clip_video, meta.n_frames)
    noise = fixture.get("conn/noise")
    noisy = model.aligner.corrupt(clean, noise)
    aligned = model.aligner(noisy)
    initial = model.connector.initial_state(clean[:, 0], mode=True)
    predicted = model.connector.predict(clean, posterior.stoch, mode=True)
    kl = model.connector.loss(clean, posterior, mode=True)
    aligner_loss = model.aligner.loss(clean, noise)

    later = clean[:, meta.n_frames :: meta.n_frames]
    start = model.connector.initial_state(later, mode=True)
    first = model.connector.dynamics.step(start, model.connector.inputs(later), mode=True)
    group_logits = posterior.logits[:, meta.n_frames :: meta.n_frames]
    compare_all(
        fixture,
        {
            "conn/clean_embed": clean,
            "conn/noisy_embed": noisy,
            "conn/aligner_out": aligned,
            "conn/aligner_out_normalised": model.aligner.align(noisy),
            "conn/aligner_loss": aligner_loss.mean(),
            "conn/action": model.connector.inputs(clean),
            "conn/initial_deter": initial.deter,
            "conn/initial_logit": initial.logits,
            "conn/initial_stoch": initial.stoch,
            "conn/prior_logit": predicted.logits,
            "conn/prior_deter": predicted.deter,
            "conn/kl_value": kl,
            "conn/kl_loss": kl.mean(),
            "conn/total_loss": kl.mean() + aligner_loss.mean(),
            "conn/initial_metric_prior_logit": first.logits.flatten(0, 1),
            "conn/initial_metric_kl_value": kl_divergence(first.logits, group_logits).flatten(),
        },
    )


def check_prompt_imagination(fixture: Fixture, model: FoundationModel, meta: Any) -> None:
    """Target trajectories of prompts, with and without aligner, with resets."""
    text = fixture.get("imag/text_embed")
    aligned = model.aligner.align(text)
    steps = fixture.arrays["imag/logit"].shape[1]
    plain = model.connector.imagine(repeat(aligned, steps), mode=True)
    steps = fixture.arrays["imag_reset/logit"].shape[1]
    reset = model.connector.imagine(repeat(aligned, steps), mode=True, reset_every=meta.n_frames)
    steps = fixture.arrays["imag_nodenoise/logit"].shape[1]
    raw = model.connector.imagine(repeat(text, steps), mode=True)
    compare_all(
        fixture,
        {
            "imag/denoised_embed": aligned,
            "imag/logit": plain.logits,
            "imag/deter": plain.deter,
            "imag/stoch": plain.stoch,
            "imag/stoch_raw_max_abs_dev": (plain.stoch - plain.stoch.round()).abs().max(),
            "imag/image_mean": model.world_model.decoder(plain.stoch),
            "imag_reset/logit": reset.logits,
            "imag_reset/deter": reset.deter,
            "imag_nodenoise/logit": raw.logits,
            "imag_nodenoise/deter": raw.deter,
        },
    )


def check_behavior(fixture: Fixture, model: FoundationModel, posterior: LatentState, meta: Any) -> None:
    """Imagined behaviour, rewards, alignment, returns, losses, gradients and one update."""
    steps = start_steps(fixture, posterior)
    start = posterior.map(lambda x: x[:, steps])
    for name, value in (("logit", start.logits), ("stoch", start.stoch), ("deter", start.deter)):
        fixture.compare(f"seq/start_{name}", value)

    target, learner = behavior_learner(fixture, model, meta)
    noise = fixture.get("seq/action_noise").transpose(0, 1)
    horizon = noise.shape[1]
    actor = learner.actor_critic.actor
    dynamics = model.world_model.rssm.dynamics
    trajectory = imagine(dynamics, actor, start.flatten(), horizon, noise, mode=True)
    states = trajectory.states
    no_action = torch.zeros_like(trajectory.actions[:, :1])
    ones = torch.ones(horizon + 1, states.deter.shape[0], 1)
    compare_all(
        fixture,
        {
            "seq/stoch": time_major(states.stoch),
            "seq/logit": time_major(states.logits),
            "seq/deter": time_major(states.deter),
            "seq/feat": time_major(states.features),
            "seq/action": time_major(torch.cat([no_action, trajectory.actions], dim=1)),
            "seq/discount": learner.config.actor_critic.discount * ones,
            "seq/weight": ones,
        },
    )
    check_rewards(fixture, model, states, target, meta)
    check_actor_critic(fixture, learner, trajectory, meta)


def start_steps(fixture: Fixture, posterior: LatentState) -> list[int]:
    """Which steps of the windows the fixture starts from: found by their recurrent states."""
    wanted = torch.from_numpy(fixture.arrays["seq/start_deter"])
    distance = torch.cdist(wanted[0], posterior.deter[0].detach())
    return [int(index) for index in distance.argmin(1)]


def behavior_learner(fixture: Fixture, model: FoundationModel, meta: Any) -> tuple[LatentState, BehaviorLearner]:
    """Target (1, T, ...) and a learner with the original's parameters and oddities."""
    horizon = fixture.arrays["seq/action_noise"].shape[0]
    target = model.target(fixture.get("reward/text_embed"), horizon + 1, align=True)
    config = ActorCriticConfig(
        num_layers=meta.mlp_layers,
        hidden_dim=meta.units,
        horizon=horizon,
        discount=meta.discount,
        lambda_=meta.discount_lambda,
        entropy_scale=meta.actor_ent,
        actor=optimizer_config(meta.actor_opt),
        critic=optimizer_config(meta.critic_opt),
    )
    learner = BehaviorLearner(model, target, BehaviorConfig(config, window=meta.n_frames, drop_last_window=True))
    for behavior in ("_acting_behavior", "_imag_behavior"):
        state = behavior_state(fixture.group(f"param/{behavior}."), meta.mlp_layers)
        learner.actor_critic.load_state_dict(state)
    return target, learner


def check_rewards(
    fixture: Fixture, model: FoundationModel, states: LatentState, target: LatentState, meta: Any
) -> None:
    """Every reward step by step, then both alignments."""
    columns = states.deter.shape[0]
    broadcast = target.map(lambda x: x.expand(columns, *x.shape[1:]))
    compare_all(
        fixture,
        {
            "reward/target_stoch": time_major(broadcast.stoch),
            "reward/target_logit": time_major(broadcast.logits),
            "reward/target_deter": time_major(broadcast.deter),
        },
    )
    decoder = model.world_model.decoder
    pairs = {name: pairwise_reward(name, decoder, states, target) for name in REWARDS}  # type: ignore[arg-type]
    for name, matrix in pairs.items():
        fixture.compare(f"reward/compute_{name}", matrix.diagonal(dim1=1, dim2=2).T)
    for name in ("max_cosine", "neg_kl"):
        matrix = pairs[name]
        sequence_offset = best_offset(matrix, "best_window", meta.n_frames, drop_last_window=True)
        initial_offset = best_offset(matrix, "best_initial", meta.n_frames)
        compare_all(
            fixture,
            {
                f"reward/align_sequence_scores_{name}": window_scores(matrix, meta.n_frames)[:, :-1].T,
                f"reward/align_sequence_best_{name}": sequence_offset,
                f"reward/align_initial_scores_{name}": matrix[:, :, 0].T,
                f"reward/align_initial_best_{name}": initial_offset,
                f"reward/vtr_align_sequence_{name}": time_major(aligned_reward(matrix, sequence_offset))[..., None],
                f"reward/vtr_align_initial_{name}": time_major(aligned_reward(matrix, initial_offset))[..., None],
            },
        )
    zero = best_offset(pairs["max_cosine"], "none", meta.n_frames)
    fixture.compare("reward/vtr_none_max_cosine", time_major(aligned_reward(pairs["max_cosine"], zero))[..., None])
    embedding = model.aligner.align(fixture.get("reward/text_embed"))
    whole = model.connector.imagine(repeat(embedding, states.deter.shape[1]), mode=True)
    matrix = pairwise_reward("max_cosine", decoder, states, whole)
    fixture.compare("reward/vtr_none_noskip", time_major(aligned_reward(matrix, zero))[..., None])


def check_actor_critic(fixture: Fixture, learner: BehaviorLearner, trajectory: Trajectory, meta: Any) -> None:
    """Values, returns, losses, gradients, then one update."""
    actor_critic = learner.actor_critic
    features = trajectory.states.features
    config = learner.config.actor_critic
    fixture.compare("ac/ema_before", actor_critic.normalizer.quantiles.clone())
    reward = learner.reward(trajectory.states)
    values = actor_critic.target_value(features)
    returns = lambda_returns(reward[:, :-1], values[:, 1:], config.discount, config.lambda_)
    losses, _ = learner.losses(trajectory)
    mean, std = actor_critic.actor.normal(features[:, :-2].detach())
    policy_features, actions = features[:, :-2].detach(), trajectory.actions[:, :-1]
    policy_entropy = actor_critic.actor.entropy(policy_features)
    actor_loss, critic_loss = losses["loss/actor"].mean(), losses["loss/critic"].mean()
    compare_all(
        fixture,
        {
            "ac/target_critic_value": time_major(values)[..., None],
            "ac/reward": time_major(reward)[..., None],
            "ac/lambda_target": time_major(returns)[..., None],
            "ac/policy_mean": time_major(mean),
            "ac/policy_std": time_major(std),
            "ac/policy_entropy": time_major(policy_entropy),
            "ac/policy_log_prob": time_major(actor_critic.actor.log_prob(policy_features, actions)),
            "ac/actor_loss": actor_loss,
            "ac/actor_loss_ent_3e-4": actor_loss - 3e-4 * policy_entropy.mean(),
            "ac/ema_after": actor_critic.normalizer.quantiles.clone(),
            "ac/critic_loss": critic_loss,
            "ac/critic_log_prob": -time_major(losses["loss/critic"]),
        },
    )
    gradients: dict[str, Tensor] = {}
    for name, loss in (("actor", actor_loss), ("critic", critic_loss)):
        module: nn.Module = getattr(actor_critic, name)
        parameters = dict(module.named_parameters(prefix=name))
        found = torch.autograd.grad(loss, list(parameters.values()), retain_graph=True)
        fixture.compare(f"ac/{name}_grad_norm", torch.nn.utils.get_total_norm(found), "gradient")
        renamed = original_behavior_names(dict(zip(parameters, found, strict=True)), meta.mlp_layers)
        for parameter, gradient in renamed.items():
            fixture.compare(f"ac/{name}_grad/{parameter.removeprefix(f'{name}.')}", gradient, "gradient")
        gradients |= clipped(renamed, getattr(config, name).clip)

    before = fixture.group("param/_imag_behavior.")
    learner.step(losses)
    after = original_behavior_names(actor_critic.state_dict(), meta.mlp_layers)
    fixture.compare("ac/after_one_update/ema_vals", after.pop("ema_vals"))
    for name, value in after.items():
        # The target critic becomes a copy of the updated critic.
        source = name.replace("_target_critic.", "critic.")
        fixture.compare_change(f"ac/after_one_update/{name}", before[source], value, gradients.get(source))


def check_pieces(fixture: Fixture, meta: Any) -> None:
    """Returns, two-hot and return scale on free-standing arrays."""
    lambda_ = {name: value.squeeze(-1).mT for name, value in fixture.group("lambda/").items() if name != "bootstrap"}
    next_value = torch.cat([lambda_["value"][:, 1:], fixture.get("lambda/bootstrap")], dim=1)
    returns = lambda_returns(lambda_["reward"], next_value, lambda_["pcont"], meta.discount_lambda)
    two_hot, logits, x = TwoHot(), fixture.get("twohot/logits"), fixture.get("twohot/x").squeeze(-1)
    compare_all(
        fixture,
        {
            "lambda/returns": time_major(returns)[..., None],
            "twohot/log_prob": two_hot.log_prob(logits, x),
            "twohot/mean": two_hot.mean(logits)[..., None],
        },
    )
    normalizer = ReturnNormalizer()
    for index in range(len(fixture.names("ema/x"))):
        offset, scale = normalizer.update(fixture.get(f"ema/x{index}"))
        fixture.compare(f"ema/vals{index}", normalizer.quantiles)
        fixture.compare(f"ema/offset{index}", offset)
        fixture.compare(f"ema/scale{index}", scale)


def check_optimizer(fixture: Fixture) -> None:
    """Three steps on two tensors with given gradients."""
    weight, bias = (nn.Parameter(fixture.get(f"opt/{name}0").clone()) for name in ("w", "b"))
    optimizer = Optimizer([weight, bias], OptimizerConfig(1e-2, 1e-8, 2.0, 1e-2))
    for step in range(len(fixture.names("opt/grad_norm"))):
        before = fixture.get(f"opt/w{step}"), fixture.get(f"opt/b{step}")
        weight.grad, bias.grad = fixture.get(f"opt/grad_w{step}").clone(), fixture.get(f"opt/grad_b{step}").clone()
        fixture.compare(f"opt/grad_norm{step}", optimizer.step(), "gradient")
        fixture.compare_change(f"opt/w{step + 1}", before[0], weight, None)
        fixture.compare_change(f"opt/b{step + 1}", before[1], bias, None)


def check_model_steps(fixture: Fixture, model: FoundationModel, batch: Any, meta: Any) -> None:
    """One world-model step, which also decays the connector, then one connector step."""
    model.requires_grad_(True)
    names = {ours: original for original, ours in model_parameter_names(meta.mlp_layers).items()}
    parameters = dict(model.named_parameters())
    config = optimizer_config(meta.model_opt)
    frames = batch.observation.movedim(2, -1)
    losses, posterior, _ = model.world_model.losses(frames, batch.action, batch.is_first, batch.reward, mode=True)
    loss = model.world_model.total_loss(losses)
    loss.backward()
    fixture.compare("wmstep/loss", loss)
    gradients = compare_gradients(fixture, "wmstep/grad/", parameters, names)
    before = {names[name]: value.detach().clone() for name, value in parameters.items()}
    fixture.compare("wmstep/grad_norm", Optimizer(parameters.values(), config).step(), "gradient")
    for name, value in parameters.items():
        gradient = clipped(gradients, config.clip).get(names[name])
        fixture.compare_change(f"wmstep/after/{names[name]}", before[names[name]], value, gradient)

    posterior = posterior.detach()
    clean = clip_embeddings(batch.clip_video, meta.n_frames)
    loss = model.connector.loss(clean, posterior, mode=True).mean()
    loss = loss + model.aligner.loss(clean, fixture.get("conn/noise")).mean()
    loss.backward()
    fixture.compare("connstep/loss", loss)
    parameters = {name: value for name, value in parameters.items() if not name.startswith("world_model.")}
    gradients = compare_gradients(fixture, "connstep/grad/", parameters, names)
    fixture.compare("connstep/grad_norm", Optimizer(parameters.values(), config).step(), "gradient")
    for name, value in parameters.items():
        start = fixture.get(f"wmstep/after/{names[name]}")
        gradient = clipped(gradients, config.clip).get(names[name])
        fixture.compare_change(f"connstep/after/{names[name]}", start, value, gradient)


def compare_gradients(
    fixture: Fixture, prefix: str, parameters: Mapping[str, nn.Parameter], names: Mapping[str, str]
) -> dict[str, Tensor]:
    """Compares the gradients that exist; returns them under the original's names."""
    found = {names[name]: value.grad.clone() for name, value in parameters.items() if value.grad is not None}
    for name in fixture.names(prefix):
        fixture.compare(prefix + name, found.get(name, torch.zeros_like(fixture.get(prefix + name))), "gradient")
    return found


def compare_all(fixture: Fixture, values: Mapping[str, Tensor]) -> None:
    """Compares forward values by name; those the file lacks are skipped."""
    for name, value in values.items():
        if name in fixture:
            fixture.compare(name, value)


def clipped(gradients: Mapping[str, Tensor], clip: float) -> dict[str, Tensor]:
    """Gradients scaled to a total norm of at most `clip`."""
    norm = torch.nn.utils.get_total_norm(list(gradients.values()))
    scale = (clip / (norm + 1e-6)).clamp(max=1.0)
    return {name: value * scale for name, value in gradients.items()}


def optimizer_config(settings: Mapping[str, float]) -> OptimizerConfig:
    """The fixture's optimiser settings."""
    return OptimizerConfig(settings["lr"], settings["eps"], settings["clip"], settings["wd"])


def repeat(embedding: Tensor, steps: int) -> Tensor:
    """(N, E) -> (N, steps, E)."""
    return embedding[:, None].expand(-1, steps, -1)


def time_major(x: Tensor) -> Tensor:
    """(B, T, ...) -> (T, B, ...)."""
    return x.transpose(0, 1)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))
