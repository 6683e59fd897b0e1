"""The mini VLM that the package carries."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import genrl
from genrl.vlm.behaviours import RETRIEVAL_CLASSES, label_clips
from genrl.vlm.captions import load_captions, load_held_out_wordings
from genrl.vlm.figure import get_figure
from genrl.vlm.motion import describe_motion
from genrl.vlm.protocol import VideoLanguageModel
from genrl.vlm.puppets import puppet_clip
from genrl.vlm.registry import load_vlm
from genrl.vlm.retrieval import measure_retrieval

CLIPS_OF_EACH = 3


def test_it_loads_by_name_and_keeps_the_protocol() -> None:
    model = load_vlm()
    assert isinstance(model, VideoLanguageModel)
    assert (model.name, model.frames_per_clip, model.image_size) == ("mini", 8, 64)


def test_its_files_are_under_ten_megabytes() -> None:
    files = (Path(genrl.__file__).parent / "assets" / "mini_vlm").rglob("*")
    assert sum(file.stat().st_size for file in files if file.is_file()) < 10e6


@pytest.mark.gl
def test_words_find_their_behaviour_far_more_often_than_by_chance() -> None:
    from genrl.envs.rendering import render_states

    rng = np.random.default_rng(12345)
    figure = get_figure("walker")
    qpos = np.stack(
        [puppet_clip(figure, behaviour, 8, rng) for behaviour in RETRIEVAL_CLASSES for _ in range(CLIPS_OF_EACH)]
    )
    states = np.concatenate([qpos, np.zeros_like(qpos)], axis=-1)
    frames = render_states("walker", states.reshape(-1, 18), "fast").reshape(*qpos.shape[:2], 64, 64, 3)
    model, labels = load_vlm(), label_clips(describe_motion(figure, qpos))
    embeddings = model.embed_video(torch.from_numpy(frames))
    captions = {name: load_captions()[name] for name in RETRIEVAL_CLASSES}
    # Chance is .05; what was measured stands in the model card.
    assert measure_retrieval(model, embeddings, labels, captions).accuracy > 0.5
    assert measure_retrieval(model, embeddings, labels, load_held_out_wordings()).accuracy > 0.3
