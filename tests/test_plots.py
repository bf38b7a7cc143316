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


def overlapping(fig, texts) -> list:
    fig.canvas.draw()
    boxes = [text.get_window_extent() for text in texts]
    return [pair for pair in itertools.combinations(boxes, 2) if pair[0].overlaps(pair[1])]


# The course's style


def test_figures_are_white_and_opaque_on_screen_and_on_disk():
    for name in ("figure.facecolor", "savefig.facecolor"):
        assert to_rgba(plt.rcParams[name]) == (1, 1, 1, 1)
    assert plt.rcParamsDefault["savefig.facecolor"] == "auto"  # so the second is a choice


def test_figures_have_the_course_size():
    assert plt.figure().get_size_inches().tolist() == [6.4, 3.8]


def test_the_roles_come_in_the_course_order_each_with_its_own_colour():
    assert list(COLORS)[:4] == ["centralized", "federated", "federated + DP", "local only"]
    assert len(set(COLORS.values())) == len(COLORS)


def test_a_line_without_a_role_never_has_the_colour_of_one():
    cycle = plt.rcParams["axes.prop_cycle"].by_key()["color"]
    assert not set(cycle) & set(COLORS.values())
    assert len(set(cycle)) == len(cycle) >= 4


def test_axes_have_a_grid_behind_the_data_and_two_spines():
    _, ax = plt.subplots()
    assert ax.get_axisbelow() is True
    assert all(line.get_visible() for line in ax.get_xgridlines())
    shown = {side for side, spine in ax.spines.items() if spine.get_visible()}
    assert shown == {"left", "bottom"}


# label_histograms

COUNTS = {"A": [5, 0, 3], "B": [1000, 2000, 0]}


def test_each_client_has_a_panel_named_with_its_number_of_images():
    _, axes = label_histograms(COUNTS, "Different digits")
    assert [ax.get_title("left") for ax in axes] == ["A (8 images)", "B (3,000 images)"]


def test_the_bars_stand_for_the_counts():
    _, axes = label_histograms(COUNTS, "Different digits")
    for ax, counts in zip(axes, COUNTS.values(), strict=True):
        assert [bar.get_height() for bar in ax.patches] == counts
        centres = [bar.get_x() + bar.get_width() / 2 for bar in ax.patches]
        assert centres == pytest.approx([0, 1, 2])


def test_labels_that_a_client_lacks_are_marked_and_no_others():
    _, axes = label_histograms({**COUNTS, "C": [1, 1, 1]}, "Different digits")
    marked = [[(text.get_text(), text.xy) for text in ax.texts] for ax in axes]
    assert marked == [[("none", (1, 0))], [("none", (2, 0))], []]


def test_every_label_has_a_tick():
    _, axes = label_histograms({"A": [1] * 10}, "Digits")
    assert axes[0].get_xticks().tolist() == list(range(10))
    assert axes[0].get_xlabel() == "label"


def test_the_panels_share_their_scale_so_that_clients_compare():
    _, axes = label_histograms(COUNTS, "Different digits")
    assert axes[0].get_ylim() == axes[1].get_ylim()
    assert axes[0].get_ylim()[1] >= 2000
    assert [ax.get_ylabel() for ax in axes] == ["images", ""]


def test_a_histogram_figure_has_its_takeaway_on_top_and_grows_with_the_clients():
    fig, axes = label_histograms(COUNTS, "Different digits")
    assert fig.get_suptitle() == "Different digits"
    assert fig.get_size_inches().tolist() == [6.4, 2.8]
    assert isinstance(axes, np.ndarray)


def test_one_client_gets_an_array_of_one_panel():
    _, axes = label_histograms({"A": [1, 2]}, "Alone")
    assert axes.shape == (1,)


def test_counts_may_be_arrays():
    _, axes = label_histograms({"A": np.array([1500, 0])}, "Digits")
    assert axes[0].get_title("left") == "A (1,500 images)"
    assert len(axes[0].texts) == 1


# confusion_matrices


def test_each_row_of_a_matrix_is_shown_as_shares_of_its_true_label():
    _, axes = confusion_matrices({"A": np.array([[3, 1], [0, 8]])}, "Confused")
    assert axes[0].images[0].get_array().tolist() == [[0.75, 0.25], [0, 1]]


