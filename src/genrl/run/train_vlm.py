"""`genrl train-vlm`: make clips with captions, train the mini VLM on them, measure retrieval."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from genrl.data.store import find_stores
from genrl.envs.gl import require_gl
from genrl.envs.rendering import Look, check_look
from genrl.infra.checkpoint import atomic_write, load_checkpoint, recorded_checksum
from genrl.infra.compute import DeviceName, pick_device
from genrl.infra.errors import UserError
from genrl.infra.inputs import RunInput
from genrl.infra.progress import ProgressReport
from genrl.infra.rundir import Run
from genrl.run.inputs import store_inputs
from genrl.run.vlm_clips import (
    CLIP_FRAMES,
    SIZE,
    ClipSource,
    join_clips,
    load_clips,
    make_puppet_clips,
    stores_by_domain,
    take_store_clips,
)
from genrl.vlm.bodies import get_body
from genrl.vlm.captions import load_captions, load_held_out_wordings
from genrl.vlm.contrastive import ContrastiveConfig, ContrastiveLearner, LabelledClips
from genrl.vlm.mini import CONCEPTS_TENSOR, MiniVLM
from genrl.vlm.retrieval import measure_retrieval
from genrl.vlm.tokens import TokenVectors
from genrl.vlm.towers import MiniVLMConfig

MODEL_DIRECTORY = "model"
UNREAD = "held-out wordings, unread"
"""Kind of wordings: measured without reading them as mixtures of concepts (`TextTower.read`)."""


@dataclass(frozen=True)
class TrainVlmConfig:
    """Trains the mini video-language model of some bodies from captions that rules write. Run again it goes on."""

    out: Path
    """Run directory; the model comes to lie in `model` below it, the retrieval table in `report.json`."""
    domains: tuple[str, ...] = ("walker",)
    """Bodies: walker, stickman, cheetah, quadruped."""
    data: tuple[Path, ...] = ()
    """Episode stores with simulator states, whose clips join the puppets'."""
    clips: int = 12_000
    """Puppet clips of each body to train on."""
    test_clips: int = 1_500
    """Puppet clips of each body to measure retrieval on."""
    store_clips: int = 6_000
    """At most so many clips of each body's stores to train on; a quarter of that to measure retrieval on."""
    own_look_share: float = 0.6
    """Share of puppet clips in the body's own camera, colours and light."""
    look: Look = "fast"
    video_tower: Path | None = None
    """Keep the video tower of this mini VLM and learn the text tower alone, in minutes: for new captions, where stores
    hold its embeddings already."""
    start: Path | None = None
    """Begin from this mini VLM, and let the clips of its bodies stay where it has them (--learning.anchor-weight), so
    that models that learnt from its embeddings need little to follow."""
    updates: int = 1_500
    left_out: int = 0
    """Leave every so-many-th caption of a concept out of training and measure retrieval on them; 0 leaves out none."""
    seed: int = 0
    clip_seed: int | None = None
    """Seed of the clips alone, by default --seed: several runs over the same clips, of which the best is kept."""
    model: MiniVLMConfig = field(default_factory=MiniVLMConfig)
    learning: ContrastiveConfig = field(default_factory=ContrastiveConfig)
    workers: int = 1
    """Processes that draw clips."""
    device: DeviceName = "auto"
    log_every: int = 20
    save_every: int = 500
    fresh: bool = False

    def __post_init__(self) -> None:
        for name in ("clips", "test_clips", "updates", "workers"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name.replace('_', '-')} must be at least 1, got {getattr(self, name)}")
        if self.start is not None and self.video_tower is not None:
            raise UserError(
                "--start and --video-tower exclude each other: the one moves the video tower, the other not"
            )
        if self.learning.neighbours and self.video_tower is None:
            raise UserError("--learning.neighbours needs --video-tower: only where a video tower stays, neighbours do")
        if not 0 <= self.own_look_share <= 1:
            raise UserError(f"--own-look-share must lie in [0, 1], got {self.own_look_share}")
        if (self.model.frames_per_clip, self.model.image_size) != (CLIP_FRAMES, SIZE):
            raise UserError(f"--model.frames-per-clip and --model.image-size must be {CLIP_FRAMES} and {SIZE}")


