"""The models in the package load, fit the VLM beside them, and preview a prompt."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from genrl.run.imagine import ImagineConfig, imagine
from genrl.run.prompting import ASSETS, PromptedModel, load_model

SHIPPED = {"walker-mini": ("walker", 6), "stickman-mini": ("stickman", 10)}


@pytest.fixture(scope="module", params=SHIPPED)
def model(request: pytest.FixtureRequest) -> PromptedModel:
    return load_model(request.param)


def test_it_was_made_with_the_shipped_vlm_for_its_body(model: PromptedModel) -> None:
    spec = model.model.spec
    assert (spec.domain, spec.action_dim) == SHIPPED[model.name]
    assert (spec.look, spec.vlm) == ("fast", "mini")
    assert model.vlm.checksum == spec.vlm_checksum
    assert model.general is not None


@pytest.mark.parametrize("name", SHIPPED)
def test_it_takes_no_more_room_than_agreed(name) -> None:
    assert sum(file.stat().st_size for file in (ASSETS / name).rglob("*.safetensors")) < 15_000_000


def test_opposite_prompts_have_different_previews_that_are_the_same_each_time(model: PromptedModel) -> None:
    standing, lying = (model.imagine(text, steps=8) for text in ("standing up straight", "lying on the floor"))
    assert standing.shape == (8, 64, 64, 3) and standing.dtype == np.uint8
    np.testing.assert_array_equal(standing, model.imagine("standing up straight", steps=8))
    # The body is brighter and redder than floor and sky: a standing one reaches into the upper half of the picture.
    red = [clip[..., 0].astype(float) - clip[..., 2] for clip in (standing, lying)]
    upper = [(body[:, :28] > 40).mean() for body in red]
    assert upper[0] > 2 * upper[1]


def test_a_picture_shows_four_moments_one_below_the_other(tmp_path, model: PromptedModel) -> None:
    (preview,) = imagine(ImagineConfig(prompt=("walking",), steps=10, out=tmp_path / "walking.png", scale=1))
    picture = np.asarray(Image.open(tmp_path / "walking.png"))
    label = picture.shape[0] // 4 - 64
    assert picture.shape == (4 * (64 + label), 64, 3)
    for row, moment in enumerate((0, 3, 6, 9)):
        np.testing.assert_array_equal(picture[(row + 1) * label + row * 64 :][:64], preview.frames[moment])


def test_a_preview_fits_its_own_prompt_better_than_most(model: PromptedModel) -> None:
    assert model.groundability("lying on the floor").z_score > 1.0
