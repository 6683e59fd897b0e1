"""The mini VLM keeps the protocol, whatever its weights."""

from __future__ import annotations

import pytest
import torch

from genrl.envs.tasks import TASKS
from genrl.infra.errors import UserError
from genrl.vlm.captions import load_captions
from genrl.vlm.mini import MiniVLM
from genrl.vlm.protocol import VideoLanguageModel
from genrl.vlm.registry import list_vlms, load_vlm
from tests.vlm.tiny import noise, tiny_vlm


def test_it_is_a_video_language_model() -> None:
    model = tiny_vlm()
    assert isinstance(model, VideoLanguageModel)
    assert (model.name, model.embed_dim, model.frames_per_clip, model.image_size) == ("mini", 16, 8, 64)


def test_embeddings_are_unit_vectors_in_single_precision() -> None:
    model = tiny_vlm()
    for embedding in (model.embed_video(noise(3, 8, 64, 64)), model.embed_text(["walking", "a", "lie down!"])):
        assert embedding.dtype == torch.float32 and embedding.shape == (3, 16)
        assert torch.allclose(embedding.norm(dim=-1), torch.ones(3), atol=1e-5)


def test_nothing_embeds_to_nothing() -> None:
    model = tiny_vlm()
    assert model.embed_text([]).shape == (0, 16)
    assert model.embed_video(noise(0, 8, 64, 64)).shape == (0, 16)


def test_sliding_embedding_equals_embedding_every_clip() -> None:
    model, frames = tiny_vlm(), noise(31, 64, 64)
    sliding = model.embed_frames_sliding(frames)
    clips = torch.stack([frames[end - 8 : end] for end in range(8, 32)])
    assert torch.equal(sliding[:7], torch.zeros(7, 16))
    assert torch.allclose(sliding[7:], model.embed_video(clips), atol=1e-5)


def test_sliding_embedding_does_not_depend_on_how_frames_are_cut_into_batches(monkeypatch) -> None:
    model, frames = tiny_vlm(), noise(40, 64, 64)
    whole = model.embed_frames_sliding(frames)
    monkeypatch.setattr("genrl.vlm.mini.CLIPS_AT_ONCE", 1)
    assert torch.allclose(model.embed_frames_sliding(frames), whole, atol=1e-5)


@pytest.mark.parametrize("length", [1, 7])
def test_an_episode_shorter_than_a_clip_has_no_embedding(length) -> None:
    assert torch.equal(tiny_vlm().embed_frames_sliding(noise(length, 64, 64)), torch.zeros(length, 16))


def test_a_longer_clip_is_resampled_to_the_nearest_frames() -> None:
    model, clip = tiny_vlm(), noise(1, 15, 64, 64)
    assert torch.allclose(model.embed_video(clip), model.embed_video(clip[:, ::2]), atol=1e-6)


def test_a_picture_is_a_clip_that_stands_still() -> None:
    model, picture = tiny_vlm(), noise(1, 1, 64, 64)
    assert torch.allclose(model.embed_video(picture), model.embed_video(picture.expand(1, 8, 64, 64, 3)), atol=1e-6)


def test_larger_pictures_are_cut_to_the_middle_and_resized() -> None:
    model, small = tiny_vlm(), noise(1, 8, 64, 64)
    doubled = small.repeat_interleave(2, 2).repeat_interleave(2, 3)
    wide = torch.cat([noise(1, 8, 128, 30), doubled, noise(1, 8, 128, 30)], dim=3)
    assert torch.equal(model.embed_video(wide), model.embed_video(doubled))


def test_clips_of_another_type_are_refused() -> None:
    with pytest.raises(ValueError, match="uint8"):
        tiny_vlm().embed_video(torch.zeros(1, 8, 64, 64, 3))


@pytest.mark.parametrize(("prompt", "complaint"), [("", "empty"), ("  \n", "empty"), ("日本語", "English")])
def test_a_prompt_without_words_is_refused(prompt, complaint) -> None:
    with pytest.raises(UserError, match=complaint):
        tiny_vlm().embed_text(["walking", prompt])


def test_texts_do_not_influence_each_other() -> None:
    model = tiny_vlm()
    together = model.embed_text(["run", "a long caption of many words for a walk"])
    assert torch.allclose(together[0], model.embed_text(["run"])[0], atol=1e-6)


def test_case_and_punctuation_between_words_do_not_hide_words() -> None:
    model = tiny_vlm()
    assert torch.allclose(model.embed_text(["Walking BACK"]), model.embed_text(["walking back"]))
    assert model.text.tokens.ids("lunge_pose")[0] == model.text.tokens.ids("lunge")[0]


