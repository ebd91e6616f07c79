import com.fasterxml.jackson.databind.JsonNode;
import java.time.Duration;
import java.util.Map;
import org.apache.kafka.streams.kstream.EmitStrategy;
import org.apache.kafka.streams.kstream.KGroupedStream;
import org.apache.kafka.streams.kstream.KTable;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.SessionWindowedKStream;
import org.apache.kafka.streams.kstream.SessionWindows;
import org.apache.kafka.streams.kstream.SlidingWindows;
import org.apache.kafka.streams.kstream.Suppressed;
import org.apache.kafka.streams.kstream.Suppressed.BufferConfig;
import org.apache.kafka.streams.kstream.TimeWindowedKStream;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.kstream.Windowed;
import org.apache.kafka.streams.processor.StateStore;
import org.apache.kafka.streams.state.BuiltInDslStoreSuppliers;
import org.apache.kafka.streams.state.SessionStore;
import org.apache.kafka.streams.state.WindowStore;
import org.apache.kafka.common.utils.Bytes;

/** Windows of all kinds, told at every update, or once. */
final class WindowedAggregations {
    /** Longer than any case lasts: windows that the store has forgotten are begun anew, or never told. */
    static final Duration KEPT = Duration.ofHours(1);

    private WindowedAggregations() {
    }

    static void register(final Map<String, Build.Operator> operators) {
        operators.put("windowed", (build, step) -> build.made(windowed(build, step)));
    }

    static TimeWindows fixed(final JsonNode windows) {
        return TimeWindows
            .ofSizeAndGrace(Aggregations.millis(windows, "size"), Aggregations.millis(windows, "grace"))
            .advanceBy(Aggregations.millis(windows, "advance"));
    }

    static SlidingWindows sliding(final JsonNode windows) {
        return SlidingWindows.ofTimeDifferenceAndGrace(
            Aggregations.millis(windows, "difference"), Aggregations.millis(windows, "grace"));
    }

    static SessionWindows sessions(final JsonNode windows) {
        return SessionWindows.ofInactivityGapAndGrace(
            Aggregations.millis(windows, "gap"), Aggregations.millis(windows, "grace"));
    }

    static String merged(final String earlier, final String later) {
        return earlier.isEmpty() ? later : Functions.reduce(earlier, later);
    }

    private static boolean tells(final JsonNode step, final String when) {
        return step.get("tell").asText().equals(when);
    }

    private static <V> KTable<Windowed<String>, V> last(final JsonNode step, final KTable<Windowed<String>, V> table) {
        return tells(step, "last") ? table.suppress(Suppressed.untilWindowCloses(BufferConfig.unbounded())) : table;
    }

    /** Of windows that close together the stores on disk tell which one comes first. */
    private static <V, S extends StateStore> Materialized<String, V, S> kept(
        final JsonNode step, final Materialized<String, V, S> store
    ) {
        return tells(step, "closed")
            ? store.withRetention(KEPT).withStoreType(new BuiltInDslStoreSuppliers.RocksDBDslStoreSuppliers())
            : store.withRetention(KEPT);
    }

    private static KTable<Windowed<String>, String> windowed(final Build build, final JsonNode step) {
        final KGroupedStream<String, String> grouped = Aggregations.grouped(build, step);
        final JsonNode windows = step.get("windows");
        switch (windows.get("cut").asText()) {
            case "fixed":
                return timed(build, step, grouped.windowedBy(fixed(windows)));
            case "sliding":
                return timed(build, step, grouped.windowedBy(sliding(windows)));
            default:
                return sessions(build, step, grouped.windowedBy(sessions(windows)));
        }
    }

    private static KTable<Windowed<String>, String> timed(
        final Build build, final JsonNode step, final TimeWindowedKStream<String, String> grouped
    ) {
        final TimeWindowedKStream<String, String> windows =
            tells(step, "closed") ? grouped.emitStrategy(EmitStrategy.onWindowClose()) : grouped;
        switch (step.get("how").asText()) {
            case "count":
                return last(step, windows.count(kept(step, Aggregations.<WindowStore<Bytes, byte[]>>counts(build))))
                    .mapValues(String::valueOf);
            case "reduce":
                return last(step, windows.reduce(
                    Functions::reduce, kept(step, Aggregations.<WindowStore<Bytes, byte[]>>texts(build))));
            default:
                return last(step, windows.aggregate(
                    () -> "",
                    (key, value, sum) -> Functions.add(value, sum),
                    kept(step, Aggregations.<WindowStore<Bytes, byte[]>>texts(build))));
        }
    }

    private static KTable<Windowed<String>, String> sessions(
        final Build build, final JsonNode step, final SessionWindowedKStream<String, String> grouped
    ) {
        final SessionWindowedKStream<String, String> windows =
            tells(step, "closed") ? grouped.emitStrategy(EmitStrategy.onWindowClose()) : grouped;
        switch (step.get("how").asText()) {
            case "count":
                return last(step, windows.count(kept(step, Aggregations.<SessionStore<Bytes, byte[]>>counts(build))))
                    .mapValues(String::valueOf);
            case "reduce":
                return last(step, windows.reduce(
                    Functions::reduce, kept(step, Aggregations.<SessionStore<Bytes, byte[]>>texts(build))));
            default:
                return last(step, windows.aggregate(
                    () -> "",
                    (key, value, sum) -> Functions.add(value, sum),
                    (key, earlier, later) -> merged(earlier, later),
                    kept(step, Aggregations.<SessionStore<Bytes, byte[]>>texts(build))));
        }
    }
}
