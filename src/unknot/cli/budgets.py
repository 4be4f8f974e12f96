"""What a study by budget prints."""

from collections.abc import Sequence
from dataclasses import asdict

from unknot.core.console import print_json, print_table
from unknot.study.budget.results import BudgetInWords, SecondsRow, budgets_in_words
from unknot.study.study import Study
from unknot.study.survival import times_text


def show_budgets(study: Study, baseline: str, target: float, as_json: bool) -> None:
    """Scores and losses after each budget, against the baseline; of seconds also those to ``target``."""
    rows, losses = study.budgets(), study.budgets(metric="loss")
    comparisons = study.compare_budgets(baseline)
    seconds = study.seconds_to(target)
    if as_json:
        print_json({
            "rows": [asdict(row) for row in rows],
            "loss_rows": [asdict(row) for row in losses],
            "comparisons": [asdict(comparison) for comparison in comparisons],
            "seconds_to": [asdict(row) for row in seconds],
        })  # fmt: skip
        return
    texts = budgets_in_words(rows, comparisons)
    by_loss = {_key(text): text.score for text in budgets_in_words(losses)}
    for kind in dict.fromkeys(_kind(text) for text in texts):
        _print_kind([text for text in texts if _kind(text) == kind], by_loss, baseline)
    if seconds:
        _print_seconds(seconds)


def _kind(text: BudgetInWords) -> tuple[str, ...]:
    row = text.row
    return row.unit, row.schedule, row.metric, row.net


def _key(text: BudgetInWords) -> tuple[object, ...]:
    row = text.row
    return row.set, row.activation, row.at, row.unit, row.schedule, row.net, row.learning_rate, row.gain


def _print_kind(
    texts: Sequence[BudgetInWords], by_loss: dict[tuple[object, ...], str], baseline: str
) -> None:
    row = texts[0].row
    loss = {"accuracy": "cross entropy", "R^2": "RMSE"}[row.metric]
    cells = [
        (t.row.set, f"{t.row.at:g}", t.row.activation, t.row.learning_rate, t.row.gain, t.score,
         by_loss[_key(t)], t.difference, t.p)
        for t in texts
    ]  # fmt: skip
    known = any(t.row.low is not None or t.row.high is not None for t in texts)
    middle, ends = ("median [95 %]", " [95 %]") if known else ("median (range)", "")
    columns = [
        "set", row.unit, "activation", "rate", "gain", f"{row.metric}: {middle}",
        f"{loss}: {middle}", f"{row.metric} less {baseline}'s{ends}", "p, one-sided",
    ]  # fmt: skip
    title = f"Held-out {row.metric} after N {row.unit}, {row.net}, {row.schedule} learning rate"
    print_table(f"{title}, {row.seeds} seed{'s' * (row.seeds != 1)}", columns, cells)


def _print_seconds(rows: Sequence[SecondsRow]) -> None:
    cells = [
        (row.set, f"{row.at:g}", row.activation, f"{row.tuning:.3g}", f"{row.reached}/{row.seeds}",
         times_text(row.seconds), "not reached" if row.total is None else f"{row.total:.3g}")
        for row in rows
    ]  # fmt: skip
    columns = ["set", "budget", "activation", "tuning", "reached", "training: median [range]", "in all"]
    first = rows[0]
    print_table(f"Seconds to {first.target:.4g} test {first.metric}, tuning counted", columns, cells)
