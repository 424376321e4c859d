"""Draw what rules cost against how long they let wait: lower left is better."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from zerotide.scaling.replay.rules import FIXED_S
from zerotide.scaling.replay.score import Cell
from zerotide.scaling.replay.simulate import Outcome

COLD_S = 30.0
"""The cold start for which it is drawn."""


def draw(cells: Sequence[Cell], path: Path) -> None:
    """Write a PNG with one panel for each trace: GPU-hours that do not serve against hours of waiting."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = [cell for cell in cells if cell.cold_s == COLD_S]
    traces = list(dict.fromkeys(cell.trace for cell in shown))
    columns = min(4, len(traces))
    rows = -(-len(traces) // columns)
    figure, grid = pyplot.subplots(rows, columns, figsize=(4.2 * columns, 3.8 * rows), squeeze=False)
    panels = list(grid.flat)
    for panel, trace in zip(panels, traces, strict=False):
        mine = [cell for cell in shown if cell.trace == trace]
        curve = [_point(outcome) for timeout, outcome in sorted(mine[0].fixed.items()) if timeout <= 3600]
        panel.plot(*zip(*curve, strict=True), "-", color="0.7", linewidth=1, label="fixed, 0 s to 1 h")
        marks = [_point(mine[0].fixed[timeout]) for timeout in FIXED_S]
        panel.plot(*zip(*marks, strict=True), "o", color="0.5", markersize=4, label="fixed, 30 to 1200 s")
        panel.plot(*_point(mine[0].knative), "s", color="tab:blue", label="Knative's defaults")
        panel.plot(*_point(mine[0].kubeai), "D", color="tab:orange", label="KubeAI's rule")
        ours = [_point(cell.ours) for cell in mine]
        panel.plot(
            *zip(*ours, strict=True), "*-", color="tab:red", markersize=10, label="learned, v = 0.001 to 0.05 $/s"
        )
        panel.set_title(trace)
        panel.set_ylim(bottom=0)
        panel.set_xlabel("GPU-hours idle or loading")
        panel.set_ylabel("hours waited")
        panel.grid(alpha=0.3)
    for panel in panels[len(traces) :]:
        panel.axis("off")
    handles, labels = panels[0].get_legend_handles_labels()
    if len(panels) > len(traces):
        panels[-1].legend(handles, labels, loc="center", frameon=False)
    else:
        figure.legend(handles, labels, loc="lower center", ncols=5, frameon=False)
    figure.suptitle(f"Held-out thirds, cold start of {COLD_S:g} s", y=0.995)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _point(outcome: Outcome) -> tuple[float, float]:
    return (outcome.idle_s + outcome.load_s) / 3600, outcome.waited_s / 3600
