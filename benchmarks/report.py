"""Shows what a comparison found: tables for the terminal, bars for a file."""

import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.comparison import AGAIN, Row
from benchmarks.measures import Stall
from benchmarks.starting import OURS

_INK, _FAINT, _OURS, _OTHER = "#1f2933", "#8a94a0", "#0b7285", "#c3cbd3"


def _n(value: float, digits: int = 1) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:,.{digits if abs(value) < 1000 else 0}f}"


def _ratio(row: Row, what: str) -> str:
    middle = getattr(row, f"{what}_ratio")
    if math.isnan(middle):
        return "-"
    lowest, highest = getattr(row, f"{what}_ratio_lowest"), getattr(row, f"{what}_ratio_highest")
    digits = 2 if highest < 100 else 0
    return f"{middle:.{digits}f} ({lowest:.{digits}f}-{highest:.{digits}f})"


def _table(title: str, columns: Sequence[str], rows: Sequence[tuple[str, ...]]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=not number)
    for cells in rows:
        table.add_row(*(Text(cell) for cell in cells), style="bold cyan" if cells[0].startswith(OURS) else "")
    return table


def show(rows: Sequence[Row], stall: Stall | None, summary: dict[str, Any], console: Console) -> None:
    """Print the tables."""
    if not console.is_terminal:
        console = Console(width=132)
    console.print(f"{summary['machine']}; {summary['cores']}; {summary['rounds']} rounds", highlight=False)
    console.print(summary["python"], style="" if summary["optimised_python"] else "bold red", highlight=False)
    console.print(_table(
        "CPU of the proxy alone (user + kernel); ratios to nginx of the same round: median (lowest-highest)\n"
        f"Events: of streams of {summary['events_per_stream']}, which pay for their connection and request as well",
        ("proxy", "µs/request", "user", "x nginx", "requests/s\nper core", "database\nµs/request",
         "µs/event", "user", "x nginx"),
        [(f"{row.name} {row.version}", _n(row.json_us), _n(row.json_user_us), _ratio(row, "json"),
          _n(row.json_per_core_s, 0), _n(row.json_beside_us) if row.json_beside_us else "-",
          _n(row.sse_us), _n(row.sse_user_us), _ratio(row, "sse"))
         for row in rows if not (math.isnan(row.json_us) or row.name.endswith(AGAIN))],
    ))  # fmt: skip
    seen = [row for row in rows if not math.isnan(row.rate_p50_ms)]
    console.print(_table(
        "What the client sees. Added: against direct. Jitter: change of the gap between events on the way",
        ("proxy", "added µs\np50", "added µs\np99", "x nginx", f"ms at {summary['rate_per_s']:g}/s\np50 / p99 / p99.9",
         "added TTFT µs\np50 / p99", "jitter µs\np50 / p99 / p99.9", "answers", "failures"),
        [(row.name, _n(row.added_p50_us, 0), _n(row.added_p99_us, 0), _n(row.added_ratio, 2),
          " / ".join(_n(value, 2) for value in (row.rate_p50_ms, row.rate_p99_ms, row.rate_p999_ms)),
          f"{_n(row.added_ttft_p50_us, 0)} / {_n(row.added_ttft_p99_us, 0)}",
          " / ".join(_n(value, 0) for value in (row.jitter_p50_us, row.jitter_p99_us, row.jitter_p999_us)),
          row.fidelity, str(sum(row.failures.values())))
         for row in seen],
    ))  # fmt: skip
    console.print(_table(
        "Memory while streams are open, one event a second each",
        ("proxy", "streams", "KiB more per stream"),
        [(row.name, _n(row.held_streams, 0), _n(row.kib_per_stream)) for row in rows if row.held_streams > 0],
    ))  # fmt: skip
    if stall is not None:
        console.print(
            f"Longest stall of our event loop under 1 MiB prompts ({stall.big_requests}) and scrapes: "
            f"{stall.loop_lag_ms:.1f} ms by its own gauge; small requests meanwhile p99 {stall.small_p99_ms:.1f} ms, "
            f"longest {stall.small_longest_ms:.1f} ms; longest scrape {stall.scrape_longest_ms:.1f} ms",
            highlight=False,
        )
    for row in rows:
        if row.failures:
            console.print(f"{row.name}: {', '.join(f'{n} x {what}' for what, n in row.failures.items())}")