def test_a_label_that_never_occurs_is_an_empty_row():
    _, axes = confusion_matrices({"A": np.array([[3, 1], [0, 0]])}, "Confused")
    assert axes[0].images[0].get_array().tolist() == [[0.75, 0.25], [0, 0]]


def test_a_matrix_may_be_a_tensor_of_counts():
    _, axes = confusion_matrices({"A": torch.tensor([[1, 3], [2, 2]])}, "Confused")
    assert axes[0].images[0].get_array().tolist() == [[0.25, 0.75], [0.5, 0.5]]


def test_all_matrices_have_the_same_colour_scale_from_none_to_all():
    mild, clear = np.array([[51, 49], [49, 51]]), np.eye(2)
    _, axes = confusion_matrices({"mild": mild, "clear": clear}, "Confused")
    assert [ax.images[0].get_clim() for ax in axes] == [(0, 1), (0, 1)]
    assert len({ax.images[0].get_cmap().name for ax in axes}) == 1


def test_matrices_are_named_and_their_axes_labelled():
    fig, axes = confusion_matrices({"A": np.eye(3), "B": np.eye(3)}, "Confused")
    assert [ax.get_title("left") for ax in axes] == ["A", "B"]
    assert [ax.get_xlabel() for ax in axes] == ["predicted", "predicted"]
    assert [ax.get_ylabel() for ax in axes] == ["true label", ""]
    assert axes[0].get_xticks().tolist() == axes[0].get_yticks().tolist() == [0, 1, 2]
    assert fig.get_suptitle() == "Confused"


def test_the_first_true_label_is_on_top():
    _, axes = confusion_matrices({"A": np.eye(3)}, "Confused")
    bottom, top = axes[0].get_ylim()
    assert bottom > top


def test_one_colour_bar_says_what_the_colour_means():
    fig, axes = confusion_matrices({"A": np.eye(3), "B": np.eye(3)}, "Confused")
    bars = [ax for ax in fig.axes if ax not in axes]
    assert [bar.get_ylabel() for bar in bars] == ["share of the true label"]


def test_no_grid_covers_a_matrix():
    _, axes = confusion_matrices({"A": np.eye(3)}, "Confused")
    lines = axes[0].get_xgridlines() + axes[0].get_ygridlines()
    assert not any(line.get_visible() for line in lines)


# curves

SEEDS = np.array([[0.1, 0.5, 0.9], [0.3, 0.5, 0.6], [0.2, 0.8, 0.6]])


def test_a_curve_is_the_mean_over_seeds():
    _, ax = curves({"federated": SEEDS}, "It learns", x=[1, 2, 3])
    (line,) = ax.lines
    assert line.get_xdata().tolist() == [1, 2, 3]
    assert line.get_ydata() == pytest.approx([0.2, 0.6, 0.7])


def test_its_band_runs_from_the_lowest_to_the_highest_seed():
    _, ax = curves({"federated": SEEDS}, "It learns", x=[1, 2, 3])
    (band,) = bands(ax)
    corners = band.get_paths()[0].vertices
    for x, low, high in zip([1, 2, 3], SEEDS.min(axis=0), SEEDS.max(axis=0), strict=True):
        heights = corners[corners[:, 0] == x, 1]
        assert (heights.min(), heights.max()) == (low, high)
    assert to_hex(band.get_facecolor()[0]) == COLORS["federated"].lower()


@pytest.mark.parametrize("values", [[0.1, 0.4], np.array([0.1, 0.4]), np.array([[0.1, 0.4]])])
def test_a_single_seed_is_a_line_without_a_band(values):
    _, ax = curves({"federated": values}, "It learns", x=[1, 2])
    assert ax.lines[0].get_ydata().tolist() == [0.1, 0.4]
    assert not bands(ax)


def test_each_role_has_its_colour_whatever_the_order():
    names = list(reversed(COLORS))
    _, ax = curves({name: [0.1, 0.2] for name in names}, "Roles", x=[1, 2])
    assert [line.get_color() for line in ax.lines] == [COLORS[name] for name in names]


def test_names_without_a_role_get_colours_of_their_own():
    names = ["lr 0.1", "centralized", "lr 0.2", "federated", "lr 0.3"]
    _, ax = curves({name: [0.1, 0.2] for name in names}, "Rates", x=[1, 2])
    assert len({line.get_color() for line in ax.lines}) == len(names)


