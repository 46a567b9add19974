"""Logistic regression: the minimum that scikit-learn finds."""

import warnings

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from secateurs.utils.training.tasks.softmax_regression import softmax_regression


@pytest.mark.parametrize('nb_classes', [2, 5])
def test_probabilities_are_those_of_scikit_learn(nb_classes):
  rng = np.random.default_rng(0)
  labels = np.concatenate([np.arange(nb_classes), rng.integers(0, nb_classes, 200)])
  x = rng.normal(size=(len(labels), 6)) + labels[:, None] * rng.normal(size=6)
  standard = (x - x.mean(axis=0)) / x.std(axis=0)
  kernel, bias = softmax_regression(standard, labels)
  logits = standard @ kernel + bias
  found = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
  # With two classes scikit-learn penalises one vector of differences, ours two of half its size.
  penalty = 2.0 if nb_classes == 2 else 1.0
  oracle = LogisticRegression(C=penalty, tol=1e-8, max_iter=10_000).fit(standard, labels)
  np.testing.assert_allclose(found, oracle.predict_proba(standard), atol=5e-3)


def test_dead_and_equal_features_and_as_many_classes_as_samples_are_fit_without_a_warning():
  rng = np.random.default_rng(1)
  x = rng.normal(size=(12, 4)).astype(np.float32)
  x[:, 1], x[:, 2] = 0.0, x[:, 0]
  with warnings.catch_warnings():
    warnings.simplefilter('error')
    kernel, bias = softmax_regression(x, np.arange(12))
  assert np.isfinite(kernel).all()
  assert np.isfinite(bias).all()
  assert not kernel[1].any()
