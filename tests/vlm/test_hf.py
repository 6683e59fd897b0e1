"""Models of the `transformers` library keep the protocol, and read pictures and texts as they were trained to."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from genrl.infra.errors import UserError
from genrl.vlm import hf as backend
from genrl.vlm.hf_frames import Preprocessing, read_preprocessing
from genrl.vlm.protocol import VideoLanguageModel
from genrl.vlm.registry import load_vlm
from tests.vlm.hf_tiny import FRAMES, KINDS, LENGTH, SIZE, family, make_hf
from tests.vlm.tiny import noise

transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One directory for each kind of model."""
    return {kind: make_hf(tmp_path_factory.mktemp(kind), kind) for kind in KINDS}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def directory(directories: dict[str, Path], kind: str) -> Path:
    return directories[kind]


def load(directory: Path, kind: str, **options: Any) -> Any:
    return load_vlm(f"{family(kind)}={directory}", **options)


@pytest.fixture(scope="module")
def models(directories: dict[str, Path]) -> dict[str, Any]:
    """One loaded model of each kind; no test changes it."""
    return {kind: load(directory, kind) for kind, directory in directories.items()}


@pytest.fixture
def model(models: dict[str, Any], kind: str) -> Any:
    return models[kind]


@pytest.fixture(scope="module")
def originals(directories: dict[str, Path]) -> dict[str, Any]:
    """The library's own models."""
    return {kind: transformers.AutoModel.from_pretrained(path).eval() for kind, path in directories.items()}


# -- the protocol ---------------------------------------------------------------------------------------------------


def test_it_is_a_video_language_model(model: Any, kind: str) -> None:
    assert isinstance(model, VideoLanguageModel) and not model.training
    assert (model.name, model.frames_per_clip, model.image_size) == (family(kind), FRAMES.get(kind, 8), SIZE)
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_embeddings_are_unit_vectors_in_single_precision(model: Any, kind: str) -> None:
    texts = ["standing up", "walking", "lie down"]
    for embedding in (model.embed_video(noise(3, 8, 64, 64)), model.embed_text(texts)):
        assert embedding.dtype == torch.float32 and embedding.shape == (3, model.embed_dim)
        assert torch.allclose(embedding.norm(dim=-1), torch.ones(3), atol=1e-5)
        assert not torch.allclose(embedding[0], embedding[1], atol=1e-4)


def test_nothing_embeds_to_nothing(model: Any, kind: str) -> None:
    assert model.embed_text([]).shape == model.embed_video(noise(0, 8, 64, 64)).shape == (0, model.embed_dim)


def test_sliding_embedding_equals_embedding_every_clip(model: Any, monkeypatch) -> None:
    frames = noise(31, 40, 40)
    length = model.frames_per_clip
    clips = torch.stack([frames[end - length : end] for end in range(length, 32)])
    whole = model.embed_video(clips)
    prepared: list[int] = []
    prepare = model._prepare
    monkeypatch.setattr(model, "_prepare", lambda chunk: prepared.append(len(chunk)) or prepare(chunk))
    for at_once in (64, 5, 1):
        monkeypatch.setattr(backend, "FRAMES_AT_ONCE", at_once)
        prepared.clear()
        sliding = model.embed_frames_sliding(frames)
        assert torch.equal(sliding[: length - 1], torch.zeros(length - 1, model.embed_dim))
        assert torch.allclose(sliding[length - 1 :], whole, atol=1e-5)
        assert sum(prepared) == 31 and max(prepared) <= at_once
    assert not model.embed_frames_sliding(frames[: length - 1]).any()


def test_no_more_frames_pass_the_tower_together_than_the_bound(model: Any, kind: str, monkeypatch) -> None:
    monkeypatch.setattr(backend, "FRAMES_AT_ONCE", 16)
    seen: list[int] = []
    tower = model.model.video_model if kind == "videoprism" else model.model.vision_model
    pixels = "pixel_values_videos" if kind == "videoprism" else "pixel_values"
    frames = 2 if kind == "videoprism" else 1  # Axes of (N, L, 3, h, w) that count frames, or of (N * L, ...).
    hook = tower.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs[pixels].shape[:frames].numel()), with_kwargs=True
    )
    model.embed_frames_sliding(noise(41, 40, 40))
    model.embed_video(noise(9, 8, 40, 40))
    hook.remove()
    assert seen and max(seen) <= 16


