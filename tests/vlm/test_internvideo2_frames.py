"""What InternVideo2 sees of frames, on cases one can work out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from genrl.infra.errors import UserError
from genrl.vlm.internvideo2_frames import (
    MEAN,
    STD,
    middle_square,
    normalise,
    prepare_frames,
    prepare_prompt_frames,
    prompt_clip,
    resize_integers,
)
from tests.vlm.internvideo2_tiny import fixture_arrays
from tests.vlm.tiny import noise


def test_both_ways_of_preparing_frames_are_the_originals() -> None:
    arrays = fixture_arrays()
    frames = torch.from_numpy(arrays["pre/frames_u8"])
    assert torch.allclose(prepare_frames(frames, 28), torch.from_numpy(arrays["pre/dataset_tensor"])[0], atol=1e-6)
    prompt = torch.from_numpy(arrays["pre/prompt_video_tensor"])[0]
    assert torch.equal(prepare_prompt_frames(frames, 28), prompt)


def test_white_and_black_become_what_the_statistics_say() -> None:
    white, black = torch.ones(3, 1, 1), torch.zeros(3, 1, 1)
    assert normalise(white).flatten().tolist() == pytest.approx([(1 - m) / s for m, s in zip(MEAN, STD, strict=True)])
    assert normalise(black).flatten().tolist() == pytest.approx([-m / s for m, s in zip(MEAN, STD, strict=True)])


def test_doubling_mixes_neighbours_one_to_three() -> None:
    row = torch.tensor([0, 40, 80, 120], dtype=torch.uint8)
    frame = row.view(1, 1, 4, 1).expand(1, 4, 4, 3)
    assert resize_integers(frame, 8)[0, 0, :, 0].tolist() == [0, 10, 30, 50, 70, 90, 110, 120]
    assert resize_integers(frame.transpose(1, 2), 8)[0, :, 0, 0].tolist() == [0, 10, 30, 50, 70, 90, 110, 120]


@pytest.mark.parametrize("shape", [(64, 64), (13, 31), (300, 260)])
def test_resizing_integers_is_resizing_rounded(shape: tuple[int, int]) -> None:
    frames = noise(2, *shape)
    images = frames.permute(0, 3, 1, 2).double()
    exact = torch.nn.functional.interpolate(images, (224, 224), mode="bilinear").permute(0, 2, 3, 1)
    assert float((resize_integers(frames, 224).double() - exact).abs().max()) <= 1.01


def test_frames_of_the_right_size_are_left_alone() -> None:
    frames = noise(1, 28, 28)
    assert torch.equal(resize_integers(frames, 28), frames)
    assert torch.equal(prepare_frames(frames, 28), normalise(frames.permute(0, 3, 1, 2) / 255))


def test_large_frames_are_made_small_without_aliasing() -> None:
    frames = noise(1, 96, 96)
    ours = prepare_frames(frames, 24) * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)
    pillow = np.asarray(Image.fromarray(frames[0].numpy()).resize((24, 24), Image.Resampling.BILINEAR))
    assert np.abs(ours[0].permute(1, 2, 0).numpy() * 255 - pillow).max() < 1.01


def test_the_middle_square_is_cut_out() -> None:
    frames = torch.arange(4 * 7).view(1, 4, 7, 1).expand(1, 4, 7, 3)
    assert middle_square(frames)[0, 0, :, 0].tolist() == [1, 2, 3, 4]
    assert middle_square(frames.transpose(1, 2))[0, :, 0, 0].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("length", "taken"),
    [
        (1, [0] * 8),
        (4, [0, 0, 1, 1, 2, 2, 3, 3]),
        (8, list(range(8))),
        (255, list(range(8))),
        (256, list(range(0, 16, 2))),
        (1000, list(range(0, 56, 7))),
    ],
)
def test_a_video_prompt_is_its_first_frames(length: int, taken: list[int]) -> None:
    frames = torch.arange(length).view(-1, 1, 1, 1).expand(-1, 1, 1, 3)
    assert prompt_clip(frames)[:, 0, 0, 0].tolist() == taken


@pytest.mark.parametrize("length", [0, 2, 3, 5, 7])
def test_other_short_prompts_are_refused(length: int) -> None:
    with pytest.raises(UserError, match=f"has {length} frames; a prompt needs 1, 4, or 8 or more"):
        prompt_clip(torch.zeros(length, 1, 1, 3))
