"""polish: a pruned model trained for some steps to return what the original returns; no labels.

The original's outputs on samples and views of them are computed once. They say more of each sample than
its label does, so that a few hundred samples are enough and are not learned by heart.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from unknot.core.console import ShowProgress, track
from unknot.core.errors import InputError, require_count, require_positive
from unknot.core.memory import memory_limit
from unknot.core.showing import drawing
from unknot.core.showing.frames import Tabular, columns_of
from unknot.nets.probe import Inputs, map_tensors, probe_samples, tensors_of
from unknot.nets.running import as_it_was, call_model, n_samples, placed, unwrapped
from unknot.pruning.refitting.distilling.descent import Muon
from unknot.pruning.refitting.distilling.distillation import (
    compare_outputs,
    learning,
    one_cycle,
    samples_at_once,
)
from unknot.pruning.refitting.distilling.views import Flips, Views, choose_views

Measure: TypeAlias = Literal["KL", "relative error"]
HELD_OUT = 5  # every fifth sample is for measuring errors only
FEWEST = 10  # samples
EVERY = 10  # steps, a check on the samples held out
# Where the relative error there is so many times what it was at first, the rate is too high:
TOO_FAR = 3.0
SLOWER = 4.0  # it goes on from the best weights, so many times slower


@dataclass(frozen=True)
class PolishCheck:
    """The error on the samples held out after so many steps.

    Attributes:
        step: 0 is before the first.
        error: see `PolishReport.measure`.
    """

    step: int
    error: float


@dataclass(frozen=True, repr=False)
class PolishReport(Tabular):
    """What polishing changed.

    Attributes:
        rows: one a check.
        before, after: the error on the samples held out; equal where all was taken back.
        measure: what the error is: "KL", of the original's classes against the pruned model's, in nats;
            or "relative error", the mean square of the difference over the variance of the original's
            outputs, for what is no class scores.
        step: the one whose weights the model has now; 0: those from before.
        seconds: it took.
        n_points: samples used, of which every fifth is held out.
        views: of each other sample, itself among them.
        pixels: by which images were shifted at most.
        flips: whether half of the views are mirrored.
        notes: what was not done, and why.
    """

    rows: tuple[PolishCheck, ...]
    before: float
    after: float
    measure: Measure
    step: int
    seconds: float
    n_points: int
    views: int = 1
    pixels: int = 0
    flips: bool = False
    notes: tuple[str, ...] = ()

    def _columns(self) -> dict[str, list[Any]]:
        return columns_of(self.rows)

    def _title(self) -> str:
        notes = "".join(f"\n{note}" for note in self.notes)
        return (
            f"PolishReport on {self.n_points:,} samples, {self.seconds:.1f} s: {self.measure} from "
            f"{self.before:.3g} to {self.after:.3g}, the weights of step {self.step}{notes}"
        )

    def plot(self, ax: Any = None) -> Any:
        """Draw the error on the samples held out over the steps.

        Args:
            ax: matplotlib axes; None makes new ones.

        Returns:
            The axes.

        Raises:
            InputError: nothing was polished, matplotlib is not installed.
        """
        drawing.require_rows(self.rows, "a polish")
        (axes,) = drawing.axes_for(ax, 4.8, 2.8)
        axes.plot(
            [row.step for row in self.rows],
            [row.error for row in self.rows],
            color=drawing.SOFT,
            marker="o",
            markersize=3,
        )
        axes.scatter([self.step], [self.after], color=drawing.KEPT, zorder=3, label="taken")
        axes.set(xlabel="step", ylabel=f"{self.measure} on samples held out", ylim=(0, None))
        axes.legend(frameon=False, fontsize=drawing.SMALL)
        drawing.whole_ticks(axes, "x")
        drawing.plain(axes)
        return axes


@dataclass(frozen=True)
class _Options:
    steps: int
    views: int
    batch_size: int
    learning_rate: float
    seed: int
    progress: ShowProgress


def polish(
    model: nn.Module,
    slim: nn.Module,
    data: Iterable[Any] | Tensor,
    *,
    steps: int = 100,
    max_points: int = 512,
    views: int = 8,
    pixels: int = 2,
    flips: Flips = "auto",
    batch_size: int = 64,
    learning_rate: float = 5e-3,
    seed: int = 0,
    progress: ShowProgress = "auto",
) -> PolishReport:
    """Train ``slim`` in place to return what ``model`` returns, for a few steps and without labels.

    Its outputs' mean square error over the variance of the original's is lowered by Muon, and by Adam
    for what is no matrix; the rate rises and then falls to nothing. Batch normalisation keeps its
    statistics, dropout is off. All floating-point parameters learn, frozen ones too, as they are
    refitted too; those of half precision in float32.

    Every fifth sample is held out. The weights of the check with the least error there are taken, those
    from before among them, so that the model is never farther from the original on these samples than
    it was. Where the error there trebles, training goes on from the best weights at a quarter of the
    rate.
    Where a model cannot be trained, it is left as it was and a note says why.

    Args:
        model: the original; not changed.
        slim: what `prune` made of it, best refitted; see `refit`.
        data: samples, see `probe_samples`; labels are not used.
        steps: of training.
        max_points: samples used, at most.
        views: of each sample that is trained on, itself among them. Only images have views:
            floating-point inputs ``[n, c, h, w]`` of at least 16 pixels a side.
        pixels: by which views are shifted at most; 0: not. Images are not shifted either where that
            changes the original's outputs by more than half of their variance.
        flips: whether half of the views are mirrored, left to right; "auto": where that changes the
            original's outputs at most twice as much as a shift does.
        batch_size: samples a step, fewer where memory is short.
        learning_rate: at its highest; Adam's steps of this rate are as large.
        seed: of the choice of samples, the views and the order; the same on the same machine gives the
            same weights.
        progress: bars on stderr where that is a terminal: True, or "auto" from two seconds on.

    Raises:
        InputError: no samples, samples with NaN, bad numbers, models that do not belong together.
    """
    model, slim = unwrapped(model), unwrapped(slim)
    options = _Options(
        require_count("steps", steps),
        require_count("views", views),
        require_count("batch_size", batch_size),
        require_positive("learning_rate", learning_rate, 5e-3),
        require_count("seed", seed, minimum=0),
        progress,
    )
    require_count("pixels", pixels, minimum=0)
    if not (isinstance(flips, bool) or flips == "auto"):
        raise InputError(f"flips = {flips!r}", "True, False or 'auto'", "pick one")
    if {id(p) for p in model.parameters()} & {id(p) for p in slim.parameters()}:
        raise InputError("two models that share weights", "two of their own", "pass what prune gave")
    probe = probe_samples(data, max_points=max_points, seed=seed)
    inputs = probe.inputs
    if any(t.is_floating_point() and not bool(t.isfinite().all()) for t in tensors_of(inputs)):
        raise InputError("samples with NaN or infinity", "finite samples", "clean the data")
    with as_it_was(model), as_it_was(slim):
        torch.manual_seed(seed)  # of models that draw numbers
        return _Polishing(model, slim, inputs, options).run(pixels, flips)


class _Polishing:
    """The original's outputs on the samples and their views, and the way there."""

    def __init__(self, model: nn.Module, slim: nn.Module, inputs: Inputs, options: _Options) -> None:
        self.model, self.slim, self.options = model, slim, options
        self.begun = time.perf_counter()
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        self.inputs = map_tensors(inputs, lambda t: t.to(device))
        self.at_once = samples_at_once(model, self.inputs)
        self.compared, wanted = compare_outputs(model, self.inputs, self.at_once, options.seed)
        held = torch.arange(len(wanted), device=device) % HELD_OUT == 0
        self.held, self.held_wanted = map_tensors(self.inputs, lambda t: t[held]), wanted[held]
        self.fit = map_tensors(self.inputs, lambda t: t[~held])
        self.rate = options.learning_rate
        self.generator = torch.Generator().manual_seed(options.seed)
        self.notes: tuple[str, ...] = ()
        self.checks: list[PolishCheck] = []
        self.before = self.errors()
        self.shown = 1  # views of each sample

    def run(self, pixels: int, flips: Flips) -> PolishReport:
        self.checks.append(PolishCheck(0, self.before[0]))
        start = [p.detach().clone() for p in self.slim.parameters()]
        views, step = Views(), 0
        if n_samples(self.inputs) < FEWEST:
            self.note(f"left as it was: {n_samples(self.inputs)} samples are fewer than {FEWEST}")
        elif not bool(self.compared.weights.any()):
            self.note("left as it was: what the original returns does not vary with the sample")
        elif not math.isfinite(self.before[1]):
            self.note("left as it was: it returns NaN or infinity")
        elif not self.before[1]:
            self.note("left as it was: on the samples held out it returns what the original returns")
        else:
            views = self.choose(pixels, flips)
            step = self.descend(views)
        after = self.errors()  # in the model's own precision; and what it keeps of a run holds no graph
        if not self.better(after, self.before):
            step, after = 0, self.before
            _copy(start, self.slim.parameters())
        measure: Measure = "KL" if self.compared.scores else "relative error"
        return PolishReport(
            tuple(self.checks), self.before[0], after[0], measure, step,
            time.perf_counter() - self.begun, n_samples(self.inputs), self.shown, views.pixels,
            views.flips, self.notes,
        )  # fmt: skip

    def note(self, text: str) -> None:
        self.notes += (text,)

    def errors(self) -> tuple[float, float]:
        """On the samples held out: what is judged by, and the relative error."""
        outputs = self.compared.outputs(self.slim, self.held, self.at_once)
        error = float(self.compared.error(outputs, self.held_wanted))
        scores = self.compared.scores
        return self.compared.divergence(outputs, self.held_wanted) if scores else error, error

    def better(self, errors: tuple[float, float], than: tuple[float, float]) -> bool:
        """Also by the relative error not worse than at first: the scores may be none."""
        return errors[0] < than[0] and errors[1] <= self.before[1]

    def choose(self, pixels: int, flips: Flips) -> Views:
        outputs = partial(self.compared.outputs, self.model, at_once=self.at_once)

        def change(one: Inputs, other: Inputs) -> float:
            return float(self.compared.error(outputs(one), outputs(other)))

        views, note = choose_views(self.fit, pixels, flips, change, self.options.seed)
        if note:
            self.note(note)
        if views.any:
            a_view = n_samples(self.fit) * 4 * len(self.compared.weights)
            self.shown = int(max(1, min(self.options.views, memory_limit() // 8 // a_view)))
        return views

    def descend(self, views: Views) -> int:
        """Train; the step whose weights are taken."""
        n = n_samples(self.fit)
        moves = views.draw(n * self.shown, self.generator, plain=n)

        def samples(rows: Tensor) -> Inputs:
            return views.of(map_tensors(self.fit, lambda t: t[(rows % n).to(t.device)]), moves[rows])

        wanted = torch.cat([
            self.compared.outputs(self.model, samples(rows), self.at_once)
            for rows in torch.split(torch.arange(n * self.shown), self.at_once)
        ])  # fmt: skip
        step, best = 0, self.before
        with learning(self.slim) as parameters:
            weights = [p.detach().clone() for p in parameters]
            optimizer = Muon(self.slim, parameters, self.rate)
            try:
                for at in self.steps(optimizer, samples, wanted):
                    errors = self.errors()
                    self.checks.append(PolishCheck(at, errors[0]))
                    if self.better(errors, best):
                        step, best = at, errors
                        weights = [p.detach().clone() for p in parameters]
                    elif not errors[1] <= TOO_FAR * self.before[1]:  # NaN among them
                        self.rate /= SLOWER
                        optimizer.state.clear()
                        _copy(weights, parameters)
            except (InputError, RuntimeError) as error:  # of the user's code, or of torch about it
                self.note(f"cannot be trained: {(str(error).splitlines() or [''])[0]}")
            finally:
                _copy(weights, parameters)
        if self.rate < self.options.learning_rate:
            self.note(f"the learning rate was lowered to {self.rate:.2g}, where it led away")
        return step

    def steps(
        self, optimizer: torch.optim.Optimizer, samples: Callable[[Tensor], Inputs], wanted: Tensor
    ) -> Iterator[int]:
        """Train, and stop at each check."""
        steps, batch = self.options.steps, min(self.options.batch_size, self.at_once)
        if batch < self.options.batch_size:
            self.note(f"steps of {batch} samples, for want of memory")
        rows, share = self.batches(len(wanted), batch), one_cycle(steps)
        for step in track(range(1, steps + 1), "polishing", show=self.options.progress):
            some = next(rows)
            inputs = placed(samples(some), self.slim)
            outputs = self.compared.read(call_model(self.slim, inputs), len(some))
            loss = self.compared.error(outputs, wanted[some.to(wanted.device)])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            for group in optimizer.param_groups:
                group["lr"] = self.rate * share(step - 1)
            optimizer.step()
            if step % EVERY == 0 or step == steps:
                yield step

    def batches(self, n: int, size: int) -> Iterator[Tensor]:
        """Rows of samples, all of them in a new order again and again."""
        while True:
            yield from torch.split(torch.randperm(n, generator=self.generator), size)


def _copy(values: list[Tensor], parameters: Iterable[Tensor]) -> None:
    with torch.no_grad():
        for parameter, value in zip(parameters, values, strict=True):
            parameter.copy_(value)
