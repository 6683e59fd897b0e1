from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from genrl.envs.appearance import Appearance
from genrl.envs.domain import get_domain
from genrl.envs.environment import make_env
from genrl.envs.rendering import StateRenderer, parallel_render, render_states
from genrl.infra.errors import UserError

pytestmark = pytest.mark.gl


@pytest.fixture(scope="module")
def states() -> np.ndarray:
    env = make_env("walker_stand", frames=False)
    env.reset(seed=0)
    steps = np.random.default_rng(0).uniform(-1, 1, (24, 6))
    return np.stack([env.step(action)[4]["state"] for action in steps])


def test_looks_differ_in_shadows_and_edges_only(states: np.ndarray) -> None:
    paper, fast = (render_states("walker", states[:4], look).astype(int) for look in ("paper", "fast"))
    difference = np.abs(paper - fast)
    assert 0.5 < difference.mean() < 12
    assert (difference.max(axis=-1) < 20).mean() > 0.5


@pytest.mark.parametrize("domain", ["cheetah", "quadruped"])
def test_a_task_on_another_floor_is_drawn_on_it(domain: str) -> None:
    env = make_env(f"{domain}_run", frames=False)
    state = env.reset(seed=0)[1]["state"][None]
    own, run = (render_states(name, state, "paper").astype(int) for name in (domain, f"{domain}_run"))
    assert np.abs(own - run).mean() > 0.3
    other = next(task for task in env.domain.rewards if task not in env.domain.own_models)
    np.testing.assert_array_equal(render_states(other, state, "paper"), own)


@pytest.mark.parametrize("domain", ["stickman", "cheetah", "quadruped"])
def test_every_body_can_look_otherwise(domain: str) -> None:
    state = make_env(get_domain(domain).plain_task, frames=False).reset(seed=0)[1]["state"][None]
    plain = render_states(domain, state, "fast").astype(int)
    green = render_states(domain, state, "fast", appearance=Appearance(azimuth=20, body_color=(0.0, 1.0, 0.0)))
    assert (green[..., 1].astype(int) - green[..., 0]).max() > 60 and np.abs(green - plain).mean() > 1
    np.testing.assert_array_equal(render_states(domain, state, "fast"), plain)


def test_sizes_looks_and_appearances_do_not_disturb_each_other(states: np.ndarray) -> None:
    first = render_states("walker", states[:3], "fast")
    painted = render_states("walker", states[:3], "fast", appearance=Appearance.random(np.random.default_rng(1)))
    large = render_states("walker", states[:3], "fast", size=128)
    render_states("walker", states[:3], "paper")
    assert painted.shape == first.shape and large.shape == (3, 128, 128, 3)
    assert np.abs(first.astype(int) - painted).mean() > 3
    np.testing.assert_array_equal(render_states("walker", states[:3], "fast"), first)
    np.testing.assert_array_equal(
        render_states("walker", states[:3], "fast", appearance=Appearance.random(np.random.default_rng(1))), painted
    )


def test_each_property_of_an_appearance_shows(states: np.ndarray) -> None:
    def draw(appearance: Appearance) -> np.ndarray:
        return render_states("walker", states[-1:], "fast", appearance=appearance).astype(int)

    plain = draw(Appearance())
    for changed in (
        Appearance(azimuth=30),
        Appearance(elevation=10),
        Appearance(distance=1.3),
        Appearance(body_color=(0.1, 0.9, 0.1)),
        Appearance(floor_color=(2.0, 0.5, 0.5)),
        Appearance(sky_color=(0.2, 1.5, 0.2)),
        Appearance(light_direction=(1.0, 0.0, -1.0)),
        Appearance(light_intensity=0.5),
    ):
        assert np.abs(draw(changed) - plain).max() > 20, changed
    green = draw(Appearance(body_color=(0.0, 1.0, 0.0)))
    assert (green[..., 1] - green[..., 0]).max() > 80
    assert np.array_equal(draw(Appearance()), plain)


def test_an_appearance_without_changes_is_the_models_own_look_but_for_the_sky(states: np.ndarray) -> None:
    own = render_states("walker", states[:2], "fast").astype(int)
    same = render_states("walker", states[:2], "fast", appearance=Appearance()).astype(int)
    assert np.abs(own - same).mean() < 1.5, "the sky has fewer pixels, nothing else changes"


def test_several_processes_draw_the_same_in_order(states: np.ndarray) -> None:
    many = np.concatenate([states] * 12)  # more than one chunk
    np.testing.assert_array_equal(parallel_render("walker", many, "fast", 2), render_states("walker", many, "fast"))


def test_bad_requests_are_named(states: np.ndarray) -> None:
    with pytest.raises(UserError, match="18 numbers"):
        render_states("walker", states[:, :5], "fast")
    with pytest.raises(UserError, match="size"):
        render_states("walker", states, "fast", size=5000)
    with pytest.raises(UserError, match="unknown look"):
        StateRenderer("walker", "pretty")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="processes"):
        parallel_render("walker", states, "fast", 0)


ORPHAN = """
import os, signal
from genrl.envs.rendering import RenderPool
import numpy as np
if __name__ == "__main__":
    pool = RenderPool("walker", "fast", 1)
    pool.render(np.zeros((1, 18)))
    print(*pool._pool._processes, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "orphan.py"
    script.write_text(ORPHAN)
    worker = int(subprocess.run([sys.executable, script], capture_output=True, text=True).stdout)
    deadline = time.monotonic() + 10
    while Path(f"/proc/{worker}/stat").exists() and time.monotonic() < deadline:
        if Path(f"/proc/{worker}/stat").read_text().split()[2] == "Z":
            break
        time.sleep(0.05)
    else:
        assert time.monotonic() < deadline, "the worker still runs"


REQUIRE = """
from genrl.envs.gl import require_gl
from genrl.infra.errors import UserError
try:
    require_gl()
except UserError as error:
    print(error)
"""


@pytest.mark.parametrize("missing", ["disable", "glfw"])
def test_without_a_gl_library_one_line_names_the_packages(missing: str) -> None:
    environment = {"MUJOCO_GL": missing, "PATH": "", "PYTHONPATH": ":".join(sys.path)}  # no DISPLAY for glfw
    result = subprocess.run([sys.executable, "-c", REQUIRE], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("\n") == 1 and "apt-get install libegl1" in result.stdout


def test_mujoco_may_be_imported_before_us() -> None:
    code = "import mujoco\nimport genrl.envs\n" + REQUIRE + "print('drawn')"
    environment = {"PATH": "", "PYTHONPATH": ":".join(sys.path)}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert result.stdout == "drawn\n", result.stdout + result.stderr


def test_torch_may_load_triton_after_something_was_drawn() -> None:
    pytest.importorskip("triton")
    script = (
        "from genrl.envs.environment import make_env; make_env('walker_stand').reset(); import torch._dynamo, triton"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