def train_vlm(config: TrainVlmConfig) -> Path | None:
    """Train, and return the directory of the model; None when it was asked to stop."""
    for domain in config.domains:
        get_body(domain)
    check_look(config.look)
    device = pick_device(config.device)
    kept = _known_vlm(config, "video_tower")
    start = _known_vlm(config, "start")
    stores = stores_by_domain(find_stores(config.data) if config.data else [], config.domains)
    require_gl()
    inputs = store_inputs(config.data)
    for option, known in (("--start", config.start), ("--video-tower", config.video_tower)):
        if known is not None:
            inputs.append(RunInput(f"{option} {known}", recorded_checksum(known), known))
    results = ("clips", "model", "report.json")
    opened = Run.open(
        config.out, "train-vlm", config, fresh=config.fresh, extendable=(), results=results, inputs=inputs
    )
    with opened as run:
        if run.is_complete(lambda: MiniVLM.load(config.out / MODEL_DIRECTORY)):
            print(f"{config.out}: training is complete; --fresh trains anew", file=sys.stderr)
            return config.out / MODEL_DIRECTORY
        run.begin()
        shards = {domain: _clips(config, domain, stores[domain], test=False) for domain in config.domains}
        trained_on, left_out = _split(load_captions(), config.left_out)
        torch.manual_seed(config.seed)
        model = MiniVLM(config.model, TokenVectors.load()).to(device)
        embeddings = anchors = None
        if kept is not None:
            model.video.load_state_dict(kept.video.state_dict())
            of_bodies, embeddings = _embedded(shards, model)
        else:
            of_bodies = [load_clips(own, domain)[0] for domain, own in shards.items()]
        train = _standardise(join_clips(of_bodies))
        if start is not None and config.start is not None:
            model.load_state_dict({k: v for k, v in start.state_dict().items() if k != CONCEPTS_TENSOR})
            anchors = _anchors(config, start.to(device), _known_bodies(config.start), of_bodies)
        learner = ContrastiveLearner(
            model, train, trained_on, config.learning, config.updates, config.seed, embeddings, anchors
        )
        for update in run.updates(config.updates, run.restore(learner), headline="vlm/contrastive_loss"):
            run.log(update, learner.update(update), every=config.log_every)
            run.save(update, learner, every=config.save_every)
        if run.stopped:
            return None
        model.eval().keep_concepts({concept: trained_on[concept] for concept in learner.concepts})
        meta = {"domains": list(config.domains), "look": config.look, "seed": config.seed}
        model.save(config.out / MODEL_DIRECTORY, meta)
        report = _measure(config, stores, trained_on, left_out)
        atomic_write(config.out / "report.json", json.dumps(report, indent=2) + "\n")
        _print_table(report)
        run.finish({name: group["accuracy"] for name, group in report.items()})
    return config.out / MODEL_DIRECTORY


def _known_vlm(config: TrainVlmConfig, option: str) -> MiniVLM | None:
    """The model that an option names, of the sizes asked for."""
    directory: Path | None = getattr(config, option)
    if directory is None:
        return None
    model = MiniVLM.load(directory)
    # A text tower that is learnt from nothing may have other sizes.
    free = {"token_dim", "text_hidden_dim", "text_dropout"} if option == "video_tower" else {"text_dropout"}
    for name in [option.name for option in dataclasses.fields(MiniVLMConfig) if option.name not in free]:
        theirs, ours = getattr(model.config, name), getattr(config.model, name)
        if theirs != ours:
            flag = f"--model.{name.replace('_', '-')}"
            raise UserError(f"--{option.replace('_', '-')} {directory} has {flag} {theirs}, here it is {ours}")
    return model


def _known_bodies(directory: Path) -> list[str]:
    """Bodies that a mini VLM was trained on."""
    meta = load_checkpoint(directory)[1]
    return list(meta["domains"]) if "domains" in meta else [meta["domain"]]  # of one body, before there were several


def _embedded(shards: Mapping[str, Sequence[Path]], model: MiniVLM) -> tuple[list[LabelledClips], Tensor]:
    """Clips of each shard without their pictures, and the (N, E) embeddings of all.

    One shard is held at a time: a text tower may learn from more clips than memory holds.
    """
    of_shards, embeddings = [], []
    parts = [(domain, shard) for domain, own in shards.items() for shard in own]
    with ProgressReport(len(parts), 0, "embedding clips", "shard") as progress:
        for number, (domain, shard) in enumerate(parts, 1):
            clips, _ = load_clips([shard], domain)
            embeddings.append(model.embed_video(clips.frames))
            of_shards.append(dataclasses.replace(clips, frames=clips.frames[:0]))
            progress.advance(number)
    return of_shards, torch.cat(embeddings)


def _anchors(config: TrainVlmConfig, start: MiniVLM, known: Sequence[str], clips: Sequence[LabelledClips]) -> Tensor:
    """(N, E) embeddings that the start gives to the clips of its bodies, zero for those of others."""
    parts = []
    for domain, of_body in zip(config.domains, clips, strict=True):
        unknown = torch.zeros(len(of_body), start.embed_dim)
        parts.append(start.embed_video(of_body.frames).cpu() if domain in known else unknown)
    return torch.cat(parts)


