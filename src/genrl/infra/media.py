"""Videos and pictures: reading, writing, resizing, tiling."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.error import FFmpegError
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps, ImageSequence, UnidentifiedImageError

from genrl.infra.checkpoint import atomic_path
from genrl.infra.errors import UserError

Frames = NDArray[np.uint8]

PICTURE_SUFFIXES = {".gif", ".webp", ".png", ".apng", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".avif"}
"""What Pillow reads, animations too; PyAV reads all others."""
PICTURE_SECONDS = 0.1
"""How long a picture of an animation is shown where the file does not tell, as browsers have it."""
LABEL_SIZE = 12
"""Height of label letters in pixels."""


def write_video(path: str | Path, frames: Frames, fps: float) -> Path:
    """Write a video that browsers play: H.264 in MP4, or animated WebP where the encoder is missing.

    Args:
        path: File to write; the suffix becomes `.webp` in the second case.
        frames: (T, h, w, 3) uint8; odd sizes are padded by one pixel, which H.264 wants even.
        fps: Frames a second.

    Returns:
        The file written.
    """
    path = Path(path)
    assert frames.ndim == 4 and frames.shape[-1] == 3 and frames.dtype == np.uint8, (frames.shape, frames.dtype)
    if "libx264" not in av.codecs_available:
        return _write_webp(path.with_suffix(".webp"), frames, fps)
    odd = frames.shape[1] % 2, frames.shape[2] % 2
    if any(odd):
        frames = np.pad(frames, ((0, 0), (0, odd[0]), (0, odd[1]), (0, 0)), mode="edge")
    options = {"movflags": "faststart"}
    with atomic_path(path) as temporary, av.open(str(temporary), "w", format="mp4", options=options) as container:
        stream = container.add_stream("libx264", rate=max(1, round(fps)), options={"crf": "18", "preset": "medium"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())
    return path


def read_video(path: str | Path, size: int | tuple[int, int] | None = None) -> Frames:
    """All frames of a video, animation or picture.

    Args:
        path: The file.
        size: Height and width that frames are resized to as they are read, so that a long video of a large format need
            not fit into memory; None keeps theirs.

    Returns:
        (T, h, w, 3) uint8; a picture has one frame.

    Raises:
        UserError: If the file is missing, empty, truncated or not a video.
    """
    frames = [frame if size is None else resize_frames(frame, size) for _, frame in iterate_video(path)]
    if any(frame.shape != frames[0].shape for frame in frames):
        raise UserError(f"{path}: frames differ in size; encode the video again at one size")
    return np.stack(frames)


def iterate_video(path: str | Path) -> Iterator[tuple[float, Frames]]:
    """One frame after the other of a video, animation or picture, upright, with the second at which it is shown.

    Yields:
        Seconds since the first frame, and (h, w, 3) uint8.

    Raises:
        UserError: If the file is missing, empty, truncated or not a video.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such video or image file")
    if path.stat().st_size == 0:
        raise UserError(f"{path}: the file is empty; give a video or an image")
    read = _read_pictures if path.suffix.lower() in PICTURE_SUFFIXES else _read_stream
    first = None
    for seconds, frame in read(path):
        first = seconds if first is None else first
        yield seconds - first, frame
    if first is None:
        raise UserError(f"{path}: the file holds no frames; give a video or an image")


def video_rate(path: str | Path) -> float | None:
    """Frames a second of a video or animation as the file tells them; None for a picture.

    Raises:
        UserError: If the file cannot be read.
    """
    path = Path(path)
    if path.suffix.lower() in PICTURE_SUFFIXES:
        times = [seconds for seconds, _ in iterate_video(path)]
        return (len(times) - 1) / times[-1] if len(times) > 1 else None
    try:
        with av.open(str(path)) as container:
            rate = container.streams.video[0].average_rate if container.streams.video else None
    except (FFmpegError, OSError) as error:
        raise UserError(f"{path}: cannot be read as a video ({error.strerror or error})") from error
    return float(rate) if rate else None


