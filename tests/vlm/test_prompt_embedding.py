"""Wordings, baselines, and prompts that travel in a file."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from genrl.infra.errors import UserError
from genrl.vlm.embedded_prompts import EmbeddedPrompts, read_embedded_prompts
from genrl.vlm.prompt_embedding import against_baseline, mean_embedding


def test_the_mean_of_two_wordings_is_the_unit_vector_between_them() -> None:
    mean = mean_embedding(torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))
    assert torch.allclose(mean, torch.tensor([math.sqrt(0.5), math.sqrt(0.5), 0.0]))


def test_a_baseline_of_strength_0_leaves_the_goal_and_of_strength_1_only_the_direction_to_it() -> None:
    goal, baseline = torch.tensor([0.6, 0.8]), torch.tensor([1.0, 0.0])
    assert torch.allclose(against_baseline(goal, baseline, 0.0), goal)
    # From (1, 0) to (0.6, 0.8): (-0.4, 0.8), of length 0.8944.
    assert torch.allclose(against_baseline(goal, baseline, 1.0), torch.tensor([-0.4, 0.8]) / math.sqrt(0.8))


def test_in_between_it_is_the_map_of_the_papers_equation() -> None:
    goal, baseline = F.normalize(torch.randn(2, 5, generator=torch.Generator().manual_seed(0)), dim=-1)
    line = (goal - baseline)[:, None]
    projection = line @ torch.linalg.pinv(line)
    expected = 0.3 * projection @ goal + 0.7 * goal
    assert torch.allclose(against_baseline(goal, baseline, 0.3), expected / expected.norm(), atol=1e-6)


def test_a_strength_outside_and_a_baseline_that_is_the_goal_are_refused() -> None:
    goal = torch.tensor([1.0, 0.0])
    with pytest.raises(UserError, match="--baseline-strength must lie in"):
        against_baseline(goal, torch.tensor([0.0, 1.0]), 1.5)
    with pytest.raises(UserError, match="choose a more general one"):
        against_baseline(goal, goal.clone(), 0.5)


def test_a_file_holds_what_was_embedded_and_numpy_alone_reads_it(tmp_path) -> None:
    rows = torch.eye(3)
    file = tmp_path / "prompts.npz"
    EmbeddedPrompts(rows, ("walking", "a, b: ü", "clip.mp4"), ("text", "text", "video"), "mini", "abc", 20.0).save(file)
    found = read_embedded_prompts(str(file))
    assert found.embeddings.equal(rows) and found.labels == ("walking", "a, b: ü", "clip.mp4")
    assert (found.vlm, found.checksum, found.rate) == ("mini", "abc", 20.0)
    assert found.of_kind("video", "x").labels == ("clip.mp4",)
    (one,) = read_embedded_prompts(f"{file}:a, b: ü").embeddings
    assert one.equal(rows[1])
    with np.load(file, allow_pickle=False) as arrays:
        assert arrays["labels"][0] == "walking" and str(arrays["checksum"]) == "abc"
    with pytest.raises(UserError, match="no such prompt; did you mean 'walking'"):
        read_embedded_prompts(f"{file}:walkng")
    with pytest.raises(UserError, match="prompts.npz:clip.mp4 holds embeddings of videos alone; .*--video-embedding"):
        read_embedded_prompts(f"{file}:clip.mp4").of_kind("text", f"{file}:clip.mp4")
    with pytest.raises(UserError, match="must end in .npz"):
        found.save(tmp_path / "prompts.pt")
