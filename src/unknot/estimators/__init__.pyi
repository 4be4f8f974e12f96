from .classifier import FoldClassifier as FoldClassifier
from .grid import SearchRow as SearchRow
from .grid import SearchRows as SearchRows
from .regressor import FoldRegressor as FoldRegressor
