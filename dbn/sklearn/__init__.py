"""Estimators for scikit-learn: features of RBMs and stacks, and networks that start from them.

make_pipeline(RBMTransformer(n_components=100), LogisticRegression())
"""

from typing import TYPE_CHECKING

from dbn.registry import lazy_exports

if TYPE_CHECKING:
    from dbn.sklearn.supervised import DBNClassifier as DBNClassifier
    from dbn.sklearn.supervised import DBNRegressor as DBNRegressor
    from dbn.sklearn.transformers import DBNTransformer as DBNTransformer
    from dbn.sklearn.transformers import RBMTransformer as RBMTransformer

try:
    import sklearn as _  # noqa: F401
except ImportError as error:
    raise ImportError("dbn.sklearn needs scikit-learn: pip install 'torch-dbn[sklearn]'") from error

__getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
