"""The machine's telemetry: rates are differences over time, the label is measured one second later."""

import math
from collections import Counter, namedtuple
from itertools import islice, pairwise

import numpy as np
import pytest

from producers.machine import AHEAD, COUNTED, LABEL, MEASURED, NAMES, machine
from producers.messages import LABELED, MALFORMED, UNLABELED, Plan, messages, schema_of
from producers.pace import Pace
from producers.streams import limited
from streaming_nn.records.decode import decode

pytestmark = pytest.mark.commit

CORES = 4
Times = namedtuple("Times", "user system idle iowait guest guest_nice")
Stats = namedtuple("Stats", "ctx_switches interrupts")
Disk = namedtuple("Disk", "read_bytes write_bytes")
Net = namedtuple("Net", "bytes_sent bytes_recv")
Memory = namedtuple("Memory", "used available")
Swap = namedtuple("Swap", "used")


class Clock:
    """A clock that only sleeping advances, each time slightly longer than requested."""

    def __init__(self, oversleep=0.0):
        self.now, self.oversleep = 500.0, oversleep

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds + self.oversleep


def busy(at):
    """Return the seconds that one core has been busy until `at`: between 20 % and 80 % of the time."""
    return 0.5 * at - 0.3 * math.cos(at)


class Machine:
    """A psutil whose every counter is a known function of its clock."""

    def __init__(self, clock, disk=True):
        self.clock, self.disk = clock, disk

    def cpu_count(self):
        return CORES

    def cpu_times(self):
        used, at = CORES * busy(self.clock.now), self.clock.now
        return Times(0.75 * used, 0.25 * used, CORES * at - used - 0.1 * at, 0.1 * at, 0.1 * used, 0.0)

    def cpu_stats(self):
        return Stats(int(1000 * self.clock.now), int(300 * self.clock.now))

    def disk_io_counters(self):
        return Disk(5e6 * self.clock.now, 1e6 * self.clock.now**2) if self.disk else None

    def net_io_counters(self):
        return Net(2e3 * self.clock.now, 4e3 * self.clock.now) if self.disk else None

    def getloadavg(self):
        return (1.5, 2.5, self.clock.now)

    def virtual_memory(self):
        return Memory(3e9, 5e9)

    def swap_memory(self):
        return Swap(0)


def stream(rate=20.0, oversleep=0.0, **options):
    clock = Clock(oversleep)
    return clock, machine(rate, Machine(clock, **options), Pace(clock, clock.sleep))


def observed(rate, rows, oversleep=0.0):
    """Return rows with their times, and labels with their times and rows."""
    clock, source = stream(rate, oversleep)
    fresh, known = [], []
    while len(known) < rows:
        block = next(source.blocks)
        if block.y is None:
            fresh += [(clock.now, dict(zip(NAMES, row, strict=True))) for row in block.x]
        else:
            known += [(clock.now, *pair) for pair in zip(block.x, block.y, strict=True)]
    return fresh, known


def percent(then, now):
    return 100 * (busy(now) - busy(then)) / (now - then)


@pytest.mark.parametrize(("rate", "oversleep"), [(20, 0.0), (20, 0.013), (3, 0.0), (100, 0.004), (1, 0.0)])
def test_rates_are_differences_over_time(rate, oversleep):
    fresh, _ = observed(rate, 50, oversleep)
    for (then, _), (now, row) in pairwise(fresh):
        expected = {
            "cpu.now": percent(then, now),
            "cpu.user": 0.75 * percent(then, now),
            "cpu.system": 0.25 * percent(then, now),
            "cpu.iowait": 10 / CORES,
            "disk.read": 5000,
            "disk.written": 1000 * (now + then),
            "net.received": 4,
            "net.sent": 2,
            "load.15m": now,
            "memory.used": 3000,
            "memory.available": 5000,
            "swap.used": 0,
        }
        assert {name: row[name] for name in expected} == pytest.approx(expected, rel=1e-4)
        assert row["switches"] == pytest.approx(1000, abs=2 / (now - then))
    times = np.array([now for now, _ in fresh])
    for now, row in fresh[2 * rate :]:
        then = times[times <= now - AHEAD + 0.5 / rate].max()
        assert row["cpu.second"] == pytest.approx(percent(then, now), rel=1e-4)


