"""Coverage of points that lie on a grid, and episodes that show the same."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
from PIL import Image

from genrl.data.coverage import SIGNATURE_DIM, common_space, cover, near_duplicates, signature
from genrl.data.episode import EmbeddingInfo, Episode
from genrl.data.store import Store, StoreWriter
from genrl.infra.media import read_video
from genrl.run.data import InspectConfig, inspect
from tests.data_store.counting import SPEC, write_counting

SIDE = 16


def grid(rows: range) -> np.ndarray:
    """(n, 3) states at the corners of a 16 x 16 grid; the third number never changes."""
    x, y = np.meshgrid(np.arange(SIDE), rows)
    return np.stack([x.ravel(), 10.0 * y.ravel(), np.full(x.size, 7.0)], axis=1)


def noise(rows: int, seed: int, size: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (rows, size, size, 3), np.uint8)


def episode(rows: int, seed: int = 0, **changes) -> Episode:
    action = np.random.default_rng(seed).uniform(-1, 1, (rows, 2)).astype(np.float32)
    action[0] = 0
    zeros = np.zeros(rows, np.float32)
    whole = Episode(noise(rows, seed), action, zeros, zeros > 0, np.zeros((rows, 3)))
    return dataclasses.replace(whole, **changes)


def write_states(path: Path, parts: dict[str, range]) -> Store:
    with StoreWriter.open(path, SPEC) as writer:
        for number, (source, rows) in enumerate(parts.items()):
            states = grid(rows)
            writer.add(episode(len(states), number, state=states), source)
    return Store.open(path)


def test_a_source_fills_the_share_of_the_grid_that_it_visits(tmp_path: Path) -> None:
    stores = [
        write_states(tmp_path / "a", {"lower": range(0, 8), "upper": range(8, 16)}),
        write_states(tmp_path / "b", {"middle": range(4, 12)}),
    ]
    coverage = cover(stores, "state")
    assert [(s.store, s.source, s.share, s.alone) for s in coverage.sources] == [
        ("a", "lower", 0.5, 0.25),
        ("a", "upper", 0.5, 0.25),
        ("b", "middle", 0.5, 0.0),
    ]
    assert len(coverage.points) == 3 * 128 and coverage.explained > 0.999
    # Many visits to one place fill no more than one visit.
    with StoreWriter.open(tmp_path / "c", SPEC) as writer:
        writer.add(episode(256, state=grid(range(16))), "everywhere")
        writer.add(episode(900, state=np.repeat(grid(range(0, 1))[:1], 900, axis=0)), "still")
    shares = [source.share for source in cover([Store.open(tmp_path / "c")], "state").sources]
    assert shares == [1.0, 1 / 256]


def test_embeddings_are_preferred_where_all_stores_have_the_same(tmp_path: Path) -> None:
    write_counting(tmp_path / "with", [20, 20], embedding="mini")
    write_counting(tmp_path / "without", [20])
    both = [Store.open(tmp_path / name) for name in ("with", "without")]
    assert common_space(both[:1]) == "embedding/mini" and common_space(both) == "state"
    assert len(cover(both[:1], "embedding/mini").points) == 2 * 13, "rows without a whole clip are left out"
    with StoreWriter.open(tmp_path / "other", SPEC) as writer:
        writer.declare_embedding(EmbeddingInfo("mini", 4, 8, "weights-2"))
        writer.add(episode(20, embeddings={"mini": np.ones((20, 4), np.float16)}), "noise")
    assert common_space([both[0], Store.open(tmp_path / "other")]) == "state"
    with StoreWriter.open(tmp_path / "bare", dataclasses.replace(SPEC, state_dim=0)) as writer:
        writer.add(episode(20, state=None), "noise")
    assert common_space([both[1], Store.open(tmp_path / "bare")]) is None


def test_copies_are_found_however_they_were_compressed() -> None:
    clips = [noise(20, seed, 16).repeat(4, axis=1).repeat(4, axis=2) // 2 + np.uint8(40) for seed in range(30)]

    def jpeg(frame: np.ndarray) -> np.ndarray:
        stream = io.BytesIO()
        Image.fromarray(frame).save(stream, "JPEG", quality=60)
        return np.asarray(Image.open(stream))

    clips.append(np.stack([jpeg(frame) for frame in clips[7]]))
    clips.append(clips[3].copy())
    clips.append(clips[3].copy())
    clips.append(clips[4][::-1].copy())  # backwards is something else
    signatures = np.stack([signature(clip) for clip in clips])
    assert signatures.shape == (34, SIGNATURE_DIM)
    assert near_duplicates(signatures) == [(30, 7), (31, 3), (32, 3)]
    assert near_duplicates(np.zeros((3, SIGNATURE_DIM), np.uint8)) == [], "what cannot be read is like nothing"
    assert near_duplicates(signatures[:0]) == []


def test_cameras_and_actions_that_never_change_are_suspicious(tmp_path: Path, capsys) -> None:
    still = np.repeat(noise(1, 9), 20, axis=0)
    plain = noise(20, 8)
    plain[5:8] = 77
    flicker = still + (np.arange(20) % 2).astype(np.uint8)[:, None, None, None] * (still < 250)
    held = np.full((20, 2), 0.5, np.float32)
    held[0] = 0
    with StoreWriter.open(tmp_path / "store", SPEC) as writer:
        writer.add(episode(20), "good")
        writer.add(episode(20, 1, frames=still), "arm")
        writer.add(episode(20, 2, frames=flicker.astype(np.uint8)), "arm", origin="b.mp4")
        writer.add(episode(20, 3, frames=plain, prompt="wave"), "arm")
        writer.add(episode(20, 4, action=held), "arm")
        writer.add(episode(20, 0, prompt="wave"), "copy")
    found = inspect(InspectConfig(stores=(tmp_path / "store",)))[tmp_path / "store"]
    assert found.faults == []
    assert [(doubt.episode, doubt.fault) for doubt in found.suspicions] == [
        (1, "the camera shows the same frame all the time"),
        (2, "the camera shows the same frame all the time"),
        (3, "3 frames are of a single colour"),
        (4, "the action never changes"),
    ]
    printed = capsys.readouterr().out
    assert "suspicious episodes: 4" in printed and "episode 2, arm (b.mp4)" in printed
    assert "near-duplicates: 2 of 6 episodes" in printed
    assert f"episode 5 of {tmp_path / 'store'}: episode 0 of" in printed
    assert "prompts of 2 episodes, 1 different" in printed and "2 x wave" in printed


def test_the_picture_has_a_panel_for_each_source(tmp_path: Path, capsys) -> None:
    write_states(tmp_path / "data" / "a", {"lower": range(0, 8), "upper": range(8, 16)})
    write_states(tmp_path / "data" / "b", {"middle": range(4, 12)})
    inspect(InspectConfig(stores=(tmp_path / "data",)))
    printed = capsys.readouterr().out
    assert "coverage of state" in printed and "50%" in printed and str(tmp_path / "data" / "coverage.png") in printed
    picture = read_video(tmp_path / "data" / "coverage.png")[0]
    blue = (picture[..., 2].astype(int) - picture[..., 0] > 100).any(axis=0)
    assert sum(np.diff(blue.astype(int)) == 1) >= 3, "own points of three panels, side by side"
    inspect(InspectConfig(stores=(tmp_path / "data" / "a",), coverage=tmp_path / "mine.png"))
    assert (tmp_path / "mine.png").exists() and not (tmp_path / "data" / "a-coverage.png").exists()


def test_a_store_without_embeddings_and_states_is_told_how_to_get_some(tmp_path: Path, capsys) -> None:
    with StoreWriter.open(tmp_path / "store", dataclasses.replace(SPEC, state_dim=0)) as writer:
        writer.add(episode(20, state=None), "noise")
    inspect(InspectConfig(stores=(tmp_path / "store",)))
    assert "no coverage: " in (said := capsys.readouterr().out) and "genrl embed" in said
    write_counting(tmp_path / "short", [5, 5], embedding="mini")
    inspect(InspectConfig(stores=(tmp_path / "short",)))
    assert "no coverage: no row has embedding/mini" in capsys.readouterr().out
    with StoreWriter.open(tmp_path / "empty", SPEC):
        pass
    inspect(InspectConfig(stores=(tmp_path / "empty",)))
    assert "near-duplicates: 0 of 0" in capsys.readouterr().out


def test_prompts_stay_with_their_episodes_and_old_stores_have_none(tmp_path: Path) -> None:
    with StoreWriter.open(tmp_path / "store", SPEC) as writer:
        for number, prompt in enumerate(("walk", "", "lie – down")):
            writer.add(episode(10, number, prompt=prompt), "noise")
    store = Store.open(tmp_path / "store")
    assert store.episodes.prompt == ("walk", "", "lie – down") and store.episode(2).prompt == "lie – down"
    file = tmp_path / "store" / "store.json"
    file.write_text(file.read_text().replace(', "prompt": ["walk", "", "lie \\u2013 down"]', ""))
    assert "prompt" not in file.read_text()
    assert Store.open(tmp_path / "store").episodes.prompt == ("", "", "")
