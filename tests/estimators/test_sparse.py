"""Rows of scipy.sparse in scikit-learn's API have the bits of the same array, and are made dense in pieces.

After https://github.com/scikit-learn/scikit-learn/issues/12505 and others (public case 20): `partial_fit` on
what HashingVectorizer and OneHotEncoder return was a TypeError.
"""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.feature_extraction import FeatureHasher
from sklearn.feature_extraction.text import HashingVectorizer, TfidfVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, OneHotEncoder

from streaming_nn.estimators.sklearn import OnlineClassifier, OnlineRegressor, load
from streaming_nn.nn import learner as loop
from streaming_nn.nn.factory import LEARNERS
from streaming_nn.nn.state_dict import flatten
from streaming_nn.versions.version import state_digest

pytestmark = pytest.mark.commit

RNG = np.random.default_rng(1)
X = np.where(RNG.random((300, 20)) < 0.2, RNG.normal(size=(300, 20)), 0.0)
Y = (X[:, 0] + X[:, 1] > 0).astype(int)
SMALL: dict[str, Any] = {"learner": "mlp", "hidden": (8,), "mini_batch": 8}
FORMATS = [
    *(sparse.csr_matrix, sparse.csc_matrix, sparse.coo_matrix, sparse.lil_matrix, sparse.bsr_matrix),
    *(sparse.csr_array, sparse.csc_array, sparse.coo_array, sparse.dok_array),
]


def digest(estimator: Any) -> str:
    return state_digest(flatten(estimator.state_))


@pytest.mark.parametrize("kind", FORMATS, ids=lambda kind: kind.__name__)
def test_every_format_has_the_bits_of_the_array(kind: Any) -> None:
    dense = OnlineClassifier(**SMALL).partial_fit(X, Y, classes=[0, 1])
    rows = OnlineClassifier(**SMALL).partial_fit(kind(X), Y, classes=[0, 1])
    assert digest(rows) == digest(dense)
    assert np.array_equal(rows.predict_proba(kind(X)), dense.predict_proba(X))
    assert np.array_equal(rows.predict(kind(X)), dense.predict(X))
    assert rows.score(kind(X), Y) == dense.score(X, Y)


@pytest.mark.parametrize("name", LEARNERS)
@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.float32, np.float64, np.bool_])
def test_every_number_type_with_weights_and_row_by_row(name: str, dtype: Any) -> None:
    x, w = (np.rint(X[:40]) + 0.0).astype(dtype), RNG.random(40)
    dense, rows = (OnlineRegressor(name, hidden=4, mini_batch=1) for _ in range(2))
    expected = dense.test_then_train(x, Y[:40], w)
    assert np.array_equal(rows.test_then_train(sparse.csr_array(x), Y[:40], w), expected)
    assert digest(rows) == digest(dense)


def test_sparse_and_dense_rows_can_alternate_and_be_saved(tmp_path: Any) -> None:
    dense = OnlineClassifier(**SMALL).partial_fit(X, Y, classes=[0, 1]).partial_fit(X, Y)
    mixed = OnlineClassifier(**SMALL).partial_fit(sparse.csc_array(X), Y, classes=[0, 1])
    mixed.save(tmp_path)
    assert digest(load(tmp_path).partial_fit(X, Y)) == digest(dense)


def test_missing_values_in_sparse_rows_are_missing_and_zeros_are_not() -> None:
    holes = np.where(RNG.random(X.shape) < 0.1, np.nan, X)
    dense = OnlineClassifier(**SMALL, missing="impute").fit(holes, Y)
    assert digest(OnlineClassifier(**SMALL, missing="impute").fit(sparse.csr_array(holes), Y)) == digest(
        dense
    )
    with pytest.raises(ValueError, match="contains NaN"):
        OnlineClassifier(**SMALL).fit(sparse.csr_array(holes), Y)


