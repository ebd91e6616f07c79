"""Clients of librdkafka (confluent-kafka) that note a history for headwater-history.

history.py BOOTSTRAP FIRST COUNT TRANSACTIONAL TOTAL SEED: as many threads as COUNT, each one process; the processes
whose number TRANSACTIONAL divides use transactions. Events go to standard output; the end of standard input ends it.
"""

import json
import random
import sys
import threading
import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

SHARED, SHARED_PARTITIONS, OWN = "shared", 3, "own"
writing = threading.Lock()
stop = threading.Event()

class Process:
    def __init__(self, number, transactional, total, bootstrap, seed):
        self.number, self.transactional, self.bootstrap = number, transactional, bootstrap
        self.name = f"librdkafka-{number}"
        self.random = random.Random(seed * 1000 + number)
        self.op = self.value = 0
        self.keys = [(SHARED, p) for p in range(SHARED_PARTITIONS)] + [(OWN, p) for p in range(total)]
        self.producer = self.consumer = None

    def note(self, op, kind, steps=()):
        event = {"process": self.name, "op": op, "time": 0, "kind": kind}
        if steps:
            event["steps"] = list(steps)
        with writing:
            event["time"] = time.time_ns()
            sys.stdout.write(json.dumps(event) + "\n")
            sys.stdout.flush()

    def begin(self, steps=()):
        op = self.op
        self.op += 1
        self.note(op, "invoke", steps)
        return op

    def open(self):
        config = {
            "bootstrap.servers": self.bootstrap,
            "enable.idempotence": True,
            "linger.ms": 1,
            "batch.num.messages": 2,
            "delivery.timeout.ms": 20000,
            "socket.timeout.ms": 2000,
            "reconnect.backoff.max.ms": 500,
        }
        if self.transactional:
            config |= {"transactional.id": f"faults-{self.number}", "transaction.timeout.ms": 30000}
        self.producer = Producer(config, logger=None)
        if self.transactional:
            self.producer.init_transactions(20)
        self.consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": f"faults-{self.number}",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "isolation.level": "read_committed",
                "fetch.wait.max.ms": 100,
                "socket.timeout.ms": 2000,
                "reconnect.backoff.max.ms": 500,
            }
        )
        self.consumer.assign([TopicPartition(topic, p, 0) for topic, p in self.keys])
        self.fresh = True

    def close(self):
        if self.consumer:
            self.consumer.close()
        self.producer = self.consumer = None

    def values(self):
        values = []
        for _ in range(self.random.randint(1, 3)):
            own = self.random.randrange(3) == 0
            place = (OWN, self.number) if own else (SHARED, self.random.randrange(SHARED_PARTITIONS))
            for _ in range(self.random.randint(1, 3)):
                self.value += 1
                values.append((*place, (self.number + 1) << 32 | self.value))
        return values

    def deliver(self, values):
        """Steps with the offsets that are known, and whether all of them are."""
        offsets = {}

        def told(error, message):
            if error is None:
                offsets[int(message.value())] = message.offset()

        failed = None
        for topic, partition, value in values:
            try:
                self.producer.produce(topic, str(value).encode(), partition=partition, on_delivery=told)
            except (KafkaException, BufferError) as error:
                failed = error
        try:
            self.producer.flush(25)
        except KafkaException as error:
            failed = error
        return steps(values, offsets), failed is None and len(offsets) == len(values)

    def polled(self):
        records = {}
        for message in self.consumer.consume(50, 0.06):
            if message.error() is None:
                place = f"{message.topic()}/{message.partition()}"
                records.setdefault(place, []).append([message.offset(), int(message.value())])
        found = [{"assign": {}}] if self.fresh else []
        self.fresh = False
        return found + [{"poll": {"key": key, "records": list_}} for key, list_ in records.items()]

    def poll(self):
        op = self.begin()
        self.note(op, "ok", self.polled())

    def send(self):
        values = self.values()
        op = self.begin(steps(values))
        done, whole = self.deliver(values)
        self.note(op, "ok" if whole else "info", done)
        return whole

    def transaction(self):
        self.producer.begin_transaction()
        values = self.values()
        op = self.begin(steps(values))
        done, whole = self.deliver(values)
        if whole and self.random.random() < 0.5:
            done += self.polled()
        self.note(op, "ending")
        aborts = not whole or self.random.random() < 0.2
        try:
            if aborts:
                self.producer.abort_transaction(25)
            else:
                self.producer.commit_transaction(25)
        except KafkaException:
            self.note(op, "info", done)
            return False
        self.note(op, "fail" if aborts else "ok", done)
        return True

    def run(self):
        going = False
        while not stop.is_set():
            try:
                if not going:
                    self.close()
                    self.open()
                if self.random.randrange(4) == 0:
                    self.poll()
                    going = True
                else:
                    going = self.transaction() if self.transactional else self.send()
            except KafkaException as error:
                print(f"{self.name}: {error}", file=sys.stderr)
                going = False
                time.sleep(0.1)
        self.close()

def steps(values, offsets=None):
    sends = []
    for topic, partition, value in values:
        send = {"key": f"{topic}/{partition}", "value": value}
        offset = (offsets or {}).get(value, -1)
        if offset >= 0:
            send["offset"] = offset
        sends.append({"send": send})
    return sends

def main():
    bootstrap, first, count, transactional, total, seed = sys.argv[1], *map(int, sys.argv[2:7])
    numbers = range(first, first + count)
    processes = [
        Process(n, transactional > 0 and n % transactional == 0, total, bootstrap, seed) for n in numbers
    ]
    threads = [threading.Thread(target=process.run, daemon=True) for process in processes]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    stop.set()
    for thread in threads:
        thread.join(60)
    print("left" if any(thread.is_alive() for thread in threads) else "done", file=sys.stderr)

main()
