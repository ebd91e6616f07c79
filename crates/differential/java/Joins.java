import com.fasterxml.jackson.databind.JsonNode;
import java.time.Duration;
import java.util.Map;
import java.util.function.BiFunction;
import java.util.function.Function;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.kstream.GlobalKTable;
import org.apache.kafka.streams.kstream.JoinWindows;
import org.apache.kafka.streams.kstream.Joined;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.KTable;
import org.apache.kafka.streams.kstream.KeyValueMapper;
import org.apache.kafka.streams.kstream.StreamJoined;
import org.apache.kafka.streams.kstream.TableJoined;

/** Joins of all kinds. */
final class Joins {
    private Joins() {
    }

    static void register(final Map<String, Build.Operator> operators) {
        operators.put("join_table", (build, step) -> build.made(table(build, step)));
        operators.put("join_global", (build, step) -> build.made(global(build, step)));
        operators.put("join_streams", (build, step) -> build.made(streams(build, step)));
        operators.put("join_tables", (build, step) -> build.made(tables(build, step)));
        operators.put("join_foreign", (build, step) -> build.made(foreign(build, step)));
    }

    private static String kind(final JsonNode step) {
        return step.get("kind").asText();
    }

    private static KStream<String, String> table(final Build build, final JsonNode step) {
        final KStream<String, String> stream = build.stream(step, "left");
        final KTable<String, String> table = build.table(step, "right");
        final Joined<String, String, String> options = Joined.as(build.name("j"));
        return kind(step).equals("inner")
            ? stream.join(table, Functions::join, options)
            : stream.leftJoin(table, Functions::join, options);
    }

    private static KStream<String, String> global(final Build build, final JsonNode step) {
        final KStream<String, String> stream = build.stream(step, "left");
        final GlobalKTable<String, String> table = build.global(step, "right");
        final boolean byKey = step.get("by_key").asBoolean();
        final KeyValueMapper<String, String, String> refers = (key, value) ->
            byKey ? Functions.foreignOf(key, value) : Functions.foreign(value);
        return kind(step).equals("inner")
            ? stream.join(table, refers, Functions::join)
            : stream.leftJoin(table, refers, Functions::join);
    }

    private static KStream<String, String> streams(final Build build, final JsonNode step) {
        final KStream<String, String> left = build.stream(step, "left");
        final KStream<String, String> right = build.stream(step, "right");
        final JoinWindows windows = JoinWindows
            .ofTimeDifferenceAndGrace(Duration.ZERO, Duration.ofMillis(step.get("grace").asLong()))
            .before(Duration.ofMillis(step.get("before").asLong()))
            .after(Duration.ofMillis(step.get("after").asLong()));
        final StreamJoined<String, String, String> options =
            StreamJoined.with(Serdes.String(), Serdes.String(), Serdes.String())
                .withName(build.name("j")).withStoreName(build.name("s"));
        switch (kind(step)) {
            case "inner":
                return left.join(right, Functions::join, windows, options);
            case "left":
                return left.leftJoin(right, Functions::join, windows, options);
            default:
                return left.outerJoin(right, Functions::join, windows, options);
        }
    }

    private static KTable<String, String> tables(final Build build, final JsonNode step) {
        final KTable<String, String> left = build.table(step, "left");
        final KTable<String, String> right = build.table(step, "right");
        final boolean kept = Tables.kept(step);
        switch (kind(step)) {
            case "inner":
                return kept ? left.join(right, Functions::join, Tables.store(build))
                    : left.join(right, Functions::join);
            case "left":
                return kept ? left.leftJoin(right, Functions::join, Tables.store(build))
                    : left.leftJoin(right, Functions::join);
            default:
                return kept ? left.outerJoin(right, Functions::join, Tables.store(build))
                    : left.outerJoin(right, Functions::join);
        }
    }

    private static KTable<String, String> foreign(final Build build, final JsonNode step) {
        final KTable<String, String> left = build.table(step, "left");
        final KTable<String, String> right = build.table(step, "right");
        if (step.get("by_key").asBoolean()) {
            return foreignOf(build, step, left, right);
        }
        final Function<String, String> key = Functions::foreign;
        final TableJoined<String, String> options = TableJoined.as(build.name("f"));
        final boolean kept = Tables.kept(step);
        if (kind(step).equals("inner")) {
            return kept ? left.join(right, key, Functions::join, options, Tables.store(build))
                : left.join(right, key, Functions::join, options);
        }
        return kept ? left.leftJoin(right, key, Functions::join, options, Tables.store(build))
            : left.leftJoin(right, key, Functions::join, options);
    }

    /** The foreign key is told by key and value. */
    private static KTable<String, String> foreignOf(
        final Build build, final JsonNode step, final KTable<String, String> left, final KTable<String, String> right
    ) {
        final BiFunction<String, String, String> key = Functions::foreignOf;
        final TableJoined<String, String> options = TableJoined.as(build.name("f"));
        final boolean kept = Tables.kept(step);
        if (kind(step).equals("inner")) {
            return kept ? left.join(right, key, Functions::join, options, Tables.store(build))
                : left.join(right, key, Functions::join, options);
        }
        return kept ? left.leftJoin(right, key, Functions::join, options, Tables.store(build))
            : left.leftJoin(right, key, Functions::join, options);
    }
}
