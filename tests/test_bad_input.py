"""Bad input of every kind through the command line: one line that names it and the mend, exit code 2, nothing lost."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from genrl import cli
from genrl.data.store import EmbeddingInfo, Episode, Store, StoreSpec, StoreWriter
from genrl.infra import checkpoint
from genrl.infra.media import write_png, write_video
from genrl.interop.original_import import IMPORTED_CHECKSUM
from tests.evaluation.tiny import SPEC, saved_policy, tiny_model
from tests.vlm.tiny import TINY, tiny_vlm

STORE = StoreSpec("walker", 6, "fast", "side", 2, 0.025)
LEARN = ("learn", "debug", "--model", "model", "--prompt", "walking", "--out", "run")

Complaint = Callable[..., str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, its VLM, a policy and a store, all tiny; the tests work on copies."""
    directory = tmp_path_factory.mktemp("made")
    vlm = tiny_vlm()
    vlm.save(directory / "vlm")
    spec = dataclasses.replace(
        SPEC, vlm=str(directory / "vlm"), vlm_checksum=vlm.checksum, embed_dim=TINY.embed_dim, frames_per_clip=8
    )
    tiny_model(spec).save(directory / "model")
    saved_policy(directory / "policy", spec)
    write_store(directory / "store", STORE)
    return directory


@pytest.fixture(autouse=True)
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with copies of what was made."""
    for entry in made.iterdir():
        shutil.copytree(entry, tmp_path / entry.name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GENRL_TRACEBACK", raising=False)
    return tmp_path


@pytest.fixture
def complaint(here: Path, capsys: pytest.CaptureFixture[str]) -> Complaint:
    """Runs `genrl WORDS`, which must exit with 2, say why in one line, and write nothing; gives the line.

    A run that had `begun` before the fault could be known may have written beside what was there.
    """

    def run(*words: str, begun: bool = False) -> str:
        before = contents(here)
        capsys.readouterr()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert cli.main(words) == 2
        after = contents(here)
        assert {name: after.get(name) for name in before} == before
        assert begun or len(after) == len(before)
        lines = capsys.readouterr().err.splitlines()
        assert lines[-1].startswith("genrl: error: ") and "Traceback" not in lines
        return lines[-1].removeprefix("genrl: error: ")

    return run


def contents(directory: Path) -> dict[str, bytes]:
    """Every file but locks, which say nothing."""
    files = (path for path in directory.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


def write_store(path: Path, spec: StoreSpec, episodes: int = 2, embedding: bool = True) -> None:
    """Episodes of noise, 20 rows each, in shards of 16."""
    rng = np.random.default_rng(0)
    with StoreWriter.open(path, spec, shard_frames=16) as writer:
        if embedding:
            writer.declare_embedding(EmbeddingInfo("mini", 4, 8, IMPORTED_CHECKSUM))
        for _ in range(episodes):
            frames = rng.integers(0, 256, (20, spec.frame_size, spec.frame_size, 3), np.uint8)
            action = rng.uniform(-1, 1, (20, spec.action_dim)).astype(np.float32)
            action[0] = 0
            zeros, embeddings = np.zeros(20, np.float32), np.ones((20, 4), np.float16)
            writer.add(Episode(frames, action, zeros, zeros > 0, None, {"mini": embeddings}), "noise")


def write_original(path: Path, **changes: Any) -> None:
    """One episode file in the original's layout."""
    rows = 12
    values = {
        "observation": np.zeros((rows, 3, 64, 64), np.uint8),
        "action": np.zeros((rows, 6), np.float32),
        "reward": np.zeros((rows, 1), np.float32),
        "is_first": np.arange(rows) == 0,
        "is_last": np.arange(rows) == rows - 1,
        "is_terminal": np.zeros(rows, bool),
    }
    path.parent.mkdir(exist_ok=True)
    np.savez(path, **{**values, **changes})


def truncate(path: Path, share: float = 0.5) -> None:
    """Cuts a file off."""
    os.truncate(path, int(path.stat().st_size * share))


