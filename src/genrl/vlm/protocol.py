"""What the rest of the package asks of a video-language model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor

from genrl.infra.errors import UserError


@runtime_checkable
class VideoLanguageModel(Protocol):
    """A frozen dual encoder of short clips and of texts into one space.

    One may also have a method `caution(text) -> str | None`: a line for the user about a text that it embeds without
    knowing what it means.

    Attributes:
        name: Name in the registry; also that of the column `embedding/<name>` of a store.
        embed_dim: E, length of an embedding.
        frames_per_clip: L, frames that the video tower reads at a time.
        image_size: Height and width of the frames that the video tower reads.
    """

    name: str
    embed_dim: int
    frames_per_clip: int
    image_size: int

    @property
    def checksum(self) -> str:
        """Short digest of everything that a video's embedding depends on, recorded beside what it produced."""
        ...

    def embed_video(self, clips: Tensor) -> Tensor:
        """Embed clips.

        Args:
            clips: (N, L, h, w, 3) uint8. Another number of frames is resampled in time to `frames_per_clip`
                (nearest frame); a picture is cut to the square in its middle and resized with antialiasing.

        Returns:
            (N, E) float32, L2-normalised.
        """
        ...

    def embed_text(self, texts: Sequence[str]) -> Tensor:
        """Embed texts.

        Returns:
            (N, E) float32, L2-normalised.

        Raises:
            UserError: If a text is empty or holds no word that the model can read.
        """
        ...

    def embed_frames_sliding(self, frames: Tensor) -> Tensor:
        """Embed, for every frame of one episode, the clip that ends there.

        Args:
            frames: (T, h, w, 3) uint8, consecutive frames of one episode.

        Returns:
            (T, E) float32; the first `frames_per_clip - 1` rows are zero: no whole clip ends there.
        """
        ...


def check_texts(texts: Sequence[str]) -> None:
    """Refuse an empty prompt."""
    for text in texts:
        if not text.strip():
            raise UserError("the prompt is empty: describe the behaviour in words, for example --prompt 'walking'")