def upright_frame(frame: av.VideoFrame) -> Frames:
    """(h, w, 3) uint8 of a decoded frame, turned and mirrored as the file wants it shown; phones film sideways.

    The file's display matrix (`tkhd` of ISO/IEC 14496-12) sends a stored pixel (x, y) to (a x + c y, b x + d y). A turn
    that is none of quarters becomes the nearest that is.
    """
    pixels = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
    data: Any = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return pixels
    a, b, _, c, d = np.frombuffer(bytes(data), np.int32, count=5).tolist()
    if abs(b) + abs(c) > abs(a) + abs(d):
        pixels, a, d = pixels.swapaxes(0, 1), c, b
    return np.ascontiguousarray(pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def resize_frames(frames: Frames, size: int | tuple[int, int]) -> Frames:
    """Resize with antialiasing, without regard to the aspect ratio.

    Args:
        frames: (..., h, w, 3) uint8.
        size: New height and width, or one number for both.

    Returns:
        (..., height, width, 3) uint8.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if frames.shape[-3:-1] == (height, width):
        return frames
    flat = frames.reshape(-1, *frames.shape[-3:])
    resized = [np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC)) for frame in flat]
    return np.stack(resized).reshape(*frames.shape[:-3], height, width, 3)


def write_png(path: str | Path, image: Frames) -> None:
    """Write an (h, w, 3) uint8 image."""
    with atomic_path(path) as temporary:
        Image.fromarray(image).save(temporary, format="PNG")


def video_grid(clips: list[Frames], labels: list[str] | None = None, columns: int = 0, scale: int = 1) -> Frames:
    """Tile clips side by side, each under its label; shorter ones hold their last frame.

    Args:
        clips: (T, h, w, 3) uint8 each, of one size but any length.
        labels: One a clip; long ones are wrapped. None leaves them out.
        columns: Clips in a row; 0 puts all in one row.
        scale: Whole factor by which pixels are enlarged.

    Returns:
        (T, H, W, 3) uint8 with T of the longest clip.
    """
    assert clips, "a grid needs a clip"
    assert labels is None or len(labels) == len(clips), "one label for each clip"
    assert len({clip.shape[1:] for clip in clips}) == 1, "clips of one size"
    columns = columns or len(clips)
    length = max(len(clip) for clip in clips)
    tiles = [_hold_last(clip, length).repeat(scale, axis=1).repeat(scale, axis=2) for clip in clips]
    if labels is not None:
        tiles = _put_labels(tiles, labels)
    empty = np.zeros_like(tiles[0])
    rows = []
    for first in range(0, len(tiles), columns):
        row = tiles[first : first + columns]
        rows.append(np.concatenate(row + [empty] * (columns - len(row)), axis=2))
    return np.concatenate(rows, axis=1)


def _write_webp(path: Path, frames: Frames, fps: float) -> Path:
    pictures = [Image.fromarray(frame) for frame in frames]
    with atomic_path(path) as temporary:
        pictures[0].save(
            temporary, "WEBP", save_all=True, append_images=pictures[1:], duration=round(1000 / fps), loop=0, quality=90
        )
    return path


def _read_pictures(path: Path) -> Iterator[tuple[float, Frames]]:
    seconds = 0.0
    try:
        with Image.open(path) as image:
            for frame in ImageSequence.Iterator(image):
                picture = np.asarray(ImageOps.exif_transpose(frame).convert("RGB"))
                yield seconds, picture
                seconds += image.info.get("duration", 0) / 1000 or PICTURE_SECONDS
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as an image, it may be truncated ({error})") from error


def _read_stream(path: Path) -> Iterator[tuple[float, Frames]]:
    announced = packets = count = 0
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise UserError(f"{path}: holds no video stream; give a video or an image")
            stream = container.streams.video[0]
            announced, rate = stream.frames, float(stream.average_rate or 0) or 1 / PICTURE_SECONDS
            for packet in container.demux(stream):
                packets += packet.size > 0 and not packet.is_corrupt
                for frame in packet.decode():
                    yield count / rate if frame.time is None else frame.time, upright_frame(frame)
                    count += 1
    except (FFmpegError, OSError) as error:
        raise UserError(
            f"{path}: cannot be read as a video, it may be truncated ({error.strerror or error})"
        ) from error
    # Packets, not frames: a video that was trimmed without being encoded again keeps some that are never shown.
    if packets < announced:
        raise UserError(f"{path}: the video is truncated, {packets} of {announced} frames can be read")


def _hold_last(clip: Frames, length: int) -> Frames:
    return np.concatenate([clip, clip[-1:].repeat(length - len(clip), axis=0)])


def _put_labels(tiles: list[Frames], labels: list[str]) -> list[Frames]:
    """A black strip with white text above every tile, as high as the longest label needs."""
    font = ImageFont.load_default(size=LABEL_SIZE)
    width = tiles[0].shape[2]
    wrapped = [_wrap(label, font, width - 4) for label in labels]
    height = max(len(lines) for lines in wrapped) * (LABEL_SIZE + 3) + 4
    # Tiles of even height stay even, which saves the video encoder a padded row.
    height += (height + tiles[0].shape[1]) % 2
    labelled = []
    for tile, lines in zip(tiles, wrapped, strict=True):
        strip = Image.new("RGB", (width, height))
        ImageDraw.Draw(strip).multiline_text((2, 1), "\n".join(lines), fill="white", font=font, spacing=3)
        strips = np.broadcast_to(np.asarray(strip), (len(tile), height, width, 3))
        labelled.append(np.concatenate([strips, tile], axis=1))
    return labelled


def _wrap(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """Lines no wider than `width` pixels; a word that is wider is broken."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width:
            lines[-1] = longer
            continue
        if lines[-1]:
            lines.append("")
        for letter in word:
            if lines[-1] and font.getlength(lines[-1] + letter) > width:
                lines.append("")
            lines[-1] += letter
    return lines