def largest(directory: Path) -> Path:
    """Largest file below a directory."""
    return max((path for path in directory.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


# -- names that do not exist ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("learn", "--model", "walker-mega", "--prompt", "walking"), "--model walker-mega: no such model"),
        (("imagine", "--model", "nowhere", "--prompt", "walking"), "--model nowhere: no such model"),
        (("demo", "--model", "nowhere"), "--model nowhere: no such model"),
        (("evaluate", "--policy", "nowhere", "--task", "walker_run"), "--policy nowhere: no policy there"),
        (("evaluate", "--policy", "policy", "--task", "walker_runn"), "did you mean walker_run"),
        (("demo", "--model", "model", "--task", "walker_stnd"), "did you mean walker_stand"),
        (("collect", "--out", "new", "--agent", "expert", "--task", "walker_stnd"), "did you mean walker_stand"),
        (("collect", "--out", "new", "--domain", "walkr"), "unknown domain 'walkr': choose from"),
        (("tasks", "--domain", "walkr"), "unknown domain 'walkr': choose from"),
        (("embed", "--data", "store", "--vlm", "mni"), "--vlm: unknown model 'mni'; did you mean 'mini'?"),
        (("learn", "papr"), "unknown preset 'papr'; did you mean 'paper'?"),
        (("pretrain", "--joint.updtes", "3"), "unknown option '--joint.updtes'; did you mean '--joint.updates'"),
        (("pretrain", "--data", "nowhere"), "nowhere does not exist; name an episode store"),
        (("practice", "--data", "store"), "--model and --data are needed"),
        (("practice", "--model", "nowhere", "--data", "store"), "--model nowhere: no such model"),
        (("practice", "--model", "model", "--data", "nowhere"), "nowhere does not exist; name an episode store"),
        (("practice", "--model", "model", "--data", "store"), "genrl embed --data store"),
        (("data", "inspect", "model"), "model is neither an episode store nor a directory of stores"),
        (("data", "import", "nowhere", "--out", "new"), "nowhere does not exist; name an episode file"),
        (("data", "pack", "model", "--out", "new.npz"), "model is neither an episode store nor a directory of stores"),
        (("data", "pack", "store", "--out", "new.npz"), "store keeps no simulator states"),
        (("data", "draw", "nowhere.npz", "--out", "new"), "nowhere.npz is no file of trajectories"),
        ((*LEARN, "--vlm", "vlm", "--behavior.doubt", "1"), "--behavior.doubt needs a model with an ensemble"),
        (("data", "import", "model", "--domain", "walker", "--out", "new"), "model is no data of a known format"),
    ],
)
def test_what_does_not_exist_is_named_with_what_does(complaint: Complaint, words: tuple[str, ...], said: str) -> None:
    assert said in complaint(*words)


def test_a_misspelt_body_of_imported_episodes_is_named(complaint: Complaint, here: Path) -> None:
    write_original(here / "original" / "a.npz")
    assert "did you mean 'walker'?" in complaint("data", "import", "original", "--domain", "wlker", "--out", "new")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("collect", "--out", "new", "--steps", "0"), "genrl collect: --steps must be at least 1, got 0"),
        (("collect", "--out", "new", "--agent", "expert"), "genrl collect: --agent expert needs a --task to learn"),
        ((*LEARN, "--updates", "-1"), "--updates must be 0 or more, got -1"),
        ((*LEARN, "--vlm", "vlm", "--updates", "0"), "needs a model with a general policy, which model lacks"),
        ((*LEARN, "--updates", "0", "--no-warm-start"), "--updates 0 needs --warm-start"),
        (("practice", "--rounds", "-1"), "--rounds and --first-updates must be 0 or more"),
        (("practice", "--episodes.hold", "9", "5"), "hold must be two positive numbers, the smaller one first"),
        (("evaluate", "--policy", "policy", "--task", "walker_run", "--episodes", "0"), "--episodes must be at least"),
        (("demo", "--model", "model", "--seed", "-1"), "--seed must be 0 or more, got -1"),
        ((*LEARN, "--seed", "-1"), "--seed must be 0 or more, got -1"),
        ((*LEARN, "--log-every", "0"), "--log-every must be at least 1, got 0"),
        ((*LEARN, "--behavior.window", "100"), "behavior.window must lie in 1 ... 9 (behavior.actor-critic.horizon)"),
        ((*LEARN, "--behavior.actor-critic.num-layers", "0"), "num-layers, hidden-dim and target-update-every must be"),
        ((*LEARN, "--starts.connector-steps", "0"), "starts.connector-steps must be at least 1"),
        ((*LEARN, "--settle.smoothing", "0"), "settle.smoothing at least 1, got 400 and 0"),
        (("pretrain", "--model.world-model.rssm.deter-dim", "0"), "rssm.deter-dim must be at least 1, got 0"),
    ],
)
def test_values_out_of_range_are_named_with_the_range(complaint: Complaint, words: tuple[str, ...], said: str) -> None:
    assert said in complaint(*words)


