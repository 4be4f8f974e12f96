"""Results as tables in the terminal."""

from __future__ import annotations

from unknot.core.console import print_table
from unknot.pruning.outcome import PruningOutcome


def print_outcome(title: str, outcome: PruningOutcome) -> None:
    """Accuracy and cost before and after pruning, with their ratio, on stdout."""
    flat = outcome.summary()
    before, after = outcome.cost_before, outcome.cost_after
    pairs: list[tuple[str, float | None, float | None]] = [
        (name, flat[f"{name}_before"], flat[f"{name}_after"])
        for name in ("accuracy", "filters", "parameters", "macs")
    ]
    pairs.append(("peak activation bytes", before.activation_bytes, after.activation_bytes))
    pairs += [
        (f"ms at batch {a.batch_size}", a.median_ms, b.median_ms)
        for a, b in zip(before.latencies, after.latencies, strict=True)
    ]
    rows = [[name, a, b, f"{b / a:.2f}" if a and b else ""] for name, a, b in pairs]
    print_table(title, ["", "before", "after", "ratio"], rows)
