import java.time.Duration;
import java.time.Instant;
import java.util.*;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;

import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.*;

/**
 * Kafka's own Java clients that note a history for headwater-history.
 *
 * History BOOTSTRAP FIRST COUNT TRANSACTIONAL TOTAL SEED: as many threads as COUNT, each one process; the processes
 * whose number TRANSACTIONAL divides use transactions. Events go to standard output; the end of standard input ends it.
 */
public class History {
    static final String SHARED = "shared", OWN = "own";
    static final int SHARED_PARTITIONS = 3;
    static volatile boolean going = true;

    record Sent(TopicPartition place, long value) {}

    static class Process extends Thread {
        final int number, total;
        final boolean transactional;
        final String bootstrap, name;
        final Random random;
        long op, value;
        boolean fresh;
        KafkaProducer<byte[], byte[]> producer;
        KafkaConsumer<byte[], byte[]> consumer;

        Process(int number, boolean transactional, int total, String bootstrap, long seed) {
            this.number = number;
            this.transactional = transactional;
            this.total = total;
            this.bootstrap = bootstrap;
            this.name = "java-" + number;
            this.random = new Random(seed * 1000 + number);
        }

        void note(long op, String kind, List<String> steps) {
            synchronized (System.out) {
                Instant now = Instant.now();
                long time = now.getEpochSecond() * 1_000_000_000L + now.getNano();
                String more = steps.isEmpty() ? "" : ",\"steps\":[" + String.join(",", steps) + "]";
                System.out.println("{\"process\":\"" + name + "\",\"op\":" + op + ",\"time\":" + time
                    + ",\"kind\":\"" + kind + "\"" + more + "}");
            }
        }

        void open() {
            Map<String, Object> config = new HashMap<>(Map.of("bootstrap.servers", bootstrap, "linger.ms", "1",
                "batch.size", "120", "request.timeout.ms", "2000", "delivery.timeout.ms", "20000",
                "max.block.ms", "20000", "reconnect.backoff.max.ms", "500", "enable.metrics.push", "false"));
            if (transactional) {
                config.put("transactional.id", "faults-" + number);
                config.put("transaction.timeout.ms", "30000");
            }
            producer = new KafkaProducer<>(config, new ByteArraySerializer(), new ByteArraySerializer());
            if (transactional) producer.initTransactions();
            consumer = new KafkaConsumer<>(Map.of("bootstrap.servers", bootstrap, "isolation.level", "read_committed",
                "enable.auto.commit", "false", "auto.offset.reset", "earliest", "fetch.max.wait.ms", "100",
                "request.timeout.ms", "2000", "default.api.timeout.ms", "20000", "reconnect.backoff.max.ms", "500",
                "enable.metrics.push", "false"), new ByteArrayDeserializer(), new ByteArrayDeserializer());
            List<TopicPartition> all = new ArrayList<>();
            for (int at = 0; at < SHARED_PARTITIONS; at++) all.add(new TopicPartition(SHARED, at));
            for (int at = 0; at < total; at++) all.add(new TopicPartition(OWN, at));
            consumer.assign(all);
            consumer.seekToBeginning(all);
            fresh = true;
        }

        void close() {
            if (producer != null) producer.close(Duration.ofSeconds(1));
            if (consumer != null) consumer.close(CloseOptions.timeout(Duration.ofSeconds(1)));
            producer = null;
            consumer = null;
        }

        List<Sent> values() {
            List<Sent> values = new ArrayList<>();
            int places = 1 + random.nextInt(3);
            for (int at = 0; at < places; at++) {
                boolean own = random.nextInt(3) == 0;
                var place = own ? new TopicPartition(OWN, number)
                    : new TopicPartition(SHARED, random.nextInt(SHARED_PARTITIONS));
                int count = 1 + random.nextInt(3);
                for (int n = 0; n < count; n++) values.add(new Sent(place, (number + 1L) << 32 | ++value));
            }
            return values;
        }

        static String step(Sent sent, long offset) {
            return "{\"send\":{\"key\":\"" + sent.place.topic() + "/" + sent.place.partition() + "\",\"value\":"
                + sent.value + (offset < 0 ? "" : ",\"offset\":" + offset) + "}}";
        }

        long begin(List<Sent> values) {
            note(op, "invoke", values.stream().map(sent -> step(sent, -1)).toList());
            return op++;
        }

