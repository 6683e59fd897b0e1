"""Imports and exports that are killed (SIGKILL): what is there is whole, and the same command makes it complete."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from genrl.data.store import Store, StoreWriter
from genrl.infra.errors import UserError
from genrl.interop import lerobot_export
from genrl.run.data import ExportConfig, ImportConfig, export, import_
from tests.interop.foreign import counting_actions, counting_frames, write_lerobot, write_lossless
from tests.interop.test_original import arrays, write
from tests.interop.travel import SPEC, noisy_episode, run_import

pytest.importorskip("pyarrow", reason="the extra `data` is not installed")
pytest.importorskip("minari")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

MOMENTS = (0.4, 0.75, 0.9)
"""When processes are killed, as shares of the calls that one makes which is left alone: the first third is imports."""
EPISODES = 16
FRAMES_PER_FILE = 40
SMALL = replace(SPEC, frame_size=16)


def run(config: ExportConfig | ImportConfig) -> None:
    lerobot_export.FRAMES_PER_FILE = FRAMES_PER_FILE
    export(config) if isinstance(config, ExportConfig) else import_(config)


def run_to_call(config: ExportConfig | ImportConfig, last: float, calls) -> None:
    """Run it, and die at its call number `last`: a moment that does not depend on how fast or busy the machine is."""

    def count(frame, event: str, argument) -> None:
        if event in ("call", "c_call"):
            calls.value += 1
            if calls.value >= last:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(count)
    run(config)
    sys.setprofile(None)


def start_and_wait(config: ExportConfig | ImportConfig, last: float = float("inf")) -> tuple[int, int]:
    """Run it in a process of its own, up to its call number `last`. Returns its exit code and its number of calls."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    calls = context.Value("q", 0, lock=False)
    process = context.Process(target=run_to_call, args=(config, last, calls), daemon=True)
    process.start()
    process.join(300)
    assert process.exitcode is not None
    return process.exitcode, calls.value


def kill_at_moments(config: ExportConfig | ImportConfig, check: Callable[[Path, Path], None], complete) -> None:
    """Kill it at several moments, each in a place of its own; check what is there, run it again, and check that.

    Args:
        config: What to run.
        check: (killed, uninterrupted) -> fails if what is there is not whole.
        complete: The same, of what a second run has made.
    """
    exitcode, calls = start_and_wait(config)
    assert exitcode == 0
    for number, moment in enumerate(MOMENTS):
        again = replace(config, out=config.out.with_name(f"killed{number}-v0"))
        exitcode, _ = start_and_wait(again, moment * calls)
        assert exitcode == -signal.SIGKILL
        check(again.out, config.out)
        # A Minari data set appears as a whole: a process killed just after that has left nothing to do.
        if not (isinstance(config, ExportConfig) and config.format == "minari" and again.out.exists()):
            run(again)
        complete(again.out, config.out)
        assert not [path for path in again.out.parent.rglob(".*tmp*") if again.out.stem in str(path)]


def same_episodes(one: Store, other: Store, count: int) -> None:
    """The first `count` episodes of both are the same."""
    assert one.spec == other.spec
    for index in range(count):
        a, b = one.episode(index), other.episode(index)
        for name in ("frames", "action", "reward", "is_terminal", "state"):
            assert np.array_equal(getattr(a, name), getattr(b, name)), name
        assert a.prompt == b.prompt


def compare_imported(exported: Path, store: Path, all_of_them: bool) -> None:
    """Import an export and compare it with the store that it was made of."""
    back = exported.with_name(f"{exported.stem}-back{'-whole' if all_of_them else ''}")
    run_import(exported, back, frame_size=16)
    one, other = Store.open(back), Store.open(store)
    assert not all_of_them or len(one.episodes) == len(other.episodes)
    same_episodes(one, other, len(one.episodes))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stores") / "walk"
    with StoreWriter.open(path, SMALL) as writer:
        for number in range(EPISODES):
            writer.add(noisy_episode(12, number, f"prompt {number % 3}", SMALL), "noise")
    return path


