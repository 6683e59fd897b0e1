"""Named configurations of the verbs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

VERBS_WITH_PRESETS = ("pretrain", "practice", "learn")


class _Presets(Mapping[str, Mapping[str, Any]]):
    """Verb -> preset name -> config; built on demand, so that a verb does not import what another one needs."""

    def __getitem__(self, verb: str) -> Mapping[str, Any]:
        if verb == "pretrain":
            return pretrain_presets()
        if verb == "practice":
            return practice_presets()
        if verb == "learn":
            return learn_presets()
        raise KeyError(verb)

    def __iter__(self) -> Iterator[str]:
        return iter(VERBS_WITH_PRESETS)

    def __len__(self) -> int:
        return len(VERBS_WITH_PRESETS)


PRESETS = _Presets()
"""The first preset of a verb is its default."""


def pretrain_presets() -> dict[str, Any]:
    """`mini`: the embedded default, for a CPU. `paper`: the released code's numbers. `debug`: seconds on a CPU."""
    from genrl.infra.optim import OptimizerConfig
    from genrl.models.connector import ConnectorConfig
    from genrl.models.foundation import FoundationConfig
    from genrl.models.learner import FoundationLearnerConfig
    from genrl.models.rssm import RssmConfig
    from genrl.models.world_model import WorldModelConfig
    from genrl.run.pretrain import FrameStageConfig, PretrainConfig, StageConfig

    fast = OptimizerConfig(learning_rate=1e-3, eps=1e-8, clip=1000.0, weight_decay=1e-6)
    learner = FoundationLearnerConfig(fast, fast)
    mini_rssm = RssmConfig(deter_dim=256, hidden_dim=256, num_variables=32, num_classes=16)
    mini = PretrainConfig(
        model=FoundationConfig(WorldModelConfig(rssm=mini_rssm, cnn_depth=16)),
        # Off: it predicts better for less time, but behaviours came out worse (docs/walker_mini.md).
        frame=FrameStageConfig(0, 64, 1, learner, "cosine", 0.1, 100),
        joint=StageConfig(9_000, 16, 16, learner, "cosine", 0.1, 100),
        joint_connector=False,
        latent=StageConfig(5_000, 32, 32, learner, "cosine", 0.03, 100),
        video_every=2000,
    )
    tiny_rssm = RssmConfig(deter_dim=16, hidden_dim=16, num_variables=4, num_classes=4, ensemble=2)
    debug = replace(
        mini,
        model=FoundationConfig(WorldModelConfig(rssm=tiny_rssm, cnn_depth=2), ConnectorConfig()),
        frame=FrameStageConfig(2, 2, 1, learner, fixed_code=1),
        joint=StageConfig(4, 2, 8, learner),
        joint_connector=True,
        latent=StageConfig(4, 2, 8, learner),
        log_every=1,
        save_every=2,
        video_every=0,
    )
    # The original trains in float16.
    stages = {name: getattr(PretrainConfig(), name) for name in ("frame", "joint", "latent")}
    halved = {name: replace(stage, learner=replace(stage.learner, precision="auto")) for name, stage in stages.items()}
    return {"mini": mini, "paper": replace(PretrainConfig(), **halved), "debug": debug}


def practice_presets() -> dict[str, Any]:
    """`mini`: a CPU and an hour. `debug`: seconds."""
    from genrl.behavior.start_states import StartConfig
    from genrl.run.practice import EpisodesConfig, PracticeConfig

    pretrained, learnt = pretrain_presets(), learn_presets()
    # Wider than the network of one prompt, and a gentler rate than from scratch.
    behavior = learnt["mini"].behavior
    # In float32: that bfloat16 does as well was measured for single prompts only.
    wide = replace(behavior, actor_critic=replace(behavior.actor_critic, hidden_dim=384), precision="float32")
    latent = pretrained["mini"].latent
    adam = replace(latent.learner.world_model, learning_rate=5e-4)
    mini = PracticeConfig(
        latent=replace(
            latent,
            updates=1500,
            final_rate=0.1,
            warmup=50,
            learner=replace(latent.learner, world_model=adam, connector=adam),
        ),
        behavior=wide,
        starts=StartConfig(num_starts=64),
    )
    debug = replace(
        mini,
        rounds=2,
        first_updates=2,
        policy_updates=2,
        latent=replace(pretrained["debug"].latent, updates=2),
        episodes=EpisodesConfig(count=2, steps=30, hold=(5, 10), workers=1),
        behavior=learnt["debug"].behavior,
        starts=learnt["debug"].starts,
        log_every=1,
        save_every=1,
    )
    return {"mini": mini, "debug": debug}


def learn_presets() -> dict[str, Any]:
    """`mini`: a laptop and minutes. `paper`: the released code's numbers. `debug`: seconds."""
    from genrl.behavior.actor_critic import ActorCriticConfig
    from genrl.behavior.learner import BehaviorConfig
    from genrl.behavior.start_states import StartConfig
    from genrl.infra.optim import OptimizerConfig
    from genrl.run.learn import LearnConfig
    from genrl.run.prompting import TARGET_CANDIDATES
    from genrl.run.settling import SettleConfig

    mini = LearnConfig(
        behavior=BehaviorConfig(
            ActorCriticConfig(
                num_layers=2,
                hidden_dim=256,
                std_bias=-1.0,
                clip_actions=True,
                target_update_every=20,
                actor=OptimizerConfig(2e-4, 1e-5, 100.0, 1e-6),
                critic=OptimizerConfig(5e-4, 1e-5, 100.0, 1e-6),
            ),
            precision="auto",
        ),
        starts=StartConfig(num_starts=128),
        # From a general policy; from random weights it takes about 1,000.
        updates=300,
        target_candidates=TARGET_CANDIDATES,
        warm_start=True,
        data_batch_size=2,
        data_window=32,
    )
    # In half precision, as the original.
    paper = LearnConfig(updates=50_000, settle=SettleConfig(patience=0), behavior=BehaviorConfig(precision="auto"))
    tiny = ActorCriticConfig(num_layers=1, hidden_dim=16, horizon=8)
    debug = replace(
        mini,
        behavior=BehaviorConfig(tiny, window=4),
        starts=StartConfig(num_starts=8),
        updates=4,
        target_candidates=2,
        data_window=8,
        log_every=1,
        save_every=2,
    )
    return {"mini": mini, "paper": paper, "debug": debug}