        /** Adds steps with the offsets that are known; whether all of them are. */
        boolean deliver(List<Sent> values, List<String> steps) throws InterruptedException {
            List<Future<RecordMetadata>> waiting = new ArrayList<>();
            boolean whole = true;
            for (Sent sent : values) {
                byte[] bytes = Long.toString(sent.value).getBytes();
                try {
                    waiting.add(producer.send(new ProducerRecord<>(sent.place.topic(), sent.place.partition(), null, bytes)));
                } catch (KafkaException error) {
                    waiting.add(null);
                }
            }
            for (int at = 0; at < values.size(); at++) {
                long offset = -1;
                try {
                    if (waiting.get(at) == null) whole = false;
                    else offset = waiting.get(at).get().offset();
                } catch (ExecutionException error) {
                    whole = false;
                }
                steps.add(step(values.get(at), offset));
            }
            return whole;
        }

        List<String> polled() {
            List<String> steps = new ArrayList<>();
            var found = consumer.poll(Duration.ofMillis(60));
            if (fresh) steps.add("{\"assign\":{}}");
            fresh = false;
            for (TopicPartition place : found.partitions()) {
                List<String> records = new ArrayList<>();
                for (var record : found.records(place)) records.add("[" + record.offset() + "," + new String(record.value()) + "]");
                steps.add("{\"poll\":{\"key\":\"" + place.topic() + "/" + place.partition() + "\",\"records\":["
                    + String.join(",", records) + "]}}");
            }
            return steps;
        }

        /** The number of the operation becomes the position in the process's own partition. */
        boolean commitPosition(long op, List<String> steps) {
            String group = "faults-" + number;
            try {
                var offsets = Map.of(new TopicPartition(OWN, number), new OffsetAndMetadata(op + 1));
                producer.sendOffsetsToTransaction(offsets, new ConsumerGroupMetadata(group));
            } catch (KafkaException error) {
                return false;
            }
            steps.add("{\"position\":{\"group\":\"" + group + "\",\"key\":\"" + OWN + "/" + number
                + "\",\"offset\":" + (op + 1) + "}}");
            return true;
        }

        boolean transaction() throws InterruptedException {
            producer.beginTransaction();
            List<Sent> values = values();
            long op = begin(values);
            List<String> steps = new ArrayList<>();
            boolean whole = deliver(values, steps);
            if (whole && random.nextBoolean()) steps.addAll(polled());
            if (whole && random.nextBoolean()) whole = commitPosition(op, steps);
            note(op, "ending", List.of());
            boolean aborts = !whole || random.nextInt(5) == 0;
            try {
                if (aborts) producer.abortTransaction();
                else producer.commitTransaction();
            } catch (KafkaException error) {
                note(op, "info", steps);
                return false;
            }
            note(op, aborts ? "fail" : "ok", steps);
            return true;
        }

        boolean send() throws InterruptedException {
            List<Sent> values = values();
            long op = begin(values);
            List<String> steps = new ArrayList<>();
            boolean whole = deliver(values, steps);
            note(op, whole ? "ok" : "info", steps);
            return whole;
        }

        @Override
        public void run() {
            boolean open = false;
            while (going) {
                try {
                    if (!open) {
                        close();
                        open();
                    }
                    if (random.nextInt(4) == 0) {
                        note(op, "invoke", List.of());
                        note(op++, "ok", polled());
                        open = true;
                    } else {
                        open = transactional ? transaction() : send();
                    }
                } catch (KafkaException error) {
                    System.err.println(name + ": " + error);
                    open = false;
                } catch (InterruptedException error) {
                    return;
                }
            }
            close();
        }
    }

    public static void main(String[] words) throws Exception {
        int first = Integer.parseInt(words[1]), count = Integer.parseInt(words[2]);
        int transactional = Integer.parseInt(words[3]), total = Integer.parseInt(words[4]);
        long seed = Long.parseLong(words[5]);
        List<Process> all = new ArrayList<>();
        for (int number = first; number < first + count; number++) {
            boolean in = transactional > 0 && number % transactional == 0;
            all.add(new Process(number, in, total, words[0], seed));
        }
        all.forEach(process -> process.setDaemon(true));
        all.forEach(Thread::start);
        System.in.readAllBytes();
        going = false;
        for (Process process : all) process.join(60_000);
        System.err.println(all.stream().anyMatch(Thread::isAlive) ? "left" : "done");
        System.exit(0);
    }
}
