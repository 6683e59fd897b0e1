"""`genrl import`, and prompting a model whose video-language model is not here."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from genrl import cli
from genrl.behavior.policy import Policy
from genrl.infra.errors import UserError
from genrl.models.foundation import FoundationModel
from genrl.presets import PRESETS
from genrl.run.imagine import ImagineConfig, imagine
from genrl.run.learn import directory_names, learn
from genrl.run.prompting import Prompt, load_model
from genrl.run.snapshot import SnapshotConfig, import_snapshot
from tests.interop.pickles import RELEASE, SNAPSHOT, call, changed, infected, member, name, text

EXPECTED = SNAPSHOT.with_name("peer_snapshot_tiny_expected.npz")
PICKLE = member(SNAPSHOT, "data.pkl")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An imported model."""
    return import_snapshot(SnapshotConfig(RELEASE, tmp_path_factory.mktemp("imported") / "model")).path


@pytest.fixture
def complaint(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Runs `genrl WORDS`, which must exit with 2 and say why in one line; gives the line."""
    monkeypatch.delenv("GENRL_TRACEBACK", raising=False)

    def run(*words: str | Path) -> str:
        capsys.readouterr()
        assert cli.main([str(word) for word in words]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert lines[-1].startswith("genrl: error: ")
        return lines[-1].removeprefix("genrl: error: ")

    return run


def test_the_verb_tells_what_it_found_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["import", str(SNAPSHOT), "--out", str(tmp_path / "model")]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "snapshot:  training snapshot, step 2, 1.7 MB",
        "model:     114074 parameters; recurrent state 32, layers 32, 4 variables of 6 classes, "
        "first convolution 4 channels",
        "made for:  stickman (task stickman_walk), actions of 3, look paper, 20 frames a second",
        "VLM:       internvideo2, embeddings of 24, clips of 8 frames",
        "left out:  _acting_behavior (33 tensors); optimisers and caches (331 tensors)",
        f"model: {tmp_path / 'model'}",
    ]
    assert "import: 110/110 tensors" in err
    assert FoundationModel.load(tmp_path / "model").spec.vlm == "internvideo2"


def test_an_unknown_body_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pickle = (b"stickman_walk", b"minecraft_dig")
    file = changed(tmp_path / "other.pt", {"data.pkl": PICKLE.replace(*pickle)})
    import_snapshot(SnapshotConfig(file, tmp_path / "model"))
    assert "unknown (task minecraft_dig; --domain says which body it is)" in capsys.readouterr().out
    import_snapshot(SnapshotConfig(file, tmp_path / "model", domain="walker", fresh=True))
    assert "walker (task minecraft_dig), actions of 3" in capsys.readouterr().out


def test_a_package_of_ones_own_may_be_named(tmp_path: Path, complaint: Callable[..., str]) -> None:
    file = infected(tmp_path / "own.pt", call(name("my_robots.bodies", "Body"), text("arm")))
    words = ("import", file, "--out", tmp_path / "model")
    said = complaint(*words)
    assert "names what no snapshot of the original needs: my_robots.bodies.Body" in said
    assert "--stand-in my_robots lets them be" in said
    assert cli.main([str(word) for word in (*words, "--stand-in", "my_robots")]) == 0


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("nowhere.pt", "nowhere.pt is no file; name a snapshot of the original"),
        ("folder", "folder is no file; name a snapshot of the original"),
        ("empty.pt", "empty.pt is no snapshot: torch.save writes zip archives"),
        ("text.pt", "text.pt is no snapshot: torch.save writes zip archives"),
        ("bare.pt", "bare.pt is a bare pickle, as torch.save wrote before version 1.6"),
        ("cut.pt", "cut.pt: it is damaged or not all there; get it again (the end of its archive is missing)"),
        ("flipped.pt", "flipped.pt: it is damaged or not all there; get it again (Bad CRC-32"),
        ("lacking.pt", "lacking.pt lacks its part 'data/7': it is damaged"),
        ("pickle.pt", "pickle.pt cannot be read as a snapshot: the pickle is damaged"),
        ("numbers.npz", "numbers.npz is a zip archive, but none that torch.save wrote"),
        ("tensor.pt", "tensor.pt holds no agent with world model, but something else"),
        ("big.pt", "big.pt was saved on a big-endian machine"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_the_reason(
    file: str, said: str, tmp_path: Path, complaint: Callable[..., str]
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty.pt").touch()
    (tmp_path / "text.pt").write_text("<html>not found</html>")
    (tmp_path / "bare.pt").write_bytes(PICKLE)
    data = SNAPSHOT.read_bytes()
    (tmp_path / "cut.pt").write_bytes(data[: len(data) // 2])
    middle = data.index(b"agent.dreamer_utils")  # Within the description.
    (tmp_path / "flipped.pt").write_bytes(data[:middle] + b"?" + data[middle + 1 :])
    changed(tmp_path / "lacking.pt", {"data/7": None})
    changed(tmp_path / "pickle.pt", {"data.pkl": PICKLE[:5000]})
    np.savez(tmp_path / "numbers.npz", a=np.zeros(3))
    torch.save(torch.zeros(3), tmp_path / "tensor.pt")
    changed(tmp_path / "big.pt", {"byteorder": b"big"})
    assert said in complaint("import", tmp_path / file, "--out", tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_nothing_but_a_model_is_replaced_and_that_only_when_asked(
    tmp_path: Path, complaint: Callable[..., str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    import_snapshot(SnapshotConfig(SNAPSHOT, out))
    assert "holds a model; choose another directory, or replace it with --fresh" in complaint(
        "import", SNAPSHOT, "--out", out
    )
    import_snapshot(SnapshotConfig(RELEASE, out, fresh=True))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "meta.json").write_text("[]")
    assert "holds something else than a model" in complaint("import", SNAPSHOT, "--out", tmp_path / "other", "--fresh")
    assert os.listdir(tmp_path / "other") == ["meta.json"]


# -- prompting ------------------------------------------------------------------------------------------------------


def test_a_prompt_in_words_needs_the_vlm_of_the_model(model: Path, complaint: Callable[..., str]) -> None:
    words = ("imagine", "--model", model, "--prompt", "walking")
    said = complaint(*words)
    assert (
        "was trained with VLM 'internvideo2', which is not here (--vlm internvideo2: no weights" in said
        and "--text-embedding" in said
    )
    said = complaint(*words, "--vlm", "mini")
    assert "was trained with VLM 'internvideo2'" in said and "but the one here is 'mini'" in said


def test_the_weights_of_a_vlm_of_that_name_and_size_are_taken_on_trust(model: Path) -> None:
    prompted = load_model(model, vlm="mini")
    spec = prompted.model.spec
    own = load_model("walker-mini").vlm
    prompted.model.spec = replace(spec, vlm="mini", embed_dim=own.embed_dim)
    assert prompted.vlm.checksum == own.checksum
    prompted = load_model(model, vlm="mini")
    prompted.model.spec = replace(spec, vlm="mini")
    with pytest.raises(UserError, match="was trained with VLM 'mini'"):
        _ = prompted.vlm


def test_embeddings_in_a_file_are_prompts(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = f"{EXPECTED}:text_embed"
    config = ImagineConfig(
        str(model), text_embedding=(source,), video_embedding=(source,), steps=15, out=tmp_path / "a.png", device="cpu"
    )
    previews = imagine(config)
    out = capsys.readouterr().out
    assert "no groundability: it needs VLM 'internvideo2', which is not here" in out
    assert [preview.label for preview in previews] == [f"text_embed {row}" for row in (0, 1, 2)] * 2
    assert (tmp_path / "a.png").exists() and {preview.groundability for preview in previews} == {None}
    with np.load(EXPECTED) as file:
        # A target leaves out the connector's first step, which the recording has.
        images = file["noreset_image_mean"][:, 1:]
    frames = ((images + 0.5).clip(0, 1) * 255).round().astype(np.uint8)
    for row in range(3):
        difference = np.abs(previews[row].frames.astype(int) - frames[row].transpose(0, 2, 3, 1))
        assert difference.max() <= 1  # Rounding.
    assert (previews[0].frames != previews[3].frames).any()  # Only texts pass the aligner.


def test_a_behaviour_is_learnt_from_each_embedding(model: Path, tmp_path: Path) -> None:
    debug = replace(PRESETS["learn"]["debug"], model=str(model), out=tmp_path / "run", device="cpu")
    results = learn(replace(debug, text_embedding=(f"{EXPECTED}:text_embed",), updates=1))
    assert [result.policy.parent.name for result in results] == ["text-embed-0", "text-embed-1", "text-embed-2"]
    policy = Policy.load(results[2].policy)
    assert policy.act(np.zeros((64, 64, 3), np.uint8)).shape == (3,)


def test_files_of_embeddings_are_read_in_every_shape(model: Path, tmp_path: Path) -> None:
    prompted = load_model(model)
    rows = np.random.default_rng(0).normal(size=(2, 24))
    np.save(tmp_path / "one.npy", rows[0])
    np.savez(tmp_path / "only.npz", walk=rows.astype(np.float16))
    (prompt,) = prompted.embedding_prompts(str(tmp_path / "one.npy"), align=True)
    assert prompt.label == "one" and prompt.align
    expected = F.normalize(torch.from_numpy(rows).float(), dim=-1)
    assert torch.allclose(prompt.embedding, expected[0])
    found = prompted.embedding_prompts(str(tmp_path / "only.npz"), align=False)
    assert [prompt.label for prompt in found] == ["only 0", "only 1"] and not found[0].align
    assert torch.allclose(torch.stack([prompt.embedding for prompt in found]), expected, atol=1e-3)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("nowhere.npy", "nowhere.npy: no such file; give a .npy file of embeddings"),
        ("several.npz", "say which array, as several.npz:ARRAY; known: walk, run"),
        ("several.npz:wlk", "say which array, as several.npz:ARRAY; did you mean 'walk'?"),
        ("narrow.npy", "narrow.npy has embeddings of 23 numbers, but .* reads those of VLM 'internvideo2', of 24"),
        ("objects.npy", "objects.npy cannot be read as numbers of NumPy"),
        ("text.npy", "text.npy cannot be read as numbers of NumPy"),
        ("whole.npy", r"whole.npy holds int64 \(2, 24\), not embeddings"),
        ("nan.npy", "nan.npy holds an embedding that is zero or not finite"),
        ("zero.npy", "zero.npy holds an embedding that is zero or not finite"),
    ],
)
def test_a_file_without_usable_embeddings_is_named(
    source: str, said: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ones = np.ones((2, 24))
    np.savez("several.npz", walk=ones, run=ones)
    np.save("narrow.npy", ones[:, 1:])
    np.save("objects.npy", np.array([{}]), allow_pickle=True)
    Path("text.npy").write_text("walking")
    np.save("whole.npy", ones.astype(int))
    np.save("nan.npy", ones * np.nan)
    np.save("zero.npy", ones * 0)
    with pytest.raises(UserError, match=said):
        load_model(model).embedding_prompts(source, align=True)


def test_prompts_that_begin_alike_get_directories_of_their_own() -> None:
    labels = ["standing up " * 5 + end for end in ("straight", "at last", "again")] + ["kneeling"]
    names = directory_names([Prompt(label, torch.ones(1), True) for label in labels])
    assert len(set(names)) == 4 and names[0].startswith("standing-up") and names[1] == f"{names[0]}-2"