def test_a_curve_is_labelled_at_its_right_end_in_its_colour():
    _, ax = curves({"federated": SEEDS, "other": SEEDS / 2}, "It learns", x=[1, 2, 3])
    labels = {text.get_text(): text for text in ax.texts}
    assert set(labels) == {"federated", "other"}
    assert height(ax, labels["federated"]) == pytest.approx(0.7)
    assert height(ax, labels["other"]) == pytest.approx(0.35)
    assert {label.xy[0] for label in labels.values()} == {3}
    for line, name in zip(ax.lines, ["federated", "other"], strict=True):
        assert labels[name].get_color() == line.get_color()
    assert ax.get_legend() is None


def test_series_may_have_positions_of_their_own():
    series = {"federated": SEEDS, "other": [0.2, 0.4]}
    _, ax = curves(series, "Cost", x={"other": [10, 30], "federated": [1, 2, 3]})
    assert [line.get_xdata().tolist() for line in ax.lines] == [[1, 2, 3], [10, 30]]
    (band,) = bands(ax)
    assert set(band.get_paths()[0].vertices[:, 0]) == {1, 2, 3}
    ends = {text.get_text(): (text.xy[0], height(ax, text)) for text in ax.texts}
    assert ends == {
        name: pytest.approx(e) for name, e in [("federated", (3, 0.7)), ("other", (30, 0.4))]
    }


def test_a_label_stands_beside_the_axes_and_inside_the_figure():
    fig, ax = curves({"federated, five hospitals": SEEDS}, "It learns", x=[1, 2, 3])
    fig.canvas.draw()
    box = ax.texts[0].get_window_extent()
    assert box.x0 > ax.transData.transform((3, 0.7))[0]
    assert box.x1 <= fig.bbox.x1


@settings(max_examples=10, deadline=None)
@given(ends=st.lists(st.floats(0, 1, width=16), min_size=2, max_size=6))
def test_labels_never_cover_each_other(ends):
    fig, ax = curves({f"line {i}": [0.0, y] for i, y in enumerate(ends)}, "Close", x=[0, 1])
    assert not overlapping(fig, ax.texts)
    plt.close(fig)


def test_labels_never_cover_each_other_in_a_low_panel():
    fig, ax = plt.subplots(figsize=(6.4, 2.4))
    curves({name: [0.1, 0.5] for name in "abcd"}, "Close", x=[1, 2], ax=ax)
    assert not overlapping(fig, ax.texts)


def test_labels_stand_at_their_lines_ends_on_a_log_axis():
    _, ax = plt.subplots()
    ax.set_yscale("log")
    curves({"a": [1, 10.0], "b": [1, 100.0], "c": [1, 10_000.0]}, "Laws", x=[1, 2], ax=ax)
    heights = {text.get_text(): height(ax, text) for text in ax.texts}
    assert heights["a"] == pytest.approx(10)
    assert heights["c"] == pytest.approx(10_000)


def test_lines_drawn_later_into_the_same_axes_are_not_cut_off():
    _, ax = curves({"a": [0, 1]}, "First", x=[0, 1])
    curves({"b": [0, 5]}, "Then", x=[0, 1], ax=ax)
    assert ax.get_ylim()[1] >= 5


def test_labels_keep_the_order_of_the_lines_ends():
    ends = {"low": 0.500, "high": 0.502, "middle": 0.501}
    _, ax = curves({name: [0.0, y] for name, y in ends.items()}, "Close", x=[0, 1])
    heights = {text.get_text(): text.xy[1] for text in ax.texts}
    assert heights["low"] < heights["middle"] < heights["high"]


def test_labels_of_lines_that_end_at_the_top_stay_within_the_axis():
    ends = {f"line {i}": [0.0, 1.0] for i in range(4)}
    _, ax = curves(ends, "All solve it", x=[0, 1], ylim=(0, 1))
    heights = [text.xy[1] for text in ax.texts]
    assert max(heights) <= 1
    assert len(set(heights)) == 4


def test_a_label_with_room_around_it_stays_at_its_lines_end():
    ends = {"low": 0.1, "middle": 0.5, "high": 0.9}
    _, ax = curves({name: [0.0, y] for name, y in ends.items()}, "Apart", x=[0, 1])
    assert {text.get_text(): height(ax, text) for text in ax.texts} == pytest.approx(ends)


