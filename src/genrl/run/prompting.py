"""A foundation model together with the video-language model that understands its prompts."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from genrl.behavior.general import GeneralPolicy
from genrl.infra.clips import ClipConfig, read_clips
from genrl.infra.errors import UserError, did_you_mean
from genrl.interop.original_import import IMPORTED_CHECKSUM
from genrl.models.foundation import FoundationModel
from genrl.models.state import LatentState
from genrl.vlm.own import OWN_CLASS
from genrl.vlm.protocol import VideoLanguageModel
from genrl.vlm.registry import find_vlm, load_vlm

ASSETS = Path(__file__).parents[1] / "assets"
REFERENCE_PROMPTS = ASSETS / "reference_prompts.json"
PREVIEW_STEPS = 48
WHOLE_CLIP = ClipConfig()
ARRAYS_SHOWN = 8
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


@dataclass(frozen=True)
class Groundability:
    """How well a model's picture of a prompt fits the prompt.

    Attributes:
        cosine: Of the decoded target's video embedding with the raw prompt embedding.
        z_score: The same against the decoded targets of a committed set of reference prompts, in standard
            deviations: raw cosines are not comparable between prompts, this is.
    """

    cosine: float
    z_score: float


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
        if spec.vlm_checksum == IMPORTED_CHECKSUM:  # Those who made the embeddings recorded no checksum.
            fits = (vlm.name, vlm.embed_dim) == (spec.vlm, spec.embed_dim)
        else:
            fits = vlm.checksum == spec.vlm_checksum
        if not fits:
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

    def prompt(self, text: str, *wordings: str) -> Prompt:
        """A prompt in words; several wordings make one prompt, their mean embedding."""
        texts = [text, *wordings]
        embedding = F.normalize(self.vlm.embed_text(texts).mean(0), dim=-1)
        return Prompt(" / ".join(texts), embedding, align=True)

    def video_prompt(self, path: Path | str, clip: ClipConfig = WHOLE_CLIP) -> Prompt:
        """A prompt by example: a video file, an animation, or an image (a pose to hold).

        Args:
            path: The file.
            clip: Which part of it, and which frames. A long video is read at moments spread evenly over it.

        Raises:
            UserError: If the file cannot be read, or holds too little.
        """
        vlm = self.vlm
        rate = self.model.spec.frames_per_second
        found = read_clips(Path(path), clip, vlm.frames_per_clip, rate, vlm.image_size)
        if found.total > len(found.clips):
            warnings.warn(
                f"{path} is long: {len(found.clips)} of its {found.total} clips of {vlm.frames_per_clip} frames are "
                "read, evenly spread; choose a part with --clip.start and --clip.stop",
                stacklevel=2,
            )
        embedding = F.normalize(vlm.embed_video(torch.from_numpy(found.clips)).mean(0), dim=-1)
        return Prompt(Path(path).name, embedding, align=False)

    def embedding_prompts(self, source: str, align: bool) -> list[Prompt]:
        """Prompts that the model's VLM has embedded elsewhere.

        Args:
            source: A `.npy` file of (E,) or (N, E) numbers, or `FILE.npz:ARRAY`.
            align: True for embeddings of texts, False for those of videos.

        Returns:
            One prompt for each row.

        Raises:
            UserError: If the file holds something else, or embeddings of another size.
        """
        rows = _read_embeddings(source)
        if rows.shape[1] != self.model.spec.embed_dim:
            raise UserError(
                f"{source} has embeddings of {rows.shape[1]} numbers, but model {self.name} reads those of VLM "
                f"{self.model.spec.vlm!r}, of {self.model.spec.embed_dim}"
            )
        name = source.rpartition(":")[2] if ".npz:" in source else Path(source).stem
        labels = [name] if len(rows) == 1 else [f"{name} {number}" for number in range(len(rows))]
        return [Prompt(label, F.normalize(row, dim=-1), align) for label, row in zip(labels, rows, strict=True)]

    def target(self, prompt: Prompt, steps: int) -> LatentState:
        """(1, T, ...) target trajectory of a prompt."""
        return self.model.target(self.goal(prompt)[None], steps, align=False)

    def goal(self, prompt: Prompt) -> Tensor:
        """(E,) embedding of a prompt where videos have theirs: what connector and general policy read."""
        embedding = prompt.embedding[None].to(self.device)
        with torch.no_grad():
            return (self.model.aligner.align(embedding) if prompt.align else embedding)[0]

    def imagine(self, prompt: str | Prompt, steps: int = PREVIEW_STEPS) -> NDArray[np.uint8]:
        """(T, h, w, 3) uint8 frames: what the model understands, before any training."""
        prompt = self.prompt(prompt) if isinstance(prompt, str) else prompt
        return self.model.decode(self.target(prompt, steps).stoch)[0].cpu().numpy()

    def groundability(self, prompt: str | Prompt) -> Groundability:
        """Whether the decoded target shows what the prompt says."""
        prompt = self.prompt(prompt) if isinstance(prompt, str) else prompt
        own = self._decoded_embeddings([prompt])[0] @ prompt.embedding
        reference = self._reference_embeddings @ prompt.embedding
        z_score = (own - reference.mean()) / reference.std()
        return Groundability(float(own), float(z_score))

    @cached_property
    def _reference_embeddings(self) -> Tensor:
        """(M, E) embeddings of the decoded targets of the reference prompts."""
        texts = json.loads(REFERENCE_PROMPTS.read_text())["prompts"]
        return self._decoded_embeddings([self.prompt(text) for text in texts])

    def _decoded_embeddings(self, prompts: list[Prompt]) -> Tensor:
        """(M, E) embedding of each prompt's decoded target: the mean over its clips."""
        clip = self.model.spec.frames_per_clip
        embeddings = []
        for prompt in prompts:
            frames = self.model.decode(self.target(prompt, 2 * clip).stoch)[0]
            embeddings.append(self.vlm.embed_video(frames.unflatten(0, (2, clip))).mean(0))
        return F.normalize(torch.stack(embeddings), dim=-1)


