"""What training did to the data, in two sentences that the numbers and their intervals bear out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from unknot.core.errors import InputError
from unknot.profiles.picture.layout import layer_name, shuffled_tangle
from unknot.profiles.profile import ProfileRow, TopologyProfile, UntanglingRow
from unknot.topology.multiscale.density import ENOUGH_POINTS

Interval: TypeAlias = tuple[float, float] | None
# An island holds mostly one class from this share on; below it, the classes of this share are named.
MOSTLY = 0.8
NAMED = 0.1
_NAMES_SHOWN = 3


@dataclass(frozen=True)
class _Comparison:
    """The row that is spoken of, those that it is held against, and what both are called."""

    now: UntanglingRow
    which: str  # of the layers: see `_spoken_of`
    others: Sequence[UntanglingRow]
    when: str
    then: str
    kind: str  # "epochs", "random" or "layers"


def headline(profile: TopologyProfile) -> str:
    """What training did to the data, in two sentences; empty where a profile is of single filters only.

    Spoken of is the last layer before the output, or the last of those that were chosen; the first
    sentence says which. Where several epochs were measured the last is held against the first; else the
    model against copies with random weights; else the layer against the first layer. Where intervals
    meet, or there are none, that is said. The Betti numbers come first where their scale is determined.

    Args:
        profile: of `measure` or a Monitor.

    Raises:
        InputError: another result.
    """
    if not isinstance(profile, TopologyProfile):
        raise InputError(
            f"a profile of type {type(profile).__name__}", "a TopologyProfile", "pass what measure gave"
        )
    sentences = [_betti_sentence(profile)] if betti_first(profile) else []
    compared = _compared(profile)
    if compared is not None:
        if sentences:  # which have said it
            compared = replace(compared, which="")
        sentences += [_tangle_sentence(profile, compared), _islands_sentence(profile, compared)]
    elif not sentences and any(row.filter is None for row in profile.rows):
        sentences = [
            "The scale is undetermined, and islands and tangle were not measured: what happened to the "
            "data cannot be told from these numbers."
        ]
    return " ".join([sentence for sentence in sentences if sentence][:2])


def betti_first(profile: TopologyProfile) -> bool:
    """Whether Betti numbers of classes or layers tell the shape of the data: the scale is determined."""
    whole = [row for row in profile.rows if row.filter is None]
    return bool(whole) and (profile.scale or whole[0].scale).determined


def samples_in(profile: TopologyProfile) -> int:
    """How many samples each layer was measured on."""
    if profile.labels is not None:
        return len(profile.labels)
    return max((len(row.members) or row.n_points for row in profile.untangling), default=0)


def class_name(profile: TopologyProfile, label: int) -> str:
    """As the data call it, else "class 3"."""
    return profile.names[label] if 0 <= label < len(profile.names) else f"class {label}"


def listed(names: Sequence[str], most: int = _NAMES_SHOWN) -> str:
    """ "a", "a and b", "a, b and c", "a, b, c and 7 more"."""
    if len(names) > most + 1:
        names = [*names[:most], f"{len(names) - most} more"]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _spoken_of(profile: TopologyProfile, keys: Sequence[tuple[str, int]]) -> tuple[tuple[str, int], str]:
    """The layer before the output, where all layers were measured, else the last one; and which it is."""
    whole_model = list(profile.settings.get("layers", ["*"])) == ["*"]
    if whole_model and len(keys) > 2:
        return keys[-2], ", the last one measured before the output"
    return keys[-1], ", the last one measured" if len(keys) > 1 else ""


def _compared(profile: TopologyProfile) -> _Comparison | None:
    given = [row for row in profile.untangling if row.random is None]
    if not given:
        return None
    keys = list(dict.fromkeys((row.layer, row.call) for row in given))
    layer, which = _spoken_of(profile, keys)
    at_layer = [row for row in given if (row.layer, row.call) == layer]
    now, first = at_layer[-1], at_layer[0]
    if now.epoch != first.epoch:
        return _Comparison(now, which, [first], _epoch(now.epoch), _epoch(first.epoch), "epochs")
    null = [
        row for row in profile.untangling if row.random is not None and (row.layer, row.call) == layer
    ]
    if null:
        return _Comparison(now, which, null, "", "with random weights", "random")
    before = next(row for row in given if row.epoch == now.epoch)
    others = [before] if before is not now else []
    return _Comparison(now, which, others, "", _place(before), "layers")


def _epoch(epoch: int | None) -> str:
    return "before training" if epoch == 0 else f"after epoch {epoch}"


def _place(row: UntanglingRow | ProfileRow) -> str:
    """ "at the input", "in layer fc1"; for the middle of a sentence."""
    name = layer_name(row.layer, row.call)
    return "at the input" if name == "input" else f"in layer {name}"


def _tangle_sentence(profile: TopologyProfile, compared: _Comparison) -> str:
    now = compared.now
    place = f"{_place(now)}{compared.which}"
    amid = f"{place}," if compared.which else place
    if profile.labels is None:
        return f"There are no labels, so how tangled the classes are {amid} cannot be told."
    if now.tangle is None:
        return f"How tangled the classes are {amid} could not be measured{_because(now.note)}."
    value = _number(now.tangle, now.tangle_interval)
    others = [row for row in compared.others if row.tangle is not None]
    scale = "(0 = each class one piece, 1 = random labels)"
    if not others:
        start = f"{amid} the tangle of the classes is {value} {scale}{_as_random(profile, now)}"
        return f"{start[0].upper()}{start[1:]}; there is nothing to hold it against."
    before = _range([row.tangle for row in others if row.tangle is not None])
    within = _hull([row.tangle_interval for row in others])
    other = f"{before}{_ends(within)}"
    change = _change(now, others)
    verdict, verb = _TANGLE_WORDS[compared.kind][change]
    if compared.kind == "random":
        numbers = f"{amid} the tangle is {value}, {compared.then} {other} {scale}"
    elif compared.kind == "epochs":
        numbers = (
            f"{amid} the tangle {verb} {other} {compared.then} {_TO[change]} {value} "
            f"{compared.when} {scale}"
        )
    else:
        numbers = f"the tangle {verb} {other} {compared.then} {_TO[change]} {value} {place} {scale}"
    doubt = ""
    if change == "unknown":
        which = "no intervals were" if within is None else "of the latter no interval was"
        doubt = f"; {which} taken (repeats=10)"
    return f"{verdict}: {numbers}{_as_random(profile, now)}{doubt}{_UNWATCHED[compared.kind]}."


# Kind of comparison -> change -> (what it means, the verb before both numbers).
_TANGLE_WORDS: dict[str, dict[str, tuple[str, str]]] = {
    "epochs": {
        "fell": ("Training took the classes apart", "fell from"),
        "rose": ("Training tangled the classes further", "rose from"),
        "same": ("Training did not measurably change how tangled the classes are", "was"),
        "unknown": ("Whether training took the classes apart cannot be told for sure", "went from"),
    },
    "random": {
        "fell": ("The model takes the classes apart further than random weights do", ""),
        "rose": ("The model leaves the classes more tangled than random weights do", ""),
        "same": ("The model takes the classes apart no further than random weights do", ""),
        "unknown": ("Whether the model takes the classes apart cannot be told for sure", ""),
    },
    "layers": {
        "fell": ("The layers take the classes apart", "falls from"),
        "rose": ("The layers tangle the classes further", "rises from"),
        "same": ("The layers do not measurably change how tangled the classes are", "is"),
        "unknown": ("Whether the layers take the classes apart cannot be told for sure", "goes from"),
    },
}
_TO = {"fell": "to", "rose": "to", "same": "and", "unknown": "to"}
_UNWATCHED = {
    "epochs": "",
    "random": "",
    "layers": "; only epoch 0 or random weights (nulls=3) can tell whether training did that",
}


def _change(now: UntanglingRow, others: Sequence[UntanglingRow]) -> str:
    """ "fell", "rose", "same" where the intervals meet, "unknown" where they are lacking.

    While a model trains only epoch 0 may have an interval. Both are of the same samples: what lies in it
    is the same, and what lies farther from it than it is wide is not.
    """
    within = _hull([row.tangle_interval for row in others])
    if now.tangle is None or within is None:
        return "unknown"
    (least, most), known = within, now.tangle_interval
    wide = most - least
    low, high = known or (now.tangle - wide, now.tangle + wide)
    if high < least:
        return "fell"
    if low > most:
        return "rose"
    return "same" if known or least <= now.tangle <= most else "unknown"


def _as_random(profile: TopologyProfile, row: UntanglingRow) -> str:
    """Said where labels without meaning would have given this tangle too."""
    low, _ = shuffled_tangle(profile, (row.layer, row.call)) or (1.0, 1.0)
    high = row.tangle_interval[1] if row.tangle_interval else row.tangle
    return ", which random labels would give too" if high is not None and high >= low else ""


def _islands_sentence(profile: TopologyProfile, compared: _Comparison) -> str:
    now, n = compared.now, samples_in(profile)
    if now.islands is None:
        return f"How many islands the samples form there could not be measured{_because(now.note)}."
    rows = [row for row in profile.untangling if row.random is None and row.epoch == now.epoch]
    if all(row.islands == 1 for row in [*rows, *compared.others] if row.islands is not None):
        more = f": try n = {ENOUGH_POINTS:,}" if n < ENOUGH_POINTS else ""
        return (
            f"The {n:,} samples form one island in every layer: the classes overlap, or there are too "
            f"few samples to tell{more}."
        )
    verb = "form" if now.islands == 1 else "fall into"
    text = f"The {n:,} samples {verb} {_islands(now.islands)}{_whole_ends(now.islands_interval)} there"
    others = [row for row in compared.others if row.islands is not None]
    if others:
        counts = _range([row.islands for row in others if row.islands is not None])
        within = _hull([row.islands_interval for row in others])
        text += f", {counts}{_whole_ends(within)} {compared.then}{_unsure(now, others)}"
    if now.islands == 1:
        top = max(rows, key=lambda row: row.islands or 0)
        most = "" if top.islands == 1 else f"; most of one layer are {top.islands}, {_place(top)}"
        return f"{text}{most}."
    mixed = _mixtures(profile, now)
    return f"{text}; {mixed}." if mixed else f"{text}."


def _unsure(now: UntanglingRow, others: Sequence[UntanglingRow]) -> str:
    """Said where counts differ by no more than subsamples of the same data do."""
    within = _hull([row.islands_interval for row in others])
    mine = now.islands_interval
    if all(row.islands == now.islands for row in others) or within is None or mine is None:
        return ""
    return " (the intervals meet)" if mine[0] <= within[1] and within[0] <= mine[1] else ""


def _mixtures(profile: TopologyProfile, row: UntanglingRow) -> str:
    """Which classes share an island; empty where that is not known."""
    if profile.labels is None or len(row.members) != len(profile.labels):
        return ""
    classes, coded = np.unique(profile.labels, return_inverse=True)
    if len(classes) < 2:
        return ""
    islands, members = np.unique(row.members, return_inverse=True)
    shares = np.zeros((len(islands), len(classes)))
    np.add.at(shares, (members, coded), 1)
    sizes = shares.sum(axis=1)
    order = np.argsort(-sizes, kind="stable").tolist()
    mixed = [i for i in order if shares[i].max() < MOSTLY * sizes[i]]
    pure = len(order) - len(mixed)
    if not mixed:
        return "each holds mostly one class"
    at = mixed[0]
    by_share = np.argsort(-shares[at], kind="stable")
    named = [c for c in by_share if shares[at, c] >= NAMED * sizes[at]] or list(by_share[:1])
    names = listed([class_name(profile, int(classes[c])) for c in named])
    which = {1: "one mixes"}.get(
        len(mixed), "the largest mixes" if not pure else "the largest other mixes"
    )
    if len(named) == 1:
        names = f"{names} with many others"
    if not pure:
        return f"none holds mostly one class, {which} {names}"
    hold = "one holds mostly one class" if pure == 1 else f"{pure} hold mostly one class each"
    return f"{hold}, {which} {names}"


def _betti_sentence(profile: TopologyProfile) -> str:
    """What became of the Betti numbers in the layer that is spoken of."""
    rows = [row for row in profile.rows if row.filter is None]
    keys = list(dict.fromkeys((row.layer, row.call) for row in rows))
    layer, which = _spoken_of(profile, keys)
    at_layer = [row for row in rows if (row.layer, row.call) == layer]
    now, first = at_layer[-1].epoch, at_layer[0].epoch
    clouds = [row for row in at_layer if row.epoch == now]
    if now != first:
        before, then, when = (
            [row for row in at_layer if row.epoch == first],
            _epoch(first),
            f"{_epoch(now)} ",
        )
    else:
        before = [row for row in rows if (row.layer, row.call) == keys[0] and row.epoch == now] or clouds
        then, when = _place(before[0]), ""
    n = len(clouds)
    what = "all samples" if clouds[0].label is None else "the one class" if n == 1 else f"the {n} classes"
    aim = f"({n} = one piece{' each' * (n > 1)}, without loops)"
    total, earlier = _complexity(clouds), _complexity(before)
    if before == clouds:
        return f"Pieces and loops of {what} {_place(clouds[0])}: {total} {aim}."
    verb = "stayed at" if total == earlier else "fell from" if total < earlier else "rose from"
    way = f"{earlier}, {then} as" if total == earlier else f"{earlier} {then} to {total}"
    return f"Pieces and loops of {what} {verb} {way} {when}{_place(clouds[0])}{which} {aim}."


def _complexity(rows: Sequence[ProfileRow]) -> int:
    return sum(row.b0 + row.b1 + (row.b2 or 0) for row in rows)


def _islands(n: int) -> str:
    return "one island" if n == 1 else f"{n} islands"


def _because(note: str) -> str:
    return f" ({note})" if note else ""


def _number(value: float, interval: Interval) -> str:
    return f"{value:.2f}{_ends(interval)}"


def _ends(interval: Interval) -> str:
    return "" if interval is None else f" [{interval[0]:.2f}, {interval[1]:.2f}]"


def _whole_ends(interval: Interval) -> str:
    return (
        ""
        if interval is None or interval[0] == interval[1]
        else f" [{interval[0]:.0f}, {interval[1]:.0f}]"
    )


def _range(values: Sequence[float]) -> str:
    ends = (min(values), max(values))
    return " to ".join(dict.fromkeys(str(v) if isinstance(v, int) else f"{v:.2f}" for v in ends))


def _hull(intervals: Sequence[Interval]) -> Interval:
    """The span of all; None where one is missing."""
    known = [interval for interval in intervals if interval is not None]
    if not known or len(known) < len(intervals):
        return None
    return min(low for low, _ in known), max(high for _, high in known)
