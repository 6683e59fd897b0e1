"""InternVideo2 keeps the protocol and gives what the original gave, from its published file to embeddings."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from genrl.infra.errors import UserError
from genrl.run.vlm_convert import ConvertConfig, convert
from genrl.vlm import internvideo2
from genrl.vlm.internvideo2 import InternVideo2, load_internvideo2
from genrl.vlm.internvideo2_config import InternVideo2Config
from genrl.vlm.internvideo2_vision import AttentionPooling, RMSNorm, VideoTower
from genrl.vlm.protocol import VideoLanguageModel
from tests.parity.check_vlm import fixture_config
from tests.vlm.internvideo2_tiny import (
    TINY,
    VOCABULARY,
    fixture_arrays,
    tiny_internvideo2,
    tiny_tensors,
    write_published,
)
from tests.vlm.tiny import noise

pytest.importorskip("transformers", reason="the text tower needs the extra vlm")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> InternVideo2:
    return tiny_internvideo2(tmp_path_factory.mktemp("tiny"))


def test_it_is_a_video_language_model(model: InternVideo2) -> None:
    assert isinstance(model, VideoLanguageModel)
    assert (model.name, model.embed_dim, model.frames_per_clip, model.image_size) == ("internvideo2", 12, 4, 28)
    real = InternVideo2Config()
    assert (real.embed_dim, real.frames_per_clip, real.image_size, real.grid) == (512, 8, 224, 16)


def test_published_file_to_features_of_the_original(tmp_path: Path) -> None:
    arrays = fixture_arrays()
    config = fixture_config(json.loads(str(arrays["config_json"])))
    tensors = {
        name.removeprefix("ckpt/"): torch.from_numpy(array)
        for name, array in arrays.items()
        if name.startswith("ckpt/")
    }
    official = write_published(tmp_path, tensors, [str(token) for token in arrays["in/vocab"]])
    converted = convert(ConvertConfig(official, tmp_path / "converted", model=config))
    texts = [str(text) for text in arrays["in/texts"]]
    known = [row for row, text in enumerate(texts) if text != "xyzzy"]  # the one that holds no word of the vocabulary
    for model in (load_internvideo2(converted), load_internvideo2(official, config=config)):
        expected = torch.from_numpy(arrays["out/text_feature"])[known]
        assert torch.allclose(model.embed_text([texts[row] for row in known]), expected, atol=1e-5, rtol=0)
        square = torch.from_numpy(arrays["pre/frames_u8"])
        expected = torch.from_numpy(arrays["pre/prompt_video_feature"])[0]
        assert torch.allclose(model.embed_prompt_video(square), expected, atol=1e-5, rtol=0)
        clips = torch.from_numpy(arrays["in/clip"])
        patches = model.vision_encoder.patch_embed(clips.flatten(0, 1)).unflatten(0, clips.shape[:2])
        expected = torch.from_numpy(arrays["out/video_feature"])
        assert torch.allclose(model.project_patches(patches), expected, atol=1e-5, rtol=0)


def test_a_converted_model_is_the_published_one(tmp_path: Path) -> None:
    official = write_published(tmp_path)
    converted = load_internvideo2(convert(ConvertConfig(official, tmp_path / "converted", model=TINY)))
    direct = load_internvideo2(official, config=TINY)
    clips = noise(2, 4, 28, 28)
    assert torch.equal(converted.embed_video(clips), direct.embed_video(clips))
    assert torch.equal(converted.embed_text(["walking"]), direct.embed_text(["walking"]))
    assert converted.checksum == direct.checksum and len(direct.checksum) == 12


def test_the_checksum_tells_weights_words_and_sizes_apart(tmp_path: Path) -> None:
    same = load_internvideo2(write_published(tmp_path / "a"), config=TINY, dtype=torch.bfloat16)
    again = load_internvideo2(write_published(tmp_path / "b"), config=TINY)
    weights = load_internvideo2(write_published(tmp_path / "c", tiny_tensors(seed=1)), config=TINY)
    swapped = [*VOCABULARY[:-2], VOCABULARY[-1], VOCABULARY[-2]]
    words = load_internvideo2(write_published(tmp_path / "d", vocabulary=swapped), config=TINY)
    sizes = load_internvideo2(write_published(tmp_path / "e"), config=replace(TINY, frames_per_clip=3))
    assert same.checksum == again.checksum
    assert len({model.checksum for model in (same, weights, words, sizes)}) == 4


def test_embeddings_are_unit_vectors_in_single_precision(model: InternVideo2) -> None:
    for embedding in (model.embed_video(noise(3, 4, 40, 40)), model.embed_text(["walking", "a", "run!"])):
        assert embedding.dtype == torch.float32 and embedding.shape == (3, 12)
        assert torch.allclose(embedding.norm(dim=-1), torch.ones(3), atol=1e-5)


def test_nothing_embeds_to_nothing(model: InternVideo2) -> None:
    assert model.embed_text([]).shape == (0, 12)
    assert model.embed_video(noise(0, 4, 28, 28)).shape == (0, 12)


@pytest.mark.parametrize("at_once", [1, 5, 100])
@pytest.mark.parametrize("size", [28, 20])
def test_sliding_embedding_equals_embedding_every_clip(
    model: InternVideo2, at_once: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = noise(21, size, size)
    clips = torch.stack([frames[end - 4 : end] for end in range(4, 22)])
    expected = model.embed_video(clips)
    monkeypatch.setattr(model, "clips_at_once", at_once)
    sliding = model.embed_frames_sliding(frames)
    assert torch.equal(sliding[:3], torch.zeros(3, 12))
    assert torch.allclose(sliding[3:], expected, atol=1e-5)


def test_sliding_resizes_every_frame_once(model: InternVideo2, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []
    prepare = internvideo2.prepare_frames
    monkeypatch.setattr(
        internvideo2, "prepare_frames", lambda frames, size: (seen.append(frames), prepare(frames, size))[1]
    )
    monkeypatch.setattr(model, "clips_at_once", 3)
    frames = noise(23, 28, 28)
    model.embed_frames_sliding(frames)
    assert torch.equal(torch.cat(seen), frames)
    assert max(len(part) for part in seen) == 3 + 4 - 1


@pytest.mark.parametrize("length", [0, 1, 3])
def test_an_episode_shorter_than_a_clip_has_no_embedding(model: InternVideo2, length: int) -> None:
    assert torch.equal(model.embed_frames_sliding(noise(length, 28, 28)), torch.zeros(length, 12))


def test_a_longer_clip_is_resampled_to_the_nearest_frames(model: InternVideo2) -> None:
    clip = noise(1, 7, 28, 28)
    assert torch.allclose(model.embed_video(clip), model.embed_video(clip[:, ::2]), atol=1e-6)


def test_a_picture_is_a_clip_that_stands_still(model: InternVideo2) -> None:
    picture = noise(1, 1, 28, 28)
    assert torch.allclose(model.embed_video(picture), model.embed_video(picture.expand(1, 4, 28, 28, 3)), atol=1e-6)


def test_wide_pictures_are_cut_to_the_middle(model: InternVideo2) -> None:
    middle = noise(1, 4, 40, 40)
    wide = torch.cat([noise(1, 4, 40, 9, seed=1), middle, noise(1, 4, 40, 9, seed=2)], dim=3)
    assert torch.equal(model.embed_video(wide), model.embed_video(middle))


def test_clips_of_another_type_are_refused(model: InternVideo2) -> None:
    with pytest.raises(ValueError, match="uint8"):
        model.embed_video(torch.zeros(1, 4, 28, 28, 3))


@pytest.mark.parametrize(("prompt", "complaint"), [("", "empty"), ("  \n", "empty"), ("日本語 xyz", "English")])
def test_a_prompt_without_words_is_refused(model: InternVideo2, prompt: str, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        model.embed_text(["walking", prompt])


def test_texts_do_not_influence_each_other(model: InternVideo2, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genrl.vlm.internvideo2.TEXTS_AT_ONCE", 2)
    together = model.embed_text(["run", "a person walking a person", "walk"])
    assert torch.allclose(together[0], model.embed_text(["run"])[0], atol=1e-6)
    assert torch.allclose(together[2], model.embed_text(["walk"])[0], atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_near_single_precision(model: InternVideo2, dtype: torch.dtype, tmp_path: Path) -> None:
    half = tiny_internvideo2(tmp_path, dtype)
    assert half.dtype == dtype and {parameter.dtype for parameter in half.parameters()} == {dtype}
    clips, texts = noise(3, 4, 28, 28), ["walking", "a run!", "lunge_pose"]
    for ours, single in (
        (half.embed_video(clips), model.embed_video(clips)),
        (half.embed_text(texts), model.embed_text(texts)),
    ):
        assert ours.dtype == torch.float32
        assert float(F.cosine_similarity(ours, single).min()) > 0.999


def test_another_type_of_numbers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="float32, bfloat16 or float16, not torch.float64"):
        load_internvideo2(tmp_path / "x.pt", dtype=torch.float64)


def test_a_loaded_model_is_frozen_and_draws_nothing_at_random(model: InternVideo2) -> None:
    assert not model.training and not any(module.training for module in model.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert model.text_encoder.bert.config.hidden_dropout_prob == 0.1  # so that a model in training would differ
    assert torch.equal(model.embed_text(["walking"]), model.embed_text(["walking"]))


def test_epsilons_are_the_originals(model: InternVideo2) -> None:
    norms = [module for module in model.vision_encoder.modules() if isinstance(module, RMSNorm)]
    assert len(norms) == 4 * TINY.vision_depth and {module.eps for module in norms} == {1e-6}
    pooling = model.vision_encoder.clip_projector
    assert {pooling.norm1_q.eps, pooling.norm1_k.eps, pooling.norm1_v.eps} == {1e-5}
    layers = [module for module in model.text_encoder.modules() if isinstance(module, torch.nn.LayerNorm)]
    assert len(layers) == 1 + 2 * TINY.text_depth and {module.eps for module in layers} == {1e-12}


def test_the_pooling_query_is_the_mean_of_all_tokens() -> None:
    torch.manual_seed(0)
    pooling, tokens = AttentionPooling(8, 2, 4), torch.randn(1, 5, 8)
    queries = []
    pooling.norm1_q.register_forward_pre_hook(lambda module, inputs: queries.append(inputs[0]))
    pooling(tokens)
    assert torch.allclose(queries[0][0, 0], tokens[0].mean(0))


def test_a_clip_takes_five_teraflop() -> None:
    def count(depth: int) -> int:
        with torch.device("meta"), FlopCounterMode(display=False) as counter:
            tower = VideoTower(replace(InternVideo2Config(), vision_depth=depth))
            tower.clip_projector(tower(torch.empty(1, 8, 3, 224, 224)))
        return counter.get_total_flops()

    one, two = count(1), count(2)
    whole = one + (InternVideo2Config().vision_depth - 1) * (two - one)
    assert whole / 1e12 == pytest.approx(5.1, abs=0.05)


@pytest.mark.slow
def test_compiled_blocks_give_the_same(tmp_path: Path, model: InternVideo2) -> None:
    compiled = load_internvideo2(write_published(tmp_path), config=TINY, compiled=True)
    clips = noise(2, 4, 28, 28)
    assert torch.allclose(compiled.embed_video(clips), model.embed_video(clips), atol=1e-5)
