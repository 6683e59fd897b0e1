"""What is said of paths that are not what they are named as."""

from __future__ import annotations

from pathlib import Path

import pytest

from genrl.infra.errors import UserError
from genrl.run.data import ExportConfig, export
from tests.interop.foreign import counting_frames, write_lossless
from tests.interop.test_original import arrays, write
from tests.interop.travel import run_import, write_store


def test_what_is_no_data_is_told_from_what_lies_elsewhere(tmp_path: Path) -> None:
    out = tmp_path / "store"
    (tmp_path / "full" / "letters").mkdir(parents=True)
    (tmp_path / "full" / "letter.txt").write_text("dear")
    with pytest.raises(
        UserError, match=r"full is no data of a known format: there is no meta/info.json \(LeRobot v3\)"
    ):
        run_import(tmp_path / "full", out)
    with pytest.raises(UserError, match=r"letter.txt is no data of a known format: it is no directory"):
        run_import(tmp_path / "full" / "letter.txt", out)
    for name, file in (("cups", "meta/info.json"), ("walk-v0", "data/metadata.json")):
        (tmp_path / "many" / name / file).parent.mkdir(parents=True)
        (tmp_path / "many" / name / file).write_text("{}")
    write_lossless(tmp_path / "many" / "cups" / "videos" / "a.mp4", counting_frames(3))
    with pytest.raises(UserError, match="many holds data sets; name one of them: cups, walk-v0"):
        run_import(tmp_path / "many", out)
    with pytest.raises(UserError, match="a.mp4 is one video; name the directory that it and its actions lie in"):
        run_import(tmp_path / "many" / "cups" / "videos" / "a.mp4", out)
    with pytest.raises(UserError, match="walk is an episode store already; pass it to --data"):
        run_import(write_store(tmp_path / "walk").path, out)
    assert not out.exists()


def test_hidden_files_of_killed_processes_and_file_managers_are_not_episodes(tmp_path: Path) -> None:
    write(tmp_path / "walker" / "0.npz", **arrays())
    write(tmp_path / "walker" / ".1.tmp-12.npz", **arrays())
    assert run_import(tmp_path / "walker", tmp_path / "store").imported == 1
    write_lossless(tmp_path / "clips" / ".file-000.tmp-12.mp4", counting_frames(3))
    with pytest.raises(UserError, match="clips is no data of a known format"):
        run_import(tmp_path / "clips", tmp_path / "other")


@pytest.mark.parametrize("format_", ["lerobot", "minari", "original"])
def test_an_export_needs_stores_and_a_directory(tmp_path: Path, format_) -> None:
    with pytest.raises(UserError, match="name an episode store: genrl data export STORE --out DIRECTORY"):
        export(ExportConfig((), tmp_path / "out", format_))
    store = write_store(tmp_path / "walk").path
    (tmp_path / "letter-v0").write_text("dear")
    with pytest.raises(UserError, match="--out .*letter-v0 is a file; name a new directory"):
        export(ExportConfig((store,), tmp_path / "letter-v0", format_))
    assert (tmp_path / "letter-v0").read_text() == "dear"
