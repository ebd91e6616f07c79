"""confluent-kafka (librdkafka): access rules made, found, met by a producer and a consumer, and deleted."""
import sys

from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka.admin import (AclBinding, AclBindingFilter, AclOperation, AclPermissionType, AdminClient, NewPartitions, NewTopic,
                                   ResourcePatternType, ResourceType)

bootstrap = sys.argv[1]
admin = AdminClient({"bootstrap.servers": bootstrap})
admin.create_topics([NewTopic("orders", 1)])["orders"].result(10)


def write():
    errors = []
    producer = Producer({"bootstrap.servers": bootstrap, "message.timeout.ms": 15000})
    producer.produce("orders", b"x", on_delivery=lambda error, message: errors.append(error and error.name()))
    producer.flush(20)
    return errors


assert write() == [None]
rule = AclBinding(ResourceType.TOPIC, "orders", ResourcePatternType.LITERAL, "User:alice", "*",
                  AclOperation.READ, AclPermissionType.ALLOW)
admin.create_acls([rule])[rule].result(10)
found = admin.describe_acls(AclBindingFilter(ResourceType.ANY, None, ResourcePatternType.ANY, None, None,
                                             AclOperation.ANY, AclPermissionType.ANY)).result(10)
assert found == [rule], found
assert write() == ["TOPIC_AUTHORIZATION_FAILED"]

deny = AclBinding(ResourceType.GROUP, "readers", ResourcePatternType.LITERAL, "User:*", "*",
                  AclOperation.READ, AclPermissionType.DENY)
admin.create_acls([deny])[deny].result(10)
consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "readers", "auto.offset.reset": "earliest"})
consumer.subscribe(["orders"])
message = consumer.poll(15)
assert message is not None and message.error().name() in ("GROUP_AUTHORIZATION_FAILED", "TOPIC_AUTHORIZATION_FAILED"), message
consumer.close()

try:
    admin.create_partitions([NewPartitions("orders", 3)])["orders"].result(10)
    raise SystemExit("growing a topic needs ALTER")
except KafkaException as error:
    assert error.args[0].name() == "TOPIC_AUTHORIZATION_FAILED", error

everything = AclBindingFilter(ResourceType.TOPIC, "orders", ResourcePatternType.MATCH, None, None,
                              AclOperation.ANY, AclPermissionType.ANY)
deleted = admin.delete_acls([everything])[everything].result(10)
assert deleted == [rule], deleted
assert write() == [None]
print("done")
