"""Embeddings of the clip that ends at every row of a store, the next frames read while the model computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch

from genrl.data.episode import Array
from genrl.data.store import Store
from genrl.vlm.protocol import VideoLanguageModel

BLOCK_ROWS = 64
"""Rows that pass the model together, counted from the first of their episode. A model rounds differently in batches of
another size; fixed blocks make an embedding independent of where shards are cut and who computes them."""
READ_AHEAD = 4
"""Blocks read before they are needed: a few MB."""

Block = tuple[int, int, int]
"""First row of the episode, first row of the block, row after its last."""


class SlidingEmbedder:
    """Embeds rows of one store with one model."""

    def __init__(self, store: Store, model: VideoLanguageModel) -> None:
        self.store = store
        self.model = model
        # A block that is cut by the end of one range belongs to the next one too.
        self._last: tuple[Block, Array] | None = None

    def rows(self, start: int, stop: int) -> Array:
        """Embeddings of the rows `start` to `stop` (exclusive), (stop - start, E) float16.

        A row's clip ends there and lies within its episode; rows without a whole clip are zero.

        Raises:
            UserError: If a file of the store is damaged.
        """
        rows = np.zeros((stop - start, self.model.embed_dim), np.float16)
        blocks = self._blocks(start, stop)
        if blocks and self._last is not None and self._last[0] == blocks[0]:
            self._place(rows, start, *self._last)
            blocks = blocks[1:]
        for block, frames in self._read(blocks):
            begin, first = max(block[0], block[1] - self.model.frames_per_clip + 1), block[1]
            embedded = self.model.embed_frames_sliding(torch.from_numpy(frames))[first - begin :]
            self._last = (block, embedded.cpu().numpy().astype(np.float16))
            self._place(rows, start, *self._last)
        return rows

    def _blocks(self, start: int, stop: int) -> list[Block]:
        """Those that lie in the rows, wholly or in part."""
        episodes = self.store.episodes
        blocks = []
        for index in np.flatnonzero((episodes.start < stop) & (episodes.start + episodes.length > start)):
            begin = int(episodes.start[index])
            end = begin + int(episodes.length[index])
            skipped = max(0, start - begin) // BLOCK_ROWS
            for first in range(begin + skipped * BLOCK_ROWS, min(end, stop), BLOCK_ROWS):
                blocks.append((begin, first, min(first + BLOCK_ROWS, end)))
        return blocks

    def _read(self, blocks: Sequence[Block]) -> Iterator[tuple[Block, Array]]:
        """(block, frames) in order; the frames begin with those that complete the block's first clip."""
        context = self.model.frames_per_clip - 1
        waiting: deque[tuple[Block, Future[Array]]] = deque()
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="read-frames") as reader:
            for block in blocks:
                begin, first, end = block
                waiting.append((block, reader.submit(self.store.read, "frames", max(begin, first - context), end)))
                if len(waiting) > READ_AHEAD:
                    done, future = waiting.popleft()
                    yield done, future.result()
            for done, future in waiting:
                yield done, future.result()

    def _place(self, rows: Array, start: int, block: Block, embedded: Array) -> None:
        _, first, end = block
        inside = slice(max(first, start), min(end, start + len(rows)))
        rows[inside.start - start : inside.stop - start] = embedded[inside.start - first : inside.stop - first]
