"""The tables of transfers: what operating points that were set elsewhere cost."""

from sls.engine.evaluation.measures import FRACTION, TITLES, format_interval, format_number
from sls.engine.evaluation.transfer_results import (
    HALF_TOTAL,
    LEAST,
    METHODS,
    Transfer,
    TransferMatrix,
    TransferReport,
)
from sls.reports.tables import HEAT_TITLES, NO_VALUE, Number, Table, drop_empty, interval_cell

OWN_NOTE = "set on these trials"


def cross_transfers(matrix: TransferMatrix, method: str, measure: str) -> Table:
    """Returns a measure of a method's transfers, sources by targets, with the least that each target allows.

    In the place of the half total error stand both errors that it is the mean of, and the EER of each target.
    """
    least = "eer" if measure == HALF_TOTAL else LEAST[measure]
    title = "miss / false alarm (%)" if measure == HALF_TOTAL else TITLES[measure]
    rows: list[list[str | Number]] = []
    for source in matrix.ends:
        cells = [matrix.find(source.name, target.name, method) for target in matrix.ends]
        rows.append([source.name, *(_show(found, measure) if found else Number(NO_VALUE) for found in cells)])
    own = [found for ends in matrix.ends for found in ends.measures if found.name == least]
    lowest = [Number(format_number(found.value, found.unit), found.value) for found in own]
    rows.append([HEAT_TITLES.get(least, TITLES[least]), *lowest])
    return Table([title, *(f"on {ends.name}" for ends in matrix.ends)], rows, is_heat_map=True)


def _show(transfer: Transfer, measure: str) -> Number:
    found = {item.name: item for item in transfer.measures}
    shown = ("miss", "false_alarm") if measure == HALF_TOTAL else (measure,)
    coloured = found[measure]
    ends = [f"{format_interval(item, coloured.unit)} over {item.over}" for item in coloured.intervals]
    tip = f"{coloured.title} {', '.join(ends)}{f'; {OWN_NOTE}' if transfer.is_own else ''}"
    text = " / ".join(format_number(found[name].value, found[name].unit) for name in shown)
    return Number(text, coloured.value, tip)


def list_transfers(report: TransferReport) -> Table:
    """Returns a row for each measure of each transfer, with its intervals; those on their own trials say so."""
    rows: list[list[str | Number]] = [
        [
            *(matrix.title, METHODS[item.method], item.source, item.target, OWN_NOTE if item.is_own else ""),
            f"{found.title} %" if found.unit == FRACTION else found.title,
            Number(format_number(found.value, found.unit), found.value),
            *(interval_cell(found.interval(is_clustered=kind), found.unit) for kind in (False, True)),
        ]
        for matrix in report.matrices
        for item in matrix.transfers
        for found in item.measures
    ]
    header = ["system", "operating point", "from", "on", "note", "measure", "value"]
    return drop_empty([*header, "interval over trials", "interval over clusters"], rows)
