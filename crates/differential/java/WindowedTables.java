import com.fasterxml.jackson.databind.JsonNode;
import java.util.Map;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.KGroupedTable;
import org.apache.kafka.streams.kstream.KTable;
import org.apache.kafka.streams.kstream.Windowed;

/** What is made of tables of windows. */
final class WindowedTables {
    private WindowedTables() {
    }

    static void register(final Map<String, Build.Operator> operators) {
        operators.put("windowed_filter", WindowedTables::filter);
        operators.put("windowed_map_values", WindowedTables::mapValues);
        operators.put("windowed_group", WindowedTables::group);
        operators.put("join_windowed", (build, step) -> build.made(joined(build, step)));
    }

    private static void filter(final Build build, final JsonNode step) {
        final int modulus = step.get("modulus").asInt();
        final int rest = step.get("rest").asInt();
        build.made(build.windowed(step, "of").filter(
            (window, value) -> Functions.keeps(modulus, rest, window.key(), value)));
    }

    /** A deleted row stays one. */
    private static void mapValues(final Build build, final JsonNode step) {
        final String function = step.get("function").asText();
        final KTable<Windowed<String>, String> mapped = build.windowed(step, "of").mapValues(
            (window, value) -> value == null ? null : Functions.value(function, window.key(), value));
        build.made(mapped);
    }

    private static void group(final Build build, final JsonNode step) {
        final KGroupedTable<String, String> grouped = build.windowed(step, "of").groupBy(
            (window, value) -> KeyValue.pair(window.key(), value), Grouped.as(build.name("g")));
        build.made(Tables.aggregated(build, step, grouped));
    }

    private static KTable<Windowed<String>, String> joined(final Build build, final JsonNode step) {
        final KTable<Windowed<String>, String> left = build.windowed(step, "left");
        final KTable<Windowed<String>, String> right = build.windowed(step, "right");
        switch (step.get("kind").asText()) {
            case "inner":
                return left.join(right, Functions::join);
            case "left":
                return left.leftJoin(right, Functions::join);
            default:
                return left.outerJoin(right, Functions::join);
        }
    }
}