def _standardise(clips: LabelledClips) -> LabelledClips:
    """Each measurement with mean zero and deviation one over the clips that have it, within -4 ... 4."""
    known = ~clips.motion.isnan()
    count = known.sum(0).clamp(min=1)
    mean = clips.motion.nansum(0) / count
    deviation = ((clips.motion - mean).square().nansum(0) / count).sqrt() + 1e-6
    return dataclasses.replace(clips, motion=((clips.motion - mean) / deviation).clamp(-4, 4))


def _clips(config: TrainVlmConfig, domain: str, stores: list[Path], test: bool) -> list[Path]:
    """Shards of a body's clips to train on, or of those to test on, made where they are missing."""
    directory = config.out / "clips" / domain
    kind = "test" if test else "train"
    count = config.test_clips if test else config.clips
    # Stores first: one that does not fit is refused before minutes of drawing.
    store_count = config.store_clips // 4 if test else config.store_clips
    seed = config.seed if config.clip_seed is None else config.clip_seed
    taken = take_store_clips(directory, f"{kind}_store", stores, domain, store_count, test, seed)
    source = ClipSource(domain, config.look, config.own_look_share, seed)
    return [*make_puppet_clips(directory, f"{kind}_puppet", source, count, config.workers), *taken]


def _split(captions: Mapping[str, list[str]], every: int) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Captions to train on and those left out."""
    if every == 0:
        return dict(captions), {}
    kept = {concept: [w for i, w in enumerate(words) if (i + 1) % every] for concept, words in captions.items()}
    return kept, {concept: words[every - 1 :: every] for concept, words in captions.items()}


def _measure(
    config: TrainVlmConfig,
    stores: Mapping[str, list[Path]],
    trained_on: Mapping[str, list[str]],
    left_out: Mapping[str, list[str]],
) -> dict[str, dict]:
    """Retrieval on clips that training never saw, by body, kind of clip and of wording.

    Bodies of --start also have `stayed`, the mean cosine of a clip with where the start has it.
    """
    # What is measured is what was stored, in half precision.
    device = pick_device(config.device)
    model, unread = (MiniVLM.load(config.out / MODEL_DIRECTORY).to(device) for _ in range(2))
    unread.text.concepts = None
    start = _known_vlm(config, "start")
    known = _known_bodies(config.start) if config.start is not None else []
    held_out = load_held_out_wordings()
    report: dict[str, dict] = {}
    for domain in config.domains:
        body = get_body(domain)
        shards = _clips(config, domain, stores[domain], test=True)
        puppets, own_look = load_clips([s for s in shards if "_puppet_" in s.name], domain)
        groups = {"own look": _rows(puppets, own_look), "random looks": _rows(puppets, ~own_look)}
        taken = [s for s in shards if "_store_" in s.name]
        if taken:
            groups["simulated"] = load_clips(taken, domain)[0]
        wordings = {
            "captions": {c: words for c, words in trained_on.items() if c in body.classes},
            "captions of attributes": {
                c: words for c, words in trained_on.items() if c in body.concepts and c not in body.classes
            },
            "left-out captions": {c: words for c, words in left_out.items() if c in body.concepts},
            "held-out wordings": {c: words for c, words in held_out.items() if c in body.concepts},
        }
        wordings[UNREAD] = wordings["held-out wordings"]
        for group, clips in groups.items():
            embeddings = model.embed_video(clips.frames)
            stayed = {}
            if start is not None and domain in known:
                before = start.to(embeddings.device).embed_video(clips.frames)
                stayed["stayed"] = float((embeddings * before).sum(-1).mean())
            for kind, words in wordings.items():
                if words:
                    reader = unread if kind == UNREAD else model
                    measured = measure_retrieval(reader, embeddings, clips.labels, words, body.classes, config.seed)
                    told = dataclasses.asdict(measured)
                    if kind.startswith("captions"):
                        del told["by_wording"]  # thousands of lines that say little
                    elif kind == UNREAD:
                        told = {name: told[name] for name in ("accuracy", "candidates")}
                    report[f"{domain}: {kind}, {group}"] = {"clips": len(clips), **stayed, **told}
    return report


def _rows(clips: LabelledClips, chosen: np.ndarray) -> LabelledClips:
    rows = torch.from_numpy(chosen)
    return LabelledClips(clips.frames[rows], clips.labels[chosen], clips.motion[rows])


def _print_table(report: Mapping[str, dict]) -> None:
    print("text-to-video retrieval, share of wordings whose clip ranks first:")
    for name, group in report.items():
        print(f"  {name:46s} {group['accuracy']:.2f}   (1 of {group['candidates']}, {group['clips']} clips)")
