"""Random forests for tests, made without training."""

import numpy as np

from lazyflow_ops_learning import Forest


def random_forest(rng, *, trees=5, features=4, classes=3, depth=6, pure=True, values=None):
    """A forest whose trees divide by chance; thresholds are values that occur, or lie in between."""
    values = np.arange(-3, 4, 0.5) if values is None else values
    threshold, feature, child, roots, leaf = [], [], [], [], []
    for _ in range(trees):
        roots.append(len(child))
        pending = [(len(child), 0)]
        threshold.append(0)
        feature.append(0)
        child.append(0)
        while pending:
            node, level = pending.pop()
            if level == depth or (level and rng.random() < 0.2):
                continue
            child[node] = len(child)
            threshold[node] = rng.choice(values)
            feature[node] = rng.integers(features)
            for _ in range(2):
                pending.append((len(child), level + 1))
                threshold.append(0)
                feature.append(0)
                child.append(0)
    leaves = child.count(0)
    if pure:
        leaf = rng.integers(0, classes, leaves).astype(np.uint8)
    else:
        leaf = rng.random((leaves, classes)) ** 4
        leaf /= leaf.sum(axis=1, keepdims=True)
    return Forest(
        np.array(threshold, "f4"),
        feature,
        child,
        roots,
        leaf,
        [f"class {n}" for n in range(classes)],
        [f"feature {n}" for n in range(features)],
    )


def one_by_one(forest, features):
    """The probabilities of a forest, by walking each sample through each tree; the definition."""
    out = np.zeros((forest.class_count, features.shape[1]))
    for i in range(features.shape[1]):
        for root in forest.roots.tolist():
            node = root
            while forest.child[node]:
                below = bool(features[forest.feature[node], i] < forest.threshold[node])
                node = int(forest.child[node]) + (not below)
            row = int(np.count_nonzero(forest.child[:node] == 0))
            if forest.is_pure:
                out[forest.leaf[row], i] += 1
            else:
                out[:, i] += forest.leaf[row].astype(float)
    return (out / forest.tree_count).astype(np.float32)
