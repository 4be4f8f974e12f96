from .classifier import FoldClassifier as FoldClassifier
from .regressor import FoldRegressor as FoldRegressor
from .grid import SearchRow as SearchRow
from .grid import SearchRows as SearchRows
