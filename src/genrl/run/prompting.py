"""A foundation model together with the video-language model that understands its prompts."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from genrl.behavior.general import GeneralPolicy
from genrl.infra.clips import ClipConfig
from genrl.infra.errors import UserError, did_you_mean
from genrl.interop.original_import import IMPORTED_CHECKSUM
from genrl.models.foundation import FoundationModel
from genrl.models.state import LatentState
from genrl.vlm.embedded_prompts import read_embedded_prompts
from genrl.vlm.own import OWN_CLASS
from genrl.vlm.prompt_embedding import (
    BASELINE_STRENGTH,
    WHOLE_CLIP,
    against_baseline,
    embed_video_file,
    mean_embedding,
)
from genrl.vlm.protocol import VideoLanguageModel
from genrl.vlm.registry import find_vlm, load_vlm

ASSETS = Path(__file__).parents[1] / "assets"
REFERENCE_PROMPTS = ASSETS / "reference_prompts.json"
PREVIEW_STEPS = 48
TARGET_CANDIDATES = 64
"""Trajectories among which the VLM chooses the target of a preview, as many as in preset `mini` of `genrl learn`."""
JUDGED_CLIPS = 2
"""Clips of a decoded target by which it is judged."""
ALIKE = 1e-6
"""Standard deviation of the reference prompts' cosines at which their pictures are one picture, up to rounding."""
NOTHING_TO_COMPARE = "the model's pictures of the reference prompts are all alike: it has hardly learnt yet"
GENERAL = "general"
"""Directory of the general policy within that of its model."""


@dataclass(frozen=True)
class Prompt:
    """A description of a behaviour in the space of the VLM.

    Attributes:
        label: What to call it in pictures, metrics and directories.
        embedding: (E,) unit embedding as the VLM gave it.
        align: Whether it passes the aligner: texts do, videos stand where they should already.
    """

    label: str
    embedding: Tensor
    align: bool

    @classmethod
    def mean(cls, wordings: Sequence[Prompt]) -> Prompt:
        """One prompt of several wordings: their normalised mean."""
        label = " / ".join(wording.label for wording in wordings)
        return cls(label, mean_embedding(torch.stack([wording.embedding for wording in wordings])), wordings[0].align)

    def against(self, baseline: Prompt, strength: float = BASELINE_STRENGTH) -> Prompt:
        """The prompt with less of what it has in common with a baseline; see `against_baseline`."""
        embedding = against_baseline(self.embedding, baseline.embedding, strength)
        return Prompt(f"{self.label} (less {strength:g} of {baseline.label})", embedding, self.align)


@dataclass(frozen=True)
class Groundability:
    """How well a model's picture of a prompt fits the prompt.

    Attributes:
        cosine: Of the decoded target's video embedding with the raw prompt embedding.
        z_score: The same against the decoded targets of a committed set of reference prompts, in standard
            deviations: raw cosines are not comparable between prompts, this is. NaN where the model's pictures of
            these are all alike, as they are before it has learnt much.
    """

    cosine: float
    z_score: float

    @property
    def has_z(self) -> bool:
        """Whether there was something to compare with."""
        return not math.isnan(self.z_score)

    def z_text(self, digits: int = 1) -> str:
        """Such as `+2.1`, or a hyphen where there is none."""
        return f"{self.z_score:+.{digits}f}" if self.has_z else "-"


