"""Small ilastik projects in the layouts of its versions, made anew by tests."""

import json

import h5py
import numpy as np

LEAF = 0x40000000
FEATURES = (
    "GaussianSmoothing",
    "LaplacianOfGaussian",
    "GaussianGradientMagnitude",
    "DifferenceOfGaussians",
    "StructureTensorEigenvalues",
    "HessianOfGaussianEigenvalues",
)
SCALES = (0.3, 0.7, 1.0, 1.6, 3.5, 5.0, 10.0)


def axistags(keys):
    return json.dumps({"axes": [{"key": key, "typeFlags": 2, "resolution": 0} for key in keys]})


def write_project(
    path,
    *,
    version="1.4.2",
    workflow="Pixel Classification",
    axes="yx",
    shape=(20, 30),
    image="image.h5/data",
    selected=((0, 2),),
    labels=True,
    level=100.0,
    class_names=("dark", "bright"),
):
    """Write a project with a feature per entry of ``selected``, (feature, scale); a tree asks the first."""
    with h5py.File(path, "w") as file:
        if version is not None:
            file["ilastikVersion"] = version.encode() if isinstance(version, str) else version
        if workflow is not None:
            file["workflowName"] = workflow.encode()
        info = file.create_group("Input Data/infos/lane0000/Raw Data")
        info["filePath"] = image.encode()
        info["location"] = b"FileSystem"
        info["axistags"] = axistags(axes).encode()
        info["nickname"] = b"image"
        old = isinstance(version, str) and version < "1.3"
        if not old:
            info["shape"] = np.array(shape)
            info["__class__"] = b"RelativeFilesystemDatasetInfo"
        selection = file.create_group("FeatureSelections")
        selection["FeatureIds"] = np.array([name.encode() for name in FEATURES], "S28")
        selection["Scales"] = np.array(SCALES)
        matrix = np.zeros((len(FEATURES), len(SCALES)), bool)
        for feature, scale in selected:
            matrix[feature, scale] = True
        selection["SelectionMatrix"] = matrix
        if not old:
            selection["ComputeIn2d"] = np.zeros(len(SCALES), bool)
        group = file.create_group("PixelClassification")
        names = group.create_dataset("LabelNames", data=[name.encode() for name in class_names])
        names.attrs["isEmpty"] = False
        if labels:
            block = np.zeros((*shape, 1), np.uint8)
            block[(0,) * len(shape)] = 1
            block[(-1,) * len(shape)] = 2
            stored = group.create_dataset("LabelSets/labels000/block0000", data=block, compression="gzip")
            stored.attrs["blockSlice"] = "[" + ",".join(f"0:{n}" for n in (*shape, 1)) + "]"
            if not old:
                stored.attrs["axistags"] = axistags(f"{axes}c")
        forest = group.create_group("ClassifierForests/Forest0000")
        forest["_ext_param/labels"] = np.array([1, 2], np.uint32)
        forest["_ext_param/column_count_"] = np.array([float(len(selected))])
        forest["_options/predict_weighted_"] = np.array([0.0])
        tree = forest.create_group("Tree_0")
        topology = [len(selected), 2, 0, 0, 7, 9, 0, LEAF, 2, LEAF, 5]
        tree["topology"] = np.array(topology, np.int32)
        tree["parameters"] = np.array([1.0, level, 1.0, 1.0, 0.0, 1.0, 0.0, 1.0])
    return path
