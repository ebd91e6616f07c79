import com.fasterxml.jackson.databind.JsonNode;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.kstream.Branched;
import org.apache.kafka.streams.kstream.BranchedKStream;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.Named;
import org.apache.kafka.streams.kstream.Repartitioned;

/** Sources, sinks and operators that keep nothing. */
final class Stateless {
    private Stateless() {
    }

    static void register(final Map<String, Build.Operator> operators) {
        operators.put("stream", Stateless::stream);
        operators.put("stream_of_topics", Stateless::streamOfTopics);
        operators.put("sink", Stateless::sink);
        operators.put("filter", (build, step) -> build.made(build.stream(step, "of").filter((key, value) ->
            Functions.keeps(step.get("modulus").asInt(), step.get("rest").asInt(), key, value))));
        operators.put("filter_not", (build, step) -> build.made(build.stream(step, "of").filterNot((key, value) ->
            Functions.keeps(step.get("modulus").asInt(), step.get("rest").asInt(), key, value))));
        operators.put("marked", (build, step) -> build.made(build.stream(step, "of").filter((key, value) ->
            Functions.marked(step.get("mark").asText(), value))));
        operators.put("map", Stateless::map);
        operators.put("map_values", (build, step) -> {
            final String function = step.get("function").asText();
            build.made(build.stream(step, "of").mapValues((key, value) -> Functions.value(function, key, value)));
        });
        operators.put("flat_map", (build, step) -> build.made(build.stream(step, "of").flatMap((key, value) ->
            Functions.pairs(step.get("least").asInt(), key, value))));
        operators.put("flat_map_values", (build, step) -> build.made(build.stream(step, "of").flatMapValues(value ->
            Functions.values(step.get("least").asInt(), null, value))));
        operators.put("select_key", (build, step) -> {
            final String function = step.get("key").asText();
            build.made(build.stream(step, "of").selectKey((key, value) -> Functions.key(function, key, value)));
        });
        operators.put("peek", (build, step) -> build.made(build.stream(step, "of").peek((key, value) -> { })));
        operators.put("merge", (build, step) ->
            build.made(build.stream(step, "left").merge(build.stream(step, "right"))));
        operators.put("repartition", Stateless::repartition);
        operators.put("split", Stateless::split);
    }

    private static void stream(final Build build, final JsonNode step) {
        final String topic = step.get("topic").asText();
        final KStream<String, String> made = step.get("extracts").asBoolean()
            ? build.builder.stream(topic, Consumed.<String, String>with((record, before) ->
                Functions.time((String) record.value(), record.timestamp())))
            : build.builder.stream(topic);
        build.made(made);
    }

    private static void streamOfTopics(final Build build, final JsonNode step) {
        final List<String> topics = new ArrayList<>();
        step.get("topics").forEach(topic -> topics.add(topic.asText()));
        final KStream<String, String> made = build.builder.stream(topics);
        build.made(made);
    }

    private static void sink(final Build build, final JsonNode step) {
        final String topic = step.get("topic").asText();
        build.stream(step, "of").to(topic);
        build.sinks.add(topic);
        build.made(null);
    }

    private static void map(final Build build, final JsonNode step) {
        final String keys = step.get("key").asText();
        final String values = step.get("function").asText();
        build.made(build.stream(step, "of").map((key, value) ->
            KeyValue.pair(Functions.key(keys, key, value), Functions.value(values, key, value))));
    }

    private static void repartition(final Build build, final JsonNode step) {
        final Repartitioned<String, String> named = Repartitioned.as(build.name("r"));
        build.made(build.stream(step, "of").repartition(step.get("partitions").isNull()
            ? named
            : named.withNumberOfPartitions(step.get("partitions").asInt())));
    }

    /** One stream per modulus, and one for the rest if it is wanted. */
    private static void split(final Build build, final JsonNode step) {
        final String prefix = build.name("b");
        BranchedKStream<String, String> branched = build.stream(step, "of").split(Named.as(prefix + "-"));
        final int count = step.get("moduli").size();
        for (int place = 0; place < count; place++) {
            final int modulus = step.get("moduli").get(place).asInt();
            branched = branched.branch((key, value) -> !Functions.keeps(modulus, 0, key, value), Branched.as("" + place));
        }
        final boolean rest = step.get("rest").asBoolean();
        final Map<String, KStream<String, String>> made =
            rest ? branched.defaultBranch(Branched.as("rest")) : branched.noDefaultBranch();
        for (int place = 0; place < count; place++) {
            build.made(made.get(prefix + "-" + place));
        }
        if (rest) {
            build.made(made.get(prefix + "-rest"));
        }
    }
}