def test_a_killed_export_to_lerobot(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lerobot_export, "FRAMES_PER_FILE", FRAMES_PER_FILE)

    def check(killed: Path, whole: Path) -> None:
        if (killed / "meta/info.json").exists():
            compare_imported(killed, store, all_of_them=False)
        elif killed.exists():
            with pytest.raises(UserError):
                run_import(killed, tmp_path / "none", frame_size=16)

    def complete(killed: Path, whole: Path) -> None:
        compare_imported(killed, store, all_of_them=True)
        one, other = (json.loads((path / "meta/info.json").read_text()) for path in (killed, whole))
        assert one == other
        one, other = (json.loads((path / "meta/stats.json").read_text()) for path in (killed, whole))
        for feature, measures in other.items():
            for measure, values in measures.items():
                assert np.allclose(one[feature][measure], values), (feature, measure)

    kill_at_moments(ExportConfig((store,), tmp_path / "whole-v0"), check, complete)


def test_a_killed_export_to_minari(tmp_path: Path, store: Path) -> None:
    def check(killed: Path, whole: Path) -> None:
        if killed.exists():
            compare_imported(killed, store, all_of_them=True)

    config = ExportConfig((store,), tmp_path / "whole-v0", "minari")
    kill_at_moments(config, check, lambda killed, whole: compare_imported(killed, store, all_of_them=True))


def test_a_killed_export_to_files_of_the_original(tmp_path: Path, store: Path) -> None:
    def contents(path: Path) -> dict[str, bytes]:
        return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*.npz")}

    def check(killed: Path, whole: Path) -> None:
        visible = {name: data for name, data in contents(killed).items() if not Path(name).name.startswith(".")}
        assert visible.items() <= contents(whole).items()
        if visible:
            assert run_import(killed, killed.with_name(f"{killed.name}-part"), frame_size=16).imported == len(visible)

    def complete(killed: Path, whole: Path) -> None:
        assert contents(killed) == contents(whole) and len(contents(whole)) == EPISODES

    kill_at_moments(ExportConfig((store,), tmp_path / "whole-v0", "original"), check, complete)


@pytest.mark.parametrize("format_", ["lerobot", "minari", "videos", "original"])
def test_a_killed_import(tmp_path: Path, store: Path, format_: str) -> None:
    source, options = make_source(tmp_path, store, format_)

    def check(killed: Path, whole: Path) -> None:
        if (killed / "store.json").exists():
            one, other = Store.open(killed), Store.open(whole)
            same_episodes(one, other, len(one.episodes))

    def complete(killed: Path, whole: Path) -> None:
        one, other = Store.open(killed), Store.open(whole)
        assert one.episodes.origin == other.episodes.origin and len(one.episodes) >= EPISODES
        assert one.sources == other.sources
        same_episodes(one, other, len(other.episodes))

    kill_at_moments(ImportConfig(source=source, out=tmp_path / "whole-v0", frame_size=16, **options), check, complete)


def make_source(tmp_path: Path, store: Path, format_: str) -> tuple[Path, dict]:
    """Episodes of a format, and the options that they need."""
    if format_ == "lerobot":
        return write_lerobot(tmp_path / "cups", lengths=(2,) * 20), {}
    if format_ == "minari":
        export(ExportConfig((store,), tmp_path / "walk-v0", "minari"))
        return tmp_path / "walk-v0", {}
    folder = tmp_path / "walker"
    for number in range(EPISODES):
        if format_ == "videos":
            write_lossless(folder / f"{number:02d}.mp4", counting_frames(8))
            np.save(folder / f"{number:02d}.npy", counting_actions(8))
        else:
            write(folder / f"{number:02d}.npz", **arrays(rows=12, size=16, first=number))
    return folder, {}
