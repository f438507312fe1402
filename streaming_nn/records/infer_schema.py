"""Infer a schema from the first records of a topic: the number of columns, and the classes."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from streaming_nn.records import reasons
from streaming_nn.records.decode import Values, inspect
from streaming_nn.records.explain import (
    FEW,
    as_inferred,
    count_reasons,
    describe_filtered,
    describe_reasons,
    explain,
)
from streaming_nn.records.explode import explode_values
from streaming_nn.records.field_records import label_text
from streaming_nn.records.labels import KINDS, Label, is_valid_label
from streaming_nn.records.lines import NEXT
from streaming_nn.records.schema import MAX_CLASSES, Schema, width

USUAL_CLASSES = 20  # more of them, each in few records, may be numbers to predict


class InferredSchema(NamedTuple):
    """What the first records of a topic show of its schema."""

    inputs: int  # the number of columns that most records have
    classes: tuple[Label, ...] | None  # sorted; None for regression
    records: int  # the number of records that could be decoded
    remarks: tuple[str, ...]  # how records differ from the majority


def infer_schema(
    values: Values,
    *,
    format: str = "json",
    features: str | Sequence[str] = "features",
    label: str | Sequence[str] | None = "label",
    regression: bool = False,
    numbers_as_strings: bool = False,
    na_values: Sequence[str] = (),
    decimal: str = ".",
    thousands: str = "",
    units: Sequence[str] = (),
    missing: bool = False,
    sparse: Sequence[str] = (),
    categories: Mapping[str, Mapping[str, int]] | None = None,
    datetimes: Mapping[str, Mapping[str, Any]] | None = None,
    grow: bool = False,
    csv_columns: Sequence[str] = (),
    delimiter: str = ",",
    quote: str = '"',
    avro_schema: str | None = None,
    registry: str | None = None,
    framing: str = "none",
    encoding: str = "utf-8",
    where: str | None = None,
    explode: str | None = None,
    weight: str | None = None,
    multilabel: bool = False,
) -> InferredSchema:
    """Infer the number of columns and the classes from the first records of a topic, by majority.

    Growing classes may be few, or none. Raise ValueError if no record can be decoded, if none has a label or
    a target, or if the labels are not classes and `regression` is not set; ConnectionError as `decode` does.
    """
    names = features if isinstance(features, str) else tuple(features)
    named = label is not None and not isinstance(label, str)  # so are the targets, or the classes
    schema = Schema(
        inputs=width(names, categories or {}, datetimes or {}) or 1,
        features=names,
        label=label if label is None or isinstance(label, str) else tuple(label),
        format=format,
        numbers_as_strings=numbers_as_strings,
        na_values=tuple(na_values),
        decimal=decimal,
        thousands=thousands,
        units=tuple(units),
        missing=missing,
        grow=label is not None and not regression and not named,  # any class is read
        sparse=tuple(sparse),
        categories=categories or {},
        datetimes=datetimes or {},
        csv_columns=tuple(csv_columns),
        delimiter=delimiter,
        quote=quote,
        avro_schema=avro_schema,
        registry=registry,
        framing=framing,
        encoding=encoding,
        where=where,
        explode=explode,
        weight=weight,
        multilabel=multilabel,
    )
    values = explode_values(schema, values)
    widths, labels, rejected, filtered = inspect(schema, values)
    why = describe_reasons(count_reasons(rejected))
    if not widths:
        tombstones = len(values) - len(rejected) - filtered
        counts = [f"{filtered:,} filtered by records.where"] if filtered else []
        counts += [f"{tombstones:,} tombstones, whose value is null"] if tombstones else []
        counts += [why] if why else []
        message = (
            f"cannot infer the schema: none of {len(values):,} records could be decoded as {format} with "
            f"features {features!r}" + (f": {', '.join(counts)}" if counts else "")
        )
        lines = explain(schema, values, as_inferred) or describe_filtered(schema, values)
        raise ValueError(NEXT.join([message, *lines]))
    (inputs, _), *others = widths.most_common()
    remarks = [f"{width} columns in {n:,} of {widths.total():,} records" for width, n in others]
    if rejected:
        remarks.append(f"{len(rejected):,} of {len(values):,} records cannot be decoded: {why}")
    explained = explain(schema, values, as_inferred) if len(rejected) > widths.total() else []
    remarks += explained
    if regression or label is None or named:
        if label is not None:
            remarks += _check_targets(schema, values, widths.total() + len(rejected))
        return InferredSchema(inputs, schema.classes, widths.total(), tuple(remarks))
    if not labels and not grow:
        message = f"no record has a label in {label!r}; set the label's field, or none"
        raise ValueError(NEXT.join([message, *explain(schema, values, as_inferred)]))
    try:
        classes, remark = _infer_classes(labels, schema, grow)
    except ValueError as error:  # what was rejected may have the other classes
        lines = explain(schema, values, as_inferred) if rejected and not explained else []
        raise ValueError(NEXT.join([str(error), *remarks, *lines])) from None
    return InferredSchema(inputs, classes, widths.total(), tuple(remarks + remark))


def _check_targets(schema: Schema, values: Values, records: int) -> list[str]:
    """Return remarks if half of the records lack a target or a label; raise ValueError if all of them do."""
    rejected = as_inferred(schema, values)
    bad = count_reasons([each for each in rejected if each.reason in reasons.OF_LABELS])
    if 2 * bad.total() <= records:
        return []
    what = "target" if schema.classes is None else "label"
    names = ", ".join(map(repr, schema.labels))
    lines = explain(schema, values, as_inferred)
    if len(rejected) == records:
        message = f"no record has a {what} in {names}: {describe_reasons(bad)}"
        raise ValueError(NEXT.join([message, *lines]))
    return [f"{bad.total():,} of {records:,} records lack a {what}: {describe_reasons(bad)}", *lines]


def _infer_classes(
    labels: Counter[tuple[type, Any]], schema: Schema, grow: bool
) -> tuple[tuple[Label, ...], list[str]]:
    """Return the sorted labels of the type (string, integer, boolean) that most records have, and remarks."""
    kinds, label = Counter[type](), schema.label
    for (kind, _), n in labels.items():
        kinds[kind] += n
    if not kinds:
        return (), []
    kind = kinds.most_common(1)[0][0]
    if kind is float or (kind is int and kinds[float] > FEW * (kinds[int] + kinds[float])):
        example = next(value for kind, value in labels if kind is float)
        raise ValueError(f"label {label!r} has numbers such as {example!r}: set regression, or the classes")
    found = sorted(value for type_, value in labels if type_ is kind)
    if grow:
        found = [value for value in found if is_valid_label(value)][:MAX_CLASSES]
    elif not 2 <= len(found) <= MAX_CLASSES:
        n, other = kinds.total(), kinds.total() - kinds[kind]
        mixed = f", and {other:,} of them have another type than {KINDS[kind]}" if other else ""
        mixed += ": set classes" + ", or regression" * (kind is int and len(found) > MAX_CLASSES)
        raise ValueError(f"label {label!r} has {len(found):,} distinct values in {n:,} records{mixed}")
    others = _count_others(labels, kind, schema, {label_text(each) for each in found})
    others = {type_: n for type_, n in others.items() if type_ is float or not grow}  # or they become classes
    remarks = [f"label is {KINDS[each]} in {n:,} records: not a class" for each, n in others.items()]
    if kind is int and len(found) > max(USUAL_CLASSES, kinds[int] / 2):
        remarks.append(
            f"label {label!r} has {len(found):,} distinct integers in {kinds[int]:,} records: if it is a "
            "number to predict, set regression"
        )
    return tuple(found), remarks


def _count_others(
    labels: Counter[tuple[type, Any]], kind: type, schema: Schema, texts: set[str]
) -> dict[type, int]:
    """Count the labels of other types, without those that are written like a class, and are read as it."""
    others = Counter[type]()
    for (each, label), n in labels.items():
        alike = schema.rules.numbers_as_strings and label_text(label) in texts
        if each is not kind and not alike:
            others[each] += n
    return dict(others)
