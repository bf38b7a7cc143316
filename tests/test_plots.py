"""What a figure says: its values, its names, its colours, and that no label covers another."""

import itertools

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex, to_rgba

from utils.plots import (
    COLORS,
    confusion_matrices,
    curves,
    label_histograms,
    roc_curves,
    spread,
    use_course_style,
)


@pytest.fixture(autouse=True)
def _figures_off_screen():
    mpl.use("Agg")
    with plt.rc_context():
        use_course_style()
        yield
        plt.close("all")


def bands(ax):
    return [band for band in ax.collections if isinstance(band, PolyCollection)]


def height(ax, label) -> float:
    """Where a label stands, in the units of the vertical axis."""
    return ax.transData.inverted().transform(ax.transAxes.transform((0, label.xy[1])))[1]


def heights(ax) -> dict[str, float]:
    return {text.get_text(): height(ax, text) for text in ax.texts}


def overlapping(fig, texts) -> list:
    fig.canvas.draw()
    boxes = [text.get_window_extent() for text in texts]
    return [pair for pair in itertools.combinations(boxes, 2) if pair[0].overlaps(pair[1])]


def test_figures_are_white_and_of_one_size_and_colours_without_a_role_are_no_roles():
    for name in ("figure.facecolor", "savefig.facecolor"):
        assert to_rgba(plt.rcParams[name]) == (1, 1, 1, 1)
    assert plt.figure().get_size_inches().tolist() == [6.4, 3.8]
    cycle = plt.rcParams["axes.prop_cycle"].by_key()["color"]
    assert len({*cycle, *COLORS.values()}) == len(cycle) + len(COLORS)


# label_histograms, confusion_matrices ------------------------------------------------------------


def test_a_clients_panel_has_its_name_its_counts_and_marks_for_the_labels_it_lacks():
    counts = {"A": [5, 0, 3], "B": np.array([1000, 2000, 0]), "C": torch.tensor([1, 1, 1])}
    fig, axes = label_histograms(counts, "Different digits")
    assert [ax.get_title("left") for ax in axes] == [
        "A (8 images)",
        "B (3,000 images)",
        "C (3 images)",
    ]
    for ax, values in zip(axes, counts.values(), strict=True):
        assert [bar.get_height() for bar in ax.patches] == list(values)
        centres = [bar.get_x() + bar.get_width() / 2 for bar in ax.patches]
        assert centres == pytest.approx([0, 1, 2])
        assert ax.get_xticks().tolist() == [0, 1, 2]
    marked = [[(text.get_text(), text.xy) for text in ax.texts] for ax in axes]
    assert marked == [[("none", (1, 0))], [("none", (2, 0))], []]
    assert len({ax.get_ylim() for ax in axes}) == 1  # one scale, so that clients compare
    assert fig.get_suptitle() == "Different digits"
    assert fig.get_figwidth() == pytest.approx(3 * 3.2)


def test_a_matrix_shows_shares_of_the_true_label_on_one_colour_scale():
    matrices = {"A": np.array([[3, 1], [0, 0]]), "B": torch.tensor([[1, 3], [2, 2]])}
    fig, axes = confusion_matrices(matrices, "Confused")
    shown = [ax.images[0].get_array().tolist() for ax in axes]
    assert shown == [[[0.75, 0.25], [0, 0]], [[0.25, 0.75], [0.5, 0.5]]]
    assert [ax.images[0].get_clim() for ax in axes] == [(0, 1), (0, 1)]
    assert [ax.get_title("left") for ax in axes] == ["A", "B"]
    assert [ax.get_ylabel() for ax in axes] == ["true label", ""]
    bottom, top = axes[0].get_ylim()
    assert bottom > top  # the first true label is on top
    (bar,) = [ax for ax in fig.axes if ax not in axes]
    assert bar.get_ylabel() == "share of the true label"
    assert fig.get_suptitle() == "Confused"


# curves ------------------------------------------------------------------------------------------

SEEDS = np.array([[0.1, 0.5, 0.9], [0.3, 0.5, 0.6], [0.2, 0.8, 0.6]])


