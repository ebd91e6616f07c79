import java.io.BufferedReader;
import java.io.FileReader;
import java.io.InputStreamReader;
import java.time.Duration;
import java.util.*;
import java.util.stream.Collectors;

import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.*;
import org.apache.kafka.streams.*;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler;
import org.apache.kafka.streams.kstream.*;

/**
 * A word count over Kafka Streams with group.protocol=streams (KIP-1071), and its driver.
 *
 * app BOOTSTRAP STATE_DIR [FILE]: counts until its standard input ends; tells its state and its tasks.
 * drive BOOTSTRAP LINES [FILE]: writes lines, asks for trouble on the way, and ends when every count is exact.
 *
 * FILE has settings that go before these.
 */
public class StreamsApplication {
    static final List<String> WORDS = List.of("alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel");

    public static void main(String[] args) throws Exception {
        switch (args[0]) {
            case "app" -> application(args[1], args[2], more(args));
            case "drive" -> drive(args[1], Integer.parseInt(args[2]), more(args));
            default -> throw new IllegalArgumentException(args[0]);
        }
    }

    static Map<String, Object> more(String[] args) throws Exception {
        Properties file = new Properties();
        if (args.length > 3) {
            try (FileReader reader = new FileReader(args[3])) {
                file.load(reader);
            }
        }
        Map<String, Object> more = new HashMap<>();
        file.forEach((key, value) -> more.put(key.toString(), value));
        return more;
    }

    static synchronized void say(String line) {
        System.out.println(line);
        System.out.flush();
    }

    static void application(String bootstrap, String stateDir, Map<String, Object> more) throws Exception {
        Properties config = new Properties();
        config.put("bootstrap.servers", bootstrap);
        config.put("application.id", "wordcount");
        config.put("group.protocol", "streams");
        config.put("processing.guarantee", "exactly_once_v2");
        config.put("commit.interval.ms", "100");
        config.put("num.stream.threads", "2");
        config.put("state.dir", stateDir);
        config.put("application.server", "localhost:" + (1024 + Math.abs(stateDir.hashCode() % 60000)));
        config.put("statestore.cache.max.bytes", "0");
        config.put("default.key.serde", Serdes.StringSerde.class);
        config.put("default.value.serde", Serdes.StringSerde.class);
        config.put("auto.offset.reset", "earliest");
        config.putAll(more);
        StreamsBuilder builder = new StreamsBuilder();
        builder.<String, String>stream("lines")
            .flatMapValues(line -> Arrays.asList(line.split(" ")))
            .groupBy((key, word) -> word)
            .count(Materialized.as("words"))
            .toStream()
            .to("counts", Produced.with(Serdes.String(), Serdes.Long()));
        KafkaStreams streams = new KafkaStreams(builder.build(), config);
        streams.setStateListener((now, before) -> say("state " + now));
        streams.setUncaughtExceptionHandler(failure -> {
            say("failed " + failure);
            return StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse.REPLACE_THREAD;
        });
        streams.start();
        Thread watcher = new Thread(() -> watch(streams));
        watcher.setDaemon(true);
        watcher.start();
        new BufferedReader(new InputStreamReader(System.in)).readLine();
        streams.close(Duration.ofSeconds(30));
        say("closed");
    }

    static void watch(KafkaStreams streams) {
        String told = "";
        while (true) {
            String tasks = streams.metadataForLocalThreads().stream()
                .flatMap(thread -> thread.activeTasks().stream())
                .map(task -> task.taskId().toString()).sorted().collect(Collectors.joining(","));
            if (!tasks.equals(told)) say("tasks " + tasks);
            told = tasks;
            try {
                Thread.sleep(100);
            } catch (InterruptedException over) {
                return;
            }
        }
    }

    static void drive(String bootstrap, int lines, Map<String, Object> more) throws Exception {
        Map<String, Object> config = new HashMap<>(Map.of("bootstrap.servers", bootstrap, "acks", "all",
            "enable.idempotence", "true", "delivery.timeout.ms", "120000", "linger.ms", "5"));
        config.putAll(more);
        Map<String, Long> expected = new TreeMap<>();
        Random random = new Random(7);
        try (Producer<String, String> producer =
                 new KafkaProducer<>(config, new StringSerializer(), new StringSerializer())) {
            for (int line = 0; line < lines; line++) {
                if (line == lines / 4) say("kill the application");
                if (line == lines / 2) say("kill the broker");
                String text = random.ints(3, 0, WORDS.size()).mapToObj(WORDS::get).collect(Collectors.joining(" "));
                for (String word : text.split(" ")) expected.merge(word, 1L, Long::sum);
                int number = line;
                producer.send(new ProducerRecord<>("lines", "" + line, text), (done, failure) -> {
                    if (failure != null) say("line " + number + " " + failure);
                });
                Thread.sleep(5);
            }
        }
        say("written");
        config = new HashMap<>(Map.of("bootstrap.servers", bootstrap, "isolation.level", "read_committed"));
        config.putAll(more);
        Map<String, Long> counts = new TreeMap<>();
        Map<String, Long> records = new TreeMap<>();
        long end = System.nanoTime() + Duration.ofSeconds(120).toNanos();
        try (KafkaConsumer<String, Long> consumer =
                 new KafkaConsumer<>(config, new StringDeserializer(), new LongDeserializer())) {
            List<TopicPartition> partitions = consumer.partitionsFor("counts").stream()
                .map(info -> new TopicPartition("counts", info.partition())).toList();
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            while (!counts.equals(expected)) {
                if (System.nanoTime() > end) {
                    say("wrong: " + counts + " is not " + expected);
                    System.exit(1);
                }
                for (ConsumerRecord<String, Long> record : consumer.poll(Duration.ofMillis(200))) {
                    long before = counts.getOrDefault(record.key(), 0L);
                    if (record.value() != before + 1) {
                        say("wrong: " + record.key() + " goes from " + before + " to " + record.value());
                        System.exit(1);
                    }
                    counts.put(record.key(), record.value());
                    records.merge(record.key(), 1L, Long::sum);
                }
            }
        }
        say("exact " + counts);
    }
}
