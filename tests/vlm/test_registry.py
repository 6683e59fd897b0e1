"""Names, checkpoints and classes of `--vlm`; nothing here needs a network, most of it no further library."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch

from genrl import cli
from genrl.infra.errors import UserError
from genrl.run.vlm_list import VlmListConfig, vlm_list
from genrl.vlm import registry
from genrl.vlm.hub import local_checkpoint
from genrl.vlm.own import SAFE_NAME
from genrl.vlm.registry import ENTRIES, column_name, find_vlm, list_vlms, load_vlm, vlm_source
from tests.vlm.tiny import tiny_vlm


@pytest.fixture(autouse=True)
def _no_models_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("GENRL_INTERNVIDEO2", raising=False)


# -- names ----------------------------------------------------------------------------------------------------------


def test_the_families_and_their_columns() -> None:
    assert list_vlms() == ["clip", "internvideo2", "mini", "siglip", "siglip2", "videoprism", "xclip"]
    for name, entry in ENTRIES.items():
        assert entry.name == name == column_name(name) and SAFE_NAME.fullmatch(name)


def test_what_the_table_says_of_the_shipped_model_is_so() -> None:
    entry, model = ENTRIES["mini"], load_vlm("mini")
    assert (entry.embed_dim, entry.frames_per_clip) == (model.embed_dim, model.frames_per_clip)


@pytest.mark.parametrize("name", ["clip", "siglip", "siglip2", "xclip", "videoprism"])
def test_what_the_table_says_of_a_default_checkpoint_follows_from_its_configuration(name: str) -> None:
    """The configurations of the library are those of the default checkpoints; the weights are float32."""
    hf = pytest.importorskip("transformers")
    vocabulary = {"siglip2": {"text_config": {"vocab_size": 256_000}}}  # Gemma's, in a model of SigLIP's type.
    classes = {"clip": "CLIP", "xclip": "XCLIP", "siglip": "Siglip", "siglip2": "Siglip", "videoprism": "VideoPrism"}
    config = getattr(hf, f"{classes[name]}Config")(**vocabulary.get(name, {}))
    model_class = getattr(hf, "VideoPrismClipModel" if name == "videoprism" else f"{classes[name]}Model")
    with torch.device("meta"):
        parameters = sum(parameter.numel() for parameter in model_class(config).parameters())
    entry = ENTRIES[name]
    assert entry.download == round(4 * parameters / 1e6)
    assert entry.embed_dim == (getattr(config, "projection_dim", None) or config.vision_config.hidden_size)
    assert entry.frames_per_clip == getattr(config.vision_config, "num_frames", 8)


def test_every_spelling_has_a_safe_column_and_a_source_that_finds_it_again(tmp_path: Path, monkeypatch) -> None:
    tiny_vlm().save(tmp_path / "run" / "model")
    (tmp_path / "weights").mkdir()
    monkeypatch.chdir(tmp_path)
    videoprism = ENTRIES["videoprism"].where
    for name, column, source in [
        ("mini", "mini", "mini"),
        ("run", "mini", f"mini={tmp_path / 'run'}"),
        ("xclip=weights", "xclip", f"xclip={tmp_path / 'weights'}"),
        ("clip=openai/clip-vit-large-patch14", "clip", "clip=openai/clip-vit-large-patch14"),
        ("videoprism", "videoprism", f"videoprism={videoprism}"),
        ("internvideo2", "internvideo2", "internvideo2"),
        ("imported", "imported", "imported"),  # Not known: the column of somebody else's model.
    ]:
        assert (column_name(name), vlm_source(name)) == (column, source)
        assert column_name(source) == column and vlm_source(source) == source
    assert load_vlm(vlm_source("run")).checksum == tiny_vlm().checksum


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("xclp", "did you mean 'xclip'"),
        ("nothing/here", "unknown model 'nothing/here'"),
        ("mini=/nowhere", "--vlm mini=/nowhere: no such directory"),
        ("clip=/nowhere", "--vlm clip=/nowhere: no such directory, and not a hub id"),
        ("internvideo2", "accept the conditions at https://huggingface.co/OpenGVLab/InternVideo2-Stage2_1B-224p-f4"),
        ("internvideo2=/nowhere.pt", "no weights at /nowhere.pt: accept"),
    ],
)
def test_what_is_not_there_gets_one_line(name: str, complaint: str) -> None:
    if name.startswith("clip"):
        pytest.importorskip("transformers")
    with pytest.raises(UserError) as raised:
        load_vlm(name)
    assert complaint in str(raised.value) and "\n" not in str(raised.value)
    assert find_vlm(name) is None


def test_the_directory_of_another_familys_model_asks_for_its_name(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="name its family too, for example --vlm clip="):
        load_vlm(str(tmp_path))


def test_the_mini_model_takes_neither_another_precision_nor_other_frames() -> None:
    with pytest.raises(UserError, match="--dtype bfloat16: VLM 'mini' computes in float32 only"):
        load_vlm("mini", dtype="bfloat16")
    with pytest.raises(UserError, match="reads clips of 8 frames only, not of 16"):
        load_vlm("mini", frames=16)


def test_the_file_of_internvideo2_is_found_by_name_variable_and_cache(tmp_path: Path, monkeypatch) -> None:
    asked: list[Any] = []
    module: Any = types.ModuleType("genrl.vlm.internvideo2")
    module.load_internvideo2 = lambda *arguments: asked.append(arguments) or tiny_vlm()
    monkeypatch.setitem(sys.modules, "genrl.vlm.internvideo2", module)
    cache = tmp_path / "cache" / "genrl" / "internvideo2"
    cache.mkdir(parents=True)
    assert find_vlm("internvideo2") is None  # An empty directory is none.
    for file in (cache / registry.PUBLISHED_FILE, tmp_path / "by_variable.pt", tmp_path / "by_name.pt"):
        file.touch()
    load_vlm("internvideo2")
    monkeypatch.setenv("GENRL_INTERNVIDEO2", str(tmp_path / "by_variable.pt"))
    load_vlm("internvideo2")
    load_vlm(f"internvideo2={tmp_path / 'by_name.pt'}", dtype="bfloat16")
    assert [arguments[0].name for arguments in asked] == [registry.PUBLISHED_FILE, "by_variable.pt", "by_name.pt"]
    assert asked[-1][1:] == (torch.device("cpu"), torch.bfloat16)


# -- classes of one's own -------------------------------------------------------------------------------------------

OWN = """
import torch

