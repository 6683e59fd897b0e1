"""`genrl vlm embed`: prompts become embeddings in a file, for machines without the VLM."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import torch
import tyro

from genrl.infra.clips import ClipConfig
from genrl.infra.compute import DeviceName, pick_device
from genrl.infra.errors import UserError
from genrl.vlm.embedded_prompts import EmbeddedPrompts, Kind
from genrl.vlm.prompt_embedding import WHOLE_CLIP, embed_video_file
from genrl.vlm.registry import load_vlm


@dataclass(frozen=True)
class VlmEmbedConfig:
    """Embed prompts here, use them where the VLM is not.

    The file carries the texts, the VLM's name and its checksum. `genrl imagine` and `genrl learn` take it as
    --text-embedding FILE (all its texts), FILE:TEXT (one of them) and --video-embedding FILE, and refuse one that
    another VLM has made than the model's.
    """

    prompt: tyro.conf.Positional[tuple[str, ...]] = ()
    """Texts, each in quotes."""
    video: Annotated[tuple[Path, ...], tyro.conf.UseAppendAction] = ()
    """Video file or image; may be given several times."""
    clip: ClipConfig = field(default_factory=ClipConfig)
    rate: float = 20.0
    """Frames per second of what the world model learnt from, at which videos are read; walker and stickman: 20."""
    vlm: str = "mini"
    """A name (`genrl vlm list`), NAME=WHERE for another checkpoint (a directory or hub id), the directory of a trained
    mini VLM, or package:Class."""
    frames: int | None = None
    """Frames of a clip, as `genrl embed` was given them."""
    out: Path = Path("prompts.npz")
    device: DeviceName = "auto"

    def __post_init__(self) -> None:
        if self.rate <= 0:
            raise ValueError(f"--rate must be positive, got {self.rate}")


def vlm_embed(config: VlmEmbedConfig) -> EmbeddedPrompts:
    """Embeds, writes the file, says what is in it.

    Raises:
        UserError: If there is nothing to embed, or a prompt or the VLM cannot be used.
    """
    if not config.prompt and not config.video:
        raise UserError("nothing to embed: give texts in quotes, or --video FILE")
    if config.clip != WHOLE_CLIP and not config.video:
        raise UserError("--clip chooses from a --video, but none is given; leave it out, or add --video FILE")
    labels = (*config.prompt, *(path.name for path in config.video))
    twice = [label for label in labels if labels.count(label) > 1]
    if twice:
        raise UserError(f"{twice[0]!r} is given twice; a file names each prompt once")
    model = load_vlm(config.vlm, pick_device(config.device), frames=config.frames)
    # Each by itself, as a prompt is where it is used.
    rows = [model.embed_text([text])[0] for text in config.prompt]
    rows += [embed_video_file(model, path, config.clip, config.rate) for path in config.video]
    kinds: list[Kind] = ["text"] * len(config.prompt)
    kinds += ["video"] * len(config.video)
    facts = (model.name, model.checksum, config.rate, model.frames_per_clip)
    prompts = EmbeddedPrompts(torch.stack(rows).cpu(), labels, tuple(kinds), *facts)
    prompts.save(config.out)
    count = "1 prompt" if len(labels) == 1 else f"{len(labels)} prompts"
    print(f"{count} by {model.name} ({model.checksum}): {config.out}")
    return prompts
