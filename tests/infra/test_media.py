"""Videos and pictures come back, and what cannot be read is named."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from genrl.infra import media
from genrl.infra.errors import UserError
from genrl.infra.media import read_video, resize_frames, video_grid, write_png, write_video


def ramp(length: int, height: int = 64, width: int = 64) -> media.Frames:
    """(length, height, width, 3) clip whose brightness grows with time, from left to right and by channel."""
    time = np.linspace(0, 80, length)[:, None, None, None]
    across = np.linspace(0, 80, width)[None, None, :, None]
    clip = time + across + np.array([0, 20, 40])
    return np.broadcast_to(clip, (length, height, width, 3)).astype(np.uint8)


def distance(a: media.Frames, b: media.Frames) -> float:
    return float(np.abs(a.astype(int) - b.astype(int)).mean())


@pytest.mark.parametrize("size", [(64, 64), (63, 65)])
def test_a_video_comes_back_nearly_unchanged(tmp_path: Path, size: tuple[int, int]) -> None:
    clip = ramp(20, *size)
    assert write_video(tmp_path / "clip.mp4", clip, fps=15) == tmp_path / "clip.mp4"
    back = read_video(tmp_path / "clip.mp4")
    assert back.shape == (20, 64, 64 + size[1] % 2 * 2, 3) and back.dtype == np.uint8
    assert distance(back[:, : size[0], : size[1]], clip) < 3


def test_videos_are_what_browsers_play(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4", ramp(30), fps=15)
    with av.open(str(tmp_path / "clip.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == 15 and stream.frames == 30
    data = (tmp_path / "clip.mp4").read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat"), "the index must come before the data"


def test_without_an_encoder_an_animated_webp_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(av, "codecs_available", set())
    path = write_video(tmp_path / "clip.mp4", ramp(6), fps=10)
    assert path == tmp_path / "clip.webp" and not (tmp_path / "clip.mp4").exists()
    back = read_video(path)
    assert back.shape == (6, 64, 64, 3) and distance(back, ramp(6)) < 5


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif"])
def test_a_picture_is_a_video_of_one_frame(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(ramp(1)[0]).save(tmp_path / f"a.{suffix}")
    back = read_video(tmp_path / f"a.{suffix}")
    assert back.shape == (1, 64, 64, 3) and distance(back, ramp(1)) < 8


def test_a_png_comes_back_exactly(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", ramp(2)[1])
    assert np.array_equal(read_video(tmp_path / "a.png")[0], ramp(2)[1])


def test_missing_empty_and_foreign_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("no video at all")
    (tmp_path / "text.png").write_text("no picture at all")
    for name, words in {
        "absent.mp4": "no such video",
        "empty.mp4": "the file is empty",
        "text.mp4": "cannot be read as a video",
        "text.png": "cannot be read as an image",
        "": "no such video",
    }.items():
        with pytest.raises(UserError, match=words) as caught:
            read_video(tmp_path / name)
        assert str(caught.value).startswith(str(tmp_path / name)) and "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["mp4", "webp", "png", "gif"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.95])
def test_a_truncated_file_is_refused(tmp_path: Path, suffix: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (12, 64, 64, 3), dtype=np.uint8)
    whole = tmp_path / f"whole.{suffix}"
    if suffix == "mp4":
        write_video(whole, noise, fps=15)
    else:
        pictures = [Image.fromarray(frame) for frame in noise]
        pictures[0].save(whole, save_all=suffix != "png", append_images=pictures[1:] if suffix != "png" else [])
    data = whole.read_bytes()
    (tmp_path / f"torn.{suffix}").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(UserError, match=f"torn.{suffix}: .*"):
        read_video(tmp_path / f"torn.{suffix}")


@pytest.mark.parametrize("suffix", ["mp4", "gif"])
def test_frames_can_be_resized_as_they_are_read(tmp_path: Path, suffix: str) -> None:
    if suffix == "mp4":
        write_video(tmp_path / "clip.mp4", ramp(9), fps=15)
    else:
        pictures = [Image.fromarray(frame) for frame in ramp(9)]
        pictures[0].save(tmp_path / "clip.gif", save_all=True, append_images=pictures[1:])
    small = read_video(tmp_path / f"clip.{suffix}", size=16)
    assert np.array_equal(small, resize_frames(read_video(tmp_path / f"clip.{suffix}"), 16))
    assert small.shape == (9, 16, 16, 3)


def test_resizing_averages_what_it_shrinks() -> None:
    stripes = np.zeros((2, 64, 64, 3), np.uint8)
    stripes[:, :, ::2] = 200
    small = resize_frames(stripes, 16)
    assert small.shape == (2, 16, 16, 3)
    assert np.abs(small[:, 2:-2, 2:-2].astype(int) - 100).max() <= 6
    assert resize_frames(stripes[0], (8, 4)).shape == (8, 4, 3)
    assert resize_frames(stripes, 64) is stripes


def test_a_grid_places_clips_row_by_row_and_holds_their_last_frame() -> None:
    clips = [np.full((length, 4, 6, 3), value, np.uint8) for length, value in ((3, 10), (1, 20), (2, 30))]
    grid = video_grid(clips, columns=2, scale=2)
    assert grid.shape == (3, 16, 24, 3)
    corners = grid[2, ::8, ::12, 0]
    assert corners.tolist() == [[10, 20], [30, 0]]


def test_labels_stand_above_their_clip_and_long_ones_are_wrapped() -> None:
    clips = [np.full((2, 64, 64, 3), 128, np.uint8)] * 2
    short = video_grid(clips, ["a", "b"])
    long = video_grid(clips, ["a", "standing up straight with both arms in the air"])
    assert short.shape[1] < long.shape[1] and short.shape[1] % 2 == 0 and long.shape[1] % 2 == 0
    assert (long[:, -64:] == 128).all()
    strip = long[0, :-64]
    assert strip[:, :64].any() and strip[:, 64:].any()
    assert not strip[:, -2:].any(), "text must not run over the edge"
