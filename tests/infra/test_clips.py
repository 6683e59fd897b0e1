"""Which frames of a video are taken; every frame shows its own number."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from genrl.infra.clips import MOST_CLIPS, ClipConfig, VideoClips, read_clips
from genrl.infra.errors import UserError
from genrl.infra.media import Frames, iterate_video, read_video, video_rate, write_png
from tests.phone_videos import turn_video

LEVELS = 2


def numbered(count: int, height: int = 32, width: int = 32) -> Frames:
    """Frame i is of grey i, in a few bits that survive encoding."""
    level = (LEVELS * (np.arange(count) % 120)).astype(np.uint8)
    return np.broadcast_to(level[:, None, None, None], (count, height, width, 3)).copy()


def write(path: Path, frames: Frames, fps: float, codec: str = "libx264rgb") -> Path:
    with av.open(str(path), "w") as container:
        options = {"crf": "0"} if codec == "libx264rgb" else {}
        stream = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1000), options=options)
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "rgb24" if codec == "libx264rgb" else "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def numbers(found: VideoClips) -> list[list[int]]:
    return np.rint(found.clips.mean(axis=(2, 3, 4)) / LEVELS).astype(int).tolist()


def take(path: Path, fps: float = 10.0, length: int = 4, **options) -> list[list[int]]:
    return numbers(read_clips(path, ClipConfig(**options), length, fps, 16))


def test_frames_are_taken_at_the_rate_of_the_model(tmp_path: Path) -> None:
    assert take(write(tmp_path / "same.mp4", numbered(9), 10)) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert take(write(tmp_path / "fast.mp4", numbered(24), 30)) == [[0, 3, 6, 9], [12, 15, 18, 21]]
    assert take(write(tmp_path / "slow.mp4", numbered(4), 5)) == [[0, 0, 1, 1], [2, 2, 3, 3]]
    assert take(write(tmp_path / "film.mp4", numbered(24), 24)) == [[0, 2, 4, 7], [9, 12, 14, 16]]


def test_a_stride_takes_frames_as_they_come(tmp_path: Path) -> None:
    video = write(tmp_path / "a.mp4", numbered(17), 30)
    assert take(video, stride=1) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 13, 14, 15]]
    assert take(video, stride=3) == [[0, 3, 6, 9]]


def test_a_part_is_cut_out(tmp_path: Path) -> None:
    video = write(tmp_path / "a.mp4", numbered(40), 10)
    assert take(video, start=1.0, stop=1.8) == [[10, 11, 12, 13], [14, 15, 16, 17]]
    assert take(video, start=3.0, stride=2) == [[30, 32, 34, 36]]
    assert take(video, stop=0.5) == [[0, 1, 2, 3]]


def test_one_frame_is_a_pose_that_is_held(tmp_path: Path) -> None:
    video = write(tmp_path / "a.mp4", numbered(12), 10)
    assert take(video, frame=0) == [[0] * 4]
    assert take(video, frame=7) == [[7] * 4]
    assert take(video, frame=-1) == [[11] * 4]
    assert take(video, frame=-12) == [[0] * 4]
    for wrong in (12, -13):
        with pytest.raises(UserError, match=r"a.mp4 has 12 frames; --clip.frame must lie in -12 ... 11"):
            take(video, frame=wrong)


def test_an_image_is_a_pose_and_may_be_mirrored(tmp_path: Path) -> None:
    image = np.zeros((16, 16, 3), np.uint8)
    image[:, :4] = 200
    write_png(tmp_path / "pose.png", image)
    plain, mirrored = (read_clips(tmp_path / "pose.png", ClipConfig(flip=flip), 4, 10, 16) for flip in (False, True))
    assert plain.clips.shape == (1, 4, 16, 16, 3) and (plain.clips == image).all()
    assert (mirrored.clips == image[:, ::-1]).all()


def test_the_middle_square_is_shown_undistorted(tmp_path: Path) -> None:
    wide = np.zeros((16, 48, 3), np.uint8)
    wide[:, 16:32] = np.arange(16, dtype=np.uint8)[:, None, None] * 10
    for name, image in (("wide.png", wide), ("tall.png", wide.transpose(1, 0, 2))):
        write_png(tmp_path / name, image)
    assert (read_clips(tmp_path / "wide.png", ClipConfig(), 1, 10, 16).clips[0, 0] == wide[:, 16:32]).all()
    tall = read_clips(tmp_path / "tall.png", ClipConfig(), 1, 10, 16).clips[0, 0]
    assert (tall == wide.transpose(1, 0, 2)[16:32]).all()


def test_a_gif_has_times_of_its_own(tmp_path: Path) -> None:
    first, *others = [Image.fromarray(frame) for frame in numbered(6)]
    first.save(tmp_path / "a.gif", save_all=True, append_images=others, duration=[100, 100, 200, 200, 100, 100])
    assert take(tmp_path / "a.gif") == [[0, 1, 2, 2], [3, 3, 4, 5]]
    first.save(tmp_path / "silent.gif", save_all=True, append_images=others)
    assert take(tmp_path / "silent.gif") == [[0, 1, 2, 3]]
    assert [round(seconds, 3) for seconds, _ in iterate_video(tmp_path / "silent.gif")] == [0, 0.1, 0.2, 0.3, 0.4, 0.5]
    assert video_rate(tmp_path / "silent.gif") == pytest.approx(10)


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mkv", "libx264"), ("a.webm", "libvpx-vp9"), ("a.avi", "mpeg4"), ("a.mov", "libx264"), ("a.mpg", "mpeg2video")],
)
def test_whatever_pyav_reads_is_a_video(tmp_path: Path, name: str, codec: str) -> None:
    if codec not in av.codecs_available:
        pytest.skip(f"this build of PyAV has no encoder {codec}")
    video = write(tmp_path / name, numbered(60, 64, 64), 25, codec)
    (tmp_path / "film").write_bytes(video.read_bytes())  # the suffix does not matter
    for path in (video, tmp_path / "film"):
        taken = np.array(take(path, fps=25.0, length=8))
        assert np.abs(taken - np.arange(56).reshape(7, 8)).max() <= 2


RED, GREEN, BLUE, WHITE = (250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 250)
UPRIGHT = {
    "90": [[BLUE, RED], [WHITE, GREEN]],
    "180": [[WHITE, BLUE], [GREEN, RED]],
    "270": [[GREEN, WHITE], [RED, BLUE]],
    "mirrored": [[GREEN, RED], [WHITE, BLUE]],
    "transposed": [[RED, BLUE], [GREEN, WHITE]],
}
"""What is seen of four fields that are stored as red, green / blue, white."""


def four_fields(fields: list[list[tuple[int, int, int]]], height: int, width: int) -> Frames:
    return np.array(fields, np.uint8).repeat(height // 2, axis=0).repeat(width // 2, axis=1)


@pytest.mark.parametrize("matrix", UPRIGHT)
def test_a_video_filmed_sideways_is_seen_upright(tmp_path: Path, matrix: str) -> None:
    stored = four_fields([[RED, GREEN], [BLUE, WHITE]], 32, 48)
    video = turn_video(write(tmp_path / "phone.mp4", np.stack([stored] * 5), 10), matrix)
    size = (32, 48) if matrix in ("180", "mirrored") else (48, 32)
    frames = read_video(video)
    assert frames.shape == (5, *size, 3) and (frames == four_fields(UPRIGHT[matrix], *size)).all()
    clip = read_clips(video, ClipConfig(), 4, 10, 32).clips[0]
    assert (clip == four_fields(UPRIGHT[matrix], *size)[(size[0] - 32) // 2 :, (size[1] - 32) // 2 :][:32, :32]).all()


def test_a_photo_taken_sideways_is_seen_upright(tmp_path: Path) -> None:
    orientation = Image.Exif()
    orientation[0x0112] = 6  # of EXIF: to be turned clockwise by 90 degrees
    stored = four_fields([[RED, GREEN], [BLUE, WHITE]], 32, 48)
    Image.fromarray(stored).save(tmp_path / "photo.png", exif=orientation)
    assert (read_video(tmp_path / "photo.png") == four_fields(UPRIGHT["90"], 48, 32)).all()


def test_a_long_video_is_read_at_moments_evenly_spread(tmp_path: Path) -> None:
    frames = numbered(4 * (2 * MOST_CLIPS + 7) + 3, 16, 16)
    found = read_clips(write(tmp_path / "a.mp4", frames, 10), ClipConfig(), 4, 10, 16)
    assert found.total == 2 * MOST_CLIPS + 7 and MOST_CLIPS // 2 < len(found.clips) <= MOST_CLIPS
    firsts = [4 * clip for clip in range(0, found.total, 4)]
    assert [clip[0] for clip in numbers(found)] == [number % 120 for number in firsts]
    short = read_clips(tmp_path / "a.mp4", ClipConfig(stop=4.0 * MOST_CLIPS / 10), 4, 10, 16)
    assert short.total == len(short.clips) == MOST_CLIPS


def test_what_is_empty_or_too_short_is_named_with_the_mend(tmp_path: Path) -> None:
    video = write(tmp_path / "a.mp4", numbered(12), 30)
    with pytest.raises(UserError, match=r"a.mp4 lasts 0.37 s; --clip.start 5 leaves nothing of it"):
        take(video, start=5.0)
    with pytest.raises(
        UserError,
        match=r"a.mp4 has 2 frames; a video prompt needs 4 or more.*\(5 a second of 12 frames; --clip.stride 1",
    ):
        take(video, fps=5.0)
    with pytest.raises(
        UserError, match=r"has 3 frames; .*\(one in 5 of 12 frames; --clip.stride 1 takes each as it comes\)$"
    ):
        take(video, stride=5)
    with pytest.raises(UserError, match=r"has 3 frames; a video prompt needs 4 or more, an image has 1$"):
        take(video, stop=0.1, stride=1)
    with av.open(str(tmp_path / "sound.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
    with pytest.raises(UserError, match="sound.wav: holds no video stream"):
        take(tmp_path / "sound.wav")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"start": -1.0}, "--clip.start must be 0 or more"),
        ({"start": 2.0, "stop": 2.0}, "--clip.stop above it"),
        ({"stride": -1}, "--clip.stride must be 0 or more"),
        ({"frame": 3, "stop": 2.0}, "--clip.frame takes one frame of the whole video"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ClipConfig(**options)
