"""Many nets of one architecture trained at once, each with its own seed, learning rate and weights.

Every net takes the steps that it would take alone (see `unknot.study.stack`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from unknot.core.console import ShowProgress, share_bar
from unknot.core.errors import InputError, require_count, require_items, require_positive
from unknot.nets.accuracy import model_scores, require_classifier
from unknot.nets.data import LabelledData, labelled_data
from unknot.nets.running import require_module
from unknot.study.stack import CLASSES, NetAlone, NetsTogether, fill_models, goal_of
from unknot.study.trials import Curve


@dataclass
class Progress:
    """What a stack's nets have come to so far, for those who decide or look on.

    Attributes:
        step: of the optimiser, the same for all.
        epoch: the same in epochs.
        epochs, train_accuracy, test_accuracy: one list a net, as in `Curve`.
        running: numbers of the nets that still train.
        parameters: ``[nets, p]`` of all nets; those that ended hold their last ones.
    """

    step: int
    epoch: float
    epochs: list[list[float]]
    train_accuracy: list[list[float]]
    test_accuracy: list[list[float]]
    running: list[int]
    parameters: Tensor = field(repr=False)


def checkpoints(steps_an_epoch: int, epochs: int, *, resolution: float = 0.05) -> tuple[int, ...]:
    """The steps after which accuracy is read.

    From an eighth of an epoch on, each at most ``resolution`` (a share) later than the one before, but
    no closer than an eighth of an epoch; the last is the end of the last epoch. So a time to a target
    is known to 5 % or to an eighth of an epoch, and reading costs less than training.
    """
    require_count("epochs", epochs)
    least = max(1, round(require_count("steps_an_epoch", steps_an_epoch) / 8))
    last, step, steps = steps_an_epoch * epochs, 0, []
    while step < last:
        step = min(last, max(step + least, math.floor(step * (1 + resolution))))
        steps.append(step)
    return tuple(steps)


def train_stack(
    models: Sequence[nn.Module],
    data: LabelledData,
    *,
    learning_rates: Sequence[float],
    seeds: Sequence[int],
    epochs: int,
    batch_size: int = 128,
    read_at: Callable[[int, int], Sequence[int]] = checkpoints,
    exact_from: float = 0.0,
    is_done: Callable[[float, float], bool] = lambda train, test: False,
    give_up: Callable[[Progress], Sequence[int]] = lambda so_far: (),
    on_checkpoint: Callable[[Progress], None] = lambda so_far: None,
    progress: ShowProgress = "auto",
) -> tuple[Curve, ...]:
    """Train nets with Adam, all at once, as each would be alone: on cross entropy, or squared errors.

    Args:
        models: of one architecture without buffers, already initialised; left with the weights that
            they ended with, in eval mode.
        data: float inputs, labels, and a test split. Labels that are floats are numbers to come close
            to (best standardised): the score is then R^2 wherever accuracy is said.
        learning_rates: of Adam, one a model.
        seeds: of the order of the samples, one a model.
        epochs: the cap.
        batch_size: samples a step; a last batch of one sample is left out where there are others.
        read_at: (steps an epoch, epochs) -> the steps after which accuracies are read, rising to the
            last step of the last epoch.
        exact_from: accuracies below it need not be of all samples: reading them all, every eighth of an
            epoch, is half of the work of a stack.
        is_done: (train accuracy, test accuracy or NaN) -> whether a net needs no more training.
        give_up: at each checkpoint, the numbers of running nets whose further training no longer
            matters; such a net ends as "given up".
        on_checkpoint: called at each checkpoint, before nets leave, with what they have come to.
        progress: a bar on stderr where that is a terminal: True, or "auto" from two seconds on.

    Returns:
        one curve a model, in order.

    Raises:
        InputError: architectures that differ, buffers, no samples, or not a rate and a seed a model.
    """
    data = _as_given(data)
    models = require_items("models", models, "modules of one architecture", "pass a list")
    learning_rates = require_items("learning_rates", learning_rates, "one a model", "pass a list")
    seeds = require_items("seeds", seeds, "one a model", "pass a list")
    _require_settings(learning_rates, seeds, epochs, batch_size)
    if not len(models) == len(learning_rates) == len(seeds):
        raise InputError(
            f"{len(models)} models, {len(learning_rates)} learning rates and {len(seeds)} seeds",
            "one of each a model",
            "pass as many",
        )
    for model in models:
        require_module(model)
    together = NetsTogether(models, data, learning_rates, seeds, batch_size)
    stack, batches = together.stack, together.batches
    readers = _readers(data, exact_from)
    _require_fit(models[0], data)
    nets = range(len(models))
    so_far = Progress(
        0, 0.0, [[] for _ in nets], [[] for _ in nets], [[] for _ in nets], list(nets),
        stack.parameters.clone(),
    )  # fmt: skip
    ended = ["cap" for _ in nets]
    moments = read_at(batches, epochs)
    for step in _trained_to(moments, together.step, progress):
        so_far.step, so_far.epoch = step, step / batches
        finite = stack.finite()
        # The last accuracy of a net counts where cells are compared that never arrived.
        ends = {place for place, fine in enumerate(finite) if not fine or step == moments[-1]}
        _read(so_far, together, readers, ends)
        on_checkpoint(so_far)
        dropped = set(give_up(so_far))
        staying = []
        for place, net in enumerate(so_far.running):
            if not finite[place]:
                ended[net] = "diverged"
            elif is_done(so_far.train_accuracy[net][-1], _last(so_far.test_accuracy[net])):
                ended[net] = "done"
            elif net in dropped:
                ended[net] = "given up"
            else:
                staying.append(place)
        if len(staying) < len(so_far.running):
            together.keep(staying)
            so_far.running = [so_far.running[place] for place in staying]
        if not staying:
            break
    fill_models(models, so_far.parameters)
    rows = zip(so_far.epochs, so_far.train_accuracy, so_far.test_accuracy, ended, strict=True)
    return tuple(Curve(tuple(e), tuple(a), tuple(t), end) for e, a, t, end in rows)


def train_alone(
    model: nn.Module,
    data: LabelledData,
    *,
    learning_rate: float,
    seed: int,
    epochs: int,
    batch_size: int = 128,
    exact_from: float = 0.0,
    is_done: Callable[[float, float], bool] = lambda train, test: False,
    on_checkpoint: Callable[[float], None] = lambda epoch: None,
    progress: ShowProgress = "auto",
) -> Curve:
    """What `train_stack` does, for one net of any kind, e.g. with batch normalisation.

    Args:
        model: already initialised; left with the weights that it ended with, in eval mode.
        data, epochs, batch_size, exact_from, is_done, progress: as of `train_stack`.
        learning_rate: of Adam.
        seed: of the order of the samples.
        on_checkpoint: called at each checkpoint with the epochs so far.

    Raises:
        InputError: no samples, bad numbers, or no model that can be trained.
    """
    data = _as_given(data)
    _require_settings([learning_rate], [seed], epochs, batch_size)
    alone = NetAlone(model, data, learning_rate, seed, batch_size)
    batches = alone.batches
    _require_fit(model, data)
    readers = _readers(data, exact_from)
    times: list[float] = []
    accuracies: tuple[list[float], list[float]] = ([], [])
    ended = "cap"
    moments = checkpoints(batches, epochs)
    for step in _trained_to(moments, alone.step, progress):
        times.append(round(step / batches, 6))
        (finite,) = alone.finite()
        for reader, curve in zip(readers, accuracies, strict=False):
            whole = [0] if step == moments[-1] or not finite else []
            curve.extend(reader.read(alone.sum_errors, 1, whole=whole))
        if not finite:
            ended = "diverged"
            break
        on_checkpoint(times[-1])
        if is_done(accuracies[0][-1], _last(accuracies[1])):
            ended = "done"
            break
    model.eval()
    return Curve(tuple(times), tuple(accuracies[0]), tuple(accuracies[1]), ended)


def _trained_to(moments: Sequence[int], step: Callable[[], None], show: ShowProgress) -> Iterator[int]:
    """Each of the ``moments``, in steps, once so many have been taken; with a bar meanwhile."""
    trained = 0
    with share_bar("training", show=show) as done:
        for moment in moments:
            for _ in range(moment - trained):
                step()
                done(1 / moments[-1])
            trained = moment
            yield moment


def _as_given(data: LabelledData) -> LabelledData:
    floats = isinstance(data, LabelledData) and getattr(data.labels, "is_floating_point", bool)()
    return labelled_data(data, task="regression" if floats else "classes")


def _require_settings(
    learning_rates: Sequence[float], seeds: Sequence[int], epochs: int, batch_size: int
) -> None:
    for rate in learning_rates:
        require_positive("learning rate", rate, 1e-3)
    for seed in seeds:
        require_count("seed", seed, minimum=0)
    require_count("epochs", epochs)
    require_count("batch_size", batch_size)


def _last(accuracies: list[float]) -> float:
    return accuracies[-1] if accuracies else math.nan


def _readers(data: LabelledData, exact_from: float) -> list[Reader]:
    """Of the training samples, and of the test samples if there are any."""
    readers = [Reader(data.inputs, data.labels, exact_from)]
    if len(data.test_inputs):
        readers.append(Reader(data.test_inputs, data.test_labels, exact_from))
    return readers


def _read(so_far: Progress, nets: NetsTogether, readers: list[Reader], whole: set[int]) -> None:
    so_far.parameters[so_far.running] = nets.stack.parameters
    for net in so_far.running:
        so_far.epochs[net].append(round(so_far.epoch, 6))
    for reader, curves in zip(readers, (so_far.train_accuracy, so_far.test_accuracy), strict=False):
        scores = reader.read(nets.sum_errors, len(so_far.running), whole=whole)
        for net, score in zip(so_far.running, scores, strict=True):
            curves[net].append(score)


def _require_fit(model: nn.Module, data: LabelledData) -> None:
    """Refuse, before any training, a net whose outputs do not fit the labels."""
    if goal_of(data.labels) is CLASSES:
        require_classifier(model, data.inputs, torch.cat([data.labels, data.test_labels]))
        return
    for part in (data.labels, data.test_labels):
        if len(part) and not goal_of(part).worst(part) > 0:
            raise InputError("targets that are all alike", "numbers that differ", "check the data")
    model.eval()
    with torch.no_grad():
        outputs = model_scores(model, data.inputs[:2])
    if outputs.shape[1] != 1:
        raise InputError(
            f"a net of {outputs.shape[1]} outputs and targets that are numbers",
            "one output",
            "end it with a linear layer of one unit",
        )


# Samples after which it is asked whether more are needed.
BLOCK = 256
# (inputs, targets, numbers of nets) -> the sum of the errors that each of these nets makes.
SumErrors = Callable[[Tensor, Tensor, list[int]], list[float]]


class Reader:
    """Reads scores on one set of samples: accuracies, or R^2 where the targets are floats.

    Args:
        inputs, labels: ``[n, ...]``, and int64 or floating ``[n]``.
        exact_from: scores from this on are of all samples. A lower one is of the first samples, in
            one random order for all nets and times, by which it is certain to be lower; of 256 at least,
            where there are so many. So whether and when a target from here on is reached is known
            exactly, for a tenth of the work. 0 reads all.
    """

    def __init__(self, inputs: Tensor, labels: Tensor, exact_from: float = 0.0) -> None:
        self._inputs, self._labels, self._exact_from = inputs, labels, exact_from
        self._worst = goal_of(labels).worst(labels) if len(labels) else math.nan
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
        self._blocks = torch.split(order.to(inputs.device), BLOCK)

    def read(self, sum_errors: SumErrors, nets: int, *, whole: Collection[int] = ()) -> list[float]:
        """One score a net, NaN without samples; of the nets ``whole`` of all samples in any case."""
        n, reading = len(self._labels), list(range(nets))
        if n == 0:
            return [math.nan] * nets
        if len(whole) == nets or self._exact_from <= 0:
            return [self._score(e, n) for e in sum_errors(self._inputs, self._labels, reading)]
        errors, read, seen = [0.0] * nets, [0] * nets, 0
        for block in self._blocks:
            seen += len(block)
            sums = sum_errors(self._inputs[block], self._labels[block], reading)
            for net, more in zip(reading, sums, strict=True):
                errors[net] += more
                read[net] = seen
            reading = [
                net for net in reading if net in whole or self._score(errors[net], n) >= self._exact_from
            ]
            if not reading:
                break
        return [self._score(a, b) for a, b in zip(errors, read, strict=True)]

    def _score(self, errors: float, n: int) -> float:
        """Of the first ``n`` samples; -inf where the outputs are no numbers."""
        worst = self._worst * n / len(self._labels)
        score = (worst - errors) / worst
        return -math.inf if math.isnan(score) else score
