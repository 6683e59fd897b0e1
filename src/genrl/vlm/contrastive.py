"""Training of the mini VLM: clips and captions that belong together come close."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from genrl.infra.compute import autocast
from genrl.infra.finite import check_finite
from genrl.vlm.bodies import BODIES, CONCEPTS
from genrl.vlm.captions import draw_caption
from genrl.vlm.mini import MiniVLM

CLASS_WEIGHT = 3.0
"""How much more often a clip is drawn for a behaviour than for an attribute such as `fast`."""
_CLASSES = {concept for body in BODIES.values() for concept in body.classes}
MAX_SHIFT = 3
"""Pixels by which training pictures are moved at random."""


@dataclass(frozen=True)
class LabelledClips:
    """Clips and what they show.

    Attributes:
        frames: (N, L, h, w, 3) uint8; (0, L, h, w, 3) where their embeddings are all that is needed.
        labels: (N, len(CONCEPTS)) int8: 1 shown, 0 not shown, -1 undecided.
        motion: (N, M) float32 measurements of the motion, standardised; NaN for those that the body does not have.
    """

    frames: Tensor
    labels: np.ndarray
    motion: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class ContrastiveConfig:
    """How the mini VLM learns."""

    batch_size: int = 96
    """Clips of a batch."""
    captions_per_clip: int = 4
    """Captions drawn for each clip; texts are cheap beside clips, and there are thousands of them."""
    neighbours: int = 0
    """With --video-tower: every second clip of a batch is drawn from this many nearest neighbours of the one before it,
    from those that do not show what that one is captioned with. What nearly kneels, or lies with a leg up, is rare
    among clips drawn at random, and what a policy ends at. 0 draws all at random."""
    learning_rate: float = 1e-3
    """Of the video tower; the text tower learns at twice this rate."""
    weight_decay: float = 0.05
    text_weight_decay: float = 0.02
    warmup: int = 50
    motion_weight: float = 0.3
    """Weight of predicting the measured motion from the video embedding, so that it keeps more than the class."""
    anchor_weight: float = 5.0
    """Weight of staying where the model that training starts from has its clips."""

    def __post_init__(self) -> None:
        if self.neighbours < 0:
            raise ValueError(f"learning.neighbours must be 0 or more, got {self.neighbours}")


def contrastive_loss(video: Tensor, text: Tensor, shown: Tensor, scale: Tensor) -> Tensor:
    """Symmetric cross-entropy with several positives.

    Args:
        video: (B, E) unit embeddings of clips.
        text: (C, E) unit embeddings of captions. Every clip shows a caption, every caption is shown by a clip.
        shown: (B, C) int8, whether clip i shows what caption j says: 1 yes, 0 no, -1 undecided and left out.
        scale: Scalar that cosines are multiplied with.

    Returns:
        () mean of both directions: captions ranked for each clip, clips ranked for each caption.
    """
    logits = (scale * video @ text.mT).masked_fill(shown < 0, -1e4)  # (B, C)
    positive = (shown > 0).float()
    by_clip = -(F.log_softmax(logits, dim=1) * positive).sum(1) / positive.sum(1)
    by_text = -(F.log_softmax(logits, dim=0) * positive).sum(0) / positive.sum(0)
    return (by_clip.mean() + by_text.mean()) / 2


class ContrastiveLearner:
    """The model, its optimiser and one update."""

    def __init__(
        self,
        model: MiniVLM,
        clips: LabelledClips,
        captions: Mapping[str, list[str]],
        config: ContrastiveConfig,
        updates: int,
        seed: int,
        video_embeddings: Tensor | None = None,
        anchors: Tensor | None = None,
    ) -> None:
        """Prepare to train for `updates`, over which the learning rate falls to zero.

        With `video_embeddings`, (N, E) unit embeddings of the clips, the video tower stays as it is, and the text tower
        learns alone. With `anchors`, (N, E) likewise, clips are drawn to their anchor; a row of zeros is none.
        """
        self.video_embeddings, self.anchors = video_embeddings, anchors
        self.model, self.clips, self.config, self.updates, self.seed = model, clips, config, updates, seed
        self.captions = captions
        self.log_scale = nn.Parameter(torch.tensor(np.log(15.0), dtype=torch.float32, device=model.device))
        self.motion_head = nn.Linear(model.embed_dim, clips.motion.shape[1]).to(model.device)
        text = list(model.text.parameters())
        rest = [*model.video.parameters(), *self.motion_head.parameters()]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": text, "weight_decay": config.text_weight_decay, "rate": 2.0},
                {"params": rest, "weight_decay": config.weight_decay, "rate": 1.0},
                {"params": [self.log_scale], "weight_decay": 0.0, "rate": 1.0},
            ],
            lr=config.learning_rate,
            betas=(0.9, 0.98),
        )
        self._members = {
            column: np.flatnonzero(clips.labels[:, column] == 1)
            for column, concept in enumerate(CONCEPTS)
            if captions[concept] and (clips.labels[:, column] == 1).any()
        }
        weights = np.array([CLASS_WEIGHT if CONCEPTS[c] in _CLASSES else 1.0 for c in self._members])
        self._columns = np.array(list(self._members))
        self._share = weights / weights.sum()
        self._neighbours: NDArray[np.int64] | None = None
        if config.neighbours:
            assert video_embeddings is not None, "checked by whoever reads the options"
            self._neighbours = nearest(video_embeddings, config.neighbours)

    @property
    def concepts(self) -> list[str]:
        """Those that some clip shows and some caption says: what is learnt."""
        return [CONCEPTS[column] for column in self._members]

    def draw(self, update: int) -> tuple[Tensor, list[str], Tensor]:
        """B rows of the clips, C captions of each, and (B, B * C) who shows what; by (seed, update)."""
        rng = np.random.default_rng((self.seed, update))
        columns = rng.choice(self._columns, self.config.batch_size, p=self._share)
        rows = np.array([rng.choice(self._members[column]) for column in columns])
        if self._neighbours is not None:
            for i in range(1, len(rows), 2):
                rows[i], columns[i] = self._draw_near(rows[i - 1], columns[i - 1], rng) or (rows[i], columns[i])
        said = columns.repeat(self.config.captions_per_clip)
        texts = [draw_caption(CONCEPTS[column], self.captions[CONCEPTS[column]], rng) for column in said]
        return torch.from_numpy(rows), texts, torch.from_numpy(self.clips.labels[rows][:, said])

    def _draw_near(self, row: int, column: int, rng: np.random.Generator) -> tuple[int, int] | None:
        """A clip near another one that does not show that one's concept, and a concept that it shows; None if none."""
        assert self._neighbours is not None
        labels, near = self.clips.labels, self._neighbours[row]
        near = near[labels[near, column] == 0]
        share = self._share * (labels[near][:, self._columns] == 1)
        near, share = near[share.any(1)], share[share.any(1)]
        if not len(near):
            return None
        pick = rng.integers(len(near))
        return int(near[pick]), int(rng.choice(self._columns, p=share[pick] / share[pick].sum()))

    def update(self, update: int) -> dict[str, Tensor]:
        """One optimiser step."""
        model, device = self.model.train().requires_grad_(True), self.model.device
        rows, texts, shown = self.draw(update)
        for group in self.optimizer.param_groups:
            group["lr"] = group["rate"] * self._learning_rate(update)
        video = self._embed(rows, update)
        contrastive = contrastive_loss(video, model.text(texts), shown.to(device), self.log_scale.exp().clamp(max=50))
        motion_loss = self._motion_loss(video, rows)
        anchor_loss = self._anchor_loss(video, rows)
        loss = contrastive + self.config.motion_weight * motion_loss + self.config.anchor_weight * anchor_loss
        check_finite({"contrastive_loss": contrastive, "motion_loss": motion_loss, "anchor_loss": anchor_loss})
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {
            "vlm/contrastive_loss": contrastive.detach(),
            "vlm/motion_loss": motion_loss.detach(),
            "vlm/anchor_loss": anchor_loss.detach(),
            "vlm/scale": self.log_scale.detach().exp(),
        }

    def _embed(self, rows: Tensor, update: int) -> Tensor:
        """(B, E) unit embeddings of clips, moved by a few pixels; the given ones if the video tower does not learn."""
        device = self.model.device
        if self.video_embeddings is not None:
            return self.video_embeddings[rows].to(device)
        frames = _shifted(self.clips.frames[rows], np.random.default_rng((self.seed, update, 1)))
        with autocast(device, "auto"):
            video = self.model.video(frames.to(device))
        return video.float()

    def _motion_loss(self, video: Tensor, rows: Tensor) -> Tensor:
        """() error of the motion that is predicted from (B, E) embeddings."""
        predicted = self.motion_head(video * video.shape[-1] ** 0.5)
        motion = self.clips.motion[rows].to(video.device)
        known = ~motion.isnan()
        return F.smooth_l1_loss(predicted[known], motion[known])

    def _anchor_loss(self, video: Tensor, rows: Tensor) -> Tensor:
        """() mean of one minus the cosine of (B, E) embeddings with their anchors, over those that have one."""
        if self.anchors is None:
            return video.new_zeros(())
        anchors = self.anchors[rows].to(video.device)
        anchored = anchors.any(-1)
        return ((1 - (video * anchors).sum(-1)) * anchored).sum() / anchored.sum().clamp(min=1)

    def state_tensors(self) -> dict[str, Tensor]:
        """Weights and optimiser state."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"motion_head.{name}": value for name, value in self.motion_head.state_dict().items()}
        tensors["log_scale"] = self.log_scale.detach()
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items()}
        return tensors

    def state_meta(self) -> dict[str, Any]:
        """Nothing beside the tensors."""
        return {}

    def load_state(self, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
        """Take up what `state_tensors` gave."""
        self.model.load_state_dict(_below("model.", tensors))
        self.motion_head.load_state_dict(_below("motion_head.", tensors))
        self.log_scale.data.copy_(tensors["log_scale"])
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in _below("optimizer.", tensors).items():
            index, key = name.split(".")
            state.setdefault(int(index), {})[key] = value
        self.optimizer.load_state_dict({"state": state, "param_groups": self.optimizer.state_dict()["param_groups"]})

    def _learning_rate(self, update: int) -> float:
        rising = min(1.0, (update + 1) / self.config.warmup)
        return self.config.learning_rate * rising * 0.5 * (1 + np.cos(np.pi * min(1.0, update / self.updates)))


def nearest(embeddings: Tensor, count: int, chunk: int = 1024) -> NDArray[np.int64]:
    """(N, E) unit embeddings -> (N, count) rows nearest to each by cosine, itself left out."""
    count = min(count, len(embeddings) - 1)
    parts = []
    for first in range(0, len(embeddings), chunk):
        cosine = embeddings[first : first + chunk] @ embeddings.T
        cosine.diagonal(first).fill_(-torch.inf)
        parts.append(cosine.topk(count, dim=1).indices.cpu())
    return torch.cat(parts).numpy()


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _shifted(frames: Tensor, rng: np.random.Generator) -> Tensor:
    """Clips moved by a few pixels, each as a whole; the border is repeated."""
    size = frames.shape[2]
    shifts = torch.from_numpy(rng.integers(-MAX_SHIFT, MAX_SHIFT + 1, (2, len(frames))))
    rows, columns = (torch.arange(size) + shifts.unsqueeze(-1)).clamp(0, size - 1)  # (B, size) each
    return torch.stack([clip[:, row][:, :, column] for clip, row, column in zip(frames, rows, columns, strict=True)])