class Whole:
    name, embed_dim, frames_per_clip, image_size, checksum = "own-1.b", 4, 8, 16, "abc"
    def embed_video(self, clips): return torch.ones(len(clips), 4) / 2
    def embed_text(self, texts): return torch.ones(len(texts), 4) / 2
    def embed_frames_sliding(self, frames): return torch.ones(len(frames), 4) / 2

class NoText(Whole):
    embed_text = None

class NoDim(Whole):
    embed_dim = None

class Slash(Whole):
    name = "own/1"

class Wants(Whole):
    def __init__(self, path): pass

numbers = [1]
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package with classes of one's own."""
    (tmp_path / "own_package").mkdir()
    (tmp_path / "own_package" / "models.py").write_text(OWN)
    (tmp_path / "own_package" / "broken.py").write_text("import a_library_that_is_not_there\n")
    monkeypatch.syspath_prepend(tmp_path)
    for module in [name for name in sys.modules if name.startswith("own_package")]:
        monkeypatch.delitem(sys.modules, module)


@pytest.mark.usefixtures("own")
def test_a_class_of_ones_own_is_a_vlm() -> None:
    name = "own_package.models:Whole"
    assert load_vlm(name).embed_text(["walking"]).shape == (1, 4)
    assert column_name(name) == "own-1.b" and vlm_source(name) == name and find_vlm(name) is None


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("models:NoText", "lacks the method 'embed_text'"),
        ("models:NoDim", "lacks the attribute 'embed_dim' (int)"),
        ("models:Slash", "its name 'own/1' may hold letters"),
        ("models:Wants", "without arguments"),
        ("models:Absent", "module own_package.models has no 'Absent'"),
        ("absent:Whole", "no module 'own_package.absent'"),
    ],
)
def test_what_a_class_of_ones_own_lacks_is_named(name: str, complaint: str) -> None:
    with pytest.raises(UserError) as raised:
        load_vlm(f"own_package.{name}")
    assert str(raised.value).startswith(f"--vlm own_package.{name}: ") and complaint in str(raised.value)


@pytest.mark.usefixtures("own")
def test_a_library_that_a_class_of_ones_own_lacks_is_its_own_affair() -> None:
    with pytest.raises(ModuleNotFoundError, match="a_library_that_is_not_there"):
        load_vlm("own_package.broken:Whole")


# -- the table ------------------------------------------------------------------------------------------------------