def test_a_text_is_read_as_a_mixture_of_what_captions_mean(tmp_path) -> None:
    model = tiny_vlm()
    walk, jump, between = model.text(["walk", "jump", "a kangaroo walks"])
    model.keep_concepts({"walk": ["walk"], "jump": ["jump"]})
    read = model.embed_text(["a kangaroo walks"])[0]
    near, far = (20 * between @ walk).exp(), (20 * between @ jump).exp()
    mixture = (near * walk + far * jump) / (near + far)
    assert torch.allclose(read, mixture / mixture.norm(), atol=1e-5)
    assert not torch.allclose(read, between, atol=1e-2)
    model.save(tmp_path / "vlm")
    assert torch.allclose(load_vlm(str(tmp_path / "vlm")).embed_text(["a kangaroo walks"])[0], read, atol=1e-3)


def test_a_concept_is_the_mean_of_its_captions() -> None:
    model = tiny_vlm()
    model.keep_concepts({"walk": ["walk", "stroll"]})
    mean = model.text(["walk", "stroll"]).mean(0)
    assert torch.allclose(model.embed_text(["anything"])[0], mean / mean.norm(), atol=1e-6)


def test_what_was_saved_is_what_is_loaded(tmp_path) -> None:
    model, clips = tiny_vlm(), noise(2, 8, 64, 64)
    model.save(tmp_path / "vlm", {"seed": 0})
    loaded = load_vlm(str(tmp_path / "vlm"))
    assert torch.equal(loaded.embed_video(clips), model.embed_video(clips))
    assert torch.equal(loaded.embed_text(["jump"]), model.embed_text(["jump"]))
    assert loaded.checksum == model.checksum


def test_the_checksum_tells_weights_apart() -> None:
    assert tiny_vlm(0).checksum == tiny_vlm(0).checksum != tiny_vlm(1).checksum


def test_a_new_text_tower_keeps_the_checksum_a_new_video_tower_does_not() -> None:
    known, texts, videos = tiny_vlm(0), tiny_vlm(0), tiny_vlm(0)
    texts.text.load_state_dict(tiny_vlm(1).text.state_dict())
    videos.video.load_state_dict(tiny_vlm(1).video.state_dict())
    assert texts.checksum == known.checksum != videos.checksum


def test_a_directory_of_something_else_is_refused(tmp_path) -> None:
    from genrl.infra.checkpoint import save_checkpoint

    save_checkpoint(tmp_path / "other", {"x": torch.zeros(1)}, {"kind": "something"})
    with pytest.raises(UserError, match="not a mini VLM"):
        MiniVLM.load(tmp_path / "other")


def test_an_unknown_model_is_refused_with_a_near_name() -> None:
    assert "mini" in list_vlms()
    with pytest.raises(UserError, match="'mini'"):
        load_vlm("minni")


@pytest.mark.parametrize("text", ["asdfgh", "1234", "the quick brown fox", "qwertyuiop", "tax return", "volcano"])
def test_it_cautions_against_texts_that_are_like_no_caption(text) -> None:
    caution = load_vlm("mini").caution(text)
    assert caution is not None and repr(text) in caution and "guess" in caution and "\n" not in caution


def test_it_trusts_captions_and_most_prompts_of_the_bodies_it_knows() -> None:
    # What is learnt has no say: the random weights of a tiny one judge as the shipped model does.
    model = tiny_vlm()
    captions = [texts[0] for texts in load_captions().values()]
    assert [model.familiarity(text) for text in captions] == pytest.approx([1.0] * len(captions), abs=1e-5)
    prompts = {task.prompt for task in TASKS.values() if task.prompt and task.domain not in ("kitchen", "jaco")}
    assert {prompt for prompt in prompts if model.caution(prompt)} == {"praying", "arabesque position"}


def test_texts_embedded_unread_are_what_the_tower_makes_of_them(monkeypatch) -> None:
    model, texts = tiny_vlm(), ["walking", "kneeling down to pray", "run"]
    model.keep_concepts({"walk": ["walking"], "kneel": ["kneeling"]})
    assert model.embed_unread(texts).equal(model.text(texts))
    monkeypatch.setattr("genrl.vlm.mini.TEXTS_AT_ONCE", 2)
    assert torch.allclose(model.embed_unread(texts), model.text(texts), atol=1e-6)
    assert not torch.allclose(model.embed_unread(texts), model.embed_text(texts), atol=1e-2)
