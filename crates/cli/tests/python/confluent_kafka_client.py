"""confluent-kafka (librdkafka): transactions with offsets, read_committed, groups, admin, errors."""
import sys
import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic

bootstrap = sys.argv[1]
admin = AdminClient({"bootstrap.servers": bootstrap})
for name, future in admin.create_topics([NewTopic("in", 2), NewTopic("out", 2, config={"cleanup.policy": "compact"})]).items():
    future.result(10)
try:
    admin.create_topics([NewTopic("in", 2)])["in"].result(10)
    raise SystemExit("creating a topic twice must fail")
except KafkaException as error:
    assert error.args[0].name() == "TOPIC_ALREADY_EXISTS", error
config = list(admin.describe_configs([ConfigResource("topic", "out")]).values())[0].result(10)
assert config["cleanup.policy"].value == "compact", config["cleanup.policy"]

producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 5})
errors = []
for n in range(1000):
    producer.produce("in", key=str(n), value=str(n), on_delivery=lambda error, message: error and errors.append(error))
assert producer.flush(20) == 0 and not errors, errors

consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "copier", "auto.offset.reset": "earliest",
                     "enable.auto.commit": False, "isolation.level": "read_committed"})
consumer.subscribe(["in"])
writer = Producer({"bootstrap.servers": bootstrap, "transactional.id": "copier-1"})
writer.init_transactions(20)
copied, deadline, turn = 0, time.time() + 60, 0
while copied < 1000 and time.time() < deadline:
    batch = consumer.consume(100, 2)
    if not batch:
        continue
    turn += 1
    assert all(not message.error() for message in batch)
    writer.begin_transaction()
    for message in batch:
        writer.produce("out", key=message.key(), value=b"copy " + message.value())
    writer.send_offsets_to_transaction(consumer.position(consumer.assignment()), consumer.consumer_group_metadata(), 10)
    if turn % 3 == 1:
        # Thrown away: nothing of it may be seen, and the offsets stay.
        writer.abort_transaction(10)
        for place in consumer.committed(consumer.assignment(), 10):
            consumer.seek(TopicPartition(place.topic, place.partition, max(place.offset, 0)))
        continue
    writer.commit_transaction(20)
    copied += len(batch)
assert copied == 1000, copied
consumer.close()

reader = Consumer({"bootstrap.servers": bootstrap, "group.id": "checker", "auto.offset.reset": "earliest",
                   "isolation.level": "read_committed", "enable.partition.eof": True})
reader.subscribe(["out"])
values, ends, deadline = [], 0, time.time() + 30
while ends < 2 and time.time() < deadline:
    message = reader.poll(1)
    if message is None:
        continue
    if message.error():
        ends += 1
        continue
    values.append(message.value())
assert sorted(values) == sorted(b"copy %d" % n for n in range(1000)), len(values)
reader.close()

# A zombie with the same transactional id is fenced.
successor = Producer({"bootstrap.servers": bootstrap, "transactional.id": "copier-1"})
successor.init_transactions(20)
writer.begin_transaction()
try:
    writer.produce("out", key=b"zombie", value=b"zombie")
    writer.commit_transaction(20)
    raise SystemExit("the zombie committed")
except KafkaException as error:
    assert error.args[0].fatal() or error.args[0].txn_requires_abort(), error
print("done")
