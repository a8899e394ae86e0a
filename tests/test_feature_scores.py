"""Scores of features against OpenOOD's formulae, written apart; records that carry features."""

import zipfile

import numpy as np
import pytest
from scipy.special import logsumexp, softmax
from scipy.stats import entropy

import mixup_jax
from mixup_jax.errors import InputError
from mixup_jax.evaluation.export import format_table, render
from mixup_jax.metrics import auroc, gen_score, table
from mixup_jax.metrics.feature_scores import apply, principal_dimension
from mixup_jax.metrics.features import Training, percentile_of, widened
from mixup_jax.report.quantities import GROUPS, sections
from mixup_jax.report.runs import dig
from mixup_jax.runs import arrays_file
from mixup_jax.runs.records import Predictions, load_record, save_predictions

ROWS = {score.key: score for score in table.SCORES if score.fit is not None}
CLASSES, SIZE = 5, 24


def examples(seed, n, shift=0.0):
    """Features of rectified Gaussian classes, and their classes."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, n)
    means = np.random.default_rng(99).gamma(1.0, 1.0, (CLASSES, SIZE))
    return np.maximum(means[labels] + shift + rng.normal(0, 0.6, (n, SIZE)), 0).astype(np.float16), labels


@pytest.fixture(scope="module")
def training():
    features, labels = examples(0, 400)
    rng = np.random.default_rng(7)
    return Training(features, labels, rng.normal(0, 0.5, (SIZE, CLASSES)), rng.normal(0, 0.5, CLASSES))


def cut(x, percentile):
    """The k largest of each row kept, the others 0; and k."""
    k = x.shape[1] - int(np.round(x.shape[1] * percentile / 100))
    order = np.argsort(-x, axis=1, kind="stable")[:, :k]
    kept = np.zeros_like(x)
    np.put_along_axis(kept, order, np.take_along_axis(x, order, axis=1), axis=1)
    return kept, order, k


def by_openood(key, t):
    """OpenOOD's confidence (higher = less foreign) as a function of features, in float64, as its files state it."""
    train, labels, classes = t.features.astype(np.float64), t.labels, t.kernel.shape[1]
    logits = lambda f: f @ t.kernel + t.bias  # noqa: E731
    unit = lambda f: f / np.linalg.norm(f, axis=-1, keepdims=True) + 1e-10  # noqa: E731
    if key == "knn":
        bank = unit(train)
        lengths = (bank**2).sum(1)
        squared = lambda f: (f**2).sum(1)[:, None] + lengths - 2 * f @ bank.T  # noqa: E731
        return lambda x: -np.partition(squared(unit(x)), 49, axis=1)[:, 49]
    if key in ("mahalanobis", "relative_mahalanobis"):
        means = np.stack([train[labels == c].mean(0) for c in range(classes)])
        distance = lambda x, inverse: np.diag((x @ inverse) @ x.T)  # noqa: E731
        inside, whole = (np.linalg.pinv(np.cov(f.T, bias=True)) for f in (train - means[labels], train))
        nearest = lambda x: np.max([-distance(x - m, inside) for m in means], axis=0)  # noqa: E731
        if key == "mahalanobis":
            return nearest
        mean = train.mean(0)
        return lambda x: nearest(x) + distance(x - mean, whole)
    if key in ("vim", "residual"):
        u = -np.linalg.pinv(t.kernel.T) @ t.bias
        values, vectors = np.linalg.eig((train - u).T @ (train - u) / len(train))
        rest = vectors.T[np.argsort(-values)[principal_dimension(len(u)) :]].T
        length = lambda f: np.linalg.norm((f - u) @ rest, axis=-1)  # noqa: E731
        if key == "residual":
            return lambda x: -length(x)
        alpha = logits(train).max(-1).mean() / length(train).mean()
        return lambda x: logsumexp(logits(x), axis=1) - alpha * length(x)
    if key == "react":
        threshold = np.percentile(train.ravel(), 90)
        return lambda x: logsumexp(logits(x.clip(max=threshold)), axis=1)
    if key == "ash":

        def shaped(x):
            _, order, k = cut(x, 90)
            found = np.zeros_like(x)
            np.put_along_axis(found, order, np.repeat(x.sum(1, keepdims=True) / k, k, 1), axis=1)
            return found

        return lambda x: logsumexp(logits(shaped(x)), axis=1)
    if key == "scale":
        return lambda x: logsumexp(logits(x * np.exp(x.sum(1) / cut(x, 85)[0].sum(1))[:, None]), axis=1)
    if key == "fdbd":
        apart, mean = np.linalg.norm(t.kernel.T[:, None] - t.kernel.T, axis=-1) + np.eye(classes), train.mean(0)

        def confidence(x):
            z = logits(x)
            gaps = np.abs(z - z.max(1, keepdims=True)) / apart[z.argmax(1)]
            return gaps.sum(1) / np.linalg.norm(x - mean, axis=1)

        return confidence
    if key == "nnguide":
        guide = unit(train) * logsumexp(logits(train), axis=1)[:, None]
        best = lambda x: np.partition(unit(x) @ guide.T, -100, axis=1)[:, -100:]  # noqa: E731
        return lambda x: best(x).mean(1) * logsumexp(logits(x), axis=1)
    q = softmax(logits(train), axis=1)
    means = [q[q.argmax(1) == c].mean(0) for c in np.unique(q.argmax(1))]
    return lambda x: -np.min([[entropy(row, mean) for mean in means] for row in softmax(logits(x), axis=1)], axis=1)


