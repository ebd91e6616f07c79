"""confluent-kafka (librdkafka) with group.protocol=consumer (KIP-848): three members, a broker restart, regex, static."""
import sys
import threading
import time

from confluent_kafka import Consumer, ConsumerGroupState, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

bootstrap = sys.argv[1]
AWAY = (KafkaError._TRANSPORT, KafkaError._WAIT_COORD, KafkaError._TIMED_OUT, KafkaError.STALE_MEMBER_EPOCH)
admin = AdminClient({"bootstrap.servers": bootstrap})


def create(name, partitions):
    admin.create_topics([NewTopic(name, partitions)])[name].result(10)


def until(claim, holds, seconds=40):
    deadline = time.time() + seconds
    while not holds():
        assert time.time() < deadline, claim
        time.sleep(0.05)


class Member(threading.Thread):
    """A consumer that reads and commits in its own thread."""

    def __init__(self, group, topics, **more):
        super().__init__(daemon=True)
        self.consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group, "group.protocol": "consumer",
                                  "auto.offset.reset": "earliest", "enable.auto.commit": False,
                                  "topic.metadata.refresh.interval.ms": 1000, **more})
        self.assigned, self.read, self.rebalances, self.going, self.failed = set(), [], 0, True, None
        self.consumer.subscribe(topics, on_assign=self.on_assign, on_revoke=self.on_revoke, on_lost=self.on_lost)
        self.start()

    def on_assign(self, consumer, partitions):
        self.rebalances += 1
        self.assigned |= {(p.topic, p.partition) for p in partitions}
        consumer.incremental_assign(partitions)

    def on_revoke(self, consumer, partitions):
        self.rebalances += 1
        self.assigned -= {(p.topic, p.partition) for p in partitions}
        consumer.incremental_unassign(partitions)

    def on_lost(self, consumer, partitions):
        self.failed = "lost its partitions"
        self.on_revoke(consumer, partitions)

    def run(self):
        try:
            self.read_all()
        except Exception as error:
            self.failed = error
        self.consumer.close()

    def read_all(self):
        while self.going:
            message = self.consumer.poll(0.1)
            if message is None:
                continue
            if message.error():
                # An expression or a name may match no topic yet, and the broker may be down.
                if message.error().fatal():
                    self.failed = str(message.error())
                continue
            self.read.append((message.topic(), message.partition(), message.offset()))
            try:
                self.consumer.commit(message, asynchronous=False)
            except KafkaException as error:
                # While the broker is away; what is read later commits this, too.
                assert error.args[0].code() in AWAY, error

    def stop(self):
        self.going = False
        self.join(30)
        assert not self.is_alive() and self.failed is None, self.failed


def produce(topic, count):
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})
    for n in range(count):
        producer.produce(topic, key=str(n), value=str(n))
    assert producer.flush(30) == 0


def shared(members, topic, partitions):
    together = [p for member in members for p in member.assigned]
    sizes = [len(member.assigned) for member in members]
    return sorted(together) == [(topic, n) for n in range(partitions)] and max(sizes) - min(sizes) <= 1


# Three members share six partitions and read everything once.
create("orders", 6)
produce("orders", 600)
members = [Member("readers", ["orders"]) for _ in range(3)]
until("three members share", lambda: shared(members, "orders", 6))
until("all is read", lambda: len({r for m in members for r in m.read}) == 600)

# The broker is killed and comes back: members go on without a rebalance, and nothing is read twice.
rebalances = [member.rebalances for member in members]
before = sum(len(member.read) for member in members)
print("restart", flush=True)
sys.stdin.readline()
produce("orders", 600)
until("all is read after a restart", lambda: len({r for m in members for r in m.read}) == 1200)
assert [member.rebalances for member in members] == rebalances, "nobody had to join again"
assert sum(len(member.read) for member in members) == before + 600, "nothing twice"

# As administrators see it.
listed = admin.list_consumer_groups().result(10)
assert [(g.group_id, g.state) for g in listed.valid] == [("readers", ConsumerGroupState.STABLE)], listed.valid

# One leaves; two share. More partitions come; two share them too.
members.pop().stop()
until("two members share", lambda: shared(members, "orders", 6))
admin.create_partitions([NewPartitions("orders", 8)])["orders"].result(10)
until("new partitions are shared", lambda: shared(members, "orders", 8))
for member in members:
    member.stop()

# What was committed counts for who comes later.
late = Member("readers", ["orders"])
until("one has all", lambda: shared([late], "orders", 8))
produce("orders", 10)
until("only what is new", lambda: len(late.read) >= 10)
assert len(late.read) == 10, len(late.read)
late.stop()

# A regular expression follows the topics that come and go; one that is none is refused.
create("pay-a", 2)
pattern = Member("payers", ["^pay-.*"])
until("the expression matches", lambda: pattern.assigned == {("pay-a", 0), ("pay-a", 1)})
create("pay-b", 1)
until("a new topic matches", lambda: ("pay-b", 0) in pattern.assigned)
admin.delete_topics(["pay-a"])["pay-a"].result(10)
until("a deleted topic is gone", lambda: pattern.assigned == {("pay-b", 0)})
pattern.stop()

# A static member comes back to its partitions; the other notices nothing.
create("fixed", 4)
one = Member("static", ["fixed"], **{"group.instance.id": "one"})
two = Member("static", ["fixed"], **{"group.instance.id": "two"})
until("two static members share", lambda: shared([one, two], "fixed", 4))
had, rebalances = set(one.assigned), two.rebalances
one.stop()
one = Member("static", ["fixed"], **{"group.instance.id": "one"})
until("it has what it had", lambda: one.assigned == had)
assert two.rebalances == rebalances, "the other member was disturbed"
two.stop()
one.stop()

# Classic and consumer protocol in one group: the classic member comes along, and goes on alone.
create("mixed", 4)
classic = Member("mixed", ["mixed"], **{"group.protocol": "classic", "partition.assignment.strategy": "cooperative-sticky",
                                        "heartbeat.interval.ms": 300, "session.timeout.ms": 6000})
until("a classic member alone", lambda: shared([classic], "mixed", 4))
modern = Member("mixed", ["mixed"])
until("both share", lambda: shared([classic, modern], "mixed", 4))
modern.stop()
until("the classic member alone again", lambda: shared([classic], "mixed", 4))
classic.stop()
print("done")
