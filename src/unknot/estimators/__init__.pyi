from .classifier import FoldClassifier as FoldClassifier
from .regressor import FoldRegressor as FoldRegressor
from .search import SearchRow as SearchRow
from .search import SearchRows as SearchRows
