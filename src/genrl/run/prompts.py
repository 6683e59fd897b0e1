"""Options that say what a model is to be prompted with, and the prompts they give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from genrl.infra.clips import ClipConfig
from genrl.infra.errors import UserError
from genrl.run.prompting import Prompt, PromptedModel
from genrl.vlm.prompt_embedding import BASELINE_STRENGTH, WHOLE_CLIP


@dataclass(frozen=True)
class PromptConfig:
    """A model and its prompts."""

    model: str = "walker-mini"
    """Shipped model, or a directory made by `genrl pretrain`."""
    vlm: str | None = None
    """Where the model's VLM is, if not where it was in training: NAME=WHERE, the directory of a trained mini VLM, or
    package:Class (`genrl vlm list`)."""
    prompt: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Text that describes the behaviour; may be given several times."""
    video: Annotated[tuple[Path, ...], tyro.conf.UseAppendAction] = ()
    """Video file or image that shows the behaviour; may be given several times."""
    clip: ClipConfig = field(default_factory=ClipConfig)
    text_embedding: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Embeddings of texts by the model's VLM, made elsewhere (`genrl vlm embed`): FILE.npz, FILE.npz:PROMPT, or bare
    numbers in FILE.npy or FILE.npz:ARRAY, a row a prompt."""
    video_embedding: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """The same of videos."""
    ensemble: bool = False
    """All texts are wordings of one prompt: their mean embedding is the target."""
    baseline_prompt: str | None = None
    """Text of what is there anyway, such as "a person": what the texts have in common with it is taken out."""
    baseline_strength: float = BASELINE_STRENGTH
    """How much of it, from 0 (nothing) to 1 (only what sets a text apart from the baseline is left)."""

    def require_prompt(self) -> None:
        """Raises UserError where there is no prompt of any kind."""
        if not (self.prompt or self.video or self.text_embedding or self.video_embedding):
            raise UserError("--prompt is missing: describe the behaviour, for example --prompt 'standing up straight'")


def read_prompts(model: PromptedModel, config: PromptConfig) -> list[Prompt]:
    """All prompts embedded, texts before videos, so that a bad one is refused before anything is done.

    Raises:
        UserError: If one cannot be used, or an option has nothing to act on.
    """
    texts = [model.prompt(text) for text in config.prompt]
    texts += [prompt for source in config.text_embedding for prompt in model.embedding_prompts(source, align=True)]
    if config.ensemble:
        if len(texts) < 2:
            raise UserError("--ensemble needs at least two wordings: --prompt, or --text-embedding, several times")
        texts = [Prompt.mean(texts)]
    if config.baseline_prompt is not None:
        if not texts:
            raise UserError("--baseline-prompt acts on texts, but there is none; leave it out, or add --prompt TEXT")
        baseline = model.prompt(config.baseline_prompt)
        texts = [prompt.against(baseline, config.baseline_strength) for prompt in texts]
    videos = video_prompts(model, config.video, config.clip)
    videos += [prompt for source in config.video_embedding for prompt in model.embedding_prompts(source, align=False)]
    return [*texts, *videos]


def video_prompts(model: PromptedModel, videos: Sequence[Path], clip: ClipConfig) -> list[Prompt]:
    """The prompts of all --video.

    Raises:
        UserError: If one cannot be used, or there is none that --clip could choose from.
    """
    if clip != WHOLE_CLIP and not videos:
        raise UserError("--clip chooses from a --video, but none is given; leave it out, or add --video FILE")
    return [model.video_prompt(path, clip) for path in videos]