def test_an_unknown_key_in_the_description_of_a_model_is_named(complaint: Complaint, here: Path) -> None:
    file = here / "model" / "meta.json"
    meta = json.loads(file.read_text())
    meta["config"]["world_model"]["cnn_dept"] = meta["config"]["world_model"].pop("cnn_depth")
    file.write_text(json.dumps(meta))
    said = complaint("imagine", "--model", "model", "--prompt", "walking")
    assert said == "model config: unknown setting 'world_model.cnn_dept'; did you mean 'cnn_depth'?"


# -- prompts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["demo", "imagine", "learn"])
@pytest.mark.parametrize("prompt", ["", "  \t "])
def test_an_empty_prompt_is_refused_before_anything_is_learnt(complaint: Complaint, verb: str, prompt: str) -> None:
    assert "the prompt is empty" in complaint(verb, "--model", "model", "--prompt", prompt)


@pytest.mark.parametrize("verb", ["imagine", "learn"])
def test_no_prompt_at_all_is_refused_with_an_example(complaint: Complaint, verb: str) -> None:
    assert "--prompt is missing" in complaint(verb, "--model", "model")


def test_a_prompt_without_quotes_is_told_to_take_some(complaint: Complaint) -> None:
    assert "unexpected word 'up'; put a text of several words in quotes" in complaint("demo", "--prompt", "stand", "up")


def test_one_bad_prompt_among_good_ones_learns_none(complaint: Complaint) -> None:
    assert "the prompt is empty" in complaint(*LEARN, "--prompt", "")


@pytest.mark.parametrize("verb", ["imagine", "learn"])
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing.mp4", "missing.mp4: no such video or image file"),
        ("empty.mp4", "empty.mp4: the file is empty"),
        ("cut.mp4", "cut.mp4"),
        ("text.mp4", "text.mp4: cannot be read as a video"),
        ("cut.png", "cut.png: cannot be read as an image, it may be truncated"),
        ("short.mp4", "short.mp4 has 3 frames; a video prompt needs 8 or more"),
        ("model", "model: no such video or image file"),
    ],
)
def test_a_video_that_cannot_be_used_is_named(
    complaint: Complaint, here: Path, verb: str, name: str, said: str
) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (16, 64, 64, 3), np.uint8)
    (here / "empty.mp4").touch()
    (here / "text.mp4").write_text("a film about walking\n" * 20)
    write_video(here / "short.mp4", frames[:3], 20)
    truncate(write_video(here / "cut.mp4", frames, 20))
    write_png(here / "cut.png", frames[0])
    truncate(here / "cut.png")
    assert said in complaint(verb, "--model", "model", "--video", name)


# -- data and models that do not go together -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"domain": "stickman"}, "has domain 'stickman', but the model was made for 'walker'"),
        ({"action_dim": 10}, "has action dim 10, but the model was made for 6"),
        ({"look": "paper"}, "has look 'paper', but the model was made for 'fast'"),
    ],
)
def test_starts_from_data_of_another_kind_are_refused(
    complaint: Complaint, here: Path, change: dict[str, Any], said: str
) -> None:
    write_store(here / "other", dataclasses.replace(STORE, **change))
    assert said in complaint(*LEARN, "--data", "other")


@pytest.mark.parametrize(("change", "said"), [({"domain": "stickman"}, "domain"), ({"action_dim": 10}, "action_dim")])
def test_stores_of_two_kinds_are_not_mixed(complaint: Complaint, here: Path, change: dict[str, Any], said: str) -> None:
    write_store(here / "other", dataclasses.replace(STORE, **change))
    line = complaint("pretrain", "debug", "--data", "store", "other", "--out", "run")
    assert f"has {said} " in line and "a data set needs one, leave one out" in line


