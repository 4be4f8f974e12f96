"""The options that several verbs of the command share."""

# typer reads these annotations at run time, where Python 3.10 to 3.14 must all understand them.
from typing import Annotated, Optional

import typer

Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of everything random.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Model = Annotated[
    str, typer.Option("--model", help="mlp, cnn (both sized for the data), or package.module:factory.")
]
Data = Annotated[
    str,
    typer.Option(
        "--data",
        help="A shape (see unknot shape --help), digits, fashion_mnist, cifar10, cats_vs_dogs (from "
        "$UNKNOT_DATA), a .npz file with X and y, or package.module:factory returning (inputs, labels).",
    ),
]
Activation = Annotated[
    str, typer.Option("--activation", help="Activation of the built-in mlp and cnn, e.g. relu or zfold.")
]
TrainEpochs = Annotated[
    int, typer.Option("--train", min=0, help="Train the model on the data for so many epochs first.")
]
K = Annotated[Optional[int], typer.Option("--knn", min=1, help="Join each point to its K nearest.")]  # noqa: UP045
Hops = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option("--hops", min=1, help="... and pairs at most so many steps apart. Default 1."),
]
Radius = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option("--radius", help="Join pairs at Euclidean distance <= RADIUS."),
]