def test_a_curve_is_the_mean_over_seeds_and_its_band_runs_from_lowest_to_highest():
    _, ax = curves({"federated": SEEDS}, "It learns", x=[1, 2, 3])
    (line,), (band,) = ax.lines, bands(ax)
    assert line.get_xdata().tolist() == [1, 2, 3]
    assert line.get_ydata() == pytest.approx([0.2, 0.6, 0.7])
    corners = band.get_paths()[0].vertices
    for x, low, high in zip([1, 2, 3], SEEDS.min(axis=0), SEEDS.max(axis=0), strict=True):
        at = corners[corners[:, 0] == x, 1]
        assert (at.min(), at.max()) == (low, high)
    assert to_hex(band.get_facecolor()[0]) == line.get_color().lower()
    assert ax.get_title("left") == "It learns"


def test_a_single_seed_is_a_line_without_a_band():
    for values in ([0.1, 0.4], np.array([[0.1, 0.4]])):
        _, ax = curves({"federated": values}, "It learns", x=range(1, 3))
        assert ax.lines[0].get_ydata().tolist() == [0.1, 0.4]
        assert not bands(ax)


def test_where_a_value_is_missing_there_is_a_gap_and_the_label_stands_at_the_last_one():
    seeds = [[0.1, np.nan, 0.5, 0.2], [0.3, 0.4, 0.7, np.nan]]
    _, ax = curves({"federated": seeds, "none": [np.nan] * 4}, "Gaps", x=[1, 2, 3, 4])
    assert ax.lines[0].get_ydata() == pytest.approx([0.2, np.nan, 0.6, np.nan], nan_ok=True)
    assert heights(ax) == pytest.approx({"federated": 0.6})
    assert ax.texts[0].xy[0] == 3


def test_each_role_has_its_colour_whatever_the_order_and_other_names_their_own():
    names = ["lr 0.1", *reversed(COLORS), "lr 0.2"]
    _, ax = curves({name: [0.1, 0.2] for name in names}, "Roles", x=[1, 2])
    shown = [line.get_color() for line in ax.lines]
    assert shown[1:-1] == list(reversed(COLORS.values()))
    assert len(set(shown)) == len(names)


def test_series_may_have_positions_of_their_own_and_are_labelled_at_their_ends():
    series = {"federated": SEEDS, "other": [0.2, 0.4]}
    fig, ax = curves(series, "Cost", x={"other": [10, 30], "federated": [1, 2, 3]})
    assert [line.get_xdata().tolist() for line in ax.lines] == [[1, 2, 3], [10, 30]]
    ends = {text.get_text(): (text.xy[0], height(ax, text)) for text in ax.texts}
    assert ends == {"federated": pytest.approx((3, 0.7)), "other": pytest.approx((30, 0.4))}
    fig.canvas.draw()
    for text, line in zip(sorted(ax.texts, key=lambda t: t.xy[0]), ax.lines, strict=True):
        assert text.get_color() == line.get_color()
        box = text.get_window_extent()
        assert ax.transData.transform((text.xy[0], 0))[0] < box.x0 < box.x1 <= fig.bbox.x1


@settings(max_examples=10, deadline=None)
@given(ends=st.lists(st.floats(0, 1, width=16), min_size=2, max_size=6))
def test_labels_never_cover_each_other_and_keep_the_order_of_the_ends(ends):
    fig, ax = curves({f"line {i}": [0.0, y] for i, y in enumerate(ends)}, "Close", x=[0, 1])
    assert not overlapping(fig, ax.texts)
    at = [heights(ax)[f"line {i}"] for i in range(len(ends))]
    assert sorted(range(len(ends)), key=lambda i: (ends[i], i)) == np.argsort(at).tolist()
    plt.close(fig)


def test_labels_never_cover_each_other_in_a_low_panel_nor_leave_its_top():
    fig, ax = plt.subplots(figsize=(6.4, 2.4))
    curves({name: [0.1, 1.0] for name in "abcd"}, "Close", x=[1, 2], ax=ax, ylim=(0, 1))
    assert not overlapping(fig, ax.texts)
    assert max(text.xy[1] for text in ax.texts) <= 1


