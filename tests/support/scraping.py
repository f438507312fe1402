"""Scrape a job, as Prometheus does."""

import urllib.error
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

from streaming_nn.sinks.prometheus import Server

Samples = dict[tuple[str, tuple[str, ...]], float]


class Running(Server):
    """A server on a free port, and its URL."""

    def __init__(self, address: str = "127.0.0.1:0") -> None:
        super().__init__(address)
        self.url = self.start()


def get(server: Running, path: str) -> tuple[int, str]:
    """Return the status and the body of a page."""
    try:
        with urllib.request.urlopen(server.url + path, timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def samples(text: str) -> Samples:
    """Return the values by the sample's name without our prefix, and its labels' values, sorted by label."""
    return {
        (
            sample.name.removeprefix("streaming_nn_"),
            tuple(value for _, value in sorted(sample.labels.items())),
        ): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scrape(server: Running) -> Samples:
    """Return the samples of /metrics."""
    status, text = get(server, "/metrics")
    assert status == 200
    return samples(text)