def video_prompts(model: PromptedModel, videos: Sequence[Path], clip: ClipConfig) -> list[Prompt]:
    """The prompts of all --video.

    Raises:
        UserError: If one cannot be used, or there is none that --clip could choose from.
    """
    if clip != WHOLE_CLIP and not videos:
        raise UserError("--clip chooses from a --video, but none is given; leave it out, or add --video FILE")
    return [model.video_prompt(path, clip) for path in videos]


def _read_embeddings(source: str) -> Tensor:
    """(N, E) finite numbers of a file, none of the rows zero."""
    file, _, array = source.partition(".npz:")
    path = Path(f"{file}.npz" if array else source)
    if not path.is_file():
        raise UserError(f"{source}: no such file; give a .npy file of embeddings, or FILE.npz:ARRAY")
    try:
        loaded = np.load(path, allow_pickle=False)
        if not isinstance(loaded, np.ndarray):
            array = loaded.files[0] if not array and len(loaded.files) == 1 else array
            if array not in loaded.files:
                known = did_you_mean(array, loaded.files[:ARRAYS_SHOWN])
                raise UserError(f"{source}: say which array, as {path}:ARRAY; {known}")
            loaded = loaded[array]
        rows = np.atleast_2d(loaded)
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{source} cannot be read as numbers of NumPy ({error})") from error
    if rows.ndim != 2 or not rows.size or rows.dtype.kind != "f":
        raise UserError(f"{source} holds {rows.dtype} {rows.shape}, not embeddings (N, E) of float numbers")
    embeddings = torch.from_numpy(rows.astype(np.float32))
    if not embeddings.isfinite().all() or not embeddings.any(dim=1).all():
        raise UserError(f"{source} holds an embedding that is zero or not finite")
    return embeddings


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
