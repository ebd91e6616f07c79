import com.fasterxml.jackson.databind.JsonNode;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.kstream.GlobalKTable;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.KTable;
import org.apache.kafka.streams.kstream.Windowed;

/** Turns a case's steps into a topology. Each step adds what it made to the handles, to which later steps point. */
final class Build {
    /** Adds one step. */
    interface Operator {
        void add(Build build, JsonNode step);
    }

    private static final Map<String, Operator> OPERATORS = new HashMap<>();

    static {
        Stateless.register(OPERATORS);
        Aggregations.register(OPERATORS);
        WindowedAggregations.register(OPERATORS);
        WindowedTables.register(OPERATORS);
        Cogroups.register(OPERATORS);
        Tables.register(OPERATORS);
        Versions.register(OPERATORS);
        Joins.register(OPERATORS);
        Processors.register(OPERATORS);
    }

    final StreamsBuilder builder = new StreamsBuilder();
    final List<String> sinks = new ArrayList<>();
    /** Aggregates begin with null, so that the first change of a row has no old value. */
    final boolean bare;
    private final List<Object> handles = new ArrayList<>();

    Build(final boolean bare) {
        this.bare = bare;
    }

    void add(final JsonNode step) {
        final String name = step.get("op").asText();
        final Operator operator = OPERATORS.get(name);
        if (operator == null) {
            throw new IllegalArgumentException("no operator " + name);
        }
        operator.add(this, step);
    }

    void made(final Object handle) {
        handles.add(handle);
    }

    /** A name that no other step has. */
    String name(final String prefix) {
        return prefix + handles.size();
    }

    private Object handle(final JsonNode step, final String field) {
        return handles.get(step.get(field).asInt());
    }

    @SuppressWarnings("unchecked")
    KStream<String, String> stream(final JsonNode step, final String field) {
        return (KStream<String, String>) handle(step, field);
    }

    @SuppressWarnings("unchecked")
    KTable<String, String> table(final JsonNode step, final String field) {
        return (KTable<String, String>) handle(step, field);
    }

    @SuppressWarnings("unchecked")
    KTable<Windowed<String>, String> windowed(final JsonNode step, final String field) {
        return (KTable<Windowed<String>, String>) handle(step, field);
    }

    @SuppressWarnings("unchecked")
    GlobalKTable<String, String> global(final JsonNode step, final String field) {
        return (GlobalKTable<String, String>) handle(step, field);
    }
}