def test_a_task_of_another_body_is_refused(complaint: Complaint, here: Path) -> None:
    saved_policy(here / "stickman", dataclasses.replace(SPEC, domain="stickman", action_dim=10))
    said = complaint("evaluate", "--policy", "stickman", "--task", "walker_run")
    assert "walker_run is a task of walker, but the policy was made for stickman" in said


def test_adding_to_a_store_of_another_kind_is_refused(complaint: Complaint, here: Path) -> None:
    write_original(here / "original" / "a.npz")
    said = complaint("data", "import", "original", "--domain", "stickman", "--out", "store")
    assert "store holds episodes with domain 'walker', these have 'stickman'; write them to another store" in said


def test_data_without_the_embeddings_that_are_needed_name_the_command(complaint: Complaint, here: Path) -> None:
    write_store(here / "bare", STORE, embedding=False)
    said = complaint("pretrain", "debug", "--data", "bare", "--out", "run")
    assert said == "bare has no embeddings of 'mini'; run `genrl embed --data bare --vlm mini`"


def test_a_model_is_not_used_with_another_vlm(complaint: Complaint, here: Path) -> None:
    tiny_vlm(seed=1).save(here / "other_vlm")
    meta = json.loads((here / "model" / "meta.json").read_text())
    meta["spec"]["vlm"] = "other_vlm"
    (here / "model" / "meta.json").write_text(json.dumps(meta))
    said = complaint("imagine", "--model", "model", "--prompt", "walking")
    assert "checksum" in said and "use the VLM it was made with" in said


def test_windows_longer_than_every_episode_are_refused(complaint: Complaint) -> None:
    said = complaint(
        "pretrain", "debug", "--data", "store", "--out", "run", "--joint.window", "48", "--latent.updates", "0"
    )
    assert "no window of 48 frames; collect longer episodes or use shorter windows" in said


# -- damage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["model", "policy"])
def test_a_truncated_checkpoint_is_named(complaint: Complaint, here: Path, kind: str) -> None:
    truncate(here / kind / "tensors.safetensors")
    words = {
        "model": ("learn", "--model", "model", "--prompt", "walking"),
        "policy": ("evaluate", "--policy", "policy", "--task", "walker_run"),
    }
    assert f"{kind}: tensors.safetensors is damaged (checksum differs)" in complaint(*words[kind])


def test_a_damaged_store_is_named(complaint: Complaint, here: Path) -> None:
    for file in (here / "store" / "frames" / "c").rglob("*"):
        if file.is_file():
            truncate(file)
    said = complaint("pretrain", "debug", "--data", "store", "--out", "run", begun=True)
    assert said == "store: frames cannot be read, a file of it is damaged; restore it from a copy of the store"


def test_a_damaged_table_of_a_store_is_named(complaint: Complaint, here: Path) -> None:
    truncate(here / "store" / "store.json")
    assert "store/store.json is damaged" in complaint("data", "inspect", "store")