def test_the_vertical_axis_follows_the_data_unless_limits_are_given():
    _, ax = curves({"federated": [0.4, 0.5]}, "It learns", x=[1, 2])
    low, high = ax.get_ylim()
    assert 0.3 < low < 0.4 < 0.5 < high < 0.6
    _, ax = curves({"federated": [0.4, 0.5]}, "It learns", x=[1, 2], ylim=(0, 1))
    assert ax.get_ylim() == (0, 1)


def test_a_curve_figure_has_its_takeaway_on_top_and_named_axes():
    _, ax = curves({"federated": SEEDS}, "It learns", x=[1, 2, 3])
    assert ax.get_title("left") == "It learns"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("round", "test accuracy")


def test_the_axes_of_curves_can_be_named():
    _, ax = curves({"federated": SEEDS}, "It", x=[1, 2, 3], xlabel="epoch", ylabel="loss (nats)")
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("epoch", "loss (nats)")


def test_curves_can_be_drawn_in_a_panel_of_another_figure():
    fig, (left, right) = plt.subplots(1, 2)
    returned = curves({"federated": SEEDS}, "It learns", x=[1, 2, 3], ax=right)
    assert returned == (fig, right)
    assert (len(left.lines), len(right.lines)) == (0, 1)
    assert len(plt.get_fignums()) == 1


def test_points_that_do_not_fit_their_positions_are_refused():
    with pytest.raises(ValueError, match="must have same first dimension"):
        curves({"federated": [0.1, 0.2]}, "It learns", x=[1, 2, 3])


# spread

GROUPS = {"federated": [0.8, 0.9, 0.82], "one hospital": [0.5, 0.7]}


def test_each_seed_is_a_dot_in_its_groups_row():
    _, ax = spread(GROUPS, "Sharing helps")
    dots = [collection.get_offsets().tolist() for collection in ax.collections]
    assert dots == [[[0.8, 0], [0.9, 0], [0.82, 0]], [[0.5, 1], [0.7, 1]]]


def test_a_bar_stands_at_each_groups_mean():
    _, ax = spread(GROUPS, "Sharing helps")
    for row, (line, mean) in enumerate(zip(ax.lines, [0.84, 0.6], strict=True)):
        assert line.get_xdata() == pytest.approx([mean, mean])
        low, high = line.get_ydata()
        assert row - 0.5 < low < row < high < row + 0.5


def test_the_mean_is_given_in_figures_right_of_the_dots():
    _, ax = spread(GROUPS, "Sharing helps")
    assert [(text.get_text(), text.xy) for text in ax.texts] == [
        ("0.84", (0.9, 0)),
        ("0.60", (0.7, 1)),
    ]
    assert all(text.xyann[0] > 0 for text in ax.texts)


def test_the_first_group_is_on_top():
    _, ax = spread(GROUPS, "Sharing helps")
    assert [label.get_text() for label in ax.get_yticklabels()] == list(GROUPS)
    assert ax.get_yticks().tolist() == [0, 1]
    assert ax.get_ylim() == (1.5, -0.5)


def test_a_role_has_its_colour_in_a_spread_and_an_unknown_name_is_black():
    _, ax = spread(GROUPS, "Sharing helps")
    assert [line.get_color() for line in ax.lines] == [COLORS["federated"], "#000000"]


def test_dots_bar_and_figures_of_a_group_have_one_colour():
    _, ax = spread(GROUPS, "Sharing helps")
    for dots, line, text in zip(ax.collections, ax.lines, ax.texts, strict=True):
        assert to_hex(dots.get_facecolor()[0]) == to_hex(line.get_color())
        assert text.get_color() == line.get_color()


def test_colours_can_be_given_by_name_and_leave_the_roles_known():
    _, ax = spread({**GROUPS, "local only": [0.4]}, "Ours", colors={"one hospital": "#123456"})
    shown = [line.get_color() for line in ax.lines]
    assert shown == [COLORS["federated"], "#123456", COLORS["local only"]]


def test_given_colours_win_over_the_roles():
    _, ax = spread(GROUPS, "Ours", colors={"federated": "#123456"})
    assert ax.lines[0].get_color() == "#123456"


def test_a_spread_has_its_takeaway_on_top_of_the_figure():
    fig, _ = spread(GROUPS, "Sharing helps")
    assert fig.get_suptitle() == "Sharing helps"