def test_labels_with_room_around_them_stand_at_their_lines_ends_also_on_a_log_axis():
    ends = {"low": 0.1, "middle": 0.5, "high": 0.9}
    _, ax = curves({name: [0.0, y] for name, y in ends.items()}, "Apart", x=[0, 1])
    assert heights(ax) == pytest.approx(ends)
    _, ax = plt.subplots()
    ax.set_yscale("log")
    curves({"a": [1, 10.0], "b": [1, 100.0], "c": [1, 10_000.0]}, "Laws", x=[1, 2], ax=ax)
    assert heights(ax) == pytest.approx({"a": 10, "b": 100, "c": 10_000})


def test_the_vertical_axis_follows_the_data_also_of_later_lines_unless_limits_are_given():
    fig, ax = curves({"federated": [0.4, 0.5]}, "It learns", x=[1, 2])
    low, high = ax.get_ylim()
    assert 0.3 < low < 0.4 < 0.5 < high < 0.6
    assert curves({"b": [0, 5]}, "Then", x=[0, 1], ax=ax) == (fig, ax)
    assert ax.get_ylim()[1] >= 5
    options = {"ylim": (0, 1), "xlabel": "epoch", "ylabel": "loss (nats)"}
    _, ax = curves({"federated": [0.4, 0.5]}, "It learns", x=[1, 2], **options)
    assert (ax.get_ylim(), ax.get_xlabel(), ax.get_ylabel()) == ((0, 1), "epoch", "loss (nats)")


# spread ------------------------------------------------------------------------------------------

GROUPS = {"federated": [0.8, 0.9, 0.82], "one hospital": [0.5, 0.7]}


def test_each_group_is_a_row_of_dots_with_a_bar_and_a_figure_at_the_mean():
    fig, ax = spread(GROUPS, "Sharing helps")
    dots = [collection.get_offsets().tolist() for collection in ax.collections]
    assert dots == [[[0.8, 0], [0.9, 0], [0.82, 0]], [[0.5, 1], [0.7, 1]]]
    for row, (line, mean) in enumerate(zip(ax.lines, [0.84, 0.6], strict=True)):
        assert line.get_xdata() == pytest.approx([mean, mean])
        low, high = line.get_ydata()
        assert row - 0.5 < low < row < high < row + 0.5
    figures = [(text.get_text(), text.xy) for text in ax.texts]
    assert figures == [("0.84", (0.9, 0)), ("0.60", (0.7, 1))]
    assert [label.get_text() for label in ax.get_yticklabels()] == list(GROUPS)
    assert ax.get_ylim() == (1.5, -0.5)  # the first group is on top
    assert fig.get_suptitle() == "Sharing helps"


def test_given_colours_win_over_the_roles_and_an_unknown_name_is_black():
    groups = {**GROUPS, "local only": [0.4], "other": [0.3]}
    given = {"one hospital": "#123456", "federated": "#654321"}
    for colors, expected in [
        (given, ["#654321", "#123456", COLORS["local only"], "#000000"]),
        (None, [COLORS["federated"], "#000000", COLORS["local only"], "#000000"]),
    ]:
        _, ax = spread(groups, "Ours", colors=colors)
        assert [line.get_color() for line in ax.lines] == expected
        assert [text.get_color() for text in ax.texts] == expected
        assert [to_hex(c.get_facecolor()[0]) for c in ax.collections] == [
            to_hex(color) for color in expected
        ]


# roc_curves --------------------------------------------------------------------------------------

SCORES = {"sure": np.r_[3.0, 4, 5, 6, 0, 1, 2, 2.5], "mixed": np.r_[8.0, 5, 4, 1, 7, 6, 3, 2]}
IS_MEMBER = np.arange(8) < 4


def test_a_roc_curve_gives_the_members_found_for_each_share_of_others_accused():
    _, ax = roc_curves(SCORES, IS_MEMBER, "Found")
    line = ax.lines[2]
    assert line.get_drawstyle() == "steps-post"
    points = set(zip(line.get_xdata().tolist(), line.get_ydata().tolist(), strict=True))
    found = {(0, 0), (0, 0.25), (0.25, 0.25), (0.5, 0.25), (0.5, 0.5), (0.5, 0.75), (0.75, 0.75)}
    assert points == found | {(1, 0.75), (1, 1)}
    guess = ax.lines[0]
    assert guess.get_xdata().tolist() == guess.get_ydata().tolist() == [0.25, 1]
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["guessing (AUC 0.50)", "sure (AUC 1.00)", "mixed (AUC 0.50)"]
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert ax.get_xlim() == (0.25, 1)  # from one accused non-member to all
    assert ax.get_ylim()[0] == 0.25
    assert 1 < ax.get_ylim()[1] < 1.1