def test_the_list_tells_what_is_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["vlm", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {words[1]: words for line in lines if len(words := line.replace("│", " │ ").split()) > 1}
    assert set(ENTRIES) <= set(rows)
    assert rows["mini"][-2] == "yes" and rows["internvideo2"][-2] == "no"
    assert [entry.name for entry in vlm_list(VlmListConfig())] == list(ENTRIES)


# -- the hub --------------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, online as far as the library knows."""
    constants = pytest.importorskip("huggingface_hub").constants
    cache = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return cache


def cached(hub: Path, repository: str, revision: str = "main", commit: str = "a" * 40) -> Path:
    """Directory of a repository's files in the cache."""
    place = hub / f"models--{repository.replace('/', '--')}"
    snapshot = place / "snapshots" / commit
    snapshot.mkdir(parents=True)
    if revision != commit:
        (place / "refs").mkdir(exist_ok=True)
        (place / "refs" / revision).write_text(commit)
    (snapshot / "config.json").write_text("{}")
    return snapshot


def test_a_cached_checkpoint_is_found_once_it_is_whole(hub: Path) -> None:
    snapshot = cached(hub, "owner/name")
    for part in ("tokenizer.json", "preprocessor_config.json", "model.safetensors"):
        assert local_checkpoint("owner/name") is None
        (snapshot / part).touch()
    assert local_checkpoint("owner/name") == snapshot
    pinned = cached(hub, "owner/name", "b" * 40, "b" * 40)
    parts = {"weight_map": {"x": "pytorch_model-1.bin", "y": "pytorch_model-2.bin"}}
    (pinned / "pytorch_model.bin.index.json").write_text(json.dumps(parts))
    for part in ("vocab.json", "processor_config.json", "pytorch_model-1.bin", "pytorch_model-2.bin"):
        assert local_checkpoint(f"owner/name@{'b' * 40}") is None
        (pinned / part).touch()
    assert local_checkpoint(f"owner/name@{'b' * 40}") == pinned and local_checkpoint("owner/other") is None


def error(name: str) -> Exception:
    """One of the hub's errors, without a server's answer."""
    import huggingface_hub.errors as errors

    kind = getattr(errors, name)
    return kind.__new__(kind)


@pytest.mark.parametrize(
    ("fails", "said"),
    [
        (
            "GatedRepoError",
            "accept its conditions at https://huggingface.co/owner/name and log in with `hf auth login`",
        ),
        ("RepositoryNotFoundError", "the hub has none of that name"),
        ("LocalEntryNotFoundError", "run `hf download owner/name --revision v1` where there is a network"),
    ],
)
def test_a_download_that_fails_says_what_to_do(hub: Path, monkeypatch, fails: str, said: str) -> None:
    pytest.importorskip("transformers")

    def download(*arguments: Any, **options: Any) -> None:
        raise error(fails)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    with pytest.raises(UserError) as raised:
        load_vlm("xclip=owner/name@v1")
    line = str(raised.value)
    assert (
        said in line
        and "\n" not in line
        and line.endswith("put its files into a directory and name it: --vlm xclip=DIR")
    )


def test_safetensors_are_downloaded_first_and_pickles_only_without_them(hub: Path, tmp_path: Path, monkeypatch) -> None:
    from genrl.vlm.hub import fetch_checkpoint

    calls: list[list[str]] = []

    def download(repository: str, revision: str | None, allow_patterns: list[str]) -> str:
        calls.append(allow_patterns)
        if "pytorch_model*.bin" in allow_patterns:
            (tmp_path / "pytorch_model.bin").touch()
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert fetch_checkpoint("owner/name", "clip") == tmp_path
    assert ["model*.safetensors" in patterns for patterns in calls] == [True, False]


OFFLINE = """
import socket

def refuse(*arguments, **options):
    raise SystemExit("the network was looked at")

socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse
from genrl.infra.errors import UserError
from genrl.vlm.registry import load_vlm
try:
    load_vlm("siglip2")
except UserError as error:
    print(error)
model = load_vlm("clip=owner/name")
print(model.embed_text(["walking"]).shape[0], model.name)
"""


def test_offline_a_cached_model_loads_and_the_network_is_not_looked_at(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    from tests.vlm.hf_tiny import make_hf

    snapshot = cached(tmp_path / "hub", "owner/name")
    make_hf(snapshot, "clip")
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path / "hub")}
    done = subprocess.run([sys.executable, "-c", OFFLINE], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    said, loaded = done.stdout.splitlines()
    assert "google/siglip2-base-patch16-224 is not on this machine, and HF_HUB_OFFLINE forbids a download" in said
    assert loaded == "1 clip"


# -- without transformers -------------------------------------------------------------------------------------------

WITHOUT = """
import sys

sys.modules["transformers"] = sys.modules["huggingface_hub"] = None  # Which Python takes for "not installed".
from genrl import cli
from genrl.vlm.registry import list_vlms, load_vlm
assert cli.main(["--help"]) == 0
assert load_vlm("mini").embed_text(["walking"]).shape == (1, 256)
assert "clip" in list_vlms()
assert cli.main(["vlm", "list"]) == 0
sys.exit(cli.main(["embed", "--data", sys.argv[1], "--vlm", "clip"]))
"""


def test_the_core_needs_no_transformers(tmp_path: Path) -> None:
    from tests.run.tiny import make_store

    store, _ = make_store(tmp_path)
    done = subprocess.run([sys.executable, "-c", WITHOUT, str(store)], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert done.stderr.strip() == (
        "genrl: error: this needs transformers; install it with: pip install 'genrl-mfwm[vlm]'"
    )
