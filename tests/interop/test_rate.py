"""Every n-th frame, and n steps as one, against a plain loop."""

from __future__ import annotations

import numpy as np
import pytest

from genrl.data.episode import Episode
from genrl.infra.errors import UserError
from genrl.interop.rate import frames_per_row, thinned
from tests.interop.travel import noisy_episode


def looped(episode: Episode, every: int, merge: str) -> list[tuple]:
    """(frame, action, reward, end) of each row, step by step as an environment that repeats actions would go."""
    rows = [(0, episode.action[0], episode.reward[0], episode.is_terminal[0])]
    actions: list = []
    reward, ended = 0.0, False
    for row in range(1, len(episode)):
        actions.append(episode.action[row].astype(float))
        reward += float(episode.reward[row])
        ended |= bool(episode.is_terminal[row])
        if len(actions) == every or (row == len(episode) - 1 and ended):
            rows.append((row, sum(actions) / len(actions) if merge == "mean" else actions[-1], reward, ended))
            actions, reward, ended = [], 0.0, False
    return rows


@pytest.mark.parametrize("merge", ["mean", "last"])
@pytest.mark.parametrize("ends", [True, False])
@pytest.mark.parametrize("every", [1, 2, 3, 7, 40])
@pytest.mark.parametrize("rows", [1, 2, 7, 8, 9, 22])
def test_it_is_what_a_loop_over_the_steps_gives(rows: int, every: int, ends: bool, merge) -> None:
    episode = noisy_episode(rows, seed=rows)
    episode.is_terminal[-1] = ends
    expected, found = looped(episode, every, merge), thinned(episode, every, merge)
    kept = [row for row, *_ in expected]
    assert np.array_equal(found.frames, episode.frames[kept]) and np.array_equal(found.state, episode.state[kept])
    assert np.allclose(found.action, [action for _, action, *_ in expected], atol=1e-6)
    assert np.allclose(found.reward, [reward for *_, reward, _ in expected], atol=1e-5)
    assert found.is_terminal.tolist() == [end for *_, end in expected]
    assert (found.action.dtype, found.reward.dtype, found.is_terminal.dtype) == (np.float32, np.float32, bool)


def test_rates_that_are_nearly_whole_multiples_count_as_such() -> None:
    assert [frames_per_row(fps, 10.0, "it") for fps in (10, 9.99, 29.97, 30, 59.94, 120)] == [1, 1, 3, 3, 6, 12]
    assert frames_per_row(23.976, None, "it") == 1
    for fps in (24, 25, 15, 5, 14.7):
        with pytest.raises(UserError, match=f"it has {fps} frames a second, no whole multiple of --store-fps 10"):
            frames_per_row(fps, 10.0, "it")
