"""confluent-kafka (librdkafka) on SASL_SSL: users made by the admin client, who then write and read."""
import sys

from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka.admin import (AdminClient, ScramCredentialInfo, ScramMechanism, UserScramCredentialDeletion,
                                   UserScramCredentialUpsertion)

bootstrap, ca = sys.argv[1:]


def login(user, password, mechanism="SCRAM-SHA-256"):
    return {"bootstrap.servers": bootstrap, "security.protocol": "SASL_SSL", "ssl.ca.location": ca,
            "sasl.mechanism": mechanism, "sasl.username": user, "sasl.password": password}


admin = AdminClient(login("alice", "wonderland"))
info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 8192)
admin.alter_user_scram_credentials([UserScramCredentialUpsertion("carol", info, b"secret")])["carol"].result(10)
described = admin.describe_user_scram_credentials(["carol"])["carol"].result(10)
assert [(one.mechanism, one.iterations) for one in described.scram_credential_infos] == [
    (ScramMechanism.SCRAM_SHA_512, 8192)], described

carol = login("carol", "secret", "SCRAM-SHA-512")
errors = []
producer = Producer(carol)
for n in range(1000):
    producer.produce("users", key=str(n), value=str(n), on_delivery=lambda error, _: error and errors.append(error))
assert producer.flush(20) == 0 and not errors, errors
consumer = Consumer({**carol, "group.id": "readers", "auto.offset.reset": "earliest"})
consumer.subscribe(["users"])
seen = 0
while seen < 1000:
    batch = consumer.consume(1000, 10)
    assert batch, f"{seen} of 1000"
    seen += sum(not message.error() for message in batch)
consumer.close()

admin.alter_user_scram_credentials(
    [UserScramCredentialDeletion("carol", ScramMechanism.SCRAM_SHA_512)])["carol"].result(10)
try:
    admin.describe_user_scram_credentials(["carol"])["carol"].result(10)
    raise SystemExit("carol is still there")
except KafkaException as error:
    assert error.args[0].name() == "RESOURCE_NOT_FOUND", error
print("done")