@pytest.mark.parametrize("key", ROWS)
def test_a_score_and_its_auroc_equal_openoods_formula(key, training):
    score = ROWS[key].fit(training)
    pair = [examples(1, 300)[0], examples(2, 250, shift=0.3)[0]]
    ours = [apply(score, features) for features in pair]
    theirs = [-by_openood(key, training)(features.astype(np.float64)) for features in pair]
    same = [np.sqrt(scores) for scores in theirs] if key == "knn" else theirs  # they leave distances squared
    np.testing.assert_allclose(np.concatenate(ours), np.concatenate(same), rtol=2e-5, atol=1e-6)
    assert auroc(*ours) == pytest.approx(auroc(*theirs), abs=1e-5)


@pytest.mark.parametrize("n", [15, 400])  # fewer than there are features; as many, but one of them is always 0
def test_distances_where_a_covariance_has_no_inverse_equal_those_of_its_pseudo_inverse(n, training):
    features, labels = examples(0, n)
    features[:, 3] = 0
    some = Training(features, labels, training.kernel, training.bias)
    others = examples(1, 50)[0].astype(np.float64)
    for key in ("mahalanobis", "relative_mahalanobis"):
        np.testing.assert_allclose(ROWS[key].fit(some)(others), -by_openood(key, some)(others), rtol=1e-6, atol=1e-6)


def test_float16_is_widened_and_its_percentiles_are_found_exactly():
    halves = np.arange(1 << 16).astype(np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves)][:, None]
    np.testing.assert_array_equal(widened(halves), halves.astype(np.float64))
    some = np.random.default_rng(4).normal(0, 2, (37, 11)).astype(np.float16)
    for percentile in (0.0, 12.3, 90.0, 100.0):
        found = percentile_of(some, percentile)
        assert found == pytest.approx(np.percentile(some.astype(np.float64), percentile), rel=1e-12)


def test_gen_is_its_formula_and_ranks_near_certain_predictions():
    logits = np.random.default_rng(3).normal(0, 3, (50, 130))
    p = np.sort(softmax(logits, axis=1), axis=1)[:, -100:]
    np.testing.assert_allclose(gen_score(logits), (p**0.1 * (1 - p) ** 0.1).sum(axis=1), rtol=1e-12)
    certain = gen_score(np.array([[200.0, 0.0], [100.0, 0.0], [0.0, 0.0]]))
    assert 0 < certain[0] < certain[1] < certain[2]


def test_dead_and_few_features_give_finite_scores():
    features, labels = examples(0, 30)
    features[:, 3] = 0
    features[5] = 0
    kernel = np.ones((SIZE, CLASSES))  # all classes equal
    fitted = Training(features, labels % 2, kernel)
    for key, row in ROWS.items():
        assert np.isfinite(apply(row.fit(fitted), features)).all(), key


def record(seed, training=None, shift=0.0):
    features, labels = examples(seed, 200, shift)
    head = np.random.default_rng(7)
    kernel, bias = head.normal(0, 0.5, (SIZE, CLASSES)), head.normal(0, 0.5, CLASSES)
    logits = (features @ kernel + bias).astype(np.float32)
    return Predictions(logits, labels, {}, features, training)