@pytest.mark.parametrize(("rate", "oversleep"), [(20, 0.0), (20, 0.013), (3, 0.0), (100, 0.004), (1, 0.0)])
def test_the_label_is_measured_one_second_later(rate, oversleep):
    fresh, known = observed(rate, 50, oversleep)
    measured = {now: row["cpu.now"] for now, row in fresh}
    nearest = 0
    for (at, row), (when, x, y) in zip(fresh, known, strict=False):
        np.testing.assert_array_equal(x, list(row.values()))  # in order, none left out
        assert when - at == pytest.approx(AHEAD, abs=0.5 / rate + oversleep + 1e-6)
        if when in measured:
            assert y == measured[when]
            nearest += 1
    assert nearest >= 49  # the last label comes before its sample's row


def test_it_keeps_its_rate():
    fresh, _ = observed(20, 200, oversleep=0.013)
    times = [now for now, _ in fresh]
    assert (times[-1] - times[0]) / (len(times) - 1) == pytest.approx(1 / 20, rel=0.01)


def test_a_machine_without_disks_has_zeros():
    _, source = stream(disk=False)
    x = next(source.blocks).x[0]
    assert not x[[NAMES.index(name) for name in NAMES if name.split(".")[0] in ("disk", "net")]].any()


def test_each_row_is_sent_at_once_and_again_with_its_label():
    clock, source = stream()
    plan = Plan("l", "u", unlabeled=1.0, first_id=7)
    out = [(clock.now, message) for message in messages(limited(source, 50), plan)]
    bare = {m.key: (at, m) for at, m in out if m.kind == UNLABELED}
    late = {m.key: (at, m) for at, m in out if m.kind == LABELED}
    assert list(bare) == list(late) == [b"%d" % i for i in range(7, 57)]
    for key, (at, message) in bare.items():
        assert late[key][0] - at == pytest.approx(AHEAD, abs=0.03)
        assert b'"ahead"' not in message.value  # no target
    schema = schema_of(source, plan)
    assert (schema.features, schema.label, schema.classes) == (NAMES, LABEL, None)
    rows = decode(schema, [m.value for _, m in bare.values()], labeled=False)
    again = decode(schema, [m.value for _, m in late.values()], labeled=True)
    np.testing.assert_array_equal(rows.x, again.x)
    assert again.y.tolist()[: 50 - 20] == rows.x[20:, NAMES.index("cpu.now")].tolist()
    assert all(m.at == 0 for _, m in out)  # the stream runs in real time: nothing waits for a pace


def test_shares_are_unlabeled_and_corrupted():
    _, source = stream()
    plan = Plan("l", "u", unlabeled=0.3, malformed=0.3)
    out = list(messages(limited(source, 400), plan))
    kinds = Counter(m.kind for m in out)
    assert kinds[LABELED] + kinds[MALFORMED] == 400
    assert 80 < kinds[UNLABELED] < 160
    corrupted = decode(schema_of(source, plan), [m.value for m in out if m.kind == MALFORMED], labeled=True)
    assert len(corrupted.kept) == 0
    assert {"field missing", "not finite", "label not a number", "label missing"} <= {
        reason for _, reason, *_ in corrupted.rejected
    }


def test_packed_rows_have_no_names():
    _, source = stream()
    schema = schema_of(source, Plan("l", format="packed"))
    (message,) = messages(limited(source, 1), Plan("l", format="packed"))
    assert len(decode(schema, [message.value], labeled=True).kept) == 1


@pytest.mark.parametrize("rate", [0.5, 101])
def test_an_invalid_rate_raises_one_line(rate):
    with pytest.raises(ValueError) as raised:
        machine(rate)
    assert str(raised.value).startswith("rate of machine must be 1 to 100 samples per second")
    assert str(raised.value).endswith(f"got {rate:g}")


def test_a_label_delay_is_rejected():
    _, source = stream()
    with pytest.raises(ValueError, match="label_delay"):
        next(messages(source, Plan("l", "u", unlabeled=1.0, label_delay=5)))


def test_every_field_has_a_unit():
    assert len(set(NAMES)) == len(NAMES) == len(COUNTED) + len(MEASURED)
    assert all((COUNTED | MEASURED)[name] for name in NAMES)


def test_the_real_machine():
    pytest.importorskip("psutil")
    blocks = [b for b in islice(machine(20).blocks, 30) if b.y is None]
    x = np.concatenate([b.x for b in blocks])
    assert np.isfinite(x).all()
    assert (x >= 0).all()
    columns = dict(zip(NAMES, x.T, strict=True))
    for name in ("cpu.now", "cpu.user", "cpu.system", "cpu.second"):
        assert columns[name].max() <= 100
    assert columns["memory.used"].min() > 10
    assert columns["switches"].max() > 0
