import com.fasterxml.jackson.databind.JsonNode;
import java.util.Map;
import org.apache.kafka.streams.kstream.CogroupedKStream;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.KTable;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Windowed;
import org.apache.kafka.streams.processor.StateStore;

/** Two streams in one aggregate. */
final class Cogroups {
    private Cogroups() {
    }

    static void register(final Map<String, Build.Operator> operators) {
        operators.put("cogroup", (build, step) -> build.made(
            cogrouped(build, step).aggregate(() -> "", Tables.store(build))));
        operators.put("cogroup_windows", (build, step) -> build.made(windowed(build, step)));
    }

    private static CogroupedKStream<String, String> cogrouped(final Build build, final JsonNode step) {
        return build.stream(step, "left").groupByKey(Grouped.as(build.name("l")))
            .<String>cogroup((key, value, sum) -> Functions.add(value, sum))
            .cogroup(
                build.stream(step, "right").groupByKey(Grouped.as(build.name("r"))),
                (key, value, sum) -> Functions.reduce(sum, value));
    }

    private static KTable<Windowed<String>, String> windowed(final Build build, final JsonNode step) {
        final CogroupedKStream<String, String> cogrouped = cogrouped(build, step);
        final JsonNode windows = step.get("windows");
        switch (windows.get("cut").asText()) {
            case "fixed":
                return cogrouped.windowedBy(WindowedAggregations.fixed(windows))
                    .aggregate(() -> "", kept(build));
            case "sliding":
                return cogrouped.windowedBy(WindowedAggregations.sliding(windows))
                    .aggregate(() -> "", kept(build));
            default:
                return cogrouped.windowedBy(WindowedAggregations.sessions(windows)).aggregate(
                    () -> "",
                    (key, earlier, later) -> WindowedAggregations.merged(earlier, later),
                    Aggregations.texts(build));
        }
    }

    private static <S extends StateStore> Materialized<String, String, S> kept(final Build build) {
        return Aggregations.<S>texts(build).withRetention(WindowedAggregations.KEPT);
    }
}
