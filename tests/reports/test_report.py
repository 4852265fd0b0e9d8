"""The page, the tables and the numbers of a report."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from sls.data.tables.columns import Columns
from sls.data.tables.score_files import join_scores
from sls.engine.evaluation.comparison import compare
from sls.engine.evaluation.evaluation import EvaluationPlan, evaluate
from sls.engine.evaluation.results import Breakdown, Cell
from sls.engine.evaluation.transfers import transfer
from sls.engine.robustness.results import SHOWN_FLIPS
from sls.metrics.dcf import DetectionCosts
from sls.metrics.operating_points import EER_POINT
from sls.reports.report import render_report
from sls.reports.robustness_tables import tabulate_conditions, tabulate_flips
from sls.reports.tables import cross_breakdown, tabulate_breakdown, tabulate_measures, text_of
from tests.engine.evaluation.keys import make_asv, make_corpus
from tests.engine.evaluation.test_comparison import make_systems
from tests.engine.robustness.test_judgement import judged
from tests.looks import emulate, find_faint_texts, find_overflow

VOID = {"meta", "img", "line", "br"}


class Checker(HTMLParser):
    """Collects the text of a page, and checks that elements close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.resources: list[str] = []

    def handle_starttag(self, tag, attributes):
        self.resources += [value for name, value in attributes if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.text += data + "\n"


def page_of(files) -> str:
    return files["report.html"].decode()


def read_page(files) -> Checker:
    checker = Checker()
    checker.feed(page_of(files))
    assert checker.open == []
    return checker


@pytest.fixture(scope="module")
def evaluation():
    corpus = make_corpus()
    return evaluate(
        join_scores(corpus.table, corpus.key),
        EvaluationPlan("LA", metrics=("eer", "min_tdcf"), breakdown=("attack", "codec"), asv=make_asv()),
        system="base<line>",
    )


@pytest.fixture(scope="module")
def comparison():
    return compare(make_systems(shift=0.5), EvaluationPlan("LA"))


@pytest.fixture(scope="module")
def files(evaluation):
    return render_report(evaluation)


@pytest.fixture(scope="module")
def comparison_files(comparison):
    return render_report(comparison)


def test_a_report_is_a_page_its_numbers_and_its_pictures(files):
    assert list(files)[:2] == ["report.html", "report.json"]
    assert {"det.png", "scores.png", "eer_by_attack.png", "eer_by_attack_codec.png"} <= set(files)
    assert all(content[:4] == b"\x89PNG" for name, content in files.items() if name.endswith(".png"))


def test_the_page_needs_nothing_from_elsewhere(files, comparison_files):
    for found in (files, comparison_files):
        assert all(source.startswith("data:image/png;base64,") for source in read_page(found).resources)
        assert not re.findall(r"https?://[^\s'\"<]+", page_of(found))


def test_the_page_holds_every_number_as_a_person_reads_it(evaluation, files):
    text = read_page(files).text
    trials, clusters = evaluation.measures[0].intervals
    assert f"{100 * evaluation.eer:.2f}" in text
    for interval in (trials, clusters):
        assert f"[{100 * interval.low:.2f}, {100 * interval.high:.2f}]" in text
    assert f"{evaluation.value('min_tdcf'):.4f}" in text
    for breakdown in evaluation.breakdowns:
        for cell in breakdown.cells:
            assert f"{100 * cell.eer:.2f}" in text
    assert "95 % over 10 speakers and 3 attacks" in text
    # Of a breakdown by attack each cell rests on one.
    assert "10 speakers and 1 attack\n" in text


def test_rates_have_two_decimals_and_the_rest_four(evaluation):
    values = {name: text_of(value) for name, value, *_ in tabulate_measures([evaluation]).rows}
    assert values["EER %"] == f"{100 * evaluation.eer:.2f}"
    assert values["min t-DCF"] == f"{evaluation.value('min_tdcf'):.4f}"


def test_the_page_says_what_the_other_subsets_of_the_key_give(evaluation, files):
    assert [other.subset for other in evaluation.other_subsets] == ["eval", "progress"]
    assert evaluation.scope in read_page(files).text


def test_the_page_counts_decisions_of_both_classes(evaluation, files):
    page = page_of(files)
    for count in (evaluation.confusion.rejected_bonafide, evaluation.confusion.accepted_spoof):
        assert f'<td data-v="{float(count)!r}">{count:,}</td>' in page


def test_heat_maps_are_coloured_by_their_share_of_the_largest_number(evaluation, files):
    crossed = next(found for found in evaluation.breakdowns if len(found.fields) == 2)
    page = page_of(files)
    for measure in ("eer", "min_tdcf"):
        table = cross_breakdown(crossed, measure)
        assert table.largest == max(getattr(cell, measure) for cell in crossed.cells)
        for cell in crossed.cells:
            value = getattr(cell, measure)
            tip = f"{cell.num_bonafide:,} bona fide, {cell.num_spoof:,} spoofed"
            shade = f'data-v="{value!r}" title="{tip}" style="--share:{value / table.largest:.3f}"'
            assert shade in page


def test_a_column_without_content_is_left_out():
    columns = tabulate_breakdown(Breakdown(("attack",), (True,), (Cell(("A1",), 5, 7, 0.25),))).columns
    assert list(columns) == ["attack", "bona fide", "spoofed", "EER (%)"]


def test_names_cannot_break_the_page(evaluation):
    hostile = replace(evaluation, system="</script><script>alert(1)</script>", track="a&b", breakdowns=())
    found = render_report(hostile)
    assert "<script>alert" not in page_of(found)
    assert "a&b" in read_page(found).text


def test_the_json_holds_what_the_evaluation_holds(evaluation, files):
    assert json.loads(files["report.json"]) == json.loads(json.dumps(evaluation.to_dict()))


def test_warnings_and_the_synthetic_corpus_stand_out(evaluation, files):
    warned = replace(evaluation, warnings=("these scores do better negated",), corpus="demo", breakdowns=())
    content = page_of(render_report(warned))
    assert '<p class="note">these scores do better negated</p>' in content
    assert '<p class="synthetic">synthetic corpus' in content
    assert 'class="synthetic"' not in page_of(files)


def test_a_comparison_leads_with_its_verdict(comparison, comparison_files):
    text = read_page(comparison_files).text
    assert comparison.verdicts[0] in text
    assert text.index(comparison.verdicts[0]) < text.index("Results")
    assert comparison.disagreements[0].trial in text
    (difference,) = comparison.differences
    for tested in (difference.over_trials, difference.over_clusters):
        low, high = tested.interval.low, tested.interval.high
        assert f"[{100 * low:.2f}, {100 * high:.2f}]" in text
    assert f"over {difference.tested.interval.over}: {difference.tested.conclusion}" in text
    assert f"{difference.tested.p_value:.3f}" in text
    assert set(comparison_files) == {"report.html", "report.json", "det.png", "eer_differences.png"}


def test_intervals_are_explained_by_what_they_rest_on():
    joined = make_corpus()
    unnamed = replace(joined, key=replace(joined.key, fields=Columns({})))
    for of_key in (joined, unnamed):
        found = evaluate(of_key, EvaluationPlan("LA"))
        text = read_page(render_report(found)).text
        assert f"Intervals are {100 * found.measures[0].interval().level:g} % intervals" in text
        assert ("those over 10 speakers and 3 attacks do not" in text) == (of_key is joined)
        assert ("take trials for independent, since" in text) == (of_key is unnamed)
        assert "as they stand in the file" in text


def test_what_was_left_out_of_a_comparison_is_on_the_page():
    systems = make_systems(noise=0.3)
    systems["two"] = systems["two"].select(slice(0, 900))
    found = compare(systems, EvaluationPlan("LA"))
    assert re.search(r"\b900 trials\b", read_page(render_report(found)).text)


def test_path_with_bytes_of_no_character_stands_in_the_page(evaluation) -> None:
    provenance = {**evaluation.provenance, "scores": {"path": "/x/\udcff<b>.txt"}}
    checker = read_page(render_report(replace(evaluation, provenance=provenance)))
    assert r"/x/\udcff<b>.txt" in checker.text


def test_the_page_of_transfers_has_both_matrices_their_intervals_and_the_verdicts():
    first = make_corpus()
    systems = {"one": first, "lower": replace(first, scores=first.scores - 2)}
    # Of a system whose scores are reversed there is no logistic calibration, and the page does without.
    systems["reversed"] = replace(first, scores=-first.scores)
    report = transfer({"LA": systems}, "demo", "all", DetectionCosts())
    files = render_report(report)
    assert {"report.html", "report.json", "eer_threshold_1.png", "logistic_1.png"} == set(files)
    text = read_page(files).text
    assert "synthetic" in text
    found = report.matrices[0].find("one", "lower", EER_POINT)
    assert f"{100 * found.value('miss'):.2f} / {100 * found.value('false_alarm'):.2f}" in text
    clustered = found.measure("half_total_error").interval(is_clustered=True)
    assert f"[{100 * clustered.low:.2f}, {100 * clustered.high:.2f}]" in text
    for verdict in report.verdicts:
        assert verdict in text
    assert any("no logistic calibration of reversed" in note for note in report.notes)
    assert report.matrices[0].find("reversed", "one", "logistic") is None
    assert json.loads(files["report.json"])["verdicts"] == list(report.verdicts)


@pytest.fixture(scope="module")
def robustness():
    return judged({"bad<": 1.0, "mild": 0.1}, "silence-alone")


def test_the_page_of_robustness_shows_conditions_from_the_worst_on(robustness) -> None:
    files = render_report(robustness)
    assert set(files) == {"report.html", "report.json", "conditions.png"}
    page = read_page(files)
    for verdict in robustness.verdicts:
        assert verdict in page.text
    assert page.text.index("bad<") < page.text.index("mild") < page.text.index("\nsilence-alone")
    assert robustness.results[0].condition.description in page.text
    assert robustness.results[0].flips[0].trial in page.text


def test_tables_of_robustness_hold_its_numbers(robustness) -> None:
    rows = [[text_of(cell) for cell in row] for row in tabulate_conditions(robustness).rows]
    assert [row[0] for row in rows] == ["bad<", "mild", "silence-alone", "clean"]
    first = robustness.results[0]
    wanted = [f"{100 * first.value(name):.2f}" for name in ("eer", "eer_diff", "miss", "false_alarm")]
    assert [rows[0][place] for place in (1, 2, 4, 5)] == wanted
    assert rows[-1][1] == f"{100 * robustness.clean.value:.2f}"
    assert rows[0][-2:] == ["distinguishable", first.condition.description]
    assert {len(row) for row in rows} == {len(tabulate_conditions(robustness).columns)}
    flips = tabulate_flips(robustness).rows
    assert [row[0] for row in flips].count("bad<") == SHOWN_FLIPS
    assert "silence-alone" not in {row[0] for row in flips}


@pytest.fixture(scope="module")
def pages(files, comparison_files, robustness, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Addresses of the pages of an evaluation, a comparison, robustness and transfers."""
    directory = tmp_path_factory.mktemp("pages")
    first = make_corpus()
    systems = {"LA": {"one": first, "lower": replace(first, scores=first.scores - 2)}}
    transfers = render_report(transfer(systems, "demo", "all", DetectionCosts()))
    reports = [files, comparison_files, render_report(robustness), transfers]
    paths = [directory / f"{number}.html" for number in range(len(reports))]
    for path, report in zip(paths, reports, strict=True):
        path.write_bytes(report["report.html"])
    return [path.as_uri() for path in paths]


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_pages_fit_a_telephone_and_their_texts_stand_out(pages, browser, theme: str) -> None:
    emulate(browser, 390, theme)
    for page in pages:
        browser.get(page)
        assert find_overflow(browser) == [390]
        assert find_faint_texts(browser) == []


@pytest.mark.slow
def test_tables_are_sorted_and_curves_read_off_by_keyboard(pages, browser) -> None:
    browser.get(pages[0])
    heading = browser.find_element("css selector", "th:nth-child(2)")
    column = "return [...document.querySelectorAll('table')[0].tBodies[0].rows].map(row => +row.cells[1].dataset.v)"
    browser.execute_script("arguments[0].focus()", heading)
    for key, order, is_down in ((Keys.ENTER, "ascending", False), (Keys.SPACE, "descending", True)):
        ActionChains(browser).send_keys(key).perform()
        values = browser.execute_script(column)
        assert heading.get_attribute("aria-sort") == order
        assert values == sorted(values, reverse=is_down)
    browser.execute_script("document.getElementById('det').focus()")
    readings = []
    for key in (Keys.ARROW_LEFT, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT):
        ActionChains(browser).send_keys(key).perform()
        text = browser.find_element("id", "det-reading").text
        readings.append([float(number) for number in re.findall(r"([\d.]+) %", text)][-2:])
    accepted, rejected = zip(*readings, strict=True)
    assert accepted[0] < accepted[2]
    assert rejected[0] > rejected[2]


def test_a_control_alone_is_told_without_a_chart() -> None:
    files = render_report(judged({}, "silence-alone"))
    assert set(files) == {"report.html", "report.json"}
    assert "silence around speech alone" in read_page(files).text
