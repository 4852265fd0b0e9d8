import io
from dataclasses import replace

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from sls.engine.evaluation.comparison import compare
from sls.engine.evaluation.evaluation import EvaluationPlan, evaluate
from sls.engine.evaluation.results import POOLED, Breakdown, Cell
from sls.quotation import make_visible
from sls.reports.breakdown_figures import (
    MAX_ROWS,
    heat_map_figure,
    interval_figure,
    robustness_figure,
)
from sls.reports.figure_style import to_png
from sls.reports.figures import (
    RING_SIZE,
    comparison_figures,
    det_figure,
    epochs_figure,
    evaluation_figures,
    locate_det_points,
    score_figure,
)
from sls.tracking.scoring.one_recording import ScoredRecording, ScoredWindow, curve_figure
from tests.engine.evaluation.keys import make_asv, make_corpus
from tests.engine.evaluation.test_comparison import make_systems
from tests.engine.robustness.test_judgement import judged
from tests.looks import LEAST_CONTRAST

EPOCH_COLUMNS = ("track", "recipe", "epoch", "eer_percent", "is_chosen")


@pytest.fixture(scope="module")
def evaluation():
    return evaluate(
        make_corpus(),
        EvaluationPlan(
            "LA",
            subset="eval",
            metrics=("eer", "min_tdcf"),
            breakdown=("attack", "codec", "speaker"),
            asv=make_asv(),
        ),
        system="baseline",
    )


def make_epochs(recipe: str = "v1") -> pd.DataFrame:
    """Three epochs of a recipe on one track, of which none was chosen."""
    return pd.DataFrame(
        {
            "track": "LA",
            "recipe": recipe,
            "epoch": range(3),
            "eer_percent": [5.0, 4.0, 3.0],
            "is_chosen": False,
        }
    )


def texts_of(figure: Figure) -> list[str]:
    figure.canvas.draw()
    return [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]


@pytest.mark.slow
def test_every_breakdown_of_an_evaluation_has_its_figure(evaluation):
    figures = evaluation_figures(evaluation)
    expected = {"det", "scores", "eer_by_attack", "eer_by_codec", "eer_by_speaker"}
    assert set(figures) == expected | {"eer_by_attack_codec", "min_tdcf_by_attack_codec"}
    for figure in figures.values():
        picture = matplotlib.image.imread(io.BytesIO(to_png(figure)))
        assert picture.shape[1] >= 1_000
        assert picture[..., :3].std() > 0.02  # not blank


def test_a_heat_map_holds_the_number_of_every_cell(evaluation):
    breakdown = next(found for found in evaluation.breakdowns if len(found.fields) == 2)
    texts = texts_of(heat_map_figure(evaluation, breakdown))
    for cell in breakdown.cells:
        assert f"{100 * cell.eer:.2f}" in texts
    assert {"A9", "A10", "A11", POOLED, "alaw", "none"} <= set(texts)


def test_numbers_of_a_heat_map_stand_out_from_its_colours(evaluation):
    cells = [
        Cell(values, 5, 5, share / 25)
        for share in range(26)
        for values in ((f"A{share}", "c1"), (f"A{share}", POOLED))
    ]
    cells.append(Cell((POOLED, "c1"), 5, 5, 0.5))
    (axes,) = heat_map_figure(evaluation, Breakdown(("attack", "codec"), (True, False), tuple(cells))).axes
    (image,) = axes.images
    for text in axes.texts:
        column, row = text.get_position()
        ground = luminance(image.to_rgba(image.get_array())[int(row), int(column)])
        ink = luminance(to_rgba(text.get_color()))
        assert (max(ground, ink) + 0.05) / (min(ground, ink) + 0.05) >= LEAST_CONTRAST, text.get_text()


