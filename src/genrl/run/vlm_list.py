"""`genrl vlm list`: the video-language models that can be used."""

from __future__ import annotations

from dataclasses import dataclass

from rich.table import Table

from genrl.infra.progress import table_console
from genrl.vlm.registry import ENTRIES, VlmEntry, find_vlm

HEAD = ("vlm", "reads", "embedding", "frames", "licence", "download", "default checkpoint")


@dataclass(frozen=True)
class VlmListConfig:
    """Lists the video-language models of `--vlm`, with their default checkpoints, and says which are on this machine.

    Another checkpoint of the same family is --vlm NAME=WHERE: a directory, or a hub id (owner/name). A class of your
    own is --vlm package:Class.
    """


def vlm_list(config: VlmListConfig) -> list[VlmEntry]:
    """Prints a table and returns the entries."""
    table = Table(*HEAD, "here")
    table.columns[len(HEAD) - 1].overflow = "fold"  # Hub ids are there to be copied.
    entries = list(ENTRIES.values())
    for entry in entries:
        table.add_row(*describe(entry), "yes" if find_vlm(entry.name) else "no")
    table_console().print(table)
    return entries


def describe(entry: VlmEntry) -> list[str]:
    """What is known of a family, as text, in the order of `HEAD`."""
    size = f"{entry.download / 1000:.1f} GB" if entry.download >= 1000 else f"{entry.download} MB"
    download = (size + (", gated" if entry.gated else "")) if entry.download else "none"
    numbers = [str(entry.embed_dim), str(entry.frames_per_clip)]
    return [entry.name, entry.reads, *numbers, entry.licence, download, entry.where.split("@")[0] or "shipped"]
