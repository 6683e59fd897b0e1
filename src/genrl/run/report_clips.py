"""Clips of embedded stores that a report looks at, and what is known of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from genrl.data.episode import Array
from genrl.data.store import Store
from genrl.evaluation.text_video import UNKNOWN
from genrl.infra.errors import UserError
from genrl.vlm.bodies import BODIES, CONCEPTS, label_clips
from genrl.vlm.protocol import VideoLanguageModel

HELD_OUT_EVERY = 10
"""Of every so many episodes of a store the last is looked at, which `genrl train-vlm` does not train on."""
RULE_FRAMES = 8
"""Frames that the rules on behaviours look at."""


@dataclass(frozen=True)
class ReportClips:
    """The clips a report looks at.

    Attributes:
        video: (N, E) float32 unit embeddings.
        store: Name of each clip's store.
        episode: (N,) its episode there.
        row: (N,) row of the store that it ends at.
        source: Name of its source.
        labels: Name of a group -> (N,) whether each clip shows it: 1, 0, or -1 for unknown.
        held_out: Whether all are of episodes held out.
    """

    video: Array
    store: list[str]
    episode: Array
    row: Array
    source: list[str]
    labels: dict[str, Array]
    held_out: bool


def take_clips(stores: list[Store], vlm: VideoLanguageModel, count: int) -> ReportClips:
    """Clips that do not overlap, of episodes held out; of all where a data set has fewer than ten a store.

    Raises:
        UserError: If no episode has a whole clip.
    """
    length, held_out = vlm.frames_per_clip, all(len(store.episodes) >= HELD_OUT_EVERY for store in stores)
    found: list[tuple[int, int, int]] = []  # store, episode, row
    for number, store in enumerate(stores):
        for episode, (start, rows) in enumerate(zip(store.episodes.start, store.episodes.length, strict=True)):
            if not held_out or episode % HELD_OUT_EVERY == HELD_OUT_EVERY - 1:
                found += [(number, episode, row) for row in range(start + length - 1, start + rows, length)]
    if len(found) > count:
        found = [found[place] for place in np.linspace(0, len(found) - 1, count).round().astype(int)]
    video = np.zeros((len(found), vlm.embed_dim), np.float32)
    labels: dict[str, Array] = {}
    for number, store in enumerate(stores):
        mine = [place for place, clip in enumerate(found) if clip[0] == number]
        if not mine:
            continue
        ends = [found[place][2] for place in mine]
        rows = store.empty_rows(f"embedding/{vlm.name}", len(mine), 1)
        store.read_into(f"embedding/{vlm.name}", ends, list(rows))
        video[mine] = rows[:, 0]
        for name, own in behaviour_labels(store, ends).items():
            # What one store cannot tell is unknown of its clips.
            labels.setdefault(name, np.full(len(found), UNKNOWN, np.int8))[mine] = own
    sources = [_source(stores[number], episode) for number, episode, _ in found]
    labels = (
        named_labels(sources) | named_labels([stores[n].episodes.prompt[episode] for n, episode, _ in found]) | labels
    )
    whole = np.asarray(video.any(axis=1))  # Imported data may lack some.
    if whole.sum() < 2:
        raise UserError("the stores hold fewer than two clips with an embedding; collect more or longer episodes")
    kept = [clip for clip, there in zip(found, whole, strict=True) if there]
    video = video[whole] / np.linalg.norm(video[whole], axis=1, keepdims=True)
    return ReportClips(
        video,
        [stores[number].path.name for number, _, _ in kept],
        np.array([episode for _, episode, _ in kept]),
        np.array([row for _, _, row in kept]),
        [source for source, there in zip(sources, whole, strict=True) if there],
        {name: own[whole] for name, own in labels.items()},
        held_out,
    )


def named_labels(names: list[str]) -> dict[str, Array]:
    """Name -> (N,) which clips have it, from the name of each clip's source or prompt; empty names are unknown."""
    return {
        name: np.array([own == name if own else UNKNOWN for own in names], np.int8)
        for name in filter(None, dict.fromkeys(names))
    }


def behaviour_labels(store: Store, ends: list[int]) -> dict[str, Array]:
    """Which behaviours the clips show by the rules on simulator states; none where there are no states or no rules."""
    if store.spec.domain not in BODIES or not store.spec.state_dim:
        return {}
    body = BODIES[store.spec.domain]
    states = store.empty_rows("state", len(ends), RULE_FRAMES)
    store.read_into("state", [end + 1 - RULE_FRAMES for end in ends], list(states))
    shown = label_clips(body, body.describe(states[..., : body.num_positions]))
    return {concept: shown[:, CONCEPTS.index(concept)] for concept in body.concepts}


def _source(store: Store, episode: int) -> str:
    return store.sources[int(store.episodes.source[episode])]
