import com.fasterxml.jackson.databind.JsonNode;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.KGroupedTable;
import org.apache.kafka.streams.kstream.KTable;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.processor.TimestampExtractor;
import org.apache.kafka.streams.state.KeyValueStore;

/** Tables, what is derived from them, and grouped ones. */
final class Tables {
    private Tables() {
    }

    static void register(final Map<String, Build.Operator> operators) {
        operators.put("table", (build, step) -> {
            final String topic = step.get("topic").asText();
            final TimestampExtractor extractor = step.get("extracts").asBoolean() ? Tables::time : null;
            final Consumed<String, String> consumed = Consumed.with(extractor);
            build.made(kept(step)
                ? build.builder.table(topic, consumed, store(build))
                : build.builder.table(topic, consumed));
        });
        operators.put("global", (build, step) -> build.made(build.builder.globalTable(step.get("topic").asText())));
        operators.put("to_table", (build, step) -> build.made(
            kept(step) ? build.stream(step, "of").toTable(store(build)) : build.stream(step, "of").toTable()));
        operators.put("to_stream", (build, step) -> build.made(build.table(step, "of").toStream()));
        operators.put("table_filter", Tables::filter);
        operators.put("table_map_values", Tables::mapValues);
        operators.put("table_group", (build, step) -> build.made(group(build, step)));
    }

    static boolean kept(final JsonNode step) {
        return step.get("kept").asBoolean();
    }

    static Materialized<String, String, KeyValueStore<Bytes, byte[]>> store(final Build build) {
        return Materialized.<String, String, KeyValueStore<Bytes, byte[]>>as(build.name("s"))
            .withKeySerde(Serdes.String()).withValueSerde(Serdes.String());
    }

    /** A row's own time; a tombstone has that of its record, as with ours. */
    private static long time(final ConsumerRecord<Object, Object> record, final long before) {
        return record.value() == null ? record.timestamp() : Functions.time((String) record.value(), record.timestamp());
    }

    private static void filter(final Build build, final JsonNode step) {
        final int modulus = step.get("modulus").asInt();
        final int rest = step.get("rest").asInt();
        final KTable<String, String> table = build.table(step, "of");
        build.made(kept(step)
            ? table.filter((key, value) -> Functions.keeps(modulus, rest, key, value), store(build))
            : table.filter((key, value) -> Functions.keeps(modulus, rest, key, value)));
    }

    private static void mapValues(final Build build, final JsonNode step) {
        final String function = step.get("function").asText();
        final KTable<String, String> table = build.table(step, "of");
        build.made(kept(step)
            ? table.mapValues((key, value) -> mapped(function, key, value), store(build))
            : table.mapValues((key, value) -> mapped(function, key, value)));
    }

    /** A deleted row stays one. */
    private static String mapped(final String function, final String key, final String value) {
        return value == null ? null : Functions.value(function, key, value);
    }

    private static KTable<String, String> group(final Build build, final JsonNode step) {
        final String function = step.get("key").asText();
        final KGroupedTable<String, String> grouped = build.table(step, "of").groupBy(
            (key, value) -> KeyValue.pair(Functions.key(function, key, value), value), Grouped.as(build.name("g")));
        return aggregated(build, step, grouped);
    }

    static KTable<String, String> aggregated(
        final Build build, final JsonNode step, final KGroupedTable<String, String> grouped
    ) {
        switch (step.get("how").asText()) {
            case "count":
                return grouped.count(Materialized.<String, Long, KeyValueStore<Bytes, byte[]>>as(build.name("s"))
                    .withValueSerde(Serdes.Long())).mapValues(String::valueOf);
            case "reduce":
                return grouped.reduce(
                    Functions::reduce, (sum, value) -> Functions.subtract(value, sum), store(build));
            default:
                return grouped.aggregate(
                    () -> "",
                    (key, value, sum) -> Functions.add(value, sum),
                    (key, value, sum) -> Functions.subtract(value, sum),
                    store(build));
        }
    }
}
