import java.io.*;
import java.util.*;
import java.util.regex.Pattern;

import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.typeinfo.PrimitiveArrayTypeInfo;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.connector.base.DeliveryGuarantee;
import org.apache.flink.connector.kafka.lineage.*;
import org.apache.flink.connector.kafka.sink.*;
import org.apache.flink.connector.kafka.source.*;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.connector.kafka.source.reader.deserializer.KafkaRecordDeserializationSchema;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.util.Collector;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeaders;

/**
 * A job on Flink's local cluster that copies records from topic to topic: `FlinkJob KEY=VALUE…`.
 *
 * `bootstrap`, `in` or `pattern`, `out`, `checkpoints` (a directory), `guarantee`, `start` and `stop` are needed; `restore`
 * is a retained checkpoint, `source.…` and `sink.…` are the client's own settings, `flink.…` Flink's.
 */
public class FlinkJob {
    public static void main(String[] arguments) throws Exception {
        Map<String, String> settings = new TreeMap<>();
        for (String argument : arguments) {
            String[] pair = argument.split("=", 2);
            settings.put(pair[0], pair[1]);
        }
        Configuration flink = new Configuration();
        flink.setString("parallelism.default", "2");
        flink.setString("execution.checkpointing.interval", "500ms");
        flink.setString("execution.checkpointing.dir", "file://" + settings.get("checkpoints"));
        flink.setString("execution.checkpointing.externalized-checkpoint-retention", "RETAIN_ON_CANCELLATION");
        flink.setString("restart-strategy.type", "fixed-delay");
        flink.setString("restart-strategy.fixed-delay.attempts", "1000");
        flink.setString("restart-strategy.fixed-delay.delay", "500ms");
        if (settings.containsKey("restore")) flink.setString("execution.state-recovery.path", "file://" + settings.get("restore"));
        within(settings, "flink.").forEach((key, value) -> flink.setString((String) key, (String) value));
        var environment = StreamExecutionEnvironment.getExecutionEnvironment(flink);
        environment.fromSource(source(settings), WatermarkStrategy.noWatermarks(), "in").uid("in")
            // Either half of the sink writes what either half of the source reads.
            .rebalance()
            .sinkTo(sink(settings)).uid("out");
        environment.execute("copy");
        System.out.println("done");
        System.exit(0);
    }

    /** What is said below a prefix, without it. */
    static Properties within(Map<String, String> settings, String prefix) {
        Properties own = new Properties();
        settings.forEach((key, value) -> {
            if (key.startsWith(prefix)) own.setProperty(key.substring(prefix.length()), value);
        });
        return own;
    }

    static KafkaSource<byte[]> source(Map<String, String> settings) {
        KafkaSourceBuilder<byte[]> source = KafkaSource.<byte[]>builder()
            .setBootstrapServers(settings.get("bootstrap"))
            .setProperties(within(settings, "source."))
            .setStartingOffsets(offsets(settings.get("start")))
            .setDeserializer(new Packed());
        if (settings.containsKey("pattern")) {
            source.setTopicPattern(Pattern.compile(settings.get("pattern")));
        } else {
            source.setTopics(settings.get("in"));
        }
        // One that never stops is no setting of its own.
        if (!settings.get("stop").equals("never")) source.setBounded(offsets(settings.get("stop")));
        return source.build();
    }

    static OffsetsInitializer offsets(String named) {
        switch (named) {
            case "earliest": return OffsetsInitializer.earliest();
            case "latest": return OffsetsInitializer.latest();
            case "committed": return OffsetsInitializer.committedOffsets();
            default: return OffsetsInitializer.timestamp(Long.parseLong(named));
        }
    }

    static KafkaSink<byte[]> sink(Map<String, String> settings) {
        KafkaSinkBuilder<byte[]> sink = KafkaSink.<byte[]>builder()
            .setBootstrapServers(settings.get("bootstrap"))
            // Flink's own hour is longer than brokers allow.
            .setProperty("transaction.timeout.ms", "600000")
            .setKafkaProducerConfig(within(settings, "sink."))
            .setDeliveryGuarantee(DeliveryGuarantee.valueOf(settings.get("guarantee")))
            .setTransactionalIdPrefix("copy-to-" + settings.get("out"))
            .setRecordSerializer(new Unpacked(settings.get("out")));
        if (settings.containsKey("naming")) {
            sink.setTransactionNamingStrategy(TransactionNamingStrategy.valueOf(settings.get("naming")));
        }
        return sink.build();
    }

    static void put(DataOutputStream out, byte[] bytes) throws IOException {
        out.writeInt(bytes == null ? -1 : bytes.length);
        if (bytes != null) out.write(bytes);
    }

    static byte[] take(DataInputStream in) throws IOException {
        int length = in.readInt();
        return length < 0 ? null : in.readNBytes(length);
    }

    /** All of a record as one element of the job: partition, timestamp, key, value, headers. */
    static final class Packed implements KafkaRecordDeserializationSchema<byte[]> {
        @Override
        public void deserialize(ConsumerRecord<byte[], byte[]> record, Collector<byte[]> elements) throws IOException {
            ByteArrayOutputStream bytes = new ByteArrayOutputStream();
            DataOutputStream out = new DataOutputStream(bytes);
            out.writeInt(record.partition());
            out.writeLong(record.timestamp());
            put(out, record.key());
            put(out, record.value());
            Header[] headers = record.headers().toArray();
            out.writeInt(headers.length);
            for (Header header : headers) {
                out.writeUTF(header.key());
                put(out, header.value());
            }
            elements.collect(bytes.toByteArray());
        }

        @Override
        public TypeInformation<byte[]> getProducedType() {
            return PrimitiveArrayTypeInfo.BYTE_PRIMITIVE_ARRAY_TYPE_INFO;
        }
    }

    /** The record again, in the partition that it had. */
    static final class Unpacked implements KafkaRecordSerializationSchema<byte[]>, KafkaDatasetFacetProvider {
        private final String topic;

        Unpacked(String topic) {
            this.topic = topic;
        }

        /** A sink that reuses its transactional ids must know where its transactions may be open. */
        @Override
        public Optional<KafkaDatasetFacet> getKafkaDatasetFacet() {
            return Optional.of(new DefaultKafkaDatasetFacet(DefaultKafkaDatasetIdentifier.ofTopics(List.of(topic))));
        }

        @Override
        public ProducerRecord<byte[], byte[]> serialize(byte[] element, KafkaSinkContext context, Long timestamp) {
            try (DataInputStream in = new DataInputStream(new ByteArrayInputStream(element))) {
                int partition = in.readInt();
                long created = in.readLong();
                byte[] key = take(in);
                byte[] value = take(in);
                RecordHeaders headers = new RecordHeaders();
                for (int left = in.readInt(); left > 0; left--) headers.add(in.readUTF(), take(in));
                return new ProducerRecord<>(topic, partition, created, key, value, headers);
            } catch (IOException impossible) {
                throw new UncheckedIOException(impossible);
            }
        }
    }
}
