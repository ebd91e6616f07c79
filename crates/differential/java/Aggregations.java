import com.fasterxml.jackson.databind.JsonNode;
import java.time.Duration;
import java.util.Map;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.KGroupedStream;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.KTable;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.SessionWindowedKStream;
import org.apache.kafka.streams.kstream.SessionWindows;
import org.apache.kafka.streams.kstream.Suppressed;
import org.apache.kafka.streams.kstream.Suppressed.BufferConfig;
import org.apache.kafka.streams.kstream.TimeWindowedKStream;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.kstream.Windowed;
import org.apache.kafka.streams.processor.StateStore;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.SessionStore;
import org.apache.kafka.streams.state.WindowStore;

/** Grouped streams: without windows, in windows of fixed size, in sessions. */
final class Aggregations {
    private Aggregations() {
    }

    static void register(final Map<String, Build.Operator> operators) {
        operators.put("aggregate", (build, step) -> build.made(aggregate(build, step)));
        operators.put("aggregate_windows", (build, step) -> build.made(windows(build, step)));
        operators.put("aggregate_sessions", (build, step) -> build.made(sessions(build, step)));
        operators.put("from_windows", (build, step) -> build.made(build.windowed(step, "of").toStream()
            .selectKey((window, value) -> named(window))));
    }

    private static String named(final Windowed<String> window) {
        return window.key() + "@" + window.window().start() + "/" + window.window().end();
    }

    static Duration millis(final JsonNode step, final String field) {
        return Duration.ofMillis(step.get(field).asLong());
    }

    static KGroupedStream<String, String> grouped(final Build build, final JsonNode step) {
        final KStream<String, String> stream = build.stream(step, "of");
        final Grouped<String, String> options = Grouped.as(build.name("g"));
        if (step.get("key").isNull()) {
            return stream.groupByKey(options);
        }
        final String function = step.get("key").asText();
        return stream.groupBy((key, value) -> Functions.key(function, key, value), options);
    }

    static <S extends StateStore> Materialized<String, String, S> texts(final Build build) {
        return Materialized.<String, String, S>as(build.name("s")).withKeySerde(Serdes.String()).withValueSerde(Serdes.String());
    }

    static <S extends StateStore> Materialized<String, Long, S> counts(final Build build) {
        return Materialized.<String, Long, S>as(build.name("s")).withKeySerde(Serdes.String()).withValueSerde(Serdes.Long());
    }

    private static KTable<String, String> aggregate(final Build build, final JsonNode step) {
        final KGroupedStream<String, String> grouped = grouped(build, step);
        switch (step.get("how").asText()) {
            case "count":
                return (build.bare
                    ? grouped.aggregate(() -> null, (key, value, count) -> count == null ? 1L : count + 1,
                        Aggregations.<KeyValueStore<Bytes, byte[]>>counts(build))
                    : grouped.count(Aggregations.<KeyValueStore<Bytes, byte[]>>counts(build)))
                    .mapValues(String::valueOf);
            case "reduce":
                return grouped.reduce(Functions::reduce, texts(build));
            default:
                return grouped.aggregate(() -> build.bare ? null : "",
                    (key, value, sum) -> Functions.add(value, sum == null ? "" : sum), texts(build));
        }
    }

    /** Only the last result of each window, if that is wanted. */
    static <V> KTable<Windowed<String>, V> last(final JsonNode step, final KTable<Windowed<String>, V> table) {
        return step.get("last").asBoolean()
            ? table.suppress(Suppressed.untilWindowCloses(BufferConfig.unbounded()))
            : table;
    }

    private static KTable<Windowed<String>, String> windows(final Build build, final JsonNode step) {
        final TimeWindows sized = TimeWindows.ofSizeAndGrace(millis(step, "size"), millis(step, "grace"));
        final TimeWindowedKStream<String, String> windows =
            grouped(build, step).windowedBy(sized.advanceBy(millis(step, "advance")));
        switch (step.get("how").asText()) {
            case "count":
                return last(step, windows.count(Aggregations.<WindowStore<Bytes, byte[]>>counts(build)))
                    .mapValues(String::valueOf);
            case "reduce":
                return last(step, windows.reduce(Functions::reduce, texts(build)));
            default:
                return last(step,
                    windows.aggregate(() -> "", (key, value, sum) -> Functions.add(value, sum), texts(build)));
        }
    }

    private static KTable<Windowed<String>, String> sessions(final Build build, final JsonNode step) {
        final SessionWindows windows =
            SessionWindows.ofInactivityGapAndGrace(millis(step, "gap"), millis(step, "grace"));
        final SessionWindowedKStream<String, String> sessions = grouped(build, step).windowedBy(windows);
        switch (step.get("how").asText()) {
            case "count":
                return last(step, sessions.count(Aggregations.<SessionStore<Bytes, byte[]>>counts(build)))
                    .mapValues(String::valueOf);
            case "reduce":
                return last(step, sessions.reduce(Functions::reduce, texts(build)));
            default:
                return last(step, sessions.aggregate(
                    () -> "",
                    (key, value, sum) -> Functions.add(value, sum),
                    (key, earlier, later) -> earlier.isEmpty() ? later : Functions.reduce(earlier, later),
                    texts(build)));
        }
    }
}