def test_roc_curves_have_colours_of_their_own_unless_they_are_given_or_roles():
    names = ["loss", "federated", "zlib", "Min-K%", "Min-K%++"]
    _, ax = roc_curves(dict.fromkeys(names, SCORES["mixed"]), IS_MEMBER, "Found")
    shown = [line.get_color() for line in ax.lines]
    assert len(set(shown)) == 6
    assert shown[2] == COLORS["federated"]
    colors = {"sure": "#111111", "mixed": "#222222"}
    _, ax = roc_curves(SCORES, IS_MEMBER, "Found", colors=colors)
    assert [line.get_color() for line in ax.lines[1:]] == ["#111111", "#222222"]


# All of them -------------------------------------------------------------------------------------


def test_a_figure_can_be_drawn_in_a_panel_of_another():
    for draw in (
        lambda ax: curves({"federated": SEEDS}, "It", x=[1, 2, 3], ax=ax),
        lambda ax: spread(GROUPS, "It", ax=ax),
        lambda ax: roc_curves(SCORES, IS_MEMBER, "It", ax=ax),
    ):
        fig, (left, right) = plt.subplots(1, 2)
        figures = len(plt.get_fignums())
        assert draw(right) == (fig, right)
        assert len(left.lines) == 0 < len(right.lines)
        assert (right.get_title("left"), fig.get_suptitle()) == ("It", "")
        assert len(plt.get_fignums()) == figures


BAD_VALUES = [None, "words", [], [np.inf, 1], ["a", "b"], [[[1.0]]], 3]


def test_values_that_make_no_figure_are_named_and_no_figure_is_left_open():
    draws = {
        "counts": lambda data: label_histograms(data, "T"),
        "matrices": lambda data: confusion_matrices(data, "T"),
        "series": lambda data: curves(data, "T", x=[1, 2]),
        "groups": lambda data: spread(data, "T"),
        "scores": lambda data: roc_curves(data, [True, False], "T"),
    }
    for argument, draw in draws.items():
        for bad in ({}, None, [[1, 2]], "data"):
            with pytest.raises(ValueError, match=f"{argument} is .*; it must be a dict"):
                draw(bad)
        for bad in BAD_VALUES:
            with pytest.raises(ValueError, match=r"'A' has the values .*; they must be finite num"):
                draw({"A": bad})
        if argument != "series":
            with pytest.raises(ValueError, match="they must be finite numbers"):
                draw({"A": [np.nan, 1]})
    for wrong, said in [
        (lambda: confusion_matrices({"A": np.ones((2, 3))}, "T"), r"shape \(2, 3\); it must be sq"),
        (lambda: curves({"A": [1, 2]}, "T", x=[1, 2, 3]), r"shape \(2,\), and 3 positions x"),
        (lambda: curves({"A": [1, 2]}, "T", x={"B": [1, 2]}), "and 0 positions x"),
        (lambda: roc_curves({"A": [1.0]}, [True, False], "T"), "1 scores; one for each of the 2"),
        (lambda: roc_curves({"A": [1.0, 2]}, [True, True], "T"), "2 of 2 of them true"),
        (lambda: roc_curves({"A": [1.0, 2]}, [False, False], "T"), "0 of 2 of them true"),
    ]:
        with pytest.raises(ValueError, match=said):
            wrong()
    assert not plt.get_fignums()


def test_a_curves_label_stays_at_its_end_where_a_shared_axis_changes_later():
    _, axes = plt.subplots(1, 2, sharey=True)
    curves({"low": [0.0, 1.0]}, "first", x=[0, 1], ax=axes[0])
    curves({"high": [0.0, 10.0]}, "second", x=[0, 1], ax=axes[1])
    axes[0].figure.canvas.draw()
    for ax, end in zip(axes, (1.0, 10.0), strict=True):
        (label,) = ax.texts
        at = (ax.transData + ax.transAxes.inverted()).transform((1, end))[1]
        assert label.xy[1] == pytest.approx(at, abs=1e-6)