def luminance(colour) -> float:
    """The relative luminance of WCAG."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour[:3]]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def test_missing_cells_of_a_heat_map_are_marked(evaluation):
    cells = (
        Cell(("A1", "c1"), 5, 5, 0.25),
        Cell(("A1", POOLED), 5, 5, 0.25),
        Cell((POOLED, "c1"), 5, 5, 0.25),
        Cell(("A2", "c1"), 0, 5, None, note="no bona fide trial"),
    )
    texts = texts_of(heat_map_figure(evaluation, Breakdown(("attack", "codec"), (True, False), cells)))
    assert "-" in texts


def test_long_breakdowns_draw_the_hardest_and_say_so(evaluation):
    cells = tuple(Cell((f"S{number:03d}",), 9, 9, number / 100) for number in range(50))
    texts = texts_of(interval_figure(evaluation, Breakdown(("speaker",), (False,), cells)))
    assert any(f"the {MAX_ROWS} hardest of 50" in text for text in texts)
    assert "S049" in texts
    assert "S000" not in texts
    # Of rows that are as hard as each other, none takes the place of a harder one.
    cells = tuple(Cell((f"S{number:03d}",), 9, 9, 0.2 if number < 49 else 0.3) for number in range(50))
    texts = texts_of(interval_figure(evaluation, Breakdown(("speaker",), (False,), cells)))
    assert "S049" in texts


def test_the_det_curve_passes_through_its_eer_point(evaluation):
    figure = det_figure([evaluation])
    curve, point = figure.axes[0].lines[:2]
    place = point.get_xdata()[0]
    assert point.get_ydata()[0] == place
    assert np.hypot(curve.get_xdata() - place, curve.get_ydata() - place).min() < 0.03
    assert any(f"EER {100 * evaluation.eer:.2f} %" in text for text in texts_of(figure))


def test_a_pointer_reads_off_the_rates_that_a_det_figure_shows_there(evaluation):
    figure = det_figure([evaluation])
    figure.canvas.draw()
    found = locate_det_points(figure, [evaluation])
    (curve,) = found["curves"]
    assert np.all(np.diff(curve["x"]) <= 0)  # false acceptance falls as the threshold rises
    assert 0 < found["left"] < found["right"] < 1
    near = int(np.argmin(np.abs(np.array(curve["far"]) - evaluation.eer)))
    point = figure.axes[0].lines[1]
    drawn = figure.axes[0].transData.transform(point.get_xydata())[0, 0] / figure.bbox.width
    assert curve["x"][near] == pytest.approx(drawn, abs=0.01)
    assert (curve["far"][near] + curve["frr"][near]) / 2 == pytest.approx(evaluation.eer, abs=2e-3)


def test_the_name_of_a_system_is_text_in_a_figure(evaluation):
    """Matplotlib takes `$` for a formula, which this one is not, and hides what begins with `_`."""
    name = r"_$\frac$"
    named = replace(evaluation, system=name)
    by_attack = next(found for found in named.breakdowns if found.name == "attack")
    epochs = make_epochs(name)
    figures = [det_figure([named]), score_figure(named), interval_figure(named, by_attack)]
    for figure in [*figures, epochs_figure(epochs)]:
        assert to_png(figure).startswith(b"\x89PNG")
    (label,) = figures[0].legends[0].get_texts()
    assert label.get_text().startswith(f"{name}: EER")
    assert [text.get_text() for text in epochs_figure(epochs).legends[0].get_texts()] == [name, "chance"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [r"$\bad{$x", "a^b_c$", "<b>&%s{}", "\N{GRINNING FACE}", "\u202eabc", "a\nb", "\udcff"]
)
def test_names_are_text_in_every_figure(evaluation, monkeypatch, name: str):
    def refuse(*_: object) -> None:
        raise AssertionError("a name is taken for a formula")

    monkeypatch.setattr("matplotlib.mathtext.MathTextParser.parse", refuse)
    shown = make_visible(name)

    def rename(breakdown: Breakdown) -> Breakdown:
        cells = [replace(cell, values=tuple(map(call, cell.values))) for cell in breakdown.cells]
        return replace(breakdown, cells=cells)

    def call(value: str) -> str:
        return value if value == POOLED else name + value

    renamed = [rename(breakdown) for breakdown in evaluation.breakdowns]
    named = replace(evaluation, system=shown, track=shown, corpus=name, breakdowns=renamed)
    systems = {f"{shown}{number}": scores for number, scores in enumerate(make_systems().values())}
    comparison = compare(systems, EvaluationPlan("LA", subset="eval", metrics=("eer",)))
    windows = (ScoredWindow(0, 2, -1.0), ScoredWindow(2, 4, -2.0))
    scored = ScoredRecording(f"/x/{name}.wav", "m", 4.0, 4.0, "", -1.5, "mean", windows, (0.5,), {})
    figures = [*evaluation_figures(named).values(), *comparison_figures(comparison).values()]
    for figure in [*figures, epochs_figure(make_epochs(shown), name), curve_figure(scored)]:
        assert to_png(figure).startswith(b"\x89PNG")
    assert f"{shown}A9" in texts_of(interval_figure(named, renamed[0]))
    assert any(f"{shown}.wav" in text for text in texts_of(curve_figure(scored)))


def test_long_names_of_systems_leave_room_for_what_is_drawn() -> None:
    systems = {
        f"{name} trained on some corpus, seed {place}": scores
        for place, (name, scores) in enumerate(make_systems().items())
    }
    for figure in comparison_figures(compare(systems, EvaluationPlan("LA"))).values():
        figure.canvas.draw()
        (axes,) = figure.axes
        assert axes.bbox.width > figure.bbox.width / 2
        texts = [*figure.texts, *figure.legends[0].get_texts(), *axes.get_yticklabels(), axes.xaxis.label]
        for text in texts:
            box = text.get_window_extent()
            assert box.x0 >= -1
            assert box.x1 <= figure.bbox.width + 1
        assert not axes.get_legend()  # it would hide the curves


def test_each_class_of_a_score_figure_adds_up_to_100_percent(evaluation):
    patches = [patch for patch in score_figure(evaluation).axes[0].patches if " (" in patch.get_label()]
    assert [patch.get_label().split(" (")[0] for patch in patches] == ["bona fide", "spoofed"]
    for patch in patches:
        assert patch.get_data().values.sum() == pytest.approx(100)


def test_only_the_demo_corpus_is_marked_as_synthetic(evaluation):
    texts = texts_of(epochs_figure(make_epochs(), "demo"))
    assert "SYNTHETIC" in texts
    assert any("(synthetic demo corpus)" in text for text in texts)
    assert "SYNTHETIC" not in texts_of(epochs_figure(make_epochs(), "minispoof"))
    assert "SYNTHETIC" not in texts_of(det_figure([evaluation]))


def test_the_chosen_epoch_of_each_recipe_is_ringed_on_each_track():
    rows = [
        (track, recipe, epoch, 10.0 - epoch + start, epoch == chosen)
        for track, start in (("LA", 0), ("DF", 3))
        for recipe, chosen in (("v1", 2), ("v2", 0))
        for epoch in (2, 0, 1)
    ]
    figure = epochs_figure(pd.DataFrame(rows, columns=list(EPOCH_COLUMNS)))
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["LA", "DF"]
    for axes, expected in zip(figure.axes, ([(0, 10), (2, 8)], [(0, 13), (2, 11)]), strict=True):
        lines = [line for line in axes.lines if line.get_markersize() == RING_SIZE]
        assert sorted((line.get_xdata()[0], line.get_ydata()[0]) for line in lines) == expected
        assert list(axes.lines[0].get_xdata()) == [0, 1, 2]  # in the order of epochs
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["v1", "v2", "chance"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "eers", [(50, 40, 30, 20, 10), (10, 20, 30, 40, 50), (50, 20, 10, 20, 15), (9, 9, 30, 9, 9)]
)
def test_the_number_of_a_chosen_epoch_stands_clear_of_its_curve(eers: tuple[int, ...]) -> None:
    table = pd.DataFrame({"track": "LA", "recipe": "v1", "epoch": range(5), "eer_percent": eers})
    for chosen in range(5):
        figure = epochs_figure(table.assign(is_chosen=table["epoch"] == chosen))
        figure.canvas.draw()
        (axes,) = figure.axes
        curve = axes.lines[0].get_transform().transform_path(axes.lines[0].get_path())
        (label,) = [text for text in axes.texts if text.get_text() == f"{eers[chosen]:.2f}"]
        assert not curve.intersects_bbox(label.get_window_extent(), filled=False)


@pytest.mark.parametrize("count", [1, 4, 5, 7])
def test_every_column_of_an_epochs_figure_ends_with_its_axis(count: int) -> None:
    figure = epochs_figure(
        pd.concat(make_epochs().assign(track=f"track {number}") for number in range(count))
    )
    panels = [axes for axes in figure.axes if axes.get_visible()]
    columns = len({axes.get_subplotspec().colspan.start for axes in panels})
    for axes in panels[-columns:]:
        assert axes.get_xlabel().startswith("epoch")
        assert axes.xaxis.get_tick_params()["labelbottom"]


def test_numbers_of_recipes_that_chose_neighbouring_epochs_do_not_cover_each_other() -> None:
    tables = [
        make_epochs(recipe).assign(is_chosen=[place == 0, place == 1, False])
        for place, recipe in enumerate("ab")
    ]
    figure = epochs_figure(pd.concat(tables))
    figure.canvas.draw()
    one, other = (text.get_window_extent() for text in figure.axes[0].texts)
    assert not one.overlaps(other)


def test_systems_of_a_det_figure_differ_in_more_than_colour(evaluation):
    figure = det_figure([replace(evaluation, system=name) for name in ("one", "two", "three")])
    points = [line.get_marker() for line in figure.axes[0].lines if line.get_marker() != "None"]
    assert len(points) == len(set(points)) == 3


def test_an_epochs_figure_of_nothing_raises():
    with pytest.raises(ValueError, match="no evaluated epoch"):
        epochs_figure(pd.DataFrame(columns=list(EPOCH_COLUMNS)))
    with pytest.raises(ValueError, match="no evaluated epoch"):
        epochs_figure(make_epochs().assign(eer_percent=None))


def test_a_comparison_draws_all_systems_and_every_difference():
    found = compare(make_systems(shift=0.5), EvaluationPlan("LA"))
    figures = comparison_figures(found)
    assert set(figures) == {"det", "eer_differences"}
    labels = texts_of(figures["det"])
    assert all(any(text.startswith(f"{name}: EER") for text in labels) for name in ("one", "two"))
    texts = texts_of(figures["eer_differences"])
    assert "one minus two" in texts
    assert f"{100 * found.differences[0].value:+.2f}" in texts


def test_conditions_are_drawn_from_the_worst_on_and_a_control_in_words() -> None:
    report = judged({"mild": 0.1, "bad": 1.0}, "silence-alone")
    figure = robustness_figure(report)
    (axes,) = figure.axes
    assert [label.get_text().split()[0] for label in axes.get_yticklabels()] == ["bad", "mild"]
    low, high = axes.get_ylim()
    assert low > high  # the first row is the upper one
    drawn = {round(float(x), 9) for line in axes.lines for x in line.get_xdata()}
    for found in report.held:
        for interval in found.measures[1].intervals:
            assert {round(100 * interval.low, 9), round(100 * interval.high, 9)} <= drawn
    (control,) = (found for found in report.results if found.is_control)
    texts = " ".join(texts_of(figure))
    assert f"control {control.name}: {100 * control.value('eer'):.2f} %" in texts
    assert to_png(figure)
