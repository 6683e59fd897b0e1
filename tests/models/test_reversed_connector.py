"""The reversed connector: which codes make a clip, and that it learns what they show."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from genrl.models.reversed_connector import ReversedConnector, spread_clips
from genrl.models.rssm import RssmConfig
from tests.codes import fixed_view, random_codes

RSSM = RssmConfig(deter_dim=8, hidden_dim=8, num_variables=3, num_classes=4)


def test_every_clip_has_an_embedding_that_is_its_own() -> None:
    connector, codes = ReversedConnector(RSSM, 4, 10, 16), random_codes(2, 7)
    embedding = connector(codes)
    assert embedding.shape == (2, 4, 10)
    torch.testing.assert_close(embedding.norm(dim=-1), torch.ones(2, 4))
    torch.testing.assert_close(embedding[:, 2], connector(codes[:, 2:6])[:, 0])


@pytest.mark.parametrize(("steps", "starts"), [(4, [0]), (5, [1]), (7, [1, 3]), (9, [1, 3, 5])])
def test_spread_clips_begin_every_half_clip_and_end_with_the_sequence(steps: int, starts: list[int]) -> None:
    codes = random_codes(2, steps)
    clips = spread_clips(codes, 4)
    assert clips.equal(torch.stack([codes[:, start : start + 4] for start in starts], dim=1))


def test_a_clip_of_one_frame_is_every_frame() -> None:
    codes = random_codes(2, 3)
    assert spread_clips(codes, 1).equal(codes[:, :, None])


def test_it_learns_what_clips_show() -> None:
    torch.manual_seed(0)
    connector, view = ReversedConnector(RSSM, 4, 10, 64), fixed_view(10)
    optimizer = torch.optim.Adam(connector.parameters(), 3e-3)
    for _ in range(300):
        clips = random_codes(64, 4)
        connector.loss(clips, view(clips)).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    clips = random_codes(200, 4)
    assert F.cosine_similarity(connector(clips)[:, 0], view(clips)).mean() > 0.9
    torch.testing.assert_close(
        connector.loss(clips, view(clips)), 1 - F.cosine_similarity(connector(clips)[:, 0], view(clips))
    )
