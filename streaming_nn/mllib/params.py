"""The learners' options as Spark ML's params: Spark's own names where it has one, else camel case."""
# ruff: noqa: N802  (Spark's names)

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Self, get_args

import numpy as np
from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.ml.param.shared import HasBlockSize, HasMaxIter, HasSeed, HasStepSize, HasWeightCol

from streaming_nn.mllib.dataframe import Columns
from streaming_nn.nn import validation
from streaming_nn.nn.factory import LEARNERS

SPARK_NAMES = {"learning_rate": "stepSize", "mini_batch": "blockSize", "hidden": "hiddenLayers"}


def spark_name(option: str) -> str:
    """Return the name of an option's param."""
    first, *others = option.split("_")
    return SPARK_NAMES.get(option, first + "".join(word.capitalize() for word in others))


def _option_types() -> dict[str, Any]:
    """Return the learners' options and their types; those that follow from the rows are left out."""
    each = {field.name: field.type for kind in LEARNERS.values() for field in fields(kind)}
    of_rows = ("inputs", "multilabel", "targets")
    return {option: kind for option, kind in each.items() if option not in of_rows}


NAMES = {option: spark_name(option) for option in _option_types()}


def _to_json(value: Any) -> Any:
    """Return an option's value ready for JSON: a mapping whose keys are labels of any type becomes pairs."""
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _to_json(each) for key, each in value.items()}
    if isinstance(value, Mapping):
        return [[_to_json(key), _to_json(each)] for key, each in value.items()]
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return [_to_json(each) for each in value] if isinstance(value, list | tuple) else value


def _converter(kind: Any) -> Any:
    plain = {str: TypeConverters.toString, int: TypeConverters.toInt, float: TypeConverters.toFloat}
    kinds = {each for each in get_args(kind) or (kind,) if each is not type(None)}
    return plain.get(kinds.pop(), _to_json) if len(kinds) == 1 else _to_json


class LearnerParams(HasWeightCol, HasMaxIter, HasSeed, HasStepSize, HasBlockSize):
    """Params of estimators and models: the learners' options, under Spark's names where Spark has one.

    One that is not set has the learner's default. `stepSize` is `learning_rate`, `blockSize` (32)
    `mini_batch`, `hiddenLayers` `hidden`; the others are in camel case: `weightDecay`.
    """

    learner: "Param[str]" = Param(
        Params._dummy(),
        "learner",
        "'ensemble' or 'mlp'; not set: mlp where one of its own params is set, else ensemble",
        TypeConverters.toString,
    )
    layers: "Param[list[int]]" = Param(
        Params._dummy(),
        "layers",
        "sizes of all layers, from the features to the outputs, as in Spark's MultilayerPerceptronClassifier",
        TypeConverters.toListInt,
    )
    classes: "Param[Any]" = Param(
        Params._dummy(),
        "classes",
        "the labels; not set: those of the column's metadata, else the distinct ones, sorted",
        TypeConverters.toListFloat,
    )

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...  # the params that are created from the learners' options

    def __init__(self) -> None:
        super().__init__()
        self._setDefault(maxIter=10, seed=0, blockSize=32)

    def _set_params(self, params: Mapping[str, Any]) -> Self:
        """Set params by name; None leaves one unset. ValueError: an unknown name, with the nearest known."""
        validation.known("param", params, [param.name for param in self.params])
        return self._set(**{name: value for name, value in params.items() if value is not None})

    def setParams(self, **params: Any) -> Self:
        """Set params by name."""
        return self._set_params(params)

    def setMaxIter(self, value: int) -> Self:
        """Set the number of passes over the rows."""
        return self._set(maxIter=value)

    def setSeed(self, value: int) -> Self:
        """Set the seed of the initial weights."""
        return self._set(seed=value)

    def setStepSize(self, value: float) -> Self:
        """Set the learning rate."""
        return self._set(stepSize=value)

    def setBlockSize(self, value: int) -> Self:
        """Set the rows of a mini-batch."""
        return self._set(blockSize=value)

    def setWeightCol(self, value: str) -> Self:
        """Set the column of the rows' weights."""
        return self._set(weightCol=value)

    def setLayers(self, value: list[int]) -> Self:
        """Set the sizes of all layers, features and outputs included."""
        return self._set(layers=value)

    def setHiddenLayers(self, value: list[int]) -> Self:
        """Set the sizes of the hidden layers."""
        return self._set(hiddenLayers=value)

    def setLearner(self, value: str) -> Self:
        """Set the learner: "ensemble" or "mlp"."""
        return self._set(learner=value)

    def setOptimizer(self, value: str) -> Self:
        """Set the optimizer of learner "mlp"."""
        return self._set(optimizer=value)

    def setClasses(self, value: list[float]) -> Self:
        """Set the labels."""
        return self._set(classes=value)

    def getLayers(self) -> list[int]:
        """Return the sizes of all layers, as they were set."""
        return self.getOrDefault(self.layers)

    def getHiddenLayers(self) -> list[int]:
        """Return the sizes of the hidden layers, as they were set."""
        return list(self.getOrDefault(self.getParam("hiddenLayers")))

    def _columns(self, labeled: bool = True) -> Columns:
        weight = self.getOrDefault("weightCol") if self.isDefined("weightCol") else None
        label = self.getOrDefault("labelCol") if labeled else None
        return Columns(self.getOrDefault("featuresCol"), label, (weight or None) if labeled else None)

    def _options(self, only_set: bool = False) -> dict[str, Any]:
        """Return the learner's options as they were set; inputs and classes depend on the data."""
        included = self.isSet if only_set else self.isDefined
        given = {
            option: self.getOrDefault(name)
            for option, name in NAMES.items()
            if option != "classes" and included(name)
        }
        mlp = {field.name for field in fields(LEARNERS["mlp"])}
        ensemble = {field.name for field in fields(LEARNERS["ensemble"])}
        if self.isSet("learner"):
            given["learner"] = self.getOrDefault("learner")
        elif not only_set or given.keys() & (mlp ^ ensemble):
            given["learner"] = "mlp" if given.keys() & (mlp - ensemble) else "ensemble"
        if self.isSet("layers"):
            if "hidden" in given:
                raise ValueError("layers and hiddenLayers must not both be set; got both")
            given["hidden"] = self.getLayers()[1:-1]
        return given

    def _check_layers(self, inputs: int, outputs: int) -> None:
        """Raise ValueError if `layers` does not fit the rows."""
        if self.isSet("layers"):
            layers = self.getLayers()
            if len(layers) < 2 or (layers[0], layers[-1]) != (inputs, outputs):
                raise ValueError(
                    f"layers must go from the features, {inputs}, to the outputs, {outputs}; got {layers}"
                )


for _option, _kind in _option_types().items():
    if not hasattr(LearnerParams, spark_name(_option)):
        _param: Any = Param(
            Params._dummy(), spark_name(_option), f"the learners' option {_option}", _converter(_kind)
        )
        setattr(LearnerParams, spark_name(_option), _param)


@contextmanager
def spark_names_in_errors() -> Iterator[None]:
    """Raise an option's ValueError with the name of its param."""
    try:
        yield
    except ValueError as error:
        message = re.sub(
            r"^\w+|(?<=')\w+(?=')", lambda word: NAMES.get(word.group(), word.group()), str(error)
        )
        raise ValueError(message) from None
