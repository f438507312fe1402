"""This machine's telemetry as an endless stream: its CPU use one second ahead."""

from collections import deque
from collections.abc import Iterator
from itertools import count
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from producers.pace import Pace
from producers.streams import Block, Stream

RATE = 20.0  # samples per second
SLOWEST, FASTEST = 1.0, 100.0  # a target comes after a second, and the kernel counts in ticks of 10 ms
AHEAD = 1.0  # seconds from a sample to the one with its target
KILO, MEGA = 1e3, 1e6

Floats = NDArray[np.float64]

# ever growing counters, as a rate per second since the previous sample
COUNTED = {
    "cpu.now": "percent of all cores' time: everything but idle and iowait",
    "cpu.user": "percent",
    "cpu.system": "percent",
    "cpu.iowait": "percent; 0 where the system does not report it",
    "disk.read": "kB per second, of all disks",
    "disk.written": "kB per second",
    "net.received": "kB per second, of all interfaces",
    "net.sent": "kB per second",
    "switches": "context switches per second",
    "interrupts": "interrupts per second",
}
MEASURED = {
    "load.1m": "processes that run or wait for a core, averaged over a minute",
    "load.5m": "over five",
    "load.15m": "over fifteen",
    "memory.used": "MB",
    "memory.available": "MB",
    "swap.used": "MB",
    "cpu.second": "percent: cpu.now, averaged over the previous second",
}
NAMES = (*COUNTED, *MEASURED)
SHARES = 4  # the first ones of COUNTED are percent
LABEL = "ahead"  # percent: cpu.now of the sample one second later


class Sample(NamedTuple):
    """One reading of the machine."""

    at: float  # seconds, of a monotonic clock
    counted: Floats  # (len(COUNTED),) ever growing
    measured: Floats  # (len(MEASURED) - 1,)
    row: NDArray[np.float32]  # (len(NAMES),) its features


def machine(rate: float = RATE, ps: Any = None, pace: Pace | None = None) -> Stream:
    """Stream `rate` rows per second, in real time: at once, and again when their targets have been measured.

    The target is the CPU use, in percent, of the sample nearest to one second later. There is no seed: no run
    can be repeated. `ps` replaces psutil, and `pace` the clock. Raise ValueError for a rate outside 1 to 100,
    and without psutil.
    """
    if not SLOWEST <= rate <= FASTEST:
        raise ValueError(
            f"rate of machine must be {SLOWEST:g} to {FASTEST:g} samples per second, because its label is "
            f"measured one second later; got {rate:g}"
        )
    second = AHEAD - 0.5 / rate  # at the earliest: the nearest sample is one second away
    blocks = _blocks(_samples(rate, second, ps or _import_psutil(), pace or Pace()), second)
    return Stream(len(NAMES), None, blocks, NAMES, LABEL, named=True, late=True)


def _import_psutil() -> Any:
    try:
        import psutil
    except ImportError:
        raise ValueError("machine needs psutil: pip install 'streaming_nn[demo]'") from None
    return psutil


def _blocks(samples: Iterator[Sample], second: float) -> Iterator[Block]:
    """Yield each sample's row without a target, after the rows that it is the target of."""
    waiting: deque[Sample] = deque()
    for sample in samples:
        known = []
        while waiting and sample.at - waiting[0].at >= second:
            known.append(waiting.popleft().row)
        if known:
            yield Block(np.stack(known), np.full(len(known), sample.row[0]))
        yield Block(sample.row[None], None)
        waiting.append(sample)


def _samples(rate: float, second: float, ps: Any, pace: Pace) -> Iterator[Sample]:
    """Read the machine at a steady pace; the first reading is only the start of the rates."""
    pace.wait(0.0)
    last = _read(ps, pace.clock())
    recent = deque([last])  # since the sample one second ago
    for tick in count(1):
        pace.wait(tick / rate)
        now = _read(ps, pace.clock())
        if now.at <= last.at:  # a clock too coarse for the rate: no time has passed
            continue
        while len(recent) > 1 and now.at - recent[1].at >= second:
            recent.popleft()
        row = np.concatenate([_rates(last, now), now.measured, _rates(recent[0], now)[:1]])
        last = now._replace(row=row.astype(np.float32))
        recent.append(last)
        yield last


def _rates(before: Sample, now: Sample) -> Floats:
    """Return each counter's growth per second; 0 for a counter that was reset."""
    rates = np.maximum(now.counted - before.counted, 0) / (now.at - before.at)
    rates[:SHARES] = np.minimum(rates[:SHARES], 100)  # counted in ticks, it can be slightly more
    return rates


def _read(ps: Any, at: float) -> Sample:
    counted, measured = np.array(_counted(ps), np.float64), np.array(_measured(ps), np.float64)
    return Sample(at, counted, measured, np.empty(0, np.float32))


def _counted(ps: Any) -> list[float]:
    """Read the counters in their unit; a second of all cores' time counts 100."""
    cpu, stats = ps.cpu_times(), ps.cpu_stats()
    disk, net = ps.disk_io_counters(), ps.net_io_counters()  # None if there are none, as in a container
    iowait, guests = getattr(cpu, "iowait", 0.0), getattr(cpu, "guest", 0.0) + getattr(cpu, "guest_nice", 0.0)
    busy = sum(cpu) - cpu.idle - iowait - guests  # guests' time is in user and nice already
    return [
        *(100 * seconds / ps.cpu_count() for seconds in (busy, cpu.user, cpu.system, iowait)),
        *((disk.read_bytes / KILO, disk.write_bytes / KILO) if disk else (0.0, 0.0)),
        *((net.bytes_recv / KILO, net.bytes_sent / KILO) if net else (0.0, 0.0)),
        stats.ctx_switches,
        stats.interrupts,
    ]


def _measured(ps: Any) -> list[float]:
    memory = ps.virtual_memory()
    return [*ps.getloadavg(), memory.used / MEGA, memory.available / MEGA, ps.swap_memory().used / MEGA]
