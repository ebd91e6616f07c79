"""confluent-kafka (librdkafka) on a topic that enforces schemas: registered by the registry's REST interface, written
by hand in Confluent's wire format, judged by the broker."""
import json
import struct
import sys
import urllib.request

from confluent_kafka import KafkaError, Producer, TopicPartition, Consumer
from confluent_kafka.admin import AdminClient, NewTopic

bootstrap, registry = sys.argv[1], sys.argv[2]
if not registry.startswith("http"):
    registry = "http://" + registry
admin = AdminClient({"bootstrap.servers": bootstrap})
topic = NewTopic("orders", 1, config={"confluent.value.schema.validation": "true"})
admin.create_topics([topic])["orders"].result(10)


def register(subject, schema):
    body = json.dumps({"schema": json.dumps(schema)}).encode()
    request = urllib.request.Request(f"{registry}/subjects/{subject}/versions", body,
                                     {"Content-Type": "application/vnd.schemaregistry.v1+json"})
    return json.load(urllib.request.urlopen(request))["id"]


def string(text):
    return bytes([2 * len(text)]) + text.encode()


def send(*values, codec="none"):
    """The distinct errors of the deliveries."""
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 50, "compression.type": codec})
    errors = []
    for value in values:
        producer.produce("orders", value=value, on_delivery=lambda error, _: errors.append(error and error.code()))
    assert producer.flush(20) == 0 and len(errors) == len(values), errors
    return set(errors)


def framed(schema_id, body):
    return struct.pack(">bI", 0, schema_id) + body


order = {"type": "record", "name": "Order", "fields": [{"name": "id", "type": "string"}]}
assert send(b"plain text") == {KafkaError.INVALID_RECORD}
other = register("other-value", "string")
assert send(framed(other, string("a"))) == {KafkaError.INVALID_RECORD}
assert send(framed(other + 1, string("a"))) == {KafkaError.INVALID_RECORD}
# What the registry has just answered for is accepted at once, under every codec.
mine = register("orders-value", order)
for codec in ["none", "gzip", "snappy", "lz4", "zstd"]:
    assert send(framed(mine, string("a")), None, codec=codec) == {None}, codec
    assert send(framed(mine, b"\x08a"), codec=codec) == {KafkaError.INVALID_RECORD}, codec
wider = dict(order, fields=order["fields"] + [{"name": "note", "type": "string", "default": ""}])
second = register("orders-value", wider)
assert send(framed(second, string("b") + string("note"))) == {None}
reader = Consumer({"bootstrap.servers": bootstrap, "group.id": "checker"})
assert reader.get_watermark_offsets(TopicPartition("orders", 0), 10) == (0, 11), "nothing of a refused batch"
reader.close()
print("done")