def test_records_keep_features_map_them_and_are_scored_only_when_asked(training, tmp_path, monkeypatch):
    test, near, far = record(1, training), record(2, shift=0.2), record(3, shift=1.0)
    save_predictions(tmp_path / "test.npz", test)
    assert load_record(tmp_path / "test.npz").features is None
    monkeypatch.setattr(arrays_file, "MAPPED", 1)
    read = load_record(tmp_path / "test.npz", features=True)
    for found, given in ((read.features, test.features), (read.training.features, training.features)):
        assert isinstance(found.base, np.memmap)
        assert found.dtype == np.float16
        np.testing.assert_array_equal(found, given)
    np.testing.assert_array_equal(read.training.kernel, training.kernel)

    foreign = {"near": near, "far": far}
    plain = mixup_jax.evaluate(test, ood=foreign)
    full = mixup_jax.evaluate(read, ood=foreign, features=True, near=["near"], extra=["gen"])
    expected = auroc(gen_score(test.logits), gen_score(far.logits))
    assert full["ood"]["far"]["scores"]["gen"]["auroc"] == pytest.approx(expected, abs=1e-12)
    assert not {"gen", *ROWS} & set(plain["ood"]["far"]["scores"])
    assert set(ROWS) < set(full["ood"]["far"]["scores"])
    assert full["features"] == {"size": SIZE, "train_examples": 400}
    assert full["ood_groups"]["far"]["scores"]["vim"]["auroc"] == full["ood"]["far"]["scores"]["vim"]["auroc"]
    assert full["ood_groups"]["near"]["sets"] == ["near"]
    on_page = [quantity for section in sections([]) for quantity in section.quantities if quantity.path[0] == GROUPS]
    missing = {quantity.path[3] for quantity in on_page if dig(full, *quantity.path) is None}
    assert missing == {"odin"}
    assert "mean of the near sets (near)" in format_table(full)
    assert "ood_groups,far,raw,vim/auroc," in render(full, tmp_path / "x.csv")
    without = Predictions(test.logits, test.labels, {}, test.features, Training(training.features))
    some = mixup_jax.evaluate(without, ood=foreign, features=True)["ood"]["near"]
    assert some["scores"]["vim"] is None
    assert some["no_information"]["vim"] == "the test record has no head_kernel"
    assert some["scores"]["knn"]["auroc"] == full["ood"]["near"]["scores"]["knn"]["auroc"]


def test_what_does_not_fit_together_is_refused(training, tmp_path):
    logits, labels = np.zeros((3, 2)), np.zeros(3, int)
    with pytest.raises(InputError, match="features have 2 rows; expected 3"):
        Predictions(logits, labels, {}, np.zeros((2, 4)))
    with pytest.raises(InputError, match="features contain NaN or infinity"):
        Predictions(logits, labels, {}, np.full((3, 4), np.nan))
    with pytest.raises(InputError, match=r"head_kernel has shape \[3, 2\]; expected \[4, K\]"):
        Training(np.zeros((5, 4)), kernel=np.zeros((3, 2)))
    with pytest.raises(InputError, match=r"head_bias has shape \[3\]; expected \[K\]"):
        Training(np.zeros((5, 4)), kernel=np.zeros((4, 2)), bias=np.zeros(3))
    with pytest.raises(InputError, match="scores of features need features and train_features"):
        mixup_jax.evaluate(Predictions(logits, labels), features=True)
    bare = Predictions(record(2).logits, record(2).labels)
    with pytest.raises(InputError, match="out-of-distribution record other lacks features"):
        mixup_jax.evaluate(record(1, training), ood={"other": bare}, features=True)
    with pytest.raises(InputError, match="unknown near out-of-distribution set 'x'"):
        mixup_jax.evaluate(record(1), ood={"other": bare}, near=["x"])


def test_a_directory_that_lies_about_the_place_of_features_is_refused(training, tmp_path, monkeypatch):
    monkeypatch.setattr(arrays_file, "MAPPED", 1)
    save_predictions(tmp_path / "x.npz", record(1, training))
    content = bytearray((tmp_path / "x.npz").read_bytes())
    with zipfile.ZipFile(tmp_path / "x.npz") as archive:
        start = archive.getinfo("features.npy").header_offset
    content[start : start + 4] = b"none"
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(InputError, match="cannot be read"):
        load_record(tmp_path / "x.npz", features=True)


def test_features_within_the_principal_space_have_no_residual(training):
    features = training.features.copy()
    features[:, 10:] = 0  # 10 of 24, where the principal space has 12 dimensions
    flat = Training(features, training.labels, training.kernel, np.zeros(CLASSES))
    for key in ("vim", "residual"):
        with pytest.raises(InputError, match="lie in 12 dimensions"):
            ROWS[key].fit(flat)
    logits = 3.0 * np.eye(CLASSES)[flat.labels]
    test, foreign = (Predictions(shift + logits, flat.labels, {}, features, flat) for shift in (0.0, 1.0))
    scores = mixup_jax.evaluate(test, ood={"x": foreign}, features=True)["ood"]["x"]
    assert scores["scores"]["vim"] is None
    assert "lie in 12 dimensions" in scores["no_information"]["vim"]
    assert scores["scores"]["knn"]["auroc"] == 0.5
