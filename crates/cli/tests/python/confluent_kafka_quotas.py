"""confluent-kafka (librdkafka): a producer with a quota is told of it and slowed down; one without is not."""
import sys
import time

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

bootstrap = sys.argv[1]
admin = AdminClient({"bootstrap.servers": bootstrap})
admin.create_topics([NewTopic("orders", 1)])["orders"].result(10)


def write(client_id, count):
    """Ten kilobytes a record; how long it took, and the times to wait that the broker named."""
    told, errors = [], []
    producer = Producer({"bootstrap.servers": bootstrap, "client.id": client_id, "linger.ms": 0,
                         "batch.num.messages": 1, "throttle_cb": lambda event: told.append(event.throttle_time)})
    begun = time.time()
    for _ in range(count):
        producer.produce("orders", b"x" * 10_000, on_delivery=lambda error, _: error and errors.append(error))
    assert producer.flush(60) == 0 and not errors, errors
    producer.poll(0.5)
    return time.time() - begun, told


# 20,000 bytes a second, and ten seconds' worth at once: 240,000 take two seconds.
took, told = write("hasty", 24)
assert told and max(told) > 0.2, told
_, told = write("calm", 24)
assert not told, told
print("done")