def can_draw() -> bool:
    """Whether the drawing library is installed."""
    return importlib.util.find_spec("matplotlib") is not None


_PANELS = (
    ("json_us", "CPU per JSON request", "µs", "json_ratio"),
    ("sse_us", "CPU per streamed event", "µs", "sse_ratio"),
    ("added_p50_us", "Added latency, one request at a time, p50", "µs", "added_ratio"),
    ("jitter_p99_us", "Jitter between events, p99", "µs", None),
    ("rate_p99_ms", "Latency at a constant rate, p99", "ms", None),
    ("kib_per_stream", "Memory per open stream", "KiB", None),
)


def draw(rows: Sequence[dict[str, Any]], subtitle: str, path: Path, *, noisy: bool = False) -> None:
    """Draw one panel of bars per measure into an SVG or PNG file."""
    rows = [row for row in rows if not row["name"].endswith(AGAIN)]
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    mpl.rcParams.update({"font.family": "DejaVu Sans", "font.size": 9, "text.color": _INK, "svg.fonttype": "none"})
    most = max(sum(1 for row in rows if row[key] is not None) for key, *_ in _PANELS)
    layout = ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.12, wspace=0.04, hspace=0.04)
    figure, axes = plt.subplots(3, 2, figsize=(11, 1.6 + 3 * (0.55 + 0.27 * most)), layout=layout)
    warning = "NOISY BOX, do not quote  ·  " if noisy else ""
    figure.suptitle(
        "luntrex-proxy beside others on one core (less is better)", x=0.012, ha="left", fontsize=13, weight="bold"
    )
    figure.supxlabel(f"{warning}{subtitle}", x=0.012, ha="left", fontsize=8, color="#b02a37" if noisy else _FAINT)
    for panel, (key, title, unit, ratio) in zip(axes.flat, _PANELS, strict=True):
        _bars(panel, [row for row in rows if row[key] is not None], key, f"{title} ({unit})", ratio)
        panel.set_ylim(most - 0.4, -0.6)  # bars of one thickness everywhere, the smallest on top
    figure.savefig(path, dpi=150, facecolor="white")
    plt.close(figure)


def _bars(panel: Any, rows: Sequence[dict[str, Any]], key: str, title: str, ratio: str | None) -> None:
    """One panel: a logarithmic axis, and said so, when the largest would hide the rest."""
    rows = sorted((row for row in rows if row["name"] != "direct" or not ratio), key=lambda row: row[key])
    values = [max(0.0, row[key]) for row in rows]
    positive = [value for value in values if value > 0]
    wide = bool(positive) and max(positive) > 12 * min(positive)
    left = min(positive) / 3 if wide else 0.0
    colours = [_OURS if row["name"].startswith(OURS) else _OTHER for row in rows]
    panel.barh(range(len(rows)), [value - left if value > left else 0 for value in values], left=left, color=colours,
               height=0.68)  # fmt: skip
    if wide:
        panel.set_xscale("log")
    top = max(positive, default=1.0)
    panel.set_xlim(left, top * ((top / left) ** 0.4 if wide else 1.45))
    for at, (row, value) in enumerate(zip(rows, values, strict=True)):
        floor = "nginx +tls" if row["name"].endswith("+tls") else "nginx"
        times = (
            f"   {_n(row[ratio], 2 if row[ratio] < 20 else 0)}x {floor}"
            if ratio and row[ratio] and row["name"] != floor
            else ""
        )
        bold = "bold" if row["name"].startswith(OURS) else "normal"
        panel.annotate(f"{_n(value)}{times}", (max(value, left), at), xytext=(4, 0), textcoords="offset points",
                       va="center", fontsize=8, weight=bold)  # fmt: skip
    panel.set_yticks(range(len(rows)), [row["name"] for row in rows])
    for label in panel.get_yticklabels():
        label.set_weight("bold" if label.get_text().startswith(OURS) else "normal")
    panel.set_title(title + (", logarithmic" if wide else ""), loc="left", fontsize=9.5, weight="bold")
    panel.tick_params(length=0, colors=_INK)
    panel.xaxis.set_visible(False)
    panel.spines[:].set_visible(False)
