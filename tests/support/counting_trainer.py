"""A trainer in a separate process, which a test can kill; its one argument is JSON."""

import json
import sys
from pathlib import Path

import oracles
from kafka_topics import settings_of
from oracles import Counting, Fatal

from streaming_nn.spark.session import session
from streaming_nn.spark.train.executor import executor_for
from streaming_nn.spark.train.trainer import Trainer


def main() -> None:
    options = json.loads(sys.argv[1])
    settings = settings_of(
        options["kafka"],
        Path(options["model"]),
        options["topic"],
        records={"inputs": 1, "classes": [0, 1]},
        learner={},
        train={"max_offsets_per_trigger": options["limit"]},
    )
    spark = session({"spark.master": options.get("master", "local[2]")})
    spark.sparkContext.addPyFile(oracles.__file__)
    records = options["records"]
    trainer = Trainer.open(
        spark,
        settings,
        Fatal(records, marker=options["marker"]) if "marker" in options else Counting(records),
        executor_for(spark, options.get("driver_records")),
    )
    trainer.start()
    print("started", flush=True)
    trainer.wait()
    print("learned", flush=True)


if __name__ == "__main__":
    main()
