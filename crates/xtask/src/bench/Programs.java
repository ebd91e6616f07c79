import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.LongAdder;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Joined;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.KTable;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.kstream.WindowedSerdes;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.WindowStore;

/**
 * Kafka Streams' half of the four small programs that `cargo xtask bench streams` compares; ours is
 * `examples/streams-bench`. Both take the same arguments and say the same on standard output.
 */
public final class Programs {
    private static final Duration WINDOW = Duration.ofSeconds(10);
    private static final Duration GRACE = Duration.ofSeconds(5);
    private static final int KEPT = 50;
    private static final int ADDED = 8;
    private static final long REPORTS_MS = 10;

    private static final Serde<String> STRING = Serdes.String();
    private static final Serde<byte[]> BYTES = Serdes.ByteArray();
    private static final Serde<Long> LONG = Serdes.Long();

    private final LongAdder processed = new LongAdder();
    /** The last output of each key, where outputs are to be compared. */
    private final Map<String, Integer> last;

    private Programs(boolean verify) {
        last = verify ? new HashMap<>() : null;
    }

    public static void main(String[] arguments) throws InterruptedException {
        if (arguments.length != 10) {
            System.err.println("Programs takes PROGRAM BOOTSTRAP APPLICATION_ID INPUT TABLE OUTPUT STATE_DIR THREADS "
                + "GUARANTEE verify|measure");
            System.exit(2);
        }
        new Programs(arguments[9].equals("verify")).run(arguments);
    }

    private void run(String[] arguments) throws InterruptedException {
        Properties settings = new Properties();
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, arguments[1]);
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, arguments[2]);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, arguments[6]);
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, arguments[7]);
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, arguments[8]);
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, "100");
        // A source table's topic is its changelog, as ours has it.
        settings.put(StreamsConfig.TOPOLOGY_OPTIMIZATION_CONFIG, StreamsConfig.OPTIMIZE);

        StreamsBuilder builder = new StreamsBuilder();
        KStream<String, byte[]> input =
            builder.stream(arguments[3], Consumed.with(STRING, BYTES)).peek((key, value) -> processed.increment());
        build(arguments[0], builder, input, arguments[4], arguments[5]);

        KafkaStreams streams = new KafkaStreams(builder.build(settings), settings);
        CountDownLatch ended = new CountDownLatch(1);
        streams.setStateListener((now, before) -> {
            if (now == KafkaStreams.State.RUNNING) {
                System.out.println("running");
            } else if (now == KafkaStreams.State.ERROR || now == KafkaStreams.State.NOT_RUNNING) {
                ended.countDown();
            }
        });
        Thread reports = new Thread(this::report, "reports");
        reports.setDaemon(true);
        reports.start();
        Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
        streams.start();
        ended.await();
    }

    private void build(String program, StreamsBuilder builder, KStream<String, byte[]> input, String table, String output) {
        switch (program) {
            case "stateless" -> input
                .filter((key, value) -> value.length > 0 && value[0] % 2 == 0)
                .mapValues(value -> beginning(value, KEPT))
                .peek((key, value) -> output(key, Arrays.hashCode(value)))
                .to(output, Produced.with(STRING, BYTES));
            case "count" -> input
                .groupByKey(Grouped.with(STRING, BYTES))
                .count(Materialized.<String, Long, KeyValueStore<Bytes, byte[]>>as("counts"))
                .toStream()
                .peek((key, count) -> output(key, Long.hashCode(count)))
                .to(output, Produced.with(STRING, LONG));
            case "window" -> input
                .groupByKey(Grouped.with(STRING, BYTES))
                .windowedBy(TimeWindows.ofSizeAndGrace(WINDOW, GRACE))
                .aggregate(
                    () -> 0L,
                    (key, value, sum) -> sum + (value.length > 0 ? value[0] : 0),
                    Materialized.<String, Long, WindowStore<Bytes, byte[]>>as("sums").withValueSerde(LONG))
                .toStream()
                .peek((key, sum) -> output(key.key() + "@" + key.window().start(), Long.hashCode(sum)))
                .to(output, Produced.with(
                    new WindowedSerdes.TimeWindowedSerde<>(STRING, WINDOW.toMillis()), LONG));
            case "join" -> {
                KTable<String, byte[]> rows = builder.table(table, Consumed.with(STRING, BYTES),
                    Materialized.<String, byte[], KeyValueStore<Bytes, byte[]>>as("rows"));
                input
                    .join(rows, Programs::joined, Joined.with(STRING, BYTES, BYTES))
                    .peek((key, value) -> output(key, Arrays.hashCode(value)))
                    .to(output, Produced.with(STRING, BYTES));
            }
            default -> throw new IllegalArgumentException("no program is called " + program);
        }
    }

    private static byte[] beginning(byte[] value, int most) {
        return Arrays.copyOf(value, Math.min(value.length, most));
    }

    private static byte[] joined(byte[] value, byte[] row) {
        int added = Math.min(row.length, ADDED);
        byte[] both = Arrays.copyOf(value, value.length + added);
        System.arraycopy(row, 0, both, value.length, added);
        return both;
    }

    private void output(String key, int value) {
        if (last != null) {
            synchronized (last) {
                last.put(key, value);
            }
        }
    }

    private int digest() {
        int digest = 0;
        synchronized (last) {
            for (Map.Entry<String, Integer> entry : last.entrySet()) {
                digest += Arrays.hashCode(entry.getKey().getBytes(StandardCharsets.UTF_8)) * 31 + entry.getValue();
            }
        }
        return digest;
    }

    private void report() {
        long said = 0;
        int digest = 0;
        while (true) {
            try {
                Thread.sleep(REPORTS_MS);
            } catch (InterruptedException ending) {
                return;
            }
            long now = processed.sum();
            // What the record cache held back comes later.
            int digestNow = last == null ? 0 : digest();
            if (now != said || digestNow != digest) {
                if (last != null) {
                    System.out.println("digest " + now + " " + digestNow);
                }
                System.out.println("processed " + now);
                said = now;
                digest = digestNow;
            }
        }
    }
}
