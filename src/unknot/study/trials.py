"""Trials in an SQLite file: one transaction a trial, none lost and none twice."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from unknot.core.errors import InputError, require_choice, require_number
from unknot.core.files import (
    DAMAGED,
    as_path,
    claimed,
    require_file,
    require_suffix,
    require_writable,
    typed,
)
from unknot.core.showing import drawing
from unknot.core.showing.frames import Rows, Tabular
from unknot.nets.training import epochs_to

CLASSES, REGRESSION = "classes", "regression"
# Seeds from here on choose cells and are never reported.
SELECTION_SEED = 1_000_000
# Of the table below; SQLite keeps it in the file's header as user_version.
SCHEMA = 2
SUFFIXES = (".sqlite", ".sqlite3", ".db")  # of a new file
# "UNKT", in the same header: tells a study from another program's database.
APPLICATION = 0x554E4B54

_TABLE = """
CREATE TABLE IF NOT EXISTS {name} (
    data TEXT NOT NULL, activation TEXT NOT NULL, learning_rate REAL NOT NULL, gain REAL NOT NULL,
    seed INTEGER NOT NULL, settings TEXT NOT NULL, curve TEXT NOT NULL{more},
    PRIMARY KEY (data, activation, learning_rate, gain, seed, settings)
) WITHOUT ROWID
"""


@dataclass(frozen=True)
class StoredTrial:
    """One net, trained once: what every kind of trial has. Each kind has a table of its own.

    Attributes:
        data, activation: names.
        learning_rate, gain: the cell.
        seed: of weights and order; `SELECTION_SEED` and above choose cells.
    """

    TABLE: ClassVar[str]
    MORE: ClassVar[str] = ""  # columns besides those of all

    data: str
    activation: str
    learning_rate: float
    gain: float
    seed: int

    @property
    def cell(self) -> tuple[float, float]:
        """Learning rate and gain."""
        return self.learning_rate, self.gain

    @property
    def reported(self) -> bool:
        """Whether it counts in tables; the others chose the cell."""
        return self.seed < SELECTION_SEED

    def written(self) -> tuple[Any, ...]:
        """Its row in the table."""
        record = vars(self)
        plain = [record[field.name] for field in fields(StoredTrial)]
        return *plain, record["settings"].key(), json.dumps(asdict(record["curve"]))

    @classmethod
    def read(cls: type[Stored], row: Mapping[str, Any]) -> Stored:
        """From its row."""
        return typed(cls, {**row, **{name: json.loads(row[name]) for name in ("settings", "curve")}})


Stored = TypeVar("Stored", bound=StoredTrial)


@dataclass(frozen=True)
class TrialSettings:
    """What all trials of one run share; trials of other settings are never mixed with them.

    Attributes:
        net: "mlp 6 x 50", or the name of the factory.
        epochs: the cap.
        batch_size: of the training.
        train_target, test_target: a trial ends when it has both; None: the test accuracy does not count.
        grid: the learning rates and gains among which a cell was chosen.
        selection_seeds: on which it was.
        data: a digest of the samples.
        task: "classes", or "regression": scores are then R^2.
    """

    net: str
    epochs: int
    batch_size: int
    train_target: float
    test_target: float | None
    grid: str
    selection_seeds: int
    data: str
    task: str = CLASSES

    def key(self) -> str:
        """All of them as one JSON text, under which the file keeps them."""
        record = asdict(self)
        if self.task == CLASSES:  # as texts had it before there were others
            del record["task"]
        return json.dumps(record, sort_keys=True)

    @property
    def metric(self) -> str:
        """What the scores are."""
        return "accuracy" if self.task == CLASSES else "R^2"


@dataclass(frozen=True)
class TopologyRow:
    """Betti numbers of one class cloud after one layer, at one moment of a trial.

    Attributes:
        epoch: of the training, in fractions; 0 before it.
        layer, label, n_points, b0, b1: as in `ProfileRow`.
    """

    epoch: float
    layer: str
    label: int | None
    n_points: int
    b0: int
    b1: int


@dataclass(frozen=True)
class Trial(StoredTrial):
    """One net, trained once to see when it reaches a target.

    Attributes:
        data, activation: names.
        learning_rate, gain: the cell.
        seed: of weights and order; `SELECTION_SEED` and above choose cells.
        settings: see `TrialSettings`.
        curve: accuracies along the training. Of trials that choose cells there are none on test samples,
            and those below 99 % may be of some of the training samples.
        topology: Betti numbers along the training, where they were asked for.
    """

    TABLE: ClassVar[str] = "trials"
    MORE: ClassVar[str] = ", topology TEXT"

    settings: TrialSettings
    curve: Curve
    topology: tuple[TopologyRow, ...] = ()

    def written(self) -> tuple[Any, ...]:
        """Its row in the table, the Betti numbers last."""
        return *super().written(), json.dumps([list(asdict(row).values()) for row in self.topology])

    @classmethod
    def read(cls, row: Mapping[str, Any]) -> Trial:
        """From its row."""
        names = [field.name for field in fields(TopologyRow)]
        rows = json.loads(row["topology"])
        topology = [dict(zip(names, values, strict=True)) for values in rows]
        return super().read({**row, "topology": topology})


class Trials(Rows[Trial]):
    """Everything that a study ran: a tuple of `Trial` that is a table too."""

    def _columns(self) -> dict[str, list[Any]]:
        plain = ("activation", "learning_rate", "gain", "seed", "reported")
        columns = {"set": [trial.data for trial in self]}
        columns |= {name: [getattr(trial, name) for trial in self] for name in plain}
        curves, last = [trial.curve for trial in self], ("epochs", "train_accuracy", "test_accuracy")
        return {
            **columns,
            "net": [trial.settings.net for trial in self],
            "ended": [curve.ended for curve in curves],
            **{name: [(getattr(c, name) or (None,))[-1] for c in curves] for name in last},
        }

    def to_frame(self) -> Any:
        """A pandas DataFrame of one row a trial: its cell, seed and net, how and when it ended.

        Accuracies are the last ones of the curve, ``epochs`` when they were read; ``reported`` is False
        of trials that chose a cell.

        Raises:
            InputError: pandas is not installed.
        """
        return super().to_frame()


class TrialFile:
    """The file; made by the first `add`.

    Raises:
        InputError: the file is another program's, or of another version of the table; a new one whose
            name ends in none of `SUFFIXES`.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = as_path(path, "path")
        if self.path.exists():
            require_file(self.path)
            self._check()
        else:
            require_suffix(self.path, "path", SUFFIXES)
            require_writable(self.path, "study")

    def add(self, trials: Sequence[StoredTrial]) -> None:
        """Commit trials one by one; one that is there already stays as it is."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._open() as database:
            with database:
                # Together: a table without the marks would pass for another program's.
                database.execute("BEGIN IMMEDIATE")
                for kind in {type(trial) for trial in trials}:
                    database.execute(_TABLE.format(name=kind.TABLE, more=kind.MORE))
                database.execute(f"PRAGMA application_id = {APPLICATION}")
                database.execute(f"PRAGMA user_version = {SCHEMA}")
            database.execute("PRAGMA journal_mode = WAL")
            for trial in trials:
                row = trial.written()
                places = ", ".join("?" * len(row))
                with database:
                    database.execute(f"INSERT OR IGNORE INTO {trial.TABLE} VALUES ({places})", row)

    def read(self) -> list[Trial]:
        """All trials of epochs to a target; see `read_kind`."""
        return self.read_kind(Trial)

    def read_kind(self, kind: type[Stored]) -> list[Stored]:
        """All trials of one kind, sorted; none where there is no file.

        Raises:
            InputError: the file is damaged.
        """
        if not self.path.exists():
            return []
        with self._open() as database:
            named = "SELECT 1 FROM sqlite_master WHERE name = ?"
            if not database.execute(named, (kind.TABLE,)).fetchone():
                return []  # a run was killed as it made the file, or it was of another kind
            database.row_factory = sqlite3.Row
            order = "data, activation, learning_rate, gain, settings, seed"
            rows = database.execute(f"SELECT * FROM {kind.TABLE} ORDER BY {order}").fetchall()
        try:
            return [kind.read(dict(row)) for row in rows]
        except DAMAGED as error:
            raise InputError(
                f"file {self.path} ({type(error).__name__}: {str(error)[:60]})",
                "trials as unknot wrote them",
                "run the study again into a new file",
            ) from None

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Keep other processes from running trials into this file, as `claimed`; reading stays free."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with claimed(self.path):
            yield

    def _check(self) -> None:
        with self.path.open("rb") as file:
            header = file.read(100)
        if not header:
            return  # a run was killed as it made the file
        # SQLite opens none but ours: of another program's it would carry out or leave a log.
        if header[:16] != b"SQLite format 3\0" or header[68:72] != APPLICATION.to_bytes(4, "big"):
            raise InputError(f"file {self.path}", "a study or a new file", "choose another path")
        with self._open("rw") as database:
            version = database.execute("PRAGMA user_version").fetchone()[0]
            tables = database.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]
        if not tables:
            return  # killed a moment later, and taken back by SQLite
        if version != SCHEMA:
            raise InputError(
                f"file {self.path}, a study of table version {version}",
                f"version {SCHEMA}",
                "run it again into a new file",
            )

    @contextmanager
    def _open(self, mode: str = "rwc") -> Iterator[sqlite3.Connection]:
        address = f"{self.path.absolute().as_uri()}?mode={mode}"
        try:
            with closing(sqlite3.connect(address, timeout=30, uri=True)) as database:
                yield database
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # the latter of a damaged schema
            raise InputError(
                f"file {self.path} ({error})",
                "a study or a new file, on a disk with room",
                "choose another path",
            ) from None


@dataclass(frozen=True, repr=False)
class Curve(Tabular):
    """The accuracies of one net while it trained; of a regression its R^2.

    Attributes:
        epochs: when they were read, in epochs, fractions among them; rising.
        train_accuracy, test_accuracy: shares of the samples classified rightly, in eval mode; the latter
            is empty where there are no test samples. Below ``exact_from`` of the training they may be
            shares of some of the samples (see `Reader`); at the cap, and of a net
            that diverged, they are of all.
        ended: "done": it had what it was trained for; "cap": the epochs were used up; "diverged": a
            parameter was no longer finite; "given up": others of its stack had already decided.
    """

    epochs: tuple[float, ...]
    train_accuracy: tuple[float, ...]
    test_accuracy: tuple[float, ...]
    ended: str

    def _columns(self) -> dict[str, Sequence[float | None]]:
        test = self.test_accuracy or (None,) * len(self.epochs)
        return {"epoch": self.epochs, "train_accuracy": self.train_accuracy, "test_accuracy": test}

    def _title(self) -> str:
        return f"Curve of {len(self.epochs):,} readings, ended: {self.ended}"

    def plot(self, ax: Any = None) -> Any:
        """Draw the accuracies over the epochs.

        Args:
            ax: matplotlib axes; None makes new ones.

        Returns:
            The axes.

        Raises:
            InputError: no readings, matplotlib is not installed.
        """
        drawing.require_rows(self.epochs, "a curve")
        (axes,) = drawing.axes_for(ax, 4.8, 2.8)
        for i, name in enumerate(("train", "test")):
            accuracy = getattr(self, f"{name}_accuracy")
            if accuracy:
                style = {"color": drawing.colour(i), "linestyle": drawing.dash(i)}
                axes.plot(self.epochs, accuracy, label=name, **style)
        axes.set(xlabel="epoch", ylabel="accuracy")
        drawing.percent_axis(axes, "y")
        axes.legend(frameon=False, fontsize=drawing.SMALL)
        drawing.plain(axes)
        return axes

    def epochs_to(self, target: float, split: str = "train") -> float | None:
        """When accuracy was first seen to be at least ``target``; None where it never was.

        Args:
            target: share of samples classified rightly.
            split: "train" or "test": the samples whose accuracy counts.
        """
        require_number("target", target, "a number", low=-math.inf, high=math.inf, example=0.99)
        require_choice("split", split, ("train", "test"))
        accuracies = self.train_accuracy if split == "train" else self.test_accuracy
        return epochs_to(target, accuracies, self.epochs)