class PromptedModel:
    """What `genrl.load` returns: previews and targets of prompts.

    Attributes:
        model: Frozen foundation model.
        name: What it was loaded as.
        vlm_name: The `--vlm` to use; the model says which unless given.
        named_vlm: The one that was given, or None.
        general: Policy for every prompt, or None where the model has none (`genrl practice` trains it).
    """

    def __init__(
        self,
        model: FoundationModel,
        name: str,
        device: torch.device,
        vlm: str | None = None,
        general: GeneralPolicy | None = None,
    ) -> None:
        self.model = model
        self.name = name
        self.device = device
        self.general = general
        self.vlm_name = vlm or model.spec.vlm_source or model.spec.vlm
        self._cautioned: set[str] = set()
        self._own_class = OWN_CLASS.fullmatch(self.vlm_name) is not None
        self.named_vlm = vlm

    @property
    def has_vlm(self) -> bool:
        """Whether the VLM is on this machine; without, a prompt can only be an embedding of it.

        A class that is no part of this package is used only where the user named it: a model that comes from elsewhere
        must not choose what code is run.
        """
        return self.named_vlm is not None if self._own_class else find_vlm(self.vlm_name) is not None

    @cached_property
    def vlm(self) -> VideoLanguageModel:
        """The model's VLM, loaded when first needed; another one is refused."""
        spec = self.model.spec
        vlm = self._load_vlm()
        if not self._made_with(vlm.name, vlm.embed_dim, vlm.checksum):
            raise UserError(
                f"model {self.name} was trained with VLM {spec.vlm!r} of checksum {spec.vlm_checksum}, "
                f"but the one here is {vlm.name!r} of {vlm.checksum}; use the VLM it was made with (--vlm NAME=WHERE)"
            )
        return vlm

    def _load_vlm(self) -> VideoLanguageModel:
        spec = self.model.spec
        if self.named_vlm is not None:
            return load_vlm(self.vlm_name, self.device, frames=spec.frames_per_clip)
        trained = f"model {self.name} was trained with VLM {spec.vlm!r}"
        if self._own_class:
            raise UserError(f"{trained}, a class of your own; name it to have it run: --vlm {self.vlm_name}")
        try:
            return load_vlm(self.vlm_name, self.device, frames=spec.frames_per_clip)
        except UserError as error:
            raise UserError(
                f"{trained}, which is not here ({error}); say where it is (--vlm {spec.vlm}=WHERE), or give the "
                "prompt as an embedding of it (--text-embedding FILE)"
            ) from error

    def _made_with(self, name: str, embed_dim: int, checksum: str) -> bool:
        """Whether the model was trained with embeddings of this VLM."""
        spec = self.model.spec
        if spec.vlm_checksum == IMPORTED_CHECKSUM:  # Those who made the embeddings recorded no checksum.
            return (name, embed_dim) == (spec.vlm, spec.embed_dim)
        return checksum == spec.vlm_checksum

    def prompt(
        self, text: str, *wordings: str, baseline: str | None = None, strength: float = BASELINE_STRENGTH
    ) -> Prompt:
        """A prompt in words; says on stderr where the VLM knows that it does not know them.

        Args:
            text: The words.
            *wordings: Other words for the same; the mean embedding of all is the prompt.
            baseline: What is there anyway, such as "a person"; what the prompt has in common with it is taken out.
            strength: How much of it, from 0 to 1.

        Raises:
            UserError: If a text cannot be used.
        """
        prompts = [self._text_prompt(each) for each in (text, *wordings)]
        for each in (text, *wordings):
            self._caution(each)
        prompt = Prompt.mean(prompts) if wordings else prompts[0]
        return prompt if baseline is None else prompt.against(self.prompt(baseline), strength)

    def _text_prompt(self, text: str) -> Prompt:
        # By itself: in company a text's embedding differs in its last digits.
        return Prompt(text, F.normalize(self.vlm.embed_text([text])[0], dim=-1), align=True)

    def _caution(self, text: str) -> None:
        """Passes on, once, what the VLM has to say against a text; those without `caution` (see `MiniVLM`) have not."""
        caution = getattr(self.vlm, "caution", None)
        if caution is None or text in self._cautioned:
            return
        self._cautioned.add(text)
        line = caution(text)
        if line is not None:
            print(f"caution: {line}", file=sys.stderr)

    def video_prompt(self, path: Path | str, clip: ClipConfig = WHOLE_CLIP) -> Prompt:
        """A prompt by example: a video file, an animation, or an image (a pose to hold).

        Args:
            path: The file.
            clip: Which part of it, and which frames. A long video is read at moments spread evenly over it.

        Raises:
            UserError: If the file cannot be read, or holds too little.
        """
        embedding = embed_video_file(self.vlm, Path(path), clip, self.model.spec.frames_per_second)
        return Prompt(Path(path).name, embedding, align=False)

    def embedding_prompts(self, source: str, align: bool) -> list[Prompt]:
        """Prompts that the model's VLM has embedded elsewhere.

        Args:
            source: A file of `genrl vlm embed`, or `FILE.npz:PROMPT` for one of its prompts; or bare numbers, (E,) or
                (N, E), in a `.npy` file or `FILE.npz:ARRAY`.
            align: True for embeddings of texts, False for those of videos.

        Returns:
            One prompt for each row.

        Raises:
            UserError: If the file holds something else, or what another VLM has embedded.
        """
        spec = self.model.spec
        found = read_embedded_prompts(source).of_kind("text" if align else "video", source)
        if found.vlm and not self._made_with(found.vlm, found.embeddings.shape[1], found.checksum):
            raise UserError(
                f"{source} was embedded by VLM {found.vlm!r} of checksum {found.checksum}, but model {self.name} was "
                f"trained with {spec.vlm!r} of {spec.vlm_checksum}; embed the prompts with that one (`genrl vlm embed`)"
            )
        if found.embeddings.shape[1] != spec.embed_dim:
            raise UserError(
                f"{source} has embeddings of {found.embeddings.shape[1]} numbers, but model {self.name} reads those of "
                f"VLM {spec.vlm!r}, of {spec.embed_dim}"
            )
        if found.rate and not align and abs(found.rate / spec.frames_per_second - 1) > 0.01:
            raise UserError(
                f"{source} has videos read at {found.rate:g} frames a second, but model {self.name} has learnt from "
                f"{spec.frames_per_second:g}; embed them again with --rate {spec.frames_per_second:g}"
            )
        if found.frames and not align and found.frames != spec.frames_per_clip:
            raise UserError(
                f"{source} has videos read in clips of {found.frames} frames, but model {self.name} has learnt from "
                f"clips of {spec.frames_per_clip}; embed them again with --frames {spec.frames_per_clip}"
            )
        rows = F.normalize(found.embeddings.to(self.device), dim=-1)
        return [Prompt(label, row, align) for label, row in zip(found.labels, rows, strict=True)]

    def target(self, prompt: Prompt, steps: int, candidates: int = 0) -> LatentState:
        """(1, T, ...) target trajectory of a prompt.

        Args:
            prompt: What it shall show.
            steps: Length T.
            candidates: How many drawn trajectories stand beside the connector's mode; the VLM chooses the one whose
                picture fits the prompt best, by its first two clips. 0 is the mode, as in the original, and so is any
                number where the VLM is not here.
        """
        goal, judged = self.goal(prompt), self._judged_steps
        if not candidates or not self.has_vlm:
            return self.model.target(goal[None], steps, align=False)
        drawn = self.model.target_candidates(goal, max(steps, judged), candidates)
        fit = self._shown_embeddings(drawn.map(lambda x: x[:, :judged])) @ prompt.embedding
        best = int(fit.argmax())
        return drawn.map(lambda x: x[best : best + 1, :steps])

    def goal(self, prompt: Prompt) -> Tensor:
        """(E,) embedding of a prompt where videos have theirs: what connector and general policy read."""
        embedding = prompt.embedding[None].to(self.device)
        with torch.no_grad():
            return (self.model.aligner.align(embedding) if prompt.align else embedding)[0]

    def imagine(
        self, prompt: str | Prompt, steps: int = PREVIEW_STEPS, candidates: int = TARGET_CANDIDATES
    ) -> NDArray[np.uint8]:
        """(T, h, w, 3) uint8 frames: what the model understands, before any training. Candidates as in `target`."""
        prompt = self.prompt(prompt) if isinstance(prompt, str) else prompt
        return self.model.decode(self.target(prompt, steps, candidates).stoch)[0].cpu().numpy()

    def preview(
        self, prompt: Prompt, steps: int = PREVIEW_STEPS, candidates: int = TARGET_CANDIDATES
    ) -> tuple[NDArray[np.uint8], Groundability | None]:
        """What `imagine` gives, and how well it fits the prompt.

        The cosine is that of these very frames, by their first two clips; the z-score that of the connector's mode,
        since it compares with modes. Without the VLM nobody can tell, and there is None.
        """
        target = self.target(prompt, max(steps, self._judged_steps), candidates)
        frames = self.model.decode(target.stoch)
        fit = None
        if self.has_vlm:
            shown = self._embed_clips(frames[:, : self._judged_steps])[0]
            fit = replace(self.groundability(prompt), cosine=float(shown @ prompt.embedding))
        return frames[0, :steps].cpu().numpy(), fit

    def groundability(self, prompt: str | Prompt) -> Groundability:
        """Whether the decoded mode of the connector shows what the prompt says, whatever candidate a preview shows."""
        prompt = self.prompt(prompt) if isinstance(prompt, str) else prompt
        own = float(self._decoded_embeddings([prompt])[0] @ prompt.embedding)
        reference = self._reference_embeddings @ prompt.embedding
        spread = float(reference.std())
        z_score = (own - float(reference.mean())) / spread if spread > ALIKE else math.nan
        return Groundability(own, z_score)

    @property
    def _judged_steps(self) -> int:
        """Frames by which a target is judged."""
        return JUDGED_CLIPS * self.model.spec.frames_per_clip

    @cached_property
    def _reference_embeddings(self) -> Tensor:
        """(M, E) embeddings of the decoded targets of the reference prompts."""
        texts = json.loads(REFERENCE_PROMPTS.read_text())["prompts"]
        return self._decoded_embeddings([self._text_prompt(text) for text in texts])

    def _decoded_embeddings(self, prompts: list[Prompt]) -> Tensor:
        """(M, E) embedding of each prompt's decoded mode."""
        targets = [self.target(prompt, self._judged_steps) for prompt in prompts]
        return torch.cat([self._shown_embeddings(target) for target in targets])

    @torch.no_grad()
    def _shown_embeddings(self, states: LatentState) -> Tensor:
        """(N, T, ...) states, T whole clips -> (N, E) video embedding of what they show."""
        return self._embed_clips(self.model.decode(states.stoch))

    @torch.no_grad()
    def _embed_clips(self, frames: Tensor) -> Tensor:
        """(N, T, h, w, 3) frames, T whole clips -> (N, E) video embedding of each row: the mean over clips."""
        clips = frames.unflatten(1, (-1, self.model.spec.frames_per_clip))
        embeddings = self.vlm.embed_video(clips.flatten(0, 1)).unflatten(0, clips.shape[:2])
        return F.normalize(embeddings.mean(1), dim=-1)


def load_model(name: str | Path, device: torch.device | str = "cpu", vlm: str | None = None) -> PromptedModel:
    """A shipped model by name, or one from a directory (a model, or the run that made it).

    Args:
        name: The model.
        device: Where it computes.
        vlm: The `--vlm` to use, where the video-language model is not where the model was trained with it.

    Raises:
        UserError: If there is none.
    """
    device, directory = torch.device(device), model_directory(name)
    model = FoundationModel.load(directory, device)
    general = GeneralPolicy.load(directory / GENERAL, model) if (directory / GENERAL).is_dir() else None
    return PromptedModel(model, str(name), device, vlm, general)


def model_directory(name: str | Path) -> Path:
    """Where a model lies.

    Raises:
        UserError: If there is none.
    """
    for directory in (ASSETS / str(name), Path(name) / "model", Path(name)):
        if (directory / "meta.json").is_file():
            return directory
    shipped = sorted(path.parent.name for path in ASSETS.glob("*-mini/meta.json"))
    hint = did_you_mean(str(name), shipped) or "none is shipped"
    raise UserError(f"--model {name}: no such model; {hint}, or give a directory that `genrl pretrain` wrote")
