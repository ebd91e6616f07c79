"""Confluent's serializer over SASL_SSL and HTTPS: schemas registered and read with a user and a password, and only so."""
import sys

from confluent_kafka import DeserializingConsumer, SerializingProducer
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.error import SchemaRegistryError

bootstrap, registry, ca = sys.argv[1:]
SCHEMA = '{"type":"record","name":"Order","fields":[{"name":"id","type":"int"}]}'


def schemas(user, password):
    return SchemaRegistryClient({"url": registry, "ssl.ca.location": ca,
                                 "basic.auth.user.info": f"{user}:{password}"})


def login(user, password):
    return {"bootstrap.servers": bootstrap, "security.protocol": "SASL_SSL", "ssl.ca.location": ca,
            "sasl.mechanism": "SCRAM-SHA-512", "sasl.username": user, "sasl.password": password}


def refusal(client):
    try:
        client.register_schema("orders-value", Schema(SCHEMA, "AVRO"))
    except SchemaRegistryError as error:
        return error.http_status_code, error.error_code
    raise AssertionError("it was let in")


producer = SerializingProducer({**login("bob", "builder"),
                                "value.serializer": AvroSerializer(schemas("bob", "builder"), SCHEMA)})
for n in range(100):
    producer.produce("orders", value={"id": n})
assert producer.flush(30) == 0
consumer = DeserializingConsumer({**login("bob", "builder"), "group.id": "readers", "auto.offset.reset": "earliest",
                                  "value.deserializer": AvroDeserializer(schemas("bob", "builder"))})
consumer.subscribe(["orders"])
seen = []
while len(seen) < 100:
    message = consumer.poll(20)
    assert message is not None, f"{len(seen)} of 100"
    if not message.error():
        seen.append(message.value()["id"])
consumer.close()
assert seen == list(range(100)), seen

assert refusal(schemas("bob", "guess")) == (401, 40101), refusal(schemas("bob", "guess"))
assert refusal(schemas("eve", "eve")) == (403, 40301), refusal(schemas("eve", "eve"))
print("done")
