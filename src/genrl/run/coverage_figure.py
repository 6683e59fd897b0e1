"""Picture of a data set's coverage."""

from __future__ import annotations

from pathlib import Path

from genrl.data.coverage import Coverage
from genrl.data.episode import Array
from genrl.infra.checkpoint import atomic_path

SHOWN = 4000
"""Points drawn of each source."""
COLUMNS, PANEL_INCHES = 4, 2.9


def draw_coverage(coverage: Coverage, file: Path) -> None:
    """Writes a PNG: a panel for each source, its points before those of all in the plane of most variance."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    sources = coverage.sources
    several = len({source.store for source in sources}) > 1
    columns = min(COLUMNS, len(sources))
    rows = -(-len(sources) // columns)
    figure = Figure(figsize=(PANEL_INCHES * max(2, columns), PANEL_INCHES * rows + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(f"{coverage.space}: plane of most variance ({coverage.explained:.0%} of it)", fontsize=10)
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flat
    everything = _thinned(coverage.points)
    for number, source in enumerate(sources):
        panel, own = next(panels), _thinned(coverage.points[coverage.owner == number])
        panel.scatter(everything[:, 0], everything[:, 1], s=3, linewidths=0, color="0.8")
        panel.scatter(own[:, 0], own[:, 1], s=3, linewidths=0, color="tab:blue")
        panel.set_xticks([])
        panel.set_yticks([])
        name = f"{source.store}: {source.source}" if several else source.source
        panel.set_title(f"{name}\nfills {source.share:.0%}, {source.alone:.0%} alone", fontsize=8)
    for panel in panels:
        panel.axis("off")
    with atomic_path(file) as aside:
        figure.savefig(aside, dpi=110, format="png")


def _thinned(points: Array) -> Array:
    return points[:: -(-len(points) // SHOWN) or 1]
