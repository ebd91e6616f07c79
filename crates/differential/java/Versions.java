import com.fasterxml.jackson.databind.JsonNode;
import java.time.Duration;
import java.util.Map;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.kstream.Joined;
import org.apache.kafka.streams.kstream.KGroupedStream;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.KTable;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;
import org.apache.kafka.streams.state.VersionedBytesStoreSupplier;

/** Tables that keep their versions, and streams that are joined with them. */
final class Versions {
    private Versions() {
    }

    static void register(final Map<String, Build.Operator> operators) {
        operators.put("versioned_table", (build, step) ->
            build.made(build.builder.table(step.get("topic").asText(), texts(build, step))));
        operators.put("to_versioned_table", (build, step) ->
            build.made(build.stream(step, "of").toTable(texts(build, step))));
        operators.put("aggregate_versions", (build, step) -> build.made(aggregated(build, step)));
        operators.put("join_versions", (build, step) -> build.made(joined(build, step)));
    }

    private static VersionedBytesStoreSupplier store(final Build build, final JsonNode step) {
        return Stores.persistentVersionedKeyValueStore(
            build.name("s"), Duration.ofMillis(step.get("history").asLong()));
    }

    private static Materialized<String, String, KeyValueStore<Bytes, byte[]>> texts(
        final Build build, final JsonNode step
    ) {
        return Materialized.<String, String>as(store(build, step))
            .withKeySerde(Serdes.String()).withValueSerde(Serdes.String());
    }

    private static KTable<String, String> aggregated(final Build build, final JsonNode step) {
        final KGroupedStream<String, String> grouped = Aggregations.grouped(build, step);
        switch (step.get("how").asText()) {
            case "count":
                return grouped.count(Materialized.<String, Long>as(store(build, step))
                    .withKeySerde(Serdes.String()).withValueSerde(Serdes.Long())).mapValues(String::valueOf);
            case "reduce":
                return grouped.reduce(Functions::reduce, texts(build, step));
            default:
                return grouped.aggregate(
                    () -> "", (key, value, sum) -> Functions.add(value, sum), texts(build, step));
        }
    }

    private static KStream<String, String> joined(final Build build, final JsonNode step) {
        final KStream<String, String> stream = build.stream(step, "left");
        final KTable<String, String> table = build.table(step, "right");
        final Joined<String, String, String> named =
            Joined.with(Serdes.String(), Serdes.String(), Serdes.String(), build.name("j"));
        final Joined<String, String, String> options = step.hasNonNull("grace")
            ? named.withGracePeriod(Duration.ofMillis(step.get("grace").asLong()))
            : named;
        return step.get("kind").asText().equals("inner")
            ? stream.join(table, Functions::join, options)
            : stream.leftJoin(table, Functions::join, options);
    }
}