def test_the_axis_of_a_spread_can_be_named():
    assert spread(GROUPS, "Sharing helps")[1].get_xlabel() == "test accuracy"
    assert spread(GROUPS, "Sharing helps", xlabel="loss")[1].get_xlabel() == "loss"


def test_a_spread_grows_with_its_groups():
    small, _ = spread(GROUPS, "Two")
    large, _ = spread({str(i): [0.5] for i in range(6)}, "Six")
    assert large.get_figheight() - small.get_figheight() == pytest.approx(4 * 0.45)


def test_a_spread_can_be_drawn_in_a_panel_of_another_figure():
    fig, (left, right) = plt.subplots(1, 2)
    assert spread(GROUPS, "Sharing helps", ax=right) == (fig, right)
    assert (right.get_title("left"), fig.get_suptitle()) == ("Sharing helps", "")
    assert (len(left.lines), len(right.lines)) == (0, 2)
    assert len(plt.get_fignums()) == 1


# roc_curves

SCORES = {"sure": np.r_[3.0, 4, 5, 6, 0, 1, 2, 2.5], "mixed": np.r_[8.0, 5, 4, 1, 7, 6, 3, 2]}
IS_MEMBER = np.arange(8) < 4


def test_a_roc_curve_gives_the_members_found_for_each_share_of_others_accused():
    _, ax = roc_curves(SCORES, IS_MEMBER, "Found")
    line = ax.lines[2]
    assert line.get_drawstyle() == "steps-post"
    points = set(zip(line.get_xdata().tolist(), line.get_ydata().tolist(), strict=True))
    found = {(0, 0), (0, 0.25), (0.25, 0.25), (0.5, 0.25), (0.5, 0.5), (0.5, 0.75), (0.75, 0.75)}
    assert points == found | {(1, 0.75), (1, 1)}


def test_the_axes_are_logarithmic_from_one_accused_non_member_to_all():
    _, ax = roc_curves(SCORES, IS_MEMBER, "Found")
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert ax.get_xlim() == (0.25, 1)
    assert ax.get_ylim()[0] == 0.25
    assert 1 < ax.get_ylim()[1] < 1.1


def test_guessing_is_the_dashed_diagonal_and_each_attack_has_its_auc():
    _, ax = roc_curves(SCORES, IS_MEMBER, "Found")
    guess = ax.lines[0]
    assert guess.get_linestyle() == "--"
    assert guess.get_xdata().tolist() == guess.get_ydata().tolist() == [0.25, 1]
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["guessing (AUC 0.50)", "sure (AUC 1.00)", "mixed (AUC 0.50)"]


def test_roc_curves_take_the_colours_they_are_given():
    colors = {"sure": "#111111", "mixed": "#222222"}
    _, ax = roc_curves(SCORES, IS_MEMBER, "Found", colors=colors)
    assert [line.get_color() for line in ax.lines[1:]] == ["#111111", "#222222"]


def test_roc_curves_have_colours_of_their_own_and_roles_keep_theirs():
    names = ["loss", "federated", "zlib", "Min-K%", "Min-K%++"]
    _, ax = roc_curves(dict.fromkeys(names, SCORES["mixed"]), IS_MEMBER, "Found")
    colors = [line.get_color() for line in ax.lines]
    assert len(set(colors)) == 6
    assert colors[2] == COLORS["federated"]


def test_a_roc_figure_has_its_takeaway_on_top_and_can_be_a_panel():
    fig, (left, right) = plt.subplots(1, 2)
    assert roc_curves(SCORES, IS_MEMBER, "Found", ax=right) == (fig, right)
    assert (len(left.lines), len(right.lines)) == (0, 3)
    assert right.get_title("left") == "Found"
    assert right.get_xlabel() == "false positive rate (non-members accused)"
    assert right.get_ylabel() == "true positive rate (members found)"


@pytest.mark.parametrize(
    ("scores", "is_member", "message"),
    [
        ([1.0, 2.0], [True, True], "2 of 2 are members"),
        ([1.0, 2.0], [False, False], "0 of 2 are members"),
        ([1.0], [True, False], r"'loss' has scores of shape \(1,\); one for each of the 2"),
        ([1.0, np.nan], [True, False], "none of them NaN"),
    ],
)
def test_scores_that_make_no_roc_curve_are_refused(scores, is_member, message):
    with pytest.raises(ValueError, match=message):
        roc_curves({"loss": scores}, is_member, "Found")
