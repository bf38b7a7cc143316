"""Figures that more than one lesson draws. Each takes data and returns ``(fig, axes)``."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import roc_auc_score, roc_curve

from utils.arguments import dict_of, floats, shown, text

# One colour a role, the same in every lesson (Okabe and Ito's colour-blind-safe palette).
COLORS = {
    "centralized": "#0072B2",
    "federated": "#009E73",
    "federated + DP": "#CC79A7",
    "local only": "#D55E00",
    "ensemble": "#555555",
}
_OTHER_COLORS = [
    "#56B4E9",
    "#E69F00",
    "#000000",
    "#999999",
    "#332288",
    "#882255",
]  # for lines without a role


def use_course_style() -> None:
    """Set the look of all figures: white, 6.4 × 3.8 in, light grid, fixed colours."""
    plt.rcParams.update(
        {
            "figure.figsize": (6.4, 3.8),
            "figure.dpi": 100,
            "figure.facecolor": "white",
            "savefig.facecolor": "white",
            "axes.prop_cycle": plt.cycler(color=_OTHER_COLORS),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": "#e6e6e6",
            "axes.titlesize": 11,
            "axes.titlelocation": "left",
            "figure.titlesize": 11,
            "font.size": 10,
            "legend.frameon": False,
            "figure.constrained_layout.use": True,
        }
    )


def _named(argument: str, things: object) -> None:
    if not isinstance(things, Mapping) or not things:
        raise ValueError(f"{argument} is {shown(things)}; it must be a dict with a name or more")


def _finite(name: str, values: object, dimensions: Sequence[int], gaps: bool = False) -> np.ndarray:
    """The values as floats, if they are finite, in so many dimensions; with ``gaps``, or NaN."""
    array = floats(values)
    finite = np.isfinite(array) | (np.isnan(array) & gaps)
    if array.ndim not in dimensions or not array.size or not finite.all():
        expected = " or ".join(map(str, dimensions))
        raise ValueError(
            f"'{name}' has the values {shown(values)}; they must be finite numbers, in {expected} "
            f"dimension{'s' if expected != '1' else ''}"
        )
    return array


def _check_look(ax: object = None, colors: object = None, **words: object) -> None:
    """Before a figure is begun: half a figure would be shown under the error."""
    for name, value in words.items():
        text(name, value)
    if ax is not None and not isinstance(ax, Axes):
        raise ValueError(f"ax is {shown(ax)}; it must be Axes, as plt.subplots() makes, or None")
    if colors is not None:
        dict_of("colors", colors, "colours")


def label_histograms(counts: Mapping[str, Sequence[int]], title: str) -> tuple[Figure, np.ndarray]:
    """Examples by label, one panel a client; labels that a client lacks are marked.

    Args:
        counts: for each client's name the number of examples of each label.
        title: the takeaway.

    Raises:
        ValueError: if there are no clients, or a client's counts are no numbers.
    """
    _named("counts", counts)
    _check_look(title=title)
    counts = {name: _finite(name, values, [1]) for name, values in counts.items()}
    fig, axes = plt.subplots(
        1, len(counts), figsize=(3.2 * len(counts), 2.8), sharey=True, squeeze=False
    )
    axes = axes[0]
    for ax, (name, values) in zip(axes, counts.items(), strict=True):
        labels = np.arange(len(values))
        ax.bar(labels, values, color=COLORS["local only"])
        for label in labels[values == 0]:
            ax.annotate(
                "none",
                (label, 0),
                (0, 3),
                textcoords="offset points",
                rotation=90,
                ha="center",
                va="bottom",
                fontsize=8,
                color="#555555",
            )
        ax.set(title=f"{name} ({values.sum():,.0f} images)", xlabel="label", xticks=labels)
        ax.grid(axis="x", visible=False)
    axes[0].set_ylabel("images")
    fig.suptitle(title, x=0.01, ha="left")
    return fig, axes


def confusion_matrices(matrices: Mapping[str, np.ndarray], title: str) -> tuple[Figure, np.ndarray]:
    """Confusion matrices side by side, each row as shares of the true label.

    Args:
        matrices: counts ``(classes, classes)`` by panel title; row = true, column = predicted.
        title: the takeaway.

    Raises:
        ValueError: if there are no matrices, or one is not square.
    """
    _named("matrices", matrices)
    _check_look(title=title)
    matrices = {name: _finite(name, matrix, [2]) for name, matrix in matrices.items()}
    for name, matrix in matrices.items():
        if matrix.shape[0] != matrix.shape[1]:
            raise ValueError(f"'{name}' has the shape {matrix.shape}; it must be square")
    fig, axes = plt.subplots(
        1, len(matrices), figsize=(3.2 * len(matrices), 3.6), sharey=True, squeeze=False
    )
    axes = axes[0]
    for ax, (name, matrix) in zip(axes, matrices.items(), strict=True):
        shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        image = ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        ticks = range(len(matrix))
        ax.set(title=name, xlabel="predicted", xticks=ticks, yticks=ticks)
        ax.grid(visible=False)
    axes[0].set_ylabel("true label")
    fig.colorbar(image, ax=axes, shrink=0.7, label="share of the true label")
    fig.suptitle(title, x=0.01, ha="left")
    return fig, axes


def curves(
    series: Mapping[str, np.ndarray],
    title: str,
    *,
    x: Sequence[float] | Mapping[str, Sequence[float]],
    xlabel: str = "round",
    ylabel: str = "test accuracy",
    ylim: tuple[float, float] | None = None,
    ax: Axes | None = None,
) -> tuple[Figure, Axes]:
    """Lines with a band over seeds, each labelled at its right end.

    Args:
        series: values ``(seeds, points)`` or ``(points,)`` by name; a name in ``COLORS`` gets
            its colour. The line is the mean over seeds, the band runs from lowest to highest;
            where a value is NaN, there is a gap.
        title: the takeaway.
        x: the points' positions: the same for all series, or by name.
        xlabel, ylabel: axis labels, with units.
        ylim: limits of the vertical axis; by default they follow the data.
        ax: draw here instead of in a new figure.

    Raises:
        ValueError: if there are no series, or one does not fit its positions; or another
            argument is of the wrong kind.
    """
    _named("series", series)
    _check_look(ax, title=title, xlabel=xlabel, ylabel=ylabel)
    if ylim is not None and (floats(ylim).shape != (2,) or not np.isfinite(floats(ylim)).all()):
        raise ValueError(f"ylim is {shown(ylim)}; it must be two numbers, the lowest and highest")
    lines = {}
    for name, values in series.items():
        at = floats(x.get(name, ()) if isinstance(x, Mapping) else x)
        lines[name] = at, np.atleast_2d(_finite(name, values, [1, 2], gaps=True))
        if at.shape != lines[name][1].shape[1:]:
            raise ValueError(
                f"'{name}' has values of shape {np.shape(values)}, and {at.size} positions x; one "
                "position a point is needed"
            )
    fig, ax = plt.subplots() if ax is None else (ax.figure, ax)
    ends = []
    for name, (at, values) in lines.items():
        (line,) = ax.plot(at, values.mean(axis=0), color=COLORS.get(name), marker="o", ms=3)
        if len(values) > 1:
            ax.fill_between(
                at, values.min(axis=0), values.max(axis=0), color=line.get_color(), alpha=0.2, lw=0
            )
        mean = values.mean(axis=0)
        last = np.flatnonzero(np.isfinite(mean))[-1:]
        ends += [(mean[i], name, line.get_color(), at[i]) for i in last]
    ax.set(title=title, xlabel=xlabel, ylabel=ylabel)
    if ylim is not None:
        ax.set_ylim(*ylim)
    _label_ends(ax, ends)
    return fig, ax


def _label_ends(ax: Axes, ends: list[tuple[float, str, str, float]]) -> None:
    """Names beside the lines' right ends, pushed apart within the axis, on any scale.

    They move along where the limits change later, as those of a shared axis do.
    """
    ends = sorted(ends)
    labels = [
        ax.annotate(
            name,
            (x, 0),
            (8, 0),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            color=color,
            va="center",
            annotation_clip=False,
        )
        for _, name, color, x in ends
    ]

    def place(ax: Axes) -> None:
        ax.get_xlim(), ax.get_ylim()  # matplotlib settles the limits only when asked
        to_fraction = ax.transData + ax.transAxes.inverted()
        heights = [float(to_fraction.transform((x, y))[1]) for y, _, _, x in ends]
        gap = 13 / (ax.get_position().height * ax.figure.get_figheight() * 72)  # 13 points
        for i in range(len(ends)):
            heights[i] = max(heights[i], heights[i - 1] + gap if i else 0)
        for i, from_top in zip(reversed(range(len(ends))), range(len(ends)), strict=True):
            heights[i] = min(heights[i], 1 - from_top * gap)
        for label, height in zip(labels, heights, strict=True):
            label.xy = (label.xy[0], height)

    place(ax)
    ax.callbacks.connect("ylim_changed", place)


def spread(
    groups: Mapping[str, Sequence[float]],
    title: str,
    *,
    xlabel: str = "test accuracy",
    colors: Mapping[str, str] | None = None,
    ax: Axes | None = None,
) -> tuple[Figure, Axes]:
    """One row a group: a dot for each seed, a bar at the mean, the mean in figures.

    Args:
        groups: one value a seed, by name (top to bottom).
        title: the takeaway.
        xlabel: axis label, with the unit.
        colors: by name; the roles in ``COLORS`` are known.
        ax: draw here instead of in a new figure.

    Raises:
        ValueError: if there are no groups, or one has no values, or no numbers; or another
            argument is of the wrong kind.
    """
    _named("groups", groups)
    _check_look(ax, colors, title=title, xlabel=xlabel)
    groups = {name: _finite(name, values, [1]) for name, values in groups.items()}
    if ax is not None:
        fig = ax.figure
        ax.set_title(title)
    else:
        fig, ax = plt.subplots(figsize=(6.4, 0.9 + 0.45 * len(groups)))
        fig.suptitle(title, x=0.01, ha="left")  # the row names push the axes to the right
    known = {**COLORS, **(colors or {})}
    for row, (name, values) in enumerate(groups.items()):
        color = known.get(name, "#000000")
        ax.scatter(values, [row] * len(values), color=color, alpha=0.6, s=28, lw=0)
        mean = float(np.mean(values))
        ax.plot([mean, mean], [row - 0.28, row + 0.28], color=color, lw=2.5)
        ax.annotate(
            f"{mean:.2f}",
            (max(values), row),
            (8, 0),
            textcoords="offset points",
            va="center",
            color=color,
        )
    ax.set(xlabel=xlabel, yticks=range(len(groups)), yticklabels=list(groups))
    ax.set_ylim(len(groups) - 0.5, -0.5)
    ax.grid(axis="y", visible=False)
    return fig, ax


def roc_curves(
    scores: Mapping[str, np.ndarray],
    is_member: np.ndarray,
    title: str,
    *,
    colors: Mapping[str, str] | None = None,
    ax: Axes | None = None,
) -> tuple[Figure, Axes]:
    """ROC curves of membership inference attacks on log axes, with the line of guessing.

    Log axes show the corner that matters: whom an attack finds while it accuses next to nobody
    wrongly (Carlini et al. 2022, arXiv:2112.03570). They begin where one non-member is accused.

    Args:
        scores: by the attack's name, one number an example; higher means "was in". The legend
            gives each attack's AUC.
        is_member: bool, which examples were trained on.
        title: the takeaway.
        colors: by the attack's name; by default those of ``COLORS`` for its names.
        ax: draw here instead of in a new figure.

    Raises:
        ValueError: if there are no members or no others, or a score is missing or not finite;
            or another argument is of the wrong kind.
    """
    _named("scores", scores)
    _check_look(ax, colors, title=title)
    known = floats(is_member)
    if known.ndim != 1 or set(known) != {0, 1}:
        raise ValueError(
            f"is_member is {shown(is_member)}, {np.count_nonzero(known == 1)} of {known.size} of "
            "them true; it must say True or False of each example, and not the same of all"
        )
    is_member = known.astype(bool)
    scores = {name: _finite(name, values, [1]) for name, values in scores.items()}
    for name, values in scores.items():
        if values.shape != is_member.shape:
            raise ValueError(
                f"'{name}' has {values.size} scores; one for each of the {is_member.size} examples "
                "is needed"
            )
    fig, ax = plt.subplots() if ax is None else (ax.figure, ax)
    colors, lowest = colors or COLORS, 1 / (~is_member).sum()
    ax.plot([lowest, 1], [lowest, 1], color="#555555", ls="--", lw=1, label="guessing (AUC 0.50)")
    for name, values in scores.items():
        fpr, tpr, _ = roc_curve(is_member, values, drop_intermediate=False)
        label = f"{name} (AUC {roc_auc_score(is_member, values):.2f})"
        ax.step(fpr, tpr, where="post", color=colors.get(name), label=label)
    ax.set(
        title=title,
        xlabel="false positive rate (non-members accused)",
        ylabel="true positive rate (members found)",
        xscale="log",
        yscale="log",
        xlim=(lowest, 1),
        ylim=(lowest, 1.05),  # a perfect attack's line is not cut in half
    )
    ax.legend(loc="lower right")
    return fig, ax
