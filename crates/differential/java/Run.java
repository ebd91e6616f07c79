import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.time.Instant;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeaders;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.TestInputTopic;
import org.apache.kafka.streams.TestOutputTopic;
import org.apache.kafka.streams.TopologyTestDriver;
import org.apache.kafka.streams.state.BuiltInDslStoreSuppliers;
import org.apache.kafka.streams.test.TestRecord;

/** One case: its topology, its events, and what came out after each of them. */
final class Run {
    private Run() {
    }

    static ObjectNode run(final ObjectMapper json, final JsonNode asked) {
        final ObjectNode answer = json.createObjectNode().put("id", asked.get("id").asLong());
        run(asked, answer.putArray("out"), false);
        if (asked.get("bare").asBoolean()) {
            run(asked, answer.putArray("bare"), true);
        }
        return answer;
    }

    private static void run(final JsonNode asked, final ArrayNode out, final boolean bare) {
        final Build build = new Build(bare);
        asked.get("steps").forEach(build::add);
        try (TopologyTestDriver driver =
                 new TopologyTestDriver(build.builder.build(settings()), settings(), Instant.EPOCH)) {
            final Map<String, TestInputTopic<byte[], byte[]>> topics = new HashMap<>();
            final Map<String, TestOutputTopic<byte[], byte[]>> sinks = new LinkedHashMap<>();
            for (final String topic : build.sinks) {
                sinks.put(topic,
                    driver.createOutputTopic(topic, new ByteArrayDeserializer(), new ByteArrayDeserializer()));
            }
            int place = 0;
            for (final JsonNode event : asked.get("events")) {
                if (event.has("wall")) {
                    driver.advanceWallClockTime(Duration.ofMillis(event.get("wall").asLong()));
                } else {
                    topics.computeIfAbsent(event.get("topic").asText(), name ->
                        driver.createInputTopic(name, new ByteArraySerializer(), new ByteArraySerializer()))
                        .pipeInput(record(event));
                }
                for (final Map.Entry<String, TestOutputTopic<byte[], byte[]>> sink : sinks.entrySet()) {
                    while (!sink.getValue().isEmpty()) {
                        written(out.addArray(), place, sink.getKey(), sink.getValue().readRecord());
                    }
                }
                place++;
            }
        }
    }

    private static TestRecord<byte[], byte[]> record(final JsonNode event) {
        final RecordHeaders headers = new RecordHeaders();
        if (event.hasNonNull("header")) {
            headers.add("h", event.get("header").asText().getBytes(StandardCharsets.UTF_8));
        }
        return new TestRecord<>(bytes(event.get("key")), bytes(event.get("value")), headers, event.get("at").asLong());
    }

    private static byte[] bytes(final JsonNode text) {
        return text == null || text.isNull() ? null : text.asText().getBytes(StandardCharsets.UTF_8);
    }

    private static String text(final byte[] bytes) {
        return bytes == null ? null : new String(bytes, StandardCharsets.UTF_8);
    }

    private static void written(
        final ArrayNode row, final int place, final String topic, final TestRecord<byte[], byte[]> record
    ) {
        final StringBuilder headers = new StringBuilder();
        for (final Header header : record.headers()) {
            headers.append(header.key()).append('=').append(text(header.value())).append(';');
        }
        row.add(place).add(topic).add(text(record.key())).add(text(record.value())).add(record.timestamp())
            .add(headers.toString());
    }

    /** Every update is forwarded at once: no caches, and results of closed windows without a pause between them. */
    private static Properties settings() {
        final Properties settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, "differential-" + Thread.currentThread().getId());
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, "nowhere:1");
        settings.put(StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, Serdes.StringSerde.class);
        settings.put(StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG, Serdes.StringSerde.class);
        settings.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 0L);
        settings.put(StreamsConfig.DSL_STORE_SUPPLIERS_CLASS_CONFIG,
            BuiltInDslStoreSuppliers.InMemoryDslStoreSuppliers.class);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, System.getProperty("headwater.state"));
        settings.put("__emit.interval.ms.kstreams.outer.join.spurious.results.fix__", 0L);
        settings.put("__emit.interval.ms.kstreams.windowed.aggregation__", 0L);
        return settings;
    }
}
