"""The reasons why a record is rejected."""

from typing import Any

from streaming_nn.records.types import LONGEST_VALUE, Rejection

ABSENT = object()  # the value of a field that is absent
MAX_BITS = 256  # of an integer that is reported with its digits

TOO_LARGE = "too large"
NOT_GZIP = "not gzip"
NOT_A_JSON_STRING = "not a JSON string"
WRONG_ENCODING = "wrong encoding"
NOT_JSON = "not JSON"
NOT_CSV = "not CSV"
WRONG_FIELDS = "wrong number of fields"
NOT_AVRO = "not Avro"
NO_SCHEMA_ID = "no schema id"
UNKNOWN_SCHEMA = "unknown schema id"
UNUSABLE_SCHEMA = "unusable schema"
INCOMPATIBLE_SCHEMA = "incompatible schema"
NOT_AN_OBJECT = "not an object"
FIELD_MISSING = "field missing"
NOT_AN_ARRAY = "not an array"
WRONG_WIDTH = "wrong width"
NOT_A_NUMBER = "not a number"
NOT_FINITE = "not finite"
IS_A_DATE = "date, not in records.datetimes"  # the setting that would read it
FROM_DATES = "make numbers of dates, such as days since one of them, or the hour"  # where no setting does
NOT_A_DATE = "not a date"
NOT_A_CATEGORY = "not a category"
NO_FIELD = "no feature field"
LABEL_MISSING = "label missing"
LABEL_NOT_IN_CLASSES = "label not in classes"
LABEL_NOT_AN_ARRAY = "label not an array"
LABEL_NOT_A_NUMBER = "label not a number"
LABEL_NOT_A_BOOLEAN = "label not a boolean"
LABEL_NOT_FINITE = "label not finite"
OF_LABELS = (LABEL_MISSING, LABEL_NOT_AN_ARRAY, LABEL_NOT_A_NUMBER, LABEL_NOT_A_BOOLEAN, LABEL_NOT_FINITE)
TOO_MANY_CLASSES = "too many classes"
WEIGHT_MISSING = "weight missing"
WEIGHT_NEGATIVE = "weight negative"
SERIES_MISSING = "series missing"
NOT_A_SERIES = "series not a string or a number"
FILTERED = "filtered"  # by `where`: no reason to reject a record, but it goes the same way inside a decoder


class BadRecord(ValueError):  # noqa: N818 (not an error of the program: a record that is rejected)
    """A record cannot be learned: the reason, and the field's path and value if a field is why."""

    def __init__(self, reason: str, field: str = "", value: object = ABSENT) -> None:
        super().__init__(reason)
        self.reason, self.field, self.value = reason, field, "" if value is ABSENT else show(value)

    def at(self, position: int) -> Rejection:
        """Return the rejection of the record at this position."""
        return Rejection(position, self.reason, self.field, self.value)


def show(value: object) -> str:
    """Return a value as its repr in one line, cut to LONGEST_VALUE characters."""
    if isinstance(value, (str, bytes)):
        text = repr(value[:LONGEST_VALUE])
    elif type(value) is int and value.bit_length() > MAX_BITS:  # repr refuses 4,300 digits
        text = f"an integer of {value.bit_length():,} bits"
    elif isinstance(value, (list, tuple, dict)):
        text = _show_container(value)
    else:
        text = repr(value)
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 3] + "..."


def _show_container(value: Any) -> str:
    """Return the beginning of the repr of a list or an object, which may be a megabyte."""
    kind, n = ("an object", "fields") if isinstance(value, dict) else ("an array", "elements")
    return f"{kind} of {len(value):,} {n}"


def key(rejection: Rejection) -> str:
    """Return what a rejected record is counted by: the reason, and the schema's field.

    An element is counted by its array; a label that is not in the classes by the label, since its field is
    always the same.
    """
    reason, field = rejection.reason, rejection.field
    if reason == LABEL_NOT_IN_CLASSES:
        field = rejection.value
    elif field.endswith("]") and "[" in field:
        field = field[: field.rindex("[")]
    return f"{reason}: {field}" if field else reason
