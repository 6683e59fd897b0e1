"""The whole road for every body: data, embeddings, model, practice, behaviour, score, film."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from genrl.agents.expert import ExpertConfig
from genrl.agents.exploration import ExplorationConfig
from genrl.behavior.off_policy import TD3Config
from genrl.data.store import Store
from genrl.envs.domain import MODULES, get_domain
from genrl.envs.environment import make_env
from genrl.envs.tasks import domain_tasks
from genrl.infra.media import read_video
from genrl.presets import PRESETS
from genrl.run.collect import CollectConfig, collect
from genrl.run.data import DrawConfig, PackConfig, draw, pack
from genrl.run.embed import EmbedConfig, embed
from genrl.run.evaluate import EvaluateConfig, evaluate
from genrl.run.learn import learn
from genrl.run.practice import practice
from genrl.run.pretrain import pretrain
from tests.envs.bodies import require_body
from tests.run.tiny import learn_config, pretrain_config
from tests.vlm.tiny import tiny_vlm

TINY = ExpertConfig(
    td3=TD3Config(hidden_dim=16, batch_size=16), updates_per_step=0.02, prepare_updates=2, random_episodes=1
)
REPEAT = 10
"""Control steps in an env step, so that whole episodes are short."""
STEPS = 32

pytestmark = pytest.mark.gl


def collect_all(domain: str, directory: Path) -> list[Path]:
    """Exploration, and an expert for each behaviour task that learns from it; a store each."""
    explored = directory / "exploration"
    shared = {"domain": domain, "steps": STEPS, "episode_steps": STEPS // 2, "action_repeat": REPEAT, "workers": 1}
    collect(CollectConfig(explored, agent="exploration", exploration=ExplorationConfig(TINY), **shared))
    stores = [explored]
    for task in domain_tasks(domain):
        if task.group == "behaviour":
            stores.append(directory / task.name)
            collect(CollectConfig(stores[-1], agent="expert", task=task.name, pool=(explored,), expert=TINY, **shared))
    return stores


@pytest.fixture(scope="module", params=MODULES)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[Path]]:
    """A body and its stores."""
    require_body(request.param)
    return request.param, collect_all(request.param, tmp_path_factory.mktemp(request.param))


def test_every_verb_works_for_every_body(made: tuple[str, list[Path]], tmp_path: Path) -> None:
    domain, stores = made
    env = make_env(get_domain(domain).plain_task, frames=False)
    for path in stores:
        store = Store.open(path)
        assert store.spec.domain == domain and store.spec.state_dim == env.state().size
        assert store.spec.action_dim == env.physics.model.nu and store.num_frames == STEPS + 2
    vlm = tmp_path / "vlm"
    tiny_vlm().save(vlm)
    embed(EmbedConfig(tuple(stores), str(vlm), "cpu"))
    config = replace(pretrain_config(stores[0], vlm, tmp_path / "pretrain", updates=2), data=tuple(stores))
    debug = replace(PRESETS["practice"]["debug"], rounds=1)
    model = practice(
        replace(
            debug,
            model=str(pretrain(config)),
            data=tuple(stores),
            vlm=str(vlm),
            out=tmp_path / "practice",
            device="cpu",
            episodes=replace(debug.episodes, steps=16),
        )
    )
    task = domain_tasks(domain)[0].name
    policy = learn(learn_config(model, vlm, tmp_path / "learn", updates=2))[0].policy
    result = evaluate(EvaluateConfig(policy, task, episodes=2, workers=1, device="cpu"))
    assert len(result.returns) == 2 and np.isfinite(result.returns).all() and result.video is not None
    length = -(-env.domain.control_steps // REPEAT)
    assert read_video(result.video).shape == (length + 1, 256, 256, 3)


def test_packed_data_of_every_body_are_drawn_again_as_they_were(made: tuple[str, list[Path]], tmp_path: Path) -> None:
    stores = made[1]
    pack(PackConfig(tuple(stores), tmp_path / "packed.npz"))
    drawn = draw(DrawConfig(tmp_path / "packed.npz", tmp_path / "drawn", workers=1))
    for old, new in ((Store.open(a), Store.open(b)) for a, b in zip(stores, drawn, strict=True)):
        states, frames = ([store.read(name, 0, STEPS) for store in (old, new)] for name in ("state", "frames"))
        assert np.abs(states[0] - states[1]).max() < 0.006
        # On the floor of their task: on another one a quadruped's pictures differ by 2 grey levels in the mean.
        assert np.abs(frames[0].astype(int) - frames[1]).mean() < 0.3