@pytest.mark.parametrize("name", LEARNERS)
@pytest.mark.parametrize("missing", ["refuse", "indicate"])
def test_with_scale_sparse_rows_are_learned_by_their_entries(
    name: str, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = X if missing == "refuse" else np.where(RNG.random(X.shape) < 0.1, np.nan, X)
    options = {"learner": name, "hidden": 4, "mini_batch": 8, "scale": "sparse", "missing": missing}
    dense = OnlineClassifier(**options).partial_fit(x[:200], Y[:200], classes=[0, 1])
    expected = dense.test_then_train(x[200:], Y[200:])
    rows = sparse.csr_array(x)
    twice = sparse.coo_array(  # of an entry, halves
        (np.tile(rows.data / 2, 2), [np.tile(each, 2) for each in rows.tocoo().coords]), x.shape
    )
    for kind in (sparse.csr_array, sparse.csr_matrix, lambda _: sparse.csr_array(twice.tocsr())):
        ours = OnlineClassifier(**options)
        given = kind(rows)
        with monkeypatch.context() as patched:
            patched.setattr(type(given), "toarray", None)
            ours.partial_fit(given[:200], Y[:200], classes=[0, 1])
            assert np.array_equal(ours.test_then_train(given[200:], Y[200:]), expected)
            assert np.array_equal(ours.predict_proba(given), dense.predict_proba(x))
        assert digest(ours) == digest(dense)


def test_rows_become_dense_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    made = list[int]()
    to_array = sparse.csr_array.toarray

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        made.append(self.shape[0])
        return to_array(self, *args, **kwargs)

    whole = OnlineClassifier(**SMALL).fit(X, Y)
    monkeypatch.setattr(loop, "PIECE_BYTES", 8 * 20 * 20)  # 20 rows; a mini-batch has 8, and 16 divide 4,096
    monkeypatch.setattr(sparse.csr_array, "toarray", counted)
    rows = OnlineClassifier(**SMALL).fit(sparse.csr_array(X), Y)
    predictions = rows.predict_proba(sparse.csr_array(X))
    assert set(made) == {16, 300 % 16}
    assert rows.state_.model.theta.tobytes() == whole.state_.model.theta.tobytes()
    np.testing.assert_allclose(predictions, whole.predict_proba(X), rtol=1e-5)


TEXTS = ["good film", "bad film", "a good plot and good actors", "bad plot, bad music", "fine music"] * 12
GOOD = np.array(["good" in each or "fine" in each for each in TEXTS])
TABLE = pd.DataFrame({"word": [each.split()[0] for each in TEXTS], "length": list(map(len, TEXTS))})


@pytest.mark.parametrize(
    ("pipeline", "rows"),
    [
        (make_pipeline(HashingVectorizer(n_features=64), OnlineClassifier(mini_batch=1)), TEXTS),
        (make_pipeline(TfidfVectorizer(), MaxAbsScaler(), OnlineClassifier(mini_batch=1)), TEXTS),
        (
            make_pipeline(FeatureHasher(64, input_type="string"), OnlineClassifier(mini_batch=1)),
            [each.split() for each in TEXTS],
        ),
        (
            make_pipeline(OneHotEncoder(handle_unknown="ignore"), OnlineClassifier(mini_batch=1)),
            TABLE[["word"]],
        ),
        (
            make_pipeline(
                make_column_transformer(
                    (OneHotEncoder(), ["word"]), remainder="passthrough", sparse_threshold=1.0
                ),
                OnlineClassifier(mini_batch=1),
            ),
            TABLE,
        ),
    ],
    ids=["hashed", "tfidf", "tokens", "one-hot", "columns"],
)
def test_pipelines_of_sparse_transformers_learn(pipeline: Any, rows: Any) -> None:
    fitted = clone(pipeline).fit(rows, GOOD)
    assert fitted.score(rows, GOOD) > 0.9
    assert fitted.predict_proba(rows).shape == (len(TEXTS), 2)


def test_a_stateless_transformer_feeds_partial_fit() -> None:
    vectorizer, model = HashingVectorizer(n_features=128), OnlineClassifier(mini_batch=1)
    for start in range(0, len(TEXTS), 10):
        rows = slice(start, start + 10)
        model.partial_fit(vectorizer.transform(TEXTS[rows]), GOOD[rows], classes=[False, True])
    assert model.score(vectorizer.transform(TEXTS), GOOD) > 0.9


@pytest.mark.parametrize(
    ("rows", "y", "words"),
    [
        (sparse.csr_array((0, 20)), [], "0 sample"),
        (sparse.csr_array(X[:, :19]), Y, "X has 19 features, but OnlineClassifier is expecting 20"),
        (sparse.csr_array(X[:10]), Y, "inconsistent numbers of samples"),
        (sparse.csr_array(np.where(X > 1, np.inf, X)), Y, "contains infinity"),
    ],
)
def test_invalid_sparse_rows_are_one_line_and_change_nothing(rows: Any, y: Any, words: str) -> None:
    model = OnlineClassifier(**SMALL).partial_fit(X, Y, classes=[0, 1])
    before = digest(model)
    with pytest.raises(ValueError, match=words):
        model.partial_fit(rows, y)
    assert digest(model) == before


@pytest.mark.parametrize("estimator", [OnlineClassifier(**SMALL), OnlineRegressor(**SMALL)])
def test_several_targets_and_labels_are_learned_alike_from_sparse_rows(estimator: Any) -> None:
    """Public case 35, after scikit-learn's multi-output estimators."""
    y = np.stack([Y, 1 - Y], axis=1)
    dense, rows = (clone(estimator).fit(each, y) for each in (X, sparse.csr_array(X)))
    assert digest(dense) == digest(rows)
    assert dense.predict(X).shape == (len(X), 2)
    if isinstance(estimator, OnlineClassifier):
        assert digest(clone(estimator).fit(X, sparse.csr_array(y))) == digest(dense)
