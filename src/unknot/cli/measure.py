"""The verb measure: islands, tangle and Betti numbers of a model's layers, once or while it trains."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, cast

import typer
from torch import nn

from unknot.cli import options as flags
from unknot.cli.samples import Batches, load_data, read_batches
from unknot.cli.sources import load_model, one_thread_unless_told
from unknot.core.console import print_json, print_table
from unknot.core.errors import InputError
from unknot.core.workforce import Workforce
from unknot.nets.data import LabelledData
from unknot.nets.follower import After
from unknot.nets.probe import probe_samples
from unknot.nets.recording.outputs import Tokens
from unknot.nets.training import train, train_first
from unknot.profiles.clouds import By
from unknot.profiles.frames import NUMBERS, interval_text
from unknot.profiles.journal import FORMATS, write_profile
from unknot.profiles.meter import Meter, measure
from unknot.profiles.monitor import Monitor
from unknot.profiles.options import MeasureOptions
from unknot.profiles.picture.sentences import headline
from unknot.profiles.profile import ProfileRow, TopologyProfile, UntanglingRow
from unknot.report.page import write_report

DEFAULTS = MeasureOptions()


def measure_command(
    model: flags.Model,
    data: flags.Data,
    by: Annotated[str, typer.Option(help="class, layer or filter.")] = DEFAULTS.by,
    label_column: flags.LabelColumn = None,
    layers: flags.Layers = ["*"],  # noqa: B006
    knn: flags.K = None,
    hops: flags.Hops = None,
    radius: flags.Radius = None,
    max_points: flags.MaxPoints = DEFAULTS.max_points,
    max_dim: Annotated[int, typer.Option(min=1, max=2, help="2 adds b2, voids.")] = DEFAULTS.max_dim,
    tokens: Annotated[
        str, typer.Option(help="Of sequences [n, t, d]: mean, first, last or all tokens.")
    ] = DEFAULTS.tokens,
    after: Annotated[
        str, typer.Option(help="Convolutions after the module, the activation or pooling.")
    ] = DEFAULTS.after,
    repeats: Annotated[
        int, typer.Option(min=0, help="Subsamples that give each number its interval, e.g. 20.")
    ] = DEFAULTS.repeats,
    nulls: Annotated[
        int, typer.Option(min=0, help="Copies with random weights, and shuffled labels, beside it.")
    ] = DEFAULTS.nulls,
    activation: flags.Activation = "relu",
    train_epochs: flags.TrainEpochs = 0,
    every: Annotated[
        int, typer.Option(min=0, help="While it trains, measure epoch 0 and every N-th.")
    ] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Write the profile to FILE.json, .jsonl or .parquet.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write a page to FILE.html.")] = None,
    cluster: flags.Cluster = None,
    seed: flags.Seed = 0,
    as_json: flags.Json = False,
    debug: flags.Debug = False,
) -> None:
    """Islands, tangle and Betti numbers after each layer of a model.

    Islands are the pieces of all samples that stand out of the noise; tangle is 0 where each class is one
    piece and 1 where the labels could as well be random. Both hang on no scale. Betti numbers do:
    The scale is calibrated on the input and held for all layers, unless --knn or --radius gives it. All
    samples count, up to --max-points; with --train those that it trains on: the test samples, or a
    fifth where there are none, are left out. torch uses one thread unless OMP_NUM_THREADS says how many.

      unknot measure --model mlp --data rings --train 10 --every 1 --layers 'act*' --report rings.html

      unknot measure --model my_package.nets:resnet --data mine.npz --by filter --out filters.json
    """
    drawn = report is not None or out is not None  # the page shows more than the numbers
    options = MeasureOptions(
        layers="*" if layers == ["*"] else layers, by=cast(By, by),
        scale=flags.scale_of(knn, hops, radius) or "auto",
        tokens=cast(Tokens, tokens), after=cast(After, after), max_points=max_points, max_dim=max_dim,
        repeats=repeats, nulls=nulls, views=300 if drawn else 0, sensitivity=drawn, seed=seed,
    )  # fmt: skip
    for path, flag, suffixes in ((out, "--out", FORMATS), (report, "--report", (".html",))):
        if path is not None:
            flags.require_file_name(path, flag, suffixes)
    if every and not train_epochs:
        raise InputError(f"--every {every} without --train", "epochs to watch", "pass e.g. --train 10")
    if every and cluster is not None:
        raise InputError(
            f"--cluster {cluster} with --every",
            "one of them",
            "drop one: it is measured here as it trains",
        )
    read = load_data if train_epochs else read_batches
    loaded = read(data, seed=seed, label_column=label_column)
    net = load_model(model, loaded, activation=activation, seed=seed)
    with one_thread_unless_told():
        if not isinstance(loaded, LabelledData):
            profile = measure(net, loaded, cluster=cluster, progress=True, **vars(options))
        elif every:
            profile = _watched(net, loaded, train_epochs, every, options)
        else:
            profile = _trained(net, loaded, train_epochs, cluster, options)
    left_out = _left_out(loaded, profile.settings["samples"], max_points)
    for note in left_out:
        print(note, file=sys.stderr)
    kept = [note for note in profile.notes if not note.startswith("measured ")]  # said below, as a flag
    shown, profile = profile, replace(profile, notes=(*kept, *left_out))
    if out is not None:
        write_profile(out, profile)
    if report is not None:
        write_report(report, (f"{model} on {data}", profile), title=f"{model} on {data}")
    if as_json:
        print_json(profile.to_record())
    else:
        _print_profile(f"{model} on {data}", shown)
        written = {"profile": out, "report": report}
        print(
            *(f"{name}: {path}\n" for name, path in written.items() if path is not None), sep="", end=""
        )


def _left_out(loaded: LabelledData | Batches, measured: int, max_points: int) -> list[str]:
    """Which samples were not measured, and why, in sentences."""
    notes = []
    n = loaded.n if isinstance(loaded, Batches) else len(loaded.labels)
    if measured < n:
        notes.append(f"measured {measured:,} of {n:,} samples: --max-points {max_points}")
    if isinstance(loaded, LabelledData) and len(loaded.test_labels):
        notes.append(
            f"left out {len(loaded.test_labels):,} test samples, on which nothing is trained or measured"
        )
    return notes


def _trained(
    net: nn.Module, data: LabelledData, epochs: int, cluster: str | None, options: MeasureOptions
) -> TopologyProfile:
    """Everything is checked before the training, and measured after it."""
    batches = [(data.inputs, data.labels)]
    probe = probe_samples(batches, max_points=options.max_points, seed=options.seed)
    meter = Meter(net, probe, options)
    with Workforce(cluster=cluster) as workforce:
        train_first(net, data, epochs, options.seed)
        return meter.measure_once(workforce, progress=True)


def _watched(
    net: nn.Module, data: LabelledData, epochs: int, every: int, options: MeasureOptions
) -> TopologyProfile:
    with Monitor(net, [(data.inputs, data.labels)], every=every, **vars(options)) as monitor:
        train(
            net, data.inputs, data.labels, epochs=epochs, seed=options.seed,
            on_epoch=monitor.record, progress="training",
        )  # fmt: skip
        if epochs % every:
            monitor.record(epochs, always=True)
    return monitor.profile


def _print_profile(what: str, profile: TopologyProfile) -> None:
    """What it comes to, Betti numbers before or after what hangs on no scale, and what to heed."""
    said = headline(profile)
    if said:
        print(said)
    doubtful = _undetermined(profile)
    parts = [_print_untangling, _print_betti] if doubtful else [_print_betti, _print_untangling]
    for part in parts:
        part(what, profile)
    for entry in profile.accuracy[-1:]:
        if entry.probe is not None:
            print(f"accuracy on the {profile.settings['samples']} measured samples: {entry.probe:.3f}")
    if doubtful and profile.scale is not None:
        print(f"the scale is undetermined: {profile.scale.note}")
    for note in profile.notes:
        print(note)


def _undetermined(profile: TopologyProfile) -> bool:
    return profile.scale is not None and not profile.scale.determined


def _print_untangling(what: str, profile: TopologyProfile) -> None:
    """One line a layer output; watched nets have a column an epoch, random copies one of their own."""
    given = [row for row in profile.untangling if row.random is None]
    if not given:
        return
    rows = {(r.epoch, r.layer, r.call, r.random): r for r in profile.untangling}
    epochs = _shown(list(dict.fromkeys(row.epoch for row in given)))
    copies = sorted({row.random for row in profile.untangling if row.random is not None})
    if len(epochs) == 1:
        columns = ["islands", "tangle", "purity"]
    else:
        columns = [f"epoch {epoch}" for epoch in epochs]
    if copies:
        columns += ["random: islands", "tangle", "purity", "shuffled: tangle"]
    lines = []
    for layer, call in dict.fromkeys((row.layer, row.call) for row in given):
        of_epochs = [rows.get((epoch, layer, call, None)) for epoch in epochs]
        if len(epochs) == 1:
            cells = [interval_text(of_epochs[0], name) for name in NUMBERS]
        else:
            cells = [", ".join(interval_text(row, name) for name in NUMBERS) for row in of_epochs]
        if copies:
            first = [rows.get((epochs[0], layer, call, copy)) for copy in copies]
            cells += [_over_copies([row for row in first if row], name) for name in NUMBERS]
            cells.append(_range_text(None if of_epochs[0] is None else of_epochs[0].shuffled))
        lines.append((layer, call, *cells))
    each = "" if len(epochs) == 1 else " (islands, tangle, purity)"
    title = f"Islands, tangle and purity of {what}{each}, n = {given[0].n_points:,}, seed {profile.seed}"
    print_table(title, ["layer", "call", *columns], lines)
    notes = dict.fromkeys(row.note for row in given if row.epoch == epochs[-1] and row.note)
    for note in notes:
        layers = [r.layer for r in given if r.epoch == epochs[-1] and r.note == note]
        print(f"{', '.join(dict.fromkeys(layers))}: {note}")


def _over_copies(rows: list[UntanglingRow], name: str) -> str:
    """The range over random copies of a net, or the number of the only one."""
    if len(rows) == 1:
        return interval_text(rows[0], name)
    values = [value for row in rows if (value := getattr(row, name)) is not None]
    return _range_text((min(values), max(values)) if values else None)


def _range_text(span: tuple[float, float] | None) -> str:
    ends = () if span is None else [f"{end}" if isinstance(end, int) else f"{end:.2f}" for end in span]
    return " to ".join(dict.fromkeys(ends)) or "-"


def _print_betti(what: str, profile: TopologyProfile) -> None:
    """One line a cloud; watched nets have a column an epoch, filters a line a layer.

    Where no scale is determined and no cloud has more than its one piece, that is all there is to say.
    """
    title = f"Betti numbers of {what} at {profile.scale}, seed {profile.seed}"
    if profile.rows[0].filter is not None:
        _print_filters(title, profile)
    elif _undetermined(profile) and all((r.b0, r.b1, r.b2 or 0) == (1, 0, 0) for r in profile.rows):
        of = "every class of every layer" if profile.rows[0].label is not None else "every layer"
        print(f"{title}: one piece without loops in {of}")
    else:
        epochs = _shown(profile.epochs())
        row_of = {(r.epoch, r.layer, r.call, r.label): r for r in profile.rows}
        keys = list(dict.fromkeys((r.layer, r.call, r.label) for r in profile.rows))
        columns = ["(b0, b1)"] if epochs == [None] else [f"epoch {epoch}" for epoch in epochs]
        rows = [
            (layer, call, "all" if label is None else label,
             row_of[epochs[-1], layer, call, label].n_points,
             *(_cell(row_of.get((epoch, layer, call, label))) for epoch in epochs))
            for layer, call, label in keys
        ]  # fmt: skip
        print_table(title, ["layer", "call", "class", "n", *columns], rows)


def _print_filters(title: str, profile: TopologyProfile) -> None:
    layers: dict[tuple[str, int], list[ProfileRow]] = {}
    for row in profile.rows:
        layers.setdefault((row.layer, row.call), []).append(row)
    rows = []
    for (layer, call), filters in layers.items():
        b0, b1 = sorted(r.b0 for r in filters), sorted(r.b1 for r in filters)
        dead = sum(r.n_points == 1 for r in filters)
        middle = len(filters) // 2
        rows.append((
            layer, call, len(filters), dead, f"{b0[middle]} [{b0[0]} to {b0[-1]}]",
            f"{b1[middle]} [{b1[0]} to {b1[-1]}]",
        ))  # fmt: skip
    columns = ["layer", "call", "filters", "constant", "b0, median [range]", "b1, median [range]"]
    print_table(title, columns, rows)


def _shown(epochs: list[int | None], most: int = 6) -> list[int | None]:
    """The first, the last and some between, as many as a table has room for."""
    if len(epochs) <= most:
        return epochs
    return [epochs[round(i * (len(epochs) - 1) / (most - 1))] for i in range(most)]


def _cell(row: ProfileRow | None) -> str:
    if row is None:
        return ""
    numbers = [row.b0, row.b1] + ([] if row.b2 is None else [row.b2])
    if row.intervals is None:
        return f"({', '.join(map(str, numbers))})"
    return ", ".join(
        f"{n} [{low}, {high}]" for n, (low, high) in zip(numbers, row.intervals, strict=True)
    )