def test_another_number_of_frames_is_resampled_to_the_nearest(model: Any, kind: str) -> None:
    length = model.frames_per_clip
    clip = noise(1, 2 * length - 1, 40, 40)
    assert torch.allclose(model.embed_video(clip), model.embed_video(clip[:, ::2]), atol=1e-6)


def test_the_order_of_frames_matters_to_models_of_clips_alone(model: Any, kind: str) -> None:
    clip = noise(1, model.frames_per_clip, 40, 40)
    same = torch.allclose(model.embed_video(clip), model.embed_video(clip.flip(1)), atol=1e-5)
    assert same == (kind not in ("xclip", "videoprism"))


def test_texts_do_not_influence_each_other(model: Any, kind: str) -> None:
    together = model.embed_text(["up", "jump a lunge"])
    assert torch.allclose(together[:1], model.embed_text(["up"]), atol=1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_lower_precision_is_near_and_has_the_same_checksum(model: Any, directory: Path, kind: str, dtype: str) -> None:
    whole, half = model, load(directory, kind, dtype=dtype)
    assert half.model.dtype == getattr(torch, dtype) and half.checksum == whole.checksum
    clips = noise(2, 8, 40, 40)
    for one, other in [
        (whole.embed_video(clips), half.embed_video(clips)),
        (whole.embed_text(["walking"]), half.embed_text(["walking"])),
    ]:
        assert other.dtype == torch.float32
        assert F.cosine_similarity(one, other).min() > 0.995


# -- weights --------------------------------------------------------------------------------------------------------


def test_the_checksum_survives_saving_again_and_tells_weights_apart(
    model: Any, originals: dict[str, Any], kind: str, tmp_path: Path
) -> None:
    again = make_hf(tmp_path / "again", kind)
    (again / "model.safetensors").unlink()
    originals[kind].save_pretrained(again, max_shard_size="20KB")
    assert load(again, kind).checksum == model.checksum
    assert load(make_hf(tmp_path / "other", kind, seed=1), kind).checksum != model.checksum


def test_the_checksum_knows_the_preprocessing(models: dict[str, Any], tmp_path: Path) -> None:
    changed = make_hf(tmp_path / "changed", "clip")
    settings = json.loads((changed / "preprocessor_config.json").read_text())
    (changed / "preprocessor_config.json").write_text(json.dumps(settings | {"resample": 2}))
    assert load(changed, "clip").checksum != models["clip"].checksum


def test_weights_that_lack_a_tensor_are_refused_not_made_up(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    file = make_hf(tmp_path / "clip", "clip") / "model.safetensors"
    tensors = load_file(file)
    del tensors["visual_projection.weight"]
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(UserError, match="lack 1 tensors, such as visual_projection.weight"):
        load(tmp_path / "clip", "clip")


def test_a_damaged_file_of_weights_gets_one_line(tmp_path: Path) -> None:
    (make_hf(tmp_path / "clip", "clip") / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(UserError, match="its weights cannot be read"):
        load(tmp_path / "clip", "clip")


def test_a_checkpoint_of_another_family_is_refused_by_its_name(directories: dict[str, Path]) -> None:
    with pytest.raises(UserError, match="of type 'xclip'; name it --vlm xclip="):
        load(directories["xclip"], "clip")
    # SigLIP 2 has models of SigLIP's type; their tokens tell.
    with pytest.raises(UserError, match="has no '</s>'; it belongs to another family"):
        load_vlm(f"siglip={directories['siglip2']}")


def test_only_models_that_leave_the_frames_open_take_another_number(directory: Path, kind: str) -> None:
    if kind == "xclip":
        with pytest.raises(UserError, match="clips of 4 frames only, not of 6"):
            load(directory, kind, frames=6)
        return
    model, frames = load(directory, kind, frames=6), noise(9, 40, 40)
    assert model.frames_per_clip == 6
    sliding = model.embed_frames_sliding(frames)
    assert not sliding[:5].any()
    assert torch.allclose(sliding[5:6], model.embed_video(frames[None, :6]), atol=1e-5)


# -- what the library's models give ---------------------------------------------------------------------------------


def test_clips_embed_as_by_the_library_itself(
    model: Any, originals: dict[str, Any], directory: Path, kind: str
) -> None:
    own, clip = originals[kind], noise(1, FRAMES.get(kind, 8), SIZE, SIZE)
    pixels = read_preprocessing(directory, own.config.model_type)(clip[0])
    with torch.no_grad():
        if kind == "xclip":
            expected = own.get_video_features(pixels[None]).pooler_output
        elif kind == "videoprism":
            expected = own.get_video_features(pixels[None]).pooler_output[:, 0]
        elif kind == "naflex":
            processor = transformers.Siglip2ImageProcessorPil.from_pretrained(directory)
            inputs = processor([Image.fromarray(frame.numpy()) for frame in clip[0]], return_tensors="pt")
            expected = mean_of_units(own.get_image_features(**inputs).pooler_output)
        else:
            expected = mean_of_units(own.get_image_features(pixels).pooler_output)
    assert torch.allclose(model.embed_video(clip), F.normalize(expected, dim=-1), atol=1e-5)


def mean_of_units(pictures: torch.Tensor) -> torch.Tensor:
    return (pictures / pictures.norm(dim=-1, keepdim=True)).mean(0, keepdim=True)


@pytest.mark.parametrize("kind", ["clip", "xclip", "videoprism", "siglip2"])
def test_texts_embed_as_by_the_librarys_tokenizer_and_model(
    model: Any, originals: dict[str, Any], directory: Path, kind: str
) -> None:
    text = "lunge pose"
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    if kind == "siglip2":  # The library's class pads to the left and adds no <eos>; the hub's configuration says both.
        tokenizer.padding_side = "right"
        ids = tokenizer(text + "<eos>", padding="max_length", max_length=LENGTH, return_tensors="pt").input_ids
        inputs = {"input_ids": ids}
    elif kind == "videoprism":
        inputs = tokenizer(text + ".", padding="max_length", max_length=LENGTH, return_tensors="pt")
    else:
        inputs = tokenizer([text], return_tensors="pt")
    with torch.no_grad():
        expected = originals[kind].get_text_features(**inputs).pooler_output
    assert torch.allclose(model.embed_text([text]), F.normalize(expected, dim=-1), atol=1e-5)


# -- texts ----------------------------------------------------------------------------------------------------------


def test_texts_are_brought_to_the_form_of_the_training(directories: dict[str, Path], models: dict[str, Any]) -> None:
    words = {kind: model.tokens for kind, model in models.items()}
    pieces = ["▁standing", "▁up", "▁straight"]
    siglip = {token: number for number, token in enumerate(siglip_pieces(directories["siglip"]))}
    assert words["siglip"].ids("Standing up,  STRAIGHT!") == [*(siglip[piece] for piece in pieces), siglip["</s>"]]
    videoprism = {token: number for number, token in enumerate(siglip_pieces(directories["videoprism"]))}
    expected = [*(videoprism[piece] for piece in pieces), videoprism["."]]
    assert (
        words["videoprism"].ids("Standing up, straight!") == words["videoprism"].ids("standing-up straight") == expected
    )
    assert words["siglip2"].ids("JUMP") == words["siglip2"].ids("jump")
    assert words["clip"].ids("Jump") == words["clip"].ids("jump") != words["clip"].ids("jump!")


def siglip_pieces(directory: Path) -> list[str]:
    return [piece for piece, _ in json.loads((directory / "tokenizer.json").read_text())["model"]["vocab"]]


def test_siglip_reads_its_padding_and_the_others_do_not(models: dict[str, Any]) -> None:
    for kind, padded in [("siglip", True), ("siglip2", True), ("clip", False), ("videoprism", False)]:
        ids, mask = models[kind].tokens(["jump", "lunge pose"])
        assert (mask is None) == padded
        if mask is None:
            assert ids.shape == (2, LENGTH)
        else:
            assert mask.sum(1).tolist() == [len(row) for row in (ids[0][mask[0] > 0], ids[1][mask[1] > 0])]
            assert mask[1].all() and not mask[0].all()


def test_a_text_too_long_is_cut_with_a_warning_and_keeps_its_end(model: Any, kind: str) -> None:
    tokens = model.tokens
    with pytest.warns(UserWarning, match="the model reads the first"):
        ids = tokens.ids("kneeling " * 80)
    assert len(ids) == LENGTH
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        short = tokens.ids("up")
    if kind != "videoprism":
        assert ids[-1] == short[-1]


@pytest.mark.parametrize("text", ["", "  ", "!!!", "日本語"])
def test_a_prompt_without_words_is_refused(models: dict[str, Any], text: str) -> None:
    for kind in ("siglip", "videoprism"):
        with pytest.raises(UserError, match="empty|no word that the model can read"):
            models[kind].embed_text(["walking", text])


def test_a_directory_without_a_tokenizer_says_what_is_missing(tmp_path: Path) -> None:
    directory = make_hf(tmp_path / "siglip", "siglip")
    (directory / "tokenizer.json").unlink()
    with pytest.raises(UserError, match="has no tokenizer.json"):
        load(directory, "siglip")


# -- pictures -------------------------------------------------------------------------------------------------------

PROCESSORS = {
    "clip": "CLIPImageProcessorPil",
    "siglip": "SiglipImageProcessorPil",
    "siglip2": "SiglipImageProcessorPil",
    "naflex": "Siglip2ImageProcessorPil",
    "xclip": "VideoMAEImageProcessorPil",
}
ONE_LEVEL = 1 / 255 / 0.22
"""Most that a pixel may differ by, a tie that Pillow rounds otherwise; 0.22 is the least standard deviation."""


@pytest.mark.parametrize("size", [(32, 32), (64, 64), (17, 17), (224, 224), (40, 75), (75, 40)])
def test_pictures_are_prepared_as_by_the_librarys_processor(
    model: Any, directory: Path, kind: str, size: tuple[int, int]
) -> None:
    frames = smooth(3, *size)
    ours = model.preprocessing(frames)
    wanted = frames
    if kind in ("siglip", "siglip2", "naflex", "videoprism"):  # Which would squeeze it.
        side = min(size)
        top, left = (size[0] - side) // 2, (size[1] - side) // 2
        wanted = frames[:, top : top + side, left : left + side]
    pictures = [Image.fromarray(frame.numpy()) for frame in wanted]
    if kind == "videoprism":  # Its processor needs torchvision: Pillow by hand.
        resized = [np.asarray(picture.resize((SIZE, SIZE), Image.Resampling.BICUBIC)) for picture in pictures]
        theirs = torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2) / 255
    else:
        processor = getattr(transformers, PROCESSORS[kind]).from_pretrained(directory)
        if kind == "xclip":
            theirs = processor([pictures], return_tensors="pt").pixel_values[0]
        else:
            theirs = processor(pictures, return_tensors="pt").pixel_values
    if kind == "naflex":
        ours = backend._patches(ours, 16)["pixel_values"]
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() < ONE_LEVEL
    assert (ours - theirs).abs().mean() < ONE_LEVEL / 10


def smooth(count: int, height: int, width: int) -> torch.Tensor:
    """uint8 pictures with edges and slopes, and noise in a corner."""
    rows, columns = torch.meshgrid(torch.linspace(0, 6, height), torch.linspace(0, 9, width), indexing="ij")
    waves = torch.stack([torch.sin(rows * (i + 1) + columns) * 100 + 128 for i in range(3 * count)])
    frames = waves.view(count, 3, height, width).permute(0, 2, 3, 1).round().to(torch.uint8).contiguous()
    frames[:, : height // 4, : width // 4] = noise(count, height // 4, width // 4)
    frames[:, height // 2 :, width // 2 :] = 255
    return frames


def test_an_older_configuration_of_numbers_means_the_same(tmp_path: Path) -> None:
    old = {"feature_extractor_type": "CLIPFeatureExtractor", "size": 224, "crop_size": 224, "resample": 3}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(old))
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    assert read_preprocessing(tmp_path, "clip") == Preprocessing(224, 224, False, "bicubic", 1 / 255, mean, std)


def test_a_larger_edge_than_the_cut_is_resized_and_cut(tmp_path: Path) -> None:
    processor = transformers.CLIPImageProcessorPil(size={"shortest_edge": 40}, crop_size={"height": 32, "width": 32})
    processor.save_pretrained(tmp_path)
    frames = smooth(1, 64, 90)
    ours = read_preprocessing(tmp_path, "clip")(frames)
    theirs = processor(Image.fromarray(frames[0].numpy()), return_tensors="pt").pixel_values
    assert ours.shape == theirs.shape == (1, 3, 32, 32) and (ours - theirs).abs().max() < ONE_LEVEL


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"resample": 1}, "resample 1"),
        ({"size": {"height": 32, "width": 48}, "do_center_crop": False}, "only squares"),
        ({"do_resize": False}, "does not resize"),
        ({"size": 16, "crop_size": 32}, "a cut of 32"),
    ],
)
def test_steps_that_are_not_known_are_refused(tmp_path: Path, settings: dict[str, Any], complaint: str) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    with pytest.raises(UserError, match=complaint):
        read_preprocessing(tmp_path, "clip")


def test_a_directory_without_a_processor_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no preprocessor_config.json"):
        read_preprocessing(tmp_path, "clip")
