"""A trainer in a separate process, which a test can kill; its one argument is JSON."""

import json
import sys
from pathlib import Path

import oracles
from filling import settings_of
from oracles import Counting, Fatal

from streaming_nn.spark.session import session
from streaming_nn.spark.train.executor import executor_for
from streaming_nn.spark.train.trainer import Trainer


def main() -> None:
    asked = json.loads(sys.argv[1])
    settings = settings_of(
        asked["kafka"],
        Path(asked["model"]),
        asked["topic"],
        records={"inputs": 1, "classes": [0, 1]},
        learner={},
        train={"max_offsets_per_trigger": asked["limit"]},
    )
    spark = session({"spark.master": asked.get("master", "local[2]")})
    spark.sparkContext.addPyFile(oracles.__file__)
    records = asked["records"]
    trainer = Trainer.open(spark,
        settings,
        Fatal(records, marker=asked["marker"]) if "marker" in asked else Counting(records),
        executor_for(spark, asked.get("driver_records")),
    )
    trainer.start()
    print("begun", flush=True)
    trainer.wait()
    print("learned", flush=True)


if __name__ == "__main__":
    main()