def test_an_episode_that_cannot_be_read_is_found_by_inspection(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truncate(largest(here / "store" / "frames"))
    assert cli.main(["data", "inspect", "store"]) == 0
    said = capsys.readouterr().out
    assert "broken episodes: " in said and "frames cannot be read, a file is damaged" in said


def test_corrupt_episodes_are_set_aside_and_the_others_imported(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_original(here / "original" / "good.npz")
    write_original(here / "original" / "cut.npz")
    truncate(here / "original" / "cut.npz")
    write_original(here / "original" / "nan.npz", reward=np.full((12, 1), np.nan, np.float32))
    before = contents(here / "original")
    assert cli.main(["data", "import", "original", "--domain", "walker", "--out", "new"]) == 0
    said = capsys.readouterr().out
    assert "set aside 2 episodes" in said and "cut.npz" in said and "nan.npz: reward holds NaN" in said
    assert contents(here / "original") == before
    assert Store.open(here / "new").num_frames == 12


def test_an_import_of_which_nothing_is_readable_fails(complaint: Complaint, here: Path) -> None:
    write_original(here / "original" / "cut.npz")
    truncate(here / "original" / "cut.npz")
    said = complaint("data", "import", "original", "--domain", "walker", "--out", "new")
    assert "none of the 1 files in original is readable; original/cut.npz: " in said


# -- runs that exist --------------------------------------------------------------------------------------------------


def test_changed_options_on_an_existing_run_are_refused_by_name(complaint: Complaint) -> None:
    assert cli.main(LEARN) == 0
    assert "--seed was 0, now 1; use --fresh to start over" in complaint(*LEARN, "--seed", "1")


def test_a_directory_of_another_verb_is_refused_even_with_fresh(complaint: Complaint) -> None:
    assert cli.main(LEARN) == 0
    said = complaint("pretrain", "debug", "--data", "store", "--out", "run", "--fresh")
    assert "run holds a run of 'genrl learn', not of 'pretrain'; choose another --out" in said


@pytest.mark.parametrize("words", [LEARN, ("pretrain", "debug", "--data", "store", "--out", "run")])
def test_a_file_in_the_place_of_a_run_is_refused(complaint: Complaint, here: Path, words: tuple[str, ...]) -> None:
    (here / "run").write_text("notes")
    assert complaint(*words) == "--out run is a file; name a directory"


@pytest.mark.parametrize("option", ["--log-every", "--save-every"])
def test_intervals_of_no_updates_are_refused(complaint: Complaint, option: str) -> None:
    said = complaint("pretrain", "debug", "--data", "store", "--out", "run", option, "0")
    assert said == f"{option} must be at least 1, got 0"


# -- what is written --------------------------------------------------------------------------------------------------

WRITERS = [
    ("imagine", "--model", "model", "--prompt", "walking", "--out"),
    ("prompt", "rank", "walking", "standing", "--model", "model", "--out"),
    ("data", "pack", "store", "--out"),
    ("data", "inspect", "store", "--out"),
    ("data", "inspect", "store", "--coverage"),
]


@pytest.mark.parametrize("words", WRITERS)
def test_a_file_to_write_never_replaces_a_directory(complaint: Complaint, words: tuple[str, ...]) -> None:
    assert complaint(*words, "policy") == f"{words[-1]} policy is a directory; name a file"


@pytest.mark.parametrize("words", WRITERS)
def test_a_file_to_write_below_a_file_is_refused(complaint: Complaint, here: Path, words: tuple[str, ...]) -> None:
    (here / "notes").write_text("kept")
    said = complaint(*words, "notes/it.png")
    assert said == f"{words[-1]} notes/it.png lies below notes, which is a file; name another place"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (WRITERS[0], "--out it.txt must end in .mp4 or .png"),
        (WRITERS[3], "--out it.txt must end in .png"),
        (WRITERS[4], "--coverage it.txt must end in .png"),
    ],
)
def test_a_picture_or_video_of_unknown_suffix_is_refused(
    complaint: Complaint, words: tuple[str, ...], said: str
) -> None:
    assert complaint(*words, "it.txt") == said


# -- the machine ------------------------------------------------------------------------------------------------------


def test_a_full_disk_stops_learning_and_the_same_command_goes_on(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    save, written = checkpoint.save_file, []

    def save_file(tensors: dict[str, torch.Tensor], file: Path) -> None:
        if written:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(file)
        save(tensors, file)

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "save_file", save_file)
        assert cli.main(LEARN) == 2
    lines = capsys.readouterr().err.splitlines()
    assert "the disk is full; free some space and run the same command again" in lines[-1]
    assert [path.name for path in (here / "run" / "checkpoints").iterdir()] == ["step_00000002"]

    assert cli.main(LEARN) == 0
    assert "goes on after update 2" in capsys.readouterr().err
    assert cli.main([*LEARN[:-1], "whole"]) == 0
    resumed, whole = (checkpoint.load_checkpoint(here / run / "policy")[0] for run in ("run", "whole"))
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())


@pytest.mark.parametrize(
    "words",
    [
        ("demo", "--model", "model"),
        ("collect", "--out", "new"),
        ("evaluate", "--policy", "policy", "--task", "walker_run"),
        ("train-vlm", "--out", "new"),
    ],
)
def test_without_gl_the_packages_are_named_before_anything_is_done(
    complaint: Complaint, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setenv("MUJOCO_GL", "disable")
    assert "apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri" in complaint(*words)


def test_a_gpu_that_is_not_there_is_refused(complaint: Complaint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "--device cuda: no CUDA device is usable here" in complaint(*LEARN, "--device", "cuda")
